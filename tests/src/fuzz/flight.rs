//! What clients of Flight SQL send: commands and tickets, bodies of actions, handles.

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCreatePreparedStatementRequest, ActionEndTransactionRequest, Any,
    CommandGetTables, CommandStatementIngest, CommandStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{CancelFlightInfoRequest, FlightEndpoint, FlightInfo, Ticket};
use cairn_server::fuzzing;
use prost::Message;

use super::{Seed, is_statement_error};

pub(super) fn run(bytes: &[u8]) {
    match fuzzing::command(bytes) {
        Ok(again) => {
            let twice = fuzzing::command(&again).expect("a command that was packed");
            // Options of an ingestion have no order.
            assert_eq!(twice.len(), again.len(), "a command is packed in two ways");
        }
        Err(error) => is_statement_error(&error),
    }
    match fuzzing::ticket(bytes) {
        Ok(handle) => assert_eq!(fuzzing::handle(&handle).as_ref(), Some(&handle)),
        Err(error) => is_statement_error(&error),
    }
    let _of_how_many = fuzzing::action_bodies(bytes);
    if let Some(handle) = fuzzing::handle(bytes) {
        assert_eq!(handle, bytes);
    }
    if let Some(text) = std::str::from_utf8(bytes).ok().and_then(fuzzing::handle_text) {
        assert_eq!(fuzzing::handle_text(&text).as_ref(), Some(&text));
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let handle = vec![0xC5; 16];
    let ticket = packed(&TicketStatementQuery { statement_handle: handle.clone().into() });
    let query =
        CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: Some(handle.clone().into()) };
    let tables = CommandGetTables {
        db_schema_filter_pattern: Some("ma%".to_owned()),
        table_types: vec!["TABLE".to_owned(), "VIEW".to_owned()],
        include_schema: true,
        ..CommandGetTables::default()
    };
    let ingest = CommandStatementIngest { table: "t".to_owned(), ..CommandStatementIngest::default() };
    let prepare =
        ActionCreatePreparedStatementRequest { query: "SELECT $1".to_owned(), transaction_id: None };
    let end = ActionEndTransactionRequest { transaction_id: handle.clone().into(), action: 1 };
    let endpoint = FlightEndpoint {
        ticket: Some(Ticket { ticket: ticket.clone().into() }),
        ..FlightEndpoint::default()
    };
    let info = FlightInfo { endpoint: vec![endpoint], total_records: 3, ..FlightInfo::default() };
    let cancel_query = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
    let cancel = CancelFlightInfoRequest { info: Some(info) };
    vec![
        ("query", packed(&query)),
        ("tables", packed(&tables)),
        ("ingest", packed(&ingest)),
        ("ticket", ticket),
        ("prepare", packed(&prepare)),
        ("end-transaction", packed(&end)),
        ("cancel-query", packed(&cancel_query)),
        ("cancel", cancel.encode_to_vec()),
        (
            "unknown",
            Any { type_url: "type.example/Nothing".to_owned(), value: handle.clone().into() }.encode_to_vec(),
        ),
        ("handle", handle),
        ("handle-text", b"000102030405060708090a0b0c0d0e0f".to_vec()),
    ]
}

fn packed(message: &impl ProstMessageExt) -> Vec<u8> {
    message.as_any().encode_to_vec()
}
