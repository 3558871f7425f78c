//! A result as bars, or as one small line a column.
//!
//! Owns: which columns are drawn, and how. Memory: the numbers of at most [`ROWS_MAX`] rows.

use std::io::{self, Write};

use cairn_engine::text::failed;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema};
use unicode_width::UnicodeWidthStr;

use crate::format::{self, cut, is_number};
use crate::kept::Kept;
use crate::quantity;
use crate::style::{Paint, Style};

/// Rows that are drawn.
const ROWS_MAX: usize = 100_000;
/// Bars that are drawn.
const BARS_MAX: usize = 1000;
const LABEL_WIDTH_MAX: usize = 30;
const BAR_WIDTH_MIN: usize = 10;
/// Columns of a chart that goes to no terminal.
const WIDTH: usize = 80;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How a result is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One bar a row, for each column of numbers.
    #[default]
    Bar,
    /// One line of small bars for each column of numbers.
    Spark,
}

/// One column of numbers.
struct Series {
    name: String,
    /// None: NULL, or no finite number.
    values: Vec<Option<f64>>,
    texts: Vec<String>,
}

/// Draws `kept`: the columns called `wanted`, or all that are numbers.
///
/// # Errors
/// Without a column of numbers; those of `out`.
pub(crate) fn draw(
    kind: Kind,
    wanted: &[String],
    kept: &mut Kept,
    width: Option<usize>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (label, drawn) = choose(kept.schema(), wanted).map_err(io::Error::other)?;
    let mut labels = Vec::new();
    let name = |&at: &usize| format::printable(kept.schema().field(at).name()).replace('\n', " ");
    let mut series: Vec<Series> =
        drawn.iter().map(|at| Series { name: name(at), values: Vec::new(), texts: Vec::new() }).collect();
    let rows_max = match kind {
        Kind::Bar => BARS_MAX,
        Kind::Spark => ROWS_MAX,
    };
    let mut rows = 0;
    kept.each(&mut |batch| {
        rows += batch.num_rows();
        let taken = batch.num_rows().min(rows_max.saturating_sub(labels.len()));
        take(&batch.slice(0, taken), label, &drawn, &mut labels, &mut series)
    })?;
    let width = width.unwrap_or(WIDTH);
    match kind {
        Kind::Bar => bars(&labels, &series, width, style, out)?,
        Kind::Spark => sparks(&series, width, style, out)?,
    }
    let shown = if labels.len() < rows {
        format!(" ({} shown)", quantity::count(labels.len() as u64))
    } else {
        String::new()
    };
    writeln!(out, "{}{shown}", quantity::rows(rows as u64))
}

/// The column with the labels, and those that are drawn.
fn choose(schema: &Schema, wanted: &[String]) -> Result<(Option<usize>, Vec<usize>), String> {
    let numbers: Vec<usize> =
        (0..schema.fields().len()).filter(|&at| is_number(schema.field(at).data_type())).collect();
    let texts = (0..schema.fields().len()).find(|at| !numbers.contains(at));
    if wanted.is_empty() {
        return match (texts, numbers.as_slice()) {
            (_, []) => Err("the last result has no column of numbers".to_owned()),
            (Some(label), all) => Ok((Some(label), all.to_vec())),
            (None, [only]) => Ok((None, vec![*only])),
            // Where all are numbers, the first says what the others belong to.
            (None, [first, rest @ ..]) => Ok((Some(*first), rest.to_vec())),
        };
    }
    let mut drawn = Vec::new();
    for name in wanted {
        let found = (0..schema.fields().len()).find(|&at| schema.field(at).name().eq_ignore_ascii_case(name));
        match found {
            None => return Err(format!("the last result has no column {name}")),
            Some(at) if !numbers.contains(&at) => return Err(format!("{name} is no column of numbers")),
            Some(at) => drawn.push(at),
        }
    }
    let label = texts.or_else(|| numbers.iter().copied().find(|at| !drawn.contains(at)));
    Ok((label, drawn))
}

fn take(
    batch: &RecordBatch,
    label: Option<usize>,
    drawn: &[usize],
    labels: &mut Vec<String>,
    series: &mut [Series],
) -> io::Result<()> {
    let texts = format::readable(batch)?;
    let text = |column: usize, row: usize| -> io::Result<String> {
        let value = texts[column].value(row)?;
        Ok(value.map_or_else(|| "NULL".to_owned(), |v| format::printable(&v).replace('\n', " ")))
    };
    for row in 0..batch.num_rows() {
        labels.push(match label {
            Some(column) => text(column, row)?,
            None => (labels.len() + 1).to_string(),
        });
    }
    for (series, &column) in series.iter_mut().zip(drawn) {
        let numbers = cast(batch.column(column), &DataType::Float64).map_err(failed)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let value = (!numbers.is_null(row)).then(|| numbers.value(row)).filter(|v| v.is_finite());
            series.values.push(value);
            series.texts.push(text(column, row)?);
        }
    }
    Ok(())
}

