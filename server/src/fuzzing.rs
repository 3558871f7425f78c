//! Doors of the fuzz targets (`tests/src/fuzz`) to what reads the bytes of a client. No part of the interface.

pub use crate::flight::fuzzing::{action_bodies, command, handle, handle_text, ticket};
pub use crate::http::is_request;
