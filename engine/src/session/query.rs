//! Queries: planning, parameters, EXPLAIN.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::common::ParamValues;
use datafusion::common::format::ExplainFormat;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{ExplainOption, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::{self, Query};

use crate::context::StatementContext;
use crate::ddl;
use crate::dml;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::measure::ReadMeters;
use crate::output::{Output, RowStream};
use crate::rules;
use crate::scan::Portable;
use crate::search;
use crate::statement::{
    ExplainStatement, Parameters, Shape, Statement, call_session_words, compare_exactly,
    keep_pseudo_columns_out, name_returned, query_lists, select_values, series_in_zone, settle_nested,
};

/// Plans and starts a query; its rows stream.
pub(super) async fn run(context: &StatementContext, shape: &Shape, query: &Query) -> Result<Output> {
    let plan = plan(context, shape, query).await?;
    start(context, plan).await
}

/// The statement as the planner should see it: `*` without pseudo-columns, session words and lists of names as calls.
pub(super) fn prepare(
    context: &StatementContext,
    shape: &Shape,
    statement: &ast::Statement,
) -> Result<ast::Statement> {
    let mut statement = statement.clone();
    compare_exactly(&mut statement, &context.snapshot, &context.search_path);
    if shape.session_words {
        call_session_words(&mut statement);
    }
    if shape.lists {
        query_lists(&mut statement)?;
    }
    if shape.nested {
        name_returned(&mut statement);
        settle_nested(&mut statement);
    }
    if shape.pseudo_columns {
        keep_pseudo_columns_out(&mut statement, &context.snapshot, &context.search_path)?;
    }
    series_in_zone(&mut statement, &context.state);
    Ok(statement)
}

/// Logical plan of a query with its parameters bound.
///
/// # Errors
/// What is wrong with the query; 42P02 for a parameter without a value.
pub(crate) async fn plan(context: &StatementContext, shape: &Shape, query: &Query) -> Result<LogicalPlan> {
    with_values(unbound(context, shape, query).await?, context.params.as_ref())
}

/// A plan with the values of its parameters.
///
/// # Errors
/// 42P02 for a parameter without a value.
pub(crate) fn with_values(plan: LogicalPlan, params: Option<&ParamValues>) -> Result<LogicalPlan> {
    match params {
        Some(params) => Ok(lambdas_settled(plan.with_param_values(params.clone())?)?),
        None => {
            let mut names: Vec<String> = plan.get_parameter_names()?.into_iter().collect();
            names.sort_unstable();
            match names.first() {
                Some(name) => Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("there is no value for parameter {name}"),
                )
                .map(|e| e.with_sqlstate("42P02"))),
                None => Ok(plan),
            }
        }
    }
}

