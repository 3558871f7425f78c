//! COPY t FROM files: pieces of files into parallel writers of one transaction.
//!
//! Owns: how files are cut and given to tasks, the sink they write to, skipped rows, cancellation. Does not own: the formats
//! (`csv_file`, `ndjson_file`, `table_file`). Each task has a contiguous run of the input and keeps its order. All or nothing: one commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_storage::{ErrorKind, TableWriter};
use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::compute::filter;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::columns::TableColumns;
use super::csv_file::{self, CsvPiece};
use super::input::{InputFile, inputs};
use super::ndjson_file::{self, NdjsonPiece};
use super::table_file::{self, TablePiece};
use super::vectors::{self, BadRow};
use super::{CopyStatement, CopySubject, Format, OnError};
use crate::context::{Progress, StatementContext};
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights::Right;

/// Reasons kept of the rows that were skipped.
const NOTES_MAX: usize = 5;

/// A part of the input that one task reads in order.
pub(super) enum Piece {
    Csv(CsvPiece),
    Ndjson(NdjsonPiece),
    Table(TablePiece),
}

/// Where a task's rows go.
pub(super) struct Sink {
    pub(super) table: Arc<TableColumns>,
    pub(super) on_error: OnError,
    writer: TableWriter,
    runtime: Handle,
    progress: Arc<Progress>,
    cancelled: Arc<AtomicBool>,
    loaded: Loaded,
}

/// What a task has loaded.
#[derive(Debug, Default)]
struct Loaded {
    rows: u64,
    skipped: u64,
    notes: Vec<String>,
}

impl Sink {
    /// Writes `rows` rows whose file columns fill the table's columns `filled`.
    pub(super) fn write(&mut self, filled: &[usize], arrays: &[ArrayRef], rows: usize) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "COPY was cancelled"));
        }
        if rows == 0 {
            return Ok(());
        }
        let batch = self.table.batch(&mut self.writer, filled, arrays, rows)?;
        self.runtime.block_on(self.writer.write(batch))?;
        self.loaded.rows += rows as u64;
        self.progress.rows.fetch_add(rows as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Counts input bytes as read.
    pub(super) fn read(&self, bytes: u64) {
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The rows that have no NULL where none may be, and vectors of their columns; `place` says where in the file a row stands.
    pub(super) fn readable(
        &mut self,
        filled: &[usize],
        arrays: &[ArrayRef],
        rows: usize,
        place: &dyn Fn(usize) -> Result<String>,
    ) -> Result<(Vec<ArrayRef>, usize)> {
        let table = Arc::clone(&self.table);
        let mut arrays = arrays.to_vec();
        let mut bad: BTreeMap<usize, (usize, BadRow)> = BTreeMap::new();
        for (index, array) in filled.iter().zip(&mut arrays) {
            let (made, rows) = vectors::readable(&table.def, &table.def.columns[*index], array);
            *array = made;
            rows.into_iter().for_each(|row| {
                bad.entry(row.row).or_insert((*index, row));
            });
        }
        if bad.is_empty() && !table.may_have_forbidden_nulls(filled, &arrays) {
            return Ok((arrays, rows));
        }
        let mut kept = Vec::with_capacity(rows);
        for row in 0..rows {
            let forbidden = table.forbidden_null(filled, &arrays, row);
            let bad = bad.get(&row);
            match (bad, forbidden) {
                (Some((column, bad)), _) => {
                    self.reject(|| Ok(table.vector_error(&place(row)?, *column, bad)))?;
                }
                (None, Some(column)) => self.reject(|| Ok(table.null_error(&place(row)?, column)))?,
                (None, None) => {}
            }
            kept.push(bad.is_none() && forbidden.is_none());
        }
        keep(&arrays, kept)
    }

    /// A row that cannot be read: an error, or a skipped row with its reason.
    pub(super) fn reject(&mut self, reason: impl FnOnce() -> Result<Error>) -> Result<()> {
        if self.on_error == OnError::Stop {
            return Err(reason()?);
        }
        self.loaded.skipped += 1;
        if self.loaded.notes.len() < NOTES_MAX {
            self.loaded.notes.push(reason()?.message().to_owned());
        }
        Ok(())
    }
}

/// The rows of `arrays` that are `kept`, and how many they are.
pub(super) fn keep(arrays: &[ArrayRef], kept: Vec<bool>) -> Result<(Vec<ArrayRef>, usize)> {
    let rows = kept.iter().filter(|k| **k).count();
    let kept = BooleanArray::from(kept);
    let arrays = arrays.iter().map(|a| filter(a, &kept)).collect::<Result<_, _>>();
    Ok((arrays.map_err(cairn_storage::Error::from)?, rows))
}

/// Tells blocking tasks to end when the statement's future is dropped.
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs COPY … FROM.
pub(super) async fn run(ctx: &StatementContext, statement: &CopyStatement) -> Result<Output> {
    let CopySubject::Table { name, columns } = &statement.subject else {
        return Err(
            Error::new(ErrorKind::InvalidInput, "COPY FROM needs a table").map(|e| e.with_sqlstate("42601"))
        );
    };
    let target = Target::resolve(ctx, name, Right::Insert)?;
    let table = Arc::new(TableColumns::new(ctx, &target, columns)?);
    let workers = ctx.state.config().target_partitions().max(1);
    let tasks = {
        let (statement, table, progress) = (statement.clone(), Arc::clone(&table), Arc::clone(&ctx.progress));
        let files = inputs(ctx.state.as_ref(), &statement.path).await?;
        blocking(move || plan(&files, &statement, &table, &progress, workers)).await?
    };

    let transaction = ctx.db.begin(&ctx.snapshot).await?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let guard = CancelOnDrop(Arc::clone(&cancelled));
    let mut running = JoinSet::new();
    for (index, pieces) in tasks.into_iter().enumerate() {
        let mut sink = Sink {
            table: Arc::clone(&table),
            on_error: statement.options.on_error,
            writer: transaction.writer(target.def.id)?,
            runtime: Handle::current(),
            progress: Arc::clone(&ctx.progress),
            cancelled: Arc::clone(&cancelled),
            loaded: Loaded::default(),
        };
        running.spawn_blocking(move || {
            let done =
                load(pieces, &mut sink).and_then(|()| Ok(sink.runtime.block_on(sink.writer.finish())?));
            (index, done.map(|_| sink.loaded))
        });
    }
    let mut loaded = Vec::new();
    let mut failed: Option<(bool, usize, Error)> = None;
    while let Some(done) = running.join_next().await {
        let (index, done) =
            done.map_err(|e| Error::new(ErrorKind::Internal, format!("a loading task ended early: {e}")))?;
        match done {
            Ok(part) => loaded.push((index, part)),
            Err(error) => {
                cancelled.store(true, Ordering::Relaxed);
                // The place nearest the start; the others were only told to stop.
                let rank = (error.kind() == ErrorKind::Cancelled, index);
                if failed.as_ref().is_none_or(|(c, i, _)| rank < (*c, *i)) {
                    failed = Some((rank.0, rank.1, error));
                }
            }
        }
    }
    drop(guard);
    if let Some((_, _, error)) = failed {
        transaction.rollback().await?;
        return Err(error);
    }
    ctx.commit(transaction).await?;
    Ok(receipt(loaded))
}

fn load(pieces: Vec<Piece>, sink: &mut Sink) -> Result<()> {
    for piece in pieces {
        match piece {
            Piece::Csv(piece) => piece.load(sink)?,
            Piece::Ndjson(piece) => piece.load(sink)?,
            Piece::Table(piece) => piece.load(sink)?,
        }
    }
    Ok(())
}

fn receipt(mut loaded: Vec<(usize, Loaded)>) -> Output {
    loaded.sort_by_key(|(index, _)| *index);
    let rows = loaded.iter().map(|(_, l)| l.rows).sum();
    let skipped: u64 = loaded.iter().map(|(_, l)| l.skipped).sum();
    let mut notes = Vec::new();
    if skipped > 0 {
        notes.push(format!("{skipped} {} skipped", if skipped == 1 { "row was" } else { "rows were" }));
        notes.extend(loaded.into_iter().flat_map(|(_, l)| l.notes).take(NOTES_MAX));
    }
    Output::Affected { verb: "COPY", rows, notes }
}

/// Runs blocking work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a file task ended early: {e}")))?
}

