//! UPDATE and DELETE: a SELECT of our own making whose scan of the target carries row ids.
//!
//! Owns: that SELECT, the swap of the target's scan in the unoptimised plan, the values of SET. Every subquery, alias,
//! LIMIT and join is planned by DataFusion's SELECT; only the left-most scan is ours. Does not own: execution, MERGE.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::Column;
use datafusion::common::TableReference;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias};
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr as SqlExpr, FromTable, Ident, LimitClause, Query, SelectItem,
    SetExpr, Statement, TableFactor, TableWithJoins, Update, UpdateTableFromKind, With,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::Prepared;
use super::identity::check_set;
use super::insert::stored_value;
use super::node::{DmlNode, Operation, source_name};
use super::returning::{Returning, RowKind, SourceColumns};
use super::target::{Target, column_ident, ident_text, syntax};
use super::with::{keep_apart, put_before};
use super::write::SharedTransaction;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::provider::CairnTable;
use crate::rights::Right;
use crate::search;
use crate::statement::{refuse_one_name_twice, select_values, tables_in_from};

/// An UPDATE or DELETE taken apart.
pub(super) struct Written {
    pub(super) target: Target,
    alias: Option<Ident>,
    /// The SELECT over the same tables and rows, of the values of SET.
    pub(super) query: Query,
    /// SET's columns with their values.
    pub(super) assigned: Vec<(usize, SqlExpr)>,
    joined: bool,
    returning: Option<Vec<SelectItem>>,
}

impl Written {
    /// Reads DELETE.
    pub(super) fn delete(ctx: &StatementContext, with: Option<With>, delete: Delete) -> Result<Self> {
        if !delete.tables.is_empty() || delete.output.is_some() || !delete.order_by.is_empty() {
            return Err(Error::not_supported_yet("DELETE of several tables, with OUTPUT or ORDER BY"));
        }
        let (FromTable::WithFromKeyword(mut from) | FromTable::WithoutKeyword(mut from)) = delete.from;
        if from.len() != 1 {
            return Err(Error::not_supported_yet("DELETE from several tables"));
        }
        let (target, alias) = target_of(ctx, &from[0], Right::Delete)?;
        keep_apart(with.as_ref(), &mut from[0].relation, &target.def.schema);
        let joined = delete.using.is_some();
        from.extend(delete.using.into_iter().flatten());
        let query = put_before(with, select(vec![one()], from, delete.selection, delete.limit)?);
        refuse_one_name_twice(&query, &ctx.search_path)?;
        Ok(Self { target, alias, query, assigned: Vec::new(), joined, returning: delete.returning })
    }

    /// Reads UPDATE.
    pub(super) fn update(ctx: &StatementContext, with: Option<With>, mut update: Update) -> Result<Self> {
        if update.or.is_some() || update.output.is_some() || !update.order_by.is_empty() {
            return Err(Error::not_supported_yet("UPDATE with OR, OUTPUT or ORDER BY"));
        }
        let (target, alias) = target_of(ctx, &update.table, Right::Update)?;
        keep_apart(with.as_ref(), &mut update.table.relation, &target.def.schema);
        let mut from = vec![update.table];
        let joined = update.from.is_some();
        if let Some(UpdateTableFromKind::BeforeSet(more) | UpdateTableFromKind::AfterSet(more)) = update.from
        {
            from.extend(more);
        }
        let assigned = assignments(&target, update.assignments)?;
        let items = assigned
            .iter()
            .enumerate()
            .map(|(i, (_, value))| SelectItem::ExprWithAlias {
                expr: value.clone(),
                alias: Ident::with_quote('"', format!("_set{i}")),
            })
            .collect();
        let query = put_before(with, select(items, from, update.selection, update.limit)?);
        refuse_one_name_twice(&query, &ctx.search_path)?;
        Ok(Self { target, alias, query, assigned, joined, returning: update.returning })
    }

