//! The logical node of a change and its physical planning.
//!
//! Owns: [`DmlNode`] and [`DmlPlanner`]. Does not own: what happens with the rows (`exec`, `write`).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult, plan_err};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::conflict::OnConflict;
use super::exec::DmlExec;
use super::merge::Step;
use super::returning::SourceColumn;
use super::target::Target;
use super::write::{SharedTransaction, Work};
use crate::context::{Progress, StatementContext};
use crate::error::Result;

/// What a change does with its input.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Input: the table's columns.
    Insert {
        /// What happens to rows whose key exists; None: the statement fails.
        on_conflict: Option<Arc<OnConflict>>,
        /// Whether rows arrive in an order that counts.
        ordered: bool,
    },
    /// Input: the table's columns with new values, then the row id, behind a join the key as it was, then what RETURNING reads
    /// of FROM.
    Update {
        /// Whether a join may name a row more than once.
        joined: bool,
        /// Whether no column of the primary key is assigned.
        keeps_keys: bool,
    },
    /// Input: the row id; for RETURNING the table's columns, the row id, the version and what it reads of USING.
    Delete {
        /// Whether a join may name a row more than once.
        joined: bool,
    },
    /// Input: as [`Step`] says.
    Merge {
        /// The clauses' actions, by their numbers.
        steps: Arc<[Step]>,
        /// Where the input has the version of the target's row, with what RETURNING reads of the source behind it; None: there is
        /// no RETURNING.
        returned: Option<usize>,
    },
}

impl Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::Insert { on_conflict: None, .. } => "Insert",
            Self::Insert { on_conflict: Some(_), .. } => "Insert or resolve conflict",
            Self::Update { .. } => "Update",
            Self::Delete { .. } => "Delete",
            Self::Merge { .. } => "Merge",
        }
    }
}

/// A change of one table in a plan; its one row is the count, or its rows those of RETURNING.
#[derive(Clone, Debug)]
pub(crate) struct DmlNode {
    target: Target,
    operation: Operation,
    input: LogicalPlan,
    transaction: SharedTransaction,
    collect: bool,
    schema: DFSchemaRef,
    progress: Arc<Progress>,
}

impl DmlNode {
    /// A change that writes into `transaction`; with `collect` its output is the affected rows, with those columns of FROM or
    /// USING behind their own.
    pub(crate) fn new(
        ctx: &StatementContext,
        target: Target,
        operation: Operation,
        input: LogicalPlan,
        transaction: SharedTransaction,
        collect: Option<&[SourceColumn]>,
    ) -> Result<Self> {
        let schema = match (&operation, collect) {
            (_, None) => Schema::new(vec![Field::new("count", DataType::UInt64, false)]),
            (Operation::Delete { .. }, Some(sources)) => {
                with_sources(&with_pseudo_columns(&target.def.arrow_schema()), sources)
            }
            (Operation::Merge { .. }, Some(sources)) => {
                with_sources(&with_action(&target.def.arrow_schema()), sources)
            }
            (_, Some(sources)) => with_sources(&target.def.arrow_schema(), sources),
        };
        Ok(Self {
            schema: Arc::new(DFSchema::try_from(schema)?),
            progress: Arc::clone(&ctx.progress),
            target,
            operation,
            input,
            transaction,
            collect: collect.is_some(),
        })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    fn output(&self) -> SchemaRef {
        Arc::new(self.schema.as_arrow().clone())
    }
}

/// `schema` with `_row_id` and `_version` behind it.
pub(crate) fn with_pseudo_columns(schema: &Schema) -> Schema {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ROW_ID_COLUMN, DataType::UInt64, false)));
    fields.push(Arc::new(Field::new(VERSION_COLUMN, DataType::UInt64, false)));
    Schema::new(fields)
}

/// What `merge_action()` is on its way to RETURNING: a column of this name, which nobody gives one of theirs.
pub(super) const ACTION: &str = "merge_action()";

/// The column of that name.
pub(super) fn action_field() -> Field {
    Field::new(ACTION, DataType::Utf8View, false)
}

/// `schema` with `_row_id` and `_version` behind it, NULL of a row that is new, and what was done with the row.
fn with_action(schema: &Schema) -> Schema {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ROW_ID_COLUMN, DataType::UInt64, true)));
    fields.push(Arc::new(Field::new(VERSION_COLUMN, DataType::UInt64, true)));
    fields.push(Arc::new(action_field()));
    Schema::new(fields)
}

/// The name that column `i` of FROM or USING has on its way to RETURNING.
pub(super) fn source_name(i: usize) -> String {
    format!("_source{i}")
}

fn with_sources(schema: &Schema, sources: &[SourceColumn]) -> Schema {
    let own = schema.fields().iter().cloned();
    // An outer join, or the planner's own types, may make of a column another than its source has.
    let sources = sources
        .iter()
        .enumerate()
        .map(|(i, (_, field))| Arc::new(Field::new(source_name(i), field.data_type().clone(), true)));
    Schema::new(own.chain(sources).collect::<Vec<_>>())
}

impl PartialEq for DmlNode {
    fn eq(&self, other: &Self) -> bool {
        self.transaction.same(&other.transaction) && self.input == other.input
    }
}

impl Eq for DmlNode {}

impl PartialOrd for DmlNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for DmlNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.target.def.id.hash(state);
        self.operation.name().hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for DmlNode {
    fn name(&self) -> &str {
        "Dml"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dml: {} {}", self.operation.name(), self.target.def.qualified_name())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => plan_err!("a change has one input"),
        }
    }
}

/// Plans [`DmlNode`]s; registered with the session's query planner.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DmlPlanner;

#[async_trait]
impl ExtensionPlanner for DmlPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _planning_ctx: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<DmlNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return plan_err!("a change has one input") };
        let work = Work {
            target: node.target.clone(),
            operation: node.operation.clone(),
            transaction: node.transaction.clone(),
            collected: node.collect.then(|| node.output()),
            progress: Arc::clone(&node.progress),
        };
        Ok(Some(Arc::new(DmlExec::new(work, node.operation.name(), Arc::clone(input), node.output()))))
    }
}
