//! A plan of one process, run in another.
//!
//! Owns: DataFusion's bytes of a plan, with Cairn's bytes of scans and functions in them. Does not own: the processes (`child`).

use std::sync::Arc;

use cairn_engine::Engine;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::{internal_err, not_impl_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use crate::answer::{Answer, SqlError, render};

/// What DataFusion does not know of a plan of Cairn.
#[derive(Debug)]
struct PlanCodec {
    engine: Arc<Engine>,
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match inputs {
            [] => Ok(self.engine.decode_scan(buf)?),
            inputs => internal_err!("a scan of {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        match self.engine.encode_scan(&node)? {
            Some(scan) => {
                buf.extend_from_slice(&scan);
                Ok(())
            }
            None => not_impl_err!("{} runs where it was planned", node.name()),
        }
    }

    fn try_decode_udf(&self, _name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        Ok(self.engine.decode_function(buf)?)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        buf.extend(Engine::encode_function(node).unwrap_or_default());
        Ok(())
    }
}

/// The bytes of a plan of `engine`.
///
/// # Errors
/// For a plan that no other process can run: also 54001 for one whose bytes nest too deeply to be read back.
pub fn encode(engine: &Arc<Engine>, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<u8>, SqlError> {
    let codec = PlanCodec { engine: Arc::clone(engine) };
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).map_err(said)?;
    physical_plan_from_bytes_with_extension_codec(&bytes, &engine.task_context(), &codec).map_err(said)?;
    Ok(bytes.to_vec())
}

/// Runs all partitions of such a plan.
///
/// # Errors
/// What is wrong with the bytes, or with what they read.
pub async fn run(engine: &Arc<Engine>, bytes: &[u8]) -> Result<Answer, SqlError> {
    let codec = PlanCodec { engine: Arc::clone(engine) };
    let context = engine.task_context();
    let plan = physical_plan_from_bytes_with_extension_codec(bytes, &context, &codec).map_err(said)?;
    let schema = plan.schema();
    let partitions = collect_partitioned(plan, context).await.map_err(said)?;
    let batches: Vec<RecordBatch> = partitions.into_iter().flatten().collect();
    Ok(render(&schema, &batches))
}

fn said(error: DataFusionError) -> SqlError {
    SqlError::from(cairn_engine::Error::from(error))
}

#[cfg(test)]
mod tests {
    use cairn_engine::EngineOptions;
    use cairn_storage::Root;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::physical_plan::empty::EmptyExec;

    use super::*;

    /// As the process that runs plans has (`bin/process.rs`): a test's own thread has a quarter, and the frames of an unoptimized
    /// decoder are large.
    const STACK_BYTES: usize = 8 << 20;

    #[test]
    fn plans_that_nest_too_deeply_are_refused_by_name() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let deep = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || runtime().block_on(nest_too_deeply()));
        deep.unwrap().join().unwrap();
    }

    async fn nest_too_deeply() {
        let engine = Engine::open(Root::Memory, EngineOptions::default()).await.unwrap();
        let nested = |nodes: usize| {
            let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
            let leaf: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(schema)));
            let over = |plan, _| -> Arc<dyn ExecutionPlan> { Arc::new(CoalescePartitionsExec::new(plan)) };
            (1..nodes).fold(leaf, over)
        };
        let bytes = encode(&engine, nested(45)).unwrap();
        assert!(run(&engine, &bytes).await.is_ok());
        let error = encode(&engine, nested(60)).unwrap_err();
        assert_eq!(error.sqlstate, "54001", "{error:?}");
    }
}
