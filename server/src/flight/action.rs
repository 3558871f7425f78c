//! Actions: prepared statements, transactions, session options, cancelling, progress.

use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionResult,
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, ActionEndSavepointRequest,
    ActionEndTransactionRequest, EndTransaction, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
};
use bytes::{Bytes, BytesMut};
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use prost::Message;

use super::progress::{self, PROGRESS_ACTION};
use super::service::ticket_handle;
use super::status::wrong_request;
use super::{command, encode, options, params, wire};
use crate::handle::Handle;
use crate::server::Shared;
use crate::session::{Lease, PreparedStatement};

/// Actions with what they do, as ListActions tells them.
const ACTIONS: &[(&str, &str)] = &[
    (
        "BeginSavepoint",
        "Marks a point in a transaction.\nActionBeginSavepointRequest -> ActionBeginSavepointResult",
    ),
    (
        "BeginTransaction",
        "Begins a transaction.\nActionBeginTransactionRequest -> ActionBeginTransactionResult",
    ),
    (
        PROGRESS_ACTION,
        "How far the statement is that the session began last.\nnothing, or jobs -> JSON, or nothing when none runs",
    ),
    ("CancelFlightInfo", "Cancels a statement.\nCancelFlightInfoRequest -> CancelFlightInfoResult"),
    ("CancelQuery", "Cancels a statement.\nActionCancelQueryRequest -> ActionCancelQueryResult"),
    (
        "ClosePreparedStatement",
        "Forgets a prepared statement.\nActionClosePreparedStatementRequest -> nothing",
    ),
    (
        "CloseSession",
        "Ends the session and rolls its transactions back.\nCloseSessionRequest -> CloseSessionResult",
    ),
    (
        "CreatePreparedStatement",
        "Prepares a statement.\nActionCreatePreparedStatementRequest -> ActionCreatePreparedStatementResult",
    ),
    ("EndSavepoint", "Releases a savepoint or rolls back to it.\nActionEndSavepointRequest -> nothing"),
    ("EndTransaction", "Commits a transaction or rolls it back.\nActionEndTransactionRequest -> nothing"),
    ("GetSessionOptions", "The session's settings.\nGetSessionOptionsRequest -> GetSessionOptionsResult"),
    ("RenewFlightEndpoint", "Keeps a result longer.\nRenewFlightEndpointRequest -> FlightEndpoint"),
    (
        "SetSessionOptions",
        "Changes settings of the session.\nSetSessionOptionsRequest -> SetSessionOptionsResult",
    ),
];

/// `CANCELLED` of ActionCancelQueryResult.
const QUERY_CANCELLED: i32 = 1;

/// Every action there is.
pub(super) fn list() -> impl Iterator<Item = ActionType> {
    ACTIONS.iter().map(|(name, description)| ActionType {
        r#type: (*name).to_owned(),
        description: (*description).to_owned(),
    })
}

/// Runs an action; its result, when it has one.
///
/// # Errors
/// What is wrong with the request, or fails in it.
pub(super) async fn run(shared: &Shared, session: &Lease, action: Action) -> Result<Option<Bytes>> {
    let body = &action.body;
    Ok(match action.r#type.as_str() {
        PROGRESS_ACTION => progress::answer(session.sql().engine(), body),
        "CreatePreparedStatement" => Some(prepare(shared, session, command::packed(body)?).await?),
        "ClosePreparedStatement" => {
            let request: ActionClosePreparedStatementRequest = command::packed(body)?;
            // Closing twice is what clients do that close everything at their end.
            session.close_prepared(&request.prepared_statement_handle);
            None
        }
        "BeginTransaction" => {
            let transaction_id = session.begin().await?.bytes();
            Some(pack(&ActionBeginTransactionResult { transaction_id }))
        }
        "EndTransaction" => {
            let request: ActionEndTransactionRequest = command::packed(body)?;
            let commit = is_commit(request.action)?;
            // Where there is none, ending it says so.
            if let (true, Some(id)) = (commit, session.commit_id())
                && let Ok(sql) = transaction_of(session, &request.transaction_id)
            {
                sql.engine().configure("commit_id", id)?;
            }
            session.end(&request.transaction_id, commit).await?;
            None
        }
        "BeginSavepoint" => Some(begin_savepoint(session, command::packed(body)?).await?),
        "EndSavepoint" => {
            end_savepoint(session, command::packed(body)?).await?;
            None
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = command::packed(body)?;
            cancel(shared, session, &command::plain(&request.info)?)?;
            Some(pack(&ActionCancelQueryResult { result: QUERY_CANCELLED }))
        }
        "CancelFlightInfo" => {
            let request: CancelFlightInfoRequest = command::plain(body)?;
            cancel(shared, session, &request.info.unwrap_or_default())?;
            Some(plain(&CancelFlightInfoResult::new(CancelStatus::Cancelled)))
        }
        "RenewFlightEndpoint" => {
            let request: RenewFlightEndpointRequest = command::plain(body)?;
            let endpoint = request.endpoint.unwrap_or_default();
            shared.results.renew(handle_of(endpoint.ticket.as_ref())?, session.identity())?;
            Some(plain(&endpoint))
        }
        "SetSessionOptions" => Some(plain(&options::set(session.sql(), command::plain(body)?).await?)),
        "GetSessionOptions" => Some(plain(&options::get(session.sql()).await?)),
        "CloseSession" => {
            shared.sessions.close(session.id());
            Some(plain(&options::CloseSessionResult::closed()))
        }
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("there is no action {other}"))
                .map(|e| e.with_hint("ListActions names them")));
        }
    })
}

