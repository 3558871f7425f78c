//! The `cairn` binary: SQL on a directory, in a bucket or at a server, typed or from scripts.
//!
//! # Life of a line
//! 1. `args` says where statements come from: a person (`repl`, with `editor`, `complete`, `highlight`, `history`) or a
//!    script.
//! 2. `script` cuts the text into statements and commands (`lex`).
//! 3. `shell` runs each: a `command` itself, a statement through `connection` in a task of its own (`execution`), while
//!    `progress` and `interrupt` watch.
//! 4. `format` writes the rows to the `sink`, by way of the `pager` where somebody types, and `kept` has them for `.last` and `chart`
//!    (`showing`); `report` and `suggest` show errors.
//!
//! Standard output holds results; everything else goes to standard error.

mod args;
mod chart;
mod command;
mod complete;
mod connection;
mod demo;
mod dump;
mod edit;
mod editor;
mod execution;
mod failure;
mod format;
mod highlight;
mod history;
mod interrupt;
mod kept;
mod keywords;
mod lex;
mod names;
mod pager;
mod progress;
mod quantity;
mod rc;
mod repair;
mod repl;
mod report;
mod script;
mod serve;
mod shell;
mod showing;
mod sink;
mod style;
mod suggest;
mod terminal;
mod vectors;
mod verify;

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use args::{Args, Source, Task};
use connection::{Connection, Found};
use failure::Failure;
use format::Format;
use interrupt::{EXIT_INTERRUPTED, Interrupts, close_on_terminate};
use shell::{Behaviour, Ended, Shell, is_typed};
use style::Style;
use terminal::{say, say_text};

// Queries allocate many short-lived buffers from several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which Cairn this is: the version and, where it was built from a repository, the commit and its date.
pub(crate) const VERSION: &str = env!("BUILD_VERSION");

/// Threads that answer clients, at least: one may encode rows.
const ANSWERING_MIN: usize = 2;
/// Deep expressions are parsed and planned by recursion.
const WORKER_STACK_BYTES: usize = 8 << 20;
/// How long the process waits for work that was cancelled.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (args, sources) = Args::from_process();
    ExitCode::from(match &args.subcommand {
        Some(Task::Demo { dir }) => on_threads(Runtimes::start(), |runtimes| demo::run(runtimes, dir)),
        Some(Task::Serve(args)) => serve::run(args),
        Some(Task::Verify(args)) => on_threads(Runtimes::start(), |runtimes| verify::run(runtimes, args)),
        Some(Task::Dump(args)) => dump::run(args),
        None => on_threads(Runtimes::start(), |runtimes| run(runtimes, &args, sources)),
    })
}

/// Runs `task` on what was started; its exit code.
pub(crate) fn on_threads(started: io::Result<Runtimes>, task: impl FnOnce(&Runtimes) -> u8) -> u8 {
    let runtimes = match started {
        Ok(runtimes) => runtimes,
        Err(error) => return fail(&format!("threads can't be started: {error}")),
    };
    let code = task(&runtimes);
    let Runtimes { shell, work } = runtimes;
    work.shutdown_timeout(SHUTDOWN_WAIT);
    shell.shutdown_timeout(SHUTDOWN_WAIT);
    code
}

/// Two sets of threads, so that a busy statement never keeps the shell from hearing a signal, nor a client from its answer.
pub(crate) struct Runtimes {
    /// Signals, progress and output; clients.
    shell: Runtime,
    /// The database and its statements.
    work: Runtime,
}

impl Runtimes {
    /// For one shell.
    fn start() -> io::Result<Self> {
        Self::with_workers(1, cores())
    }

    /// For a server whose statements run on `work` threads; None: as many as there are cores. Clients are answered on as many: rows
    /// are encoded and encrypted there.
    pub(crate) fn to_serve(work: Option<usize>) -> io::Result<Self> {
        Self::with_workers(cores().max(ANSWERING_MIN), work.unwrap_or_else(cores))
    }

    fn with_workers(shell: usize, work: usize) -> io::Result<Self> {
        let start = |workers| {
            let mut builder = Builder::new_multi_thread();
            builder.enable_all().worker_threads(workers).thread_stack_size(WORKER_STACK_BYTES).build()
        };
        Ok(Self { shell: start(shell)?, work: start(work)? })
    }

