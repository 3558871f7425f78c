//! `system.indexes`: every index, how much of its table its units cover, and what they take.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::index::Coverage;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, fractions, numbers, schema, texts};
use crate::ddl::metric_name;
use crate::error::Result;

/// `system.indexes`
#[derive(Debug)]
pub(super) struct Indexes;

struct Row {
    schema: String,
    table: String,
    name: String,
    column: String,
    metric: &'static str,
    state: &'static str,
    rows: u64,
    rows_covered: u64,
    units: u64,
    bytes: u64,
    build_ms: u64,
    target_recall: f64,
    recall: Option<f64>,
}

#[async_trait]
impl SystemTable for Indexes {
    fn name(&self) -> &'static str {
        "indexes"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("table_schema", Kind::Text, false),
            ("table_name", Kind::Text, false),
            ("index_name", Kind::Text, false),
            ("column_name", Kind::Text, false),
            ("method", Kind::Text, false),
            ("metric", Kind::Text, false),
            ("state", Kind::Text, false),
            ("rows", Kind::Unsigned, false),
            ("rows_covered", Kind::Unsigned, false),
            ("units", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("build_ms", Kind::Unsigned, false),
            ("target_recall", Kind::Fraction, false),
            ("recall", Kind::Fraction, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut rows = Vec::new();
        for def in source.tables().filter(|def| !def.indexes.is_empty()) {
            if let Some(table) = source.snapshot.table(def.id) {
                indexes_of(source, &table, &mut rows).await?;
            }
        }
        Ok(vec![
            texts(rows.iter().map(|r| r.schema.as_str())),
            texts(rows.iter().map(|r| r.table.as_str())),
            texts(rows.iter().map(|r| r.name.as_str())),
            texts(rows.iter().map(|r| r.column.as_str())),
            texts(rows.iter().map(|_| "hnsw")),
            texts(rows.iter().map(|r| r.metric)),
            texts(rows.iter().map(|r| r.state)),
            numbers(rows.iter().map(|r| Some(r.rows))),
            numbers(rows.iter().map(|r| Some(r.rows_covered))),
            numbers(rows.iter().map(|r| Some(r.units))),
            numbers(rows.iter().map(|r| Some(r.bytes))),
            numbers(rows.iter().map(|r| Some(r.build_ms))),
            fractions(rows.iter().map(|r| Some(r.target_recall))),
            fractions(rows.iter().map(|r| r.recall)),
        ])
    }
}

async fn indexes_of(
    source: &SystemSource,
    table: &cairn_storage::TableSnapshot,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let def = table.def();
    let total = table.row_count().await?;
    let views = table.segments().await?;
    let newest = source.engine.database().snapshot();
    let newest = newest.table(def.id).map_or_else(|| Arc::clone(table.state()), |t| Arc::clone(t.state()));
    for index in &def.indexes {
        let units: Vec<_> = table.state().units.iter().filter(|u| u.index == index.id).collect();
        let Coverage { rows: rows_covered, lost } = table.coverage(index, &views, &newest).await;
        let measured: Vec<_> = units.iter().filter(|u| u.recall_permille > 0).collect();
        let measured_rows: u64 = measured.iter().map(|u| u.rows).sum();
        let weighted: f64 = measured.iter().map(|u| f64::from(u.recall_permille) * u.rows as f64).sum();
        rows.push(Row {
            schema: def.schema.clone(),
            table: def.name.clone(),
            name: index.name.clone(),
            column: def
                .columns
                .iter()
                .find(|c| c.id == index.column)
                .map_or_else(String::new, |c| c.name.clone()),
            metric: metric_name(index.metric),
            state: match rows_covered {
                _ if !lost.is_empty() => "damaged",
                all if all == total => "ready",
                0 => "exact",
                _ => "partial",
            },
            rows: total,
            rows_covered,
            units: units.len() as u64,
            bytes: units.iter().map(|u| u.bytes).sum(),
            build_ms: units.iter().map(|u| u.build_ms).sum(),
            target_recall: f64::from(index.target_recall_permille) / 1000.0,
            recall: (measured_rows > 0).then(|| weighted / measured_rows as f64 / 1000.0),
        });
        source.engine.database().index_units_lost(lost);
    }
    Ok(())
}
