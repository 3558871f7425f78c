//! Files on object storage: which a session may reach, and with whose credentials.
//!
//! Owns: the secrets of a session (`secret`), which of them a URL is reached with, which URLs a session may reach at all (`access`), open buckets
//! (`open`), their errors (`named`), what a statement reads of them (`metered`), and what COPY and queries do with objects (`list`, `read`, `upload`). Does not own: formats (`copy`,
//! `files`), how a service is talked to and tried again (`cairn_storage::object`).
//!
//! A secret lives in its session, and nowhere else: in no table, no file, no log. What a session of a server reaches lies below the prefixes that the
//! server lists, whoever's credentials are used. Rows that are being read keep the client they are read with for some time when its secret is
//! dropped.

mod access;
mod list;
mod metered;
mod named;
mod open;
mod place;
mod read;
mod secret;
mod upload;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_storage::ErrorKind;
use cairn_storage::object::StoreUrl;
use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::catalog::Session;
use tokio::runtime::Handle;

pub(crate) use access::UrlAccess;
pub(crate) use open::{EngineStores, OpenStore};
pub(crate) use place::{ObjectPlace, names_objects};
pub(crate) use read::ObjectFile;
pub(crate) use secret::{SecretOption, StoreSecret};
pub(crate) use upload::{ObjectUpload, Uploads};

use crate::error::{Error, Result};
use crate::measure::ReadMeters;
use crate::output::Output;

/// Secrets of one session.
const SECRETS_MAX: usize = 100;
/// Clients of dropped secrets that are kept for rows that are still being read with them.
const RETIRED_MAX: usize = 16;

/// See the module.
pub(crate) struct SessionStores {
    engine: Arc<EngineStores>,
    access: UrlAccess,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    secrets: BTreeMap<String, Arc<StoreSecret>>,
    /// By secret and bucket.
    open: HashMap<(String, StoreUrl), Arc<OpenStore>>,
    /// The oldest first.
    retired: VecDeque<Arc<OpenStore>>,
}

impl Held {
    /// The secret whose scope says most of `place`.
    fn choose(&self, place: &ObjectPlace) -> Option<(&String, &Arc<StoreSecret>)> {
        let covering = self.secrets.iter().filter_map(|named| Some((named.1.covers(place)?, named)));
        covering.max_by_key(|(said, _)| *said).map(|(_, named)| named)
    }

    /// Takes the secret `name` away, with its clients.
    fn retire(&mut self, name: &str) -> Option<Arc<StoreSecret>> {
        let buckets: Vec<_> = self.open.keys().filter(|(secret, _)| secret == name).cloned().collect();
        self.retired.extend(buckets.iter().filter_map(|key| self.open.remove(key)));
        while self.retired.len() > RETIRED_MAX {
            self.retired.pop_front();
        }
        self.secrets.remove(name)
    }
}

impl SessionStores {
    /// Those of a session that may reach what `access` says.
    pub(crate) fn new(engine: Arc<EngineStores>, access: UrlAccess) -> Self {
        Self { engine, access, held: Mutex::default() }
    }

