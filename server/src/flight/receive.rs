//! Messages with rows from a client, on their way into the decoder and out of it.
//!
//! Owns: what a message may claim: buffers within its body, lengths that its limit leaves room for, also once it is decompressed. The
//! decoder takes memory for what it is told before it looks whether it is true. It panics where a message contradicts itself or its
//! schema: that is an error of these rows ([`ReceivedRows`]). Does not own: decoding, values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::{self, MessageHeader};
use futures::{Stream, StreamExt};

use super::status::wrong_request;

/// Bytes before a compressed buffer: its length when it is decompressed.
const LENGTH_BYTES: usize = 8;
/// Says in their place that the buffer is not compressed.
const NOT_COMPRESSED: i64 = -1;
/// Rows converted at a time: one value of a client (NULL, a run) may stand for rows of any number.
const ROWS_AT_ONCE: usize = 16_384;

/// The rows of checked messages. A panic of the decoder would end the connection, with all other calls on it.
pub(super) struct ReceivedRows {
    decoder: FlightRecordBatchStream,
    /// The decoder has panicked: what it holds is of no use.
    is_broken: bool,
}

impl ReceivedRows {
    /// Those of `messages`.
    pub(super) fn new(
        messages: impl Stream<Item = std::result::Result<FlightData, FlightError>> + Send + 'static,
    ) -> Self {
        Self { decoder: FlightRecordBatchStream::new_from_flight_data(messages), is_broken: false }
    }

    /// Their schema, once it has come.
    pub(super) fn schema(&self) -> Option<&SchemaRef> {
        self.decoder.schema()
    }
}

impl Stream for ReceivedRows {
    type Item = std::result::Result<RecordBatch, FlightError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_broken {
            return Poll::Ready(None);
        }
        // Unwind safe: the decoder is not asked again.
        let polled = catch_unwind(AssertUnwindSafe(|| self.decoder.poll_next_unpin(context)));
        polled.unwrap_or_else(|_| {
            self.is_broken = true;
            let error = wrong("a message contradicts itself or the schema");
            Poll::Ready(Some(Err(FlightError::ExternalError(Box::new(error)))))
        })
    }
}

/// Checks what `message` claims; `bytes_max` is the limit of a message, and of what is decompressed from it. An array may have as
/// many values.
///
/// # Errors
/// `ResourceExhausted` for more; `InvalidInput` (08P01) for what cannot be true.
pub(super) fn check(message: &FlightData, bytes_max: usize) -> Result<()> {
    if message.data_header.is_empty() {
        return Ok(());
    }
    let header = ipc::root_as_message(&message.data_header)
        .map_err(|error| wrong_request(format!("the rows can't be read: {error}")))?;
    let batch = match header.header_type() {
        MessageHeader::RecordBatch => header.header_as_record_batch(),
        MessageHeader::DictionaryBatch => header.header_as_dictionary_batch().and_then(|d| d.data()),
        _ => None,
    };
    match batch {
        Some(batch) => check_batch(batch, &message.data_body, bytes_max),
        None => Ok(()),
    }
}

fn check_batch(batch: ipc::RecordBatch<'_>, body: &[u8], bytes_max: usize) -> Result<()> {
    let lengths = batch.nodes().into_iter().flatten().map(ipc::FieldNode::length);
    for length in lengths.chain([batch.length()]) {
        let length = usize::try_from(length).map_err(|_| wrong("a number of rows is negative"))?;
        if length > bytes_max {
            return Err(too_large(format!("{length} values in one array"), bytes_max));
        }
    }
    let is_compressed = batch.compression().is_some();
    let mut total = 0_usize;
    for buffer in batch.buffers().into_iter().flatten() {
        let part = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?));
        let part = part.ok_or_else(|| wrong("a buffer is not within the message"))?;
        let claimed = match part.first_chunk::<LENGTH_BYTES>().map(|bytes| i64::from_le_bytes(*bytes)) {
            Some(length) if is_compressed && length != NOT_COMPRESSED => {
                usize::try_from(length).map_err(|_| wrong("a length is negative"))?
            }
            _ => part.len(),
        };
        total = total.saturating_add(claimed);
    }
    if total > bytes_max {
        return Err(too_large(format!("{total} bytes of rows in one message"), bytes_max));
    }
    Ok(())
}

/// `batch` in parts that can be converted without taking much memory.
pub(super) fn parts(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    (0..rows).step_by(ROWS_AT_ONCE).map(move |first| batch.slice(first, ROWS_AT_ONCE.min(rows - first)))
}

fn wrong(what: &str) -> Error {
    wrong_request(format!("the rows can't be read: {what}"))
}

fn too_large(what: String, bytes_max: usize) -> Error {
    let message = format!("{what}, {bytes_max} at most are taken");
    Error::new(ErrorKind::ResourceExhausted, message)
        .map(|e| e.with_sqlstate("54000").with_hint("send smaller batches, or raise flight.message_max"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow_flight::utils::batches_to_flight_data;
    use datafusion::arrow::array::{ArrayRef, Int64Array, NullArray, StringViewArray};

    use super::*;

    fn message(column: ArrayRef) -> FlightData {
        let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        batches_to_flight_data(&batch.schema(), vec![batch]).unwrap().pop().unwrap()
    }

    #[test]
    fn what_a_message_claims_must_fit() {
        let numbers = message(Arc::new(Int64Array::from_iter_values(0..1_000)));
        assert!(check(&numbers, 16_000).is_ok());
        let large = check(&numbers, 7_000).unwrap_err();
        assert_eq!((large.kind(), large.sqlstate()), (ErrorKind::ResourceExhausted, "54000"));
        let short = FlightData { data_body: numbers.data_body.slice(..100), ..numbers.clone() };
        assert_eq!(check(&short, 16_000).unwrap_err().sqlstate(), "08P01");
        // Rows that take no bytes.
        let nothing = message(Arc::new(NullArray::new(1 << 40)));
        assert_eq!(check(&nothing, 16_000).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        let garbage = FlightData { data_header: vec![7; 40].into(), ..numbers };
        assert_eq!(check(&garbage, 16_000).unwrap_err().sqlstate(), "08P01");
    }

    #[test]
    fn rows_of_another_schema_are_an_error_and_the_end() {
        let messages = |column: ArrayRef| {
            let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
            batches_to_flight_data(&batch.schema(), vec![batch]).unwrap()
        };
        let numbers = messages(Arc::new(Int64Array::from_iter_values(0..3)));
        let texts =
            messages(Arc::new(StringViewArray::from_iter_values(["a", "b", "more than twelve bytes"])));
        let sent = [numbers[0].clone(), numbers[1].clone(), texts[1].clone(), numbers[1].clone()];
        let rows = ReceivedRows::new(futures::stream::iter(sent.map(Ok)));
        let rows: Vec<_> = futures::executor::block_on(rows.collect());
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(rows[0].as_ref().unwrap().num_rows(), 3);
        assert!(rows[1].as_ref().unwrap_err().to_string().contains("contradicts"), "{rows:?}");
    }

    #[test]
    fn long_batches_come_in_parts() {
        let rows = 2 * ROWS_AT_ONCE + 5;
        let batch = RecordBatch::try_from_iter_with_nullable([(
            "a",
            Arc::new(NullArray::new(rows)) as ArrayRef,
            true,
        )])
        .unwrap();
        let lengths: Vec<usize> = parts(batch).map(|part| part.num_rows()).collect();
        assert_eq!(lengths, [ROWS_AT_ONCE, ROWS_AT_ONCE, 5]);
    }
}
