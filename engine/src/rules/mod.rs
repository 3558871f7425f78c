//! Rules of our own among DataFusion's: what those would get wrong, or leave undone.

mod conditions;
mod decimals;
mod gather;
mod guess;
mod joins;
mod keys;
mod lambdas;
mod names;
mod narrow;
mod not_in;
mod offsets;
mod order;
mod outer;
mod projections;
mod sides;
mod sort_keys;
mod sorted;
mod turns;
mod unnest;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use sorted::PlannedJoins;

/// The rule of DataFusion's that sees to the yielding of leaves. What pushes filters through the plan comes behind it.
const LEAVES: &str = "EnsureCooperative";

/// How the names of DataFusion's rules begin that push filters through the plan.
const FILTERS: &str = "FilterPushdown";

/// The rule of DataFusion's that chooses the side which a hash join holds.
const SIDES: &str = "join_selection";

/// What a rule does to a physical plan: it needs no settings and keeps the schema.
type Change = fn(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;

/// A change of a physical plan, as the planner takes it.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    change: Change,
}

impl PhysicalOptimizerRule for Rule {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        (self.change)(plan)
    }
}

/// A plan that came of the rules, for a process that knows nothing of this one's statements.
///
/// # Errors
/// `Internal` when a join can't be made again.
pub(crate) fn portable(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    joins::not_asking(keys::apart(gather::apart(decimals::apart(plan)?)?)?)
}

/// A plan that is not optimised, with the keys that its rows have.
///
/// # Errors
/// `Internal` when a node can't be made again.
pub(crate) fn with_true_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(unnest::without_false_keys(plan)?.data)
}

/// A filter that is planned without the rules, with the parameters of its lambdas apart from the columns.
///
/// # Errors
/// `Internal` when it can't be made again.
pub(crate) fn parameters_apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    lambdas::apart(plan)
}

/// Gives a session's planner the rules.
pub(crate) fn register(builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut logical = Optimizer::new().rules;
    if let Some(drops) = logical.iter().position(|rule| rule.name() == projections::DROPS) {
        logical.insert(drops + 1, Arc::new(projections::NamesOnce));
        logical.insert(drops, Arc::new(projections::ProjectionsDiffer));
    }
    if let Some(pushed) = logical.iter().position(|rule| rule.name() == order::BEHIND) {
        // The order of joins decides where the semi joins stand that narrowing makes.
        logical.insert(pushed + 1, Arc::new(order::JoinsInOrder));
        logical.insert(pushed + 1, Arc::new(narrow::AggregatesNarrowed));
    }
    logical.insert(0, Arc::new(unnest::UnnestHasNoKeys));
    let mut rules = PhysicalOptimizer::new().rules;
    for rule in rules.iter_mut().filter(|rule| rule.name().starts_with(FILTERS)) {
        *rule = Arc::new(names::FiltersByName::new(Arc::clone(rule)));
    }
    let behind = behind_leaves(&rules);
    rules.insert(behind, Arc::new(Rule { name: "decimals_narrowed", change: decimals::narrowed }));
    rules.insert(behind, Arc::new(conditions::ConditionsInOrder));
    rules.insert(behind, Arc::new(Rule { name: "sides_gathered", change: gather::gathered }));
    rules.insert(behind, Arc::new(Rule { name: "joins_yield", change: joins::yielding }));
    rules.insert(behind, Arc::new(Rule { name: "keys_once", change: keys::once }));
    let sides = behind_sides(&rules);
    rules.insert(sides, Arc::new(Rule { name: "merge_joins_apart", change: sorted::apart }));
    rules.insert(sides, Arc::new(sides::SidesChosen));
    rules.insert(0, Arc::new(Rule { name: "offsets_stay", change: offsets::staying }));
    rules.insert(0, Arc::new(Rule { name: "lambdas_apart", change: lambdas::apart }));
    builder.with_optimizer_rules(logical).with_physical_optimizer_rules(rules)
}

/// The rules of a session for a statement that joins by sorting.
pub(crate) fn by_sorting(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = rules.to_vec();
    let sides = behind_sides(&rules);
    rules.insert(sides, Arc::new(sorted::JoinsBySorting));
    let leaves = behind_leaves(&rules);
    rules.insert(leaves, Arc::new(Rule { name: "tops_by_sorting", change: sorted::tops }));
    rules
}

fn behind_sides(rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>]) -> usize {
    rules.iter().position(|rule| rule.name() == SIDES).map_or(0, |sides| sides + 1)
}

fn behind_leaves(rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>]) -> usize {
    rules.iter().position(|rule| rule.name() == LEAVES).map_or(rules.len(), |leaves| leaves + 1)
}
