//! Columns of tables: types, constraints, defaults, which of them numbers the rows.

use cairn_storage::ErrorKind;
use cairn_storage::id::ColumnId;
use cairn_storage::schema::{ColumnDef, ColumnType, IdentityDef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{LogicalPlanBuilder, cast};
use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, CreateTable, Expr, ExprWithAlias, Ident, TableConstraint,
};

use super::identity::identity;
use super::limits::{COLUMNS_MAX, DEFAULT_BYTES_MAX, KEY_COLUMNS_MAX};
use super::{at_ident, invalid, name};
use crate::context::StatementContext;
use crate::dialect::types::column_type;
use crate::error::{Error, Result, closest};
use crate::statement::{name_of, parse_expression, settle_nested};

/// Columns and key of CREATE TABLE as written.
pub(super) struct Columns {
    pub(super) columns: Vec<ColumnDef>,
    pub(super) primary_key: Vec<ColumnId>,
    pub(super) identity: Option<IdentityDef>,
}

/// One column as written.
pub(super) struct Column {
    pub(super) def: ColumnDef,
    /// Whether it says PRIMARY KEY.
    pub(super) is_key: bool,
    pub(super) identity: Option<IdentityDef>,
}

/// Reads the column list and the constraints.
pub(super) async fn columns(context: &StatementContext, table: &CreateTable) -> Result<Columns> {
    let mut columns: Vec<ColumnDef> = Vec::with_capacity(table.columns.len());
    let mut key: Vec<String> = Vec::new();
    let mut identity = None;
    check_count(table.columns.len())?;
    for (i, written) in table.columns.iter().enumerate() {
        let Column { def: column, is_key, identity: numbers } = column(context, i, written).await?;
        if numbers.is_some() && identity.is_some() {
            let error = Error::not_supported_yet("a second IDENTITY column of one table");
            return Err(at_ident(error, &written.name));
        }
        identity = identity.or(numbers);
        if columns.iter().any(|c| c.name == column.name) {
            return Err(at_ident(
                invalid("42701", format!("column {} is declared twice", column.name)),
                &written.name,
            ));
        }
        if is_key {
            if !key.is_empty() {
                return Err(at_ident(two_keys(), &written.name));
            }
            key.push(column.name.clone());
        }
        columns.push(column);
    }
    for constraint in &table.constraints {
        let written = key_constraint(constraint)?;
        if !key.is_empty() {
            return Err(two_keys());
        }
        for ident in written {
            let name = name_of(&ident);
            if !columns.iter().any(|c| c.name == name) {
                return Err(at_ident(no_column(&name, &columns, "PRIMARY KEY"), &ident));
            }
            key.push(name);
        }
    }
    let primary_key = key_ids(&mut columns, &key)?;
    Ok(Columns { columns, primary_key, identity })
}

/// # Errors
/// 54011 when a table would have too many columns, 42601 when none.
pub(super) fn check_count(count: usize) -> Result<()> {
    match count {
        0 => Err(invalid("42601", "a table needs at least one column")),
        n if n > COLUMNS_MAX => Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("{n} columns; at most {COLUMNS_MAX} are allowed"),
        )
        .map(|e| e.with_sqlstate("54011"))),
        _ => Ok(()),
    }
}

/// The id of the column at a position of a new table.
pub(super) fn id_at(index: usize) -> ColumnId {
    // COLUMNS_MAX is far below u32.
    ColumnId(u32::try_from(index).unwrap_or(u32::MAX - 1) + 1)
}

