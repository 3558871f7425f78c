//! Results in the session's zone.
//!
//! Owns: that a TIMESTAMPTZ of a result says the zone of the session, so that whoever shows it (shell, HTTP, clients of Flight) shows what
//! clocks there show. The moment stays. Does not own: what statements compute in the zone (`cairn_udfs::zones`); what they store and
//! write to files says UTC.

use std::sync::Arc;

use cairn_udfs::zones::relabelled;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use crate::output::{Output, RowStream};

/// `output` with its rows in `zone`; None: in UTC, as they are.
pub(super) fn shown(output: Output, zone: Option<&Arc<str>>) -> Output {
    let (Some(zone), Output::Rows(rows)) = (zone, &output) else { return output };
    let Some(schema) = columns(&rows.schema, zone) else { return output };
    let Output::Rows(RowStream { stream, notes, .. }) = output else { return output };
    let to = Arc::clone(&schema);
    let in_zone = move |batch: Result<RecordBatch>| -> Result<RecordBatch> { Ok(in_zone(&batch?, &to)?) };
    let stream = stream.map(in_zone);
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
    Output::Rows(RowStream { schema, stream, notes })
}

/// The columns of a result in `zone`; None: they are the same there.
pub(super) fn columns(schema: &SchemaRef, zone: &Arc<str>) -> Option<SchemaRef> {
    let mut is_other = false;
    let column = |field: &FieldRef| match relabelled(field.data_type(), zone) {
        Some(data_type) => {
            is_other = true;
            Arc::new(Field::clone(field).with_data_type(data_type))
        }
        None => Arc::clone(field),
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(column).collect();
    is_other.then(|| Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

fn in_zone(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast(column, field.data_type()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<std::result::Result<_, _>>()?)
}
