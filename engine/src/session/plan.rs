//! Plans of queries, for programs that have other processes run them.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::physical_plan::ExecutionPlan;
use futures::FutureExt;

use super::{Session, query, shape_of};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::metrics::Watch;
use crate::statement::Statement;

impl Session {
    /// The physical plan of one query at the newest version, not begun: for programs that hand plans to other processes. Its scans
    /// are those of [`Engine::encode_scan`](crate::Engine::encode_scan); filters and expressions stand above them. Where it is run,
    /// nothing of the session counts any more: neither its rights and limits, nor its settings.
    ///
    /// # Errors
    /// What is wrong with the query, with its place where known; `InvalidInput` for any other statement.
    pub async fn physical_plan(&self, sql: &str) -> Result<Arc<dyn ExecutionPlan>> {
        let mut watch = self.watch(sql);
        watch.is_prepare();
        let plan = self.physical_plan_watched(sql, &mut watch).await;
        watch.over_uncounted(plan)
    }

    async fn physical_plan_watched(&self, sql: &str, watch: &mut Watch) -> Result<Arc<dyn ExecutionPlan>> {
        let prepared = self.prepare(sql)?;
        watch.names(&prepared.statement);
        // A lookup by key, and a subquery of a search, read while they are planned.
        self.take_defaults().await?;
        let limits = self.admit(true, watch).await?;
        let settings = self.lock().settings.clone();
        let (session, timeout) = (self.handle(), settings.statement_timeout);
        // Boxed: it is large, and whoever calls this holds it.
        let plan = async move { session.physical_plan_now(&prepared.statement, &settings).await }.boxed();
        limits.run_in_time(timeout, plan).await
    }

    async fn physical_plan_now(
        &self,
        statement: &Statement,
        settings: &Settings,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Statement::Query(query) = statement else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "only a query has a plan that another process can run",
            ));
        };
        let shape = shape_of(statement);
        let (context, catalog) = self.context(&shape, settings, None).await?;
        let plan = query::portable(&context, &shape, query).await;
        drop((context, catalog));
        self.lock().unpin();
        plan
    }
}
