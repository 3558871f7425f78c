//! Prometheus' text format 0.0.4.
//!
//! Owns: lines of samples under the HELP and TYPE of their family, escapes, the suffixes of histograms. A family is begun once and
//! all its samples follow.

use std::fmt::{Display, Write};

use cairn_engine::figures::{FigureFamily, FigureValue};
use cairn_storage::metrics::{BUCKETS_US, HistogramFigures};

/// Media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page being written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Begins a family of figures that only grow.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) {
        self.begin(name, help, "counter");
    }

    /// Begins a family of figures that go up and down.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) {
        self.begin(name, help, "gauge");
    }

    /// Begins a family of histograms.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &str) {
        self.begin(name, help, "histogram");
    }

    /// A sample of the family.
    pub(crate) fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A histogram of the family, in seconds.
    pub(crate) fn buckets(&mut self, labels: &[(&str, &str)], figures: &HistogramFigures) {
        for (bound, at_most) in BUCKETS_US.iter().zip(figures.at_most) {
            let bound = (*bound as f64 / 1e6).to_string();
            self.line("_bucket", labels, Some(&bound), at_most);
        }
        self.line("_bucket", labels, Some("+Inf"), figures.count());
        self.line("_sum", labels, None, figures.sum.as_secs_f64());
        self.line("_count", labels, None, figures.count());
    }

    /// Figures of one name.
    pub(crate) fn family(&mut self, family: &FigureFamily) {
        self.begin(family.name, family.description, family.kind.as_str());
        for (labels, value) in &family.samples {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, of)| (*name, of.as_str())).collect();
            match value {
                FigureValue::Number(number) => self.value(&labels, number),
                FigureValue::Times(times) => self.buckets(&labels, times),
            }
        }
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &'static str, help: &str, kind: &str) {
        self.family = name;
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        let family = self.family;
        self.push(format_args!("{family}{suffix}"));
        let bound = bound.map(|bound| ("le", bound));
        for (i, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.push(format_args!("{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' }));
        }
        let close = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        self.push(format_args!("{close} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into memory does not fail.
        let _ = self.text.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_storage::metrics::Histogram;

    use super::*;

    #[test]
    fn samples_labels_and_histograms() {
        let mut page = Page::default();
        page.gauge("cairn_things", "Things.");
        page.value(&[], 3);
        page.value(&[("name", "a\"b\\c\nd")], 1.5);
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(300));
        page.histogram("cairn_wait_seconds", "Waits.");
        page.buckets(&[("kind", "x")], &histogram.figures());
        let text = page.finish();
        for line in [
            "# HELP cairn_things Things.",
            "# TYPE cairn_things gauge",
            "cairn_things 3",
            "cairn_things{name=\"a\\\"b\\\\c\\nd\"} 1.5",
            "cairn_wait_seconds_bucket{kind=\"x\",le=\"0.00025\"} 0",
            "cairn_wait_seconds_bucket{kind=\"x\",le=\"0.0005\"} 1",
            "cairn_wait_seconds_bucket{kind=\"x\",le=\"1800\"} 1",
            "cairn_wait_seconds_bucket{kind=\"x\",le=\"+Inf\"} 1",
            "cairn_wait_seconds_sum{kind=\"x\"} 0.0003",
            "cairn_wait_seconds_count{kind=\"x\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
