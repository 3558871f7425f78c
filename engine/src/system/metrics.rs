//! `system.metrics`: figures of the database and its statements since the opening; of a histogram how many there were and what they
//! took together.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, fractions, schema, text, texts};
use crate::error::Result;
use crate::figures::{FigureFamily, FigureValue};

/// `system.metrics`
#[derive(Debug)]
pub(super) struct Metrics;

/// One figure.
struct Figure<'a> {
    family: &'a FigureFamily,
    suffix: &'static str,
    labels: &'a [(&'static str, String)],
    value: f64,
}

#[async_trait]
impl SystemTable for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", Kind::Text, false),
            ("labels", Kind::Text, true),
            ("value", Kind::Fraction, false),
            ("type", Kind::Text, false),
            ("description", Kind::Text, false),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let families = source.engine.figures();
        let mut figures = Vec::new();
        for family in &families {
            for (labels, value) in &family.samples {
                let mut figure =
                    |suffix, value| figures.push(Figure { family, suffix, labels: labels.as_slice(), value });
                match value {
                    FigureValue::Number(number) => figure("", *number as f64),
                    FigureValue::Times(times) => {
                        figure("_count", times.count() as f64);
                        figure("_sum", times.sum.as_secs_f64());
                    }
                }
            }
        }
        Ok(vec![
            texts(figures.iter().map(|f| format!("{}{}", f.family.name, f.suffix))),
            text(figures.iter().map(|f| labels(f.labels))),
            fractions(figures.iter().map(|f| Some(f.value))),
            texts(figures.iter().map(|f| f.family.kind.as_str())),
            texts(figures.iter().map(|f| f.family.description)),
        ])
    }
}

/// Labels as a JSON object; None: there are none.
fn labels(labels: &[(&'static str, String)]) -> Option<String> {
    if labels.is_empty() {
        return None;
    }
    let members =
        labels.iter().map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(value.as_str())));
    Some(serde_json::Value::Object(members.collect()).to_string())
}
