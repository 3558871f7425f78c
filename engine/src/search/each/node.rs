//! The logical node of one search per row, and its physical planning.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, Result, plan_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, Extension, Filter, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
    build_join_schema,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::exec::{Each, EachExec, RowSearches};
use super::row_filter::RowFilter;
use crate::measure::ReadMeters;
use crate::search::matching::session_state;
use crate::search::sample_rate;
use crate::search::table::SearchTable;

/// The input's columns, then those of the answers: rows of the input in their order, each once per row of its answer.
#[derive(Clone, Debug)]
pub(in crate::search) struct EachNode {
    input: LogicalPlan,
    /// The vector to search for, of the column's type.
    vector: Expr,
    /// The same as the statement has it, for errors.
    written: Arc<str>,
    /// The conditions that differ from row to row.
    filter: Arc<RowFilter>,
    /// What they take from a row.
    values: Vec<Expr>,
    table: Arc<SearchTable>,
    /// The schema of the answers, qualified.
    answers: DFSchemaRef,
    /// Whether a row without an answer stays, with NULLs.
    outer: bool,
    schema: DFSchemaRef,
}

impl EachNode {
    /// `answers` is the schema of the answers, qualified; the vector comes with its text. Each search is among the rows that
    /// `filter` leaves of those the table's conditions leave.
    pub(in crate::search) fn plan(
        input: LogicalPlan,
        (vector, written): (Expr, Arc<str>),
        filter: RowFilter,
        table: SearchTable,
        answers: DFSchema,
        outer: bool,
    ) -> Result<LogicalPlan> {
        let schema = joined(&input, &answers, outer)?;
        let (table, answers) = (Arc::new(table), Arc::new(answers));
        let (values, filter) = (filter.values().to_vec(), Arc::new(filter));
        let node = Self { input, vector, written, filter, values, table, answers, outer, schema };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }
}

impl EachNode {
    /// Whether a condition is about rows of the input, and means the same before the searches.
    pub(super) fn is_of_input(&self, condition: &Expr) -> bool {
        let columns = condition.column_refs();
        !condition.is_volatile()
            && !columns.is_empty()
            && columns.into_iter().all(|column| self.input.schema().has_column(column))
    }

    /// The same searches for the rows of the input for which `condition` is true.
    pub(super) fn filtered(&self, condition: Expr) -> Result<LogicalPlan> {
        let input = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(self.input.clone()))?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self { input, ..self.clone() }) }))
    }
}

fn joined(input: &LogicalPlan, answers: &DFSchema, outer: bool) -> Result<DFSchemaRef> {
    let kind = if outer { JoinType::Left } else { JoinType::Inner };
    Ok(Arc::new(build_join_schema(input.schema(), answers, &kind)?))
}

impl PartialEq for EachNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
            && (self.outer, &self.vector, &self.values, &self.input)
                == (other.outer, &other.vector, &other.values, &other.input)
    }
}

impl Eq for EachNode {}

impl PartialOrd for EachNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for EachNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.vector.hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for EachNode {
    fn name(&self) -> &str {
        "SearchEach"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// What is not asked for of the input is not read; the answers' columns are narrowed in the physical plan.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let of_input = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < of_input).collect()])
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.vector).chain(&self.values).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SearchEach: {} by {}", self.table.search(), self.vector)?;
        match self.values.is_empty() {
            true => Ok(()),
            false => write!(f, " where {}", self.filter.written()),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let values = exprs.split_off(exprs.len().min(1));
        let are_all = values.len() == self.values.len();
        match (exprs.pop(), inputs.pop(), are_all && inputs.is_empty()) {
            (Some(vector), Some(input), true) => {
                let schema = joined(&input, &self.answers, self.outer)?;
                Ok(Self { vector, values, input, schema, ..self.clone() })
            }
            _ => plan_err!("searches have one vector and one input"),
        }
    }
}

/// Plans [`EachNode`]s; registered with the session's query planner.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EachPlanner;

#[async_trait]
impl ExtensionPlanner for EachPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<EachNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return plan_err!("searches have one input") };
        let vector = session.create_physical_expr(node.vector.clone(), node.input.schema())?;
        let meter = ReadMeters::next(session);
        let table = match &meter {
            Some(meter) => Arc::new(node.table.metered(meter.clone())),
            None => Arc::clone(&node.table),
        };
        let searcher = table.searcher(session).await?;
        let tasks = session.config().target_partitions();
        let rate = sample_rate(session);
        let written = Arc::clone(&node.written);
        let rows = match node.values.is_empty() {
            true => None,
            false => {
                let value = |value: &Expr| session.create_physical_expr(value.clone(), node.input.schema());
                let values = node.values.iter().map(value).collect::<Result<Vec<_>>>()?;
                let state = Arc::new(session_state(session)?.clone());
                Some(RowSearches { filter: Arc::clone(&node.filter), values, state })
            }
        };
        let each = Each { table, searcher, vector, written, rows, outer: node.outer, rate, tasks, meter };
        let schema = Arc::new(node.schema.as_arrow().clone());
        Ok(Some(Arc::new(EachExec::new(each, Arc::clone(input), schema))))
    }
}
