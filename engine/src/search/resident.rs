//! Conditions over columns that are kept decoded, so that searches under ever other conditions scan nothing.
//!
//! Owns: evaluating a condition over columns in memory, through the order of their values where that leaves few rows. Where the
//! columns are too large to keep, or the condition fails on some row, the scan of [`matching`](super::matching) decides: that
//! row may be one that is deleted.

use std::ops::Bound;
use std::sync::Arc;

use cairn_storage::TableSnapshot;
use cairn_storage::index::RowSet;
use cairn_storage::schema::TableDef;
use cairn_storage::segment::KeptColumn;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{prep_null_mask_filter, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::arrow::util::bit_util;
use datafusion::common::{ScalarValue, internal_datafusion_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::logical_expr_common::casts::try_cast_literal_to_type;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt, split_conjunction};

use super::matching::predicate;
use crate::error::Result;

/// Rows evaluated together: what is computed of them stays in the processor's cache.
const ROWS_AT_A_TIME: usize = 32 * 1024;
/// A condition is evaluated over the rows a part of it leaves when these are at most one in so many.
const FEW: usize = 8;

/// The visible rows for which `condition` is true; None: scan for them.
///
/// # Errors
/// The store's.
pub(super) async fn rows(table: &TableSnapshot, condition: &Condition) -> Result<Option<RowSet>> {
    // Who reads the past must not see what a segment got since.
    if !table.is_newest() {
        return Ok(None);
    }
    let Condition { columns, schema, .. } = condition;
    let mut set = RowSet::default();
    for view in table.segments().await? {
        let reader = table.open_segment(&view.meta).await?;
        let mut kept = Vec::with_capacity(columns.len());
        for &column in columns {
            let Some(column) = reader.kept_column(column).await? else { return Ok(None) };
            kept.push(column);
        }
        let rows = whole(schema, &kept, view.meta.rows)?;
        let Some(mut positions) = condition.matching_kept(&rows, &kept) else { return Ok(None) };
        if let Some(deleted) = &view.deleted {
            positions.retain(|position| !deleted.contains(*position));
        }
        set.add_segment(view.meta.id, positions);
    }
    for batch in table.hot_batches(columns, true)? {
        let Some(rows) = condition.matching(&batch) else { return Ok(None) };
        let row_ids = batch.column(columns.len()).as_primitive::<UInt64Type>().values();
        set.add_hot(rows.into_iter().map(|row| row_ids[row as usize]));
    }
    Ok(Some(set))
}

/// Positions of columns in the definition, ascending; None: one is a pseudo-column.
fn columns_of<'a>(def: &TableDef, names: impl Iterator<Item = &'a str>) -> Option<Vec<usize>> {
    let position = |name: &str| def.columns.iter().position(|column| column.name == name);
    let mut columns = names.map(position).collect::<Option<Vec<_>>>()?;
    columns.sort_unstable();
    columns.dedup();
    Some(columns)
}

