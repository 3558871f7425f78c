//! What a statement answers with and what it asks for, found without running it.
//!
//! Owns: the columns of its result set, its parameters with their types where something says them. Does not own: running it.
//! A statement whose names or types are wrong fails here already.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;

use super::{Session, query, shape_of, show, upkeep};
use crate::catalog::SnapshotCatalog;
use crate::config::Settings;
use crate::context::StatementContext;
use crate::dml;
use crate::error::Result;
use crate::metrics::Watch;
use crate::output::Output;
pub use crate::statement::Parameter;
use crate::statement::{ExplainStatement, Parameters, Shape, Statement};

/// A statement as its client sees it before it runs.
#[derive(Clone, Debug)]
pub struct Description {
    /// Columns of its rows; None: it has no result set.
    pub columns: Option<SchemaRef>,
    /// Whether it changes nothing: rows, definitions, settings.
    pub reads_only: bool,
    /// Its parameters: `$1`, `$2`, … each once and in order, or named ones by their first place in the text.
    pub parameters: Vec<Parameter>,
}

impl Session {
    /// Describes one statement, within the time that it might run: subqueries that stand for a vector are run.
    ///
    /// # Errors
    /// What is wrong with the statement, with its place where known.
    pub async fn describe(&self, sql: &str) -> Result<Description> {
        let mut watch = self.watch(sql);
        watch.is_prepare();
        let description = self.describe_watched(sql, &mut watch).await;
        watch.over_uncounted(description)
    }

    async fn describe_watched(&self, sql: &str, watch: &mut Watch) -> Result<Description> {
        let prepared = self.prepare(sql)?;
        watch.names(&prepared.statement);
        // Who leaves results unread may prepare the next statement all the same.
        let limits = self.admit(false, watch).await?;
        let settings = self.lock().settings.clone();
        let (session, timeout) = (self.handle(), settings.statement_timeout);
        // Boxed: it is large, and whoever calls this holds it.
        let describe = async move { session.describe_now(&prepared.statement, &settings).await }.boxed();
        limits.run_in_time(timeout, describe).await
    }

    async fn describe_now(&self, statement: &Statement, settings: &Settings) -> Result<Description> {
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
            Statement::Dml(statement) => {
                let prepared = query::prepare(context, shape, statement)?;
                let (parameters, columns) = dml::describe(context, &prepared).await?;
                return Ok(Description { columns, reads_only: false, parameters: parameters.list() });
            }
            Statement::CreateTable(table) => {
                let Some(query) = &table.query else { return Ok(no_columns()) };
                let Description { parameters, .. } = describe_query(context, shape, query).await?;
                return Ok(Description { columns: None, reads_only: false, parameters });
            }
            Statement::Explain(explain) => return describe_explain(context, shape, explain).await,
            // These only look.
            Statement::Describe(name) => rows(show::describe(context, catalog, name).await?),
            Statement::Show(what) => rows(show::show(context, catalog, settings, &self.engine, what).await?),
            Statement::Checkpoint(_) => Some(upkeep::checkpoint_columns()),
            Statement::Verify { .. } => Some(upkeep::verify_columns()),
            Statement::Copy(_)
            | Statement::CreateView(_)
            | Statement::CreateIndex(_)
            | Statement::Reindex(_)
            | Statement::CreateSchema { .. }
            | Statement::Account(_)
            | Statement::Drop(_)
            | Statement::Truncate { .. }
            | Statement::Set { .. }
            | Statement::Reset(_)
            | Statement::Use(_)
            | Statement::Transaction(_)
            | Statement::WaitForVersion { .. } => None,
        };
        let reads_only =
            matches!(statement, Statement::Describe(_) | Statement::Show(_) | Statement::Verify { .. });
        Ok(Description { columns, reads_only, parameters: Vec::new() })
    }
}

fn no_columns() -> Description {
    Description { columns: None, reads_only: false, parameters: Vec::new() }
}

/// EXPLAIN shows the plan of a statement with its values; its columns are the same without.
async fn describe_explain(
    context: &StatementContext,
    shape: &Shape,
    explain: &ExplainStatement,
) -> Result<Description> {
    match query::explain(context, shape, explain).await? {
        Output::Rows(rows) => {
            Ok(Description { columns: Some(rows.schema), reads_only: true, parameters: Vec::new() })
        }
        _ => Ok(no_columns()),
    }
}

async fn describe_query(
    context: &StatementContext,
    shape: &Shape,
    query: &ast::Query,
) -> Result<Description> {
    let statement = ast::Statement::Query(Box::new(query.clone()));
    let mut parameters = Parameters::of(&statement);
    if parameters.is_empty() {
        let plan = query::unbound(context, shape, query).await?;
        let columns = context.state.create_physical_plan(&plan).await?.schema();
        return Ok(Description { columns: Some(columns), reads_only: true, parameters: Vec::new() });
    }
    let plan = query::described(context, shape, query, &mut parameters).await?;
    parameters.take_types(&plan);
    let columns = columns_of(context, plan, &parameters)?;
    Ok(Description { columns: Some(columns), reads_only: true, parameters: parameters.list() })
}

/// Columns of a plan whose parameters have no value yet: those it has when each is NULL of its type.
fn columns_of(context: &StatementContext, plan: LogicalPlan, parameters: &Parameters) -> Result<SchemaRef> {
    let plan = plan.with_param_values(nulls(parameters)?)?;
    let options = context.state.config_options();
    let plan = context.state.analyzer().execute_and_check(plan, options, |_, _| {})?;
    Ok(std::sync::Arc::clone(plan.schema().inner()))
}

/// NULL of each parameter's type; text where it has none.
fn nulls(parameters: &Parameters) -> Result<ParamValues> {
    let list = parameters.list();
    let null = |parameter: &Parameter| {
        let data_type = parameter.data_type.as_ref().unwrap_or(&DataType::Utf8);
        Ok(ScalarValue::try_from(data_type)?)
    };
    if parameters.are_numbered() {
        return Ok(ParamValues::from(list.iter().map(null).collect::<Result<Vec<_>>>()?));
    }
    let named = list.iter().map(|parameter| Ok((parameter.name.clone(), null(parameter)?)));
    Ok(ParamValues::from(named.collect::<Result<Vec<_>>>()?))
}
