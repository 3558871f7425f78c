//! Carrying out statements and commands, typed or from a script.
//!
//! Owns: the settings of the shell (format, times, where results go) and what is said about each statement. Results go to
//! the sink; errors, notes and times go to standard error. Does not own: reading lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::time::Instant;

use cairn_engine::text::RowWriter;

use crate::args::{OnError, Source};
use crate::command::{self, Command};
use crate::connection::Connection;
use crate::execution::{Event, Execution};
use crate::format::{self, Format};
use crate::interrupt::Interrupts;
use crate::progress::ProgressLine;
use crate::quantity;
use crate::report;
use crate::script::{Piece, Splitter, Statement};
use crate::sink::Sink;
use crate::style::{Paint, Style};
use crate::terminal::{say, say_text};

/// Rows a box shows unless `.maxrows` says otherwise.
const ROWS_SHOWN_MAX: usize = 1000;
/// Files that may read each other by `.read`.
const READ_DEPTH_MAX: usize = 16;

const LIST_TABLES: &str =
    "SELECT \"schema\", name, kind, rows, bytes + hot_bytes AS bytes FROM system.tables ORDER BY 1, 2";
const LIST_COLUMNS: &str = "SELECT table_schema AS \"schema\", table_name AS \"table\", name AS \"column\", \"type\", \
     nullable FROM system.columns ORDER BY table_schema, table_name, position";
const LIST_INDEXES: &str = "SELECT table_schema AS \"schema\", table_name AS \"table\", index_name AS \"index\", \
     column_name AS \"column\", metric, state, concat(rows_covered, ' of ', rows) AS covered FROM system.indexes \
     ORDER BY 1, 2, 3";

/// How a statement, command or script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Well.
    Well,
    /// With an error, which has been shown.
    Failed,
    /// With an error after which there is no session to go on in, which has been shown.
    Lost,
    /// By Ctrl-C.
    Cancelled,
    /// Nobody reads the output any more.
    Unread,
    /// `.exit`.
    Exit(u8),
}

/// How the shell behaves from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) on_error: OnError,
    pub(crate) timer: bool,
}

/// The shell.
pub(crate) struct Shell {
    connection: Connection,
    behaviour: Behaviour,
    rows_shown_max: usize,
    sink: Sink,
    width: Option<usize>,
    interrupts: Interrupts,
    reading: usize,
}

impl Shell {
    /// A shell that writes to standard output, `width` columns wide when that is a terminal.
    pub(crate) fn new(
        connection: Connection,
        behaviour: Behaviour,
        interrupts: Interrupts,
        width: Option<usize>,
    ) -> Self {
        let (sink, rows_shown_max) = (Sink::stdout(), ROWS_SHOWN_MAX);
        Self { connection, behaviour, rows_shown_max, sink, width, interrupts, reading: 0 }
    }

    /// The terminal has this many columns now.
    pub(crate) fn set_width(&mut self, width: Option<usize>) {
        self.width = width;
    }

    /// Runs everything from `source`.
    pub(crate) async fn run_source(&mut self, source: &Source) -> Ended {
        match source {
            Source::Command(sql) => self.run_lines(&mut sql.as_bytes(), None).await,
            Source::Stdin => self.run_lines(&mut io::stdin().lock(), Some("standard input")).await,
            Source::File(path) => self.run_file(&path.to_string_lossy()).await,
        }
    }

    /// Runs one piece; `source` names the file it is from.
    pub(crate) async fn run_piece(&mut self, piece: &Piece, source: Option<&str>) -> Ended {
        match piece {
            Piece::Statement(statement) => self.run_statement(statement, source).await,
            Piece::Command { text, .. } => match Command::parse(text) {
                Ok(command) => self.run_command(command).await,
                Err(message) => self.fail(&message),
            },
        }
    }

    async fn run_file(&mut self, path: &str) -> Ended {
        if self.reading >= READ_DEPTH_MAX {
            return self.fail(&format!(
                "{path} is read inside {READ_DEPTH_MAX} other files; files may not read themselves"
            ));
        }
        match File::open(path) {
            Err(error) => self.fail(&format!("{path} can't be read: {error}")),
            Ok(file) => {
                self.reading += 1;
                let ended = Box::pin(self.run_lines(&mut BufReader::new(file), Some(path))).await;
                self.reading -= 1;
                ended
            }
        }
    }

