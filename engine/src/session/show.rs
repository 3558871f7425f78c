//! SHOW and DESCRIBE, mostly as queries of `system.*`.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnType, TableDef};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::CatalogProvider;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, ObjectName, SetExpr};

use super::query;
use crate::catalog::{INFORMATION_SCHEMA, SnapshotCatalog, unknown_schema};
use crate::config::{SETTINGS, Settings, commit_id};
use crate::context::StatementContext;
use crate::ddl::{create_index_text, identity_text, value_unless_given};
use crate::dialect::type_text;
use crate::engine::Engine;
use crate::error::{Error, Position, Result};
use crate::output::{Output, RowStream};
use crate::statement::{Shape, Show, name_of, parse_query, schema_and_name};
use crate::stores::SessionStores;

/// SHOW ….
pub(super) async fn show(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    settings: &Settings,
    engine: &Engine,
    what: &Show,
) -> Result<Output> {
    match what {
        Show::Tables { schema } => {
            let schema = schema.as_ref().map_or_else(|| context.search_path.clone(), name_of);
            if crate::system::is_system_schema(&schema) || schema == INFORMATION_SCHEMA {
                let filter =
                    if schema == INFORMATION_SCHEMA { INFORMATION_SCHEMA } else { crate::system::SCHEMA };
                return select(context, &format!("SELECT table_name AS name, 'table' AS kind FROM information_schema.tables WHERE table_schema = {} ORDER BY 1", quoted(filter))).await;
            }
            if !context.snapshot.catalog().has_schema(&schema) {
                return Err(unknown_schema(&context.snapshot, &context.rights, &schema));
            }
            select(context, &format!("SELECT schema, name, kind, rows, bytes + hot_bytes AS bytes FROM system.tables WHERE schema = {} ORDER BY name", quoted(&schema))).await
        }
        Show::Schemas => {
            let mut names: Vec<String> = catalog.schema_names();
            names.push(INFORMATION_SCHEMA.to_owned());
            names.sort_unstable();
            Ok(rows(vec![("name", texts(&names))])?)
        }
        Show::Columns(name) => describe(context, catalog, name).await,
        Show::Create(name) => create(context, catalog, name),
        Show::Versions => select(context, "SELECT * FROM system.versions ORDER BY version DESC").await,
        Show::Commit(id, position) => commit(context, id, *position).await,
        Show::Secrets => SessionStores::of(context.state.as_ref())?.shown(),
        Show::Functions => select(context, "SELECT * FROM system.functions ORDER BY name, kind").await,
        Show::Jobs { table, like, filter } => {
            jobs(context, catalog, table.as_ref(), like.as_deref(), filter.as_deref()).await
        }
        Show::Stats { table } => stats(context, catalog, table.as_ref()).await,
        Show::Setting(name, position) => {
            let value = settings.get(name, engine).map_err(|e| match position {
                Some(position) => e.at(*position),
                None => e,
            })?;
            rows(vec![(name.as_str(), texts(&[value]))])
        }
        Show::All => {
            let values = SETTINGS.iter().map(|s| settings.get(s.name, engine)).collect::<Result<Vec<_>>>()?;
            let sources: Vec<&str> = SETTINGS.iter().map(|s| settings.source(s)).collect();
            let of = |f: fn(&crate::config::Setting) -> &'static str| {
                texts(&SETTINGS.iter().map(f).collect::<Vec<_>>())
            };
            rows(vec![
                ("name", of(|s| s.name)),
                ("value", texts(&values)),
                ("source", texts(&sources)),
                ("description", of(|s| s.description)),
            ])
        }
    }
}

