//! What clients send: changes, rows of parameters, rows to store.
//!
//! What is to be remarked of a change goes beside its answer: DoPutUpdateResult has a count and nothing else.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    Command, CommandStatementIngest, DoPutPreparedStatementResult, DoPutUpdateResult, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{FlightData, PutResult};
use cairn_engine::{Error, IfExists, IfMissing, IngestTarget, Ingested, Result, Session};
use cairn_storage::{ErrorKind, HeldMemory};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::Status;

use super::params::ParameterRows;
use super::receive::ReceivedRows;
use super::statement::Count;
use super::status::wrong_request;
use super::{command, receive, statement};
use crate::session::{Lease, PreparedStatement};

/// Bytes of parameter rows a client may bind to one statement; rows of an update are not kept and may be any number.
const BOUND_BYTES_MAX: usize = 64 << 20;

/// Messages of a DoPut call.
pub(super) type Messages = Pin<Box<dyn Stream<Item = std::result::Result<FlightData, Status>> + Send>>;

/// Answers a DoPut call, whose messages are at most `bytes_max` long, decompressed as well; with remarks for the user.
///
/// # Errors
/// What is wrong with the request, or fails in it; nothing has changed then.
pub(super) async fn put(
    session: &Lease,
    mut messages: Messages,
    bytes_max: usize,
) -> Result<(PutResult, Vec<String>)> {
    let first = match messages.next().await {
        Some(Ok(first)) => first,
        Some(Err(status)) => return Err(broken(status.into())),
        None => {
            return Err(wrong_request("nothing was sent: no command, no columns and no rows").map(|e| {
                e.with_hint(
                    "some drivers send nothing at all for a table without rows: make it with CREATE TABLE",
                )
            }));
        }
    };
    let descriptor = first
        .flight_descriptor
        .as_ref()
        .ok_or_else(|| wrong_request("the first message has no descriptor"))?;
    let command = command::of_descriptor(descriptor)?;
    let batches = decode(first, messages, bytes_max);
    let (result, notes) = match command {
        Command::CommandStatementUpdate(update) => {
            let sql = session.sql_of(update.transaction_id.as_deref())?;
            let sql = session.for_commit(sql, Some(&update.query))?;
            counted(statement::run(session, &sql, &update.query).await?.count().await?)
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let prepared = session.prepared(&update.prepared_statement_handle)?;
            let mut batches = batches;
            // The schema comes before the first batch, or alone when there is none. Nothing is waited for that nobody needs.
            let first = match prepared.description.parameters.is_empty() {
                true => None,
                false => batches.next().await,
            };
            let are_sent = has_rows_of(&prepared, batches.schema())?;
            let rows = parameter_rows(&prepared, futures::stream::iter(first).chain(batches));
            counted(statement::update_prepared(session, &prepared, are_sent, rows).await?)
        }
        Command::CommandPreparedStatementQuery(query) => {
            let prepared = session.prepared(&query.prepared_statement_handle)?;
            prepared.bind(bound(&prepared, batches).await?);
            let handle = Some(query.prepared_statement_handle);
            (DoPutPreparedStatementResult { prepared_statement_handle: handle }.encode_to_vec(), Vec::new())
        }
        Command::CommandStatementIngest(ingest) => counted(store(session, ingest, batches).await?),
        other => return Err(Error::not_supported_yet(format!("{} in DoPut", other.type_url()))),
    };
    Ok((PutResult { app_metadata: result.into() }, notes))
}

fn counted(Count { rows, notes }: Count) -> (Vec<u8>, Vec<String>) {
    let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
    (DoPutUpdateResult { record_count }.encode_to_vec(), notes)
}

/// The batches of a call whose first message has been read; it may hold the schema already, or only the command.
fn decode(mut first: FlightData, messages: Messages, bytes_max: usize) -> ReceivedRows {
    first.flight_descriptor = None;
    let first = (!first.data_header.is_empty()).then_some(Ok(first));
    let messages = futures::stream::iter(first).chain(messages);
    let checked = messages.map(move |message| {
        let message = message.map_err(FlightError::from)?;
        receive::check(&message, bytes_max).map_err(|error| FlightError::ExternalError(Box::new(error)))?;
        Ok(message)
    });
    ReceivedRows::new(checked)
}