/// Reads one column.
pub(super) async fn column(
    context: &StatementContext,
    index: usize,
    written: &ast::ColumnDef,
) -> Result<Column> {
    let name = name::new_object(&written.name)?;
    let in_column = |error: Error| match error.position() {
        Some(_) => error,
        None => at_ident(error, &written.name),
    };
    let column_type = column_type(&written.data_type).map_err(in_column)?;
    let (mut nullable, mut is_key, mut default, mut numbers) = (None, false, None, None);
    for option in &written.options {
        match &option.option {
            ColumnOption::Null => set_nullable(&mut nullable, true, &name).map_err(in_column)?,
            ColumnOption::NotNull => set_nullable(&mut nullable, false, &name).map_err(in_column)?,
            ColumnOption::PrimaryKey(_) => is_key = true,
            ColumnOption::Default(expr) => {
                default = Some(check_default(context, &name, &column_type, expr).await.map_err(in_column)?)
            }
            ColumnOption::Generated { generated_as, sequence_options: Some(options), .. } => {
                let of = (id_at(index), name.as_str());
                let read = identity(of, &column_type, *generated_as, options).map_err(in_column)?;
                if numbers.replace(read).is_some() {
                    let message = format!("column {name} is declared an IDENTITY twice");
                    return Err(in_column(invalid("42601", message)));
                }
            }
            other => return Err(in_column(Error::not_supported_yet(option_name(other)))),
        }
    }
    if is_key && nullable == Some(true) {
        return Err(in_column(invalid(
            "42601",
            format!("column {name} is in the primary key and cannot be NULL"),
        )));
    }
    if numbers.is_some() && (default.is_some() || nullable == Some(true)) {
        let other = if default.is_some() { "DEFAULT" } else { "NULL" };
        let message = format!("column {name} is an IDENTITY, which cannot be {other}");
        return Err(in_column(invalid("42601", message)));
    }
    let nullable = nullable.unwrap_or(true) && !is_key && numbers.is_none();
    let def = ColumnDef { id: id_at(index), name, column_type, nullable, default, initial: None };
    Ok(Column { def, is_key, identity: numbers })
}

fn set_nullable(nullable: &mut Option<bool>, value: bool, name: &str) -> Result<()> {
    if nullable.is_some_and(|before| before != value) {
        return Err(invalid("42601", format!("column {name} is declared both NULL and NOT NULL")));
    }
    *nullable = Some(value);
    Ok(())
}

fn option_name(option: &ColumnOption) -> String {
    match option {
        ColumnOption::Unique(_) => "UNIQUE".to_owned(),
        ColumnOption::ForeignKey(_) => "REFERENCES".to_owned(),
        ColumnOption::Check(_) => "CHECK".to_owned(),
        ColumnOption::Generated { .. } => "GENERATED".to_owned(),
        ColumnOption::Identity(_) => "IDENTITY".to_owned(),
        ColumnOption::Collation(_) => "COLLATE".to_owned(),
        ColumnOption::Comment(_) => "COMMENT".to_owned(),
        other => other.to_string().split_whitespace().next().unwrap_or("this column option").to_owned(),
    }
}

/// Columns of a PRIMARY KEY constraint; every other constraint is refused.
fn key_constraint(constraint: &TableConstraint) -> Result<Vec<Ident>> {
    let key = match constraint {
        TableConstraint::PrimaryKey(key) => key,
        TableConstraint::Unique(_) => return Err(Error::not_supported_yet("UNIQUE")),
        TableConstraint::ForeignKey(_) => return Err(Error::not_supported_yet("FOREIGN KEY")),
        TableConstraint::Check(_) => return Err(Error::not_supported_yet("CHECK")),
        _ => return Err(Error::not_supported_yet("this table constraint")),
    };
    if !key.index_options.is_empty() || key.index_type.is_some() || key.characteristics.is_some() {
        return Err(Error::not_supported_yet("an option of PRIMARY KEY"));
    }
    key.columns
        .iter()
        .map(|column| match &column.column.expr {
            Expr::Identifier(ident)
                if column.column.options.asc.is_none()
                    && column.column.options.nulls_first.is_none()
                    && column.operator_class.is_none() =>
            {
                Ok(ident.clone())
            }
            other => Err(invalid("42601", format!("{other} is not a column of a PRIMARY KEY"))),
        })
        .collect()
}

