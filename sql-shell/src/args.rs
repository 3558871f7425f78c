//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cairn_engine::config::parse_bytes;
use cairn_engine::{Durability, Root, default_cache_directory};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::connection::{Address, Cache, Login, Opening, Tls};
use crate::dump::DumpArgs;
use crate::failure::Failure;
use crate::format::Format;
use crate::serve::ServeArgs;
use crate::verify::VerifyArgs;

const EXAMPLES: &str = "\
Examples:
  cairn                                   open ./cairn-data and type SQL
  cairn ./notes -c 'SELECT count(*) FROM notes'
  cairn ./notes -f load.sql --on-error stop
  cairn ./notes --format csv -c 'SELECT * FROM notes' > notes.csv
  echo 'SELECT 1' | cairn :memory:        read statements from standard input
  cairn ./notes --read-only               follow the process that writes
  cairn s3://bucket/notes                 a database in a bucket; credentials come from the environment
  cairn demo                              create a small database and query it
  cairn serve ./notes                     let other programs use it
  cairn verify ./notes                    check every checksum; exit code 3 when something is damaged
  cairn verify ./notes --repair --dry-run what a repair would do, and which rows it would lose
  cairn dump wal ./notes/wal/FILE         what stands in a file of the log, a manifest or a segment
  cairn grpc://127.0.0.1:8815             the same shell, on a database that is served
  cairn grpc+tls://db.example.org --user anna -c 'SHOW TABLES'

Exit codes: 0 success, 1 a statement failed, 2 wrong usage, 130 interrupted.";

/// Variables that the shell reads and a server does not.
pub(crate) const VARIABLES: [&str; 5] =
    [FORMAT_VARIABLE, RC_VARIABLE, "CAIRN_PAGER", "CAIRN_EDITOR", "CAIRN_COMMIT"];
const FORMAT_VARIABLE: &str = "CAIRN_FORMAT";
const RC_VARIABLE: &str = "CAIRN_RC";

const RC_HELP: &str = "Commands and statements that are run first when somebody types \
     [default: cairn/shellrc in the user's configuration folder]";

const SYNC_HELP: &str = "When a commit is durable: `full` (when acknowledged, the default), `interval:MS` or `off` (a crash of the \
     machine may lose the last ones)";

const CACHE_HELP: &str = "Where what was read is kept for the next time; `off`: nowhere [default: cairn in the user's cache folder]";
const CACHE_SIZE_HELP: &str = "Most that is kept there, such as 512 MiB [default: 10 GiB]";

const COLUMN_CACHE_HELP: &str = "Memory of columns that are kept decoded for the next query, such as 2 GiB; `off`: none [default: 17.5 % of the machine]";

const MEMORY_LIMIT_HELP: &str = "Memory of queries and of columns that are kept decoded, such as 2 GiB; beyond it queries spill or fail [default: 70 % of the machine]";

const DURABILITY_HELP: &str = "Where a commit must be before it is acknowledged: `store` (the bucket, the default) or `local` (a journal on this machine's \
     disk, sent in the background; losing the machine loses what was not sent)";

/// Heading of the options that only a server has a use for.
const SERVERS: &str = "Servers";
/// Heading of those that only a database in a bucket has a use for.
const BUCKETS: &str = "Object storage";

