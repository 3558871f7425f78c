//! A session at a server, over Flight SQL.
//!
//! Owns: one login and its token, what of the session's state the shell shows, errors of the transport in words. Does not own:
//! statements, which run at the server.
//!
//! A statement is one call: DoGet with the command in place of a ticket. Its rows stream as they are read; dropping the call, at
//! any point, resets its stream, by which the server cancels the statement.
//!
//! The session is the token's, not the connection's: a connection that breaks is made anew under it, and a server that does not know
//! it any more says so instead of going on outside of a transaction.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::decode::{DecodedFlightData, DecodedPayload};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, HandshakeRequest, Ticket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cairn_server::{Outcome, PROGRESS_ACTION, ProgressReport, StatementFailure, TRANSACTION_HEADER};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Address, Answer, Login, Tls, remote_names};
use crate::failure::Failure;
use crate::names::Names;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A server that vanished without a word is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes the server may send ahead on one stream, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How long leaving waits for the server to end the session; else it ends for being idle.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// The server is not asked how far a statement is before this, nor more often than every so long.
const ASKED_AFTER: Duration = Duration::from_secs(1);
const ASKED_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ASKED_MAX: Duration = Duration::from_secs(5);
/// How long completion waits for names at a time.
const NAMES_WAIT_MAX: Duration = Duration::from_secs(1);

type Client = FlightSqlServiceClient<Channel>;

/// See the module.
pub(super) struct Remote {
    address: Address,
    endpoint: Endpoint,
    login: Option<Login>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the token of the session; None: the session has ended, the next statement begins another.
    client: Option<Client>,
    in_transaction: bool,
    /// How the session ended, when completion was the first to meet it.
    end: Option<Failure>,
    /// Those that were read last.
    names: Arc<Names>,
    /// No statement has run since then.
    names_are_new: bool,
    /// Names on their way.
    reading: Option<JoinHandle<()>>,
    /// Remarks beside the names, which the next answer tells.
    notes: Vec<String>,
    /// Statements that were begun.
    statements: u64,
    /// The last one of them.
    watched: Watched,
}

/// What is known of a statement that runs.
#[derive(Default)]
struct Watched {
    /// None: there was none.
    since: Option<Instant>,
    asked: Option<Instant>,
    /// A question on its way.
    asking: Option<JoinHandle<()>>,
    /// What the server said last.
    told: ProgressReport,
    /// It is not asked any more.
    is_silent: bool,
}