    /// Those of the session that plans.
    ///
    /// # Errors
    /// `Internal` for a state that belongs to no session: it names no objects.
    pub(crate) fn of(session: &dyn Session) -> Result<Arc<Self>> {
        session
            .config()
            .get_extension::<Self>()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "objects were looked up outside of a session"))
    }

    /// CREATE SECRET.
    ///
    /// # Errors
    /// 42710 for a name or a scope that is there already; 42501 for an endpoint that the session may not name; 54000 for
    /// one secret too many.
    pub(crate) fn create(
        &self,
        name: &str,
        secret: &StoreSecret,
        replace: bool,
        if_not_exists: bool,
    ) -> Result<Output> {
        self.access.check_endpoint(secret)?;
        let mut held = self.held();
        if held.secrets.contains_key(name) && !replace {
            if if_not_exists {
                return Ok(done("CREATE SECRET", format!("secret {name} already exists, skipped")));
            }
            return Err(exists(format!("secret {name} already exists"))
                .map(|e| e.with_hint("CREATE OR REPLACE SECRET, or DROP SECRET first")));
        }
        let same = held.secrets.iter().find(|(other, held)| *other != name && held.covers_as(secret));
        if let Some((other, _)) = same {
            return Err(exists(format!("secret {other} is for the same URLs")).map(|e| {
                e.with_hint(format!("give each a SCOPE of its own, or DROP SECRET {other} first"))
            }));
        }
        held.retire(name);
        if held.secrets.len() >= SECRETS_MAX {
            let message = format!("a session has at most {SECRETS_MAX} secrets");
            return Err(Error::new(ErrorKind::ResourceExhausted, message).map(|e| e.with_sqlstate("54000")));
        }
        held.secrets.insert(name.to_owned(), Arc::new(secret.clone()));
        Ok(done("CREATE SECRET", "it lives in this session and ends with it".to_owned()))
    }

    /// DROP SECRET.
    ///
    /// # Errors
    /// 42704 when there is none.
    pub(crate) fn drop_secret(&self, name: &str, if_exists: bool) -> Result<Output> {
        if self.held().retire(name).is_some() {
            return Ok(Output::Done { verb: "DROP SECRET", notes: Vec::new() });
        }
        if if_exists {
            return Ok(done("DROP SECRET", format!("secret {name} does not exist, skipped")));
        }
        Err(Error::new(ErrorKind::NotFound, format!("secret {name} does not exist"))
            .map(|e| e.with_sqlstate("42704").with_hint("SHOW SECRETS lists those of this session")))
    }

    /// SHOW SECRETS, by name: what may be seen of each.
    ///
    /// # Errors
    /// None that its rows could have.
    pub(crate) fn shown(&self) -> Result<Output> {
        let held = self.held();
        let column = |of: &dyn Fn(&str, &StoreSecret) -> Option<String>| -> ArrayRef {
            Arc::new(held.secrets.iter().map(|(name, secret)| of(name, secret)).collect::<StringViewArray>())
        };
        crate::session::rows(vec![
            ("name", column(&|name, _| Some(name.to_owned()))),
            ("type", column(&|_, secret| Some(secret.type_name().to_owned()))),
            ("scope", column(&|_, secret| secret.scope().map(ToString::to_string))),
            ("region", column(&|_, secret| secret.region().map(str::to_owned))),
            ("endpoint", column(&|_, secret| secret.endpoint().map(str::to_owned))),
            ("key_id", column(&|_, secret| secret.shown_key_id())),
            ("secret", column(&|_, secret| secret.has_key().then(|| "***".to_owned()))),
        ])
    }

    /// The objects that `text` names, by key; `meters` are told what they cost.
    ///
    /// # Errors
    /// 22023 for what names none; 42501 for what the session may not reach; 58P01 when nothing is there; those of the store.
    pub(crate) async fn objects(&self, text: &str, meters: Option<&ReadMeters>) -> Result<Vec<ObjectFile>> {
        let place = ObjectPlace::parse(text)?;
        let open = self.reach(&place)?;
        let open = match meters {
            Some(meters) => meters.of_files(text, &open)?,
            None => open,
        };
        let objects = list::list(&open, &place).await?;
        let runtime = Handle::current();
        let file = |meta| ObjectFile::new(Arc::clone(&open), meta, runtime.clone());
        Ok(objects.into_iter().map(file).collect())
    }

    /// Where a statement of `session` may write `place`.
    ///
    /// # Errors
    /// 42501 for what the session may not reach; what is wrong with a secret or the environment.
    pub(crate) fn uploads(&self, place: &ObjectPlace, session: &dyn Session) -> Result<Uploads> {
        let pool = Arc::clone(&session.runtime_env().memory_pool);
        Ok(Uploads::new(self.reach(place)?, Handle::current(), pool))
    }

    /// The bucket of `place`, with the credentials that are for it.
    fn reach(&self, place: &ObjectPlace) -> Result<Arc<OpenStore>> {
        self.access.check(place)?;
        let bucket = place.bucket();
        let mut held = self.held();
        let Some((name, secret)) = held.choose(place) else { return self.engine.of_environment(bucket) };
        let key = (name.clone(), bucket.clone());
        if let Some(open) = held.open.get(&key) {
            return Ok(Arc::clone(open));
        }
        let guarded = self.access.guards_addresses();
        let open = self.engine.with_secret(bucket, name, secret, guarded)?;
        held.open.insert(key, Arc::clone(&open));
        Ok(open)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while holding it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStores").field("access", &self.access).finish_non_exhaustive()
    }
}

