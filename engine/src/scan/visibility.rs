//! Rows of a segment that are younger than the snapshot.
//!
//! Only a read of an older version meets them. They join the rows hidden by the deletion vector, so the rest of the scan
//! knows one kind of hidden row, and row counts stay exact.

use std::sync::Arc;

use cairn_storage::schema::VERSION_COLUMN;
use cairn_storage::segment::Created;
use cairn_storage::{Error, SegmentView, TableSnapshot};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::Result;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use futures::TryStreamExt;

use super::storage_error;

/// The segments that have a row at the table's version, each with every row above it hidden.
pub(crate) async fn at_version(
    table: &TableSnapshot,
    segments: Vec<SegmentView>,
) -> Result<Vec<SegmentView>> {
    let version = table.version();
    let mut visible = Vec::with_capacity(segments.len());
    for segment in segments {
        let segment = if segment.meta.min_created > version {
            continue;
        } else if segment.meta.max_created > version && segment.meta.created == Created::Column {
            hide_younger(table, segment).await?
        } else {
            segment
        };
        if segment.live_rows > 0 {
            visible.push(segment);
        }
    }
    Ok(visible)
}

async fn hide_younger(table: &TableSnapshot, mut segment: SegmentView) -> Result<SegmentView> {
    let version = table.version().0;
    let reader = table.open_segment(&segment.meta).await.map_err(storage_error)?;
    let builder = ParquetRecordBatchStreamBuilder::new(reader.file()).await?;
    let roots = builder.parquet_schema().root_schema().get_fields();
    let Some(column) = roots.iter().position(|field| field.name() == VERSION_COLUMN) else {
        return Err(storage_error(Error::corrupt(
            segment.meta.path(),
            format!("it has no {VERSION_COLUMN} column"),
        )));
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
    let mut stream = builder.with_projection(mask).build()?;
    let mut hidden = segment.deleted.as_deref().cloned().unwrap_or_default();
    let mut position = 0_u32;
    while let Some(batch) = stream.try_next().await? {
        let Some(created) = batch.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>()) else {
            return Err(storage_error(Error::corrupt(
                segment.meta.path(),
                format!("{VERSION_COLUMN} is not UINT64"),
            )));
        };
        for value in created.values() {
            if *value > version {
                hidden.insert(position);
            }
            position += 1;
        }
    }
    segment.live_rows = segment.meta.rows.saturating_sub(hidden.len());
    segment.deleted = (!hidden.is_empty()).then(|| Arc::new(hidden));
    Ok(segment)
}
