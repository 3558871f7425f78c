//! Which segments a scan can leave out, by the statistics in their metas alone.
//!
//! Owns: the view of segment metas as DataFusion's containers. Does not own: row groups and pages (the Parquet source
//! prunes those when it opens a segment), dynamic filters (the same source, from the statistics on each file).
//! Bounds may be cut (strings) but always enclose every value, so a segment is left out only when no row can match.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_storage::SegmentView;
use cairn_storage::id::SchemaVersion;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use cairn_storage::segment::ColumnStats;
use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::statistics::scalar;

/// The segments that may hold a row matching all of `filters`, in their order.
///
/// `schema` is the provider's (pseudo-columns included where it has them).
pub(crate) fn keep(
    segments: Vec<SegmentView>,
    schema: &SchemaRef,
    definition: SchemaVersion,
    filters: &[Expr],
    state: &dyn Session,
) -> Result<Vec<SegmentView>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else {
        return Ok(segments);
    };
    if segments.is_empty() {
        return Ok(segments);
    }
    let df_schema = DFSchema::try_from(Arc::clone(schema))?;
    let predicate = state.create_physical_expr(filter, &df_schema)?;
    // A filter that pruning can't use (a function, a subquery's result) keeps every segment.
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let Ok(predicate) = builder.try_build(predicate) else {
        return Ok(segments);
    };
    if predicate.always_true() {
        return Ok(segments);
    }
    let kept = predicate.prune(&SegmentBounds { segments: &segments, schema, definition })?;
    Ok(segments.into_iter().zip(kept).filter_map(|(segment, keep)| keep.then_some(segment)).collect())
}

/// Segment metas as the containers of a pruning predicate.
struct SegmentBounds<'a> {
    segments: &'a [SegmentView],
    schema: &'a SchemaRef,
    definition: SchemaVersion,
}

impl SegmentBounds<'_> {
    /// Statistics of the column in each segment; None for a segment of another definition.
    fn stats(&self, index: usize) -> impl Iterator<Item = Option<&ColumnStats>> {
        self.segments
            .iter()
            .map(move |s| s.meta.columns.get(index).filter(|_| s.meta.schema_version == self.definition))
    }

    fn bounds(&self, column: &Column, own: impl Fn(&ColumnStats) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let index = self.schema.index_of(&column.name).ok()?;
        let null = ScalarValue::try_new_null(self.schema.field(index).data_type()).ok()?;
        let values = self.stats(index).map(|stats| stats.and_then(&own).unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).ok()
    }

    /// Bounds of the pseudo-columns, which every meta has.
    fn pseudo(
        &self,
        column: &Column,
        row_id: impl Fn(&SegmentView) -> u64,
        version: impl Fn(&SegmentView) -> u64,
    ) -> Option<ArrayRef> {
        let values: UInt64Array = match column.name.as_str() {
            ROW_ID_COLUMN => self.segments.iter().map(|s| Some(row_id(s))).collect(),
            VERSION_COLUMN => self.segments.iter().map(|s| Some(version(s))).collect(),
            _ => return None,
        };
        Some(Arc::new(values))
    }

    fn data_type(&self, column: &Column) -> Option<&datafusion::arrow::datatypes::DataType> {
        self.schema.field_with_name(&column.name).ok().map(|f| f.data_type())
    }
}

impl PruningStatistics for SegmentBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.pseudo(column, |s| s.meta.min_row_id.0, |s| s.meta.min_created.0).or_else(|| {
            let data_type = self.data_type(column)?;
            self.bounds(column, |stats| stats.min.as_ref().and_then(|v| scalar(v, data_type)))
        })
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.pseudo(column, |s| s.meta.max_row_id.0, |s| s.meta.max_created.0).or_else(|| {
            let data_type = self.data_type(column)?;
            self.bounds(column, |stats| stats.max.as_ref().and_then(|v| scalar(v, data_type)))
        })
    }

    fn num_containers(&self) -> usize {
        self.segments.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        if matches!(column.name.as_str(), ROW_ID_COLUMN | VERSION_COLUMN) {
            return Some(Arc::new(UInt64Array::from(vec![0; self.segments.len()])));
        }
        let index = self.schema.index_of(&column.name).ok()?;
        let counts: UInt64Array = self.stats(index).map(|stats| stats.map(|s| s.null_count)).collect();
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        // Hidden rows count too: null counts include them.
        let rows: UInt64Array = self.segments.iter().map(|s| Some(s.meta.rows)).collect();
        Some(Arc::new(rows))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
