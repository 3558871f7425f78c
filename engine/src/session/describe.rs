//! What a statement answers with and what it asks for, found without running it.
//!
//! Owns: the columns of its result set, its parameters with their types where something says them. Does not own: running it.
//! A statement whose names or types are wrong fails here already.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;

use super::{Session, jobs, query, repair, shape_of, show, upkeep, zone};
use crate::catalog::SnapshotCatalog;
use crate::config::Settings;
use crate::context::StatementContext;
use crate::copy::CopySubject;
use crate::ddl;
use crate::dml;
use crate::error::{Error, Result};
use crate::metrics::Watch;
use crate::output::Output;
pub use crate::statement::Parameter;
use crate::statement::{ExplainStatement, Parameters, Shape, Statement, wrong_count};

/// A statement as its client sees it before it runs.
#[derive(Clone, Debug)]
pub struct Description {
    /// Columns of its rows; None: it has no result set, or one whose columns only the types of its values tell.
    pub columns: Option<SchemaRef>,
    /// Whether it changes nothing: rows, definitions, settings.
    pub reads_only: bool,
    /// Its parameters: `$1`, `$2`, … each once and in order, or named ones by their first place in the text.
    pub parameters: Vec<Parameter>,
}

impl Description {
    /// The error for another number of values than it has parameters.
    #[must_use]
    pub fn wrong_count(&self, given: usize) -> Error {
        wrong_count(self.parameters.len(), given)
    }
}

impl Session {
    /// Describes one statement, within the time that it might run. No part of it is run.
    ///
    /// # Errors
    /// What is wrong with the statement, with its place where known; not what only its values or rows can be told by.
    pub async fn describe(&self, sql: &str) -> Result<Description> {
        let mut watch = self.watch(sql);
        watch.is_prepare();
        let description = self.describe_watched(sql, &mut watch).await;
        watch.over_uncounted(description)
    }

    async fn describe_watched(&self, sql: &str, watch: &mut Watch) -> Result<Description> {
        let prepared = self.prepare(sql)?;
        let described = self.executed_statement(&prepared)?;
        watch.names(&described.statement);
        // Who leaves results unread may prepare the next statement all the same.
        self.take_defaults().await?;
        let limits = self.admit(false, watch).await?;
        let settings = self.lock().settings.clone();
        let (session, timeout, zone) = (self.handle(), settings.statement_timeout, settings.zone());
        // Boxed: it is large, and whoever calls this holds it.
        let describe = async move { session.describe_now(&described.statement, &settings).await }.boxed();
        let mut description = limits.run_in_time(timeout, describe).await?;
        if let (Some(columns), Some(zone)) = (&mut description.columns, zone)
            && let Some(shown) = zone::columns(columns, &zone)
        {
            *columns = shown;
        }
        if let Statement::Execute(execute) = &prepared.statement {
            // Its statement's have their values.
            description.parameters = self.parameters_of(execute)?;
        }
        Ok(description)
    }

    pub(super) async fn describe_now(
        &self,
        statement: &Statement,
        settings: &Settings,
    ) -> Result<Description> {
        let shape = shape_of(statement);
        let (context, catalog) = self.context(&shape, settings, None).await?;
        let description = self.describe_at(&context, &catalog, settings, &shape, statement).await;
        drop((context, catalog));
        self.lock().unpin();
        description
    }

    async fn describe_at(
        &self,
        context: &StatementContext,
        catalog: &SnapshotCatalog,
        settings: &Settings,
        shape: &Shape,
        statement: &Statement,
    ) -> Result<Description> {
        let rows = |output| match output {
            Output::Rows(rows) => Some(rows.schema),
            _ => None,
        };
        let columns = match statement {
            Statement::Query(query) => return describe_query(context, shape, query).await,
            Statement::Dml(change) => return describe_change(context, shape, change).await,
            Statement::CreateTable(table) => {
                return describe_stored(context, shape, table.query.as_deref()).await;
            }
            Statement::Copy(copy) => {
                let query = match &copy.subject {
                    CopySubject::Query(query) => Some(query.as_ref()),
                    CopySubject::Table { .. } => None,
                };
                return describe_stored(context, shape, query).await;
            }
            Statement::CreateView(view) => {
                ddl::refuse_parameters(view)?;
                None
            }
            Statement::Explain(explain) => return describe_explain(context, shape, explain).await,
            // These only look.
            Statement::Describe(name) => rows(show::describe(context, catalog, name).await?),
            Statement::Show(what) => rows(show::show(context, catalog, settings, &self.engine, what).await?),
            Statement::Checkpoint(_) => Some(upkeep::checkpoint_columns()),
            Statement::Compact(_) => Some(upkeep::compact_columns()),
            Statement::Vacuum(_) => Some(upkeep::vacuum_columns()),
            Statement::Jobs(statement) => Some(jobs::columns(statement)),
            Statement::Warm(_) => Some(upkeep::warm_columns()),
            Statement::Verify { repair: None, .. } => Some(upkeep::verify_columns()),
            Statement::Verify { repair: Some(_), .. } => Some(repair::repair_columns()),
            Statement::CreateIndex(_)
            | Statement::AlterTable(_)
            | Statement::Reindex(_)
            | Statement::CreateSchema { .. }
            | Statement::Account(_)
            | Statement::SetForDatabase { .. }
            | Statement::Secret(_)
            | Statement::Drop(_)
            | Statement::Truncate { .. }
            | Statement::Set { .. }
            | Statement::Reset(_)
            | Statement::Use(_)
            | Statement::Transaction(_)
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::KillQuery(_)
            | Statement::WaitForVersion { .. } => None,
        };
        let reads_only = matches!(
            statement,
            Statement::Describe(_)
                | Statement::Show(_)
                | Statement::Verify { repair: None, .. }
                | Statement::Warm(_)
        );
        Ok(Description { columns, reads_only, parameters: Vec::new() })
    }
}