/// A plan whose parameters have got values: a list that was one has elements of a type now, and so have the parameters of lambdas over it.
fn lambdas_settled(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut holds_lambda = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            holds_lambda |= expr.exists(|expr| Ok(matches!(expr, Expr::Lambda(_))))?;
            Ok(if holds_lambda { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    match holds_lambda {
        // From below: the type of what a lambda reads may hang on a subquery.
        true => plan
            .transform_up_with_subqueries(|node| {
                let schema = merge_schema(&node.inputs());
                let settled = node.map_expressions(|expr| expr.resolve_lambda_variables(&schema))?;
                Ok(Transformed::yes(settled.data.recompute_schema()?))
            })
            .data(),
        false => Ok(plan),
    }
}

/// The same with the placeholders of its parameters; those that a search is planned with have their values.
///
/// # Errors
/// What is wrong with the query.
pub(super) async fn unbound(context: &StatementContext, shape: &Shape, query: &Query) -> Result<LogicalPlan> {
    let mut statement = prepare_query(context, shape, query)?;
    let (scope, params) = (search::Scope::of(context), context.params.as_ref());
    search::bind_subqueries(&context.state, &scope, params, &mut statement).await?;
    if search::is_called(&statement) {
        // A search is planned with the vector it searches for.
        statement = dml::bind(&statement, params)?;
        // The table may have been a parameter.
        compare_exactly(&mut statement, &context.snapshot, &context.search_path);
    }
    search::plan(&context.state, scope, statement).await
}

/// The same for a query that is described and not run: no parameter has a value, and `parameters` gets the types of those that a
/// search is planned with.
///
/// # Errors
/// What is wrong with the query.
pub(super) async fn described(
    context: &StatementContext,
    shape: &Shape,
    query: &Query,
    parameters: &mut Parameters,
) -> Result<LogicalPlan> {
    let mut statement = prepare_query(context, shape, query)?;
    search::stand_in(context, &mut statement, parameters).await?;
    search::plan(&context.state, search::Scope::of(context), statement).await
}

fn prepare_query(context: &StatementContext, shape: &Shape, query: &Query) -> Result<ast::Statement> {
    let mut statement = prepare(context, shape, &ast::Statement::Query(Box::new(query.clone())))?;
    if let ast::Statement::Query(query) = &mut statement {
        select_values(query)?;
    }
    Ok(statement)
}

/// Plans physically and starts the stream.
pub(super) async fn start(context: &StatementContext, plan: LogicalPlan) -> Result<Output> {
    start_in(&context.state, plan).await
}

/// The same for a plan that is optimised.
///
/// # Errors
/// What physical planning says of it.
pub(super) async fn start_optimized(context: &StatementContext, plan: &LogicalPlan) -> Result<Output> {
    let state = &context.state;
    let physical = state.query_planner().create_physical_plan(plan, state.as_ref()).await?;
    let stream = execute_stream(physical, state.task_ctx())?;
    Ok(Output::Rows(RowStream::new(stream.schema(), stream)))
}

async fn start_in(state: &SessionState, plan: LogicalPlan) -> Result<Output> {
    let physical = state.create_physical_plan(&plan).await?;
    let stream = execute_stream(physical, state.task_ctx())?;
    Ok(Output::Rows(RowStream::new(stream.schema(), stream)))
}

/// The physical plan of a query, its scans as other processes can be given them.
///
/// # Errors
/// What is wrong with the query.
pub(super) async fn portable(
    context: &StatementContext,
    shape: &Shape,
    query: &Query,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan(context, shape, query).await?;
    let mut state = SessionState::clone(&context.state);
    Portable::ask(state.config_mut());
    // What is kept away from joins by sorting (`rules`) does not come along.
    state.config_mut().options_mut().optimizer.prefer_hash_join = true;
    Ok(rules::portable(state.create_physical_plan(&plan).await?)?)
}

/// EXPLAIN of a query, a change, or the query of CREATE TABLE … AS.
pub(super) async fn explain(
    context: &StatementContext,
    shape: &Shape,
    explain: &ExplainStatement,
) -> Result<Output> {
    let inner = match explain.statement.as_ref() {
        Statement::CreateIndex(create) => return ddl::explain_create_index(context, create).await,
        Statement::Query(query) => plan(context, shape, query).await?,
        Statement::Dml(statement) => dml::plan(context, &prepare(context, shape, statement)?).await?,
        Statement::CreateTable(table) => match &table.query {
            Some(query) => plan(context, shape, query).await?,
            None => return Err(Error::not_supported_yet("EXPLAIN CREATE TABLE without AS")),
        },
        _ => return Err(Error::not_supported_yet("EXPLAIN of this statement")),
    };
    // The plan's own explanation shows an error as one of its rows.
    context.state.optimize(&inner)?;
    let format = match &explain.format {
        Some(format) => format.parse::<ExplainFormat>().map_err(|_| {
            Error::new(ErrorKind::InvalidInput, format!("there is no EXPLAIN format {format}"))
                .map(|e| e.with_sqlstate("22023").with_hint("formats: indent, tree, pgjson, graphviz"))
        })?,
        None if explain.verbose || explain.analyze => ExplainFormat::Indent,
        None => context.state.config_options().explain.format.clone(),
    };
    if explain.analyze && format != ExplainFormat::Indent {
        return Err(Error::not_supported_yet("EXPLAIN ANALYZE in another format than indent"));
    }
    let options = ExplainOption::default()
        .with_verbose(explain.verbose)
        .with_analyze(explain.analyze)
        .with_format(format);
    let plan = LogicalPlanBuilder::from(inner).explain_option_format(options)?.build()?;
    // Nobody lives by the answer of a search that is explained: its recall is not that of live ones.
    let mut state = SessionState::clone(&context.state);
    state.config_mut().set_extension(Arc::new(search::SampleRate(0.0)));
    let explained = start_in(&state, plan).await?;
    let explained = match ReadMeters::of(&state) {
        Some(meters) => meters.summed_up(explained),
        None => explained,
    };
    Ok(FileAccess::of(&state).explained(explained))
}
