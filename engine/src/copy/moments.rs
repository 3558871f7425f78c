//! Moments of JSON in a session's time zone.
//!
//! Arrow's reader reads them, but for times that clocks of the zone skip or show twice, which it refuses. Owns: what columns are read as then,
//! and what becomes of that. Does not own: reading (`ndjson_file`, `json_column`), which moment such a time is (`cairn_udfs::zones`).

use std::sync::Arc;

use cairn_udfs::zones::{UTC, assigned};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// `schema` with texts in the place of the moments of `zone`; None: it has none.
pub(super) fn as_texts(schema: &SchemaRef, zone: &str) -> Option<SchemaRef> {
    let texts = members(schema.fields(), zone, &|_| DataType::Utf8)?;
    Some(Arc::new(Schema::new(texts)))
}

/// `batch`, which was read as [`as_texts`] has it, as one of `schema`.
///
/// # Errors
/// When a text says no moment.
pub(super) fn said(
    batch: &RecordBatch,
    schema: &SchemaRef,
    zone: &Arc<str>,
) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| said_in(column, field.data_type(), zone));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

fn said_in(column: &ArrayRef, to: &DataType, zone: &Arc<str>) -> Result<ArrayRef, ArrowError> {
    let in_utc = |moment: &DataType| match moment {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, Some(UTC.into())),
        other => other.clone(),
    };
    let Some(utc) = changed(to, zone, &in_utc) else { return Ok(Arc::clone(column)) };
    let Some(moments) = assigned(column, &utc, zone)? else { return Ok(Arc::clone(column)) };
    if moments.null_count() > column.null_count() {
        return Err(ArrowError::ParseError("a text says no timestamp".to_owned()));
    }
    cast(&moments, to)
}

/// What a moment of the zone is to be in a type.
type Leaf<'a> = &'a dyn Fn(&DataType) -> DataType;

/// `data_type` with another type in the place of each moment of `zone`, in its lists and structs too; None: it has none.
fn changed(data_type: &DataType, zone: &str, leaf: Leaf<'_>) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(_, Some(label)) if **label == *zone => Some(leaf(data_type)),
        DataType::List(item) => {
            let inner = changed(item.data_type(), zone, leaf)?;
            Some(DataType::List(Arc::new(Field::clone(item).with_data_type(inner))))
        }
        DataType::Struct(fields) => members(fields, zone, leaf).map(DataType::Struct),
        _ => None,
    }
}

fn members(fields: &Fields, zone: &str, leaf: Leaf<'_>) -> Option<Fields> {
    let mut is_other = false;
    let member = |field: &FieldRef| match changed(field.data_type(), zone, leaf) {
        Some(data_type) => {
            is_other = true;
            Arc::new(Field::clone(field).with_data_type(data_type))
        }
        None => Arc::clone(field),
    };
    let fields: Fields = fields.iter().map(member).collect();
    is_other.then_some(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{ListArray, StringArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::TimeUnit;
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;

    #[test]
    fn times_that_are_skipped_or_there_twice_are_read() {
        let zone: Arc<str> = "Europe/Zurich".into();
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone)));
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("t", moment.clone(), true),
            Field::new("l", DataType::new_list(moment, true), true),
        ]));
        let texts = as_texts(&schema, &zone).unwrap();
        assert_eq!(texts.field(1).data_type(), &DataType::Utf8);
        let read = |text: &str| {
            let said_text: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let item = Arc::new(Field::new("item", DataType::Utf8, true));
            let list = ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::clone(&said_text), None);
            let id: ArrayRef = Arc::new(datafusion::arrow::array::Int32Array::from(vec![1]));
            let batch =
                RecordBatch::try_new(Arc::clone(&texts), vec![id, said_text, Arc::new(list)]).unwrap();
            said(&batch, &schema, &zone)
        };
        for (text, meant) in [
            ("2024-03-31 02:30:00", "2024-03-31T03:30:00+02:00"),
            ("2024-10-27 02:30:00", "2024-10-27T02:30:00+01:00"),
        ] {
            let batch = read(text).unwrap();
            assert_eq!(array_value_to_string(batch.column(1), 0).unwrap(), meant);
            assert_eq!(array_value_to_string(batch.column(2), 0).unwrap(), format!("[{meant}]"));
        }
        assert!(read("soon").is_err());
        let none = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, true)]));
        assert!(as_texts(&none, &zone).is_none());
    }
}