    /// Plans its RETURNING over the rows of `plan`, which is that of `query`.
    pub(super) fn returning(
        &mut self,
        ctx: &StatementContext,
        kind: RowKind,
        plan: &LogicalPlan,
    ) -> Result<Option<Returning>> {
        let sources = match self.joined {
            true => source_columns(plan, &self.target.qualifier(self.alias.as_ref())),
            false => SourceColumns::new(),
        };
        let (alias, items) = (self.alias.as_ref(), self.returning.take());
        let tables = tables_in_from(&self.query, &ctx.search_path);
        Returning::plan(ctx, &self.target, alias, items, kind, &tables, sources)
    }
}

/// Plans DELETE.
pub(super) async fn prepare_delete(
    ctx: &StatementContext,
    with: Option<With>,
    delete: Delete,
) -> Result<Prepared> {
    let mut written = Written::delete(ctx, with, delete)?;
    let plan = plan_query(ctx, written.query.clone()).await?;
    let returning = written.returning(ctx, RowKind::Old, &plan)?;
    let Written { target, joined, .. } = written;
    let wanted = returning.is_some();
    let plan = with_row_ids(&plan, &target, "DELETE", &mut |_, table| {
        let mut exprs = Vec::new();
        if wanted {
            exprs.extend(target.def.columns.iter().map(|c| column(table, &c.name)));
        }
        exprs.push(column(table, ROW_ID_COLUMN));
        if wanted {
            exprs.push(column(table, VERSION_COLUMN));
        }
        exprs.extend(sources_of(returning.as_ref()));
        exprs
    })?;
    finish(ctx, "DELETE", target, Operation::Delete { joined }, plan, returning)
}

/// Plans UPDATE.
pub(super) async fn prepare_update(
    ctx: &StatementContext,
    with: Option<With>,
    update: Update,
) -> Result<Prepared> {
    let mut written = Written::update(ctx, with, update)?;
    let plan = plan_query(ctx, written.query.clone()).await?;
    let returning = written.returning(ctx, RowKind::New, &plan)?;
    let Written { target, assigned, joined, .. } = written;
    let plan = with_row_ids(&plan, &target, "UPDATE", &mut |values, table| {
        let mut exprs: Vec<Expr> = (0..target.def.columns.len())
            .map(|i| {
                let name = &target.def.columns[i].name;
                match assigned.iter().position(|(column, _)| *column == i).and_then(|p| values.get(p)) {
                    Some(value) => value.clone().unalias().alias(name),
                    None => column(table, name).alias(name),
                }
            })
            .collect();
        exprs.push(column(table, ROW_ID_COLUMN).alias(ROW_ID_COLUMN));
        if joined {
            // An error names the row as it was.
            let keys = target.def.key_indices().into_iter().enumerate();
            exprs.extend(
                keys.map(|(n, i)| column(table, &target.column_def(i).name).alias(format!("_key{n}"))),
            );
        }
        exprs.extend(sources_of(returning.as_ref()));
        exprs
    })?;
    let key = target.def.key_indices();
    let keeps_keys = !assigned.iter().any(|(column, _)| key.contains(column));
    finish(ctx, "UPDATE", target, Operation::Update { joined, keeps_keys }, plan, returning)
}

fn finish(
    ctx: &StatementContext,
    verb: &'static str,
    target: Target,
    operation: Operation,
    input: LogicalPlan,
    returning: Option<Returning>,
) -> Result<Prepared> {
    let transaction = SharedTransaction::new(ctx);
    let table = target.def.id;
    let collect = returning.as_ref().map(Returning::sources);
    let plan = DmlNode::new(ctx, target, operation, input, transaction.clone(), collect)?.into_plan();
    Ok(Prepared { verb, table, plan, transaction, returning, retry_duplicates: false })
}

/// The columns of FROM or USING in the plan of a change's query, under the names that its expressions have for them. Those under
/// the name of the changed table itself cannot be told from its own.
pub(super) fn source_columns(plan: &LogicalPlan, own: &TableReference) -> SourceColumns {
    let Some(joined) = joined_part(plan) else { return SourceColumns::new() };
    let columns = joined.schema().iter().skip(scan_width(joined));
    let columns = columns.filter(|(qualifier, _)| *qualifier != Some(own));
    columns.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect()
}

