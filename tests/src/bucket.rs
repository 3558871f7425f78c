//! A bucket on S3's protocol.
//!
//! Owns: one server of `python/bucket.py` (moto) for each process of tests, started for its first bucket and ended with the process;
//! making buckets; what stands in one, seen and changed behind a database's back. Does not own: databases in it. It needs a Python that
//! has `moto[server]`, named by `CAIRN_TEST_PYTHON` (`.ci/run` sets it); without one there are no buckets.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use cairn_storage::object::{RequestLimits, StoreSettings, StoreUrl, client};
use cairn_storage::{OpenOptions, Root};
use datafusion::object_store::ObjectStore;
use datafusion::object_store::prefix::PrefixStore;
use tempfile::TempDir;

use crate::environment::without_settings;
use crate::http::{HttpAnswer, HttpRequest};
use crate::scratch::scratch;

/// Moto asks who it is, and believes it.
const AUTHORIZATION: &str = "authorization: AWS4-HMAC-SHA256 \
     Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";
const KEY_ID: &str = "test";
const SECRET: &str = "test";
const REGION: &str = "us-east-1";

/// A server, which ends when its standard input does: with the process that holds this.
struct MotoServer {
    address: SocketAddr,
    _process: Child,
}

impl MotoServer {
    fn start(python: &OsStr) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/bucket.py");
        let mut process = without_settings(&mut Command::new(python))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim_end().parse();
        let address =
            address.unwrap_or_else(|_| panic!("{} serves no bucket: has it moto[server]?", python.display()));
        Self { address, _process: process }
    }
}

/// An empty bucket of its own.
#[derive(Debug)]
pub struct Bucket {
    server: SocketAddr,
    name: String,
    /// Where other processes keep what they read of it; not where its user's own databases do.
    cache: TempDir,
}

impl Bucket {
    /// Makes one; None, and a line that says so, when there is no Python for it.
    #[allow(clippy::print_stdout, reason = "what was left out is part of the report")]
    pub fn start() -> Option<Self> {
        static SERVER: OnceLock<Option<MotoServer>> = OnceLock::new();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let start = || std::env::var_os("CAIRN_TEST_PYTHON").map(|python| MotoServer::start(&python));
        let Some(server) = SERVER.get_or_init(start) else {
            println!(
                "NOT RUN: databases in a bucket; set CAIRN_TEST_PYTHON to a Python that has moto[server]"
            );
            return None;
        };
        let name = format!("cairn-test-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let bucket = Self { server: server.address, name, cache: scratch().unwrap() };
        assert_eq!(bucket.ask("PUT", "", &[], b"").status, 200, "making {}", bucket.name);
        Some(bucket)
    }

    /// The server's URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server)
    }

    /// `s3://bucket/key`.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// The variables by which another process reaches it, and keeps caches and journals in a directory that goes with this.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", REGION),
            ("AWS_ALLOW_HTTP", "true"),
            ("CAIRN_CACHE_DIR", self.cache.path().to_str().unwrap()),
            ("CAIRN_STATE_DIR", self.cache.path().join("state").to_str().unwrap()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The root of a database below `prefix`, and options by which it is opened in this process, whose environment is not its own.
    /// Connections belong to the runtime they were made on: each opening needs options of its own.
    #[must_use]
    pub fn database(&self, prefix: &str) -> (Root, OpenOptions) {
        let url = StoreUrl::parse(&self.url(prefix)).unwrap();
        let endpoint = self.endpoint();
        let settings = [
            ("key_id", KEY_ID),
            ("secret", SECRET),
            ("region", REGION),
            ("endpoint", endpoint.as_str()),
            ("use_ssl", "false"),
            ("url_style", "path"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let settings = StoreSettings::explicit(settings).unwrap();
        let whole = client(&url, &settings, &RequestLimits::default()).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(whole, prefix));
        (Root::Store(url), OpenOptions { store: Some(store), ..OpenOptions::default() })
    }

    /// The keys that begin with `prefix`, in order. Not to be called from async code, like everything below.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let answer = self.ask("GET", &format!("?list-type=2&prefix={prefix}"), &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("<IsTruncated>false<"), "too many keys for one answer");
        let parts = answer.text().split("<Key>").skip(1);
        parts.map(|part| part.split_once("</Key>").unwrap().0.to_owned()).collect()
    }

    /// The bytes of an object; None: there is none.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.ask("GET", &format!("/{key}"), &[], b"");
        assert!(matches!(answer.status, 200 | 404) && answer.whole, "{key}: {answer:?}");
        (answer.status == 200).then_some(answer.body)
    }

    /// Writes an object.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let answer = self.ask("PUT", &format!("/{key}"), &[], bytes);
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) {
        let answer = self.ask("DELETE", &format!("/{key}"), &[], b"");
        assert_eq!(answer.status, 204, "{key}: {}", answer.text());
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> HttpAnswer {
        let path = format!("/{}{path}", self.name);
        let headers = [&[AUTHORIZATION][..], headers].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            HttpRequest::send(self.server, method, &path, &headers, body).await.answer().await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpStream};
    use std::sync::Barrier;

    use super::*;

    const WRITERS: usize = 8;

    /// What all of them are told, in order, when they write at the same time.
    fn race(bucket: &Bucket, key: &str, condition: &str) -> Vec<u16> {
        let start = Barrier::new(WRITERS);
        let write = |number: usize| {
            start.wait();
            let body = format!("of writer {number}");
            bucket.ask("PUT", &format!("/{key}"), &[condition], body.as_bytes()).status
        };
        let write = &write;
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(move || write(number))).collect();
            let mut told: Vec<u16> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            told.sort_unstable();
            told
        })
    }

    #[test]
    fn one_of_many_writers_is_the_first() {
        let Some(bucket) = Bucket::start() else { return };
        let mut expected = [412_u16; WRITERS];
        expected[0] = 200;
        for round in 0..10 {
            let key = format!("race/{round}");
            assert_eq!(race(&bucket, &key, "if-none-match: *"), expected, "{key} was created twice");
            let now = bucket.ask("PUT", &format!("/{key}"), &[], b"first");
            let condition = format!("if-match: {}", now.header("etag").unwrap());
            assert_eq!(race(&bucket, &key, &condition), expected, "{key} was replaced twice");
        }
        assert_eq!(bucket.ask("PUT", "/nothing", &["if-match: \"x\""], b"1").status, 404);
    }

    #[test]
    fn objects_are_whole_or_absent() {
        let Some(bucket) = Bucket::start() else { return };
        // Half a body, of a client that goes away.
        let mut stream = TcpStream::connect(bucket.server).unwrap();
        let head = format!("PUT /{}/half HTTP/1.1\r\nhost: x\r\n{AUTHORIZATION}\r\n", bucket.name);
        stream.write_all(format!("{head}content-length: 100\r\n\r\nhalf").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        assert_eq!(bucket.get("half"), None);

        bucket.put("a/1", b"one");
        bucket.put("a/2", b"");
        bucket.put("b", b"b");
        assert_eq!(bucket.keys("a/"), ["a/1", "a/2"]);
        assert_eq!((bucket.get("a/1"), bucket.get("a/2")), (Some(b"one".to_vec()), Some(Vec::new())));
        bucket.delete("a/1");
        assert_eq!(bucket.get("a/1"), None);
        assert_eq!(bucket.keys(""), ["a/2", "b"]);
    }
}