fn whole(schema: &SchemaRef, kept: &[Arc<KeptColumn>], rows: u64) -> Result<RecordBatch> {
    let rows = usize::try_from(rows).map_err(|_| internal_datafusion_err!("a segment of too many rows"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let arrays = kept.iter().map(|column| Arc::clone(column.values())).collect();
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// A condition over columns of a table, and what of it an order of values answers.
pub(super) struct Condition {
    /// Positions in the definition, ascending.
    columns: Vec<usize>,
    /// The same columns.
    schema: SchemaRef,
    predicate: Arc<dyn PhysicalExpr>,
    limits: Vec<Limit>,
    /// Whether the limits are all there is to it.
    only_limits: bool,
}

/// `column operator value`
struct Limit {
    column: usize,
    operator: Operator,
    /// One value of the column's type, not NULL.
    value: ArrayRef,
}

impl Condition {
    /// `condition`, its types settled; None: it names a pseudo-column.
    ///
    /// # Errors
    /// What is wrong with the condition.
    pub(super) fn planned(
        state: &SessionState,
        table: &TableSnapshot,
        condition: &Expr,
    ) -> Result<Option<Self>> {
        let named = condition.column_refs();
        let Some(columns) = columns_of(table.def(), named.iter().map(|column| column.name.as_str())) else {
            return Ok(None);
        };
        let schema = table.projected_schema(&columns, false)?;
        let predicate = predicate(state, condition.clone(), &schema)?;
        Ok(Some(Self::new(columns, schema, predicate)))
    }

    /// The same as all of `filters` [`planned`](Self::planned), where each compares a column with a value that its type
    /// holds: what the planner makes of it is known, and not worth the tens of microseconds that it takes. None: plan it.
    ///
    /// # Errors
    /// `Internal` only.
    pub(super) fn of_comparisons(table: &TableSnapshot, filters: &[Expr]) -> Result<Option<Self>> {
        let comparisons: Option<Vec<[Option<Comparison<'_>>; 2]>> = filters.iter().map(comparisons).collect();
        let Some(comparisons) = comparisons else { return Ok(None) };
        let comparisons: Vec<Comparison<'_>> = comparisons.into_iter().flatten().flatten().collect();
        let Some(columns) = columns_of(table.def(), comparisons.iter().map(|c| c.column)) else {
            return Ok(None);
        };
        let schema = table.projected_schema(&columns, false)?;
        let conjuncts: Option<Vec<_>> = comparisons.iter().map(|c| c.over(&schema)).collect();
        let Some(predicate) = conjuncts.and_then(conjunction_opt) else { return Ok(None) };
        Ok(Some(Self::new(columns, schema, predicate)))
    }

    fn new(columns: Vec<usize>, schema: SchemaRef, predicate: Arc<dyn PhysicalExpr>) -> Self {
        let conjuncts = split_conjunction(&predicate);
        let limits: Vec<Limit> = conjuncts.iter().filter_map(|c| Limit::of(c.as_ref(), &schema)).collect();
        let only_limits = limits.len() == conjuncts.len();
        Self { columns, schema, predicate, limits, only_limits }
    }

    /// The rows of a segment, whose columns are `kept`, for which it is true, ascending; None: it fails on one.
    fn matching_kept(&self, batch: &RecordBatch, kept: &[Arc<KeptColumn>]) -> Option<Vec<u32>> {
        let Some((candidates, is_all)) = self.candidates(kept) else { return self.matching(batch) };
        if is_all && self.only_limits {
            return Some(ascending(candidates, batch.num_rows()));
        }
        if candidates.len() > batch.num_rows() / FEW {
            return self.matching(batch);
        }
        let positions = UInt32Array::from(ascending(candidates, batch.num_rows()));
        let columns = batch.columns().iter().map(|column| take(column, &positions, None));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>().ok()?;
        let options = RecordBatchOptions::new().with_row_count(Some(positions.len()));
        let few = RecordBatch::try_new_with_options(batch.schema(), columns, &options).ok()?;
        Some(self.matching(&few)?.into_iter().map(|row| positions.value(row as usize)).collect())
    }

    /// The rows that the limits of one column leave, of the column that leaves the fewest, and whether no other column has
    /// limits; None: no column with limits is in order.
    fn candidates<'a>(&self, kept: &'a [Arc<KeptColumn>]) -> Option<(&'a [u32], bool)> {
        let mut fewest: Option<&[u32]> = None;
        let mut limited = 0;
        for (column, kept) in kept.iter().enumerate() {
            let limits = self.limits.iter().filter(|limit| limit.column == column);
            let places = limits.map(|limit| limit.places(kept)).reduce(|a, b| {
                let (a, b) = (a?, b?);
                let first = a.start.max(b.start);
                Some(first..a.end.min(b.end).max(first))
            });
            let Some(places) = places else { continue };
            limited += 1;
            let Some(rows) = places.and_then(|places| kept.order()?.get(places)) else { continue };
            if fewest.is_none_or(|fewest| rows.len() < fewest.len()) {
                fewest = Some(rows);
            }
        }
        fewest.map(|rows| (rows, limited == 1))
    }

    /// The rows of a batch for which it is true, ascending; None: it fails on one.
    fn matching(&self, batch: &RecordBatch) -> Option<Vec<u32>> {
        let mut matching = Vec::new();
        for start in (0..batch.num_rows()).step_by(ROWS_AT_A_TIME) {
            let part = batch.slice(start, ROWS_AT_A_TIME.min(batch.num_rows() - start));
            let mask =
                self.predicate.evaluate(&part).and_then(|mask| mask.into_array(part.num_rows())).ok()?;
            let mask = mask.as_boolean_opt()?;
            let start = u32::try_from(start).ok()?;
            let cleared;
            let mask = if mask.null_count() > 0 {
                cleared = prep_null_mask_filter(mask);
                &cleared
            } else {
                mask
            };
            matching.extend(mask.values().set_indices_u32().map(|row| start + row));
        }
        Some(matching)
    }
}

/// `column operator value` as it is written.
struct Comparison<'a> {
    column: &'a str,
    operator: Operator,
    value: &'a ScalarValue,
}

/// What a filter compares, two for BETWEEN; None: it is something else.
fn comparisons(filter: &Expr) -> Option<[Option<Comparison<'_>>; 2]> {
    match filter {
        Expr::BinaryExpr(binary) => {
            let found = Comparison::of(&binary.left, binary.op, &binary.right);
            let found = found.or_else(|| Comparison::of(&binary.right, binary.op.swap()?, &binary.left));
            Some([Some(found?), None])
        }
        Expr::Between(between) if !between.negated => {
            let low = Comparison::of(&between.expr, Operator::GtEq, &between.low)?;
            let high = Comparison::of(&between.expr, Operator::LtEq, &between.high)?;
            Some([Some(low), Some(high)])
        }
        _ => None,
    }
}

impl<'a> Comparison<'a> {
    fn of(column: &'a Expr, operator: Operator, value: &'a Expr) -> Option<Self> {
        match (column, value) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                Some(Self { column: &column.name, operator, value })
            }
            _ => None,
        }
    }

    /// None: the planner has more to say about these types, or of another operator.
    fn over(&self, schema: &SchemaRef) -> Option<Arc<dyn PhysicalExpr>> {
        let (index, field) = schema.column_with_name(self.column)?;
        if !is_limit(self.operator) || self.value.is_null() {
            return None;
        }
        let value = held(self.value, field.data_type())?;
        let column = Arc::new(Column::new(self.column, index));
        Some(Arc::new(BinaryExpr::new(column, self.operator, Arc::new(Literal::new(value)))))
    }
}

