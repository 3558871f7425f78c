//! The side that a hash join holds.
//!
//! DataFusion 55 chooses it by statistics that know little of conditions and of joins below: TPC-H's q12 holds 1.5 million orders to look up
//! 30,000 rows of `lineitem`, q21 holds 3.8 million rows to leave out some of 70,000. Behind its choice the sides are looked at again, by what tables
//! keep of their rows ([`super::guess`]), and exchanged where the other one is clearly smaller.
//!
//! A small held side is held once, not in parts: then rows of the other one need not be sent to where their part is.
//!
//! Owns: which side is held, and in how many parts. Does not own: the order of joins (`order`). No answer depends on it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use super::guess::Guesses;

/// How many times the rows of the other side the held one must have to be exchanged: guesses are guesses.
const CLEARLY: f64 = 2.0;
/// The most that a side is thought to take which is held in one part.
const WHOLE_BYTES: f64 = (64 << 20) as f64;
/// What a value of no fixed width is thought to take.
const VALUE_BYTES: usize = 32;

/// Chooses the sides of hash joins anew.
#[derive(Debug)]
pub(super) struct SidesChosen;

impl PhysicalOptimizerRule for SidesChosen {
    fn name(&self) -> &'static str {
        "sides_chosen"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.optimizer.join_reordering || !plan.exists(|node| Ok(node.is::<HashJoinExec>()))? {
            return Ok(plan);
        }
        let mut guesses = Guesses::default();
        plan.transform_up(|node| {
            let chosen = match node.downcast_ref::<HashJoinExec>() {
                Some(join) => chosen(join, &guesses, config)?,
                None => None,
            };
            let node = match chosen {
                Some(chosen) => Transformed::yes(chosen),
                None => Transformed::no(node),
            };
            // Exchanged sides have a projection above them, which puts their columns in order.
            if let [join] = node.data.children().as_slice()
                && node.transformed
                && join.is::<HashJoinExec>()
            {
                guesses.add(join);
            }
            guesses.add(&node.data);
            Ok(node)
        })
        .data()
    }
}

/// The join with the better side held; None: it stays.
fn chosen(
    join: &HashJoinExec,
    guesses: &Guesses,
    config: &ConfigOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (Some(left), Some(right)) = (guesses.of(join.left()), guesses.of(join.right())) else {
        return Ok(None);
    };
    if join.null_aware || join.fetch().is_some() {
        return Ok(None);
    }
    let bytes = [left.rows * width(join.left()), right.rows * width(join.right())];
    let exchanges =
        join.join_type().supports_swap() && right.rows * CLEARLY < left.rows && bytes[1] < bytes[0];
    let (held, held_bytes, others) = match exchanges {
        true => (right.rows, bytes[1], left.rows),
        false => (left.rows, bytes[0], right.rows),
    };
    let partitions = config.execution.target_partitions.max(1) as f64;
    // One thread puts together what is held whole, while many would send the other side's rows.
    let whole = config.optimizer.hash_join_single_partition_threshold > 0
        && held_bytes <= WHOLE_BYTES
        && held * partitions <= others;
    let in_parts = config.optimizer.repartition_joins && partitions > 1.0;
    let mode = if whole {
        PartitionMode::CollectLeft
    } else if exchanges && in_parts {
        PartitionMode::Partitioned
    } else {
        *join.partition_mode()
    };
    if exchanges {
        return join.swap_inputs(mode).map(Some);
    }
    if mode == *join.partition_mode() {
        return Ok(None);
    }
    Ok(Some(Arc::new(join.builder().with_partition_mode(mode).build()?)))
}

/// About what a row takes.
fn width(plan: &Arc<dyn ExecutionPlan>) -> f64 {
    let schema = plan.schema();
    let widths =
        schema.fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(VALUE_BYTES));
    widths.sum::<usize>() as f64
}
