//! `cairn verify ROOT --repair`: first what keeps a directory from opening, then VERIFY REPAIR.
//!
//! Owns: the order of the two, and exit codes for scripts. Does not own: what is repaired (storage), the statement (engine).

use std::io::{self, Write};

use cairn_engine::{Error, OfflineRepair, OpenOptions, RepairStatus, Root, repair_batch, repair_offline};
use clap::Args;
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::DataType;
use futures::TryStreamExt;

use crate::connection::{Address, Answer, Connection, Login, Opening, Tls};
use crate::failure::Failure;
use crate::format::{self, Wishes};
use crate::interrupt::EXIT_INTERRUPTED;
use crate::quantity;
use crate::sink::Sink;
use crate::terminal::{say, screen};
use crate::verify::{EXIT_DAMAGED, VerifyArgs};
use crate::{Runtimes, fail_with};

/// What is to be repaired.
#[derive(Clone, Debug, Args)]
pub(crate) struct RepairArgs {
    /// Repair what is found. What can't be read is reported, and what is taken away is kept below ROOT/lost_and_found.
    #[arg(long)]
    repair: bool,

    /// Only say what a repair would do; nothing is written.
    #[arg(long, requires = "repair")]
    dry_run: bool,

    /// Also open where commits can't be read any more, without them and all that came after.
    #[arg(long, requires = "repair")]
    accept_loss: bool,
}

impl RepairArgs {
    /// Whether anything is.
    pub(crate) fn is_asked(&self) -> bool {
        self.repair
    }
}

