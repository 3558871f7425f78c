//! CREATE TABLE, empty or from a query.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cairn_storage::id::{ColumnId, SchemaVersion};
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef, TableLayout};
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{ErrorKind, Transaction};
use datafusion::arrow::datatypes::Fields;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, Expr, HiveDistributionStyle, ObjectName, SqlOption, Value,
};

use super::column::{self, Columns};
use super::drop::RemovedUnits;
use super::{at, at_ident, exists, invalid, name, new_object, taken};
use crate::context::StatementContext;
use crate::dml;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights;
use crate::session::plan_query;
use crate::statement::{Shape, name_of, object_position};

/// CREATE TABLE [AS].
///
/// # Errors
/// 42P07 when the name is taken; what is wrong with a column, constraint, option or the query.
pub(crate) async fn create_table(
    context: &StatementContext,
    shape: &Shape,
    table: &CreateTable,
) -> Result<Output> {
    refuse_unread(table)?;
    let (schema, name) = new_object(context, &table.name)?;
    if let Some(message) = taken(context, &schema, &name) {
        return exists(table.if_not_exists, "CREATE TABLE", "42P07", message, object_position(&table.name));
    }
    let (Columns { columns, primary_key, identity }, plan) = match &table.query {
        None => (column::columns(context, table).await?, None),
        Some(query) => {
            let plan = plan_query(context, shape, query).await?;
            let columns = columns_of(context, table, &plan).await?;
            let plan = cast_to(plan, &columns.columns)?;
            (columns, Some(plan))
        }
    };
    let TableOptions { sort, layout } = options(table, &columns)?;
    let transaction = context.db.begin(&context.snapshot).await?;
    let id = transaction.next_table_id();
    let next_column_id = column::id_at(columns.len());
    let def = TableDef {
        id,
        schema,
        name,
        schema_version: SchemaVersion(1),
        columns,
        primary_key,
        sort: sort.unwrap_or_default(),
        next_column_id,
        layout: layout.unwrap_or_default(),
        indexes: Vec::new(),
        identity,
        owner: context.owner,
    };
    transaction.edit(CatalogEdit::PutTable(Arc::new(def)))?;
    let rows = match plan {
        Some(plan) => match dml::insert_rows_from_plan(context, &transaction, id, plan).await {
            Ok(rows) => Some(rows),
            Err(error) => {
                transaction.rollback().await?;
                return Err(error);
            }
        },
        None => None,
    };
    context.commit(transaction).await?;
    Ok(match rows {
        Some(rows) => Output::Affected { verb: "CREATE TABLE", rows, notes: Vec::new() },
        None => Output::Done { verb: "CREATE TABLE", notes: Vec::new() },
    })
}

/// Columns of CREATE TABLE … AS: the query's, or those written, which must be as many.
async fn columns_of(context: &StatementContext, table: &CreateTable, plan: &LogicalPlan) -> Result<Columns> {
    let fields = plan.schema().fields();
    if !table.columns.is_empty() {
        if table.columns.len() != fields.len() {
            return Err(invalid(
                "42601",
                format!("{} columns are declared but the query has {}", table.columns.len(), fields.len()),
            ));
        }
        let columns = column::columns(context, table).await?;
        if columns.identity.is_some() {
            return Err(Error::not_supported_yet("an IDENTITY column in CREATE TABLE … AS").map(|e| {
                e.with_hint("create the table first, then INSERT INTO it the columns of the query")
            }));
        }
        return Ok(columns);
    }
    if !table.constraints.is_empty() {
        return Err(Error::not_supported_yet("a constraint without a column list in CREATE TABLE … AS"));
    }
    Ok(Columns { columns: columns_for(fields)?, primary_key: Vec::new(), identity: None })
}