fn pack<M: ProstMessageExt>(message: &M) -> Bytes {
    message.as_any().encode_to_vec().into()
}

fn plain<M: Message>(message: &M) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.encoded_len());
    // The buffer grows: there is room for everything.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

async fn prepare(
    shared: &Shared,
    session: &Lease,
    request: ActionCreatePreparedStatementRequest,
) -> Result<Bytes> {
    let sql = session.sql_of(request.transaction_id.as_deref())?;
    let description = sql.describe(&request.query).await?;
    let dataset_schema = match &description.columns {
        Some(columns) => encode::schema(&wire::schema(columns))?,
        None => Bytes::new(),
    };
    let parameter_schema = encode::schema(&params::schema(&description))?;
    let transaction = request.transaction_id.and_then(|id| Handle::read(&id));
    let prepared = PreparedStatement::new(request.query, description, transaction);
    let handle = session.keep_prepared(prepared, shared.options.prepared_max)?;
    Ok(pack(&ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle.bytes(),
        dataset_schema,
        parameter_schema,
    }))
}

/// Whether an end is a commit; savepoints count the same.
fn is_commit(action: i32) -> Result<bool> {
    match EndTransaction::try_from(action) {
        Ok(EndTransaction::Commit) => Ok(true),
        Ok(EndTransaction::Rollback) => Ok(false),
        _ => Err(wrong_request("the request does not say how to end it")),
    }
}

/// The id of a savepoint is its transaction's with one of its own behind, which is its name there: names that clients give may
/// come twice.
async fn begin_savepoint(session: &Lease, request: ActionBeginSavepointRequest) -> Result<Bytes> {
    let sql = transaction_of(session, &request.transaction_id)?;
    let own = Handle::random();
    sql.execute(&format!("SAVEPOINT \"{}\"", own.text()), None).await?;
    let savepoint_id = [request.transaction_id, own.bytes()].concat().into();
    Ok(pack(&ActionBeginSavepointResult { savepoint_id }))
}

async fn end_savepoint(session: &Lease, request: ActionEndSavepointRequest) -> Result<()> {
    let id = &request.savepoint_id;
    let split = id.split_at_checked(Handle::BYTES);
    let (transaction, own) = split.ok_or_else(|| wrong_request("that is no id of a savepoint"))?;
    let own = Handle::read(own).ok_or_else(|| wrong_request("that is no id of a savepoint"))?;
    let sql = transaction_of(session, transaction)?;
    let verb = if is_commit(request.action)? { "RELEASE" } else { "ROLLBACK TO" };
    sql.execute(&format!("{verb} SAVEPOINT \"{}\"", own.text()), None).await.map(|_| ())
}

fn transaction_of(session: &Lease, transaction: &[u8]) -> Result<std::sync::Arc<crate::session::SqlSession>> {
    if transaction.is_empty() {
        return Err(wrong_request("the request names no transaction"));
    }
    session.sql_of(Some(transaction))
}

/// Cancels what the tickets of `info` stand for.
fn cancel(shared: &Shared, session: &Lease, info: &FlightInfo) -> Result<()> {
    let mut cancelled = false;
    for endpoint in &info.endpoint {
        cancelled |= shared.results.cancel(handle_of(endpoint.ticket.as_ref())?, session.identity())?;
    }
    if cancelled {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, "no such statement runs").map(|e| e.with_sqlstate("34000")))
}

fn handle_of(ticket: Option<&Ticket>) -> Result<Handle> {
    let ticket = ticket.ok_or_else(|| wrong_request("the endpoint has no ticket"))?;
    ticket_handle(&ticket.ticket)
}
