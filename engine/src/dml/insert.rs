//! INSERT: the source query's columns put into the table's order, with defaults for the columns not named.
//!
//! Owns: column lists, DEFAULT, the form literals take for their column. Does not own: casts (`assign`).

use std::collections::HashSet;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnDef, ColumnType};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, Ident, Insert, OnConflictAction, OnInsert, Query, Select, SelectItem,
    SetExpr, TableObject, UnaryOperator, Value, With,
};

use super::Prepared;
use super::change::plan_query;
use super::conflict::OnConflict;
use super::node::{DmlNode, Operation};
use super::returning::{Returning, RowKind};
use super::target::{Target, column_ident, ident_text, syntax};
use super::values;
use super::vectors;
use super::with::put_before;
use super::write::SharedTransaction;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::rights::Right;
use crate::statement::{parse_expression, settle_nested};

/// Plans INSERT.
pub(super) async fn prepare(ctx: &StatementContext, with: Option<With>, insert: Insert) -> Result<Prepared> {
    let (target, columns) = target_of(ctx, &insert)?;
    let alias = insert.table_alias.map(|a| a.alias);
    let on_conflict = match insert.on {
        None => None,
        Some(OnInsert::OnConflict(clause)) => {
            if matches!(clause.action, OnConflictAction::DoUpdate(_)) {
                ctx.rights.table(Right::Update, &target.def)?;
            }
            OnConflict::plan(ctx, &target, alias.as_ref(), clause)?
        }
        Some(_) => {
            return Err(Error::not_supported_yet("ON DUPLICATE KEY UPDATE")
                .map(|e| e.with_hint("write ON CONFLICT (key) DO UPDATE SET …")));
        }
    };
    let (alias, tables) = (alias.as_ref(), target.named_by(alias.as_ref()));
    let returning =
        Returning::plan(ctx, &target, alias, insert.returning, RowKind::New, &tables, Vec::new())?;

    let (input, ordered) = match insert.source {
        Some(query) => source(ctx, &target, &columns, with, *query).await?,
        None => (all_defaults(ctx, &target)?, false),
    };
    let transaction = SharedTransaction::new(ctx);
    let table = target.def.id;
    // A SET of a key column may itself make the duplicate; that one would come again.
    let retry_duplicates = on_conflict.as_ref().is_some_and(|c| !c.sets_any(&target.def.key_indices()));
    let operation = Operation::Insert { on_conflict, ordered };
    let collect = returning.as_ref().map(Returning::sources);
    let plan = DmlNode::new(ctx, target, operation, input, transaction.clone(), collect)?.into_plan();
    Ok(Prepared { verb: "INSERT", table, plan, transaction, returning, retry_duplicates })
}

/// The table and the columns that get a value, in the order of the values.
pub(super) fn target_of(ctx: &StatementContext, insert: &Insert) -> Result<(Target, Vec<usize>)> {
    refuse_foreign_forms(insert)?;
    let TableObject::TableName(name) = &insert.table else {
        return Err(syntax("INSERT needs the name of a table"));
    };
    let target = Target::resolve(ctx, name, Right::Insert)?;
    // Both tell of rows that are there.
    if insert.on.is_some() || insert.returning.is_some() {
        ctx.rights.table(Right::Select, &target.def)?;
    }
    let named = insert.columns.iter().map(column_ident).collect::<Result<Vec<_>>>()?;
    let columns = if named.is_empty() {
        (0..target.def.columns.len()).collect()
    } else {
        target.columns(named.into_iter())?
    };
    Ok((target, columns))
}

fn refuse_foreign_forms(insert: &Insert) -> Result<()> {
    let foreign = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.replace_into
        || !insert.assignments.is_empty()
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.output.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || !insert.multi_table_into_clauses.is_empty();
    if foreign {
        return Err(Error::not_supported_yet("this form of INSERT").map(|e| {
            e.with_hint("write INSERT INTO t (columns) VALUES … | SELECT … [ON CONFLICT …] [RETURNING …]")
        }));
    }
    Ok(())
}

