//! `system.cache`: the columns that are kept decoded for the next scan, of the segments that the statement's snapshot reads.

use std::collections::HashMap;

use async_trait::async_trait;
use cairn_storage::id::{ColumnId, ObjectId};
use cairn_storage::segment::KeptColumnFigures;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, numbers, schema, texts, times};
use crate::error::Result;

/// `system.cache`
#[derive(Debug)]
pub(super) struct Cache;

/// What is kept of one column of one segment.
#[derive(Default)]
struct Kept {
    row_groups: u64,
    rows: u64,
    bytes: u64,
    hits: u64,
    last_use_us: i64,
}

impl Kept {
    fn add(&mut self, group: &KeptColumnFigures) {
        self.row_groups += 1;
        self.rows += group.rows;
        self.bytes += group.bytes;
        self.hits += group.hits;
        self.last_use_us = self.last_use_us.max(group.last_use_us);
    }
}

#[async_trait]
impl SystemTable for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("table_schema", Kind::Text, false),
            ("table_name", Kind::Text, false),
            ("column_name", Kind::Text, false),
            ("segment", Kind::Text, false),
            ("row_groups", Kind::Unsigned, false),
            ("rows", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("hits", Kind::Unsigned, false),
            ("last_use", Kind::Time, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut kept: HashMap<(ObjectId, ColumnId), Kept> = HashMap::new();
        for group in source.engine.database().columns().kept() {
            kept.entry((group.key.segment, group.key.column)).or_default().add(&group);
        }
        let mut rows = Vec::new();
        for def in source.tables() {
            let Some(table) = source.snapshot.table(def.id) else { continue };
            for segment in table.segments().await? {
                for column in &def.columns {
                    if let Some(kept) = kept.remove(&(segment.meta.id, column.id)) {
                        rows.push((def, column, segment.meta.id.to_string(), kept));
                    }
                }
            }
        }
        Ok(vec![
            texts(rows.iter().map(|(t, ..)| t.schema.as_str())),
            texts(rows.iter().map(|(t, ..)| t.name.as_str())),
            texts(rows.iter().map(|(_, column, ..)| column.name.as_str())),
            texts(rows.iter().map(|(_, _, segment, _)| segment.as_str())),
            numbers(rows.iter().map(|(.., kept)| Some(kept.row_groups))),
            numbers(rows.iter().map(|(.., kept)| Some(kept.rows))),
            numbers(rows.iter().map(|(.., kept)| Some(kept.bytes))),
            numbers(rows.iter().map(|(.., kept)| Some(kept.hits))),
            times(rows.iter().map(|(.., kept)| Some(kept.last_use_us))),
        ])
    }
}