fn broken(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => match status.code() {
            tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
                Error::new(ErrorKind::ResourceExhausted, status.message())
                    .map(|e| e.with_hint("send smaller batches, or raise flight.message_max"))
            }
            _ => {
                Error::new(ErrorKind::Cancelled, format!("the client stopped sending: {}", status.message()))
            }
        },
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => wrong_request(format!("the rows can't be read: {other}")),
        },
        other => wrong_request(format!("the rows can't be read: {other}")),
    }
}

/// Whether rows of this schema are rows of parameters, although they may be none at all: drivers send rows without columns for "no
/// parameters".
fn has_rows_of(prepared: &PreparedStatement, schema: Option<&SchemaRef>) -> Result<bool> {
    let Some(schema) = schema.filter(|schema| !schema.fields().is_empty()) else { return Ok(false) };
    if prepared.description.parameters.is_empty() {
        return Ok(false);
    }
    ParameterRows::new(&prepared.description, &RecordBatch::new_empty(Arc::clone(schema)))?;
    Ok(true)
}

fn parameter_rows<'a>(
    prepared: &'a PreparedStatement,
    batches: impl Stream<Item = std::result::Result<RecordBatch, FlightError>> + Send + 'a,
) -> impl Stream<Item = Result<ParameterRows>> + Send + 'a {
    batches
        .map_err(broken)
        // An empty batch has no parts.
        .map_ok(|batch| futures::stream::iter(receive::parts(batch).map(Ok)))
        .try_flatten()
        .and_then(|batch| std::future::ready(ParameterRows::new(&prepared.description, &batch)))
}

/// What is bound: rows, be they none; None: nothing.
async fn bound(prepared: &PreparedStatement, mut batches: ReceivedRows) -> Result<Option<Vec<RecordBatch>>> {
    let (mut kept, mut held) = (Vec::new(), HeldMemory::default());
    while let Some(batch) = batches.next().await.transpose().map_err(broken)? {
        if batch.num_rows() == 0 {
            continue;
        }
        // Told now what would be told when it runs.
        ParameterRows::new(&prepared.description, &batch)?;
        held.add(&batch);
        if held.bytes() > BOUND_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("more than {BOUND_BYTES_MAX} bytes of parameters were bound to a statement"),
            )
            .map(|e| e.with_hint("bind fewer rows, or send them with an update, which keeps none")));
        }
        kept.push(batch);
    }
    let are_sent = has_rows_of(prepared, batches.schema())?;
    Ok((are_sent || !kept.is_empty()).then_some(kept))
}

async fn store(session: &Lease, ingest: CommandStatementIngest, mut batches: ReceivedRows) -> Result<Count> {
    if ingest.temporary {
        return Err(Error::not_supported_yet("a temporary table")
            .map(|e| e.with_hint("store the rows in an ordinary table and drop it afterwards")));
    }
    let catalog = ingest.catalog.filter(|catalog| !catalog.is_empty());
    if let Some(catalog) = catalog.filter(|catalog| catalog != Session::catalog_name()) {
        let message =
            format!("there is no database {catalog} here; this one is named {}", Session::catalog_name());
        return Err(Error::new(ErrorKind::NotFound, message).map(|e| e.with_sqlstate("3D000")));
    }
    let choices = ingest.table_definition_options.unwrap_or_default();
    let if_missing = match choices.if_not_exist() {
        TableNotExistOption::Create => IfMissing::Create,
        TableNotExistOption::Fail | TableNotExistOption::Unspecified => IfMissing::Fail,
    };
    let if_exists = match choices.if_exists() {
        TableExistsOption::Append => IfExists::Append,
        TableExistsOption::Replace => IfExists::Replace,
        TableExistsOption::Fail | TableExistsOption::Unspecified => IfExists::Fail,
    };
    let target =
        IngestTarget { schema: ingest.schema.filter(|schema| !schema.is_empty()), table: ingest.table };
    let sql = session.for_commit(session.sql_of(ingest.transaction_id.as_deref())?, None)?;
    // The schema comes before the first batch, or alone when there is none.
    let first = batches.next().await.transpose().map_err(broken)?;
    let schema = batches.schema().cloned().ok_or_else(|| wrong_request("the rows have no schema"))?;
    let rows = futures::stream::iter(first.map(Ok)).chain(batches.map_err(broken));
    let parts = |batch| futures::stream::iter(receive::parts(batch).map(Ok::<_, Error>));
    let rows = rows.map_ok(parts).try_flatten();
    let rows = rows.map_err(DataFusionError::from);
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let Ingested { rows, notes } = sql.ingest(&target, if_missing, if_exists, rows).await?;
    Ok(Count { rows, notes })
}
