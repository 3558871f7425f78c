//! How `cairn serve` is configured.
//!
//! Owns: where values come from, each overriding those before: defaults, a TOML file, `CAIRN_…` variables, flags. Does not own:
//! which keys there are (`keys`), what a value does ([`ServerOptions`], [`EngineOptions`]). A key nobody knows is an error wherever
//! it stands.

mod keys;
mod value;

pub use keys::{KEYS, Key};

use std::path::Path;

use cairn_engine::{Durability, EngineOptions, Error, Result, SyncMode};
use cairn_storage::{ClaimAt, ErrorKind, Root};

use crate::options::ServerOptions;

/// Variables of the environment that set a key begin with it.
const PREFIX: &str = "CAIRN_";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "CAIRN_CONFIG";

/// The variable of the shell's that holds a password.
pub const PASSWORD_VARIABLE: &str = "CAIRN_PASSWORD";
/// The variable that names the folder of caches, for every program of Cairn's; see [`cairn_engine::default_cache_directory`].
const CACHE_VARIABLE: &str = "CAIRN_CACHE_DIR";
/// The same for journals; see [`cairn_engine::default_journal_directory`].
const STATE_VARIABLE: &str = "CAIRN_STATE_DIR";

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the server is run.
    pub server: ServerOptions,
    /// How the database is opened.
    pub engine: EngineOptions,
    /// Threads that statements run on; None: as many as there are cores.
    pub threads: Option<usize>,
}

impl Default for Config {
    /// A server in a bucket claims its database when it starts: its clients are not to find out later that somebody else writes.
    fn default() -> Self {
        let mut engine = EngineOptions::default();
        engine.storage.claim = ClaimAt::Open;
        engine.storage.keeps_jobs = true;
        engine.storage.cache_directory = cairn_engine::default_cache_directory();
        engine.storage.journal_directory = cairn_engine::default_journal_directory();
        Self { server: ServerOptions::default(), engine, threads: None }
    }
}