/// The value in a column's type: its own, or an integer or text that the type holds as it is.
fn held(value: &ScalarValue, data_type: &DataType) -> Option<ScalarValue> {
    let from = value.data_type();
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    if from == *data_type {
        return Some(value.clone());
    }
    let is_exact = (from.is_integer() && data_type.is_integer()) || (is_text(&from) && is_text(data_type));
    if is_exact { try_cast_literal_to_type(value, data_type) } else { None }
}

fn is_limit(operator: Operator) -> bool {
    matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

impl Limit {
    /// None: the conjunct is something else.
    fn of(conjunct: &dyn PhysicalExpr, schema: &SchemaRef) -> Option<Self> {
        let binary = conjunct.downcast_ref::<BinaryExpr>()?;
        let column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(Column::index);
        let value = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Literal>().map(|l| l.value().clone());
        let (column, operator, value) = match (column(binary.left()), value(binary.right())) {
            (Some(column), Some(value)) => (column, *binary.op(), value),
            _ => (column(binary.right())?, binary.op().swap()?, value(binary.left())?),
        };
        let data_type: &DataType = schema.field(column).data_type();
        if !is_limit(operator) || value.is_null() || value.data_type() != *data_type {
            return None;
        }
        Some(Self { column, operator, value: value.to_array().ok()? })
    }

    /// See [`KeptColumn::between`].
    fn places(&self, kept: &KeptColumn) -> Option<std::ops::Range<usize>> {
        let value = self.value.as_ref();
        match self.operator {
            Operator::Eq => kept.between(Bound::Included(value), Bound::Included(value)),
            Operator::Lt => kept.between(Bound::Unbounded, Bound::Excluded(value)),
            Operator::LtEq => kept.between(Bound::Unbounded, Bound::Included(value)),
            Operator::Gt => kept.between(Bound::Excluded(value), Bound::Unbounded),
            Operator::GtEq => kept.between(Bound::Included(value), Bound::Unbounded),
            _ => None,
        }
    }
}

/// Different positions below `rows` in ascending order.
fn ascending(positions: &[u32], rows: usize) -> Vec<u32> {
    // As many comparisons as words to look through.
    if positions.len() < rows / 1024 {
        let mut positions = positions.to_vec();
        positions.sort_unstable();
        return positions;
    }
    let mut bits = vec![0_u8; rows.div_ceil(8)];
    positions.iter().for_each(|&position| bit_util::set_bit(&mut bits, position as usize));
    let mut ascending = Vec::with_capacity(positions.len());
    ascending.extend(BooleanBuffer::new(bits.into(), 0, rows).set_indices_u32());
    ascending
}