async fn describe_change(
    context: &StatementContext,
    shape: &Shape,
    change: &ast::Statement,
) -> Result<Description> {
    let prepared = query::prepare(context, shape, change)?;
    let (parameters, columns) = dml::describe(context, &prepared).await?;
    Ok(Description { columns, reads_only: false, parameters: parameters.list() })
}

/// A statement that puts what `query` gives somewhere.
async fn describe_stored(
    context: &StatementContext,
    shape: &Shape,
    query: Option<&ast::Query>,
) -> Result<Description> {
    let parameters = match query {
        Some(query) => describe_query(context, shape, query).await?.parameters,
        None => Vec::new(),
    };
    Ok(Description { columns: None, reads_only: false, parameters })
}

/// EXPLAIN shows the plan of a statement with its values; its columns are the same without.
async fn describe_explain(
    context: &StatementContext,
    shape: &Shape,
    explain: &ExplainStatement,
) -> Result<Description> {
    let explained = match explain.statement.as_ref() {
        Statement::Query(query) => describe_query(context, shape, query).await?,
        Statement::Dml(change) => describe_change(context, shape, change).await?,
        Statement::CreateTable(table) if table.query.is_some() => {
            describe_stored(context, shape, table.query.as_deref()).await?
        }
        // It has columns of its own, and no parameters.
        _ => {
            let Output::Rows(rows) = query::explain(context, shape, explain).await? else {
                return Ok(Description { columns: None, reads_only: true, parameters: Vec::new() });
            };
            return Ok(Description { columns: Some(rows.schema), reads_only: true, parameters: Vec::new() });
        }
    };
    let columns = Some(LogicalPlan::explain_schema());
    Ok(Description { columns, reads_only: true, parameters: explained.parameters })
}

async fn describe_query(
    context: &StatementContext,
    shape: &Shape,
    query: &ast::Query,
) -> Result<Description> {
    let mut parameters = Parameters::of(query);
    let plan = query::described(context, shape, query, &mut parameters).await?;
    parameters.take_types(&plan);
    let columns = columns_of(context, &plan, &parameters)?;
    Ok(Description { columns, reads_only: true, parameters: parameters.list() })
}

/// Columns of a plan whose parameters have no value yet: those it has when each is NULL of its type.
fn columns_of(
    context: &StatementContext,
    plan: &LogicalPlan,
    parameters: &Parameters,
) -> Result<Option<SchemaRef>> {
    let with_nulls = |untyped: &DataType| -> Result<SchemaRef> {
        let mut plan = plan.clone();
        if !parameters.is_empty() {
            plan = plan.with_param_values(nulls(parameters, untyped)?)?;
        }
        let options = context.state.config_options();
        let plan = context.state.analyzer().execute_and_check(plan, options, |_, _| {})?;
        Ok(SchemaRef::clone(plan.schema().inner()))
    };
    if parameters.are_typed() {
        return with_nulls(&DataType::Utf8).map(Some);
    }
    // Drivers bind text where nothing asks for a type. Where text cannot stand another type may, and only the values say which:
    // what is wrong with them then is told when they come.
    Ok(with_nulls(&DataType::Utf8).or_else(|_| with_nulls(&DataType::Null)).ok())
}

/// NULL of each parameter's type; `untyped` where it has none.
fn nulls(parameters: &Parameters, untyped: &DataType) -> Result<ParamValues> {
    let list = parameters.list();
    let null =
        |parameter: &Parameter| Ok(ScalarValue::try_from(parameter.data_type.as_ref().unwrap_or(untyped))?);
    if parameters.are_numbered() {
        return Ok(ParamValues::from(list.iter().map(null).collect::<Result<Vec<_>>>()?));
    }
    let named = list.iter().map(|parameter| Ok((parameter.name.clone(), null(parameter)?)));
    Ok(ParamValues::from(named.collect::<Result<Vec<_>>>()?))
}
