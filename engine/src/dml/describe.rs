//! What INSERT, UPDATE, DELETE or MERGE asks for and answers with, before it has values.
//!
//! A parameter that is stored as it is has its column's type; the planner knows those of conditions. Does not own: running.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{
    Insert, Merge, OnConflictAction, OnInsert, SelectItem, SetExpr, Statement, With,
};

use super::change::{Written, assignments, describe_query};
use super::insert;
use super::merge::Merged;
use super::returning::{Returning, RowKind};
use super::with::{put_before, take_apart};
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::search;
use crate::statement::Parameters;

/// The parameters of a change, and the columns of its RETURNING.
///
/// # Errors
/// What is wrong with the statement.
pub(crate) async fn describe(
    ctx: &StatementContext,
    statement: &Statement,
) -> Result<(Parameters, Option<SchemaRef>)> {
    let mut parameters = Parameters::of(statement);
    let mut statement = statement.clone();
    search::stand_in(ctx, &mut statement, &mut parameters).await?;
    let (with, statement) = take_apart(statement);
    let returning = match statement {
        Statement::Insert(insert) => describe_insert(ctx, with, insert, &mut parameters).await?,
        Statement::Update(update) => {
            let written = Written::update(ctx, with, update)?;
            describe_written(ctx, written, RowKind::New, &mut parameters).await?
        }
        Statement::Delete(delete) => {
            let written = Written::delete(ctx, with, delete)?;
            describe_written(ctx, written, RowKind::Old, &mut parameters).await?
        }
        Statement::Merge(merge) => describe_merge(ctx, with, merge, &mut parameters).await?,
        _ => return Err(Error::not_supported_yet("this statement")),
    };
    Ok((parameters, returning.map(|returning| SchemaRef::clone(returning.columns()))))
}

async fn describe_written(
    ctx: &StatementContext,
    mut written: Written,
    kind: RowKind,
    parameters: &mut Parameters,
) -> Result<Option<Returning>> {
    let plan = describe_query(ctx, written.query.clone()).await?;
    let returning = written.returning(ctx, kind, &plan)?;
    for (column, value) in &written.assigned {
        parameters.assign(value, &written.target.column_def(*column).column_type.arrow());
    }
    parameters.take_types(&plan);
    Ok(returning)
}

async fn describe_merge(
    ctx: &StatementContext,
    with: Option<With>,
    merge: Merge,
    parameters: &mut Parameters,
) -> Result<Option<Returning>> {
    let mut merged = Merged::read(ctx, with, merge)?;
    for (column, value) in merged.assigned() {
        parameters.assign(value, &merged.target.column_def(column).column_type.arrow());
    }
    let mut returning = None;
    for (i, query) in merged.queries()?.into_iter().enumerate() {
        let plan = describe_query(ctx, query).await?;
        if i == 0 {
            returning = merged.returning(ctx, &plan)?;
        }
        parameters.take_types(&plan);
    }
    Ok(returning)
}

async fn describe_insert(
    ctx: &StatementContext,
    with: Option<With>,
    insert: Insert,
    parameters: &mut Parameters,
) -> Result<Option<Returning>> {
    let (target, columns) = insert::target_of(ctx, &insert)?;
    let alias = insert.table_alias.map(|a| a.alias);
    let (alias, tables) = (alias.as_ref(), target.named_by(alias.as_ref()));
    let returning =
        Returning::plan(ctx, &target, alias, insert.returning, RowKind::New, &tables, Vec::new())?;
    if let Some(mut query) = insert.source {
        match query.body.as_mut() {
            SetExpr::Values(values) => {
                for row in &values.rows {
                    for (value, column) in row.content.iter().zip(&columns) {
                        parameters.assign(value, &target.column_def(*column).column_type.arrow());
                    }
                }
            }
            SetExpr::Select(select) => {
                for (item, column) in select.projection.iter().zip(&columns) {
                    if let SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } =
                        item
                    {
                        parameters.assign(value, &target.column_def(*column).column_type.arrow());
                    }
                }
                insert::name_items_apart(select);
                parameters.take_types(&describe_query(ctx, put_before(with, *query)).await?);
            }
            _ => parameters.take_types(&describe_query(ctx, put_before(with, *query)).await?),
        }
    }
    if let Some(OnInsert::OnConflict(clause)) = insert.on
        && let OnConflictAction::DoUpdate(update) = clause.action
    {
        for (column, value) in assignments(&target, update.assignments)? {
            parameters.assign(&value, &target.column_def(column).column_type.arrow());
        }
    }
    Ok(returning)
}
