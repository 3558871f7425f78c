//! `cairn demo`: a small real database, six queries on it, and how to go on.
//!
//! Owns: what the demo says. Everything goes through ordinary SQL: CREATE TABLE, COPY, INSERT, CREATE INDEX, SELECT. A demo
//! that was interrupted is completed by the next run, since every table is loaded by one statement, wholly or not at all.

mod digits;
mod notes;
mod queries;
mod tpch;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use cairn_engine::Root;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use tempfile::NamedTempFile;

use crate::Runtimes;
use crate::args::OnError;
use crate::connection::{Answer, Connection, Opening};
use crate::failure;
use crate::format::Format;
use crate::interrupt::{EXIT_INTERRUPTED, Interrupts};
use crate::quantity;
use crate::report;
use crate::script::Statement;
use crate::shell::{Behaviour, Ended, Shell};
use crate::style::Style;
use crate::terminal::{self, say, say_text};

/// One table of the demo.
struct Table {
    name: &'static str,
    create: &'static str,
    load: Load,
}

/// Where a table's rows come from.
enum Load {
    /// One INSERT.
    Insert(&'static str),
    /// The TPC-H generator, through a Parquet file.
    Generated(tpch::Generator),
    /// The images in the binary, through a Parquet file.
    Digits,
}

/// Runs the demo in `dir`, a directory or a bucket; returns the exit code.
pub(crate) fn run(runtimes: &Runtimes, dir: &str) -> u8 {
    if let Err(message) = check_dir(dir) {
        return fail(&message);
    }
    match runtimes.open(|work| Connection::open(dir, Opening::default(), work)) {
        Err(code) => code,
        Ok((connection, interrupts)) => {
            let code = runtimes.block_on(present(&connection, dir, interrupts));
            runtimes.close(&connection, code)
        }
    }
}

/// A directory with files of somebody else's is not for us; of a bucket, opening it says so.
fn check_dir(dir: &str) -> Result<(), String> {
    let Ok(Root::Path(path)) = Root::parse(dir) else { return Ok(()) };
    let mut entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{dir} can't be read: {error}")),
    };
    if entries.next().is_none() || path.join("CAIRN").exists() {
        return Ok(());
    }
    Err(format!("{dir} holds files that are not a demo database; name another directory: cairn demo DIR"))
}

async fn present(connection: &Connection, dir: &str, mut interrupts: Interrupts) -> u8 {
    let (prepares, place) = (connection.clone(), dir.to_owned());
    let mut preparing = connection.spawn(async move { prepare(&prepares, &place).await });
    let prepared = tokio::select! {
        () = interrupts.next() => {
            preparing.abort();
            say("cancelled; run the same command again to complete the demo");
            return EXIT_INTERRUPTED;
        }
        prepared = &mut preparing => prepared,
    };
    match prepared {
        Ok(Ok(())) => show_queries(connection, dir, interrupts).await,
        Ok(Err(failure)) => failure.show(),
        Err(_) => fail("making the demo stopped unexpectedly; this is a fault of Cairn's own"),
    }
}

/// Why the demo could not be made.
enum Failure {
    /// A statement failed.
    Statement(Box<failure::Failure>, String),
    /// Anything else, as a sentence.
    Other(String),
}

impl Failure {
    fn show(&self) -> u8 {
        match self {
            Self::Other(message) => fail(message),
            Self::Statement(error, sql) => {
                let statement = Statement { text: sql.clone(), line: 1, column: 1 };
                say_text(&report::statement_error(error, &statement, None, Style::of(&io::stderr())));
                1
            }
        }
    }
}

/// Makes and fills the tables that are missing.
async fn prepare(connection: &Connection, dir: &str) -> Result<(), Failure> {
    let tables = tables();
    let present: BTreeSet<String> = existing(connection).await?;
    let ours = |name: &str| name == digits::VIEW || tables.iter().any(|t| t.name == name);
    if let Some(other) = present.iter().find(|name| !ours(name)) {
        return Err(Failure::Other(format!(
            "{dir} holds another database (with a table {other}); name another directory: cairn demo DIR"
        )));
    }
    let mut loaded = 0;
    for table in &tables {
        if !present.contains(table.name) {
            execute(connection, table.create).await?;
        } else if count(connection, table.name).await? > 0 {
            continue;
        }
        if loaded == 0 {
            say(&format!(
                "Making a demo database in {dir}: TPC-H at scale {}, some notes, handwritten digits.",
                tpch::SCALE
            ));
        }
        loaded += 1;
        load(connection, table).await?;
    }
    let indexed = index(connection).await?;
    execute(connection, digits::CREATE_VIEW).await?;
    if loaded == 0 && !indexed {
        say(&format!("The demo database in {dir} is there already."));
        return Ok(());
    }
    execute(connection, "CHECKPOINT").await
}