/// What the values of a change's query are computed from. None: it is of another form, which is refused where row ids are added.
fn joined_part(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit) => joined_part(&limit.input),
        LogicalPlan::Projection(projection) => Some(&projection.input),
        _ => None,
    }
}

/// Columns of the left-most scan, which are the first of a plan.
fn scan_width(plan: &LogicalPlan) -> usize {
    match plan {
        LogicalPlan::TableScan(scan) => scan.projected_schema.fields().len(),
        LogicalPlan::SubqueryAlias(alias) => scan_width(&alias.input),
        LogicalPlan::Filter(filter) => scan_width(&filter.input),
        LogicalPlan::Join(join) => scan_width(&join.left),
        _ => 0,
    }
}

/// What RETURNING reads of FROM or USING, under names of our own.
pub(super) fn sources_of(returning: Option<&Returning>) -> Vec<Expr> {
    let sources = returning.map(Returning::sources).unwrap_or_default();
    let columns = sources.iter().enumerate();
    columns
        .map(|(i, (qualifier, field))| {
            Expr::Column(Column::new(qualifier.clone(), field.name())).alias(source_name(i))
        })
        .collect()
}

/// SET's columns with their values as they will be stored. Shared with ON CONFLICT DO UPDATE.
pub(super) fn assignments(target: &Target, assignments: Vec<Assignment>) -> Result<Vec<(usize, SqlExpr)>> {
    let mut assigned: Vec<(usize, SqlExpr)> = Vec::new();
    let mut add = |ident: &Ident, value: SqlExpr| -> Result<()> {
        let index = target.column(&ident_text(ident))?;
        if assigned.iter().any(|(other, _)| *other == index) {
            return Err(syntax(format!("column \"{}\" is assigned more than once", ident_text(ident))));
        }
        check_set(&target.def, index, &value)?;
        assigned.push((index, stored_value(target.column_def(index), value)?));
        Ok(())
    };
    for assignment in assignments {
        match (assignment.target, assignment.value) {
            (AssignmentTarget::ColumnName(name), value) => add(column_ident(&name)?, value)?,
            (AssignmentTarget::Tuple(names), SqlExpr::Tuple(values)) if names.len() == values.len() => {
                for (name, value) in names.iter().zip(values) {
                    add(column_ident(name)?, value)?;
                }
            }
            (AssignmentTarget::Tuple(_), SqlExpr::Tuple(_)) => {
                return Err(syntax("the number of columns does not match the number of values"));
            }
            (AssignmentTarget::Tuple(_), _) => {
                return Err(Error::not_supported_yet("SET (a, b) = a query"));
            }
        }
    }
    Ok(assigned)
}

pub(super) fn target_of(
    ctx: &StatementContext,
    table: &TableWithJoins,
    right: Right,
) -> Result<(Target, Option<Ident>)> {
    if !table.joins.is_empty() {
        return Err(Error::not_supported_yet("changing a join"));
    }
    match &table.relation {
        TableFactor::Table { name, alias, args: None, .. } => {
            Ok((Target::resolve(ctx, name, right)?, alias.as_ref().map(|a| a.name.clone())))
        }
        _ => Err(syntax("only a table can be changed")),
    }
}

/// `SELECT items FROM from WHERE selection LIMIT limit` as AST.
pub(super) fn select(
    items: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    selection: Option<SqlExpr>,
    limit: Option<SqlExpr>,
) -> Result<Query> {
    let internal = || Error::new(ErrorKind::Internal, "the template of a SELECT did not parse");
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1").map_err(|_| internal())?;
    let Some(Statement::Query(mut query)) = statements.into_iter().next() else { return Err(internal()) };
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(internal()) };
    select.projection = items;
    select.from = from;
    select.selection = selection;
    if limit.is_some() {
        query.limit_clause = Some(LimitClause::LimitOffset { limit, offset: None, limit_by: Vec::new() });
    }
    Ok(*query)
}

