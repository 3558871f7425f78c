//! Connections of a client that somebody else than the owner of the process has configured.
//!
//! Owns: which addresses a name is followed to. Whoever answers for a name may let it lead anywhere, and elsewhere at each
//! question, so the addresses themselves are looked at, when a connection is made: none of this machine, unless the name says so
//! (`localhost`), none of services that tell machines their credentials. Redirects are not followed. Does not own: which names there
//! may be (the engine's `copy.endpoints`): an address in the place of a name is one of those, and is connected to as it stands. Where
//! the process's environment names a proxy, the proxy finds the addresses, and this only looks at the proxy's own.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions, Error as StoreError, Result as StoreResult};
use rand::seq::SliceRandom;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::error::{Error, ErrorKind};

/// Addresses of services for machines that are not of a link alone: Azure, Alibaba, Oracle; AWS and Google by IPv6.
const SERVICES: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Makes such connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guarded {
    /// Longest time until there is a connection.
    pub(super) connecting: Duration,
    /// Longest time of a request.
    pub(super) request: Duration,
}

impl HttpConnector for Guarded {
    fn connect(&self, options: &ClientOptions) -> StoreResult<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let built = reqwest::ClientBuilder::new()
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connecting)
            .timeout(self.request)
            .http1_only()
            // Objects are as long as the head of a reply says.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .https_only(!allows_http)
            .redirect(Policy::none())
            .dns_resolver(Arc::new(Names))
            .build();
        let client =
            built.map_err(|error| StoreError::Generic { store: "HTTP client", source: Box::new(error) })?;
        Ok(HttpClient::new(client))
    }
}

/// Finds the addresses of names.
#[derive(Debug)]
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(addresses(name))
    }
}

async fn addresses(name: Name) -> Result<Addrs, Box<dyn StdError + Send + Sync>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
    let mut allowed = allowed(name.as_str(), found)?;
    allowed.shuffle(&mut rand::rng());
    Ok(Box::new(allowed.into_iter()))
}

/// Those of the addresses of `name` that may be connected to.
fn allowed(name: &str, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Error> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    found.retain(|address| may_reach(is_local, address.ip().to_canonical()));
    if found.is_empty() {
        let message = format!("{name} leads to no address that sessions may reach");
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    Ok(found)
}

fn may_reach(is_local: bool, address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() {
        return is_local;
    }
    let of_link = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => match v6.segments() {
            // Leads to an address of four numbers.
            [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                let [.., a, b, c, d] = v6.octets();
                return may_reach(false, IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
            }
            _ => v6.is_unicast_link_local(),
        },
    };
    !of_link && !address.is_multicast() && !SERVICES.contains(&address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::ObjectStoreExt;
    use object_store::path::Path;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::{StoreSettings, connect_with};
    use super::*;
    use crate::object::StoreUrl;

    fn reached(name: &str, addresses: &[&str]) -> Option<Vec<String>> {
        let found = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let allowed = allowed(name, found).ok()?;
        Some(allowed.iter().map(|address| address.ip().to_string()).collect())
    }

    #[test]
    fn names_are_not_followed_to_this_machine_or_its_services() {
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "0.0.0.0",
            "::",
            "0.1.2.3",
            "::ffff:127.0.0.1",
            "64:ff9b::169.254.169.254",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "169.254.170.2",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert_eq!(reached("store.example", &[address]), None, "{address}");
        }
        for address in ["192.0.2.7", "10.0.0.7", "192.168.1.7", "2001:db8::7", "fd12:3456::7"] {
            assert_eq!(reached("store.example", &[address]).unwrap(), [address]);
        }
        assert_eq!(reached("store.example", &["127.0.0.1", "192.0.2.7"]).unwrap(), ["192.0.2.7"]);
        for name in ["localhost", "LocalHost.", "store.localhost"] {
            assert_eq!(reached(name, &["127.0.0.1", "::1"]).unwrap().len(), 2, "{name}");
            assert_eq!(reached(name, &["169.254.169.254"]), None, "{name}");
        }
        for name in ["localhost.example", "notlocalhost"] {
            assert_eq!(reached(name, &["127.0.0.1"]), None, "{name}");
        }
        assert_eq!(reached("store.example", &[]), None);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let (store, other) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let elsewhere = other.local_addr().unwrap();
        let at = store.local_addr().unwrap().to_string();
        let answering = tokio::spawn(async move {
            let (mut connection, _) = store.accept().await.unwrap();
            assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
            let head = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            connection.write_all(head.as_bytes()).await.unwrap();
        });
        let settings = [("endpoint", at.as_str()), ("use_ssl", "false"), ("anonymous", "true")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = StoreSettings::explicit(settings.to_vec()).unwrap().guarded();
        let data = StoreUrl::parse("s3://data").unwrap();
        let bucket = connect_with(&data, &settings, Arc::default()).unwrap();
        let error = crate::error::Error::from(bucket.get(&Path::from("x")).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        answering.await.unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(50), other.accept()).await;
        assert!(asked.is_err(), "the other one was asked");
    }
}
