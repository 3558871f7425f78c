//! Statements run for clients.
//!
//! Owns: one answer for statements with and without rows, statements run once for each of many parameter rows. Does not own:
//! transactions of clients (`session`), fetching (`results`).

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::{Description, Error, Output, Result, RowStream, Session, StatementKind};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};

use super::outcome::{self, Outcome};
use super::params::ParameterRows;
use super::results::Rows;
use super::status::wrong_request;
use super::wire;
use crate::session::{Lease, PreparedStatement, SqlSession};

/// Savepoint that many rows are written behind.
const ROWS_SAVEPOINT: &str = "\"cairn parameter rows\"";

/// Rows of parameters that are one statement to the engine; their values are held beside those the client sent.
const ROWS_AT_ONCE: usize = 8_192;

/// Rows of parameters for a change, and what is wanted of it.
enum Given<S> {
    /// They come as they are used; how many rows it changes.
    Coming(S),
    /// The rows of its RETURNING.
    Bound(Vec<ParamValues>),
}

/// What a change with many rows of parameters came to.
enum Changed {
    /// Rows it changed; those of RETURNING were not wanted, or the change was made before.
    Counted(Outcome),
    /// The rows of RETURNING.
    Returned(RowStream),
}

impl Changed {
    fn outcome(self) -> Result<Outcome> {
        match self {
            Self::Counted(outcome) => Ok(outcome),
            Self::Returned(_) => Err(wrong_request("the statement has rows")),
        }
    }

    /// Takes in what there is to remark of a statement around the change.
    fn remark(&mut self, around: Output) {
        let notes = match self {
            Self::Counted(outcome) => &mut outcome.notes,
            Self::Returned(rows) => &mut rows.notes,
        };
        if let Output::Done { notes: more, .. } = around {
            notes.extend(more);
        }
    }
}

/// What a statement came to.
pub(crate) struct Answer {
    /// Without columns for a statement that has no rows.
    pub(crate) rows: Rows,
    /// None: it has rows.
    pub(crate) outcome: Option<Outcome>,
    /// What is to be remarked beside its rows.
    notes: Vec<String>,
}

/// What a change came to for a client that wants its count.
pub(crate) struct Count {
    /// Rows changed.
    pub(crate) rows: u64,
    /// Remarks for the user.
    pub(crate) notes: Vec<String>,
}

impl From<Outcome> for Count {
    fn from(Outcome { rows, notes, .. }: Outcome) -> Self {
        Self { rows: rows.unwrap_or(0), notes }
    }
}

impl Answer {
    fn of(output: Output, session: &Lease) -> Self {
        let outcome = Outcome::of(&output);
        match output {
            Output::Rows(rows) => Self::of_rows(rows, session),
            Output::Affected { .. } | Output::Done { .. } => Self::of_outcome(outcome, session),
        }
    }

    fn of_rows(RowStream { stream, notes, .. }: RowStream, session: &Lease) -> Self {
        Self { rows: Rows::new(stream, session.clone()), outcome: None, notes }
    }

    fn of_outcome(outcome: Option<Outcome>, session: &Lease) -> Self {
        Self { rows: Rows::new(no_rows(None), session.clone()), outcome, notes: Vec::new() }
    }

    /// What running a statement for no rows of parameters comes to.
    fn of_no_runs(prepared: &PreparedStatement, kind: StatementKind, session: &Lease) -> Self {
        let Description { columns, reads_only, .. } = &prepared.description;
        let has_rows = *reads_only || columns.is_some();
        let outcome = (!has_rows).then(|| Outcome {
            verb: kind.name().to_ascii_uppercase(),
            rows: Some(0),
            notes: Vec::new(),
        });
        Self { rows: Rows::new(no_rows(columns.clone()), session.clone()), outcome, notes: Vec::new() }
    }

    /// Rows it changed, none where there is nothing to count; None: it has rows.
    pub(crate) fn affected(&self) -> Option<u64> {
        self.outcome.as_ref().map(|outcome| outcome.rows.unwrap_or(0))
    }

    /// What it came to, or what is to be remarked of its rows, as it is sent beside them.
    pub(crate) fn app_metadata(&self) -> Bytes {
        match &self.outcome {
            Some(outcome) => outcome.bytes(),
            None => outcome::beside_rows(&self.notes),
        }
    }

    /// Rows changed; those of a statement that has rows are read to their end and counted.
    ///
    /// # Errors
    /// What the rows meet.
    pub(crate) async fn count(mut self) -> Result<Count> {
        if let Some(outcome) = self.outcome {
            return Ok(outcome.into());
        }
        let mut count = 0;
        while let Some(batch) = self.rows.stream.next().await {
            count += batch?.num_rows() as u64;
        }
        Ok(Count { rows: count, notes: self.notes })
    }
}

