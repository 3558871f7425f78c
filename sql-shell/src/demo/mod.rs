//! `cairn demo`: a small real database, three queries on it, and how to go on.
//!
//! Owns: what the demo says. Everything goes through ordinary SQL: CREATE TABLE, COPY, INSERT, SELECT. A demo that was
//! interrupted is completed by the next run, since every table is loaded by one statement, wholly or not at all.

mod notes;
mod queries;
mod tpch;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_engine::Output;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use crate::Runtimes;
use crate::args::{OnError, Sync};
use crate::connection::{Connection, Opening};
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
}

/// Runs the demo in `dir`; returns the exit code.
pub(crate) fn run(runtimes: &Runtimes, dir: &str) -> u8 {
    if let Err(message) = check_dir(dir) {
        return fail(&message);
    }
    let opening = Opening { read_only: false, sync: Sync::Full };
    match runtimes.open(dir, opening) {
        Err(code) => code,
        Ok((connection, interrupts)) => {
            let code = runtimes.block_on(present(&connection, dir, interrupts));
            runtimes.close(&connection, code)
        }
    }
}

/// A directory with files of somebody else's is not for us.
fn check_dir(dir: &str) -> Result<(), String> {
    let path = Path::new(dir);
    let mut entries = match fs::read_dir(path) {
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
    Statement(Box<cairn_engine::Error>, String),
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
    if let Some(other) = present.iter().find(|name| tables.iter().all(|t| t.name != name.as_str())) {
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
            say(&format!("Making a demo database in {dir}: TPC-H at scale {}, and some notes.", tpch::SCALE));
        }
        loaded += 1;
        load(connection, table).await?;
    }
    if loaded == 0 {
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
            let file = tpch::write(*generator).await.map_err(Failure::Other)?;
            let path = file.path().to_string_lossy().replace('\'', "''");
            execute(connection, &format!("COPY {} FROM '{path}' WITH (format 'parquet')", table.name))
                .await?;
        }
    }
    let rows = count(connection, table.name).await?;
    say(&loaded_line(table.name, rows, begun.elapsed()));
    Ok(())
}

fn loaded_line(name: &str, rows: u64, elapsed: Duration) -> String {
    format!("  {name:<10} {:>12}  {:>10}", quantity::rows(rows), quantity::duration(elapsed))
}

fn tables() -> Vec<Table> {
    let generated = tpch::TABLES.iter().map(|&(name, create, generator)| Table {
        name,
        create,
        load: Load::Generated(generator),
    });
    let notes = Table { name: notes::NAME, create: notes::CREATE, load: Load::Insert(notes::INSERT) };
    generated.chain(std::iter::once(notes)).collect()
}

async fn show_queries(connection: &Connection, dir: &str, interrupts: Interrupts) -> u8 {
    let behaviour = Behaviour { format: Format::Box, quiet: false, on_error: OnError::Stop, timer: true };
    let mut shell = Shell::new(connection.clone(), behaviour, interrupts, terminal::width());
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
            Ended::Failed | Ended::Exit(_) => return 1,
        }
    }
    shell.print(&queries::how_to_go_on(dir));
    0
}

/// Tables in the schema the demo lives in.
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

async fn count(connection: &Connection, table: &str) -> Result<u64, Failure> {
    let batches = rows(connection, &format!("SELECT CAST(count(*) AS BIGINT) AS n FROM {table}")).await?;
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
    let failed = |error: cairn_engine::Error| Failure::Statement(Box::new(error), sql.to_owned());
    match connection.execute(sql).await.map_err(failed)? {
        Output::Rows(rows) => rows.stream.try_collect().await.map_err(|error| failed(error.into())),
        Output::Affected { .. } | Output::Done { .. } => Ok(Vec::new()),
    }
}

fn fail(message: &str) -> u8 {
    say_text(&report::plain(message, Style::of(&io::stderr())));
    1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_free_directories_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(check_dir(path).is_ok());
        assert!(check_dir(&format!("{path}/new")).is_ok());
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
