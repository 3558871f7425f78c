//! A column of lists or structs filled from JSON text, one value at a time.
//!
//! Owns: that a value that does not read is known at once and stands as NULL. Does not own: decoding (Arrow's reader).

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_empty_array, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::Decoder;

use super::moments;
use crate::error::Result;

/// The column.
pub(super) struct JsonColumn {
    schema: SchemaRef,
    /// The session's time zone, which moments of the type are of; None: UTC.
    zone: Option<Arc<str>>,
    decoder: Decoder,
    values: Vec<ArrayRef>,
}

impl JsonColumn {
    pub(super) fn new(data_type: &DataType, zone: Option<Arc<str>>) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new("v", data_type.clone(), true)]));
        let decoder = decoder(&schema).map_err(cairn_storage::Error::from)?;
        Ok(Self { schema, zone, decoder, values: Vec::new() })
    }

    pub(super) fn append_null(&mut self) {
        self.values.push(new_null_array(self.schema.field(0).data_type(), 1));
    }

    /// Appends the value `text` reads as; false and a NULL when it does not read.
    pub(super) fn append(&mut self, text: &str) -> bool {
        if let Ok(Some(value)) = decoded(&mut self.decoder, text) {
            self.values.push(value);
            return true;
        }
        // What it has taken in of the bad value must not meet the next one.
        if let Ok(decoder) = decoder(&self.schema) {
            self.decoder = decoder;
        }
        match self.said(text) {
            Some(value) => {
                self.values.push(value);
                true
            }
            None => {
                self.append_null();
                false
            }
        }
    }

    /// The value, where it is only its moments that Arrow does not read.
    fn said(&self, text: &str) -> Option<ArrayRef> {
        let zone = self.zone.as_ref()?;
        let texts = moments::as_texts(&self.schema, zone)?;
        let value = decoded(&mut decoder(&texts).ok()?, text).ok()??;
        let batch = RecordBatch::try_new(texts, vec![value]).ok()?;
        let said = moments::said(&batch, &self.schema, zone).ok()?;
        Some(Arc::clone(said.column(0)))
    }

    /// The values so far; the column starts anew.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return Ok(new_empty_array(self.schema.field(0).data_type()));
        }
        let values: Vec<_> = values.iter().map(AsRef::as_ref).collect();
        Ok(concat(&values).map_err(cairn_storage::Error::from)?)
    }
}

fn decoded(decoder: &mut Decoder, text: &str) -> Result<Option<ArrayRef>, ArrowError> {
    let object = format!("{{\"v\":{text}}}\n");
    let used = decoder.decode(object.as_bytes())?;
    let Some(batch) = decoder.flush()? else { return Ok(None) };
    // Text that closes the object itself and goes on is more than one value.
    let one = used >= object.len() - 1 && batch.num_rows() == 1 && !text.trim().is_empty();
    Ok(one.then(|| Arc::clone(batch.column(0))))
}

fn decoder(schema: &SchemaRef) -> Result<Decoder, ArrowError> {
    ReaderBuilder::new(Arc::clone(schema)).with_batch_size(2).with_strict_mode(true).build_decoder()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn values_read_or_are_null() {
        let item = Arc::new(Field::new_list_field(DataType::Int32, true));
        let mut column = JsonColumn::new(&DataType::List(item), None).unwrap();
        let read: Vec<bool> =
            ["[1,2]", " [] ", "[1,\"x\"]", "[3", "4", "[5],\"v\":[6]", "[7]}\n{\"v\":[8]", "[null,9]"]
                .iter()
                .map(|text| column.append(text))
                .collect();
        assert_eq!(read[..5], [true, true, false, false, false]);
        assert_eq!(read[6..], [false, true]);
        column.append_null();
        let array = column.finish().unwrap();
        assert_eq!(array.len(), 9);
        let last = array.as_list::<i32>().value(7);
        assert_eq!((last.len(), last.null_count()), (2, 1));
        assert_eq!(column.finish().unwrap().len(), 0);
    }
}
