//! What a statement answered, as a response.
//!
//! Owns: the writers' output cut into chunks, one batch of rows at a time and only when the client takes more; how an error after the
//! first byte is shown. Does not own: spelling (`cairn_engine::text`).
//!
//! An error after the first byte: NDJSON ends with a line `{"error":…}`; every form then breaks the connection (HTTP/2: resets the
//! stream), so no client takes the part for the whole. JSON lacks its end, Arrow its end-of-stream mark.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cairn_engine::text::{DelimitedWriter, JsonWriter, Numbers, RowWriter};
use cairn_engine::{Error, Output, RowStream};
use cairn_storage::ErrorKind;
use cairn_storage::schema::ColumnType;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use serde_json::json;

use super::document::document;
use super::error::Problem;
use super::format::Format;
use super::gate::Pass;
use crate::flight::wire;
use crate::notes::{self, NOTES_HEADER};

/// Text of about so many bytes is written at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows that are written at a time however long they are.
const ROWS_MIN: usize = 64;

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) numbers: Numbers,
}

/// The response for `output`; `pass` is held until its last byte.
///
/// # Errors
/// What happened before the first rows were there.
pub(super) async fn of(output: Output, form: Form, pass: Pass) -> Result<Response, Problem> {
    match output {
        Output::Rows(rows) => stream(rows, form, pass).await,
        Output::Affected { verb, rows, notes } => {
            Ok(document(&json!({"statement": verb, "affected": rows, "notes": notes})))
        }
        Output::Done { verb, notes } => Ok(document(&json!({"statement": verb, "notes": notes}))),
    }
}

async fn stream(rows: RowStream, form: Form, pass: Pass) -> Result<Response, Problem> {
    let RowStream { schema, mut stream, notes } = rows;
    let first = match stream.next().await {
        Some(batch) => Some(batch.map_err(Error::from)?),
        None => None,
    };
    let writer = Writer::new(&schema, form, &notes)?;
    let body = Answer {
        rows: stream,
        waiting: first.map(in_parts),
        writer: Some(writer),
        failed: None,
        _pass: pass,
    };
    let chunks = futures::stream::unfold(body, |mut answer| async {
        let chunk = answer.chunk().await?;
        Some((chunk, answer))
    });
    let mut response =
        ([(header::CONTENT_TYPE, form.format.media_type())], Body::from_stream(chunks)).into_response();
    if let Some(notes) = notes::header(&notes).and_then(|notes| HeaderValue::try_from(notes).ok()) {
        response.headers_mut().insert(NOTES_HEADER, notes);
    }
    Ok(response)
}

/// Rows on their way to the client.
struct Answer {
    rows: SendableRecordBatchStream,
    /// Rows not written yet, and how many of them are written at a time.
    waiting: Option<(RecordBatch, usize)>,
    /// None once the end is written.
    writer: Option<Writer>,
    /// The connection is broken next.
    failed: Option<Error>,
    _pass: Pass,
}

impl Answer {
    async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        if let Some(error) = self.failed.take() {
            // What was written before has left by then.
            tokio::task::yield_now().await;
            return Some(Err(error));
        }
        loop {
            let writer = self.writer.as_mut()?;
            let written = match self.waiting.take() {
                Some((batch, at_a_time)) => {
                    let now = batch.num_rows().min(at_a_time);
                    let later = batch.num_rows() - now;
                    if later > 0 {
                        self.waiting = Some((batch.slice(now, later), at_a_time));
                    }
                    writer.write(&batch.slice(0, now))
                }
                None => match self.rows.next().await {
                    Some(Ok(batch)) => {
                        self.waiting = Some(in_parts(batch));
                        continue;
                    }
                    Some(Err(error)) => Err(Error::from(error)),
                    None => {
                        let end = writer.finish();
                        self.writer = None;
                        end
                    }
                },
            };
            match written {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => return Some(Ok(chunk)),
                Err(error) => return Some(self.fail(error)),
            }
        }
    }

    fn fail(&mut self, error: Error) -> Result<Bytes, Error> {
        let line = self.writer.take().and_then(|writer| writer.last_words(&error));
        match line {
            Some(line) => {
                self.failed = Some(error);
                Ok(line)
            }
            None => Err(error),
        }
    }
}