/// SQL on a directory, in a bucket or at a server: tables, transactions and files queried in place.
#[derive(Debug, Parser)]
#[command(name = "cairn", version = crate::VERSION, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Directory of the database, made when there is none; `s3://bucket/prefix`, `gs://…` and `az://…` are in a bucket; `:memory:` keeps nothing; `grpc://host:port` is a server, `grpc+tls://host:port` one that encrypts.
    #[arg(default_value = "./cairn-data")]
    pub(crate) root: String,

    /// Run this SQL and leave; may be given several times, and mixed with -f.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,

    /// Run the statements of this file and leave; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How results are written [default: box].
    #[arg(long, value_enum, env = FORMAT_VARIABLE)]
    pub(crate) format: Option<Format>,

    #[arg(long, value_name = "FILE", env = RC_VARIABLE, help = RC_HELP)]
    pub(crate) rc: Option<PathBuf>,

    /// Run no such file, also when CAIRN_RC names one.
    #[arg(long)]
    pub(crate) no_rc: bool,

    /// Only results and errors: no greeting, row counts of writes, or times.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Open without writing; several processes may, beside the one that writes.
    #[arg(long)]
    pub(crate) read_only: bool,

    /// What a script does after a statement failed.
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnError::Stop)]
    pub(crate) on_error: OnError,

    #[arg(long, value_name = "full|interval:MS|off", help = SYNC_HELP)]
    pub(crate) sync: Option<Sync>,

    #[arg(long, value_name = "SIZE|off", value_parser = column_cache, help = COLUMN_CACHE_HELP)]
    column_cache: Option<usize>,

    #[arg(long, value_name = "SIZE", value_parser = memory_limit, help = MEMORY_LIMIT_HELP)]
    memory_limit: Option<usize>,

    /// Do nothing by itself to keep the database in order: no checkpoints, merges of segments, index builds or collections but those
    /// that are asked for, on leaving, and before writers would have to wait.
    #[arg(long)]
    no_upkeep: bool,

    /// User to log in as; the password is that of CAIRN_PASSWORD, of --password-file, or asked for.
    #[arg(long, value_name = "NAME", help_heading = SERVERS)]
    pub(crate) user: Option<String>,

    /// File that holds the user's password.
    #[arg(long, value_name = "FILE", requires = "user", help_heading = SERVERS)]
    password_file: Option<PathBuf>,

    /// PEM file of the roots that the server's certificate must lead to, in place of the system's.
    #[arg(long, value_name = "FILE", help_heading = SERVERS)]
    tls_ca: Option<PathBuf>,

    /// PEM file of this client's certificate, where the server asks for one.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = SERVERS)]
    tls_certificate: Option<PathBuf>,

    /// PEM file of that certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = SERVERS)]
    tls_key: Option<PathBuf>,

    /// Write also when another process does, which can't commit any more from the first change here on.
    #[arg(long, help_heading = BUCKETS)]
    take_over: bool,

    #[arg(long, value_name = "DIR|off", help_heading = BUCKETS, help = CACHE_HELP)]
    cache: Option<CacheAt>,

    #[arg(long, value_name = "SIZE", value_parser = cache_size, help_heading = BUCKETS, help = CACHE_SIZE_HELP)]
    cache_size: Option<u64>,

    #[arg(long, value_enum, value_name = "store|local", help_heading = BUCKETS, help = DURABILITY_HELP)]
    durability: Option<DurableIn>,

    /// Drop commits that were made on this machine with --durability local and can't be sent any more, another process having taken the database over.
    #[arg(long, help_heading = BUCKETS)]
    discard_local: bool,

    /// The server that the root names.
    #[arg(skip)]
    pub(crate) server: Option<Address>,

    #[command(subcommand)]
    pub(crate) subcommand: Option<Task>,
}

/// What `cairn` does besides opening a shell.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Create a small database (TPC-H, some notes, handwritten digits as vectors) and run six queries on it.
    Demo {
        /// Its directory, or s3://bucket/prefix.
        #[arg(default_value = "./cairn-demo")]
        dir: String,
    },
    /// Serve a database to other programs: Flight SQL (ADBC, JDBC, ODBC) and HTTP.
    Serve(ServeArgs),
    /// Check that everything is still as it was written.
    Verify(VerifyArgs),
    /// Show what stands in one file of a database.
    Dump(DumpArgs),
}

/// What a script does after a statement failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Leave with exit code 1.
    Stop,
    /// Go on; the exit code is still 1 at the end.
    Continue,
}

impl OnError {
    /// Whether the first error ends a script.
    pub(crate) fn stops(self) -> bool {
        match self {
            Self::Stop => true,
            Self::Continue => false,
        }
    }
}

/// `--sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Durable when acknowledged.
    Full,
    /// Durable at most this long after.
    Interval(Duration),
    /// Durable when the operating system likes.
    Off,
}

impl FromStr for Sync {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "full" => Ok(Self::Full),
            None if text == "off" => Ok(Self::Off),
            Some(("interval", ms)) => match ms.parse::<u64>() {
                Ok(ms) if ms > 0 => Ok(Self::Interval(Duration::from_millis(ms))),
                _ => Err("interval takes whole milliseconds, as in interval:100".to_owned()),
            },
            _ => Err("expected full, interval:MS or off".to_owned()),
        }
    }
}

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DurableIn {
    /// In the bucket.
    Store,
    /// In a journal on this machine's disk.
    Local,
}

impl From<DurableIn> for Durability {
    fn from(place: DurableIn) -> Self {
        match place {
            DurableIn::Store => Self::Store,
            DurableIn::Local => Self::Local,
        }
    }
}

/// `--cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CacheAt {
    /// Nowhere.
    Off,
    /// In this directory.
    Directory(PathBuf),
}

