//! `system.functions`: every SQL function by name and kind.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, schema, texts};
use crate::error::Result;

/// `system.functions`
#[derive(Debug)]
pub(super) struct Functions;

#[async_trait]
impl SystemTable for Functions {
    fn name(&self) -> &'static str {
        "functions"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[("name", Kind::Text, false), ("kind", Kind::Text, false)])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let functions = source.engine.functions();
        Ok(vec![
            texts(functions.iter().map(|(name, _)| name.as_str())),
            texts(functions.iter().map(|(_, kind)| *kind)),
        ])
    }
}
