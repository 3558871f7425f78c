//! Commands as clients pack them.

use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{Any, Command, ProstMessageExt};
use cairn_engine::Result;
use prost::Message;

use super::status::wrong_request;

/// The command of a descriptor.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub(super) fn of_descriptor(descriptor: &FlightDescriptor) -> Result<Command> {
    if descriptor.cmd.is_empty() {
        return Err(wrong_request("the descriptor has no Flight SQL command"));
    }
    read(&descriptor.cmd)
}

/// A packed command.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub(super) fn read(bytes: &[u8]) -> Result<Command> {
    let any = Any::decode(bytes)
        .map_err(|error| wrong_request(format!("the command is no Flight SQL message: {error}")))?;
    if any.type_url.is_empty() {
        return Err(wrong_request("the command or ticket is empty, or does not say what it is"));
    }
    Command::try_from(any)
        .map_err(|error| wrong_request(format!("the command is no Flight SQL message: {error}")))
}

/// The message in an action's body.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub(super) fn packed<M: ProstMessageExt>(body: &[u8]) -> Result<M> {
    let any = Any::decode(body);
    let message = any.ok().and_then(|any| any.unpack::<M>().ok().flatten());
    message.ok_or_else(|| wrong_request(format!("the action's body is no {}", M::type_url())))
}

/// The message in an action's body, unpacked, as Flight's own actions have it.
///
/// # Errors
/// `InvalidInput` (08P01) for something else.
pub(super) fn plain<M: Message + Default>(body: &[u8]) -> Result<M> {
    M::decode(body).map_err(|error| wrong_request(format!("the action's body can't be read: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_command() {
        for nothing in [&b""[..], b"\x12\x01x"] {
            let error = read(nothing).unwrap_err();
            assert_eq!(error.sqlstate(), "08P01", "{}", error.message());
        }
    }
}
