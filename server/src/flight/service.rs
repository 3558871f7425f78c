//! The calls of Flight, each handed on to what answers it.
//!
//! Owns: one way from a command to its rows for GetFlightInfo, PollFlightInfo, GetSchema and DoGet.
//! Written on Flight itself: arrow-flight's frame for Flight SQL answers GetSchema and PollFlightInfo with "unimplemented", and
//! tells apart only after two calls what is one statement.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::encode::{self, FlightStream};
use super::handshake::{self, Caller};
use super::results::FetchedRows;
use super::status::{self, wrong_request};
use super::{action, command, metadata, put, statement, wire};
use crate::handle::Handle;
use crate::notes::{self, NOTES_HEADER};
use crate::server::Shared;
use crate::session::Lease;

type Answers<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;
type Answered<T> = std::result::Result<Response<T>, Status>;

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
}

impl Flight {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Starts what `descriptor` asks for; its rows wait behind the ticket.
    async fn start(&self, session: &Lease, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let command = command::of_descriptor(&descriptor)?;
        let (schema, ticket, records, app_metadata) = match command {
            Command::CommandStatementQuery(_) | Command::CommandPreparedStatementQuery(_) => {
                let answer = self.run(session, command).await?;
                let schema = Arc::clone(&answer.rows.schema);
                let affected = answer.affected().and_then(|rows| i64::try_from(rows).ok());
                let app_metadata = answer.app_metadata();
                let statement_handle = self.shared.results.keep(answer.rows).bytes();
                let ticket = TicketStatementQuery { statement_handle }.as_any().encode_to_vec();
                (schema, Bytes::from(ticket), affected.unwrap_or(-1), app_metadata)
            }
            // Cheap and without effect: run when fetched, the command is the ticket.
            other => (metadata::schema(&other)?, descriptor.cmd.clone(), -1, Bytes::new()),
        };
        let info = FlightInfo::new()
            .try_with_schema(&schema)?
            .with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket)))
            .with_descriptor(descriptor)
            .with_total_records(records)
            .with_app_metadata(app_metadata)
            .with_ordered(true);
        Ok(info)
    }

    async fn run(&self, session: &Lease, command: Command) -> Result<statement::Answer> {
        match command {
            Command::CommandStatementQuery(query) => {
                let sql = session.sql_of(query.transaction_id.as_deref())?;
                let sql = session.for_commit(sql, Some(&query.query))?;
                statement::run(session, &sql, &query.query).await
            }
            Command::CommandPreparedStatementQuery(query) => {
                let prepared = session.prepared(&query.prepared_statement_handle)?;
                statement::run_prepared(session, &prepared).await
            }
            other => Err(Error::not_supported_yet(other.type_url())),
        }
    }

    /// The schema that [`start`](Self::start) would tell, without running anything.
    async fn schema(&self, session: &Lease, descriptor: &FlightDescriptor) -> Result<SchemaRef> {
        let columns =
            |columns: Option<&SchemaRef>| columns.map_or_else(|| Arc::new(Schema::empty()), wire::schema);
        match command::of_descriptor(descriptor)? {
            Command::CommandStatementQuery(query) => {
                let sql = session.sql_of(query.transaction_id.as_deref())?;
                Ok(columns(sql.describe(&query.query).await?.columns.as_ref()))
            }
            Command::CommandPreparedStatementQuery(query) => {
                let prepared = session.prepared(&query.prepared_statement_handle)?;
                Ok(columns(prepared.description.columns.as_ref()))
            }
            other => metadata::schema(&other),
        }
    }

    /// The rows behind a ticket.
    async fn fetch(&self, session: &Lease, ticket: &Ticket) -> Result<FlightStream> {
        let command = command::read(&ticket.ticket)?;
        let answer = match command {
            Command::TicketStatementQuery(_) => {
                // What it came to stood in its FlightInfo.
                let handle = ticket_handle(&ticket.ticket)?;
                return stream(self.shared.results.fetch(handle, session.identity())?, Bytes::new());
            }
            Command::CommandStatementQuery(_) | Command::CommandPreparedStatementQuery(_) => {
                self.run(session, command).await?
            }
            other => {
                let batch = metadata::rows(session, other).await?;
                let schema = batch.schema();
                return Ok(encode::stream(futures::stream::iter([Ok(batch)]), schema, Bytes::new()));
            }
        };
        let app_metadata = answer.app_metadata();
        stream(self.shared.results.keep_fetched(answer.rows), app_metadata)
    }
}

