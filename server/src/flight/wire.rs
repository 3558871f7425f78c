//! Types and batches as they are sent.
//!
//! Owns: which Arrow type stands for which on the wire, batches of a size every client takes. Does not own: encoding them.
//! Views, dictionaries and runs are sent as plain values, every list of any length as List: older drivers know no others, and the
//! encoder would make Lists of LargeLists on its own. One function says the type, so that the schema a client was promised is the
//! schema of its rows.

use std::sync::Arc;

use cairn_engine::{Error, Result};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

/// Encoded bytes a batch is cut to; gRPC clients take messages of 4 MiB unless told otherwise.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Bytes of text one array can address.
const TEXT_BYTES_MAX: usize = i32::MAX as usize;

/// `schema` as it is sent.
pub(crate) fn schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// `schema`, which [`schema`] made, for rows of several runs of a statement: any of them may have NULL where another has none.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(nullable_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn nullable_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(nullable_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(nullable_field(item), *size),
        DataType::Struct(members) => DataType::Struct(members.iter().map(nullable_field).collect()),
        // Arrow wants the keys and entries of a map as they are.
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type).with_nullable(true))
}

/// The type that is sent for `data_type`.
pub(crate) fn data_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => self::data_type(values),
        DataType::RunEndEncoded(_, values) => self::data_type(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(members) => DataType::Struct(members.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

fn field(field: &FieldRef) -> FieldRef {
    let sent = data_type(field.data_type());
    if sent == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::clone(field).with_data_type(sent))
}

/// `batch` in batches of `schema`, which [`schema`] made, none much larger than [`BATCH_BYTES`] but for single rows that are.
///
/// # Errors
/// A value that has no form on the wire.
pub(crate) fn batches(batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut sent = Vec::new();
    for part in halves(batch.clone(), &|part| text_bytes(part) > TEXT_BYTES_MAX) {
        let columns = part.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| convert(column, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(part.num_rows()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let part = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        sent.extend(halves(part, &|part| encoded_bytes(part) > BATCH_BYTES));
    }
    Ok(sent)
}

fn convert(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    cast(column, wanted).map_err(Error::from)
}

/// `batch` cut in two as long as a part is `too_large`, in order.
fn halves(batch: RecordBatch, too_large: &dyn Fn(&RecordBatch) -> bool) -> Vec<RecordBatch> {
    let (mut done, mut left) = (Vec::new(), vec![batch]);
    while let Some(batch) = left.pop() {
        let rows = batch.num_rows();
        if rows > 1 && too_large(&batch) {
            left.push(batch.slice(rows / 2, rows - rows / 2));
            left.push(batch.slice(0, rows / 2));
        } else {
            done.push(batch);
        }
    }
    done
}

/// Bytes the rows have when encoded, without padding.
fn encoded_bytes(batch: &RecordBatch) -> usize {
    // The slice only: a part shares its buffers with the others.
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(BATCH_BYTES)).sum()
}

/// The most text or bytes any array of the batch would have to address when it is no view.
fn text_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| viewed_bytes(column)).max().unwrap_or(0)
}

