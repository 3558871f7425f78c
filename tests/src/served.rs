//! A database behind a server of this process, asked over Flight SQL.
//!
//! Owns: the server on a free port of this machine, one client of arrow-flight's with its one connection. Does not own: the database
//! (`connection`).

use std::sync::Arc;

use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use cairn_engine::{Engine, SessionLimits};
use cairn_server::{Server, ServerOptions, StatementFailure};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;
use futures::TryStreamExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::answer::{Answer, SqlError, render};

/// How a client has a statement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// GetFlightInfo with its text, then DoGet.
    Plain,
    /// Prepared, executed once, closed.
    Prepared,
}

/// See the module.
pub struct Served {
    client: FlightSqlServiceClient<Channel>,
    calls: Calls,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<cairn_engine::Result<()>>,
}

impl Served {
    /// Serves `engine` and connects. Statements may touch every file, as those of a shell.
    ///
    /// # Errors
    /// When the server can't be started or reached.
    pub async fn start(engine: Arc<Engine>, calls: Calls) -> Result<Self, SqlError> {
        let options = ServerOptions {
            flight: Some(([127, 0, 0, 1], 0).into()),
            http: None,
            limits: SessionLimits { copy_root: Some("/".into()), ..SessionLimits::default() },
            ..ServerOptions::default()
        };
        let server = Server::bind(engine, options).await?;
        let address = server.flight_address().ok_or_else(|| SqlError::of_test("no address"))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        }));
        let endpoint = Channel::from_shared(format!("http://{address}")).map_err(SqlError::of_test)?;
        let channel = endpoint.connect().await.map_err(SqlError::of_test)?;
        Ok(Self { client: FlightSqlServiceClient::new(channel), calls, stop, ended })
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// What the server says.
    ///
    /// # Panics
    /// When the server promises other columns than those of the rows.
    pub async fn run(&mut self, sql: &str) -> Result<Answer, SqlError> {
        match self.calls {
            Calls::Plain => {
                let info = self.client.execute(sql.to_owned(), None).await.map_err(failed)?;
                Ok(self.fetch(info).await?.1)
            }
            Calls::Prepared => {
                let mut prepared = self.client.prepare(sql.to_owned(), None).await.map_err(failed)?;
                let info = prepared.execute().await.map_err(failed)?;
                let (schema, answer) = self.fetch(info).await?;
                let promised = prepared.dataset_schema().map_err(SqlError::of_test)?;
                assert!(keeps(promised, &schema), "{sql}: prepared as {promised:?}, run as {schema:?}");
                prepared.close().await.map_err(failed)?;
                Ok(answer)
            }
        }
    }

    async fn fetch(&mut self, info: FlightInfo) -> Result<(Schema, Answer), SqlError> {
        let changed = u64::try_from(info.total_records).ok();
        let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
        let ticket = ticket.ok_or_else(|| SqlError::of_test("a result without a ticket"))?;
        let schema = info.try_decode_schema().map_err(SqlError::of_test)?;
        let rows = self.client.do_get(ticket).await.map_err(failed)?;
        let batches: Vec<RecordBatch> = rows.try_collect().await.map_err(failed)?;
        let answer = changed.map_or_else(|| render(&schema, &batches), Answer::Affected);
        Ok((schema, answer))
    }

    /// Disconnects and stops the server.
    ///
    /// # Errors
    /// What the server ends with.
    pub async fn stop(self) -> Result<(), SqlError> {
        let Self { client, stop, ended, .. } = self;
        drop(client);
        // A server that has ended by itself says why.
        let _ = stop.send(());
        Ok(ended.await.map_err(SqlError::of_test)??)
    }
}

/// Whether rows have the columns that were promised when the statement was prepared: planning may find that one is never NULL.
fn keeps(promised: &Schema, schema: &Schema) -> bool {
    let mut columns = promised.fields().iter().zip(schema.fields());
    promised.fields().len() == schema.fields().len()
        && columns.all(|(promised, column)| {
            promised.name() == column.name()
                && promised.data_type() == column.data_type()
                && (promised.is_nullable() || !column.is_nullable())
        })
}

fn failed(error: FlightError) -> SqlError {
    let status = status(error);
    match StatementFailure::read(&status) {
        Some(said) => SqlError { sqlstate: said.sqlstate, message: said.message },
        None => SqlError::of_test(status),
    }
}

/// The status behind an error of arrow-flight's client, which wraps some of them.
#[must_use]
pub fn status(error: FlightError) -> Status {
    let boxed = |error: Box<dyn std::error::Error + Send + Sync>| match error.downcast::<FlightError>() {
        Ok(error) => status(*error),
        Err(error) => Status::internal(error.to_string()),
    };
    match error {
        FlightError::Tonic(status) => *status,
        FlightError::Arrow(ArrowError::ExternalError(error)) | FlightError::ExternalError(error) => {
            boxed(error)
        }
        other => Status::internal(other.to_string()),
    }
}