async fn source(
    ctx: &StatementContext,
    target: &Target,
    columns: &[usize],
    with: Option<With>,
    mut query: Query,
) -> Result<(LogicalPlan, bool)> {
    let ordered = query.order_by.is_some();
    match query.body.as_mut() {
        SetExpr::Values(values) => {
            for row in &values.rows {
                check_count(row.content.len(), columns.len())?;
            }
            values::shape(target, columns, values)?;
        }
        SetExpr::Select(select) => name_items_apart(select),
        _ => {}
    }
    let plan = plan_query(ctx, put_before(with, query)).await?;
    let given = plan.schema().fields().len();
    check_count(given, columns.len())?;
    let mut exprs = Vec::with_capacity(target.def.columns.len());
    for (index, column) in target.def.columns.iter().enumerate() {
        let expr = match columns.iter().position(|c| *c == index) {
            Some(position) => Expr::Column(Column::from(plan.schema().qualified_field(position))),
            None => default_expr(ctx, column)?,
        };
        exprs.push(expr.alias(&column.name));
    }
    Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?), ordered))
}

fn all_defaults(ctx: &StatementContext, target: &Target) -> Result<LogicalPlan> {
    let exprs = target
        .def
        .columns
        .iter()
        .map(|column| Ok(default_expr(ctx, column)?.alias(&column.name)))
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::empty(true).project(exprs)?.build()?)
}

pub(super) fn check_count(given: usize, wanted: usize) -> Result<()> {
    if given > wanted {
        return Err(syntax(format!("INSERT has more values ({given}) than columns ({wanted})")));
    }
    if given < wanted {
        return Err(syntax(format!("INSERT has more columns ({wanted}) than values ({given})"))
            .map(|e| e.with_hint("name the columns that get a value; the others get their default")));
    }
    Ok(())
}

/// Two items of SELECT may have one name here, since nobody reads it; DataFusion wants every name once.
pub(super) fn name_items_apart(select: &mut Select) {
    let mut names = HashSet::new();
    let repeated = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(SqlExpr::CompoundIdentifier(parts)) => {
            parts.last().is_some_and(|name| !names.insert(ident_text(name)))
        }
        SelectItem::UnnamedExpr(SqlExpr::Identifier(name))
        | SelectItem::ExprWithAlias { alias: name, .. } => !names.insert(ident_text(name)),
        _ => false,
    });
    if !repeated {
        return;
    }
    for (i, item) in select.projection.iter_mut().enumerate() {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        *item = SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: Ident::with_quote('"', format!("_item{i}")),
        };
    }
}

/// `value` as it is given to `column`: DEFAULT replaced, and a number for a DECIMAL, or in a vector, kept in its exact
/// digits instead of passing through a float.
pub(super) fn stored_value(column: &ColumnDef, value: SqlExpr) -> Result<SqlExpr> {
    if is_default(&value) {
        return default_sql(column);
    }
    if matches!(column.column_type, ColumnType::Decimal { .. })
        && let Some(digits) = number_text(&value)
    {
        return Ok(SqlExpr::value(Value::SingleQuotedString(digits)));
    }
    if matches!(column.column_type, ColumnType::Vector(_))
        && let Some(text) = vectors::written(&value)
    {
        return Ok(SqlExpr::value(Value::SingleQuotedString(text)));
    }
    Ok(value)
}

/// Whether it is the word DEFAULT.
pub(super) fn is_default(value: &SqlExpr) -> bool {
    matches!(value, SqlExpr::Identifier(Ident { value, quote_style: None, .. }) if value.eq_ignore_ascii_case("default"))
}

