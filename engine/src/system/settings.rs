//! `system.settings`: every setting with the session's value, and where that comes from.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, booleans, schema, texts};
use crate::config::SETTINGS;
use crate::error::Result;

/// `system.settings`
#[derive(Debug)]
pub(super) struct SettingsTable;

#[async_trait]
impl SystemTable for SettingsTable {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", Kind::Text, false),
            ("value", Kind::Text, false),
            ("source", Kind::Text, false),
            ("type", Kind::Text, false),
            ("changeable", Kind::Boolean, false),
            ("description", Kind::Text, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let values = SETTINGS
            .iter()
            .map(|s| source.settings.get(s.name, &source.engine))
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![
            texts(SETTINGS.iter().map(|s| s.name)),
            texts(values.iter()),
            texts(SETTINGS.iter().map(|s| source.settings.source(s))),
            texts(SETTINGS.iter().map(|s| s.value_type)),
            booleans(SETTINGS.iter().map(|s| Some(s.changeable))),
            texts(SETTINGS.iter().map(|s| s.description)),
        ])
    }
}