impl FromStr for CacheAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("expected a directory, or off".to_owned()),
            "off" => Ok(Self::Off),
            _ => Ok(Self::Directory(text.into())),
        }
    }
}

/// `--cache-size`.
fn cache_size(text: &str) -> Result<u64, String> {
    let size = parse_bytes(text).ok().filter(|bytes| *bytes > 0);
    size.ok_or_else(|| "expected a size above 0, such as 512 MiB; --cache off keeps nothing".to_owned())
}

/// `--column-cache`.
fn column_cache(text: &str) -> Result<usize, String> {
    if text.trim() == "off" {
        return Ok(0);
    }
    let size = parse_bytes(text).ok().and_then(|bytes| usize::try_from(bytes).ok());
    size.ok_or_else(|| "expected a size, such as 2 GiB, or off".to_owned())
}

/// `--memory-limit`.
fn memory_limit(text: &str) -> Result<usize, String> {
    let size = parse_bytes(text).ok().and_then(|bytes| usize::try_from(bytes).ok()).filter(|size| *size > 0);
    size.ok_or_else(|| "expected a size above 0, such as 2 GiB".to_owned())
}

/// Where statements come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `-c`.
    Command(String),
    /// `-f`.
    File(PathBuf),
    /// `-f -`, or standard input that is not a terminal.
    Stdin,
}

impl Args {
    /// The process's arguments; usage errors, `--help` and `--version` end the process.
    pub(crate) fn from_process() -> (Self, Vec<Source>) {
        match Self::read(&Self::command().get_matches()) {
            Ok(read) => read,
            Err(error) => error.exit(),
        }
    }

    /// Who logs in; None: nobody in particular.
    ///
    /// # Errors
    /// When there is no password.
    pub(crate) fn login(&self) -> Result<Option<Login>, Failure> {
        self.user.as_ref().map(|user| Login::read(user, self.password_file.as_deref())).transpose()
    }

    /// Files of an encrypted connection.
    pub(crate) fn tls(&self) -> Tls {
        let own = self.tls_certificate.clone().zip(self.tls_key.clone());
        Tls { ca: self.tls_ca.clone(), own }
    }

    /// How a database of this process is opened.
    pub(crate) fn opening(&self) -> Opening {
        let directory = match &self.cache {
            None => default_cache_directory(),
            Some(CacheAt::Off) => None,
            Some(CacheAt::Directory(directory)) => Some(directory.clone()),
        };
        let usual = Opening::default();
        Opening {
            read_only: self.read_only,
            sync: self.sync.unwrap_or(usual.sync),
            take_over: self.take_over,
            durability: self.durability.map_or(usual.durability, Durability::from),
            discard_local: self.discard_local,
            cache: Cache { directory, bytes_max: self.cache_size.unwrap_or(usual.cache.bytes_max) },
            column_cache: self.column_cache,
            memory_limit: self.memory_limit,
            upkeep: !self.no_upkeep,
        }
    }

    /// That no option is for another sort of root.
    fn check(&self) -> Result<(), clap::Error> {
        let conflict = |message: &str| Err(misused(ErrorKind::ArgumentConflict, message));
        let encrypts = self.tls_ca.is_some() || self.tls_certificate.is_some();
        let caches = self.cache.is_some() || self.cache_size.is_some();
        let journals = self.durability.is_some() || self.discard_local;
        // What cannot be read as a root is refused, in its own words, when it is opened.
        let root = Root::parse(&self.root).ok().filter(|_| self.server.is_none());
        match (&self.server, &root) {
            (Some(_), _) | (_, Some(Root::Path(_) | Root::Memory)) if self.take_over || caches => {
                return conflict("--take-over and --cache… are for a bucket: cairn s3://bucket/prefix");
            }
            (Some(_), _) | (_, Some(Root::Path(_) | Root::Memory)) if journals => {
                return conflict(
                    "--durability and --discard-local are for a bucket: cairn s3://bucket/prefix",
                );
            }
            (_, Some(Root::Store(_))) if self.sync.is_some() => {
                return conflict(
                    "--sync is for a directory; in a bucket it is --durability that says when a commit is acknowledged",
                );
            }
            _ if self.read_only && journals => {
                return conflict(
                    "--durability and --discard-local are for writing, and --read-only never writes",
                );
            }
            _ if self.read_only && self.take_over => {
                return conflict("--take-over is for writing, and --read-only never writes");
            }
            _ if self.cache == Some(CacheAt::Off) && self.cache_size.is_some() => {
                return conflict("--cache off keeps nothing, so that --cache-size has no meaning");
            }
            _ => {}
        }
        match &self.server {
            None if self.user.is_some() || encrypts => {
                conflict("--user and --tls-… are for a server: cairn grpc://host:port --user NAME")
            }
            Some(_) if self.read_only || self.sync.is_some() || self.column_cache.is_some() => conflict(
                "--read-only, --sync and --column-cache are for a database opened here; a server is given them when it starts",
            ),
            Some(_) if self.memory_limit.is_some() || self.no_upkeep => conflict(
                "--memory-limit and --no-upkeep are for a database opened here; a server is given them when it starts",
            ),
            Some(server) if encrypts && !server.is_secure => {
                conflict("--tls-… needs an address that begins with grpc+tls://")
            }
            _ if self.user.as_ref().is_some_and(|user| user.contains(':')) => {
                conflict("the name of a user holds no colon")
            }
            _ => Ok(()),
        }
    }

