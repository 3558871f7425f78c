//! `cairn verify`: is everything still as it was written?
//!
//! Owns: exit codes for scripts. Does not own: the checks, which are VERIFY's. Nothing is changed: the database is opened for reading, also
//! while another process writes it; but for `--repair` (`repair`).

use std::cell::Cell;
use std::io::{self, Write};

use clap::Args;
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::DataType;
use futures::TryStreamExt;

use crate::connection::{Address, Answer, Connection, Login, Opening, Tls};
use crate::failure::Failure;
use crate::format::{self, Format, Wishes};
use crate::interrupt::EXIT_INTERRUPTED;
use crate::repair::{self, RepairArgs};
use crate::sink::Sink;
use crate::terminal::{say, screen};
use crate::{Runtimes, fail_with, quantity};

/// Something is missing or damaged.
pub(crate) const EXIT_DAMAGED: u8 = 3;
/// Column of VERIFY's answer that says how a check ended, and what it says of one that found nothing.
const STATUS: &str = "status";
const OK: &str = "ok";
/// What it says of findings that lose no rows.
const HARMLESS: [&str; 2] = [OK, "warning"];

const CODES: &str = "Exit codes: 0 everything is right, 1 it can't be verified, 2 wrong usage, 3 something is missing or damaged, 130 interrupted.";

/// Check that everything is still as it was written.
#[derive(Clone, Debug, Args)]
#[command(after_help = CODES)]
pub(crate) struct VerifyArgs {
    /// Directory, bucket or server, as for the shell.
    pub(crate) root: String,

    /// Only this table; may be given several times.
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,

    /// Also whether objects agree with each other: the log with what is read, indexes and statistics with the rows.
    #[arg(long)]
    deep: bool,

    /// How findings are written.
    #[arg(long, value_enum, default_value_t = Format::Box)]
    pub(crate) format: Format,

    /// Only what is not right.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// User to log in as at a server; the password is that of CAIRN_PASSWORD, or asked for.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    #[command(flatten)]
    pub(crate) repair: RepairArgs,
}

/// Verifies; the exit code.
pub(crate) fn run(runtimes: &Runtimes, args: &VerifyArgs) -> u8 {
    if args.repair.is_asked() {
        return repair::run(runtimes, args);
    }
    let damaged = Cell::new(false);
    let opened = runtimes.open(|work| {
        let opened = match Address::parse(&args.root) {
            Err(message) => Err(Failure::new("22023", message)),
            Ok(None) => Connection::open(&args.root, Opening { read_only: true, ..Opening::default() }, work),
            Ok(Some(address)) => {
                let login = args.user.as_deref().map(|user| Login::read(user, None)).transpose()?;
                Connection::connect(&address, login, &Tls::default(), work)
            }
        };
        opened.inspect_err(|failure| damaged.set(failure.tells_damage()))
    });
    let (connection, mut interrupts) = match opened {
        Ok(opened) => opened,
        Err(code) => return if damaged.get() { EXIT_DAMAGED } else { code },
    };
    let statements = statements(args);
    let verifying = connection.clone();
    let mut findings = connection.spawn(async move {
        let mut findings = Vec::new();
        for statement in &statements {
            if let Answer::Rows { batches, .. } = verifying.execute(statement).await? {
                findings.extend(batches.try_collect::<Vec<_>>().await?);
            }
        }
        Ok::<_, Failure>(findings)
    });
    let found = runtimes.block_on(async {
        tokio::select! {
            () = interrupts.next() => {
                findings.abort();
                None
            }
            found = &mut findings => Some(found),
        }
    });
    let code = match found {
        None => EXIT_INTERRUPTED,
        Some(Ok(Ok(findings))) => show(&findings, args).unwrap_or_else(|error| match error.kind() {
            // Nobody reads it any more.
            io::ErrorKind::BrokenPipe => 1,
            _ => crate::fail(&format!("the findings can't be written: {error}")),
        }),
        Some(Ok(Err(failure))) => {
            let damaged = failure.tells_damage();
            let code = fail_with(failure);
            if damaged { EXIT_DAMAGED } else { code }
        }
        Some(Err(_)) => crate::fail("verifying stopped unexpectedly; this is a fault of Cairn's own"),
    };
    runtimes.close(&connection, code)
}

/// What is run: one statement, or one for each table.
fn statements(args: &VerifyArgs) -> Vec<String> {
    let deep = if args.deep { " DEEP" } else { "" };
    match args.tables.as_slice() {
        [] => vec![format!("VERIFY{deep}")],
        tables => tables.iter().map(|table| format!("VERIFY TABLE {table}{deep}")).collect(),
    }
}

/// Writes the findings; the exit code.
fn show(findings: &[RecordBatch], args: &VerifyArgs) -> io::Result<u8> {
    let mut sink = Sink::stdout();
    let wishes = Wishes { rows_shown_max: usize::MAX, ..Wishes::default() };
    let layout = sink.layout(screen().map(|screen| screen.columns), wishes);
    let (mut checks, mut bad) = (0, 0);
    let mut rows = None;
    for batch in findings {
        let statuses = statuses(batch)?;
        checks += statuses.len();
        bad += statuses.iter().filter(|status| !HARMLESS.contains(&status.as_str())).count();
        let wanted: BooleanArray = statuses.iter().map(|s| Some(!args.quiet || s != OK)).collect();
        let batch = filter_record_batch(batch, &wanted).map_err(io::Error::other)?;
        if args.quiet && batch.num_rows() == 0 {
            continue;
        }
        let rows = rows.get_or_insert_with(|| format::writer(args.format, &batch.schema(), layout.clone()));
        rows.batch(&batch, &mut sink)?;
    }
    if let Some(mut rows) = rows {
        rows.finish(&mut sink)?;
    }
    sink.flush()?;
    if !args.quiet {
        let checks = quantity::count(checks as u64);
        say(&match bad {
            0 => format!("{}: {checks} checks, everything is right", args.root),
            _ => {
                format!("{}: {checks} checks, {} missing or damaged", args.root, quantity::count(bad as u64))
            }
        });
    }
    Ok(if bad == 0 { 0 } else { EXIT_DAMAGED })
}

/// How each check of `batch` ended.
fn statuses(batch: &RecordBatch) -> io::Result<Vec<String>> {
    let Some(column) = batch.column_by_name(STATUS) else {
        return Err(io::Error::other("the answer of VERIFY has no status"));
    };
    let texts = cast(column, &DataType::Utf8).map_err(io::Error::other)?;
    let texts = texts.as_string::<i32>();
    Ok((0..texts.len()).map(|row| texts.value(row).to_owned()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: VerifyArgs,
    }

    #[test]
    fn what_is_run() {
        let lines: [(&[&str], &[&str]); 3] = [
            (&["x"], &["VERIFY"]),
            (&["x", "--deep"], &["VERIFY DEEP"]),
            (
                &["x", "--table", "t", "--deep", "--table", "s.u"],
                &["VERIFY TABLE t DEEP", "VERIFY TABLE s.u DEEP"],
            ),
        ];
        for (line, expected) in lines {
            let line = Line::try_parse_from(["verify"].iter().chain(line)).unwrap();
            assert_eq!(statements(&line.args), expected);
        }
    }
}