/// `batch`, with the number of its rows that take about [`CHUNK_BYTES`].
fn in_parts(batch: RecordBatch) -> (RecordBatch, usize) {
    let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
    let at_a_time = (CHUNK_BYTES / row_bytes.max(1)).max(ROWS_MIN);
    (batch, at_a_time)
}

/// Writes one form.
enum Writer {
    Text {
        rows: Box<dyn RowWriter>,
        format: Format,
        /// Written before anything else.
        head: Vec<u8>,
        count: u64,
    },
    Arrow {
        schema: SchemaRef,
        stream: Box<StreamWriter<Vec<u8>>>,
    },
}

impl Writer {
    fn new(schema: &SchemaRef, form: Form, notes: &[String]) -> Result<Self, Error> {
        let text = |rows, head| Self::Text { rows, format: form.format, head, count: 0 };
        Ok(match form.format {
            Format::Json => {
                text(Box::new(JsonWriter::rows(schema).with_numbers(form.numbers)), json_head(schema, notes))
            }
            Format::Ndjson => {
                text(Box::new(JsonWriter::lines(schema).with_numbers(form.numbers)), Vec::new())
            }
            Format::Csv => text(Box::new(DelimitedWriter::csv(schema)), Vec::new()),
            Format::Arrow => {
                let schema = wire::schema(schema);
                let stream = Box::new(StreamWriter::try_new(Vec::new(), &schema)?);
                Self::Arrow { schema, stream }
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, Error> {
        match self {
            Self::Text { rows, head, count, .. } => {
                let mut out = std::mem::take(head);
                rows.batch(batch, &mut out).map_err(unwritable)?;
                *count += batch.num_rows() as u64;
                Ok(out.into())
            }
            Self::Arrow { schema, stream } => {
                for batch in wire::batches(batch, schema)? {
                    stream.write(&batch)?;
                }
                Ok(std::mem::take(stream.get_mut()).into())
            }
        }
    }

    fn finish(&mut self) -> Result<Bytes, Error> {
        match self {
            Self::Text { rows, format, head, count } => {
                let mut out = std::mem::take(head);
                rows.finish(&mut out).map_err(unwritable)?;
                if *format == Format::Json {
                    write!(out, "],\n\"row_count\":{count}}}\n").map_err(unwritable)?;
                }
                Ok(out.into())
            }
            Self::Arrow { stream, .. } => {
                stream.finish()?;
                Ok(std::mem::take(stream.get_mut()).into())
            }
        }
    }

    /// The line that says why no more rows come, where the form has room for one.
    fn last_words(self, error: &Error) -> Option<Bytes> {
        match self {
            Self::Text { format: Format::Ndjson, .. } => {
                Some(format!("{}\n", Problem::from(error.clone()).to_json()).into())
            }
            Self::Text { .. } | Self::Arrow { .. } => None,
        }
    }
}

/// The beginning of a JSON document, up to its rows.
fn json_head(schema: &SchemaRef, notes: &[String]) -> Vec<u8> {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let data_type = wire::data_type(field.data_type());
            let name = ColumnType::from_arrow(field.data_type())
                .map_or_else(|| data_type.to_string(), |column_type| column_type.to_string());
            json!({"name": field.name(), "type": name})
        })
        .collect();
    let columns = serde_json::Value::from(columns);
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!("\"notes\":{},\n", json!(notes)),
    };
    format!("{{\"columns\":{columns},\n{notes}\"rows\":[").into_bytes()
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn long_batches_are_cut() {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let (_, at_a_time) = in_parts(RecordBatch::try_from_iter([("id", ids)]).unwrap());
        assert!((CHUNK_BYTES / 32..=CHUNK_BYTES / 8).contains(&at_a_time), "{at_a_time}");
        let wide: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 3]));
        assert_eq!(in_parts(RecordBatch::try_from_iter([("t", wide)]).unwrap()).1, ROWS_MIN);
    }
}
