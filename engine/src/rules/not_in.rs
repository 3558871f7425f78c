//! NOT IN where there may be NULLs, by sorting (ADR 47).
//!
//! A row is put out if the list is empty; else, if neither it nor the list has a NULL and the list does not have its key. One NULL in the list
//! and nothing is put out: so all of the list has to be known before the first row is. Sorted in one partition with NULLs first, it is known by
//! its first row, which the join has before it puts anything out.
//!
//! Owns: that join. Does not own: which joins are done so ([`super::sorted`]).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::compute::{SortOptions, filter_record_batch, is_not_null};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, NullEquality, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt, future};

/// Rows whose key is not in a list.
#[derive(Debug)]
pub(super) struct NotInJoinExec {
    rows: Arc<dyn ExecutionPlan>,
    key: Arc<dyn PhysicalExpr>,
    list: Arc<dyn ExecutionPlan>,
    key_of_list: Arc<dyn PhysicalExpr>,
    properties: Arc<PlanProperties>,
}

impl NotInJoinExec {
    /// Those of the first plan whose key is not among those of the second, as rows of `schema`. Keys are compared as they are sorted.
    pub(super) fn new(
        [rows, list]: [Arc<dyn ExecutionPlan>; 2],
        (key, key_of_list): (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>),
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { rows, key, list, key_of_list, properties: Arc::new(properties) }
    }

    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 2]>::try_from(children) {
            Ok(sides) => {
                let keys = (Arc::clone(&self.key), Arc::clone(&self.key_of_list));
                Ok(Arc::new(Self::new(sides, keys, self.schema())))
            }
            Err(children) => internal_err!("a join of two sides, not of {}", children.len()),
        }
    }
}

/// NULLs come first.
fn in_order(key: &Arc<dyn PhysicalExpr>) -> Option<OrderingRequirements> {
    let key = PhysicalSortExpr::new(Arc::clone(key), SortOptions::default());
    LexOrdering::new([key]).map(OrderingRequirements::from)
}

impl DisplayAs for NotInJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => write!(f, "on=({} = {})", self.key, self.key_of_list),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "NotInJoinExec: on=[({}, {})]", self.key, self.key_of_list)
            }
        }
    }
}

impl ExecutionPlan for NotInJoinExec {
    fn name(&self) -> &'static str {
        "NotInJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows, &self.list]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; 2])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![in_order(&self.key), in_order(&self.key_of_list)]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; 2]
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
        match f(&self.key)? {
            TreeNodeRecursion::Stop => Ok(TreeNodeRecursion::Stop),
            TreeNodeRecursion::Continue | TreeNodeRecursion::Jump => f(&self.key_of_list),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let seen = Arc::new(Seen::default());
        let watched: Arc<dyn PhysicalExpr> =
            Arc::new(Watched { key: Arc::clone(&self.key_of_list), seen: Arc::clone(&seen) });
        let join = SortMergeJoinExec::try_new(
            Arc::clone(&self.rows),
            Arc::clone(&self.list),
            vec![(Arc::clone(&self.key), watched)],
            None,
            JoinType::LeftAnti,
            vec![SortOptions::default()],
            NullEquality::NullEqualsNothing,
        )?;
        let key = Arc::clone(&self.key);
        let without_match = join.execute(partition, context)?;
        let until_null = Arc::clone(&seen);
        let rows = without_match
            .take_while(move |_| future::ready(!until_null.has_null.load(Ordering::Relaxed)))
            .and_then(move |batch| future::ready(put_out(batch, key.as_ref(), &seen)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Those rows of a batch that are in no list without NULLs.
fn put_out(batch: RecordBatch, key: &dyn PhysicalExpr, seen: &Seen) -> Result<RecordBatch> {
    if !seen.has_rows.load(Ordering::Relaxed) {
        return Ok(batch);
    }
    let keys = key.evaluate(&batch)?.into_array(batch.num_rows())?;
    Ok(filter_record_batch(&batch, &is_not_null(&keys)?)?)
}

/// What has been seen of a list.
#[derive(Debug, Default)]
struct Seen {
    has_rows: AtomicBool,
    has_null: AtomicBool,
}

/// The key of a list, which notes what it is computed of: the first batch has a NULL, if there is any.
#[derive(Debug)]
struct Watched {
    key: Arc<dyn PhysicalExpr>,
    seen: Arc<Seen>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.seen, &other.seen) && self.key.eq(&other.key)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.key, f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.key.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.key.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let keys = self.key.evaluate(batch)?.into_array(batch.num_rows())?;
        if !keys.is_empty() {
            self.seen.has_rows.store(true, Ordering::Relaxed);
        }
        if keys.logical_null_count() > 0 {
            self.seen.has_null.store(true, Ordering::Relaxed);
        }
        Ok(ColumnarValue::Array(keys))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.key]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([key]) => Ok(Arc::new(Self { key, seen: Arc::clone(&self.seen) })),
            Err(children) => internal_err!("one key is watched, not {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt_sql(f)
    }
}
