//! How large the result of a call can be, from its arguments alone.

use datafusion::arrow::array::{AsArray, new_null_array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Expr};

use super::column::{
    Column, all_lengths, all_members, all_widths, counts, is_narrow, largest_count, leaves, lengths, members,
    printed, widths,
};
use super::places::{Replacement, element_entry, may_be_global, references, replaced, split};
use super::series;

/// Bytes of an element of `range`.
const SERIES_ELEMENT: u64 = 8;
/// Bytes that a byte becomes in the longest encoding, and what the others put behind it.
const ENCODED: u64 = 2;
const PADDING: u64 = 4;
/// Bytes that a byte of a pattern becomes at most (`%+`), and those of a duration, which has no pattern.
const FORMATTED: u64 = 25;
const DURATION: u64 = 100;

/// In which way a function makes much of little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bound {
    /// `repeat(text, count)`
    Repeat,
    /// `lpad(text, length, fill)`
    Pad,
    /// `concat(text, …)`: one constant many times, in every row.
    Concat,
    /// `concat_ws(separator, text, …)`
    ConcatSeparated,
    /// `translate(text, from, to)`: a byte becomes up to four.
    Translate,
    /// `replace(text, from, to)`
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`
    ReplaceMatches,
    /// `array_repeat(element, count)`
    RepeatElement,
    /// `array_resize(list, size, fill)`
    Resize,
    /// `array_replace_n(list, from, to, most)`, `array_replace_all(list, from, to)`
    ReplaceElements,
    /// `array_to_string(list, separator, null)`
    JoinElements,
    /// `array_concat(list, …)`, `array_append(list, element)`, `make_array(element, …)`, `map(keys, values)`: one constant in every
    /// row.
    Together,
    /// `string_to_array(text, delimiter, null)`: a byte becomes an element.
    Split,
    /// `overlay(text, other, start, length)`: of a length below 0, the text twice.
    Overlay,
    /// `encode(binary, encoding)`
    Encode,
    /// `to_char(time, pattern)`
    Format,
    /// `substr(text, start)`, `split_part(text, delimiter, index)` and others that make nothing of their own: a constant beside
    /// columns is copied for each row first.
    Beside,
    /// `range(start, stop, step)`
    Series,
    /// `arrow_cast(value, type)`, where the type alone can have gigabytes.
    Type,
}

impl Bound {
    /// The functions of DataFusion that need one.
    pub(super) const FUNCTIONS: [(&'static str, Self); 43] = [
        ("array_append", Self::Together),
        ("array_concat", Self::Together),
        ("array_prepend", Self::Together),
        ("array_repeat", Self::RepeatElement),
        ("array_replace_all", Self::ReplaceElements),
        ("array_replace_n", Self::ReplaceElements),
        ("array_resize", Self::Resize),
        ("array_to_string", Self::JoinElements),
        ("arrow_cast", Self::Type),
        ("arrow_try_cast", Self::Type),
        ("btrim", Self::Beside),
        ("concat", Self::Concat),
        ("concat_ws", Self::ConcatSeparated),
        ("contains", Self::Beside),
        ("encode", Self::Encode),
        ("ends_with", Self::Beside),
        ("find_in_set", Self::Beside),
        ("generate_series", Self::Series),
        ("left", Self::Beside),
        ("levenshtein", Self::Beside),
        ("lpad", Self::Pad),
        ("ltrim", Self::Beside),
        ("make_array", Self::Together),
        ("map", Self::Together),
        ("overlay", Self::Overlay),
        ("range", Self::Series),
        ("regexp_count", Self::Beside),
        ("regexp_instr", Self::Beside),
        ("regexp_match", Self::Beside),
        ("regexp_replace", Self::ReplaceMatches),
        ("repeat", Self::Repeat),
        ("replace", Self::Replace),
        ("right", Self::Beside),
        ("rpad", Self::Pad),
        ("rtrim", Self::Beside),
        ("split_part", Self::Beside),
        ("starts_with", Self::Beside),
        ("string_to_array", Self::Split),
        ("strpos", Self::Beside),
        ("substr", Self::Beside),
        ("substr_index", Self::Beside),
        ("to_char", Self::Format),
        ("translate", Self::Translate),
    ];

    /// That of the function `name`; None: it needs none.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::FUNCTIONS.iter().find(|(function, _)| *function == name).map(|(_, bound)| *bound)
    }

    /// Whether [`Self::sizes`] of `args` are about those of the result, not only never below them.
    pub(super) fn is_exact(self, args: &[ColumnarValue]) -> bool {
        match (self, args) {
            (Self::Repeat | Self::Concat | Self::Together | Self::Series, _) => true,
            (Self::RepeatElement, [element, _]) => !is_narrow(&element.data_type()),
            _ => false,
        }
    }

    /// Bytes that all of `rows` results have at most, found without a number for each row; None: not to be had so, or not said.
    pub(super) fn in_all(self, args: &[ColumnarValue], rows: usize) -> Result<Option<u64>> {
        let times = |number: u64, of: Option<u64>| of.map(|of| number.saturating_mul(of));
        let plus = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        let all = |texts: &[ColumnarValue]| {
            texts
                .iter()
                .try_fold(Some(0), |sum, text| Ok::<_, DataFusionError>(plus(sum, all_lengths(text, rows)?)))
        };
        Ok(match (self, args) {
            (Self::Repeat, [text, count]) => match largest_count(count)? {
                Some(count) => times(count, all_lengths(text, rows)?),
                None => None,
            },
            (Self::Pad, [text, length, fill @ ..]) => {
                let widest = fill.first().map_or(1, widest).saturating_mul(rows as u64);
                plus(all_lengths(text, rows)?, times(widest, largest_count(length)?))
            }
            (Self::Concat, texts) => all(texts)?,
            (Self::ConcatSeparated, [separator, texts @ ..]) => {
                let between = texts.len().saturating_sub(1) as u64;
                plus(all(texts)?, times(between, all_lengths(separator, rows)?))
            }
            (Self::Translate, [text, _, to]) => times(widest(to).max(1), all_lengths(text, rows)?),
            (Self::Replace, [text, from @ ColumnarValue::Scalar(_), to @ ColumnarValue::Scalar(_)]) => {
                let (text, from, to) = (all_lengths(text, rows)?, lengths(from)?.at(0), lengths(to)?.at(0));
                text.map(|text| text.saturating_add(text.checked_div(from).unwrap_or(0).saturating_mul(to)))
            }
            (Self::ReplaceMatches, [text, _, to @ ColumnarValue::Scalar(_), flags @ ..]) => {
                let to = Replacement { of: lengths(to)?.at(0), references: references(to)?.at(0) };
                let matches_all = flags.first().is_some_and(may_be_global);
                all_lengths(text, rows)?.map(|text| to.size(text, rows as u64, matches_all))
            }
            (Self::RepeatElement, [element, count]) => match largest_count(count)? {
                Some(count) => times(count, all_widths(element, rows)?),
                None => None,
            },
            (Self::Together, parts) => parts.iter().try_fold(Some(0), |sum, part| {
                Ok::<_, DataFusionError>(plus(sum, all_members(part, rows)?))
            })?,
            (Self::Beside, args) => args
                .iter()
                .filter(|arg| matches!(arg, ColumnarValue::Scalar(_)))
                .try_fold(Some(0), |sum, arg| Ok::<_, DataFusionError>(plus(sum, all_members(arg, rows)?)))?,
            (Self::Split, [text, ..]) => {
                let elements = all_lengths(text, rows)?.map(|bytes| bytes.saturating_add(rows as u64));
                plus(all_lengths(text, rows)?, times(element_entry(text), elements))
            }
            (Self::Overlay, [text, other, _, length @ ..]) => {
                plus(times(overlaid(length), all_lengths(text, rows)?), all_lengths(other, rows)?)
            }
            (Self::Encode, [binary, _]) => {
                plus(times(ENCODED, all_lengths(binary, rows)?), Some(PADDING.saturating_mul(rows as u64)))
            }
            (Self::Format, [_, pattern]) => plus(
                times(FORMATTED, all_lengths(pattern, rows)?),
                Some(DURATION.saturating_mul(rows as u64)),
            ),
            _ => None,
        })
    }

    /// Bytes that each of `rows` results has at most; where that is more than `limit`, it is looked at more closely if that can
    /// be done.
    pub(super) fn sizes(self, args: &[ColumnarValue], rows: usize, limit: u64) -> Result<Vec<u64>> {
        match (self, args) {
            (Self::Repeat, [text, count]) => {
                let (text, count) = (lengths(text)?, counts(count)?);
                Ok(each(rows, |row| text.at(row).saturating_mul(count.at(row))))
            }
            (Self::Pad, [text, length, fill @ ..]) => {
                let (text, length) = (lengths(text)?, counts(length)?);
                let widest = fill.first().map_or(1, widest);
                Ok(each(rows, |row| length.at(row).saturating_mul(widest).saturating_add(text.at(row))))
            }
            (Self::Concat, texts) => Ok(joined(&lengths_of_all(texts)?, rows)),
            (Self::ConcatSeparated, [separator, texts @ ..]) => {
                let (separator, between) = (lengths(separator)?, texts.len().saturating_sub(1) as u64);
                let mut sizes = joined(&lengths_of_all(texts)?, rows);
                for (row, size) in sizes.iter_mut().enumerate() {
                    *size = size.saturating_add(separator.at(row).saturating_mul(between));
                }
                Ok(sizes)
            }
            (Self::Translate, [text, _, to]) => {
                let (text, widest) = (lengths(text)?, widest(to).max(1));
                Ok(each(rows, |row| text.at(row).saturating_mul(widest)))
            }
            (Self::Replace, [text, from, to]) => replaced(text, from, to, rows, limit),
            (Self::ReplaceMatches, [text, _, to, flags @ ..]) => {
                let (matches_all, references) = (flags.first().is_some_and(may_be_global), references(to)?);
                let (text, to) = (lengths(text)?, lengths(to)?);
                Ok(each(rows, |row| {
                    let to = Replacement { of: to.at(row), references: references.at(row) };
                    to.size(text.at(row), 1, matches_all)
                }))
            }
            (Self::RepeatElement, [element, count]) => {
                let (element, count) = (widths(element)?, counts(count)?);
                Ok(each(rows, |row| element.at(row).saturating_mul(count.at(row))))
            }
            (Self::Resize, [list, size, fill @ ..]) => {
                let fill = fill.first().map_or_else(|| width_of_null(&list.data_type()), widths)?;
                let (list, size) = (widths(list)?, counts(size)?);
                Ok(each(rows, |row| fill.at(row).saturating_mul(size.at(row)).saturating_add(list.at(row))))
            }
            (Self::ReplaceElements, [list, _, to, most @ ..]) => {
                let most = most.first().map_or(Ok(Column::Same(u64::MAX)), counts)?;
                let (elements, list, to) = (lengths(list)?, widths(list)?, widths(to)?);
                Ok(each(rows, |row| {
                    let replaced = elements.at(row).min(most.at(row));
                    replaced.saturating_mul(to.at(row)).saturating_add(list.at(row))
                }))
            }
            (Self::JoinElements, [list, separator, null @ ..]) => {
                let null = null.first().map_or(Ok(Column::Same(0)), lengths)?;
                let (elements, list, separator) = (leaves(list)?, printed(list)?, lengths(separator)?);
                Ok(each(rows, |row| {
                    let beside = separator.at(row).saturating_add(null.at(row));
                    elements.at(row).saturating_mul(beside).saturating_add(list.at(row))
                }))
            }
            (Self::Together, parts) => {
                let parts: Vec<Column<u64>> = parts.iter().map(members).collect::<Result<_>>()?;
                Ok(joined(&parts, rows))
            }
            (Self::Beside, args) => {
                let constants = args.iter().filter(|arg| matches!(arg, ColumnarValue::Scalar(_)));
                let constants: Vec<Column<u64>> = constants.map(members).collect::<Result<_>>()?;
                Ok(joined(&constants, rows))
            }
            (Self::Split, [text, delimiter, ..]) => split(text, delimiter, rows, limit),
            (Self::Overlay, [text, other, _, length @ ..]) => {
                let (times, text, other) = (overlaid(length), lengths(text)?, lengths(other)?);
                Ok(each(rows, |row| text.at(row).saturating_mul(times).saturating_add(other.at(row))))
            }
            (Self::Encode, [binary, _]) => {
                let binary = lengths(binary)?;
                Ok(each(rows, |row| binary.at(row).saturating_mul(ENCODED).saturating_add(PADDING)))
            }
            (Self::Format, [_, pattern]) => {
                let pattern = lengths(pattern)?;
                Ok(each(rows, |row| pattern.at(row).saturating_mul(FORMATTED).saturating_add(DURATION)))
            }
            (Self::Series, args) => {
                let counts = series::counts(args, rows)?;
                Ok(counts.into_iter().map(|count| count.saturating_mul(SERIES_ELEMENT)).collect())
            }
            // The wrong number of arguments is for the function to refuse.
            _ => Ok(vec![0; rows]),
        }
    }

    /// Bytes that the constants among `args` come to when the planner puts them together.
    pub(super) fn folded(self, args: &[Expr]) -> u64 {
        let texts = args.iter().filter_map(|arg| match arg {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(|text| text.len() as u64),
            _ => None,
        });
        match (self, args) {
            (Self::Concat, _) => texts.fold(0_u64, u64::saturating_add),
            (Self::ConcatSeparated, [Expr::Literal(separator, _), ..]) => {
                let separator = separator.try_as_str().flatten().map_or(0, str::len) as u64;
                texts.fold(0_u64, |sum, text| sum.saturating_add(text).saturating_add(separator))
            }
            _ => 0,
        }
    }
}

/// Bytes that every value of a type has, if only as NULL: those of its parts of fixed size, and where the others are.
pub(super) fn fixed_bytes(data_type: &DataType) -> u64 {
    let in_all = |sum: u64, data_type: &DataType| sum.saturating_add(fixed_bytes(data_type));
    match data_type {
        DataType::Null => 0,
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).unwrap_or(0),
        DataType::FixedSizeList(item, size) => {
            u64::try_from(*size).unwrap_or(0).saturating_mul(fixed_bytes(item.data_type()).max(1))
        }
        DataType::Struct(members) => members.iter().map(|member| member.data_type()).fold(0, in_all),
        DataType::Union(members, _) => members.iter().map(|(_, member)| member.data_type()).fold(5, in_all),
        DataType::Utf8 | DataType::Binary => 4,
        DataType::LargeUtf8 | DataType::LargeBinary => 8,
        DataType::Utf8View | DataType::BinaryView => 16,
        DataType::List(item) | DataType::Map(item, _) => in_all(4, item.data_type()),
        DataType::LargeList(item) | DataType::ListView(item) => in_all(8, item.data_type()),
        DataType::LargeListView(item) => in_all(16, item.data_type()),
        DataType::Dictionary(keys, values) => in_all(fixed_bytes(keys), values),
        DataType::RunEndEncoded(_, values) => fixed_bytes(values.data_type()),
        other => other.primitive_width().unwrap_or(0) as u64,
    }
}

fn each(rows: usize, size: impl Fn(usize) -> u64) -> Vec<u64> {
    (0..rows).map(size).collect()
}

fn lengths_of_all(texts: &[ColumnarValue]) -> Result<Vec<Column<u64>>> {
    texts.iter().map(lengths).collect()
}

fn joined(texts: &[Column<u64>], rows: usize) -> Vec<u64> {
    each(rows, |row| texts.iter().fold(0_u64, |sum, text| sum.saturating_add(text.at(row))))
}

/// Bytes of the widest character of a constant; of a column at most.
fn widest(text: &ColumnarValue) -> u64 {
    match text {
        ColumnarValue::Scalar(value) => {
            let characters = value.try_as_str().flatten().unwrap_or_default().chars();
            characters.map(|c| c.len_utf8() as u64).max().unwrap_or(0)
        }
        ColumnarValue::Array(texts) => {
            let is_ascii = match texts.data_type() {
                DataType::Utf8 => texts.as_string::<i32>().is_ascii(),
                DataType::LargeUtf8 => texts.as_string::<i64>().is_ascii(),
                DataType::Utf8View => texts.as_string_view().is_ascii(),
                _ => false,
            };
            if is_ascii { 1 } else { 4 }
        }
    }
}

/// How often a text can be in what `overlay` makes of it; `length` is its last argument.
fn overlaid(length: &[ColumnarValue]) -> u64 {
    if length.is_empty() { 1 } else { 2 }
}

/// What a list of that type is filled up with when nothing is given.
fn width_of_null(list: &DataType) -> Result<Column<u64>> {
    let element = match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().clone()
        }
        _ => DataType::Null,
    };
    widths(&ColumnarValue::Array(new_null_array(&element, 1))).map(|width| Column::Same(width.at(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, StringViewArray};
    use datafusion::common::ScalarValue;

    use super::*;

    fn text(text: &str) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.to_owned())))
    }

    fn number(number: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(number)))
    }

    fn column(array: impl datafusion::arrow::array::Array + 'static) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(array) as ArrayRef)
    }

    fn sizes(name: &str, args: &[ColumnarValue], rows: usize) -> Vec<u64> {
        Bound::of(name).unwrap().sizes(args, rows, 100).unwrap()
    }

    #[test]
    fn texts_times_numbers() {
        assert_eq!(sizes("repeat", &[text("ab"), number(3)], 1), [6]);
        assert_eq!(sizes("repeat", &[text("ab"), number(-3)], 1), [0]);
        assert_eq!(sizes("repeat", &[text("ab"), ColumnarValue::Scalar(ScalarValue::Int64(None))], 1), [0]);
        assert_eq!(sizes("repeat", &[text("ab"), number(i64::MAX)], 1), [u64::MAX - 1]);
        let counts = column(Int64Array::from(vec![Some(1), None, Some(5)]));
        let texts =
            column(StringViewArray::from(vec![Some("a"), Some("b"), Some("a long text, in a buffer")]));
        assert_eq!(sizes("repeat", &[texts, counts.clone()], 3), [1, 0, 120]);
        assert_eq!(sizes("lpad", &[text("ab"), counts], 3), [3, 2, 7]);
        assert_eq!(sizes("rpad", &[text("ab"), number(10), text("→")], 1), [32]);
    }

    #[test]
    fn places_are_counted_where_a_guess_is_too_large() {
        let texts = column(StringArray::from(vec!["aaaa", "bbbb"]));
        assert_eq!(sizes("replace", &[texts, text("a"), text(&"x".repeat(50))], 2), [204, 4]);
        assert_eq!(sizes("replace", &[text("abc"), text(""), text("xy")], 1), [3]);
        assert_eq!(sizes("regexp_replace", &[text("aaaa"), text("a"), text("xyz")], 1), [7]);
        assert_eq!(sizes("regexp_replace", &[text("aaaa"), text("a"), text("xyz"), text("g")], 1), [19]);
    }

    #[test]
    fn lists_times_numbers() {
        assert_eq!(sizes("array_repeat", &[number(1), number(1_000)], 1), [8_000]);
        let list = ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::Int64(Some(1)), ScalarValue::Int64(None)],
            &DataType::Int64,
        )));
        assert_eq!(sizes("array_repeat", &[list.clone(), number(3)], 1), [96]);
        assert_eq!(sizes("array_resize", &[list.clone(), number(100)], 1), [832]);
        assert_eq!(sizes("array_to_string", &[list.clone(), text("0123456789")], 1), [100]);
        let floats = [0.5, 1e308, f64::NAN].map(|float| ScalarValue::Float64(Some(float)));
        let floats = ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(
            &floats,
            &DataType::Float64,
        )));
        assert_eq!(sizes("array_to_string", &[floats, text(",")], 1), [3 + 30 + 330 + 330]);
        assert_eq!(sizes("array_replace_all", &[list, number(1), number(2)], 1), [48]);
        assert_eq!(sizes("range", &[number(10)], 1), [88]);
    }

    #[test]
    fn constants_are_in_every_row() {
        let numbers = column(Int64Array::from(vec![1, 2, 3]));
        let args = [text("abcd"), numbers];
        assert_eq!(sizes("make_array", &args, 3), [28, 28, 28]);
        assert_eq!(Bound::Together.in_all(&args, 3).unwrap(), Some(84));
        let list = ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::Int64(Some(1)), ScalarValue::Int64(None)],
            &DataType::Int64,
        )));
        assert_eq!(sizes("array_concat", &[list.clone(), list.clone()], 1), [64]);
        assert_eq!(sizes("map", &[list.clone(), list], 1), [64]);
        assert_eq!(sizes("overlay", &[text("abcd"), text("xy"), number(1)], 1), [6]);
        assert_eq!(sizes("overlay", &[text("abcd"), text("xy"), number(1), number(-9)], 1), [10]);
    }

    #[test]
    fn constants_beside_columns_are_copied() {
        let numbers = column(Int64Array::from(vec![1, 2, 3]));
        assert_eq!(sizes("left", &[text("abcd"), numbers.clone()], 3), [20, 20, 20]);
        assert_eq!(Bound::Beside.in_all(&[text("abcd"), numbers], 3).unwrap(), Some(60));
        let texts = column(StringArray::from(vec!["a,b"]));
        assert_eq!(Bound::Beside.in_all(&[texts, text(","), number(1)], 1).unwrap(), Some(17 + 8));
    }

    #[test]
    fn texts_that_grow() {
        let binary = ColumnarValue::Scalar(ScalarValue::Binary(Some(vec![0; 10])));
        assert_eq!(sizes("encode", &[binary.clone(), text("hex")], 1), [24]);
        assert_eq!(Bound::Encode.in_all(&[binary, text("hex")], 1).unwrap(), Some(24));
        let time = ColumnarValue::Scalar(ScalarValue::TimestampSecond(Some(0), None));
        assert_eq!(sizes("to_char", &[time, text("%c%c")], 1), [200]);
        assert_eq!(sizes("string_to_array", &[text("abcd"), text(",,")], 1), [28]);
        assert_eq!(sizes("string_to_array", &[text("abcd,abcdefghi"), text(",")], 1), [30]);
        let none = ColumnarValue::Scalar(ScalarValue::Utf8(None));
        assert_eq!(sizes("string_to_array", &[text(&"→".repeat(20)), none], 1), [60 + 21 * 8]);
    }

    #[test]
    fn copies_of_views_share_their_text() {
        let views = column(StringViewArray::from(vec!["a long text, in a buffer"]));
        assert_eq!(sizes("array_repeat", &[views, number(100)], 1), [1_600]);
        let yes = ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)));
        assert_eq!(sizes("array_repeat", &[yes.clone(), number(100)], 1), [800]);
        assert!(!Bound::RepeatElement.is_exact(&[yes, number(100)]));
        assert!(Bound::RepeatElement.is_exact(&[text("a"), number(100)]));
    }

    #[test]
    fn references_are_no_text_of_a_replacement() {
        let replaced =
            |to: &str| sizes("regexp_replace", &[text("abcabc"), text("(a)(b)(c)"), text(to), text("g")], 1);
        assert_eq!((replaced(r"\3\2\1"), replaced("[$0]")), (vec![24], vec![12 + 7 * 2]));
        let fill = |fill: &str| column(StringArray::from(vec![fill]));
        assert_eq!(sizes("lpad", &[text("a"), number(9), fill("xy")], 1), [10]);
        assert_eq!(sizes("lpad", &[text("a"), number(9), fill("→")], 1), [37]);
    }

    #[test]
    fn slices_of_lists_are_measured_alone() {
        let list = |texts: &[&str]| {
            let texts: Vec<ScalarValue> = texts.iter().map(|text| ScalarValue::from(*text)).collect();
            ScalarValue::List(ScalarValue::new_list_nullable(&texts, &DataType::Utf8))
        };
        let lists = [list(&["before"]), list(&["a", "bc"]), list(&[]), list(&["behind"])];
        let lists = ScalarValue::iter_to_array(lists).unwrap().slice(1, 2);
        let args = [ColumnarValue::Array(lists), number(3)];
        assert_eq!(sizes("array_repeat", &args, 2), [3 * (16 + 17 + 18), 3 * 16]);
        assert_eq!(Bound::RepeatElement.in_all(&args, 2).unwrap(), Some(3 * (32 + 35)));
    }

    #[test]
    fn what_fits_is_known_without_a_look_at_rows() {
        let in_all = |name: &str, args: &[ColumnarValue]| Bound::of(name).unwrap().in_all(args, 3).unwrap();
        let texts = column(StringArray::from(vec!["front", "ab", "", "longer than twelve"]).slice(1, 3));
        let views = column(StringViewArray::from(vec!["ab", "", "longer than twelve"]));
        for texts in [texts, views] {
            assert_eq!(in_all("concat", &[texts.clone(), text("xy"), texts.clone()]), Some(46));
            assert_eq!(in_all("concat_ws", &[text("--"), texts.clone(), text("xy")]), Some(32));
            let counts = column(Int64Array::from(vec![Some(1), None, Some(5)]));
            assert_eq!(in_all("repeat", &[texts.clone(), counts]), Some(100));
            assert_eq!(in_all("lpad", &[texts.clone(), number(10)]), Some(50));
            assert_eq!(in_all("replace", &[texts.clone(), text("aa"), text("bbb")]), Some(50));
            assert_eq!(in_all("replace", &[texts.clone(), texts.clone(), text("bbb")]), None);
            assert_eq!(in_all("array_repeat", &[number(1), number(2)]), Some(48));
        }
        assert_eq!(in_all("concat", &[column(Int64Array::from(vec![1, 2, 3]))]), None);
    }

    #[test]
    fn types_of_fixed_size() {
        let bytes = |data_type: &str| fixed_bytes(&data_type.parse().unwrap());
        assert_eq!(bytes("FixedSizeList(1000, FixedSizeBinary(1000))"), 1_000_000);
        assert_eq!(bytes("FixedSizeList(1000, Utf8View)"), 16_000);
        assert_eq!(bytes("FixedSizeList(1000, Boolean)"), 1_000);
        assert_eq!(bytes("FixedSizeList(1000, List(LargeUtf8))"), 12_000);
        assert_eq!((bytes("Utf8"), bytes("Dictionary(Int32, Utf8)")), (4, 8));
    }
}