async fn load(connection: &Connection, table: &Table) -> Result<(), Failure> {
    let begun = Instant::now();
    match &table.load {
        Load::Insert(sql) => execute(connection, sql).await?,
        Load::Generated(generator) => {
            copy(connection, table, &tpch::write(*generator).await.map_err(Failure::Other)?).await?;
        }
        Load::Digits => copy(connection, table, &digits::write().map_err(Failure::Other)?).await?,
    }
    let rows = count(connection, table.name).await?;
    say(&loaded_line(table.name, rows, begun.elapsed()));
    Ok(())
}

async fn copy(connection: &Connection, table: &Table, file: &NamedTempFile) -> Result<(), Failure> {
    let path = file.path().to_string_lossy().replace('\'', "''");
    execute(connection, &format!("COPY {} FROM '{path}' WITH (format 'parquet')", table.name)).await
}

/// Makes the index of the digits unless it is there; whether it was made.
async fn index(connection: &Connection) -> Result<bool, Failure> {
    let begun = Instant::now();
    if count(connection, &format!("system.indexes WHERE index_name = '{}'", digits::INDEX)).await? > 0 {
        return Ok(false);
    }
    execute(connection, digits::CREATE_INDEX).await?;
    say(&format!("  {:<23}  {:>10}", "index of the digits", quantity::duration(begun.elapsed())));
    Ok(true)
}

fn loaded_line(name: &str, rows: u64, elapsed: Duration) -> String {
    format!("  {name:<10} {:>12}  {:>10}", quantity::rows(rows), quantity::duration(elapsed))
}

/// A Parquet file to come, which goes away with the handle.
fn temporary() -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix("cairn-demo-").suffix(".parquet").tempfile()
}

fn tables() -> Vec<Table> {
    let generated = tpch::TABLES.iter().map(|&(name, create, generator)| Table {
        name,
        create,
        load: Load::Generated(generator),
    });
    let notes = Table { name: notes::NAME, create: notes::CREATE, load: Load::Insert(notes::INSERT) };
    let digits = Table { name: digits::NAME, create: digits::CREATE, load: Load::Digits };
    generated.chain([notes, digits]).collect()
}

async fn show_queries(connection: &Connection, dir: &str, interrupts: Interrupts) -> u8 {
    let behaviour = Behaviour {
        place: dir.to_owned(),
        format: Format::Box,
        quiet: false,
        on_error: OnError::Stop,
        timer: true,
        typed: false,
    };
    let mut shell = Shell::new(connection.clone(), behaviour, interrupts, terminal::screen());
    for (title, sql) in queries::QUERIES {
        let shown = crate::highlight::line("", sql, Style::of(&io::stdout()));
        let mut ended = shell.print(&format!("\n{title}\n\n{shown};\n"));
        if ended == Ended::Well {
            let statement = Statement { text: (*sql).to_owned(), line: 1, column: 1 };
            ended = shell.run_statement(&statement, None).await;
        }
        match ended {
            Ended::Well => {}
            Ended::Cancelled => return EXIT_INTERRUPTED,
            Ended::Unread => return 0,
            Ended::Failed | Ended::Lost | Ended::Exit(_) => return 1,
        }
    }
    shell.print(&queries::how_to_go_on(dir));
    0
}