fn bars(
    labels: &[String],
    all: &[Series],
    width: usize,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let label_width = labels.iter().map(|l| l.width()).max().unwrap_or(0).min(LABEL_WIDTH_MAX);
    for series in all {
        let text_width = series.texts.iter().map(|t| t.width()).max().unwrap_or(0);
        let room = width.saturating_sub(label_width + text_width + 4).max(BAR_WIDTH_MIN);
        let values = || series.values.iter().flatten().copied();
        let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        // Where nought stands, and how many columns one is.
        let scale = if high > low { room as f64 / (high - low) } else { 0.0 };
        let nought = (-low * scale).round() as usize;
        writeln!(out, "{}", style.paint(Paint::Strong, &series.name))?;
        for (row, label) in labels.iter().enumerate() {
            let label = cut(label, label_width);
            let gap = " ".repeat(label_width.saturating_sub(label.width()));
            let bar = series.values[row].map_or_else(String::new, |value| bar(value * scale, nought));
            let edge = style.paint(Paint::Faint, "│");
            let bar = style.paint(Paint::Number, &bar);
            let text = &series.texts[row];
            // The number stands behind its bar.
            writeln!(out, "{label}{gap} {edge}{bar} {text}")?;
        }
    }
    Ok(())
}

/// A bar of `length` columns, to the right of `nought` or, below it, to the left.
fn bar(length: f64, nought: usize) -> String {
    if length < 0.0 {
        let full = (-length).round() as usize;
        return format!("{}{}", " ".repeat(nought.saturating_sub(full)), "█".repeat(full.min(nought)));
    }
    let eighths = (length * 8.0).round() as usize;
    format!("{}{}{}", " ".repeat(nought), "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn sparks(all: &[Series], width: usize, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let name_width = all.iter().map(|s| s.name.width()).max().unwrap_or(0).min(LABEL_WIDTH_MAX);
    for series in all {
        let name = cut(&series.name, name_width);
        let gap = " ".repeat(name_width.saturating_sub(name.width()));
        let line = spark(&series.values, width.saturating_sub(name_width + 30).max(BAR_WIDTH_MIN));
        let values = || series.values.iter().enumerate().filter_map(|(at, v)| v.map(|v| (at, v)));
        let text = |found: Option<(usize, f64)>| found.map_or("NULL", |(at, _)| series.texts[at].as_str());
        let low = text(values().min_by(|a, b| a.1.total_cmp(&b.1)));
        let high = text(values().max_by(|a, b| a.1.total_cmp(&b.1)));
        let (name, line) = (style.paint(Paint::Strong, &name), style.paint(Paint::Number, &line));
        writeln!(out, "{name}{gap} {line} {low} to {high}")?;
    }
    Ok(())
}

/// At most `width` small bars; where there are more values, each is the mean of its neighbours.
fn spark(values: &[Option<f64>], width: usize) -> String {
    let each = values.len().div_ceil(width.max(1)).max(1);
    let means: Vec<Option<f64>> = values
        .chunks(each)
        .map(|chunk| {
            let (sum, count) = chunk.iter().flatten().fold((0.0, 0_u32), |(s, n), v| (s + v, n + 1));
            (count > 0).then(|| sum / f64::from(count))
        })
        .collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let level = |value: f64| {
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        LEVELS[((part * 8.0) as usize).min(7)]
    };
    means.iter().map(|mean| mean.map_or(' ', level)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};

    use super::*;

    fn kept() -> Kept {
        let decimals = Decimal128Array::from(vec![100, 50, -50]).with_precision_and_scale(10, 2).unwrap();
        let batch = RecordBatch::try_from_iter_with_nullable(vec![
            ("day", Arc::new(StringArray::from(vec!["Mon", "Tue", "日"])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![Some(4), Some(1), None])) as ArrayRef, true),
            ("change", Arc::new(decimals) as ArrayRef, true),
        ])
        .unwrap();
        let mut kept = Kept::new(&batch.schema());
        kept.push(&batch);
        kept
    }

    fn drawn(kind: Kind, wanted: &[&str]) -> io::Result<String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let mut out = Vec::new();
        draw(kind, &wanted, &mut kept(), Some(23), Style::PLAIN, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn bars_have_labels_and_numbers() {
        assert_eq!(
            drawn(Kind::Bar, &["n"]).unwrap(),
            "n\nMon │████████████ 4\nTue │███ 1\n日  │ NULL\n3 rows\n"
        );
    }

    #[test]
    fn bars_below_nought_go_to_the_left() {
        let text = drawn(Kind::Bar, &["CHANGE"]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("Mon │    █"), "{text}");
        assert!(lines[3].starts_with("日  │███") && lines[3].ends_with(" -0.50"), "{text}");
    }

    #[test]
    fn every_column_of_numbers_is_drawn_unless_some_are_named() {
        let text = drawn(Kind::Spark, &[]).unwrap();
        assert_eq!(text, "n      █▁  1 to 4\nchange █▆▁ -0.50 to 1.00\n3 rows\n");
        assert!(drawn(Kind::Bar, &["day"]).unwrap_err().to_string().contains("no column of numbers"));
        assert!(drawn(Kind::Bar, &["x"]).unwrap_err().to_string().contains("no column x"));
    }

    #[test]
    fn many_values_share_a_small_bar() {
        let values: Vec<Option<f64>> = (0..1000).map(|i| Some(f64::from(i))).collect();
        let line = spark(&values, 8);
        assert_eq!(line, "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[Some(1.0), Some(1.0)], 8), "▅▅");
        assert_eq!(spark(&[], 8), "");
    }
}
