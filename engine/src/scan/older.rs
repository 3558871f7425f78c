//! Expressions over a table's columns, as expressions over a file that is older than some of them.
//!
//! Owns: what stands for a column that a file has not. Does not own: names, which storage gives the file's columns anew when it opens
//! them, and casts of those that are wider now, which DataFusion's own adapter makes.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_storage::SegmentView;
use cairn_storage::schema::TableDef;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};

use super::statistics::scalar;

/// Whether one of the segments was written under an older form of the table.
pub(crate) fn is_among(segments: &[SegmentView]) -> bool {
    segments.iter().any(|segment| segment.meta.reshaped)
}

/// Makes the adapters of a scan of older files.
#[derive(Debug)]
pub(crate) struct OlderFiles {
    /// For each column what it is in files that have it not.
    values: Arc<HashMap<String, ScalarValue>>,
}

impl OlderFiles {
    /// For files of `def`, whose columns are stored as `stored`.
    ///
    /// # Errors
    /// For a type without NULL; there is none.
    pub(crate) fn new(def: &TableDef, stored: &Schema) -> Result<Self> {
        let mut values = HashMap::with_capacity(def.columns.len());
        for (column, field) in def.columns.iter().zip(stored.fields()) {
            let initial = column.initial.as_ref().and_then(|value| scalar(value, field.data_type()));
            let value = match initial {
                Some(value) => value,
                None => ScalarValue::try_new_null(field.data_type())?,
            };
            values.insert(column.name.clone(), value);
        }
        Ok(Self { values: Arc::new(values) })
    }
}

impl PhysicalExprAdapterFactory for OlderFiles {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let missing = self.values.iter().filter(|(name, _)| physical_file_schema.index_of(name).is_err());
        let missing = missing.map(|(name, value)| (name.clone(), value.clone())).collect();
        let default = DefaultPhysicalExprAdapterFactory.create(logical_file_schema, physical_file_schema)?;
        Ok(Arc::new(OlderFile { missing, default }))
    }
}

/// The adapter of one file.
#[derive(Debug)]
struct OlderFile {
    missing: HashMap<String, ScalarValue>,
    default: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for OlderFile {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let filled = replace_columns_with_literals(expr, &self.missing)?;
        self.default.rewrite(filled)
    }
}
