//! Plans that run in other processes.
//!
//! Owns: what a program needs of an engine to hand the plan of a query on, and to run one that it was handed: bytes of scans
//! and of functions, and what a plan runs with. Does not own: bytes of all other nodes and expressions (`datafusion-proto`, whose extension codec
//! calls these), which process runs what. A plan can be handed on when its leaves are scans of tables, or nodes that
//! `datafusion-proto` knows: searches through an index, views that hide rows and offsets in the middle of a query are neither.
//!
//! Whoever may call [`Engine::decode_scan`] is trusted like the process itself. Rights are asked where a statement is planned
//! ([`Session::physical_plan`](crate::Session::physical_plan)); what they come to, rows and columns that a reader may not see, stands as filters and
//! projections above the scans. Whoever can write the bytes of a plan can leave those out, so asking a session for its right to a
//! table at this place would only look like a guard. Bytes of plans travel between processes that know each other, over a way that nobody else
//! writes to; no protocol of Cairn's server takes any.
//!
//! A plan of more than about 48 nodes one below the other has bytes that cannot be read: the reader of Protobuf takes 100 messages within each other, and
//! a node is two. Reading them gives 54001; who hands plans on reads them back first, to be told where the plan was made.
//!
//! Both processes run the same version of Cairn. The objects that a plan reads stay where they are for as long as those of a reader's
//! snapshot (`OpenOptions::reader_grace` on object storage); a plan run later may find them gone, which is an error.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::scan;

impl Engine {
    /// The bytes of a scan of a table: version, segments with their hidden rows, rows in memory; nothing else is asked of the process
    /// that runs it but the database's objects. None: `plan` is another node.
    ///
    /// # Errors
    /// `Unsupported` when the scan computes or filters, which none of [`Session::physical_plan`](crate::Session::physical_plan) does.
    pub fn encode_scan(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Vec<u8>>> {
        scan::encode(plan, self.database().id())
    }

    /// The scan of such bytes, reading through this engine's database, whatever version that is at. No rights are asked for, and none can
    /// be, see the module: only bytes of trusted processes belong here. Filters above it save it reading once DataFusion's `FilterPushdown` has run over the
    /// decoded plan; past a join with two columns of one name, that rule takes the first for either, and rows are lost.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no scan or have changed, `Unsupported` for those of another version of Cairn, `InvalidInput`
    /// for those of another database.
    pub fn decode_scan(&self, bytes: &[u8]) -> Result<Arc<dyn ExecutionPlan>> {
        scan::decode(bytes, self.database(), self.template())
    }

    /// The bytes of a function that no [`task_context`](Self::task_context) finds by its name: one that stands for an operator or a
    /// cast. None: all find it.
    #[must_use]
    pub fn encode_function(function: &ScalarUDF) -> Option<Vec<u8>> {
        cairn_udfs::codec::encode(function)
    }

    /// The function of such bytes.
    ///
    /// # Errors
    /// When they are those of no function.
    pub fn decode_function(&self, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        Ok(Arc::new(cairn_udfs::codec::decode(bytes, self.memory_limit())?))
    }

    /// What a plan that was handed in is decoded and run with: the functions of every session, default settings, the engine's
    /// memory. Each partition reads its own part of a table, wherever the others run.
    #[must_use]
    pub fn task_context(&self) -> Arc<TaskContext> {
        let mut config = self.template().config().clone();
        config.options_mut().execution.enable_file_stream_work_stealing = false;
        Arc::new(TaskContext::from(self.template()).with_session_config(config))
    }
}

/// The bytes of a plan have more messages within each other than their reader takes.
pub(crate) fn nested_too_deeply() -> Error {
    Error::new(ErrorKind::ResourceExhausted, "the plan is nested too deeply to be handed to another process").map(
        |e| {
            e.with_sqlstate("54001")
                .with_detail("of about 48 operators one below the other, and expressions within the last, the bytes can be read")
                .with_hint("run it where it was planned, or split the query: put a part of it into a table first")
        },
    )
}
