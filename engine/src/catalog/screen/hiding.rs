//! Which views hide rows.
//!
//! Owns: knowing a query that shows every row of what it reads, so that there is nothing to keep a reader's conditions from.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::ScreenedView;
use crate::provider::CairnTable;

/// Whether a query may leave rows out of what it reads. Only columns of tables, sorted or one after the other, surely do not.
///
/// # Errors
/// None that a plan can have.
pub(in crate::catalog) fn hides_rows(plan: &LogicalPlan) -> Result<bool> {
    // What a subquery reads does not show.
    for expr in plan.expressions() {
        if expr.exists(|expr| Ok(is_subquery(expr)))? {
            return Ok(true);
        }
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let shows_all = scan.filters.is_empty() && scan.fetch.is_none();
            let Ok(provider) = source_as_provider(&scan.source) else { return Ok(true) };
            // A view behind a screen of its own stays there.
            Ok(!(shows_all && (provider.is::<CairnTable>() || provider.is::<ScreenedView>())))
        }
        LogicalPlan::Projection(projection) => hides_rows(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => hides_rows(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => hides_rows(&sort.input),
        LogicalPlan::Union(union) => {
            for input in &union.inputs {
                if hides_rows(input)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => Ok(false),
        _ => Ok(true),
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}
