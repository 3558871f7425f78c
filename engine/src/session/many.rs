//! One statement with many rows of parameters.
//!
//! Owns: running it for each of them as one statement, with one permit, one time limit and one line in the logs. Does not own:
//! undoing it: what ran before an error stays until whoever calls rolls back.

use cairn_storage::ErrorKind;
use datafusion::common::ParamValues;
use futures::FutureExt;

use super::prepared::Prepared;
use super::task::Awaited;
use super::{Session, direct, waits_its_turn};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::metrics::Watch;
use crate::output::Output;
use crate::statement::Statement;

impl Session {
    /// Runs a change once for each of `rows`, in their order; returns what all came to together. An INSERT of plain
    /// values writes those of all `rows` at once.
    ///
    /// # Errors
    /// As [`execute`](Session::execute), of the first that fails; those before it have changed something then, which only the
    /// end of an open transaction undoes.
    pub async fn execute_each(&self, sql: &str, rows: Vec<ParamValues>) -> Result<Output> {
        let mut watch = self.watch(sql);
        let changed = self.execute_each_watched(sql, rows, &mut watch).await;
        watch.over(changed)
    }

    async fn execute_each_watched(
        &self,
        sql: &str,
        rows: Vec<ParamValues>,
        watch: &mut Watch,
    ) -> Result<Output> {
        let prepared = self.prepare(sql)?;
        watch.is(&prepared.statement);
        if let Statement::Execute(_) = &prepared.statement {
            return Err(Error::not_supported_yet("EXECUTE with several rows of parameters")
                .map(|e| e.with_hint("give them to the statement itself")));
        }
        let given = self.given_for(&prepared.statement);
        rows.iter().try_for_each(|params| prepared.take(params))?;
        let limits = self.admit(waits_its_turn(&prepared.statement), watch).await?;
        let settings = Settings { given, ..self.lock().settings.clone() };
        let (session, timeout) = (self.handle(), settings.statement_timeout);
        // Boxed: it is large, and whoever calls this holds it.
        let each = async move { session.run_each(&prepared, &settings, rows).await }.boxed();
        let changed = limits.run_in_time(timeout, each).await;
        changed.map_err(|error| self.files.conceal(error))
    }

    async fn run_each(
        &self,
        prepared: &Prepared,
        settings: &Settings,
        rows: Vec<ParamValues>,
    ) -> Result<Output> {
        let statement = &prepared.statement;
        if let Some(output) = self.repeated(statement, settings).await? {
            return Ok(output);
        }
        let result = self.run_each_once(prepared, settings, rows).await;
        self.settled(statement, settings, result).await
    }

    async fn run_each_once(
        &self,
        prepared: &Prepared,
        settings: &Settings,
        rows: Vec<ParamValues>,
    ) -> Result<Output> {
        let inserted = {
            let params: Vec<_> = rows.iter().map(Some).collect();
            direct::insert(self, settings, &params, &prepared.statement).await
        };
        match inserted {
            Ok(Some(rows)) => return Ok(Output::Affected { verb: "INSERT", rows, notes: Vec::new() }),
            // One by one, and tried again as often as any other.
            Ok(None) => {}
            Err(error)
                if error.kind() == ErrorKind::Conflict && (settings.given.is_none() || rows.len() == 1) => {}
            Err(error) => return Err(error),
        }
        if settings.given.is_some() && rows.len() > 1 {
            return Err(Error::not_supported_yet(
                "one commit_id for the commits of several rows of parameters",
            )
            .map(|e| e.with_hint("run them between BEGIN and COMMIT: that is one commit")));
        }
        let (mut verb, mut changed, mut notes) = ("INSERT", 0, Vec::new());
        for params in rows {
            // It has not ended with the commit of the row before.
            Awaited::of_task().goes_on()?;
            let output =
                self.run_once(&prepared.statement, prepared.read.as_ref(), settings, Some(params)).await?;
            if let Output::Affected { verb: of, rows, notes: more } = output {
                verb = of;
                changed += rows;
                notes.extend(more);
            }
        }
        Ok(Output::Affected { verb, rows: changed, notes })
    }
}
