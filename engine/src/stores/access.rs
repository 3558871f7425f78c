//! Which URLs of object storage a session may reach.
//!
//! Owns: the rule, for every statement that names an object: COPY either way, `FROM 's3://…'`, the `read_…` functions. The session of
//! whoever opened the database may reach all, with the credentials of its environment too; others those below listed prefixes. Does
//! not own: which credentials are used then ([`SessionStores`](super::SessionStores)), which addresses a host may lead to
//! (`cairn_storage::object`).

use cairn_storage::ErrorKind;
use cairn_storage::object::StoreUrl;

use super::place::ObjectPlace;
use super::secret::StoreSecret;
use crate::error::{Error, Result};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum UrlAccess {
    /// Every URL, and every endpoint.
    All,
    /// What lies below one of some prefixes.
    Below {
        /// As `s3://bucket/prefix`; none: no URL.
        prefixes: Vec<String>,
        /// Those that a secret may name, with or without `https://`.
        endpoints: Vec<String>,
    },
}

impl UrlAccess {
    /// That what `place` names may be read and written.
    ///
    /// # Errors
    /// 42501 for what lies elsewhere, whether it is there or not.
    pub(crate) fn check(&self, place: &ObjectPlace) -> Result<()> {
        let Self::Below { prefixes, .. } = self else { return Ok(()) };
        if prefixes.is_empty() {
            return Err(denied("this session may not reach object storage"));
        }
        for prefix in prefixes {
            if place.is_below(&StoreUrl::parse(prefix)?) {
                return Ok(());
            }
        }
        Err(denied(&format!("'{place}' does not lie below a prefix that sessions may use (copy.urls)")))
    }

    /// That the endpoints of `secret` may be talked to.
    ///
    /// # Errors
    /// 42501 for one that is not listed.
    pub(crate) fn check_endpoint(&self, secret: &StoreSecret) -> Result<()> {
        let Self::Below { endpoints, .. } = self else { return Ok(()) };
        let is_listed =
            |endpoint: &String| endpoints.iter().any(|listed| host_of(listed) == host_of(endpoint));
        match secret.endpoints().iter().find(|endpoint| !is_listed(endpoint)) {
            None => Ok(()),
            Some(_) => Err(denied("the endpoint is not one that sessions may name (copy.endpoints)")),
        }
    }

    /// Whether the addresses that the hosts of a secret lead to are looked at, too: whoever answers for a listed name may let it lead
    /// to this machine.
    pub(super) fn guards_addresses(&self) -> bool {
        matches!(self, Self::Below { .. })
    }
}

/// An endpoint without its protocol.
fn host_of(endpoint: &str) -> String {
    let lower = endpoint.trim().to_ascii_lowercase();
    let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).unwrap_or(&lower);
    host.trim_end_matches('/').to_owned()
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("permission denied: {message}"))
        .map(|e| e.with_hint("load files with the shell on the server, or send the rows with the statement"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sessions_of_a_server_reach_what_is_listed() {
        let below = |prefixes: &[&str]| UrlAccess::Below {
            prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            endpoints: Vec::new(),
        };
        let check = |access: &UrlAccess, text: &str| {
            access.check(&ObjectPlace::parse(text).unwrap()).map_err(|error| error.sqlstate())
        };
        let listed = below(&["s3://data/exchange", "gs://open"]);
        for text in ["s3://data/exchange/a.csv", "s3://data/exchange/*/a.csv", "gs://open/x", "gs://open"] {
            check(&listed, text).unwrap();
            check(&UrlAccess::All, text).unwrap();
            assert_eq!(check(&below(&[]), text), Err("42501"), "{text}");
        }
        for text in ["s3://data/a.csv", "s3://data/exchanged/a.csv", "s3://data/ex*/a.csv", "az://open/x"] {
            assert_eq!(check(&listed, text), Err("42501"), "{text}");
            check(&UrlAccess::All, text).unwrap();
        }
        assert_eq!(check(&below(&["nonsense"]), "s3://data/a.csv"), Err("22000"), "told, not left out");
    }

    #[test]
    fn endpoints_are_compared_by_host() {
        for (a, b, same) in [
            ("https://Store.example:9000/", "store.example:9000", true),
            ("http://store.example", "https://store.example", true),
            ("store.example", "store.example.net", false),
            ("store.example:9000", "store.example", false),
            ("https://store.example/x", "https://store.example", false),
        ] {
            assert_eq!(host_of(a) == host_of(b), same, "{a} {b}");
        }
    }
}