/// SHOW JOBS: those of `system.jobs` that all of the conditions are true of.
async fn jobs(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    table: Option<&ObjectName>,
    like: Option<&str>,
    filter: Option<&Expr>,
) -> Result<Output> {
    let mut conditions = vec!["true".to_owned()];
    if let Some(name) = table {
        catalog.check_relation(name)?;
        let (schema, table) = schema_and_name(name, &context.search_path)?;
        conditions.push(format!("\"table\" = {}", quoted(&format!("{schema}.{table}"))));
    }
    if let Some(pattern) = like {
        conditions.push(format!("kind LIKE {}", quoted(pattern)));
    }
    let sql = format!("SELECT * FROM system.jobs WHERE {} ORDER BY id", conditions.join(" AND "));
    let mut query = parse_query(&sql)?;
    if let Some(filter) = filter
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        let filter = Box::new(Expr::Nested(Box::new(filter.clone())));
        select.selection = select.selection.take().map(|ours| Expr::BinaryOp {
            left: Box::new(ours),
            op: BinaryOperator::And,
            right: filter,
        });
    }
    query::run(context, &Shape::default(), &query).await
}

/// Figures of `system.tables` that are added up for the database.
const SUMMED: [&str; 7] = ["rows", "hot_rows", "cold_rows", "deleted_rows", "segments", "bytes", "hot_bytes"];

/// SHOW STATS: figures of one table, or of all tables that show and of the database. What the database has done, and its jobs, are
/// shown to whom they would be as `system.metrics` and `system.jobs`.
async fn stats(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    table: Option<&ObjectName>,
) -> Result<Output> {
    let mut parts = Vec::new();
    let mut add = |select: String| parts.push(format!("SELECT {} AS place, {select}", parts.len()));
    let (of_tables, of_indexes, of_jobs) = match table {
        Some(name) => {
            catalog.check_relation(name)?;
            let (schema, table) = schema_and_name(name, &context.search_path)?;
            let Some(def) = context.snapshot.catalog().table(&schema, &table) else {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("{schema}.{table} is no table with rows of its own"),
                )
                .map(|e| e.with_sqlstate("42809")));
            };
            context.rights.see(def.owner, &schema, &table)?;
            let (schema, name) = (quoted(&schema), quoted(&table));
            (
                format!("WHERE schema = {schema} AND name = {name}"),
                format!("WHERE table_schema = {schema} AND table_name = {name}"),
                format!("WHERE \"table\" = {schema} || '.' || {name}"),
            )
        }
        None => (String::new(), String::new(), String::new()),
    };
    if table.is_none() {
        add("'tables' AS name, CAST(count(*) AS TEXT) AS value FROM system.tables WHERE kind = 'table'"
            .to_owned());
    }
    for figure in SUMMED {
        add(format!(
            "'{figure}' AS name, CAST(coalesce(sum({figure}), 0) AS TEXT) AS value FROM system.tables {of_tables}"
        ));
    }
    if table.is_some() {
        for word in ["primary_key", "sort"] {
            add(format!("'{word}' AS name, CAST({word} AS TEXT) AS value FROM system.tables {of_tables}"));
        }
    }
    add(format!("'indexes' AS name, CAST(count(*) AS TEXT) AS value FROM system.indexes {of_indexes}"));
    if context.rights.are_all() {
        add(format!(
            "'jobs: ' || kind || ', ' || status AS name, CAST(count(*) AS TEXT) AS value FROM system.jobs {of_jobs} GROUP BY kind, status"
        ));
        add(format!(
            "'seconds of jobs: ' || kind AS name, \
             CAST(round(sum(date_part('epoch', finished) - date_part('epoch', started)), 3) AS TEXT) AS value \
             FROM system.jobs {of_jobs} GROUP BY kind"
        ));
        if table.is_none() {
            add("CASE WHEN labels IS NULL THEN name ELSE name || ' ' || labels END AS name, CAST(value AS TEXT) AS value \
                 FROM system.metrics"
                .to_owned());
        }
    }
    let sql =
        format!("SELECT name, value FROM ({}) AS stats ORDER BY place, name", parts.join(" UNION ALL "));
    select(context, &sql).await
}

