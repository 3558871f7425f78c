//! `system.tables`: every table and view with its rows, hot and cold, and bytes.

use async_trait::async_trait;
use cairn_storage::schema::{ColumnDef, TableDef};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, numbers, schema, text, texts};
use crate::error::Result;

/// `system.tables`
#[derive(Debug)]
pub(super) struct Tables;

#[derive(Default)]
struct Row {
    schema: String,
    name: String,
    kind: &'static str,
    figures: Option<Figures>,
}

struct Figures {
    id: u64,
    columns: u64,
    primary_key: String,
    sort: String,
    rows: u64,
    hot_rows: u64,
    cold_rows: u64,
    deleted_rows: u64,
    segments: u64,
    bytes: u64,
    hot_bytes: u64,
    flushed_version: u64,
    schema_version: u64,
}

#[async_trait]
impl SystemTable for Tables {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("schema", Kind::Text, false),
            ("name", Kind::Text, false),
            ("kind", Kind::Text, false),
            ("table_id", Kind::Unsigned, true),
            ("columns", Kind::Unsigned, true),
            ("primary_key", Kind::Text, true),
            ("sort", Kind::Text, true),
            ("rows", Kind::Unsigned, true),
            ("hot_rows", Kind::Unsigned, true),
            ("cold_rows", Kind::Unsigned, true),
            ("deleted_rows", Kind::Unsigned, true),
            ("segments", Kind::Unsigned, true),
            ("bytes", Kind::Unsigned, true),
            ("hot_bytes", Kind::Unsigned, true),
            ("flushed_version", Kind::Unsigned, true),
            ("schema_version", Kind::Unsigned, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let rows = collect(source).await?;
        let figure = |of: fn(&Figures) -> u64| numbers(rows.iter().map(move |r| r.figures.as_ref().map(of)));
        let words = |of: fn(&Figures) -> &str| {
            text(rows.iter().map(move |r| r.figures.as_ref().map(of).filter(|w| !w.is_empty())))
        };
        Ok(vec![
            texts(rows.iter().map(|r| r.schema.as_str())),
            texts(rows.iter().map(|r| r.name.as_str())),
            texts(rows.iter().map(|r| r.kind)),
            figure(|f| f.id),
            figure(|f| f.columns),
            words(|f| &f.primary_key),
            words(|f| &f.sort),
            figure(|f| f.rows),
            figure(|f| f.hot_rows),
            figure(|f| f.cold_rows),
            figure(|f| f.deleted_rows),
            figure(|f| f.segments),
            figure(|f| f.bytes),
            figure(|f| f.hot_bytes),
            figure(|f| f.flushed_version),
            figure(|f| f.schema_version),
        ])
    }
}

async fn collect(source: &SystemSource) -> Result<Vec<Row>> {
    let catalog = source.snapshot.catalog();
    let mut rows = Vec::new();
    for def in source.tables() {
        let figures = figures(source, def).await?;
        rows.push(Row { schema: def.schema.clone(), name: def.name.clone(), kind: "table", figures });
    }
    for schema in catalog.schemas() {
        for view in catalog.views(schema).filter(|v| source.rights.sees(v.owner, schema, &v.name)) {
            rows.push(Row {
                schema: schema.to_owned(),
                name: view.name.clone(),
                kind: "view",
                figures: None,
            });
        }
    }
    rows.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(rows)
}

async fn figures(source: &SystemSource, def: &TableDef) -> Result<Option<Figures>> {
    let Some(table) = source.snapshot.table(def.id) else { return Ok(None) };
    let segments = table.segments().await?;
    let cold_rows: u64 = segments.iter().map(|s| s.live_rows).sum();
    let hot_rows = table.hot_rows();
    Ok(Some(Figures {
        id: def.id.0,
        columns: def.columns.len() as u64,
        primary_key: names(def.key_indices().iter().filter_map(|i| def.columns.get(*i))),
        sort: if def.sort.is_empty() {
            String::new()
        } else {
            names(def.sort_indices().iter().filter_map(|i| def.columns.get(*i)))
        },
        rows: cold_rows + hot_rows,
        hot_rows,
        cold_rows,
        deleted_rows: segments.iter().map(|s| s.meta.rows.saturating_sub(s.live_rows)).sum(),
        segments: segments.len() as u64,
        bytes: segments.iter().map(|s| s.meta.bytes + s.meta.key_filter_bytes.unwrap_or(0)).sum(),
        hot_bytes: table.hot_bytes(),
        flushed_version: table.flushed().0,
        schema_version: u64::from(def.schema_version.0),
    }))
}

fn names<'a>(columns: impl Iterator<Item = &'a ColumnDef>) -> String {
    columns.map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}
