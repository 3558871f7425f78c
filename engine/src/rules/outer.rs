//! The condition that a left or right join by sorting has beside its keys, above the join (ADR 47).
//!
//! DataFusion 55 computes it within the join, where it reads the wrong columns once sides have been swapped, and keeps what it has not yet put out.
//! Here the join pairs by its keys alone, and the rows of the side that is put out whole have numbers: pairs of one row come one after the other.
//! Those that meet the condition are put out; a row none of whose pairs does is put out without a partner, as those are that had none.
//!
//! Owns: that. Does not own: the join and the numbers ([`super::sorted`]). Of rows it holds one between two batches.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinSide, Result, internal_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};

use crate::session::may_go_on;

/// Where things stand in the rows of the join, and what is to be put out of them.
#[derive(Debug)]
pub(super) struct Pairs {
    /// What is put out: the columns of the join but the number.
    pub(super) schema: SchemaRef,
    /// Columns of the left side, without a number.
    pub(super) of_left: usize,
    /// The column with the number of the row that is put out whatever its pairs are.
    pub(super) number: usize,
    /// The side that has no row where there is no partner …
    pub(super) partner: JoinSide,
    /// … and a key of it, which is NULL there and in no pair, by its column in what is put out.
    pub(super) key: usize,
    /// The condition, as the join had it.
    pub(super) condition: JoinFilter,
}

/// The row whose pairs have come last: more of them may follow.
struct Last {
    number: u64,
    /// The row without a partner; None: it has been put out with one.
    alone: Option<RecordBatch>,
}

impl Pairs {
    fn is_of_partner(&self, column: usize) -> bool {
        (column < self.of_left) == (self.partner == JoinSide::Left)
    }

    /// What is put out when the join has come with `batch`.
    fn kept(&self, batch: &RecordBatch, last: &mut Option<Last>) -> Result<Vec<RecordBatch>> {
        may_go_on().map_err(DataFusionError::from)?;
        let mut columns = batch.columns().to_vec();
        if self.number >= columns.len() {
            return internal_err!("the rows of a join have no column {}", self.number);
        }
        let numbers = columns.remove(self.number);
        let numbers = numbers.as_primitive::<UInt64Type>().values();
        let rows = with_rows(Arc::clone(&self.schema), columns, batch.num_rows())?;
        let meets = self.meets(&rows)?;
        let (mut put_out, mut alone, mut begin) = (Vec::new(), Vec::new(), 0);
        for run in numbers.chunk_by(|a, b| a == b) {
            let end = begin + run.len();
            let number = numbers[begin];
            let has_met = (begin..end).any(|row| meets.value(row));
            let is_last = end == numbers.len();
            match last.take() {
                Some(before) if before.number == number => {
                    let row = before.alone.filter(|_| !has_met);
                    if is_last {
                        *last = Some(Last { number, alone: row });
                    } else {
                        put_out.extend(row);
                    }
                }
                before => {
                    put_out.extend(before.and_then(|before| before.alone));
                    if is_last {
                        let row = (!has_met).then(|| self.without_partner(&rows, &[begin as u64]));
                        *last = Some(Last { number, alone: row.transpose()? });
                    } else if !has_met {
                        alone.push(begin as u64);
                    }
                }
            }
            begin = end;
        }
        if !alone.is_empty() {
            put_out.push(self.without_partner(&rows, &alone)?);
        }
        if meets.true_count() > 0 {
            put_out.push(filter_record_batch(&rows, &meets)?);
        }
        Ok(put_out)
    }

    /// Which of `rows` are put out as they are: pairs that meet the condition, and rows that never had a partner.
    fn meets(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let Some(are_pairs) = rows.column(self.key).logical_nulls().map(NullBuffer::into_inner) else {
            return self.condition_of(rows);
        };
        let are_pairs = BooleanArray::new(are_pairs, None);
        let of_pairs = self.condition_of(&filter_record_batch(rows, &are_pairs)?)?;
        let mut of_pairs = of_pairs.values().iter();
        Ok(are_pairs.values().iter().map(|is_pair| Some(!is_pair || of_pairs.next() == Some(true))).collect())
    }

    /// The condition for each of some pairs; NULL is no.
    fn condition_of(&self, pairs: &RecordBatch) -> Result<BooleanArray> {
        let column = |of_side: &ColumnIndex| match of_side.side {
            JoinSide::Left => Ok(Arc::clone(pairs.column(of_side.index))),
            JoinSide::Right => Ok(Arc::clone(pairs.column(self.of_left + of_side.index))),
            JoinSide::None => internal_err!("the condition of a join reads what no side has"),
        };
        let columns = self.condition.column_indices().iter().map(column).collect::<Result<Vec<_>>>()?;
        let read = with_rows(Arc::clone(self.condition.schema()), columns, pairs.num_rows())?;
        let meets = self.condition.expression().evaluate(&read)?.into_array(pairs.num_rows())?;
        let meets = meets
            .as_boolean_opt()
            .ok_or_else(|| internal_datafusion_err!("the condition of a join is no condition"))?;
        Ok(match meets.nulls() {
            Some(nulls) => BooleanArray::new(meets.values() & nulls.inner(), None),
            None => meets.clone(),
        })
    }

    /// Those of `rows` at `places`, without a partner.
    fn without_partner(&self, rows: &RecordBatch, places: &[u64]) -> Result<RecordBatch> {
        let taken = take_record_batch(rows, &UInt64Array::from(places.to_vec()))?;
        let count = taken.num_rows();
        let column = |(index, column): (usize, &ArrayRef)| match self.is_of_partner(index) {
            true => new_null_array(column.data_type(), count),
            false => Arc::clone(column),
        };
        let columns = taken.columns().iter().enumerate().map(column).collect();
        with_rows(Arc::clone(&self.schema), columns, count)
    }
}

fn with_rows(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The rows of a left or right join that has a condition.
#[derive(Clone, Debug)]
pub(super) struct ConditionExec {
    input: Arc<dyn ExecutionPlan>,
    pairs: Arc<Pairs>,
    properties: Arc<PlanProperties>,
}

impl ConditionExec {
    /// Over `input`, a join by the keys alone, which puts out pairs of one row one after the other.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, pairs: Arc<Pairs>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&pairs.schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, pairs, properties: Arc::new(properties) }
    }

    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, Arc::clone(&self.pairs)))),
            Err(children) => internal_err!("the condition of a join over {} inputs", children.len()),
        }
    }
}

impl DisplayAs for ConditionExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = self.pairs.condition.expression();
        match t {
            DisplayFormatType::TreeRender => write!(f, "filter={condition}"),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ConditionExec: filter={condition}")
            }
        }
    }
}

impl ExecutionPlan for ConditionExec {
    fn name(&self) -> &'static str {
        "ConditionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(self.pairs.condition.expression())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let kept = futures::stream::try_unfold((Some(input), None), {
            let pairs = Arc::clone(&self.pairs);
            move |(input, mut last): (Option<SendableRecordBatchStream>, Option<Last>)| {
                let pairs = Arc::clone(&pairs);
                async move {
                    let Some(mut input) = input else { return Ok(None) };
                    let (kept, input) = match input.next().await.transpose()? {
                        Some(batch) => (pairs.kept(&batch, &mut last)?, Some(input)),
                        None => (last.take().and_then(|last| last.alone).into_iter().collect(), None),
                    };
                    let kept = futures::stream::iter(kept.into_iter().map(Ok::<_, DataFusionError>));
                    Ok::<_, DataFusionError>(Some((kept, (input, last))))
                }
            }
        });
        let rows = kept.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.pairs.schema), rows)))
    }
}