/// Columns that hold rows of `fields`.
fn columns_for(fields: &Fields) -> Result<Vec<ColumnDef>> {
    column::check_count(fields.len())?;
    let mut seen = HashSet::new();
    let mut columns = Vec::with_capacity(fields.len());
    for (i, field) in fields.iter().enumerate() {
        name::check(field.name(), true).map_err(|e| e.map(|e| e.with_hint("name the column with AS")))?;
        if !seen.insert(field.name()) {
            return Err(invalid("42701", format!("the query has two columns named {}", field.name()))
                .map(|e| e.with_hint("give one of them another name with AS")));
        }
        let column_type = ColumnType::from_arrow(field.data_type()).ok_or_else(|| {
            Error::not_supported_yet(format!("column {} of type {}", field.name(), field.data_type()))
                .map(|e| e.with_hint("cast it to another type in the query"))
        })?;
        // now() and its kin are in the session's zone; UTC has one name in types.
        let column_type = match column_type {
            ColumnType::TimestampTz { nanos, zone } if zone == "+00:00" => {
                ColumnType::TimestampTz { nanos, zone: "UTC".to_owned() }
            }
            other => other,
        };
        columns.push(ColumnDef {
            id: column::id_at(i),
            name: field.name().clone(),
            column_type,
            nullable: true,
            default: None,
            initial: None,
        });
    }
    Ok(columns)
}

/// Adds to `transaction` a table called `name` for rows of `fields`, in place of the one that is there with `replace`.
/// Returns its definition and the index units that go once that is committed.
///
/// # Errors
/// 42P07 when the name is taken, by a view also with `replace`; what is wrong with the name or a column.
pub(crate) async fn create_table_for(
    context: &StatementContext,
    transaction: &Transaction,
    table: &ObjectName,
    fields: &Fields,
    replace: bool,
) -> Result<(Arc<TableDef>, RemovedUnits)> {
    let (schema, name) = new_object(context, table)?;
    let columns = columns_for(fields)?;
    let object = BTreeSet::from([(schema.clone(), name.clone())]);
    let mut removed = RemovedUnits::default();
    match context.snapshot.catalog().table(&schema, &name) {
        Some(def) if replace => {
            context.rights.own(def.owner, &schema, &name)?;
            rights::forget(context, transaction, &BTreeSet::new(), &object).await?;
            removed = RemovedUnits::of_table(context, def.id);
            transaction.edit(CatalogEdit::DropTable { table: def.id })?;
        }
        _ => {
            if let Some(message) = taken(context, &schema, &name) {
                return Err(Error::new(ErrorKind::AlreadyExists, message)
                    .map(|e| e.with_sqlstate("42P07").with_hint("use another name, or append to it")));
            }
        }
    }
    let next_column_id = column::id_at(columns.len());
    let def = Arc::new(TableDef {
        id: transaction.next_table_id(),
        owner: context.owner,
        schema,
        name,
        schema_version: SchemaVersion(1),
        columns,
        primary_key: Vec::new(),
        sort: Vec::new(),
        next_column_id,
        layout: TableLayout::default(),
        indexes: Vec::new(),
        identity: None,
    });
    transaction.edit(CatalogEdit::PutTable(Arc::clone(&def)))?;
    Ok((def, removed))
}

