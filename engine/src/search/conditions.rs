//! The WHERE of `SELECT … FROM vector_search(…) WHERE …`, given to the search before anything else moves conditions about.
//!
//! Only a condition that stands directly over the search, or over its alias, comes first. One above a join, a subquery or a
//! CTE filters the answer, as written; later the optimizer could not tell the two apart.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;

use super::table::SearchTable;

/// See the module.
#[derive(Debug)]
pub(super) struct ConditionsFirst;

impl AnalyzerRule for ConditionsFirst {
    fn name(&self) -> &'static str {
        "conditions_first"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
            let mut input = filter.input.as_ref().clone();
            let mut left: Vec<Expr> = Vec::new();
            for condition in split_conjunction(&filter.predicate) {
                match among(&input, condition)? {
                    Some(narrowed) => input = narrowed,
                    None => left.push(condition.clone()),
                }
            }
            Ok(Transformed::yes(match conjunction(left) {
                Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?),
                None => input,
            }))
        })
        .data()
    }
}

/// The search in `plan` among the rows for which `condition` is true; None when `plan` is no search.
fn among(plan: &LogicalPlan, condition: &Expr) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) if matches!(alias.input.as_ref(), LogicalPlan::TableScan(_)) => {
            let input = among(&alias.input, condition)?;
            let aliased = |input| SubqueryAlias::try_new(Arc::new(input), alias.alias.clone());
            Ok(input.map(aliased).transpose()?.map(LogicalPlan::SubqueryAlias))
        }
        LogicalPlan::TableScan(scan) => {
            let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
            let Some(search) = provider.downcast_ref::<SearchTable>() else { return Ok(None) };
            let Some(narrowed) = search.among(condition)? else { return Ok(None) };
            let mut scan = scan.clone();
            scan.source = provider_as_source(Arc::new(narrowed));
            Ok(Some(LogicalPlan::TableScan(scan)))
        }
        _ => Ok(None),
    }
}
