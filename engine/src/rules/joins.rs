//! Joins that yield.
//!
//! DataFusion's operators yield through their leaves, which count the batches they are asked for. A join may make any number of
//! batches of one of its leaf's: a cross join, or one on a key that most rows share, holds its thread for minutes, and can be
//! neither cancelled nor ended by a limit. Here each batch of a join counts too.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// `plan` with joins that yield.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        Ok(if plan.name().ends_with("JoinExec") {
            Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)
        } else {
            Transformed::no(plan)
        })
    })
    .data()
}