pub(super) fn one() -> SelectItem {
    SelectItem::UnnamedExpr(SqlExpr::value(datafusion::sql::sqlparser::ast::Value::Boolean(true)))
}

/// Plans a query of the statement with the session's catalog; subqueries that stand for a vector to search for are run.
pub(super) async fn plan_query(ctx: &StatementContext, query: Query) -> Result<LogicalPlan> {
    let (scope, mut statement) = (search::Scope::of(ctx), Statement::Query(Box::new(query)));
    search::bind_subqueries(&ctx.state, &scope, ctx.params.as_ref(), &mut statement).await?;
    if let Statement::Query(query) = &mut statement {
        select_values(query)?;
    }
    search::plan(&ctx.state, scope, statement).await
}

/// The same for a query that is described, of which nothing is run.
pub(super) async fn describe_query(ctx: &StatementContext, mut query: Query) -> Result<LogicalPlan> {
    select_values(&mut query)?;
    search::plan(&ctx.state, search::Scope::of(ctx), Statement::Query(Box::new(query))).await
}

pub(super) fn column(table: &TableReference, name: &str) -> Expr {
    Expr::Column(Column::new(Some(table.clone()), name))
}

/// What goes over the changed scan: the values planned for SET and the name the table has in the plan.
type Projected<'a> = &'a mut dyn FnMut(&[Expr], &TableReference) -> Vec<Expr>;

/// Rebuilds the query's plan over a scan with pseudo-columns, with the projection that `exprs` makes.
fn with_row_ids(
    plan: &LogicalPlan,
    target: &Target,
    verb: &str,
    exprs: Projected<'_>,
) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit) => {
            let input = with_row_ids(&limit.input, target, verb, exprs)?;
            Ok(plan.with_new_exprs(plan.expressions(), vec![input])?)
        }
        LogicalPlan::Projection(projection) => {
            let (input, table) = replace_scan(&projection.input, target, verb)?;
            let exprs = exprs(&projection.expr, &table);
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
        }
        other => Err(unexpected(other, verb)),
    }
}

/// `plan` with its left-most scan, that of the target, made anew with pseudo-columns, and the name the table has in it.
pub(super) fn replace_scan(
    plan: &LogicalPlan,
    target: &Target,
    verb: &str,
) -> Result<(LogicalPlan, TableReference)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = Arc::new(CairnTable::with_pseudo_columns(target.table.clone()));
            let name = scan.table_name.clone();
            let scan = LogicalPlanBuilder::scan(name.clone(), provider_as_source(provider), None)?.build()?;
            Ok((scan, name))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, _) = replace_scan(&alias.input, target, verb)?;
            let name = alias.alias.clone();
            let alias = SubqueryAlias::try_new(Arc::new(input), name.clone())?;
            Ok((LogicalPlan::SubqueryAlias(alias), name))
        }
        LogicalPlan::Filter(filter) => {
            let (input, name) = replace_scan(&filter.input, target, verb)?;
            Ok((LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?), name))
        }
        LogicalPlan::Join(join) => {
            let (left, name) = replace_scan(&join.left, target, verb)?;
            let plan = plan.with_new_exprs(plan.expressions(), vec![left, join.right.as_ref().clone()])?;
            Ok((plan, name))
        }
        other => Err(unexpected(other, verb)),
    }
}

/// The error for a plan that is not of the form a change has.
pub(super) fn unexpected(plan: &LogicalPlan, verb: &str) -> Error {
    match plan {
        LogicalPlan::Aggregate(_) => {
            Error::new(ErrorKind::InvalidInput, format!("aggregate functions are not allowed in {verb}"))
                .map(|e| e.with_sqlstate("42803").with_hint("use a subquery"))
        }
        LogicalPlan::Window(_) => {
            Error::new(ErrorKind::InvalidInput, format!("window functions are not allowed in {verb}"))
                .map(|e| e.with_sqlstate("42P20").with_hint("use a subquery"))
        }
        _ => Error::not_supported_yet(format!("this form of {verb}")),
    }
}