/// The error of ours in `error` or among its causes.
pub(crate) fn store_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    cause_of::<Error>(error).or_else(|| cause_of::<cairn_storage::Error>(error).map(Error::from))
}

fn cause_of<T: StdError + Clone + 'static>(error: &(dyn StdError + 'static)) -> Option<T> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found.clone());
        }
        // What an I/O error wraps is not its cause.
        cause = match current.downcast_ref::<io::Error>() {
            Some(wrapping) => wrapping.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    None
}

fn exists(message: String) -> Error {
    Error::new(ErrorKind::AlreadyExists, message).map(|e| e.with_sqlstate("42710"))
}

fn done(verb: &'static str, note: String) -> Output {
    Output::Done { verb, notes: vec![note] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::object_store::memory::InMemory;
    use datafusion::object_store::path::Path;
    use datafusion::object_store::{ObjectStore, ObjectStoreExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::rights::Secret;

    fn stores(access: UrlAccess) -> SessionStores {
        let buckets = ["s3://data", "s3://other", "gs://data"];
        let memory = |url: &str| (url.to_owned(), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
        let instead: Vec<_> = buckets.into_iter().map(memory).collect();
        let engine = EngineStores::new(&instead, Arc::new(RuntimeEnv::default())).unwrap();
        SessionStores::new(Arc::new(engine), access)
    }

    fn secret(options: &[(SecretOption, &str)]) -> StoreSecret {
        let key =
            [(SecretOption::Type, "s3"), (SecretOption::KeyId, "AKIDEXAMPLE"), (SecretOption::Secret, "x")];
        let options: Vec<_> = key
            .iter()
            .chain(options)
            .map(|(option, value)| (*option, Secret::new((*value).to_owned())))
            .collect();
        StoreSecret::new(&options).unwrap()
    }

    fn scoped(scope: &str) -> StoreSecret {
        secret(&[(SecretOption::Scope, scope)])
    }

    #[test]
    fn the_most_specific_scope_wins() {
        let stores = stores(UrlAccess::All);
        for (name, secret) in [
            ("all", secret(&[])),
            ("bucket", scoped("s3://data")),
            ("deep", scoped("s3://data/a/b")),
            ("side", scoped("s3://data/a/bc")),
        ] {
            stores.create(name, &secret, false, false).unwrap();
        }
        let chosen = |text: &str| {
            let held = stores.held();
            held.choose(&ObjectPlace::parse(text).unwrap()).map(|(name, _)| name.clone())
        };
        for (text, name) in [
            ("s3://other/x", Some("all")),
            ("s3://data/x", Some("bucket")),
            ("s3://data/a/b/x", Some("deep")),
            ("s3://data/a/bc/x", Some("side")),
            ("s3://data/a/*/x", Some("bucket")),
            ("gs://data/x", None),
        ] {
            assert_eq!(chosen(text).as_deref(), name, "{text}");
        }
        stores.drop_secret("deep", false).unwrap();
        assert_eq!(chosen("s3://data/a/b/x").as_deref(), Some("bucket"));
    }

    #[test]
    fn names_and_scopes_stand_once() {
        let stores = stores(UrlAccess::All);
        stores.create("a", &scoped("s3://data"), false, false).unwrap();
        let refused = |name: &str, secret: &StoreSecret| {
            stores.create(name, secret, false, false).err().map(|error| error.sqlstate())
        };
        assert_eq!(refused("a", &secret(&[])), Some("42710"));
        assert_eq!(refused("b", &scoped("s3a://data/")), Some("42710"));
        stores.create("a", &secret(&[]), false, true).unwrap();
        assert!(stores.held().secrets["a"].scope().is_some(), "skipped");
        stores.create("a", &secret(&[]), true, false).unwrap();
        assert!(stores.held().secrets["a"].scope().is_none(), "replaced");
        assert_eq!(stores.drop_secret("none", false).err().unwrap().sqlstate(), "42704");
        stores.drop_secret("none", true).unwrap();
        for i in 1..SECRETS_MAX {
            stores.create(&format!("s{i}"), &scoped(&format!("s3://data/{i}")), false, false).unwrap();
        }
        assert_eq!(refused("more", &scoped("s3://data/more")), Some("54000"));
    }

    #[test]
    fn clients_belong_to_their_secret() {
        let (one, two) = (stores(UrlAccess::All), stores(UrlAccess::All));
        let place = ObjectPlace::parse("s3://data/x").unwrap();
        let shared = one.reach(&place).unwrap();
        one.create("a", &secret(&[]), false, false).unwrap();
        let mine = one.reach(&place).unwrap();
        assert!(!Arc::ptr_eq(&shared, &mine) && Arc::ptr_eq(&mine, &one.reach(&place).unwrap()));
        two.create("a", &secret(&[]), false, false).unwrap();
        assert!(!Arc::ptr_eq(&mine, &two.reach(&place).unwrap()));
        for _ in 0..2 * RETIRED_MAX {
            one.create("a", &secret(&[]), true, false).unwrap();
            assert!(!Arc::ptr_eq(&mine, &one.reach(&place).unwrap()), "another key, another client");
        }
        assert_eq!(one.held().retired.len(), RETIRED_MAX);
        one.drop_secret("a", false).unwrap();
        assert!(Arc::ptr_eq(&shared, &one.reach(&place).unwrap()));
    }

    #[test]
    fn sessions_of_a_server_name_listed_endpoints() {
        let endpoints = vec!["https://minio.example:9000".to_owned()];
        let stores = stores(UrlAccess::Below { prefixes: vec!["s3://data".to_owned()], endpoints });
        let at = |endpoint: &str| {
            let secret = secret(&[(SecretOption::Endpoint, endpoint)]);
            stores.create("a", &secret, true, false).err().map(|error| error.sqlstate())
        };
        assert_eq!(at("minio.example:9000"), None);
        assert_eq!(at("http://minio.example:9000/"), None);
        for endpoint in
            ["169.254.169.254", "localhost:9000", "minio.example", "minio.example.evil.example:9000"]
        {
            assert_eq!(at(endpoint), Some("42501"), "{endpoint}");
        }
        let reached = |text: &str| stores.reach(&ObjectPlace::parse(text).unwrap()).is_ok();
        assert!(reached("s3://data/x") && !reached("s3://other/x") && !reached("gs://data/x"));
    }

    #[tokio::test]
    async fn requests_of_all_buckets_are_counted_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let answering = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut connection, _) = listener.accept().await.unwrap();
                assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
                let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let engine = Arc::new(EngineStores::new(&[], Arc::new(RuntimeEnv::default())).unwrap());
        assert_eq!(engine.figures(), None);
        for place in ["s3://data/x", "s3://other/x"] {
            let place = ObjectPlace::parse(place).unwrap();
            let session = SessionStores::new(Arc::clone(&engine), UrlAccess::All);
            let secret = secret(&[(SecretOption::Endpoint, at.as_str()), (SecretOption::UseSsl, "false")]);
            session.create("a", &secret, false, false).unwrap();
            let missing = session.reach(&place).unwrap().store().head(&Path::from("x")).await.unwrap_err();
            assert_eq!(cairn_storage::Error::from(missing).kind(), ErrorKind::NotFound);
        }
        answering.await.unwrap();
        // Of sessions that have ended.
        let figures = engine.figures().unwrap();
        assert_eq!((figures.heads, figures.gets, figures.retries, figures.failures), (2, 0, 0, 0));
        assert_eq!(figures.waits.count(), 2);
    }

    #[test]
    fn causes_are_found() {
        let ours = cairn_storage::Error::new(ErrorKind::Unavailable, "ours");
        let nested = io::Error::other(io::Error::other(ours.clone()));
        assert_eq!(store_error(&nested).unwrap().message(), "ours");
        let store: datafusion::object_store::Error = ours.into();
        assert_eq!(store_error(&store).unwrap().message(), "ours");
        assert!(store_error(&io::Error::other("another")).is_none());
    }
}
