//! CREATE INDEX, DROP INDEX, REINDEX.
//!
//! Owns: what may be indexed and how, names, options. Does not own: building (`storage::index`). An index is there for every
//! search at once: rows that no unit covers yet are compared exactly.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_storage::id::{IndexId, ObjectId, TableId};
use cairn_storage::index::{IndexBuilder, IndexDef, IndexMetric, estimate, least_memory_limit};
use cairn_storage::schema::{ColumnType, TableDef};
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{CheckpointReason, ErrorKind};
use datafusion::arrow::array::{ArrayRef, Float64Array, StringViewArray, UInt64Array};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CreateIndex, Expr, IndexType, ObjectName, OrderByExpr, Value,
};

use super::limits::NAME_BYTES_MAX;
use super::{at, exists, invalid, name, taken};
use crate::context::StatementContext;
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::session::identifier;
use crate::statement::{Reindex, name_of, object_position, schema_and_name};

/// Recall that searches aim at when nothing is said, in thousandths.
const TARGET_RECALL_PERMILLE: u16 = 950;
const M_DEFAULT: u16 = 16;
const EF_CONSTRUCTION_DEFAULT: u16 = 200;
/// Bytes of a name that is made up for `_idx` and a number behind it.
const FREE_NAME_ROOM: usize = 16;
/// Options, with the values of those that have a list of them.
pub(crate) const INDEX_OPTIONS: &[(&str, &[&str])] = &[
    ("metric", &["l2", "cosine", "ip"]),
    ("target_recall", &[]),
    ("m", &[]),
    ("ef_construction", &[]),
    ("builder", &["partition", "hnsw_rs"]),
    ("memory_limit", &[]),
];
/// The names other systems have for metrics.
pub(crate) const OPERATOR_CLASSES: &[&str] = &["vector_l2_ops", "vector_cosine_ops", "vector_ip_ops"];

/// CREATE INDEX: the definition first, then, before it answers, a checkpoint and the units. Cancelled half-way, the index is
/// there and its units are built in the background; DROP INDEX ends that.
///
/// # Errors
/// 42P07 for a name that is taken, 42704 for another method, 42804 for a column that is no VECTOR, 22023 for options, 22000
/// for vectors that have no distance under the metric.
pub(crate) async fn create_index(context: &StatementContext, create: &CreateIndex) -> Result<Output> {
    refuse_unread(create)?;
    let target =
        Target::owned(context, &create.table_name).map_err(|e| at(e, object_position(&create.table_name)))?;
    let mut index = define(&target, create)?;
    index.name = match &create.name {
        Some(given) => {
            let new = new_name(&target.def, given)?;
            if let Some(message) = name_taken(context, &target.def.schema, &new) {
                return exists(
                    create.if_not_exists,
                    "CREATE INDEX",
                    "42P07",
                    message,
                    object_position(given),
                );
            }
            new
        }
        None => free_name(context, &target, &index),
    };
    let column = target.def.columns.iter().position(|c| c.id == index.column);
    target.table.check_vectors(column.unwrap_or_default(), index.metric.metric()).await?;
    let mut def = TableDef::clone(&target.def);
    def.indexes.push(index.clone());
    let transaction = context.db.begin(&context.snapshot).await?;
    transaction.edit(CatalogEdit::PutTable(Arc::new(def)))?;
    context.commit(transaction).await?;
    context.searches.recall().forget(target.def.id, index.id);
    if context.block.is_some() {
        let notes = vec!["the index is built after COMMIT, in the background".to_owned()];
        return Ok(Output::Done { verb: "CREATE INDEX", notes });
    }
    context.db.checkpoint(CheckpointReason::Statement).await?;
    context.db.build_indexes(Some(target.def.id)).await?;
    Ok(Output::Done { verb: "CREATE INDEX", notes: Vec::new() })
}

/// EXPLAIN CREATE INDEX: what the build would take. Nothing is made.
///
/// # Errors
/// As for [`create_index`].
pub(crate) async fn explain_create_index(context: &StatementContext, create: &CreateIndex) -> Result<Output> {
    refuse_unread(create)?;
    let target =
        Target::owned(context, &create.table_name).map_err(|e| at(e, object_position(&create.table_name)))?;
    let index = define(&target, create)?;
    let rows = target.table.row_count().await?;
    let estimate = estimate(&target.def, &index, rows);
    let number = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
    let text = |t: &str| Arc::new(StringViewArray::from(vec![t])) as ArrayRef;
    crate::session::rows(vec![
        ("table_name", text(&target.def.qualified_name())),
        ("metric", text(metric_name(index.metric))),
        ("rows", number(rows)),
        ("units", number(estimate.units)),
        ("memory_bytes", number(estimate.memory_bytes)),
        ("disk_bytes", number(estimate.disk_bytes)),
        ("seconds", Arc::new(Float64Array::from(vec![estimate.seconds]))),
    ])
}

