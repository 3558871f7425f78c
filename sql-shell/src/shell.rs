//! Carrying out statements and commands, typed or from a script.
//!
//! Owns: the settings of the shell (format, times, where results go) and what is said about each statement. Results go to
//! the sink; errors, notes and times go to standard error. Does not own: reading lines.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;

use crate::args::{OnError, Source};
use crate::chart;
use crate::command::{self, Command, PagerChoice};
use crate::connection::{Answer, Connection};
use crate::execution::{Event, Execution};
use crate::failure::Failure;
use crate::format::{self, Format, Layout, Wishes};
use crate::interrupt::Interrupts;
use crate::kept::Kept;
use crate::names::quoted;
use crate::pager::{Paged, Pager, When};
use crate::progress::ProgressLine;
use crate::quantity;
use crate::report;
use crate::script::{Piece, Splitter, Statement};
use crate::showing::Showing;
use crate::sink::Sink;
use crate::style::{Paint, Style};
use crate::suggest;
use crate::terminal::{Screen, say, say_text};

/// Files that may read each other by `.read`.
const READ_DEPTH_MAX: usize = 16;

const TABLES: &str = "SELECT \"schema\", name, kind, rows, bytes + hot_bytes AS bytes FROM system.tables";
const LIST_COLUMNS: &str = "SELECT table_schema AS \"schema\", table_name AS \"table\", name AS \"column\", \"type\", \
     nullable FROM system.columns ORDER BY table_schema, table_name, position";
const LIST_INDEXES: &str = "SELECT table_schema AS \"schema\", table_name AS \"table\", index_name AS \"index\", \
     column_name AS \"column\", metric, state, concat(rows_covered, ' of ', rows) AS covered FROM system.indexes \
     ORDER BY 1, 2, 3";

/// What becomes of a result besides being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// It is the last result.
    Last,
    /// The same, and it is one of several that go by.
    Watched,
    /// Nothing: the shell's own.
    Nothing,
}

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
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// What it is connected to, as the user wrote it.
    pub(crate) place: String,
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) on_error: OnError,
    pub(crate) timer: bool,
    /// Whether somebody types: only then results are paged.
    pub(crate) typed: bool,
}

/// The shell.
pub(crate) struct Shell {
    connection: Connection,
    behaviour: Behaviour,
    wishes: Wishes,
    pager: Pager,
    sink: Sink,
    /// The next statement writes elsewhere, by `.once`.
    once: Option<Sink>,
    screen: Option<Screen>,
    interrupts: Interrupts,
    reading: usize,
    /// Whether the file runs with which a user sets the shell up.
    starting: bool,
    /// The last statement that was no command's.
    last_statement: Option<Statement>,
    last_result: Option<Kept>,
    /// What was typed.
    history: Vec<String>,
}

impl Shell {
    /// A shell that writes to standard output, which is `screen` when that is a terminal.
    pub(crate) fn new(
        connection: Connection,
        behaviour: Behaviour,
        interrupts: Interrupts,
        screen: Option<Screen>,
    ) -> Self {
        Self {
            connection,
            behaviour,
            wishes: Wishes::default(),
            pager: Pager::from_environment(),
            sink: Sink::stdout(),
            once: None,
            screen,
            interrupts,
            reading: 0,
            starting: false,
            last_statement: None,
            last_result: None,
            history: Vec::new(),
        }
    }

    /// The terminal has this size now.
    pub(crate) fn set_screen(&mut self, screen: Option<Screen>) {
        self.screen = screen;
    }

    /// Results are written so from now on.
    pub(crate) fn set_format(&mut self, format: Format) {
        self.behaviour.format = format;
    }

    /// Whether a script goes on after an error.
    pub(crate) fn goes_on(&self) -> bool {
        self.starting || !self.behaviour.on_error.stops()
    }

    /// Something was typed.
    pub(crate) fn remember(&mut self, typed: String) {
        self.history.push(typed);
    }

    /// The last statement that was run, for an editor.
    pub(crate) fn last_statement(&self) -> Option<&str> {
        self.last_statement.as_ref().map(|statement| statement.text.as_str())
    }