    /// Opens the database and begins to listen to signals; the error is an exit code, its reason shown.
    pub(crate) fn open(
        &self,
        open: impl FnOnce(&Handle) -> Result<Connection, Failure>,
    ) -> Result<(Connection, Interrupts), u8> {
        let connection = open(self.work.handle()).map_err(fail_with)?;
        let _inside = self.shell.enter();
        let interrupts = close_on_terminate(&connection).and_then(|()| Interrupts::listen());
        let interrupts = interrupts.map_err(|error| fail(&format!("signals can't be received: {error}")))?;
        Ok((connection, interrupts))
    }

    /// Where the database works.
    pub(crate) fn work(&self) -> &Handle {
        self.work.handle()
    }

    /// Runs `task` to its end, with signals heard.
    pub(crate) fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        self.shell.block_on(task)
    }

    /// Closes the database; a failure to do so turns success into failure. After Ctrl-C nobody waits for long.
    pub(crate) fn close(&self, connection: &Connection, code: u8) -> u8 {
        if code == EXIT_INTERRUPTED {
            self.block_on(connection.close_in_a_hurry());
            return code;
        }
        match connection.close() {
            Ok(()) => code,
            Err(error) => code.max(fail_with(error)),
        }
    }
}

fn run(runtimes: &Runtimes, args: &Args, mut sources: Vec<Source>) -> u8 {
    let opened = runtimes.open(|work| match &args.server {
        Some(address) => Connection::connect(address, args.login()?, &args.tls(), work),
        None => Connection::open(&args.root, args.opening(), work),
    });
    let (connection, interrupts) = match opened {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    if sources.is_empty() && !is_typed() {
        sources.push(Source::Stdin);
    }
    let typed = sources.is_empty();
    // Also to who wants to be told little: what was dropped is dropped for good.
    for note in connection.notes() {
        say(&format!("note: {note}"));
    }
    if !args.quiet {
        match connection.found() {
            Found::Made => say(&format!("created {}", args.root)),
            Found::Empty => say(&format!("{} is empty; the first change takes it for writing", args.root)),
            Found::Followed if typed => {
                say(&format!("{} is read along; the first change takes it over for writing", args.root));
            }
            Found::Followed | Found::Written => {}
        }
    }
    if typed && !args.quiet {
        let user = args.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
        say(&format!(
            "cairn {} on {}{user}; .help for help, Ctrl-D to leave",
            env!("CARGO_PKG_VERSION"),
            args.root
        ));
    }
    let behaviour = Behaviour {
        place: args.root.clone(),
        format: args.format.unwrap_or(Format::Box),
        quiet: args.quiet,
        on_error: args.on_error,
        timer: typed && !args.quiet,
        typed,
    };
    let mut shell = Shell::new(connection.clone(), behaviour, interrupts, terminal::screen());
    let code = if typed {
        run_typed(&mut shell, runtimes, args)
    } else {
        runtimes.block_on(run_sources(&mut shell, &sources))
    };
    if connection.roll_back() {
        say("the open transaction was rolled back: it had no COMMIT");
    }
    runtimes.close(&connection, code)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Reads the user's own file first; flags and variables win over what it says.
fn run_typed(shell: &mut Shell, runtimes: &Runtimes, args: &Args) -> u8 {
    if let Some(path) = rc::file(args) {
        match runtimes.block_on(shell.run_rc(&path)) {
            Ended::Exit(code) => return code,
            Ended::Well | Ended::Failed | Ended::Lost | Ended::Cancelled | Ended::Unread => {}
        }
        if let Some(format) = args.format {
            shell.set_format(format);
        }
    }
    repl::run(shell, runtimes)
}

async fn run_sources(shell: &mut Shell, sources: &[Source]) -> u8 {
    let mut code = 0;
    for source in sources {
        match shell.run_source(source).await {
            Ended::Well => {}
            Ended::Failed if shell.goes_on() => code = 1,
            Ended::Failed | Ended::Lost => return 1,
            Ended::Cancelled => return EXIT_INTERRUPTED,
            Ended::Unread => return code,
            Ended::Exit(wanted) => return wanted,
        }
    }
    code
}

pub(crate) fn fail_with(failure: impl Into<Failure>) -> u8 {
    say_text(&report::error(&failure.into(), Style::of(&io::stderr())));
    1
}

pub(crate) fn fail(message: &str) -> u8 {
    say_text(&report::plain(message, Style::of(&io::stderr())));
    1
}