/// The metric as `WITH (metric = …)` and system tables have it.
pub(crate) fn metric_name(metric: IndexMetric) -> &'static str {
    match metric {
        IndexMetric::L2 => "l2",
        IndexMetric::Cosine => "cosine",
        IndexMetric::InnerProduct => "ip",
    }
}

/// The statement that makes an index of `def` again.
pub(crate) fn create_index_text(def: &TableDef, index: &IndexDef) -> String {
    let column = def.columns.iter().find(|c| c.id == index.column).map_or("", |c| c.name.as_str());
    let mut options = vec![format!("metric = '{}'", metric_name(index.metric))];
    if index.target_recall_permille != TARGET_RECALL_PERMILLE {
        options.push(format!("target_recall = {}", f64::from(index.target_recall_permille) / 1000.0));
    }
    if index.m != M_DEFAULT {
        options.push(format!("m = {}", index.m));
    }
    if index.ef_construction != EF_CONSTRUCTION_DEFAULT {
        options.push(format!("ef_construction = {}", index.ef_construction));
    }
    match index.builder {
        IndexBuilder::Partition => {}
        IndexBuilder::HnswRs => options.push("builder = 'hnsw_rs'".to_owned()),
    }
    match index.memory_limit_bytes {
        None => {}
        Some(bytes) if bytes.is_multiple_of(1 << 20) => {
            options.push(format!("memory_limit = '{} MiB'", bytes >> 20));
        }
        Some(bytes) => options.push(format!("memory_limit = '{bytes} B'")),
    }
    let name = match index.name.as_str() {
        // Without quotes it is a word of the statement here.
        "concurrently" => "\"concurrently\"".to_owned(),
        name => identifier(name),
    };
    format!(
        "CREATE INDEX {name} ON {}.{} USING hnsw ({}) WITH ({})",
        identifier(&def.schema),
        identifier(&def.name),
        identifier(column),
        options.join(", ")
    )
}

/// An index to drop.
pub(super) struct DroppedIndex {
    pub(super) table: TableId,
    /// Its table without it.
    pub(super) edit: CatalogEdit,
    /// Its units, whose objects nothing names then.
    pub(super) units: Vec<ObjectId>,
}

/// DROP INDEX of one name.
///
/// # Errors
/// 42704 when there is no such index.
pub(super) fn without(context: &StatementContext, object: &ObjectName) -> Result<DroppedIndex> {
    let (def, index) = find(context, object)?;
    let state = context.snapshot.table(def.id).map(|table| Arc::clone(table.state()));
    let units =
        state.iter().flat_map(|s| s.units.iter()).filter(|u| u.index == index.id).map(|u| u.id).collect();
    let mut without = TableDef::clone(&def);
    without.indexes.retain(|known| known.id != index.id);
    Ok(DroppedIndex { table: def.id, edit: CatalogEdit::PutTable(Arc::new(without)), units })
}

/// REINDEX: every unit of the index, or of the table's indexes, is built anew. Searches use the old ones until then.
///
/// # Errors
/// 42704, 42P01 for what is not there; what the build meets.
pub(crate) async fn reindex(context: &StatementContext, what: &Reindex) -> Result<Output> {
    if context.block.is_some() {
        return Err(invalid("25001", "REINDEX cannot be one of a transaction's statements"));
    }
    let (table, index): (TableId, Option<IndexId>) = match what {
        Reindex::Table(name) => {
            (Target::owned(context, name).map_err(|e| at(e, object_position(name)))?.def.id, None)
        }
        Reindex::Index(name) => {
            let (def, index) = find(context, name)?;
            (def.id, Some(index.id))
        }
    };
    context.db.claim().await?;
    context.db.checkpoint(CheckpointReason::Statement).await?;
    context.db.rebuild_indexes(table, index).await?;
    Ok(Output::Done { verb: "REINDEX", notes: Vec::new() })
}

