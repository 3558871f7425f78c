//! Rows into Flight messages, as fast as the client takes them.
//!
//! Nothing is encoded ahead: the next batch is asked for when the last message of the one before was taken.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::encode::{FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use datafusion::error::DataFusionError;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;

use super::{status, wire};

/// Flight messages of a result.
pub(crate) type FlightStream = Pin<Box<dyn Stream<Item = std::result::Result<FlightData, Status>> + Send>>;

/// Encodes `rows` as batches of `schema`, which `wire::schema` made of theirs; `app_metadata` goes with the schema.
pub(crate) fn stream(
    rows: impl Stream<Item = std::result::Result<RecordBatch, DataFusionError>> + Send + Unpin + 'static,
    schema: SchemaRef,
    app_metadata: Bytes,
) -> FlightStream {
    let wanted = Arc::clone(&schema);
    let parts = futures::stream::unfold((rows, VecDeque::new()), move |(mut rows, mut parts)| {
        let wanted = Arc::clone(&wanted);
        async move {
            loop {
                if let Some(part) = parts.pop_front() {
                    return Some((Ok(part), (rows, parts)));
                }
                match rows.next().await? {
                    Ok(batch) => match wire::batches(&batch, &wanted) {
                        Ok(cut) => parts = cut.into(),
                        Err(error) => return Some((Err(status::of(&error).into()), (rows, parts))),
                    },
                    Err(error) => return Some((Err(status::of_rows(error).into()), (rows, parts))),
                }
            }
        }
    });
    Box::pin(encoder(parts, schema, app_metadata).map_err(Status::from))
}

fn encoder(
    parts: impl Stream<Item = std::result::Result<RecordBatch, FlightError>> + Send + 'static,
    schema: SchemaRef,
    app_metadata: Bytes,
) -> FlightDataEncoder {
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_metadata(app_metadata)
        // The parts have their size already.
        .with_max_flight_data_size(usize::MAX)
        .build(parts)
}

/// A schema in its message; no bytes for one without columns, which is how Flight SQL says "no result set".
///
/// # Errors
/// A schema that can't be encoded.
pub(crate) fn schema(schema: &Schema) -> Result<Bytes> {
    let message: std::result::Result<IpcMessage, _> =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    let unencodable = |error| Error::new(ErrorKind::Internal, format!("a schema can't be encoded: {error}"));
    message.map(|message| message.0).map_err(unencodable)
}