    fn read(matches: &ArgMatches) -> Result<(Self, Vec<Source>), clap::Error> {
        let mut args = Self::from_arg_matches(matches)?;
        args.server =
            Address::parse(&args.root).map_err(|message| misused(ErrorKind::ValueValidation, &message))?;
        args.check()?;
        let mut sources: Vec<(usize, Source)> = Vec::new();
        let places = |id| matches.indices_of(id).into_iter().flatten();
        sources.extend(places("commands").zip(args.commands.iter().cloned().map(Source::Command)));
        sources.extend(places("files").zip(args.files.iter().map(|path| match path.to_str() {
            Some("-") => Source::Stdin,
            _ => Source::File(path.clone()),
        })));
        sources.sort_by_key(|(place, _)| *place);
        let sources = sources.into_iter().map(|(_, source)| source).collect();
        Ok((args, sources))
    }
}

fn misused(kind: ErrorKind, message: &str) -> clap::Error {
    Args::command().error(kind, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<(Args, Vec<Source>), clap::Error> {
        let matches =
            Args::command().try_get_matches_from(std::iter::once("cairn").chain(line.iter().copied()))?;
        Args::read(&matches)
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let (args, sources) = read(&[]).unwrap();
        assert_eq!(args.root, "./cairn-data");
        assert_eq!((args.format, args.on_error, args.sync), (None, OnError::Stop, None));
        assert!(args.server.is_none());
        assert!(sources.is_empty() && !args.quiet && !args.read_only && args.subcommand.is_none());
        let opening = args.opening();
        assert_eq!((opening.read_only, opening.sync, opening.take_over), (false, Sync::Full, false));
        assert_eq!(opening.cache.bytes_max, 10 << 30);
        assert_eq!(opening.cache.directory, default_cache_directory());
        assert_eq!(opening.column_cache, None);
        let size = |text: &str| {
            read(&["./notes", "--column-cache", text]).map(|(args, _)| args.opening().column_cache)
        };
        assert_eq!((size("512 MiB").unwrap(), size("off").unwrap()), (Some(512 << 20), Some(0)));
        assert!(size("much").is_err());
        assert_eq!((opening.memory_limit, opening.upkeep), (None, true));
        let opening = read(&["./notes", "--memory-limit", "2 GiB", "--no-upkeep"]).unwrap().0.opening();
        assert_eq!((opening.memory_limit, opening.upkeep), (Some(2 << 30), false));
        for line in [["./notes", "--memory-limit", "0"], ["grpc://localhost:1", "--memory-limit", "2 GiB"]] {
            assert!(read(&line).is_err(), "{line:?}");
        }
        assert!(read(&["grpc://localhost:1", "--no-upkeep"]).is_err());
    }

    #[test]
    fn buckets_are_taken_over_and_cached() {
        let opening = |line: &[&str]| read(line).unwrap().0.opening();
        assert!(!opening(&["s3://bucket/notes"]).take_over);
        assert!(opening(&["gs://bucket", "--take-over"]).take_over);
        assert!(opening(&["az://container/x", "--read-only"]).read_only);
        let cache = opening(&["s3://bucket/notes", "--cache", "/fast", "--cache-size", "512 MiB"]).cache;
        assert_eq!((cache.directory, cache.bytes_max), (Some("/fast".into()), 512 << 20));
        assert_eq!(opening(&["s3://bucket/notes", "--cache", "off"]).cache.directory, None);
    }

    #[test]
    fn a_bucket_may_have_a_journal_here() {
        let opening = |line: &[&str]| read(line).unwrap().0.opening();
        let usual = opening(&["s3://bucket/notes"]);
        assert_eq!((usual.durability, usual.discard_local), (Durability::Store, false));
        assert_eq!(opening(&["s3://bucket/notes", "--durability", "local"]).durability, Durability::Local);
        assert!(opening(&["s3://bucket/notes", "--discard-local"]).discard_local);
    }

    #[test]
    fn sources_keep_their_order() {
        let (args, sources) = read(&[":memory:", "-c", "a", "-f", "b.sql", "-c", "c", "-f", "-"]).unwrap();
        assert_eq!(args.root, ":memory:");
        assert_eq!(
            sources,
            [
                Source::Command("a".into()),
                Source::File("b.sql".into()),
                Source::Command("c".into()),
                Source::Stdin,
            ]
        );
    }

    #[test]
    fn demo_takes_a_directory() {
        let dir = |line: &[&str]| match read(line).unwrap().0.subcommand {
            Some(Task::Demo { dir }) => dir,
            _ => String::new(),
        };
        assert_eq!(dir(&["demo"]), "./cairn-demo");
        assert_eq!(dir(&["demo", "x"]), "x");
        assert_eq!(read(&["./demo"]).unwrap().0.root, "./demo");
    }

    #[test]
    fn files_are_verified_and_dumped() {
        assert!(matches!(
            read(&["verify", "x", "--table", "t"]).unwrap().0.subcommand,
            Some(Task::Verify(_))
        ));
        assert!(matches!(read(&["dump", "wal", "x", "--json"]).unwrap().0.subcommand, Some(Task::Dump(_))));
        assert!(read(&["dump", "page", "x"]).is_err());
        for (line, asked) in [
            (&["verify", "x"][..], false),
            (&["verify", "x", "--repair"][..], true),
            (&["verify", "x", "--repair", "--dry-run"][..], true),
            (&["verify", "x", "--repair", "--accept-loss"][..], true),
        ] {
            let Some(Task::Verify(args)) = read(line).unwrap().0.subcommand else { panic!("{line:?}") };
            assert_eq!(args.repair.is_asked(), asked, "{line:?}");
        }
        assert!(read(&["verify", "x", "--dry-run"]).is_err(), "of what?");
        assert!(read(&["verify", "x", "--accept-loss"]).is_err());
        assert!(read(&["verify"]).is_err());
        assert!(matches!(read(&["verify", "x", "--deep"]).unwrap().0.subcommand, Some(Task::Verify(_))));
    }

    #[test]
    fn wrong_usage() {
        for line in [
            &["--format", "xml"][..],
            &["--sync", "sometimes"],
            &["--sync", "interval:0"],
            &["--on-error", "panic"],
            &["a", "b"],
            &["--nonsense"],
            &["grpc://localhost:x"],
            &["grpc://anna:secret@localhost:1"],
            &["grpc://localhost", "--read-only"],
            &["grpc://localhost", "--sync", "off"],
            &["grpc://localhost", "--column-cache", "off"],
            &["grpc://localhost", "--tls-ca", "ca.pem"],
            &["grpc+tls://localhost", "--tls-certificate", "c.pem"],
            &["grpc://localhost", "--password-file", "p"],
            &["./notes", "--user", "anna"],
            &["s3://bucket/notes", "--user", "anna"],
            &["s3://bucket/notes", "--sync", "full"],
            &["s3://bucket/notes", "--read-only", "--take-over"],
            &["s3://bucket/notes", "--cache", "off", "--cache-size", "1 GiB"],
            &["s3://bucket/notes", "--durability", "sometimes"],
            &["s3://bucket/notes", "--read-only", "--durability", "local"],
            &["s3://bucket/notes", "--read-only", "--discard-local"],
            &["./notes", "--durability", "local"],
            &["grpc://localhost", "--discard-local"],
            &["s3://bucket/notes", "--cache", ""],
            &["s3://bucket/notes", "--cache-size", "0"],
            &["s3://bucket/notes", "--cache-size", "much"],
            &["./notes", "--take-over"],
            &["./notes", "--cache", "off"],
            &[":memory:", "--cache-size", "1 GiB"],
            &["grpc://localhost", "--take-over"],
            &["grpc://localhost", "--cache", "/fast"],
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
        assert_eq!(
            read(&["--sync", "interval:250"]).unwrap().0.sync,
            Some(Sync::Interval(Duration::from_millis(250)))
        );
        assert!(!read(&["grpc://anna:secret@localhost:1"]).unwrap_err().to_string().contains("secret"));
    }
}
