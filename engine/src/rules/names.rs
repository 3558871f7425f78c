//! Filters that go down a plan, past columns of one name.
//!
//! What ORDER BY … LIMIT has found so far, or which keys a hash join holds, becomes a filter that DataFusion 55 hands from node to node, down to the scans. Each
//! node finds the columns of such a filter in the next one by their names. Where a join has two columns of a name the first is taken for either; a semi join
//! filters the side that is only asked by the column that is called as the other side's key, which may be no key of its own; so does a grouping by what is
//! called as a column below it. Rows that belong to the answer are lost then. So while filters are pushed, nodes stand where that could happen, which let
//! filters through that name no such column, and no others.
//!
//! Owns: which names those are. Does not own: DataFusion's rules that push, which run in between.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase,
    FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};

/// A rule of DataFusion's that pushes filters, in a plan where they lose their way nowhere.
#[derive(Debug)]
pub(super) struct FiltersByName(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl FiltersByName {
    pub(super) fn new(rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>) -> Self {
        Self(rule)
    }
}

impl PhysicalOptimizerRule for FiltersByName {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = plan.transform_up(guarded)?;
        let pushed = self.0.optimize(guarded.data, config)?;
        if !guarded.transformed {
            return Ok(pushed);
        }
        pushed
            .transform_up(|plan| {
                Ok(match plan.downcast_ref::<SureNamesExec>() {
                    Some(guard) => Transformed::yes(Arc::clone(&guard.input)),
                    None => Transformed::no(plan),
                })
            })
            .data()
    }
}

/// `plan` with a guard above each input in which a filter from above could find another column than it means.
fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut is_changed = false;
    let mut inputs = Vec::new();
    for (place, input) in plan.children().into_iter().enumerate() {
        let unsure = unsure(&plan, place, input);
        inputs.push(if unsure.is_empty() {
            Arc::clone(input)
        } else {
            is_changed = true;
            Arc::new(SureNamesExec { input: Arc::clone(input), unsure }) as Arc<dyn ExecutionPlan>
        });
    }
    match is_changed {
        true => Ok(Transformed::yes(replace_children_if_necessary(plan, inputs)?)),
        false => Ok(Transformed::no(plan)),
    }
}

/// Names by which `plan` may find other columns of its input at that place than are meant.
fn unsure(plan: &Arc<dyn ExecutionPlan>, place: usize, input: &Arc<dyn ExecutionPlan>) -> HashSet<String> {
    let schema = input.schema();
    let mut names = repeated(&schema);
    // It finds columns once more by name below its projection, when it takes conditions over.
    if let Some(filter) = input.downcast_ref::<FilterExec>() {
        names.extend(repeated(&filter.input().schema()));
    }
    let mut found = |name: &str, meant: Option<usize>| {
        if schema.index_of(name).is_ok_and(|found| Some(found) != meant) {
            names.insert(name.to_owned());
        }
    };
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        for (left, right) in join.on() {
            let (key, asked) = match (join.join_type(), place) {
                (JoinType::LeftSemi, 1) => (left, right),
                (JoinType::RightSemi, 0) => (right, left),
                _ => continue,
            };
            if let Some(key) = key.downcast_ref::<Column>() {
                found(key.name(), column(asked));
            }
        }
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        for (key, name) in aggregate.group_expr().expr() {
            found(name, column(key));
        }
    } else if plan.is::<UnionExec>() {
        for (at, field) in plan.schema().fields().iter().enumerate() {
            found(field.name(), Some(at));
        }
    }
    names
}

/// Names that several columns have.
fn repeated(schema: &Schema) -> HashSet<String> {
    let mut seen = HashSet::with_capacity(schema.fields().len());
    let names = schema.fields().iter().map(|field| field.name());
    names.filter(|name| !seen.insert(name.as_str())).cloned().collect()
}

/// Where a plain column stands.
fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The rows of `input`, past which no filter goes that has a column of an unsure name.
#[derive(Debug)]
struct SureNamesExec {
    input: Arc<dyn ExecutionPlan>,
    unsure: HashSet<String>,
}

impl SureNamesExec {
    fn over(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self { input, unsure: self.unsure.clone() })),
            Err(children) => internal_err!("names of the columns of {} inputs", children.len()),
        }
    }
}

impl DisplayAs for SureNamesExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => Ok(()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str("SureNamesExec"),
        }
    }
}

impl ExecutionPlan for SureNamesExec {
    fn name(&self) -> &'static str {
        "SureNamesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let columns = schema.fields().iter().enumerate();
        let sure = columns.filter(|(_, field)| !self.unsure.contains(field.name())).map(|(at, _)| at);
        let input = ChildFilterDescription::from_child_with_allowed_indices(
            &parent_filters,
            sure.collect(),
            &self.input,
        )?;
        Ok(FilterDescription::new().with_child(input))
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// Every name that is unsure somewhere in the plan.
    async fn unsure_names(sql: &str) -> Vec<String> {
        let builder = SessionStateBuilder::new_with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2));
        let context = SessionContext::new_with_state(crate::rules::register(builder).build());
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let mut names = HashSet::new();
        plan.apply(|node| {
            assert!(!node.is::<SureNamesExec>(), "it stays while filters are pushed, not longer");
            for (place, input) in node.children().into_iter().enumerate() {
                names.extend(unsure(node, place, input));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names
    }

    fn rows(columns: &str) -> String {
        format!("(SELECT {columns} FROM generate_series(1, 9))")
    }

    #[tokio::test]
    async fn names_of_several_columns_are_unsure() {
        let (a, b) = (rows("value AS k, value + 1 AS x"), rows("value AS k, value + 2 AS x"));
        let sql = format!("SELECT a.x, b.x FROM {a} AS a JOIN {b} AS b ON a.k = b.k ORDER BY b.x LIMIT 1");
        assert_eq!(unsure_names(&sql).await, ["x"]);
        let other = rows("value AS l, value + 2 AS y");
        let sql =
            format!("SELECT a.x, b.y FROM {a} AS a JOIN {other} AS b ON a.k = b.l ORDER BY b.y LIMIT 1");
        assert_eq!(unsure_names(&sql).await, [] as [&str; 0]);
    }

    #[tokio::test]
    async fn the_name_of_a_key_is_unsure_where_it_is_no_key_of_the_other_side() {
        let (a, b) = (rows("value AS k, value + 1 AS x"), rows("value + 500 AS k, value AS y"));
        for (key, expected) in [("y", vec!["k"]), ("k", vec![])] {
            let sql = format!(
                "SELECT a.x FROM {a} AS a WHERE EXISTS (SELECT 1 FROM {b} AS b WHERE b.{key} = a.k AND b.k + b.y <> a.x)"
            );
            assert_eq!(unsure_names(&sql).await, expected);
        }
    }
}