impl Remote {
    /// Begins a session.
    ///
    /// # Errors
    /// 08001 when the server can't be reached, 28xxx when it does not let `login` in.
    pub(super) async fn connect(address: &Address, login: Option<Login>, tls: &Tls) -> Result<Self, Failure> {
        let scheme = if address.is_secure { "https" } else { "http" };
        let unusable = |error: tonic::transport::Error| {
            Failure::new("08001", format!("{address} can't be used: {}", root_cause(&error)))
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", address.authority))
            .map_err(unusable)?
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .map_err(unusable)?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if address.is_secure {
            endpoint = endpoint.tls_config(tls.config()?).map_err(unusable)?;
        }
        let remote = Self { address: address.clone(), endpoint, login, state: Mutex::default() };
        remote.client().await?;
        Ok(remote)
    }

    /// The client with the session's token, which is begun when there is none.
    async fn client(&self) -> Result<Client, Failure> {
        let known = self.state().client.clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.log_in().await?;
        self.state().client = Some(client.clone());
        Ok(client)
    }

    async fn log_in(&self) -> Result<Client, Failure> {
        let channel = self.endpoint.connect().await.map_err(|error| self.unreachable(&root_cause(&error)))?;
        // A single row may be larger than gRPC's usual limit.
        let flight = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut client = FlightSqlServiceClient::new_from_inner(flight);
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        if let Some(Login { user, password }) = &self.login {
            let header = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            if let Ok(mut header) = header.parse::<MetadataValue<Ascii>>() {
                header.set_sensitive(true);
                request.metadata_mut().insert("authorization", header);
            }
        }
        let answer = client.inner_mut().handshake(request).await.map_err(|status| self.refused(&status))?;
        let token = answer.metadata().get("authorization").and_then(|header| header.to_str().ok());
        let token = token.and_then(|header| header.strip_prefix("Bearer ")).map(str::to_owned);
        client.set_token(token.ok_or_else(|| self.foreign())?);
        // The answer's end: a server that is none of ours may fail only here.
        answer
            .into_inner()
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(|s| self.refused(&s))?;
        Ok(client)
    }

    pub(super) async fn execute(self: &Arc<Self>, sql: &str) -> Result<Answer, Failure> {
        let end = {
            let mut state = self.state();
            (state.names_are_new, state.statements) = (false, state.statements + 1);
            let now = Watched { since: Some(Instant::now()), ..Watched::default() };
            let before = std::mem::replace(&mut state.watched, now);
            for task in [state.reading.take(), before.asking].into_iter().flatten() {
                task.abort();
            }
            state.end.take()
        };
        match end {
            Some(end) => Err(end),
            None => {
                let mut answer = self.run(sql).await?;
                let mut notes = std::mem::take(&mut self.state().notes);
                notes.append(answer.notes_mut());
                *answer.notes_mut() = notes;
                Ok(answer)
            }
        }
    }

    /// Keeps what the server has remarked beside rows that nobody is shown.
    pub(super) fn keep_notes(&self, notes: Vec<String>) {
        self.state().notes.extend(notes);
    }

    /// Runs a statement, the user's or one of the shell's own.
    pub(super) async fn run(self: &Arc<Self>, sql: &str) -> Result<Answer, Failure> {
        let mut client = self.client().await?;
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let rows = client.do_get(ticket).await.map_err(|error| self.failed(error))?;
        self.see(rows.headers());
        let mut messages = rows.into_inner();
        let DecodedFlightData { inner, payload: DecodedPayload::Schema(schema) } =
            messages.try_next().await.map_err(|error| self.failed(error))?.ok_or_else(|| self.foreign())?
        else {
            return Err(self.foreign());
        };
        if let Some(Outcome { verb, rows, notes }) = Outcome::read(&inner.app_metadata) {
            messages.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(|e| self.failed(e))?;
            return Ok(Answer::done(&verb, rows, notes));
        }
        let notes = Outcome::notes_beside_rows(&inner.app_metadata);
        let remote = Arc::clone(self);
        let batches = messages.filter_map(move |message| {
            std::future::ready(match message.map(|message| message.payload) {
                Ok(DecodedPayload::RecordBatch(batch)) => Some(Ok(batch)),
                Ok(DecodedPayload::None | DecodedPayload::Schema(_)) => None,
                Err(error) => Some(Err(remote.failed(error))),
            })
        });
        Ok(Answer::Rows { schema, batches: batches.boxed(), notes })
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.state().in_transaction
    }

    /// How far the statement is that runs, as the server said last. When that is a while ago it is asked anew, on `work`: only whoever
    /// shows the answer makes it ask.
    pub(super) fn progress(self: &Arc<Self>, with_jobs: bool, work: &Handle) -> ProgressReport {
        let mut state = self.state();
        let statement = state.statements;
        let watched = &mut state.watched;
        let is_due = !watched.is_silent
            && watched.since.is_some_and(|since| since.elapsed() >= ASKED_AFTER)
            && watched.asked.is_none_or(|asked| asked.elapsed() >= ASKED_EVERY)
            && watched.asking.as_ref().is_none_or(JoinHandle::is_finished);
        if is_due {
            watched.asked = Some(Instant::now());
            watched.asking = Some(work.spawn(Arc::clone(self).ask(statement, with_jobs)));
        }
        watched.told.clone()
    }

    async fn ask(self: Arc<Self>, statement: u64, with_jobs: bool) {
        let client = self.state().client.clone();
        let Some(mut client) = client else { return };
        let answer = async {
            let action = Action::new(PROGRESS_ACTION, ProgressReport::request(with_jobs));
            let mut results = client.do_action(action).await?;
            Ok::<_, FlightError>(results.message().await?)
        };
        let answer = timeout(ASKED_MAX, answer).await;
        let mut state = self.state();
        if state.statements != statement {
            return;
        }
        match answer {
            // None: the statement has ended, or has yet to begin.
            Ok(Ok(report)) => {
                let report = report.and_then(|report| ProgressReport::read(&report.body));
                state.watched.told = report.unwrap_or_default();
            }
            // An older server, or the statement meets the same.
            Ok(Err(_)) => state.watched.is_silent = true,
            // A busy one, which is asked again.
            Err(_) => {}
        }
    }

    /// The names there are; those of the last time, or none, when the server takes long: then they go on to be read, and the next
    /// call has them. A statement of the user's ends that.
    pub(super) async fn names(self: &Arc<Self>) -> Arc<Names> {
        let reading = {
            let mut state = self.state();
            if state.names_are_new || state.end.is_some() {
                return Arc::clone(&state.names);
            }
            state.reading.take()
        };
        let mut reading = reading.unwrap_or_else(|| tokio::spawn(Arc::clone(self).read_names()));
        let is_over = timeout(NAMES_WAIT_MAX, &mut reading).await.is_ok();
        let mut state = self.state();
        if !is_over {
            state.reading = Some(reading);
        }
        Arc::clone(&state.names)
    }

    async fn read_names(self: Arc<Self>) {
        let statements = self.state().statements;
        let read = remote_names::read(&self).await;
        let mut state = self.state();
        match read {
            Ok(names) => state.names = Arc::new(names),
            // The next statement says it, and does not run: it may have been meant for a transaction.
            Err(failure) => state.end = failure.is_end.then_some(failure),
        }
        state.names_are_new = state.statements == statements;
    }

    /// Ends the session; what is open in it is rolled back.
    pub(super) async fn close(&self) {
        let client = self.state().client.take();
        if let Some(mut client) = client {
            // A session that can't be ended ends for being idle.
            let _ = timeout(CLOSE_MAX, client.do_action(Action::new("CloseSession", Bytes::new()))).await;
        }
    }

    fn see(&self, metadata: &MetadataMap) {
        if let Some(transaction) = metadata.get(TRANSACTION_HEADER) {
            self.state().in_transaction = transaction == "open";
        }
    }

    /// What a failed call means.
    fn failed(&self, error: FlightError) -> Failure {
        let status = match error {
            FlightError::Tonic(status) => *status,
            other => return self.garbled(&other),
        };
        self.see(status.metadata());
        let Some(said) = StatementFailure::read(&status) else { return self.broken(&status) };
        if said.sqlstate != "28000" {
            return said.into();
        }
        let mut state = self.state();
        let why = said.message;
        let rolled_back = if state.in_transaction { "; the open transaction is rolled back" } else { "" };
        *state = State::default();
        let mut end =
            Failure::new("28000", format!("the session at {} has ended{rolled_back}", self.address))
                .with_hint("the next statement begins another one, with settings as at the start")
                .that_ends();
        end.detail = Some(why.into());
        end
    }

    /// A login that failed.
    fn refused(&self, status: &Status) -> Failure {
        match StatementFailure::read(status) {
            Some(said) if said.sqlstate == "28000" => Failure::from(said).with_hint(
                "give --user NAME; the password comes from CAIRN_PASSWORD, --password-file or a prompt",
            ),
            Some(said) => said.into(),
            None if status.code() == Code::Unimplemented => self.foreign(),
            None => self.unreachable(&cause_of(status)),
        }
        .that_ends()
    }

    fn unreachable(&self, why: &str) -> Failure {
        let hint = if self.address.is_secure {
            "grpc:// is for a server that does not encrypt; --tls-ca FILE names the root of a certificate of one's own"
        } else {
            "`cairn serve ROOT` starts a server and says its address; one that encrypts has grpc+tls:// in it"
        };
        Failure::new("08001", format!("{} can't be reached: {why}", self.address)).with_hint(hint).that_ends()
    }

    /// The connection broke, or somebody between refused the call.
    fn broken(&self, status: &Status) -> Failure {
        let why = cause_of(status);
        match status.code() {
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
                Failure::new("08006", format!("the connection to {} is lost: {why}", self.address))
                    .with_hint(
                        "what the statement was to change may be there or not: look before you run it again",
                    )
                    .that_ends()
            }
            code => Failure::new("08P01", format!("{} refused the call: {code}: {why}", self.address)),
        }
    }

    fn garbled(&self, error: &FlightError) -> Failure {
        Failure::new("08P01", format!("the answer of {} can't be read: {error}", self.address))
    }

    fn foreign(&self) -> Failure {
        Failure::new("08P01", format!("{} is no Cairn server", self.address))
            .with_hint("the port of Flight SQL is meant, not that of HTTP")
            .that_ends()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened to a call that no Cairn server answered.
fn cause_of(status: &Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), root_cause)
}

/// The last of the causes of an error, which says what happened.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
