//! `system.vector_recall`: how much of the exact answers the searches of each index gave, as sampled since the database was
//! opened.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, fractions, numbers, schema, texts, times};
use crate::ddl::metric_name;
use crate::error::Result;
use crate::search::Sampled;

/// `system.vector_recall`
#[derive(Debug)]
pub(super) struct VectorRecall;

#[async_trait]
impl SystemTable for VectorRecall {
    fn name(&self) -> &'static str {
        "vector_recall"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("table_schema", Kind::Text, false),
            ("table_name", Kind::Text, false),
            ("index_name", Kind::Text, false),
            ("metric", Kind::Text, false),
            ("target_recall", Kind::Fraction, false),
            ("samples", Kind::Unsigned, false),
            ("recall", Kind::Fraction, true),
            ("lowest_recall", Kind::Fraction, true),
            ("exact_ms", Kind::Fraction, true),
            ("sampled_at", Kind::Time, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let sampler = source.engine.searches().recall();
        let mut rows = Vec::new();
        for def in source.tables() {
            rows.extend(def.indexes.iter().map(|index| (def, index, sampler.of(def.id, index.id))));
        }
        let sampled = |of: fn(&Sampled) -> f64| fractions(rows.iter().map(|(_, _, s)| s.as_ref().map(of)));
        Ok(vec![
            texts(rows.iter().map(|(def, _, _)| def.schema.as_str())),
            texts(rows.iter().map(|(def, _, _)| def.name.as_str())),
            texts(rows.iter().map(|(_, index, _)| index.name.as_str())),
            texts(rows.iter().map(|(_, index, _)| metric_name(index.metric))),
            fractions(
                rows.iter().map(|(_, index, _)| Some(f64::from(index.target_recall_permille) / 1000.0)),
            ),
            numbers(rows.iter().map(|(_, _, s)| Some(s.map_or(0, |s| s.samples)))),
            sampled(Sampled::recall),
            sampled(|s| s.lowest),
            sampled(Sampled::exact_ms),
            times(rows.iter().map(|(_, _, s)| s.map(|s| s.last_us))),
        ])
    }
}