/// Runs one statement.
///
/// # Errors
/// As the engine says.
pub(crate) async fn run(session: &Lease, sql: &SqlSession, text: &str) -> Result<Answer> {
    Ok(Answer::of(sql.execute(text, None).await?, session))
}

/// Runs a prepared statement with the rows bound to it: a change once for each, in one transaction; a query once for each, its
/// results one behind the other. No rows are no runs.
///
/// # Errors
/// `InvalidInput` (07001) when nothing is bound to its parameters; as the engine says.
pub(crate) async fn run_prepared(session: &Lease, prepared: &PreparedStatement) -> Result<Answer> {
    let sql = session.for_commit(session.sql_of_prepared(prepared)?, Some(&prepared.text))?;
    let text = &prepared.text;
    if prepared.description.parameters.is_empty() {
        return run(session, &sql, text).await;
    }
    let Some(bound) = prepared.bound() else { return Err(prepared.description.wrong_count(0)) };
    let rows = bound.iter().map(|batch| ParameterRows::new(&prepared.description, batch));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let mut values = Vec::new();
    for rows in &rows {
        for row in 0..rows.len() {
            values.push(rows.row(row)?);
        }
    }
    match values.len() {
        0 => Ok(Answer::of_no_runs(prepared, sql.engine().statement_kind(text)?, session)),
        1 => Ok(Answer::of(sql.execute(text, values.pop()).await?, session)),
        _ if prepared.description.reads_only => one_behind_the_other(session, sql, text, values).await,
        _ if prepared.description.columns.is_some() => {
            let given = Given::<futures::stream::Empty<Result<ParameterRows>>>::Bound(values);
            let rows = match update_each(&sql, text, given).await? {
                Changed::Returned(rows) => rows,
                Changed::Counted(outcome) => {
                    let stream = no_rows(prepared.description.columns.clone());
                    RowStream { schema: stream.schema(), stream, notes: outcome.notes }
                }
            };
            Ok(Answer::of_rows(rows, session))
        }
        _ => {
            let rows = futures::stream::iter(rows.into_iter().map(Ok));
            let outcome = update_each(&sql, text, Given::Coming(rows)).await?.outcome()?;
            Ok(Answer::of_outcome(Some(outcome), session))
        }
    }
}

/// Runs a prepared change with the rows of parameters that the client sends now, if they `are_sent`; returns what it came to.
///
/// # Errors
/// As [`run_prepared`]; an error of `batches`. Nothing has changed then.
pub(crate) async fn update_prepared(
    session: &Lease,
    prepared: &PreparedStatement,
    are_sent: bool,
    rows: impl Stream<Item = Result<ParameterRows>> + Send,
) -> Result<Count> {
    let sql = session.for_commit(session.sql_of_prepared(prepared)?, Some(&prepared.text))?;
    if prepared.description.parameters.is_empty() {
        return run(session, &sql, &prepared.text).await?.count().await;
    }
    let mut rows = pin!(rows.try_filter(|rows| std::future::ready(rows.len() > 0)).peekable());
    let Some(first) = rows.next().await.transpose()? else {
        if are_sent {
            return Ok(Count { rows: 0, notes: Vec::new() });
        }
        // Bound by a call before, if at all.
        return run_prepared(session, prepared).await?.count().await;
    };
    if first.len() == 1 && rows.as_mut().peek().await.is_none() {
        let output = sql.execute(&prepared.text, Some(first.row(0)?)).await?;
        return Answer::of(output, session).count().await;
    }
    let rows = futures::stream::once(std::future::ready(Ok(first))).chain(rows);
    Ok(update_each(&sql, &prepared.text, Given::Coming(rows)).await?.outcome()?.into())
}

/// Runs a change once for each row of parameters, all or none: behind a savepoint of the open transaction, or in a transaction
/// of its own.
async fn update_each<S>(sql: &SqlSession, text: &str, given: Given<S>) -> Result<Changed>
where
    S: Stream<Item = Result<ParameterRows>> + Send,
{
    if let Some(_turn) = sql.turn().await {
        let engine = sql.engine();
        let marked = engine.execute(&format!("SAVEPOINT {ROWS_SAVEPOINT}"), None).await?;
        let mut changed = change_each(engine, text, given).await;
        if changed.is_err()
            && let Err(error) = engine.execute(&format!("ROLLBACK TO SAVEPOINT {ROWS_SAVEPOINT}"), None).await
        {
            // Half of the rows must not be committed with the rest.
            engine.end_transaction(false).await?;
            return Err(error);
        }
        engine.execute(&format!("RELEASE SAVEPOINT {ROWS_SAVEPOINT}"), None).await?;
        if let Ok(changed) = &mut changed {
            changed.remark(marked);
        }
        return changed;
    }
    let own = sql.engine().fork();
    own.take_commit_id(sql.engine());
    // An error drops the session, which rolls back.
    update_in_transaction(&own, text, given).await
}

