//! Where a server is: `grpc://host:port`, or `grpc+tls://host:port` when it encrypts.

use std::fmt;

/// The port `cairn serve` listens on unless told otherwise.
const DEFAULT_PORT: u16 = 8815;
const PLAIN: &str = "grpc://";
const SECURE: &str = "grpc+tls://";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether the connection is encrypted.
    pub(crate) is_secure: bool,
    /// Host and port, as URLs write them.
    pub(crate) authority: String,
}

impl Address {
    /// The address that `text` is; None: it is no server's.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without what may be a password.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let (is_secure, rest) = match (text.strip_prefix(PLAIN), text.strip_prefix(SECURE)) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return not_spoken(text).map_or(Ok(None), Err),
        };
        if rest.contains('@') {
            return Err(
                "an address holds no user and no password, which others could read there: give --user NAME, \
                        and the password in CAIRN_PASSWORD, by --password-file FILE, or when asked"
                    .to_owned(),
            );
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let wrong = || format!("{text} is no address of a server, as in {PLAIN}127.0.0.1:{DEFAULT_PORT}");
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().map_err(|_| wrong())?),
            _ => (authority, DEFAULT_PORT),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(number) => number.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')),
            None => host.chars().all(is_name),
        };
        if host.is_empty() || !is_host {
            return Err(wrong());
        }
        Ok(Some(Self { is_secure, authority: format!("{host}:{port}") }))
    }
}

/// Why an address of another protocol can't be used.
fn not_spoken(text: &str) -> Option<String> {
    let scheme =
        ["http://", "https://", "grpc+tcp://"].into_iter().find(|scheme| text.starts_with(scheme))?;
    Some(format!(
        "the shell does not speak {scheme}; a server's address is {PLAIN}host:port, or {SECURE}host:port"
    ))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_secure { SECURE } else { PLAIN }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, written) in [
            ("grpc://127.0.0.1:9", "grpc://127.0.0.1:9"),
            ("grpc+tls://db.example.org", "grpc+tls://db.example.org:8815"),
            ("grpc://localhost/", "grpc://localhost:8815"),
            ("grpc://[::1]", "grpc://[::1]:8815"),
            ("grpc://[::1]:7", "grpc://[::1]:7"),
        ] {
            let address = Address::parse(text).map(|address| address.map(|a| a.to_string()));
            assert_eq!(address, Ok(Some(written.to_owned())));
        }
        for root in ["./notes", ":memory:", "grpc", "notes/grpc:"] {
            assert_eq!(Address::parse(root), Ok(None));
        }
    }

    #[test]
    fn mistakes_are_explained_without_passwords() {
        for text in [
            "grpc://",
            "grpc://:1",
            "grpc://a:b",
            "grpc://a:70000",
            "grpc://a/b",
            "grpc://a b:1",
            "grpc://::1:5",
        ] {
            let error = Address::parse(text).err().unwrap_or_default();
            assert!(error.contains("as in grpc://127.0.0.1:8815"), "{text}: {error}");
        }
        let error = Address::parse("http://a:8816").err().unwrap_or_default();
        assert!(error.contains("grpc://host:port"), "{error}");
        let error = Address::parse("grpc://anna:secret@a:1").err().unwrap_or_default();
        assert!(error.contains("--user") && !error.contains("secret"), "{error}");
    }
}
