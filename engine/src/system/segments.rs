//! `system.segments`: the segments of every table that the statement's snapshot reads.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, booleans, numbers, schema, texts};
use crate::error::Result;

/// `system.segments`
#[derive(Debug)]
pub(super) struct Segments;

#[async_trait]
impl SystemTable for Segments {
    fn name(&self) -> &'static str {
        "segments"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("table_schema", Kind::Text, false),
            ("table_name", Kind::Text, false),
            ("segment", Kind::Text, false),
            ("path", Kind::Text, false),
            ("rows", Kind::Unsigned, false),
            ("live_rows", Kind::Unsigned, false),
            ("deleted_rows", Kind::Unsigned, false),
            ("bytes", Kind::Unsigned, false),
            ("key_filter_bytes", Kind::Unsigned, true),
            ("min_version", Kind::Unsigned, false),
            ("max_version", Kind::Unsigned, false),
            ("min_row_id", Kind::Unsigned, false),
            ("max_row_id", Kind::Unsigned, false),
            ("sorted", Kind::Boolean, false),
            ("xxh3", Kind::Text, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let mut rows = Vec::new();
        for def in source.tables() {
            if let Some(table) = source.snapshot.table(def.id) {
                rows.extend(table.segments().await?.into_iter().map(|segment| (def, segment)));
            }
        }
        Ok(vec![
            texts(rows.iter().map(|(t, _)| t.schema.as_str())),
            texts(rows.iter().map(|(t, _)| t.name.as_str())),
            texts(rows.iter().map(|(_, s)| s.meta.id.to_string())),
            texts(rows.iter().map(|(_, s)| s.meta.path())),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.rows))),
            numbers(rows.iter().map(|(_, s)| Some(s.live_rows))),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.rows.saturating_sub(s.live_rows)))),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.bytes))),
            numbers(rows.iter().map(|(_, s)| s.meta.key_filter_bytes)),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.min_created.0))),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.max_created.0))),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.min_row_id.0))),
            numbers(rows.iter().map(|(_, s)| Some(s.meta.max_row_id.0))),
            booleans(rows.iter().map(|(_, s)| Some(s.meta.sorted))),
            texts(rows.iter().map(|(_, s)| s.meta.xxh3.as_str())),
        ])
    }
}