/// Tables and views in the schema the demo lives in.
async fn existing(connection: &Connection) -> Result<BTreeSet<String>, Failure> {
    let sql = "SELECT CAST(table_name AS VARCHAR) AS name FROM information_schema.tables WHERE table_schema = 'public'";
    let mut names = BTreeSet::new();
    for batch in rows(connection, sql).await? {
        let column =
            datafusion::arrow::compute::cast(batch.column(0), &datafusion::arrow::datatypes::DataType::Utf8)
                .map_err(|error| Failure::Other(format!("information_schema can't be read: {error}")))?;
        names.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(names)
}

async fn count(connection: &Connection, from: &str) -> Result<u64, Failure> {
    let batches = rows(connection, &format!("SELECT CAST(count(*) AS BIGINT) AS n FROM {from}")).await?;
    let counts = batches.iter().filter_map(|b| b.column(0).as_primitive_opt::<Int64Type>());
    Ok(counts.flat_map(|c| c.values().iter()).map(|n| n.unsigned_abs()).sum())
}

async fn execute(connection: &Connection, sql: &str) -> Result<(), Failure> {
    rows(connection, sql).await.map(|_| ())
}

async fn rows(
    connection: &Connection,
    sql: &str,
) -> Result<Vec<datafusion::arrow::array::RecordBatch>, Failure> {
    let failed = |failure| Failure::Statement(Box::new(failure), sql.to_owned());
    match connection.execute(sql).await.map_err(failed)? {
        Answer::Rows { batches, .. } => batches.try_collect().await.map_err(failed),
        Answer::Done { .. } => Ok(Vec::new()),
    }
}

fn fail(message: &str) -> u8 {
    say_text(&report::plain(message, Style::of(&io::stderr())));
    1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::args::Sync;

    async fn answer(connection: &Connection, sql: &str) -> String {
        let batches = rows(connection, sql).await.unwrap_or_else(|failure| {
            failure.show();
            panic!("{sql}")
        });
        pretty_format_batches(&batches).unwrap().to_string()
    }

    #[test]
    fn drawings_find_their_like() {
        let runtimes = Runtimes::start().unwrap();
        let opening = Opening { sync: Sync::Off, ..Opening::default() };
        let connection = Connection::open(":memory:", opening, runtimes.work.handle()).unwrap();
        let working = connection.clone();
        let work = connection.spawn(async move {
            let connection = &working;
            let of_digits = tables().into_iter().find(|table| table.name == digits::NAME).unwrap();
            execute(connection, of_digits.create).await.ok().unwrap();
            load(connection, &of_digits).await.ok().unwrap();
            assert!(index(connection).await.ok().unwrap());
            assert!(!index(connection).await.ok().unwrap());
            for _ in 0..2 {
                execute(connection, digits::CREATE_VIEW).await.ok().unwrap();
            }
            assert_eq!(count(connection, "digits").await.ok(), Some(1797));
            assert_eq!(count(connection, "digits WHERE label = 7").await.ok(), Some(179));
            assert_eq!(count(connection, "pictures").await.ok(), Some(1797 * 9));
            let ready = "system.indexes WHERE state = 'ready' AND rows_covered = 1797";
            assert_eq!(count(connection, ready).await.ok(), Some(1));

            let elsewhere = connection.clone();
            let names = tokio::task::spawn_blocking(move || elsewhere.names()).await.unwrap();
            assert_eq!(names.table(None, "digits").map(|t| &t.vectors[..]), Some(&["image".to_owned()][..]));
            assert_eq!(names.indexes, [("public".to_owned(), digits::INDEX.to_owned())]);
            for known in [&names.functions, &names.table_functions] {
                assert!(known.contains(&"vector_search".to_owned()), "{known:?}");
            }

            let searches: Vec<&str> =
                queries::QUERIES.iter().map(|(_, sql)| *sql).filter(|sql| sql.contains("digits")).collect();
            let [pictures, others, explained] = searches[..] else { panic!("{searches:?}") };
            let drawn = answer(connection, pictures).await;
            let places =
                ["7 (id 222)", "7 (id 173)", "7 (id 1174)", "7 (id 1674)"].map(|title| drawn.find(title));
            assert!(places.is_sorted() && places[0].is_some(), "{drawn}");
            assert!(
                drawn.contains("    ░░██████▒▒        ▒▒████████        ▒▒██████▒▒        ▒▒██████▒▒  "),
                "{drawn}"
            );
            let others = answer(connection, others).await;
            let places = ["| 275  | 9 ", "| 329  | 9 ", "| 325  | 9 ", "| 1605 | 3 ", "| 1712 | 3 "]
                .map(|row| others.find(row));
            assert!(places.is_sorted() && places[0].is_some(), "{others}");
            let plan = answer(connection, explained).await;
            for fact in ["SearchExec", "index=digits_image_idx", "matching_rows=1618"] {
                assert!(plan.contains(fact), "{fact}: {plan}");
            }
        });
        runtimes.block_on(work).unwrap();
        assert_eq!(runtimes.close(&connection, 0), 0);
    }

    #[test]
    fn only_free_directories_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(check_dir(path).is_ok());
        assert!(check_dir(&format!("{path}/new")).is_ok());
        assert!(check_dir("s3://bucket/demo").is_ok());
        fs::write(dir.path().join("letter.txt"), "x").unwrap();
        assert!(check_dir(path).unwrap_err().contains("name another directory"));
        fs::write(dir.path().join("CAIRN"), "x").unwrap();
        assert!(check_dir(path).is_ok());
    }

    #[test]
    fn every_table_creates_itself() {
        for table in tables() {
            assert!(table.create.starts_with(&format!("CREATE TABLE {} (", table.name)), "{}", table.name);
        }
    }
}