    /// Runs the file with which a user sets the shell up, quietly. What fails in it is shown, and the rest of it runs.
    pub(crate) async fn run_rc(&mut self, path: &Path) -> Ended {
        self.starting = true;
        let ended = self.run_file(&path.to_string_lossy()).await;
        self.starting = false;
        // What it ran is no statement of the session's.
        (self.last_statement, self.last_result) = (None, None);
        ended
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
                    Ended::Failed if self.goes_on() => overall = Ended::Failed,
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
            Command::Help(name) => {
                return match command::help(name.as_deref()) {
                    Some(text) => self.print(&text),
                    None => self.fail(&format!("there is no command {}", name.unwrap_or_default())),
                };
            }
            Command::Tables(like) => {
                return self
                    .run_sql(&format!("{TABLES}{} ORDER BY 1, 2", of_relations(like.as_deref())))
                    .await;
            }
            Command::Views(like) => {
                let views = format!("SELECT * FROM ({TABLES} WHERE kind = 'view') AS views");
                return self
                    .run_sql(&format!("{views}{} ORDER BY 1, 2", of_relations(like.as_deref())))
                    .await;
            }
            Command::Schemas => return self.run_sql("SHOW SCHEMAS").await,
            Command::Describe(None) => return self.run_sql(LIST_COLUMNS).await,
            Command::Describe(Some(table)) => return self.run_sql(&format!("DESCRIBE {table}")).await,
            Command::Schema(table) => return self.show_definitions(table).await,
            Command::Indexes => return self.run_sql(LIST_INDEXES).await,
            Command::Functions(like) => {
                let sql = format!("SELECT * FROM system.functions{}", matching(like.as_deref()));
                return self.run_sql(&sql).await;
            }
            Command::Jobs => return self.run_sql("SHOW JOBS").await,
            Command::Settings => return self.run_sql("SELECT * FROM system.settings").await,
            Command::Users => return self.run_sql("SELECT * FROM system.users").await,
            Command::Show => return self.show_settings(),
            Command::Read(path) => return self.run_file(&path).await,
            Command::Last => return self.show_last(),
            Command::Chart(kind, columns) => return self.show_chart(kind, &columns),
            Command::Watch(every, times) => return self.watch(every, times).await,
            Command::Edit(_) => return self.fail(".edit is for somebody who types"),
            Command::History(last) => return self.show_history(last),
            Command::Print(text) => return self.print(&format!("{text}\n")),
            Command::System(command) => return self.run_system(&command),
            Command::ChangeDirectory(to) => return self.change_directory(to),
            Command::Exit(code) => return Ended::Exit(code),
            Command::Mode(None, _) => return self.print(&format!("{}\n", self.behaviour.format.name())),
            Command::Mode(Some(format), table) => {
                self.behaviour.format = format;
                if let Some(table) = table {
                    self.wishes.insert_into = table.into();
                }
            }
            Command::Expanded => {
                let vertical = self.behaviour.format == Format::Vertical;
                self.behaviour.format = if vertical { Format::Box } else { Format::Vertical };
            }
            Command::Headers(wanted) => self.wishes.headers = wanted.unwrap_or(!self.wishes.headers),
            Command::NullValue(text) => self.wishes.null = text.into(),
            Command::Timer(wanted) => self.behaviour.timer = wanted.unwrap_or(!self.behaviour.timer),
            Command::RowsShown(None) => return self.print(&format!("{}\n", self.wishes.rows_shown_max)),
            Command::RowsShown(Some(most)) => self.wishes.rows_shown_max = most,
            Command::Pager(None) => return self.print(&format!("{}\n", self.pager)),
            Command::Pager(Some(PagerChoice::When(when))) => self.pager.when = when,
            Command::Pager(Some(PagerChoice::Program(command))) => {
                self.pager = Pager { command, when: When::Auto };
            }
            Command::Bail(None) => {
                let text = if self.behaviour.on_error.stops() { "on\n" } else { "off\n" };
                return self.print(text);
            }
            Command::Bail(Some(true)) => self.behaviour.on_error = OnError::Stop,
            Command::Bail(Some(false)) => self.behaviour.on_error = OnError::Continue,
            Command::Output(None) => self.sink = Sink::stdout(),
            Command::Output(Some(path)) => match Sink::file(&path) {
                Ok(sink) => self.sink = sink,
                Err(error) => return self.fail(&format!("{path} can't be written: {error}")),
            },
            Command::Once(path) => match Sink::file(&path) {
                Ok(sink) => self.once = Some(sink),
                Err(error) => return self.fail(&format!("{path} can't be written: {error}")),
            },
        }
        Ended::Well
    }

    async fn run_sql(&mut self, sql: &str) -> Ended {
        let statement = Statement { text: sql.to_owned(), line: 1, column: 1 };
        self.execute(&statement, None, Keeping::Nothing).await
    }

    /// The statements that make one table or view, or all of them.
    async fn show_definitions(&mut self, table: Option<String>) -> Ended {
        let names = match table {
            Some(name) => Ok(vec![name]),
            None => {
                let list = self.texts("SELECT \"schema\", name FROM system.tables ORDER BY 1, 2").await;
                list.map(|rows| {
                    rows.iter().map(|r| r.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(".")).collect()
                })
            }
        };
        let mut text = String::new();
        let mut failure = names.as_ref().err().cloned();
        for name in names.unwrap_or_default() {
            match self.texts(&format!("SHOW CREATE TABLE {name}")).await {
                Ok(rows) => {
                    let statement = rows.into_iter().next().and_then(|row| row.into_iter().nth(1));
                    text.push_str(&format!("{};\n", statement.unwrap_or_default()));
                }
                Err(failed) => {
                    failure = Some(failed);
                    break;
                }
            }
        }
        if self.sink.is_terminal() {
            text = format::printable(&text).into_owned();
        }
        match (self.print(&text), failure) {
            (Ended::Well, Some(failure)) => {
                say_text(&report::error(&failure, Style::of(&io::stderr())));
                if failure.is_end { Ended::Lost } else { Ended::Failed }
            }
            (ended, _) => ended,
        }
    }

    /// The few rows of a statement of the shell's own, as texts.
    async fn texts(&self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        let (connection, sql) = (self.connection.clone(), sql.to_owned());
        let reading = connection.clone().spawn(async move {
            match connection.execute(&sql).await? {
                Answer::Rows { batches, notes, .. } => {
                    say_notes(&notes);
                    batches.try_collect::<Vec<_>>().await
                }
                Answer::Done { .. } => Ok(Vec::new()),
            }
        });
        let stopped =
            |error: String| Failure::new("XX000", format!("the statement stopped unexpectedly: {error}"));
        let batches = reading.await.map_err(|error| stopped(error.to_string()))??;
        let mut rows = Vec::new();
        for batch in &batches {
            let columns = cairn_engine::text::exact(batch).map_err(|error| stopped(error.to_string()))?;
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|c| c.value(row).map(Option::unwrap_or_default));
                let values = values.collect::<io::Result<Vec<_>>>();
                rows.push(values.map_err(|error| stopped(error.to_string()))?);
            }
        }
        Ok(rows)
    }

    fn show_settings(&mut self) -> Ended {
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        let transaction = if self.connection.in_transaction() { "open" } else { "none" };
        let lines = [
            ("database", self.behaviour.place.clone()),
            ("transaction", transaction.to_owned()),
            ("version", crate::VERSION.to_owned()),
            ("mode", self.behaviour.format.name().to_owned()),
            ("maxrows", self.wishes.rows_shown_max.to_string()),
            ("headers", on(self.wishes.headers).to_owned()),
            ("nullvalue", self.wishes.null.to_string()),
            ("pager", self.pager.to_string()),
            ("timer", on(self.behaviour.timer).to_owned()),
            ("bail", on(self.behaviour.on_error.stops()).to_owned()),
        ];
        let text: String = lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
        self.print(&text)
    }

    fn show_history(&mut self, last: Option<usize>) -> Ended {
        let from = self.history.len().saturating_sub(last.unwrap_or(usize::MAX));
        let text: String = self.history[from..].iter().map(|typed| format!("{typed}\n")).collect();
        self.on_page(|_, out| out.write_all(text.as_bytes()))
    }

    fn show_last(&mut self) -> Ended {
        let Some(mut kept) = self.last_result.take() else {
            return self.fail("there is no last result");
        };
        let (format, schema) = (self.behaviour.format, kept.schema().clone());
        let ended = self
            .on_page(|layout, out| format::whole(format, &schema, layout, &mut |take| kept.each(take), out));
        self.last_result = Some(kept);
        ended
    }

    fn show_chart(&mut self, kind: chart::Kind, columns: &[String]) -> Ended {
        let Some(mut kept) = self.last_result.take() else {
            return self.fail("there is no last result to draw: run a query first");
        };
        let ended = self
            .on_page(|layout, out| chart::draw(kind, columns, &mut kept, layout.width, layout.style, out));
        self.last_result = Some(kept);
        ended
    }

    /// Writes something of the shell's own to where results go, paged like them.
    fn on_page(&mut self, write: impl FnOnce(Layout, &mut dyn Write) -> io::Result<()>) -> Ended {
        let (layout, paged) = self.place();
        let sink = self.once.as_mut().unwrap_or(&mut self.sink);
        let written = match paged {
            None => write(layout, sink).and_then(|()| sink.flush()),
            Some(mut paged) => match write(layout, &mut paged) {
                Ok(()) => paged.finish(sink),
                Err(error) => {
                    let left = paged.is_running() && error.kind() == io::ErrorKind::BrokenPipe;
                    paged.leave();
                    if left { Ok(()) } else { Err(error) }
                }
            },
        };
        self.once = None;
        self.interrupts.forget();
        match written {
            Ok(()) => Ended::Well,
            Err(error) if error.kind() == io::ErrorKind::Other => self.fail(&error.to_string()),
            Err(error) => self.unwritten(&error),
        }
    }

    /// How a result is laid out, and the pager that it may need.
    fn place(&self) -> (Layout, Option<Paged>) {
        let sink = self.once.as_ref().unwrap_or(&self.sink);
        let layout = sink.layout(self.screen.map(|screen| screen.columns), self.wishes.clone());
        let screen = self.screen.filter(|_| self.behaviour.typed && sink.is_terminal());
        let paged = screen.and_then(|screen| self.pager.begin((screen.columns, screen.lines)));
        (Layout { scrolls: paged.is_some(), ..layout }, paged)
    }

    async fn watch(&mut self, every: Duration, times: Option<u64>) -> Ended {
        let Some(statement) = self.last_statement.clone() else {
            return self.fail("there is no last statement to watch: run one first");
        };
        let mut run = 0;
        loop {
            run += 1;
            if !self.behaviour.quiet {
                let text = format!("every {}, run {}", quantity::duration(every), quantity::count(run));
                say(&Style::of(&io::stderr()).paint(Paint::Faint, &text));
            }
            match self.execute(&statement, None, Keeping::Watched).await {
                Ended::Well => {}
                ended => return ended,
            }
            if times.is_some_and(|times| run >= times) {
                return Ended::Well;
            }
            tokio::select! {
                biased;
                () = self.interrupts.next() => return Ended::Cancelled,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    fn run_system(&mut self, command: &str) -> Ended {
        let _ = self.sink.flush();
        let status = std::process::Command::new("sh").arg("-c").arg(command).status();
        self.interrupts.forget();
        match status {
            Ok(status) if status.success() => Ended::Well,
            Ok(status) => self.fail(&format!("the command ended with {status}")),
            Err(error) => self.fail(&format!("sh can't be run: {error}")),
        }
    }

    fn change_directory(&mut self, to: Option<String>) -> Ended {
        let Some(to) = to.or_else(|| env::var("HOME").ok()) else {
            return self.fail("there is no HOME to go to");
        };
        match env::set_current_dir(&to) {
            Ok(()) => Ended::Well,
            Err(error) => self.fail(&format!("{to} is no directory to work in: {error}")),
        }
    }

    /// Runs one statement and shows its answer.
    pub(crate) async fn run_statement(&mut self, statement: &Statement, source: Option<&str>) -> Ended {
        self.last_statement = Some(statement.clone());
        let ended = self.execute(statement, source, Keeping::Last).await;
        self.once = None;
        ended
    }

    async fn execute(&mut self, statement: &Statement, source: Option<&str>, keeping: Keeping) -> Ended {
        let begun = Instant::now();
        let width = self.screen.map(|screen| screen.columns);
        let mut progress = ProgressLine::new(&statement.text, width);
        let mut execution = Execution::start(&self.connection, &statement.text);
        let mut showing: Option<Showing> = None;
        let mut remarks: Vec<String> = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.interrupts.next() => {
                    execution.cancel().await;
                    progress.clear();
                    self.abandon(showing);
                    say_notes(&remarks);
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
                    self.abandon(showing);
                    say_notes(&remarks);
                    let failure = suggest::with_keyword(failure, &statement.text);
                    let style = Style::of(&io::stderr());
                    say_text(&report::statement_error(&failure, statement, source, style));
                    return if failure.is_end { Ended::Lost } else { Ended::Failed };
                }
                Some(Event::Rows { schema, notes }) => {
                    remarks = notes;
                    if keeping != Keeping::Nothing {
                        self.last_result = None;
                    }
                    let (layout, paged) = self.place();
                    // What is watched goes by, and is not stopped by a program that waits for a key.
                    let paged = paged.filter(|_| keeping != Keeping::Watched);
                    let layout = Layout { scrolls: paged.is_some(), ..layout };
                    // Scripts write for programs as fast as they can.
                    let keeps = self.behaviour.typed || !self.behaviour.format.is_for_programs();
                    let kept = (keeps && keeping != Keeping::Nothing).then(|| Kept::new(&schema));
                    let rows = format::writer(self.behaviour.format, &schema, layout);
                    showing = Some(Showing::new(rows, paged, kept));
                    Ok(())
                }
                Some(Event::Batch(batch)) => match &mut showing {
                    Some(showing) => showing.batch(&batch, self.once.as_mut().unwrap_or(&mut self.sink)),
                    None => Ok(()),
                },
                Some(Event::Done { tag, notes }) => self.show_done(&tag, &notes),
            };
            if let Err(error) = written {
                let ended = self.stopped(showing, &error);
                say_notes(&remarks);
                return ended;
            }
        }
        if let Err(message) = execution.join().await {
            return self.fail(&message);
        }
        if let Some(showing) = showing {
            let is_paged = showing.is_paged();
            match showing.finish(self.once.as_mut().unwrap_or(&mut self.sink)) {
                Ok(kept) if keeping != Keeping::Nothing => self.last_result = kept,
                Ok(_) => {}
                Err(error) if is_paged && error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => return self.unwritten(&error),
            }
            if is_paged {
                self.interrupts.forget();
            }
            say_notes(&remarks);
        }
        if self.behaviour.timer && !self.starting {
            let text = format!("time: {}", quantity::duration(begun.elapsed()));
            say(&Style::of(&io::stderr()).paint(Paint::Faint, &text));
        }
        Ended::Well
    }

    /// Shows what came of a result before its statement ended early.
    fn abandon(&mut self, showing: Option<Showing>) {
        let sink = self.once.as_mut().unwrap_or(&mut self.sink);
        match showing {
            Some(showing) => showing.abandon(sink),
            None => {
                let _ = sink.flush();
            }
        }
    }

    /// Rows could not be written. A user who left the pager has seen enough.
    fn stopped(&mut self, showing: Option<Showing>, error: &io::Error) -> Ended {
        let left = showing.as_ref().is_some_and(Showing::is_paged);
        self.abandon(showing);
        if left && error.kind() == io::ErrorKind::BrokenPipe {
            self.interrupts.forget();
            return Ended::Well;
        }
        self.unwritten(error)
    }

    fn show_done(&mut self, tag: &str, notes: &[String]) -> io::Result<()> {
        say_notes(notes);
        if self.behaviour.quiet || self.starting {
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

fn say_notes(notes: &[String]) {
    for note in notes {
        // A server may have written it, or somebody who named a table.
        say(&format!("note: {}", format::printable(note)));
    }
}

/// The condition on names that `like` is.
fn matching(like: Option<&str>) -> String {
    like.map_or_else(String::new, |like| format!(" WHERE name LIKE {}", pattern(like)))
}

/// The same on tables and views, whose schema may stand before it.
fn of_relations(like: Option<&str>) -> String {
    match like.and_then(|like| like.split_once('.')) {
        Some((schema, name)) => {
            format!(" WHERE \"schema\" LIKE {} AND name LIKE {}", pattern(schema), pattern(name))
        }
        None => matching(like),
    }
}

/// A text of SQL; `*` and `?` are for those who come from psql or a file system.
fn pattern(like: &str) -> String {
    format!("'{}'", like.replace('\'', "''").replace('*', "%").replace('?', "_"))
}

/// Whether a person types at standard input.
pub(crate) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched() {
        assert_eq!(of_relations(None), "");
        assert_eq!(of_relations(Some("no%")), " WHERE name LIKE 'no%'");
        assert_eq!(of_relations(Some("app.*")), " WHERE \"schema\" LIKE 'app' AND name LIKE '%'");
        assert_eq!(matching(Some("o'r?")), " WHERE name LIKE 'o''r_'");
    }
}