fn find(context: &StatementContext, object: &ObjectName) -> Result<(Arc<TableDef>, IndexDef)> {
    let (schema, name) = schema_and_name(object, &context.search_path)?;
    let catalog = context.snapshot.catalog();
    let found =
        catalog.tables(&schema).find_map(|def| Some((Arc::clone(def), def.index_named(&name)?.clone())));
    let (def, index) = found.ok_or_else(|| {
        let error = Error::new(ErrorKind::NotFound, format!("index {schema}.{name} does not exist"))
            .map(|e| e.with_sqlstate("42704").with_hint("system.indexes lists all"));
        at(error, object_position(object))
    })?;
    context.rights.own(def.owner, &def.schema, &def.name).map_err(|e| at(e, object_position(object)))?;
    Ok((def, index))
}

fn refuse_unread(create: &CreateIndex) -> Result<()> {
    let unread = [
        (create.unique, "CREATE UNIQUE INDEX"),
        (!create.include.is_empty(), "INCLUDE in CREATE INDEX"),
        (create.nulls_distinct.is_some(), "NULLS DISTINCT in CREATE INDEX"),
        (create.predicate.is_some(), "WHERE in CREATE INDEX"),
        (!create.index_options.is_empty() || !create.alter_options.is_empty(), "an option of CREATE INDEX"),
        (create.columns.len() != 1, "an index of several columns"),
    ];
    match unread.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(Error::not_supported_yet(*what)),
        None => Ok(()),
    }
}

fn define(target: &Target, create: &CreateIndex) -> Result<IndexDef> {
    match &create.using {
        Some(IndexType::Custom(method)) if name_of(method) == "hnsw" => {}
        None => {
            return Err(invalid("42704", "CREATE INDEX needs a method")
                .map(|e| e.with_hint("write USING hnsw (column); keys are indexed by PRIMARY KEY")));
        }
        Some(other) => {
            return Err(invalid("42704", format!("there is no index method {other}"))
                .map(|e| e.with_hint("the method is hnsw; keys are indexed by PRIMARY KEY")));
        }
    }
    let [of] = create.columns.as_slice() else {
        return Err(Error::not_supported_yet("an index of several columns"));
    };
    let OrderByExpr { expr: Expr::Identifier(column), .. } = &of.column else {
        return Err(Error::not_supported_yet("an index of an expression"));
    };
    let order = &of.column.options;
    if order.asc.is_some() || order.nulls_first.is_some() {
        return Err(invalid("0A000", "an hnsw index has no order")
            .map(|e| e.with_hint("leave ASC, DESC and NULLS FIRST or LAST out")));
    }
    let column = target.column_def(target.column(&name_of(column))?);
    if !matches!(column.column_type, ColumnType::Vector(_)) {
        return Err(invalid(
            "42804",
            format!(
                "column \"{}\" is of type {}; hnsw indexes VECTOR columns",
                column.name, column.column_type
            ),
        ));
    }
    let mut index = IndexDef {
        id: IndexId(target.def.indexes.iter().map(|i| i.id.0).max().unwrap_or(0) + 1),
        name: String::new(),
        column: column.id,
        metric: IndexMetric::L2,
        target_recall_permille: TARGET_RECALL_PERMILLE,
        m: M_DEFAULT,
        ef_construction: EF_CONSTRUCTION_DEFAULT,
        builder: IndexBuilder::Partition,
        memory_limit_bytes: None,
    };
    let class = of.operator_class.as_ref().map(operator_class).transpose()?;
    index.metric = class.unwrap_or(index.metric);
    let mut given = HashMap::new();
    for option in &create.with {
        let (name, value) = set(&mut index, option)?;
        if let Some(before) = given.insert(name.clone(), value) {
            return Err(invalid("42601", format!("option {name} is given twice"))
                .map(|e| e.with_hint(format!("it is {name} = '{before}' before"))));
        }
    }
    check_together(&index, class)?;
    let least = least_memory_limit(&target.def, &index);
    match index.memory_limit_bytes {
        Some(limit) if limit < least => Err(invalid(
            "22023",
            format!(
                "memory_limit of an index on {} is at least '{} MiB', not '{}'",
                column.column_type,
                least >> 20,
                given.get("memory_limit").map_or("", String::as_str)
            ),
        )
        .map(|e| e.with_hint("below, it would be built in units too small to be worth having"))),
        _ => Ok(index),
    }
}

/// Refuses options that contradict each other.
fn check_together(index: &IndexDef, class: Option<IndexMetric>) -> Result<()> {
    if let Some(class) = class.filter(|class| *class != index.metric) {
        let (class, metric) = (metric_name(class), metric_name(index.metric));
        return Err(invalid(
            "22023",
            format!("the operator class says metric '{class}', the option metric '{metric}'"),
        )
        .map(|e| e.with_hint("leave one of the two out")));
    }
    Ok(())
}

