//! Doors of the fuzz targets (`tests/src/fuzz`) to what reads the bytes of a client. No part of the interface.

use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionCancelQueryRequest, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionEndSavepointRequest, ActionEndTransactionRequest,
};
use arrow_flight::{CancelFlightInfoRequest, FlightInfo, RenewFlightEndpointRequest};
use cairn_engine::Result;
use prost::Message;

use super::options::SetSessionOptionsRequest;
use super::{command, service};
use crate::handle::Handle;

/// The command of a descriptor or a ticket, packed again.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub fn command(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(command::read(bytes)?.into_any().encode_to_vec())
}

/// The handle of a result in its ticket.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub fn ticket(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(service::ticket_handle(bytes)?.bytes().to_vec())
}

/// A handle as bytes, written again.
#[must_use]
pub fn handle(bytes: &[u8]) -> Option<Vec<u8>> {
    Handle::read(bytes).map(|handle| handle.bytes().to_vec())
}

/// A handle as text, written again.
#[must_use]
pub fn handle_text(text: &str) -> Option<String> {
    Handle::read_text(text).map(Handle::text)
}

/// Of how many kinds of action these bytes are the body.
#[must_use]
pub fn action_bodies(body: &[u8]) -> usize {
    let read = [
        command::packed::<ActionBeginSavepointRequest>(body).is_ok(),
        command::packed::<ActionCancelQueryRequest>(body)
            .and_then(|request| command::plain::<FlightInfo>(&request.info))
            .is_ok(),
        command::packed::<ActionClosePreparedStatementRequest>(body).is_ok(),
        command::packed::<ActionCreatePreparedStatementRequest>(body).is_ok(),
        command::packed::<ActionEndSavepointRequest>(body).is_ok(),
        command::packed::<ActionEndTransactionRequest>(body).is_ok(),
        command::plain::<CancelFlightInfoRequest>(body).is_ok(),
        command::plain::<RenewFlightEndpointRequest>(body).is_ok(),
        command::plain::<SetSessionOptionsRequest>(body).is_ok(),
    ];
    read.into_iter().filter(|is_read| *is_read).count()
}