impl Config {
    /// Reads the file, if one is given, then the variables of the environment, then flags, as (key, value).
    ///
    /// # Errors
    /// `InvalidInput` (22023) naming where the key stands that is not known or has a value it can't have; `NotFound` when the
    /// file can't be read.
    pub fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(&str, &str)],
    ) -> Result<Self> {
        let mut config = Self::default();
        if let Some(path) = file {
            config.read_file(path)?;
        }
        let mut variables: Vec<(String, String)> = environment.collect();
        variables.sort_unstable();
        for (name, value) in &variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            // Another program's: the shell, what runs the tests.
            if [FILE_VARIABLE, PASSWORD_VARIABLE, CACHE_VARIABLE, STATE_VARIABLE].contains(&name.as_str())
                || rest.starts_with("TEST_")
            {
                continue;
            }
            let place = || format!("environment variable {name}");
            let key = KEYS.iter().find(|key| key.variable() == *name).ok_or_else(|| unknown(&place()))?;
            config.set(key, value, &place)?;
        }
        for (name, value) in flags {
            let place = || format!("--{}", Key::flag_of(name));
            let key = KEYS.iter().find(|key| key.name == *name).ok_or_else(|| unknown(&place()))?;
            config.set(key, value, &place)?;
        }
        config.check()?;
        Ok(config)
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| cairn_storage::Error::io(format!("reading the configuration {shown}"), error))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            invalid(format!("{shown} is not TOML: {}", error.message().trim_end()))
        })?;
        let mut values = Vec::new();
        flatten("", table, &mut values);
        for (name, value) in values {
            let place = || format!("{name} in {shown}");
            let key = KEYS.iter().find(|key| key.name == name).ok_or_else(|| unknown(&place()))?;
            let value = match value {
                toml::Value::Array(items) if key.is_list() => joined(items, &place)?,
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(value) => value.to_string(),
                other => {
                    let (place, given) = (place(), other.type_str());
                    let message = format!("{place}: a single value is expected, not {given}");
                    return Err(invalid(message));
                }
            };
            self.set(key, &value, &place)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &Key, value: &str, place: &dyn Fn() -> String) -> Result<()> {
        (key.set)(self, value).map_err(|expected| {
            invalid(format!("{}: '{value}' is not a value it can have: {expected}", place()))
        })
    }

    /// That no key is for another sort of root.
    ///
    /// # Errors
    /// `InvalidInput` (22023) naming the key.
    pub fn check_root(&self, root: &Root) -> Result<()> {
        let storage = &self.engine.storage;
        match root {
            Root::Store(_) if storage.sync != SyncMode::Full => Err(invalid(
                "sync is for a directory; in a bucket it is storage.durability that says when a commit is acknowledged".to_owned(),
            )),
            Root::Path(_) | Root::Memory if storage.durability == Durability::Local || storage.discard_local => {
                Err(invalid("storage.durability and discard_local are for a bucket".to_owned()))
            }
            Root::Path(_) | Root::Memory if storage.take_over => Err(invalid(
                "take_over is for a bucket; a directory is locked while it is written".to_owned(),
            )),
            Root::Path(_) | Root::Memory | Root::Store(_) => Ok(()),
        }
    }

    /// What no single key can say.
    fn check(&self) -> Result<()> {
        let storage = &self.engine.storage;
        if storage.read_only && storage.take_over {
            return Err(invalid(
                "take_over is for writing, and with read_only nothing is written".to_owned(),
            ));
        }
        if storage.read_only && (storage.durability == Durability::Local || storage.discard_local) {
            return Err(invalid(
                "storage.durability and discard_local are for writing, and with read_only nothing is written"
                    .to_owned(),
            ));
        }
        if storage.durability == Durability::Local && storage.journal_directory.is_none() {
            return Err(invalid("storage.durability = local needs a storage.journal_directory".to_owned()));
        }
        match &self.server.tls {
            Some(tls) if tls.certificate.as_os_str().is_empty() || tls.key.as_os_str().is_empty() => {
                Err(invalid("tls.certificate and tls.key belong together; one of them is missing".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// `a.b.c` and the value of each leaf.
fn flatten(prefix: &str, table: toml::Table, values: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(table) => flatten(&name, table, values),
            value => values.push((name, value)),
        }
    }
}

/// A list of texts as one.
fn joined(items: Vec<toml::Value>, place: &dyn Fn() -> String) -> Result<String> {
    let texts = items.into_iter().map(|item| match item {
        toml::Value::String(text) => Ok(text),
        other => {
            let message = format!("{}: a list of strings is expected, not of {}", place(), other.type_str());
            Err(invalid(message))
        }
    });
    Ok(texts.collect::<Result<Vec<_>>>()?.join(","))
}

fn unknown(place: &str) -> Error {
    invalid(format!("{place}: there is no such key"))
        .map(|e| e.with_hint("cairn serve --help lists every key"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn read(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config> {
        let directory = std::env::temp_dir().join(format!("cairn-config-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("cairn.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::read(Some(&path), environment, flags);
        std::fs::remove_dir_all(directory).unwrap();
        config
    }

    #[test]
    fn later_places_override_earlier_ones() {
        let file = "memory_limit = \"1 GiB\"\n[flight]\nlisten = \"127.0.0.1:1\"\n[session]\nmax = 5\nidle = \"7 min\"\n";
        let config = read(
            file,
            &[("CAIRN_SESSION_MAX", "6"), ("CAIRN_FLIGHT_LISTEN", "127.0.0.1:2"), ("PATH", "x")],
            &[("flight.listen", "off")],
        )
        .unwrap();
        assert_eq!(config.server.flight, None);
        assert_eq!(config.server.sessions_max, 6);
        assert_eq!(config.server.session_idle_max, Duration::from_secs(420));
        assert_eq!(config.engine.memory_limit, Some(1 << 30));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named_with_their_place() {
        let message = |result: Result<Config>| result.unwrap_err().message().to_owned();
        assert!(message(read("[flight]\nport = 1\n", &[], &[])).contains("flight.port in "));
        assert!(message(read("", &[("CAIRN_PORT", "1")], &[])).contains("CAIRN_PORT: there is no such key"));
        assert!(message(read("[session]\nmax = \"many\"\n", &[], &[])).contains("'many'"));
        assert!(message(read("x = [", &[], &[])).contains("is not TOML"));
        assert!(message(read("", &[], &[("tls.key", "k.pem")])).contains("tls.certificate"));
        assert!(message(read("[session]\nmax = [1]\n", &[], &[])).contains("single value"));
        for name in ["session.idle", "session.lifetime", "result.wait", "limit.time"] {
            assert!(message(read("", &[], &[(name, "0")])).contains("a time above 0"), "{name}");
        }
        for name in ["limit.memory", "memory_limit"] {
            assert!(message(read("", &[], &[(name, "1 KiB")])).contains("at least 1 MiB"), "{name}");
        }
        for name in ["copy_root", "audit.file", "tls.certificate"] {
            assert!(message(read("", &[], &[(name, " ")])).contains("a path is expected"), "{name}");
        }
    }

    #[test]
    fn a_server_claims_its_bucket_and_says_what_is_not_for_one() {
        let bucket = Root::parse("s3://bucket/notes").unwrap();
        let directory = Root::parse("./notes").unwrap();
        let file = "[storage]\npoll_interval = \"250 ms\"\ncache_directory = \"off\"\n";
        let config =
            read(file, &[("CAIRN_CACHE_DIR", "/fast")], &[("storage.wal_flush_interval", "100 ms")]).unwrap();
        let storage = &config.engine.storage;
        assert_eq!((storage.claim, storage.take_over), (ClaimAt::Open, false));
        assert_eq!(storage.poll_interval, Duration::from_millis(250));
        assert_eq!(storage.wal_flush_interval, Duration::from_millis(100));
        assert_eq!(storage.cache_directory, None);
        config.check_root(&bucket).unwrap();
        config.check_root(&directory).unwrap();
        let message = |result: Result<()>| result.unwrap_err().message().to_owned();
        let late = read("", &[], &[("sync", "off")]).unwrap();
        assert!(message(late.check_root(&bucket)).contains("sync is for a directory"));
        late.check_root(&directory).unwrap();
        let taking = read("", &[], &[("take_over", "true")]).unwrap();
        taking.check_root(&bucket).unwrap();
        assert!(message(taking.check_root(&directory)).contains("take_over is for a bucket"));
        read("", &[], &[("take_over", "true"), ("read_only", "true")]).unwrap_err();
        for (name, value) in
            [("storage.reader_grace", "0"), ("storage.commit_timeout", "0"), ("storage.cache_size", "0")]
        {
            read("", &[], &[(name, value)]).unwrap_err();
        }
    }

    #[test]
    fn lists_stand_in_brackets_or_between_commas() {
        let file =
            "[copy]\nurls = [\"s3://data/in/\", \"gs://open\"]\nendpoints = [\"minio.example:9000\"]\n";
        let config = read(file, &[], &[]).unwrap();
        assert_eq!(config.server.limits.copy_urls, ["s3://data/in", "gs://open"]);
        assert_eq!(config.server.limits.copy_endpoints, ["minio.example:9000"]);
        let config = read(file, &[("CAIRN_COPY_URLS", "az://a, s3://b/c")], &[("copy.endpoints", "a:1,b:2")]);
        let limits = config.unwrap().server.limits;
        assert_eq!(
            (limits.copy_urls.as_slice(), limits.copy_endpoints.as_slice()),
            (&["az://a".to_owned(), "s3://b/c".to_owned()][..], &["a:1".to_owned(), "b:2".to_owned()][..],)
        );
        for (file, why) in [
            ("[copy]\nurls = [1]\n", "a list of strings is expected, not of integer"),
            ("[copy]\nurls = []\n", "prefixes such as"),
            ("[copy]\nurls = [\"/srv/data\"]\n", "prefixes such as"),
            ("[copy]\nendpoints = [\"https://key:secret@a\"]\n", "hosts such as"),
            ("copy_root = [\"/srv/data\"]\n", "single value"),
        ] {
            let error = read(file, &[], &[]).unwrap_err();
            assert!(error.message().contains(why), "{file}: {error}");
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in KEYS {
            let shown = key.default_text();
            if key.optional {
                continue;
            }
            let mut config = Config::default();
            (key.set)(&mut config, &shown).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            assert_eq!((key.get)(&config), shown, "{}", key.name);
        }
    }

    #[test]
    fn the_book_lists_every_key() {
        let book = include_str!("../../../docs/src/server.md");
        for key in KEYS {
            let row = key.table_row();
            assert!(book.contains(&row), "docs/src/server.md should have the row\n{row}");
        }
    }
}
