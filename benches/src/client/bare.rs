//! What arrow-flight alone can do: a server that holds batches in memory and sends them.
//!
//! The batches are those that the server sent for a statement; they are encoded as arrow-flight does it by default.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::json;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::{connect, told_to_end};
use crate::Result;

type Messages<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;
type Answer<T> = std::result::Result<Response<T>, Status>;

/// See the module.
struct Bare {
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

/// Fetches the rows of `sql`, says where it listens, and serves them until the end of standard input.
pub(super) async fn run(url: &str, sql: &str) -> Result<()> {
    let bare = fetch(url, sql).await?;
    let rows: usize = bare.batches.iter().map(RecordBatch::num_rows).sum();
    let batches = bare.batches.len();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
    let address = incoming.local_addr()?.to_string();
    println!("{}", json!({ "address": address, "rows": rows, "batches": batches }));
    let stop = async {
        // Standard input that can't be read has ended, too.
        let _ = told_to_end().await;
    };
    let service = FlightServiceServer::new(bare);
    Ok(Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await?)
}

async fn fetch(url: &str, sql: &str) -> Result<Bare> {
    let mut client = connect(url).await?;
    let info = client.execute(sql.to_owned(), None).await?;
    let ticket = info.endpoint.first().and_then(|e| e.ticket.clone()).ok_or("no ticket")?;
    let batches: Vec<RecordBatch> = client.do_get(ticket).await?.try_collect().await?;
    let schema = batches.first().ok_or("the statement has no rows")?.schema();
    Ok(Bare { schema, batches: batches.into() })
}

/// The answer to everything but DoGet.
fn absent<T>() -> Answer<T> {
    Err(Status::unimplemented("this server has rows only"))
}

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;
    type DoExchangeStream = Messages<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let batches = Arc::clone(&self.batches);
        let rows = futures::stream::iter(0..batches.len()).map(move |i| Ok(batches[i].clone()));
        let encoder = FlightDataEncoderBuilder::new().with_schema(Arc::clone(&self.schema)).build(rows);
        Ok(Response::new(Box::pin(encoder.map_err(Status::from))))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        absent()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        absent()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        absent()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        absent()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        absent()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        absent()
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        absent()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        absent()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        absent()
    }
}
