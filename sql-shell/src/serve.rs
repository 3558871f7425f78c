//! `cairn serve`: the database for other programs.
//!
//! Owns: the subcommand's arguments, one flag for each key of the configuration; what is said when it listens; signals; which threads
//! answer clients and which run statements. Does not own: answering clients (`cairn_server`). SIGTERM, SIGHUP and Ctrl-C end it in
//! order, with exit code 0; a second Ctrl-C at once.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{Engine, Result, Root};
use cairn_server::config::{Config, FILE_VARIABLE, KEYS};
use cairn_server::{Server, ServerOptions};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::args::VARIABLES;
use crate::interrupt::EXIT_INTERRUPTED;
use crate::terminal::say;
use crate::{Runtimes, fail, fail_with, on_threads};

/// How long after `drain_max` statements may keep all their threads, before the process leaves without closing.
const UNYIELDING_MAX: Duration = Duration::from_secs(5);

const ABOUT: &str = "\
Serve a database to other programs: Flight SQL (ADBC, JDBC, ODBC) and HTTP.

Every option below is also a key of the file given by --config (flight-listen: [flight] listen = …) and a
variable of the environment (CAIRN_FLIGHT_LISTEN). Flags win over variables, variables over the file.";

/// The arguments of `cairn serve`.
#[derive(Clone, Debug)]
pub(crate) struct ServeArgs {
    root: String,
    file: Option<PathBuf>,
    /// Keys given as flags, with their values.
    flags: Vec<(&'static str, String)>,
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let root = Arg::new("root").value_name("ROOT").default_value("./cairn-data");
        let file = Arg::new("config").long("config").value_name("FILE").env(FILE_VARIABLE);
        let command = command
            .long_about(ABOUT)
            .arg(root.help(
                "Directory of the database, made when there is none; `s3://bucket/prefix`, `gs://…` and `az://…` are in a bucket; `:memory:` keeps nothing",
            ))
            .arg(file.value_parser(value_parser!(PathBuf)).help("TOML file to read keys from"));
        KEYS.iter().fold(command, |command, key| {
            let help = format!("{} [default: {}]", key.help, key.default_text());
            let arg = Arg::new(key.name).long(key.flag()).value_name(key.value).help(help);
            // A flag alone says yes.
            command.arg(if key.value == "true, false" {
                arg.num_args(0..=1).default_missing_value("true").require_equals(true)
            } else {
                arg
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let root = matches.get_one::<String>("root").cloned();
        let given = |key: &cairn_server::config::Key| {
            matches.get_one::<String>(key.name).map(|value| (key.name, value.clone()))
        };
        Ok(Self {
            root: root.ok_or_else(|| clap::Error::new(ErrorKind::MissingRequiredArgument))?,
            file: matches.get_one::<PathBuf>("config").cloned(),
            flags: KEYS.iter().filter_map(given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Serves until a signal; the exit code.
pub(crate) fn run(args: &ServeArgs) -> u8 {
    let flags: Vec<(&str, &str)> = args.flags.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let variables =
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    // A user's shell may be set up where a server is started, too.
    let variables = variables.filter(|(name, _): &(String, String)| !VARIABLES.contains(&name.as_str()));
    let config = match Config::read(args.file.as_deref(), variables, &flags) {
        Ok(config) => config,
        Err(error) => return fail_with(error),
    };
    on_threads(Runtimes::to_serve(config.threads), |runtimes| {
        serve(runtimes, args, config).unwrap_or_else(fail_with)
    })
}

fn serve(runtimes: &Runtimes, args: &ServeArgs, config: Config) -> Result<u8> {
    let root = Root::parse(&args.root)?;
    config.check_root(&root)?;
    let Config { server: mut options, engine, threads: _ } = config;
    let work = runtimes.work();
    let engine = work.block_on(Engine::open(root, engine))?;
    if matches!(engine.database().root(), Root::Store(_)) {
        for note in engine.database().notes() {
            say(&format!("note: {note}"));
        }
    }
    if let Some(note) = work.block_on(engine.damaged_settings()) {
        say(&format!("note: {note}"));
    }
    // What answers clients goes on whatever statements do.
    options.limits.threads = Some(work.clone());
    let server = runtimes.block_on(Server::bind(Arc::clone(&engine), options.clone()))?;
    greet(&args.root, &server, &options);
    if !work.block_on(engine.has_users())? {
        tell_first_user(&server, &options);
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = runtimes.block_on(async {
        let mut signals = Signals::listen()?;
        let mut serving = tokio::spawn(server.run(async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        }));
        tokio::select! {
            ended = &mut serving => return Ok(Some(ended)),
            () = signals.next() => say("stopping: running statements may end; again to leave at once"),
        }
        // Nobody listens when the server has just failed.
        let _ = stop.send(());
        tokio::select! {
            ended = &mut serving => Ok::<_, io::Error>(Some(ended)),
            () = signals.next() => Ok(None),
        }
    });
    let ended = match ended {
        Ok(Some(Ok(ended))) => ended,
        Ok(Some(Err(error))) => return Ok(fail(&format!("the server ended: {error}"))),
        // What is durable stays so; the next opening does the rest.
        Ok(None) => return Ok(EXIT_INTERRUPTED),
        Err(error) => return Ok(fail(&format!("signals can't be received: {error}"))),
    };
    // Statements that never yield can't be ended, and nothing is closed on threads that they keep.
    let free = work.spawn(async {});
    if runtimes.block_on(async { tokio::time::timeout(UNYIELDING_MAX, free).await.is_err() }) {
        return Ok(EXIT_INTERRUPTED);
    }
    let closed = work.block_on(engine.close());
    ended.and(closed).map(|()| 0)
}

/// Says where it listens and how to get there.
fn greet(root: &str, server: &Server, options: &ServerOptions) {
    let secure = options.tls.is_some();
    say(&format!("cairn {} serves {root}", env!("CARGO_PKG_VERSION")));
    if let Some(address) = server.flight_address() {
        let scheme = if secure { "grpc+tls" } else { "grpc" };
        say(&format!("Flight SQL: {scheme}://{address}"));
        say(&format!("  shell:  cairn {scheme}://{address}"));
        say(&format!("  Python: adbc_driver_flightsql.dbapi.connect(\"{scheme}://{address}\")"));
        let encryption = if secure { "true" } else { "false" };
        say(&format!("  JDBC:   jdbc:arrow-flight-sql://{address}?useEncryption={encryption}"));
    }
    if let Some(address) = server.http_address() {
        let scheme = if secure { "https" } else { "http" };
        say(&format!("HTTP:       {scheme}://{address}/v1/sql"));
    }
    if options.insecure {
        let open = |address: SocketAddr| !address.ip().is_loopback();
        if [server.flight_address(), server.http_address()].into_iter().flatten().any(open) {
            say("warning: --insecure lets everybody who reaches these addresses do everything");
        }
    }
}

/// Says how the first user is made, from when on everybody has to log in.
fn tell_first_user(server: &Server, options: &ServerOptions) {
    let secure = options.tls.is_some();
    let create = "CREATE USER admin SUPERUSER PASSWORD '…'";
    say(
        "There are no users: whoever reaches the server may do everything. The first user ends that. To make it, type",
    );
    match (server.flight_address(), server.http_address()) {
        (Some(address), _) => {
            say(&format!("  cairn {}://{address}", if secure { "grpc+tls" } else { "grpc" }));
            say(&format!("  {create};"));
        }
        (None, Some(address)) => {
            let scheme = if secure { "https" } else { "http" };
            say(&format!(
                "  curl {scheme}://{address}/v1/sql --json '{{\"sql\": \"{}\"}}'",
                create.replace('\'', "$$")
            ));
        }
        (None, None) => {}
    }
}

/// Every signal that asks to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