fn viewed_bytes(array: &dyn Array) -> usize {
    // The low half of a view is its length.
    let lengths = |views: &[u128]| views.iter().map(|view| (*view & 0xffff_ffff) as usize).sum();
    match array.data_type() {
        DataType::Utf8View => lengths(array.as_string_view().views()),
        DataType::BinaryView => lengths(array.as_binary_view().views()),
        DataType::List(_) => viewed_bytes(array.as_list::<i32>().values()),
        DataType::LargeList(_) => viewed_bytes(array.as_list::<i64>().values()),
        DataType::ListView(_) => viewed_bytes(array.as_list_view::<i32>().values()),
        DataType::LargeListView(_) => viewed_bytes(array.as_list_view::<i64>().values()),
        DataType::FixedSizeList(..) => viewed_bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| viewed_bytes(column)).max().unwrap_or(0)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_flight::decode::FlightRecordBatchStream;
    use arrow_flight::error::FlightError;
    use datafusion::arrow::array::{
        Int64Array, LargeListArray, LargeListViewArray, ListViewArray, StringArray, StringViewArray,
        StructArray,
    };
    use datafusion::arrow::datatypes::Int64Type;
    use futures::TryStreamExt;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn views_are_sent_plain_at_every_depth() {
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let nested = DataType::List(Arc::new(Field::new(
            "item",
            DataType::Struct(vec![Field::new("a", DataType::BinaryView, false)].into()),
            true,
        )));
        assert_eq!(
            data_type(&DataType::List(item)),
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
        );
        let DataType::List(item) = data_type(&nested) else { panic!() };
        assert_eq!(
            item.data_type(),
            &DataType::Struct(vec![Field::new("a", DataType::Binary, false)].into())
        );
    }

    #[tokio::test]
    async fn lists_of_every_kind_arrive_as_promised() {
        let rows = || [Some(vec![Some(1), None]), None, Some(vec![])];
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(rows()));
        let member = Arc::new(Field::new("l", large.data_type().clone(), true));
        let fixed = DataType::new_fixed_size_list(DataType::Int64, 2, true);
        let pairs = [Some(vec![Some(1), Some(2)]), None, Some(vec![None, Some(3)])];
        let pairs: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(pairs));
        let whole = RecordBatch::try_from_iter_with_nullable([
            ("large", Arc::clone(&large), true),
            ("inside", Arc::new(StructArray::from(vec![(member, large)])) as ArrayRef, true),
            (
                "view",
                Arc::new(ListViewArray::from_iter_primitive::<Int64Type, _, _>(rows())) as ArrayRef,
                true,
            ),
            (
                "long",
                Arc::new(LargeListViewArray::from_iter_primitive::<Int64Type, _, _>(rows())) as ArrayRef,
                true,
            ),
            ("fixed", cast(&pairs, &fixed).unwrap(), true),
        ])
        .unwrap();
        let promised = schema(&whole.schema());
        let list = DataType::new_list(DataType::Int64, true);
        for (column, wanted) in [(0, &list), (2, &list), (3, &list), (4, &fixed)] {
            assert_eq!(promised.field(column).data_type(), wanted);
        }
        let messages = crate::flight::encode::stream(
            futures::stream::iter([Ok(whole)]),
            Arc::clone(&promised),
            bytes::Bytes::new(),
        );
        let sent = FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from));
        let sent: Vec<RecordBatch> = sent.try_collect().await.unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].schema(), promised);
        let inside = sent[0].column(1).as_struct().column(0);
        for lists in [sent[0].column(0), inside, sent[0].column(2), sent[0].column(3)] {
            let lists = lists.as_list::<i32>();
            assert!(lists.is_null(1) && lists.value(2).is_empty());
            assert_eq!(lists.value(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(1), None]));
        }
    }

    #[test]
    fn any_of_several_runs_may_have_null() {
        let member = Field::new("m", DataType::Int64, false);
        let one = Field::new("s", DataType::Struct(vec![member.clone()].into()), false);
        let wanted = nullable(&Arc::new(Schema::new(vec![member, one])));
        assert!(wanted.fields().iter().all(|field| field.is_nullable()));
        let DataType::Struct(members) = wanted.field(1).data_type() else { panic!() };
        assert!(members[0].is_nullable());
    }

    #[test]
    fn metadata_and_nullability_stay() {
        let field = Field::new("a", DataType::Utf8View, false)
            .with_metadata([("k".to_owned(), "v".to_owned())].into());
        let sent = schema(&Arc::new(Schema::new(vec![field])));
        assert!(!sent.field(0).is_nullable());
        assert_eq!(sent.field(0).metadata()["k"], "v");
    }

    #[test]
    fn batches_are_cut_and_keep_their_rows() {
        let text = "x".repeat(1000);
        let whole = batch(vec![
            ("n", Arc::new(Int64Array::from_iter_values(0..10_000))),
            ("t", Arc::new(StringViewArray::from_iter_values((0..10_000).map(|_| &text)))),
        ]);
        let sent = schema(&whole.schema());
        let parts = batches(&whole, &sent).unwrap();
        assert!(parts.len() >= 10, "{}", parts.len());
        assert!(parts.iter().all(|part| encoded_bytes(part) <= BATCH_BYTES && part.schema() == sent));
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 10_000);
        let firsts: Vec<i64> = parts
            .iter()
            .map(|p| p.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0))
            .collect();
        assert!(firsts.is_sorted());
    }

    #[test]
    fn one_large_row_does_not_cut_the_others_to_single_rows() {
        let mut texts = vec!["a".to_owned(); 1000];
        texts[500] = "b".repeat(3 << 20);
        let whole = batch(vec![("t", Arc::new(StringArray::from(texts)))]);
        let parts = batches(&whole, &schema(&whole.schema())).unwrap();
        assert!(parts.len() < 30, "{}", parts.len());
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
    }

    #[test]
    fn no_columns_and_no_rows_are_sent() {
        let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
        assert_eq!(batches(&none, &schema(&none.schema())).unwrap().len(), 1);
    }
}