fn stream(rows: FetchedRows, app_metadata: Bytes) -> Result<FlightStream> {
    let schema = rows.schema().ok_or_else(|| wrong_request("the result was cancelled"))?;
    Ok(encode::stream(rows, schema, app_metadata))
}

/// The result that a ticket of ours stands for.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub(super) fn ticket_handle(ticket: &[u8]) -> Result<Handle> {
    match command::read(ticket)? {
        Command::TicketStatementQuery(ticket) => Handle::read(&ticket.statement_handle),
        _ => None,
    }
    .ok_or_else(|| wrong_request("that is no ticket of a statement"))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = FlightStream;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answered<Self::HandshakeStream> {
        let (metadata, extensions, _) = request.into_parts();
        let answer = handshake::handshake(&self.shared, &metadata, &extensions).await;
        answer.map_err(|error| status::of(&error))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answered<Self::ListFlightsStream> {
        Err(status::of(
            &Error::not_supported_yet("ListFlights")
                .map(|e| e.with_hint("Flight SQL lists tables with GetTables")),
        ))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answered<FlightInfo> {
        let caller = caller_of(&request)?;
        let info = self.start(&caller.session, request.into_inner()).await;
        caller.answer(info)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answered<PollInfo> {
        let caller = caller_of(&request)?;
        let info = self.start(&caller.session, request.into_inner()).await;
        // It can be fetched as soon as it is planned: there is nothing to poll for.
        let poll = info.and_then(|info| Ok(PollInfo::new().with_info(info).try_with_progress(1.0)?));
        caller.answer(poll)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answered<SchemaResult> {
        let caller = caller_of(&request)?;
        let schema = self.schema(&caller.session, request.get_ref()).await;
        let schema = schema.and_then(|schema| Ok(SchemaResult { schema: encode::schema(&schema)? }));
        caller.answer(schema)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answered<Self::DoGetStream> {
        let caller = caller_of(&request)?;
        let rows = self.fetch(&caller.session, request.get_ref()).await;
        caller.answer(rows)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answered<Self::DoPutStream> {
        let caller = caller_of(&request)?;
        let messages = Box::pin(request.into_inner());
        let result = put::put(&caller.session, messages, self.shared.options.message_bytes_max).await;
        let (result, notes) = match result {
            Ok((result, notes)) => (Ok(result), notes),
            Err(error) => (Err(error), Vec::new()),
        };
        let mut answer = caller.answer(result.map(one))?;
        if let Some(notes) = notes::header(&notes).and_then(|notes| notes.parse().ok()) {
            answer.metadata_mut().insert(NOTES_HEADER, notes);
        }
        Ok(answer)
    }

    async fn do_action(&self, request: Request<Action>) -> Answered<Self::DoActionStream> {
        let caller = caller_of(&request)?;
        let result = action::run(&self.shared, &caller.session, request.into_inner()).await;
        caller.answer(result.map(|body| {
            let answer = body.map(|body| Ok(arrow_flight::Result { body }));
            futures::stream::iter(answer).boxed() as Self::DoActionStream
        }))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answered<Self::ListActionsStream> {
        let caller = caller_of(&request)?;
        caller.answer(Ok(futures::stream::iter(action::list().map(Ok)).boxed() as Self::ListActionsStream))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answered<Self::DoExchangeStream> {
        Err(status::of(&Error::not_supported_yet("DoExchange")))
    }
}

/// The caller, whom `calls` found before it let the call in.
fn caller_of<T>(request: &Request<T>) -> std::result::Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| status::of(&Error::new(ErrorKind::Internal, "the call has no caller")))
}

fn one<T: Send + 'static>(answer: T) -> Answers<T> {
    futures::stream::iter([Ok(answer)]).boxed()
}