/// SHOW COMMIT 'id': whether there is a commit of that id, and which one it is. A row also where there is none, so that scripts can
/// ask again.
async fn commit(context: &StatementContext, id: &str, position: Option<Position>) -> Result<Output> {
    let id = commit_id(id).map_err(|e| match position {
        Some(position) => e.at(position),
        None => e,
    })?;
    let found = context.db.commit_version(id).await?;
    let version = found.as_ref().map(|found| found.version.0);
    let time = found.as_ref().map(|found| found.time_us);
    let status = if found.is_some() { "committed" } else { "unknown" };
    let zone: Arc<str> = "UTC".into();
    let schema = Schema::new(vec![
        Field::new("commit_id", DataType::Utf8View, false),
        Field::new("version", DataType::UInt64, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone))), true),
        Field::new("status", DataType::Utf8View, false),
    ]);
    let columns = vec![
        texts(&[id.to_string()]),
        Arc::new(UInt64Array::from(vec![version])) as ArrayRef,
        Arc::new(TimestampMicrosecondArray::from(vec![time]).with_timezone(zone)),
        texts(&[status]),
    ];
    rows_in(Arc::new(schema), columns)
}

/// DESCRIBE t: one row per column.
pub(super) async fn describe(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    name: &ObjectName,
) -> Result<Output> {
    catalog.check_relation(name)?;
    let (schema, table) = schema_and_name(name, &context.search_path)?;
    if let Some(def) = context.snapshot.catalog().table(&schema, &table) {
        context.rights.see(def.owner, &schema, &table)?;
        return describe_table(def);
    }
    let columns = relation_schema(context, catalog, &schema, &table).await?;
    let names: Vec<&str> = columns.fields().iter().map(|f| f.name().as_str()).collect();
    let types: Vec<String> = columns
        .fields()
        .iter()
        .map(|f| {
            ColumnType::from_arrow(f.data_type()).map_or_else(|| f.data_type().to_string(), |t| t.to_string())
        })
        .collect();
    let nullable: Vec<bool> = columns.fields().iter().map(|f| f.is_nullable()).collect();
    let nothing = vec![None::<&str>; names.len()];
    description(&names, &types, nullable, nothing.clone(), nothing)
}

/// Columns of a relation of any kind; a view is planned for it.
///
/// # Errors
/// 42P01 when there is none; what is wrong with a view.
pub(super) async fn relation_schema(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    schema: &str,
    table: &str,
) -> Result<SchemaRef> {
    let provider = if schema == INFORMATION_SCHEMA {
        let provider = context.state.schema_for_ref(format!("{INFORMATION_SCHEMA}.{table}"))?;
        provider.table(table).await?
    } else {
        match catalog.described().schema(schema) {
            Some(provider) => provider.table(table).await?,
            None => None,
        }
    };
    let provider = provider.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("table {schema}.{table} does not exist"))
            .map(|e| e.with_sqlstate("42P01"))
    })?;
    Ok(provider.schema())
}

fn describe_table(def: &TableDef) -> Result<Output> {
    let key = |id| {
        def.primary_key.iter().position(|k| *k == id).map(|p| {
            if def.primary_key.len() == 1 {
                "PRIMARY KEY".to_owned()
            } else {
                format!("PRIMARY KEY {}", p + 1)
            }
        })
    };
    let keys: Vec<Option<String>> = def.columns.iter().map(|c| key(c.id)).collect();
    let defaults: Vec<Option<String>> = def.columns.iter().map(|c| value_unless_given(def, c)).collect();
    description(
        &def.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        &def.columns.iter().map(|c| c.column_type.to_string()).collect::<Vec<_>>(),
        def.columns.iter().map(|c| c.nullable).collect(),
        defaults.iter().map(Option::as_deref).collect(),
        keys.iter().map(Option::as_deref).collect(),
    )
}

fn description(
    names: &[&str],
    types: &[String],
    nullable: Vec<bool>,
    defaults: Vec<Option<&str>>,
    keys: Vec<Option<&str>>,
) -> Result<Output> {
    rows(vec![
        ("name", texts(names)),
        ("type", texts(types)),
        ("nullable", Arc::new(BooleanArray::from(nullable)) as ArrayRef),
        ("default", Arc::new(defaults.into_iter().collect::<StringViewArray>())),
        ("key", Arc::new(keys.into_iter().collect::<StringViewArray>())),
    ])
}