/// The query's rows as rows of the table: its types and names.
fn cast_to(plan: LogicalPlan, columns: &[ColumnDef]) -> Result<LogicalPlan> {
    let expressions: Vec<PlanExpr> = plan
        .schema()
        .iter()
        .zip(columns)
        .map(|((qualifier, field), column)| {
            let source = PlanExpr::Column(Column::new(qualifier.cloned(), field.name()));
            let target = column.column_type.arrow();
            let value = if *field.data_type() == target { source } else { cast(source, target) };
            value.alias(&column.name)
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(expressions)?.build()?)
}

/// What options say of a table; None: nothing.
#[derive(Debug, Default)]
pub(super) struct TableOptions {
    pub(super) sort: Option<Vec<ColumnId>>,
    pub(super) layout: Option<TableLayout>,
}

/// Those of WITH (…).
fn options(table: &CreateTable, columns: &[ColumnDef]) -> Result<TableOptions> {
    match &table.table_options {
        CreateTableOptions::None => Ok(TableOptions::default()),
        CreateTableOptions::With(options) => TableOptions::read(options, columns),
        _ => Err(Error::not_supported_yet("table options outside of WITH (…)")),
    }
}

impl TableOptions {
    /// # Errors
    /// 22023 for an option that there is not, or a value that it can't have; 42601 for one that is given twice; 42703, 42701 for the
    /// columns of `sort`.
    pub(super) fn read(options: &[SqlOption], columns: &[ColumnDef]) -> Result<Self> {
        let mut read = Self::default();
        for option in options {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(invalid("42601", format!("{option} is not an option of a table")));
            };
            let refuse = |error: Error| Err(at_ident(error, key));
            let text = match value {
                Expr::Value(value) => match &value.value {
                    Value::SingleQuotedString(text) => Some(text.as_str()),
                    _ => None,
                },
                _ => None,
            };
            let option_name = name_of(key);
            let twice = match option_name.as_str() {
                "sort" => {
                    let Some(text) = text else {
                        let message = "sort is the names of columns in single quotes: sort = 'a, b'";
                        return refuse(invalid("22023", message));
                    };
                    let sort = column::sort_ids(columns, text).map_err(|e| at_ident(e, key))?;
                    read.sort.replace(sort).is_some()
                }
                "layout" => {
                    let Some(layout) = text.and_then(TableLayout::named) else {
                        return refuse(invalid("22023", "layout is 'columns' or 'rows', in single quotes"));
                    };
                    read.layout.replace(layout).is_some()
                }
                "ttl" => return refuse(Error::not_supported_yet("table option ttl")),
                _ => {
                    let message = format!("there is no table option {option_name}");
                    return refuse(
                        invalid("22023", message).map(|e| {
                            e.with_hint("options: sort = 'column, …', layout = 'columns' or 'rows'")
                        }),
                    );
                }
            };
            if twice {
                return refuse(invalid("42601", format!("option {option_name} is given twice")));
            }
        }
        Ok(read)
    }
}

/// Refuses every part of the statement that would otherwise be dropped without a word.
fn refuse_unread(table: &CreateTable) -> Result<()> {
    if table.columns.is_empty() && table.query.is_none() && table.like.is_none() {
        return column::check_count(0);
    }
    let unread = [
        (table.or_replace, "CREATE OR REPLACE TABLE"),
        (table.temporary || table.global.is_some(), "CREATE TEMPORARY TABLE"),
        (table.external, "CREATE EXTERNAL TABLE"),
        (
            table.transient || table.volatile || table.dynamic || table.iceberg || table.snapshot,
            "this kind of table",
        ),
        (!matches!(table.hive_distribution, HiveDistributionStyle::NONE), "PARTITIONED BY"),
        (
            table
                .hive_formats
                .as_ref()
                .is_some_and(|f| f.row_format.is_some() || f.storage.is_some() || f.location.is_some()),
            "STORED AS",
        ),
        (table.file_format.is_some() || table.location.is_some(), "STORED AS"),
        (table.without_rowid || table.strict, "WITHOUT ROWID and STRICT"),
        (table.like.is_some(), "CREATE TABLE … LIKE"),
        (table.clone.is_some(), "CREATE TABLE … CLONE"),
        (table.version.is_some(), "CREATE TABLE … AS OF"),
        (table.comment.is_some(), "COMMENT"),
        (table.on_commit.is_some(), "ON COMMIT"),
        (table.on_cluster.is_some(), "ON CLUSTER"),
        (
            table.primary_key.is_some() || table.order_by.is_some(),
            "PRIMARY KEY or ORDER BY behind the column list",
        ),
        (
            table.partition_by.is_some() || table.partition_of.is_some() || table.for_values.is_some(),
            "PARTITION BY",
        ),
        (table.cluster_by.is_some() || table.clustered_by.is_some(), "CLUSTER BY"),
        (table.inherits.is_some(), "INHERITS"),
        (
            table.distkey.is_some() || table.sortkey.is_some() || table.diststyle.is_some(),
            "DISTKEY and SORTKEY",
        ),
    ];
    match unread.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(at(Error::not_supported_yet(what), object_position(&table.name))),
        None => Ok(()),
    }
}