    /// Runs a script line by line. A failure stops it unless errors are to be passed over.
    async fn run_lines(&mut self, lines: &mut dyn BufRead, source: Option<&str>) -> Ended {
        let mut splitter = Splitter::default();
        let mut overall = Ended::Well;
        let mut line = Vec::new();
        loop {
            line.clear();
            let name = source.unwrap_or("the command");
            let pieces = match lines.read_until(b'\n', &mut line) {
                Err(error) => return self.fail(&format!("{name} can't be read: {error}")),
                Ok(0) => splitter.finish().into_iter().collect(),
                Ok(_) => match std::str::from_utf8(&line) {
                    Err(_) => return self.fail(&format!("{name} is not UTF-8 text")),
                    Ok(text) => {
                        splitter.push_line(text.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']))
                    }
                },
            };
            for piece in &pieces {
                match self.run_piece(piece, source).await {
                    Ended::Well => {}
                    Ended::Failed if self.behaviour.on_error == OnError::Continue => overall = Ended::Failed,
                    ended => return ended,
                }
            }
            if line.is_empty() {
                return overall;
            }
        }
    }

    async fn run_command(&mut self, command: Command) -> Ended {
        match command {
            Command::Help => return self.print(&command::help()),
            Command::Tables => return self.run_sql(LIST_TABLES).await,
            Command::Schema(None) => return self.run_sql(LIST_COLUMNS).await,
            Command::Schema(Some(table)) => return self.run_sql(&format!("DESCRIBE {table}")).await,
            Command::Indexes => return self.run_sql(LIST_INDEXES).await,
            Command::Functions => return self.run_sql("SELECT * FROM system.functions").await,
            Command::Jobs => return self.run_sql("SHOW JOBS").await,
            Command::Read(path) => return self.run_file(&path).await,
            Command::Exit(code) => return Ended::Exit(code),
            Command::Mode(None) => return self.print(&format!("{}\n", self.behaviour.format.name())),
            Command::Mode(Some(format)) => self.behaviour.format = format,
            Command::Expanded => {
                let vertical = self.behaviour.format == Format::Vertical;
                self.behaviour.format = if vertical { Format::Box } else { Format::Vertical };
            }
            Command::Timer(wanted) => self.behaviour.timer = wanted.unwrap_or(!self.behaviour.timer),
            Command::RowsShown(None) => return self.print(&format!("{}\n", self.rows_shown_max)),
            Command::RowsShown(Some(most)) => self.rows_shown_max = most,
            Command::Output(None) => self.sink = Sink::stdout(),
            Command::Output(Some(path)) => match Sink::file(&path) {
                Ok(sink) => self.sink = sink,
                Err(error) => return self.fail(&format!("{path} can't be written: {error}")),
            },
        }
        Ended::Well
    }

    async fn run_sql(&mut self, sql: &str) -> Ended {
        let statement = Statement { text: sql.to_owned(), line: 1, column: 1 };
        self.run_statement(&statement, None).await
    }

    /// Runs one statement and shows its answer.
    pub(crate) async fn run_statement(&mut self, statement: &Statement, source: Option<&str>) -> Ended {
        let begun = Instant::now();
        let mut progress = ProgressLine::new(&statement.text, self.width);
        let mut execution = Execution::start(&self.connection, &statement.text);
        let mut rows: Option<Box<dyn RowWriter>> = None;
        loop {
            let event = tokio::select! {
                biased;
                () = self.interrupts.next() => {
                    execution.cancel().await;
                    progress.clear();
                    let _ = self.sink.flush();
                    say("cancelled");
                    return Ended::Cancelled;
                }
                event = execution.next() => event,
                () = progress.due() => {
                    progress.draw(&self.connection);
                    continue;
                }
            };
            progress.clear();
            let written = match event {
                None => break,
                Some(Event::Failed(failure)) => {
                    let _ = self.sink.flush();
                    let style = Style::of(&io::stderr());
                    say_text(&report::statement_error(&failure, statement, source, style));
                    return if failure.is_end { Ended::Lost } else { Ended::Failed };
                }
                Some(Event::Rows(schema)) => {
                    let layout = self.sink.layout(self.width, self.rows_shown_max);
                    rows = Some(format::writer(self.behaviour.format, &schema, layout));
                    Ok(())
                }
                Some(Event::Batch(batch)) => match &mut rows {
                    Some(rows) => rows.batch(&batch, &mut self.sink).and_then(|()| self.sink.flush()),
                    None => Ok(()),
                },
                Some(Event::Done { tag, notes }) => self.show_done(&tag, &notes),
            };
            if let Err(error) = written {
                return self.unwritten(&error);
            }
        }
        if let Err(message) = execution.join().await {
            return self.fail(&message);
        }
        let finished =
            rows.map_or(Ok(()), |mut rows| rows.finish(&mut self.sink)).and_then(|()| self.sink.flush());
        if let Err(error) = finished {
            return self.unwritten(&error);
        }
        if self.behaviour.timer {
            let text = format!("time: {}", quantity::duration(begun.elapsed()));
            say(&Style::of(&io::stderr()).paint(Paint::Faint, &text));
        }
        Ended::Well
    }

    fn show_done(&mut self, tag: &str, notes: &[String]) -> io::Result<()> {
        for note in notes {
            say(&format!("note: {note}"));
        }
        if self.behaviour.quiet {
            return Ok(());
        }
        if self.behaviour.format.is_for_programs() || !self.sink.is_stdout() {
            say(tag);
            return Ok(());
        }
        writeln!(self.sink, "{tag}")?;
        self.sink.flush()
    }

    /// Writes text of the shell's own to standard output.
    pub(crate) fn print(&mut self, text: &str) -> Ended {
        match self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush()) {
            Ok(()) => Ended::Well,
            Err(error) => self.unwritten(&error),
        }
    }

    fn fail(&mut self, message: &str) -> Ended {
        let _ = self.sink.flush();
        say_text(&report::plain(message, Style::of(&io::stderr())));
        Ended::Failed
    }

    /// A result could not be written. A reader that went away, as `head` does, is no error.
    fn unwritten(&mut self, error: &io::Error) -> Ended {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Ended::Unread;
        }
        say_text(&report::plain(&format!("the result can't be written: {error}"), Style::of(&io::stderr())));
        Ended::Failed
    }

    /// The database behind it.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Whether a person types at standard input.
pub(crate) fn is_typed() -> bool {
    io::stdin().is_terminal()
}