/// SHOW CREATE TABLE: the statement that makes the table or view again, and behind it those that make the table's indexes.
fn create(context: &StatementContext, catalog: &SnapshotCatalog, name: &ObjectName) -> Result<Output> {
    catalog.check_relation(name)?;
    let (schema, table) = schema_and_name(name, &context.search_path)?;
    let statement = match (
        context.snapshot.catalog().table(&schema, &table),
        context.snapshot.catalog().view(&schema, &table),
    ) {
        (Some(def), _) => {
            context.rights.see(def.owner, &schema, &table)?;
            let of_indexes = def.indexes.iter().map(|index| create_index_text(def, index));
            std::iter::once(create_text(def)).chain(of_indexes).collect::<Vec<_>>().join(";\n")
        }
        (None, Some(view)) => {
            context.rights.see(view.owner, &schema, &table)?;
            format!("CREATE VIEW {}.{} AS\n{}", identifier(&schema), identifier(&table), view.sql)
        }
        (None, None) => {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{schema}.{table} is built in"))
                .map(|e| e.with_sqlstate("42809")));
        }
    };
    rows(vec![("name", texts(&[format!("{schema}.{table}")])), ("statement", texts(&[statement]))])
}

fn create_text(def: &TableDef) -> String {
    let mut lines: Vec<String> = def
        .columns
        .iter()
        .map(|c| {
            let mut line = format!("  {} {}", identifier(&c.name), type_text(&c.column_type));
            let identity = def.identity.filter(|identity| identity.column == c.id);
            if !c.nullable && !def.primary_key.contains(&c.id) && identity.is_none() {
                line.push_str(" NOT NULL");
            }
            if let Some(identity) = identity {
                line.push_str(&format!(" {}", identity_text(&identity, &c.column_type)));
            }
            if let Some(default) = &c.default {
                line.push_str(&format!(" DEFAULT {default}"));
            }
            line
        })
        .collect();
    let names = |indices: Vec<usize>| {
        indices
            .iter()
            .filter_map(|i| def.columns.get(*i))
            .map(|c| identifier(&c.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !def.primary_key.is_empty() {
        lines.push(format!("  PRIMARY KEY ({})", names(def.key_indices())));
    }
    let sort = (!def.sort.is_empty()).then(|| format!("sort = {}", quoted(&names(def.sort_indices()))));
    let layout = (!def.layout.is_default()).then(|| format!("layout = {}", quoted(def.layout.as_str())));
    let options: Vec<String> = sort.into_iter().chain(layout).collect();
    let options = match options.is_empty() {
        true => String::new(),
        false => format!(" WITH ({})", options.join(", ")),
    };
    format!(
        "CREATE TABLE {}.{} (\n{}\n){options}",
        identifier(&def.schema),
        identifier(&def.name),
        lines.join(",\n")
    )
}

/// A name as it must be written to be read back.
pub(crate) fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !super::words::is_reserved(name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Runs a query of ours in the statement's context.
async fn select(context: &StatementContext, sql: &str) -> Result<Output> {
    query::run(context, &Shape::default(), &*parse_query(sql)?).await
}

fn texts<T: AsRef<str>>(values: &[T]) -> ArrayRef {
    Arc::new(values.iter().map(|v| Some(v.as_ref())).collect::<StringViewArray>())
}

/// A result of ready columns.
pub(crate) fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<Output> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            Field::new(
                *name,
                array.data_type().clone(),
                array.null_count() > 0 || matches!(array.data_type(), DataType::Null),
            )
        })
        .collect();
    rows_in(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
}

/// A result of ready columns of `schema`.
pub(super) fn rows_in(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<Output> {
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter([Ok(batch)]));
    Ok(Output::Rows(RowStream::new(schema, Box::pin(stream))))
}
