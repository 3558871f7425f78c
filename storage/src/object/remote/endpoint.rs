//! The address of a store: `https://host:port/path`.
//!
//! Checked here, since the clients take any text and fail at their first request, some by a panic.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::settings::wrong;
use crate::error::Result;

/// See the module. There are no credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    https: bool,
    /// Host, and port if any.
    authority: String,
    /// Without `/` at its ends; mostly empty.
    path: String,
}

impl Endpoint {
    /// Reads the address that was given as `name`. One without `http://` or `https://` is taken when `https` tells which it
    /// is. No error repeats the text.
    pub(super) fn parse(name: &str, text: &str, https: Option<bool>) -> Result<Self> {
        let no_address = || {
            wrong(format!("{name} is not the address of a store"))
                .with_hint("write http://host:port or https://host; credentials do not belong into it")
        };
        let (https, rest) = match (text.trim().split_once("://"), https) {
            (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            (None, Some(https)) => (https, text.trim()),
            _ => return Err(no_address()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '/');
        if !is_authority(authority) || !path.chars().all(path_character) {
            return Err(no_address());
        }
        Ok(Self { https, authority: authority.to_owned(), path: path.to_owned() })
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// The address of a bucket whose name is part of the host's; one that has it already stays.
    pub(super) fn of_bucket(&self, bucket: &str) -> Self {
        let named = self.authority.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('.'));
        if named {
            return self.clone();
        }
        Self { authority: format!("{bucket}.{}", self.authority), ..self.clone() }
    }
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`
fn is_authority(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, rest)| {
            address.parse::<Ipv6Addr>().is_ok()
                && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        });
    }
    match text.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(text),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// A name, or four numbers. Names in other scripts (`xn--`) could be ones that no client can read.
fn is_host(text: &str) -> bool {
    let in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label =
        |label: &str| !label.is_empty() && label.chars().all(in_label) && !label.starts_with("xn--");
    let last = text.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    text.split('.').all(is_label) && (!ends_in_number || text.parse::<Ipv4Addr>().is_ok())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}