/// The pieces of every task.
fn plan(
    files: &[InputFile],
    statement: &CopyStatement,
    table: &Arc<TableColumns>,
    progress: &Progress,
    workers: usize,
) -> Result<Vec<Vec<Piece>>> {
    let options = &statement.options;
    let mut pieces: Vec<(u64, Piece)> = Vec::new();
    for input in files {
        let format = match options.format {
            Some(format) => format,
            None => Format::of(input.path()).ok_or_else(|| unknown_format(input.path()))?,
        };
        match format {
            Format::Csv => csv_file::pieces(input, options, table, workers, &mut pieces)?,
            Format::Parquet => table_file::parquet_pieces(input, table, &mut pieces)?,
            Format::Arrow => table_file::arrow_pieces(input, table, &mut pieces)?,
            Format::Ndjson => ndjson_file::pieces(input, options, table, workers, &mut pieces)?,
        }
    }
    progress.bytes_total.store(pieces.iter().map(|(bytes, _)| bytes).sum(), Ordering::Relaxed);
    Ok(share(pieces, workers))
}

fn unknown_format(path: &std::path::Path) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("the format of '{}' is not known from its name", path.display()),
    )
    .map(|e| e.with_sqlstate("22023").with_hint("add WITH (format csv | parquet | ndjson | arrow)"))
}

/// Contiguous runs of about equal weight, at most `workers` of them, none empty unless nothing is there.
fn share<T>(pieces: Vec<(u64, T)>, workers: usize) -> Vec<Vec<T>> {
    let total: u64 = pieces.iter().map(|(weight, _)| weight.max(&1)).sum();
    let workers = workers.max(1) as u64;
    let mut shares: Vec<Vec<T>> = Vec::new();
    let (mut before, mut current) = (0, u64::MAX);
    for (weight, piece) in pieces {
        let weight = weight.max(1);
        // The run in which the piece's middle falls.
        let run = (before + weight / 2) * workers / total.max(1);
        if run != current {
            shares.push(Vec::new());
            current = run;
        }
        if let Some(share) = shares.last_mut() {
            share.push(piece);
        }
        before += weight;
    }
    shares
}

/// `path` as messages show it.
pub(super) fn shown(path: &std::path::Path) -> String {
    format!("'{}'", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_contiguous_and_even() {
        let shares = share((0..10).map(|i| (10, i)).collect(), 2);
        assert_eq!(shares, [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9]]);
        assert_eq!(share(vec![(1, 'a')], 4), [vec!['a']]);
        assert_eq!(share(Vec::<(u64, u8)>::new(), 4), Vec::<Vec<u8>>::new());
        assert_eq!(share(vec![(100, 'a'), (1, 'b'), (1, 'c')], 2).concat(), ['a', 'b', 'c']);
    }
}
