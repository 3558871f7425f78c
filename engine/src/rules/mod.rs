//! Rules of our own among DataFusion's for physical plans: what those would get wrong, or leave undone.

mod joins;
mod offsets;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

/// The rule of DataFusion's that sees to the yielding of leaves. What pushes filters through the plan comes behind it.
const LEAVES: &str = "EnsureCooperative";

/// Gives a session's planner the rules.
pub(crate) fn register(builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut rules = PhysicalOptimizer::new().rules;
    let behind = rules.iter().position(|rule| rule.name() == LEAVES).map_or(rules.len(), |leaves| leaves + 1);
    rules.insert(behind, Arc::new(joins::YieldingJoins));
    rules.insert(0, Arc::new(offsets::OffsetsStay));
    builder.with_physical_optimizer_rules(rules)
}