/// The metric of one of [`OPERATOR_CLASSES`].
fn operator_class(class: &ObjectName) -> Result<IndexMetric> {
    match class.to_string().to_ascii_lowercase().as_str() {
        "vector_l2_ops" => Ok(IndexMetric::L2),
        "vector_cosine_ops" => Ok(IndexMetric::Cosine),
        "vector_ip_ops" => Ok(IndexMetric::InnerProduct),
        other => Err(invalid("42704", format!("there is no operator class {other}"))
            .map(|e| e.with_hint(format!("{}; or WITH (metric = '…')", OPERATOR_CLASSES.join(", "))))),
    }
}

/// Sets one option; returns its name and value as written.
fn set(index: &mut IndexDef, option: &Expr) -> Result<(String, String)> {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = option else {
        return Err(invalid("42601", format!("an option is written name = value, not {option}")));
    };
    let Expr::Identifier(name) = left.as_ref() else {
        return Err(invalid("42601", format!("{left} is no name of an option")));
    };
    let value = match right.as_ref() {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(digits, _) => digits.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(word) => name_of(word),
        other => other.to_string(),
    };
    let name = name_of(name);
    let wrong = |allowed: &str| invalid("22023", format!("{name} of an index is {allowed}, not {value}"));
    let whole = |from: u16, to: u16| {
        value
            .parse::<u16>()
            .ok()
            .filter(|n| (from..=to).contains(n))
            .ok_or_else(|| wrong(&format!("a number from {from} to {to}")))
    };
    match name.as_str() {
        "metric" => {
            index.metric = match value.to_ascii_lowercase().as_str() {
                "l2" => IndexMetric::L2,
                "cosine" => IndexMetric::Cosine,
                "ip" | "inner_product" => IndexMetric::InnerProduct,
                _ => return Err(wrong("'l2', 'cosine' or 'ip'")),
            };
        }
        "target_recall" => {
            let recall = value.parse::<f64>().ok().filter(|r| (0.5..=0.999).contains(r));
            index.target_recall_permille =
                (recall.ok_or_else(|| wrong("a number from 0.5 to 0.999"))? * 1000.0).round() as u16;
        }
        "m" => index.m = whole(2, 16)?,
        "ef_construction" => index.ef_construction = whole(8, 2000)?,
        "builder" => {
            index.builder = match value.to_ascii_lowercase().as_str() {
                "partition" => IndexBuilder::Partition,
                "hnsw_rs" => IndexBuilder::HnswRs,
                _ => return Err(wrong("'partition' or 'hnsw_rs'")),
            };
        }
        "memory_limit" => {
            let bytes = crate::config::parse_bytes(&value).ok();
            index.memory_limit_bytes = Some(bytes.ok_or_else(|| wrong("a size such as '512 MiB'"))?);
        }
        other => {
            let options: Vec<&str> = INDEX_OPTIONS.iter().map(|(option, _)| *option).collect();
            return Err(invalid("22023", format!("an index has no option {other}"))
                .map(|e| e.with_hint(format!("options: {}", options.join(", ")))));
        }
    }
    Ok((name, value))
}

/// The index's own name: it lives in its table's schema.
fn new_name(def: &TableDef, given: &ObjectName) -> Result<String> {
    let (schema, _) = schema_and_name(given, &def.schema)?;
    if schema != def.schema {
        return Err(invalid(
            "42P17",
            format!("an index of {} is in schema {}", def.qualified_name(), def.schema),
        ));
    }
    match given.0.last().and_then(|part| part.as_ident()) {
        Some(ident) => name::new_object(ident),
        None => Err(invalid("42602", format!("{given} is not the name of an index"))),
    }
}

fn name_taken(context: &StatementContext, schema: &str, name: &str) -> Option<String> {
    let indexed = || context.snapshot.catalog().tables(schema).any(|def| def.index_named(name).is_some());
    taken(context, schema, name)
        .or_else(|| indexed().then(|| format!("index {schema}.{name} already exists")))
}

/// `table_column_idx`, with a number behind it when that is taken; cut where it would be too long for a name.
fn free_name(context: &StatementContext, target: &Target, index: &IndexDef) -> String {
    let def = &target.def;
    let column = def.columns.iter().find(|c| c.id == index.column).map_or("", |c| c.name.as_str());
    let mut base = format!("{}_{column}", def.name);
    base.truncate(base.floor_char_boundary(NAME_BYTES_MAX - FREE_NAME_ROOM));
    let base = format!("{base}_idx");
    let mut name = base.clone();
    let mut number = 1;
    while name_taken(context, &def.schema, &name).is_some() {
        number += 1;
        name = format!("{base}{number}");
    }
    name
}