/// Ids of the key's columns, which become NOT NULL.
fn key_ids(columns: &mut [ColumnDef], key: &[String]) -> Result<Vec<ColumnId>> {
    if key.len() > KEY_COLUMNS_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("a key has at most {KEY_COLUMNS_MAX} columns"),
        )
        .map(|e| e.with_sqlstate("54011")));
    }
    let mut ids = Vec::with_capacity(key.len());
    for name in key {
        let Some(column) = columns.iter_mut().find(|c| c.name == *name) else { continue };
        if ids.contains(&column.id) {
            return Err(invalid("42701", format!("column {name} is twice in the primary key")));
        }
        if !column.column_type.is_key() {
            return Err(invalid(
                "42P16",
                format!("column {name} of type {} cannot be in a primary key", column.column_type),
            ));
        }
        column.nullable = false;
        ids.push(column.id);
    }
    Ok(ids)
}

/// Columns of `WITH (sort = 'a, b')`.
pub(super) fn sort_ids(columns: &[ColumnDef], sort: &str) -> Result<Vec<ColumnId>> {
    let mut ids = Vec::new();
    for part in sort.split(',') {
        let part = part.trim();
        let name = match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.to_lowercase(),
        };
        let column =
            columns.iter().find(|c| c.name == name).ok_or_else(|| no_column(&name, columns, "sort"))?;
        if !column.column_type.is_key() {
            return Err(invalid(
                "42P16",
                format!("a table cannot be sorted by column {name} of type {}", column.column_type),
            ));
        }
        if ids.contains(&column.id) {
            return Err(invalid("42701", format!("column {name} is twice in sort")));
        }
        ids.push(column.id);
    }
    if ids.len() > KEY_COLUMNS_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("sort has at most {KEY_COLUMNS_MAX} columns"),
        )
        .map(|e| e.with_sqlstate("54011")));
    }
    Ok(ids)
}

pub(super) fn no_column(name: &str, columns: &[ColumnDef], place: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("column {name} in {place} does not exist"))
        .map(|e| e.with_sqlstate("42703"));
    match closest(name, columns.iter().map(|c| c.name.as_str())) {
        Some(near) => error.map(|e| e.with_hint(format!("did you mean {near}?"))),
        None => error,
    }
}

fn two_keys() -> Error {
    invalid("42P16", "a table has only one primary key")
        .map(|e| e.with_hint("a key of several columns is written PRIMARY KEY (a, b) behind the columns"))
}

/// A default's text, after computing it once as a value of the column.
pub(super) async fn check_default(
    context: &StatementContext,
    name: &str,
    column_type: &ColumnType,
    expr: &Expr,
) -> Result<String> {
    let text = expr.to_string();
    if text.len() > DEFAULT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the default of column {name} has more than {DEFAULT_BYTES_MAX} bytes"),
        )
        .map(|e| e.with_sqlstate("54000")));
    }
    // Rows get what the text says.
    if let Err(error) = parse_expression(&text) {
        let message = format!("the default of column {name} cannot be kept as text: {}", error.message());
        return Err(invalid("42601", message));
    }
    let value = async {
        let mut expr = ExprWithAlias { expr: expr.clone(), alias: None };
        settle_nested(&mut expr.expr);
        let expr = context.state.create_logical_expr_from_sql_expr(expr, &DFSchema::empty())?;
        let plan = LogicalPlanBuilder::empty(true).project([cast(expr, column_type.arrow())])?.build()?;
        let plan = context.state.create_physical_plan(&plan).await?;
        let batches = collect(plan, context.state.task_ctx()).await?;
        Ok::<_, Error>(batches.iter().map(|b| b.num_rows()).sum::<usize>())
    };
    match value.await {
        Ok(1) => Ok(text),
        Ok(_) => Err(invalid("42601", format!("the default of column {name} is not one value"))),
        Err(error) => {
            let position = error.position();
            let (sqlstate, message) = (error.sqlstate(), error.message().to_owned());
            let error = invalid(
                if sqlstate == "XX000" { "42601" } else { sqlstate },
                format!("the default of column {name} cannot be used: {message}"),
            )
            .map(|e| {
                e.with_hint("a default is a constant or a call such as now(), without columns and subqueries")
            });
            Err(super::at(error, position))
        }
    }
}