/// Repairs; the exit code.
pub(crate) fn run(runtimes: &Runtimes, args: &VerifyArgs) -> u8 {
    let address = match Address::parse(&args.root) {
        Ok(address) => address,
        Err(message) => return fail_with(Failure::new("22023", message)),
    };
    let mut rows = Vec::new();
    if address.is_none() {
        match offline(runtimes, args) {
            Ok(found) => rows.extend(found),
            Err(failure) => return damage(failure),
        }
        // It does not open as it is.
        let is_open = rows.iter().try_fold(false, |open, batch| Ok::<_, io::Error>(open || is_open(batch)?));
        match is_open {
            Ok(false) => {}
            Ok(true) => return show(&rows, args),
            Err(error) => return crate::fail(&format!("the findings can't be written: {error}")),
        }
    }
    let opened = runtimes.open(|work| match &address {
        None => {
            let opening = Opening { read_only: args.repair.dry_run, ..Opening::default() };
            Connection::open(&args.root, opening, work)
        }
        Some(address) => {
            let login = args.user.as_deref().map(|user| Login::read(user, None)).transpose()?;
            Connection::connect(address, login, &Tls::default(), work)
        }
    });
    let (connection, mut interrupts) = match opened {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let end = if args.repair.dry_run { "REPAIR DRY RUN" } else { "REPAIR" };
    let statements: Vec<String> = match args.tables.as_slice() {
        [] => vec![format!("VERIFY DATABASE {end}")],
        tables => tables.iter().map(|table| format!("VERIFY TABLE {table} {end}")).collect(),
    };
    let repairing = connection.clone();
    let mut repaired = connection.spawn(async move {
        let mut rows = Vec::new();
        for statement in &statements {
            if let Answer::Rows { batches, .. } = repairing.execute(statement).await? {
                rows.extend(batches.try_collect::<Vec<_>>().await?);
            }
        }
        Ok::<_, Failure>(rows)
    });
    let found = runtimes.block_on(async {
        tokio::select! {
            () = interrupts.next() => {
                repaired.abort();
                None
            }
            found = &mut repaired => Some(found),
        }
    });
    let code = match found {
        None => EXIT_INTERRUPTED,
        Some(Ok(Ok(found))) => {
            rows.extend(found);
            show(&rows, args)
        }
        Some(Ok(Err(failure))) => damage(failure),
        Some(Err(_)) => crate::fail("repairing stopped unexpectedly; this is a fault of Cairn's own"),
    };
    runtimes.close(&connection, code)
}

/// What keeps a directory from opening; nothing for other roots.
fn offline(runtimes: &Runtimes, args: &VerifyArgs) -> Result<Option<RecordBatch>, Failure> {
    let root = Root::parse(&args.root).map_err(Error::from)?;
    if !matches!(root, Root::Path(_)) {
        if args.repair.accept_loss {
            let message = "--accept-loss is for a directory that does not open";
            return Err(Failure::new("0A000", message));
        }
        return Ok(None);
    }
    let RepairArgs { dry_run, accept_loss, .. } = args.repair;
    let asked = OfflineRepair { dry_run, accept_loss };
    let options = OpenOptions::default();
    let repairs = match runtimes.work().block_on(repair_offline(&root, &options, asked)) {
        Ok(repairs) => repairs,
        // Somebody writes it, so it opens; a dry run reads along.
        Err(error) if dry_run && error.sqlstate() == "57P03" => return Ok(None),
        Err(error) => return Err(Error::from(error).into()),
    };
    if repairs.is_empty() {
        return Ok(None);
    }
    Ok(Some(repair_batch(&repairs)?))
}

fn damage(failure: Failure) -> u8 {
    let damaged = failure.tells_damage();
    let code = fail_with(failure);
    if damaged { EXIT_DAMAGED } else { code }
}

/// Whether something is not repaired that keeps the database from opening.
fn is_open(batch: &RecordBatch) -> io::Result<bool> {
    let actions = texts(batch, "action")?;
    let statuses = texts(batch, "status")?;
    let done = RepairStatus::Done.as_str();
    Ok(actions.iter().zip(&statuses).any(|(action, status)| action != "none" && status != done))
}

/// Writes what was done; the exit code.
fn show(rows: &[RecordBatch], args: &VerifyArgs) -> u8 {
    match written(rows, args) {
        Ok(code) => code,
        // Nobody reads it any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => crate::fail(&format!("the findings can't be written: {error}")),
    }
}

fn written(batches: &[RecordBatch], args: &VerifyArgs) -> io::Result<u8> {
    let mut sink = Sink::stdout();
    let wishes = Wishes { rows_shown_max: usize::MAX, ..Wishes::default() };
    let layout = sink.layout(screen().map(|screen| screen.columns), wishes);
    let (mut actions, mut open) = (0, 0);
    let mut rows = None;
    for batch in batches {
        let statuses = texts(batch, "status")?;
        let is_done = |status: &String| *status == RepairStatus::Done.as_str();
        actions += statuses.len();
        open += statuses.iter().filter(|status| !is_done(status)).count();
        let wanted: BooleanArray = statuses.iter().map(|s| Some(!args.quiet || !is_done(s))).collect();
        let batch = filter_record_batch(batch, &wanted).map_err(io::Error::other)?;
        if batch.num_rows() == 0 {
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
        let (root, count) = (&args.root, |number: usize| quantity::count(number as u64));
        say(&match (actions, open) {
            (0, _) => format!("{root}: nothing to repair"),
            (_, 0) => format!("{root}: {} actions, all done", count(actions)),
            (_, open) if args.repair.dry_run => format!("{root}: {} actions would be needed", count(open)),
            (_, open) => format!("{root}: {} actions, {} not done", count(actions), count(open)),
        });
    }
    Ok(if open == 0 { 0 } else { EXIT_DAMAGED })
}

fn texts(batch: &RecordBatch, name: &str) -> io::Result<Vec<String>> {
    let Some(column) = batch.column_by_name(name) else {
        return Err(io::Error::other(format!("the answer of a repair has no {name}")));
    };
    let texts = cast(column, &DataType::Utf8).map_err(io::Error::other)?;
    let texts = texts.as_string::<i32>();
    Ok((0..texts.len()).map(|row| texts.value(row).to_owned()).collect())
}
