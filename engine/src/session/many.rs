//! One statement with many rows of parameters.
//!
//! Owns: running it for each of them as one statement, with one permit, one time limit and one line in the logs; one result of
//! what each of them returns. Does not own: undoing it: what ran before an error stays until whoever calls rolls back.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{self, Expr, OutputClause, SelectItem, SetExpr};
use futures::{FutureExt, TryStreamExt};

use super::prepared::Prepared;
use super::task::Awaited;
use super::{Session, direct, waits_its_turn, zone};
use crate::config::Settings;
use crate::dml::{ident_text, rows_output};
use crate::error::{Error, Result};
use crate::metrics::Watch;
use crate::output::Output;
use crate::statement::Statement;

impl Session {
    /// Runs a change once for each of `rows`, in their order; returns what all came to together: the rows of RETURNING one behind the
    /// other, which are held in memory, else how many rows changed. An INSERT of plain values writes those of all `rows` at once.
    ///
    /// # Errors
    /// As [`execute`](Session::execute), of the first that fails; those before it have changed something then, which only the
    /// end of an open transaction undoes.
    pub async fn execute_each(&self, sql: &str, rows: Vec<ParamValues>) -> Result<Output> {
        let mut watch = self.watch(sql);
        let changed = self.execute_each_watched(sql, rows, &mut watch).await;
        watch.over(changed.map(|output| self.told(output)))
    }

    /// Whether a change returns row ids or versions of rows that it writes. In a transaction they are provisional.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub fn returns_new_ids(&self, sql: &str) -> Result<bool> {
        let prepared = self.prepare(sql)?;
        Ok(match &prepared.statement {
            Statement::Dml(change) => names_new_ids(change),
            _ => false,
        })
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
        self.take_defaults().await?;
        let limits = self.admit(waits_its_turn(&prepared.statement), watch).await?;
        let settings = self.begun(given, watch);
        let (session, timeout, zone) = (self.handle(), settings.statement_timeout, settings.zone());
        // Boxed: it is large, and whoever calls this holds it.
        let each = async move { session.run_each(&prepared, &settings, rows).await }.boxed();
        let changed = limits.run_in_time(timeout, each).await;
        self.files.answer(changed.map(|output| zone::shown(output, zone.as_ref())))
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
        let (mut verb, mut changed, mut notes, mut returned) = ("INSERT", 0, Vec::new(), Vec::new());
        let is_change = matches!(&prepared.statement, Statement::Dml(_));
        for params in rows {
            // It has not ended with the commit of the row before.
            Awaited::of_task().goes_on()?;
            let output = self.run_once(prepared, prepared.direct.as_ref(), settings, Some(params)).await?;
            match output {
                Output::Affected { verb: of, rows, notes: more } => {
                    verb = of;
                    changed += rows;
                    notes.extend(more);
                }
                Output::Rows(rows) if is_change => {
                    notes.extend(rows.notes);
                    let batches: Vec<RecordBatch> = rows.stream.try_collect().await?;
                    returned.push((rows.schema, batches));
                }
                // Nobody has asked for the rows of a query here, only for their number.
                Output::Rows(mut rows) => {
                    verb = "SELECT";
                    notes.append(&mut rows.notes);
                    while let Some(batch) = rows.stream.try_next().await? {
                        changed += batch.num_rows() as u64;
                    }
                }
                Output::Done { notes: more, .. } => notes.extend(more),
            }
        }
        match returned.is_empty() {
            true => Ok(Output::Affected { verb, rows: changed, notes }),
            false => Ok(one_behind_the_other(returned)?.with_notes(notes)),
        }
    }
}

/// One result of those of several runs of a statement. A value may have settled the type of a column: where it was NULL, another
/// one's counts.
fn one_behind_the_other(runs: Vec<(SchemaRef, Vec<RecordBatch>)>) -> Result<Output> {
    let lost =
        || Error::new(ErrorKind::Internal, "a change with several rows of parameters lost its columns");
    let (first, _) = runs.first().ok_or_else(lost)?;
    let mut fields = Vec::with_capacity(first.fields().len());
    for (i, field) in first.fields().iter().enumerate() {
        let mut types = runs.iter().filter_map(|(schema, _)| Some(schema.fields().get(i)?.data_type()));
        let settled = types.find(|data_type| **data_type != DataType::Null).unwrap_or(&DataType::Null);
        fields.push(Field::new(field.name(), settled.clone(), true));
    }
    let schema = Arc::new(Schema::new(fields));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut batches = Vec::new();
    for batch in runs.into_iter().flat_map(|(_, batches)| batches) {
        let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
            match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast_with_options(column, field.data_type(), &options),
            }
        });
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns).map_err(DataFusionError::from)?);
    }
    Ok(rows_output(schema, batches))
}

/// Whether RETURNING of a change names ids or versions of rows that it writes.
fn names_new_ids(change: &ast::Statement) -> bool {
    let items: Option<&Vec<SelectItem>> = match change {
        ast::Statement::Insert(insert) => insert.returning.as_ref(),
        ast::Statement::Update(update) => update.returning.as_ref(),
        ast::Statement::Merge(merge) => match &merge.output {
            Some(OutputClause::Returning { select_items, .. }) => Some(select_items),
            Some(OutputClause::Output { .. }) | None => None,
        },
        // WITH … before a change: the change is the query's body.
        ast::Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Merge(change) => {
                return names_new_ids(change);
            }
            _ => None,
        },
        _ => None,
    };
    let Some(items) = items else { return false };
    let flow = crate::statement::walk::expressions(items, |expr| {
        let name = match expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        match name.map(ident_text) {
            Some(name) if name == ROW_ID_COLUMN || name == VERSION_COLUMN => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    flow.is_break()
}