/// The same in a transaction of `own`, unless that was committed before.
async fn update_in_transaction<S>(own: &Session, text: &str, given: Given<S>) -> Result<Changed>
where
    S: Stream<Item = Result<ParameterRows>> + Send,
{
    if matches!(given, Given::Bound(_)) && own.returns_new_ids(text)? {
        // Its commit gives others than it has shown.
        return Err(Error::not_supported_yet(
            "_row_id or _version in RETURNING of a change for several rows of parameters",
        )
        .map(|e| e.with_hint("bind one row at a time")));
    }
    if let Some(note) = own.repeats_commit().await? {
        let verb = own.statement_kind(text)?.name().to_ascii_uppercase();
        return Ok(Changed::Counted(Outcome { verb, rows: Some(0), notes: vec![note] }));
    }
    let begun = own.execute("BEGIN", None).await?;
    let mut changed = change_each(own, text, given).await?;
    let committed = own.execute("COMMIT", None).await?;
    changed.remark(begun);
    changed.remark(committed);
    Ok(changed)
}

async fn change_each<S>(engine: &Session, text: &str, given: Given<S>) -> Result<Changed>
where
    S: Stream<Item = Result<ParameterRows>> + Send,
{
    let rows = match given {
        Given::Coming(rows) => rows,
        Given::Bound(values) => {
            return match engine.execute_each(text, values).await? {
                Output::Rows(RowStream { schema, stream, notes }) => {
                    // Read to their end: until then they keep the place in the queue that COMMIT may wait for.
                    let batches: Vec<RecordBatch> = stream.try_collect().await?;
                    let rows = futures::stream::iter(batches.into_iter().map(Ok));
                    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
                    Ok(Changed::Returned(RowStream { schema, stream, notes }))
                }
                _ => Err(wrong_request("the statement has no rows")),
            };
        }
    };
    Ok(Changed::Counted(count_each(engine, text, rows).await?))
}

async fn count_each(
    engine: &Session,
    text: &str,
    rows: impl Stream<Item = Result<ParameterRows>> + Send,
) -> Result<Outcome> {
    let mut rows = pin!(rows);
    let mut changed: Option<Outcome> = None;
    while let Some(rows) = rows.next().await.transpose()? {
        for first in (0..rows.len()).step_by(ROWS_AT_ONCE) {
            let part = first..rows.len().min(first + ROWS_AT_ONCE);
            let part = part.map(|row| rows.row(row)).collect::<Result<Vec<_>>>()?;
            let output = engine.execute_each(text, part).await?;
            let outcome = counted(output).await?;
            match &mut changed {
                Some(changed) => changed.add(outcome),
                None => changed = Some(outcome),
            }
        }
    }
    changed.ok_or_else(|| wrong_request("there are no rows of parameters"))
}

/// What a change came to for a client that takes no rows of it: those of RETURNING are counted.
async fn counted(output: Output) -> Result<Outcome> {
    if let Some(outcome) = Outcome::of(&output) {
        return Ok(outcome);
    }
    let (mut count, mut notes) = (0, Vec::new());
    if let Output::Rows(mut rows) = output {
        notes.append(&mut rows.notes);
        while let Some(batch) = rows.stream.next().await {
            count += batch?.num_rows() as u64;
        }
    }
    Ok(Outcome { verb: String::new(), rows: Some(count), notes })
}

/// The rows of a query for each of `values`; a query begins when the rows of the one before have been read.
async fn one_behind_the_other(
    session: &Lease,
    sql: Arc<SqlSession>,
    text: &str,
    values: Vec<ParamValues>,
) -> Result<Answer> {
    let mut values = values.into_iter();
    let RowStream { stream: first, notes, .. } = execute_rows(&sql, text, values.next()).await?;
    // Planned with the values of one row: a later one may be NULL.
    let schema = wire::nullable(&wire::schema(&first.schema()));
    let text = text.to_owned();
    let others = futures::stream::iter(values).then(move |values| {
        let (sql, text) = (Arc::clone(&sql), text.clone());
        async move {
            let rows = execute_rows(&sql, &text, Some(values)).await.map_err(DataFusionError::from)?;
            Ok::<_, DataFusionError>(rows.stream)
        }
    });
    let rows = first.chain(others.try_flatten());
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
    Ok(Answer { rows: Rows { schema, stream, session: session.clone() }, outcome: None, notes })
}

async fn execute_rows(sql: &SqlSession, text: &str, values: Option<ParamValues>) -> Result<RowStream> {
    match sql.execute(text, values).await? {
        Output::Rows(rows) => Ok(rows),
        _ => Err(wrong_request("the statement has no rows")),
    }
}

fn no_rows(columns: Option<SchemaRef>) -> SendableRecordBatchStream {
    Box::pin(EmptyRecordBatchStream::new(columns.unwrap_or_else(|| Arc::new(Schema::empty()))))
}