/// The text of a number literal, signed or not.
pub(super) fn number_text(value: &SqlExpr) -> Option<String> {
    match value {
        SqlExpr::Value(v) => match &v.value {
            Value::Number(digits, false) => Some(digits.to_string()),
            _ => None,
        },
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => match number_text(expr)? {
            digits if digits.starts_with('-') => None,
            digits => Some(format!("-{digits}")),
        },
        SqlExpr::UnaryOp { op: UnaryOperator::Plus, expr } => number_text(expr),
        SqlExpr::Nested(expr) => number_text(expr),
        _ => None,
    }
}

/// The AST of the column's default; NULL when it has none.
pub(super) fn default_sql(column: &ColumnDef) -> Result<SqlExpr> {
    let Some(text) = &column.default else { return Ok(SqlExpr::value(Value::Null)) };
    let mut expr = parse_expression(text).map_err(|error| {
        let message =
            format!("the default of column \"{}\" does not parse: {}", column.name, error.message());
        Error::new(ErrorKind::Internal, message)
    })?;
    settle_nested(&mut expr);
    stored_default(column, expr)
}

fn stored_default(column: &ColumnDef, expr: SqlExpr) -> Result<SqlExpr> {
    // A default never is the word DEFAULT: DDL refuses it. Guarded here so that a bad one cannot recurse.
    if is_default(&expr) { Ok(SqlExpr::value(Value::Null)) } else { stored_value(column, expr) }
}

/// The default of `column` as an expression, not yet cast to its type. `now()` in it is fixed per statement.
///
/// # Errors
/// The default cannot be planned.
pub(crate) fn default_expr(ctx: &StatementContext, column: &ColumnDef) -> Result<Expr> {
    if column.default.is_none() {
        return Ok(Expr::Literal(ScalarValue::try_from(&column.column_type.arrow())?, None));
    }
    let expr = ExprWithAlias { expr: default_sql(column)?, alias: None };
    Ok(ctx.state.create_logical_expr_from_sql_expr(expr, &DFSchema::empty())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_storage::id::ColumnId;

    use super::*;

    fn expr(text: &str) -> SqlExpr {
        parse_expression(text).unwrap()
    }

    fn column(column_type: ColumnType, default: Option<&str>) -> ColumnDef {
        ColumnDef {
            id: ColumnId(1),
            name: "c".into(),
            column_type,
            nullable: true,
            default: default.map(str::to_owned),
            initial: None,
        }
    }

    #[test]
    fn numbers_for_decimals_keep_their_digits() {
        let decimal = column(ColumnType::Decimal { precision: 38, scale: 20 }, None);
        assert_eq!(stored_value(&decimal, expr("-0.1")).unwrap().to_string(), "'-0.1'");
        assert_eq!(stored_value(&decimal, expr("1 + 1")).unwrap().to_string(), "1 + 1");
        assert_eq!(stored_value(&column(ColumnType::Int32, None), expr("7")).unwrap().to_string(), "7");
    }

    #[test]
    fn default_stands_for_its_text() {
        assert_eq!(
            stored_value(&column(ColumnType::Int32, Some("3 + 4")), expr("DEFAULT")).unwrap().to_string(),
            "3 + 4"
        );
        for (text, meant) in [
            ("f(v, x -> [x])", "f(v, x -> make_array(x))"),
            ("f([1], lambda x : x + 7)", "f([1], lambda x : x + 7)"),
            ("{'a': 'b'}['a']", "{'a': 'b'}['a']"),
            ("a IS DISTINCT FROM b AND c", "a IS DISTINCT FROM b AND c"),
        ] {
            let text = text.replace("f(", "list_transform(");
            let found = stored_value(&column(ColumnType::Json, Some(&text)), expr("DEFAULT")).unwrap();
            assert_eq!(found.to_string().replace("list_transform(", "f("), meant);
        }
        assert_eq!(
            stored_value(&column(ColumnType::Int32, None), expr("default")).unwrap().to_string(),
            "NULL"
        );
        assert_eq!(
            stored_value(&column(ColumnType::Int32, None), expr("\"default\"")).unwrap().to_string(),
            "\"default\""
        );
    }
}
