//! An engine and a session for a benchmark: default options but for those given.

use std::path::Path;
use std::sync::Arc;

use cairn_engine::{Engine, EngineOptions, OpenOptions, Output, Root, Session};
use datafusion::common::{ParamValues, ScalarValue};
use futures::TryStreamExt;

use crate::Result;

/// One open database.
pub(crate) struct Bench {
    engine: Arc<Engine>,
    session: Session,
}

impl Bench {
    /// Opens the directory.
    pub(crate) async fn open(path: &Path, storage: OpenOptions) -> Result<Self> {
        Self::open_root(Root::Path(path.to_path_buf()), storage).await
    }

    /// Opens the database at `root`.
    pub(crate) async fn open_root(root: Root, storage: OpenOptions) -> Result<Self> {
        let options = EngineOptions { storage, ..EngineOptions::default() };
        let engine = Engine::open(root, options).await?;
        let session = engine.session();
        Ok(Self { engine, session })
    }

    /// Another session of the same database.
    pub(crate) fn beside(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), session: self.engine.session() }
    }

    /// Runs a statement to its end; the rows it gave, changed or loaded.
    pub(crate) async fn run(&self, sql: &str) -> Result<u64> {
        self.finish(sql, None).await
    }

    /// The same with the values of its parameters.
    pub(crate) async fn run_with(&self, sql: &str, values: Vec<ScalarValue>) -> Result<u64> {
        self.finish(sql, Some(values.into())).await
    }

    async fn finish(&self, sql: &str, values: Option<ParamValues>) -> Result<u64> {
        match self.session.execute(sql, values).await? {
            Output::Rows(mut rows) => {
                let mut count = 0;
                while let Some(batch) = rows.stream.try_next().await? {
                    count += batch.num_rows() as u64;
                }
                Ok(count)
            }
            Output::Affected { rows, .. } => Ok(rows),
            Output::Done { .. } => Ok(0),
        }
    }

    /// Closes it, for all sessions.
    pub(crate) async fn close(self) -> Result<()> {
        let Self { engine, session: _ } = self;
        Ok(engine.close().await?)
    }
}
