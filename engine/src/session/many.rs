//! One statement with many rows of parameters.
//!
//! Owns: running it for each of them as one statement, with one permit, one time limit and one line in the logs. Does not own:
//! undoing it: what ran before an error stays until whoever calls rolls back.

use cairn_storage::ErrorKind;
use datafusion::common::ParamValues;

use super::{Session, direct, waits_its_turn};
use crate::error::Result;
use crate::metrics::Watch;
use crate::output::Output;

impl Session {
    /// Runs a change once for each of `rows`, in their order; returns what all came to together. An INSERT of plain
    /// values writes those of all `rows` at once.
    ///
    /// # Errors
    /// As [`execute`](Session::execute), of the first that fails; those before it have changed something then, which only the
    /// end of an open transaction undoes.
    pub async fn execute_each(&self, sql: &str, rows: &[ParamValues]) -> Result<Output> {
        let mut watch = self.watch(sql);
        let (mut verb, mut notes) = ("INSERT", Vec::new());
        let changed = self.execute_each_watched(sql, rows, &mut watch, (&mut verb, &mut notes)).await;
        watch.over_rows(changed).map(|rows| Output::Affected { verb, rows, notes })
    }

    async fn execute_each_watched(
        &self,
        sql: &str,
        rows: &[ParamValues],
        watch: &mut Watch,
        (verb, notes): (&mut &'static str, &mut Vec<String>),
    ) -> Result<u64> {
        let prepared = self.prepare(sql)?;
        watch.is(&prepared.statement);
        let limits = self.admit(waits_its_turn(&prepared.statement), watch).await?;
        let settings = self.lock().settings.clone();
        // Boxed: it is large, and whoever calls this holds it.
        let each = Box::pin(async {
            let params: Vec<_> = rows.iter().map(Some).collect();
            match direct::insert(self, &settings, &params, &prepared.statement).await {
                Ok(Some(changed)) => return Ok(changed),
                // One by one, and tried again as often as any other.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            let mut changed = 0;
            for params in rows {
                let output = self.run(&prepared, &settings, Some(params.clone())).await?;
                if let Output::Affected { verb: of, rows, notes: more } = output {
                    *verb = of;
                    changed += rows;
                    notes.extend(more);
                }
            }
            Ok(changed)
        });
        let changed = limits.run_in_time(settings.statement_timeout, each).await;
        changed.map_err(|error| self.files.conceal(error))
    }
}
