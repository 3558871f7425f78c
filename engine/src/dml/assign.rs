//! Assignment casts: the values a statement computed, in the types the table's columns have.
//!
//! Owns: which type may be stored in which, rounding as PostgreSQL does, and errors that name column and value.
//! Does not own: keys and JSON checks (storage). Every way a row enters a table comes through here or through COPY's
//! own typed readers.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_udfs::zones;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewBuilder, Float64Array, RecordBatch, RecordBatchOptions,
    StringViewArray,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;

use super::vectors;
use crate::error::{Error, Result};

/// `columns`, one per column of the table in its order, as a batch the table can take; times without a zone are those of clocks in
/// `zone`, or in UTC. `first_row` is how many rows the
/// statement gave before, for errors; None when nobody can tell, and a row is named by its key or its values.
///
/// # Errors
/// A value that does not fit its column, or NULL where none may be.
pub(crate) fn assign_batch(
    def: &TableDef,
    schema: &SchemaRef,
    columns: &[ArrayRef],
    rows: usize,
    first_row: Option<u64>,
    zone: Option<&Arc<str>>,
) -> Result<RecordBatch> {
    let mut assigned = Vec::with_capacity(columns.len());
    for (column, array) in def.columns.iter().zip(columns) {
        let array = match column.column_type {
            ColumnType::Vector(dim) => vectors::assign(column, dim, array, |row| match first_row {
                Some(first) => format!(" in row {}", first + row as u64 + 1),
                None => format!(" in the row with {}", named(def, columns, row)),
            })?,
            _ => assign_column(column, array, zone)?,
        };
        if !column.nullable && array.logical_null_count() > 0 {
            return Err(null_violation(def, column));
        }
        assigned.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), assigned, &options).map_err(arrow)
}

/// What tells a row of the table's `columns` from others: its key, or else the first of its values.
fn named(def: &TableDef, columns: &[ArrayRef], row: usize) -> String {
    let mut by = def.key_indices();
    if by.is_empty() {
        by = (0..columns.len()).collect();
    }
    let column = |i: usize| Some((def.columns.get(i)?.name.as_str(), columns.get(i)?));
    row_text(by.into_iter().filter_map(column), row)
}

/// NULL in a column that allows none.
pub(crate) fn null_violation(def: &TableDef, column: &ColumnDef) -> Error {
    Error::new(
        ErrorKind::ConstraintViolation,
        format!(
            "null value in column \"{}\" of table \"{}\" violates its NOT NULL constraint",
            column.name,
            def.qualified_name()
        ),
    )
    .map(|e| e.with_sqlstate("23502"))
}

/// `array` in the type of `column`; times without a zone are those of clocks in `zone`, or in UTC.
///
/// # Errors
/// A type that cannot be stored there (42804), text that does not read as the type (22P02), a number out of its range (22003).
pub(crate) fn assign_column(
    column: &ColumnDef,
    array: &ArrayRef,
    zone: Option<&Arc<str>>,
) -> Result<ArrayRef> {
    if let ColumnType::Vector(dim) = column.column_type {
        return vectors::assign(column, dim, array, |_| String::new());
    }
    let from = array.data_type();
    let to = column.column_type.arrow();
    if *from == to {
        // Sums and products of decimals keep the widest type, whatever their digits.
        if let (ColumnType::Decimal { precision, .. }, Some(values)) =
            (&column.column_type, array.as_primitive_opt::<Decimal128Type>())
            && values.validate_decimal_precision(*precision).is_err()
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a value is out of range for column \"{}\" of type {}",
                    column.name, column.column_type
                ),
            )
            .map(|e| e.with_sqlstate("22003")));
        }
        return Ok(Arc::clone(array));
    }
    if !assignable(from, &column.column_type) {
        return Err(mismatch(column, from));
    }
    let in_zone = |array: &ArrayRef| match zone {
        Some(zone) => zones::assigned(array, &to, zone),
        None => Ok(None),
    };
    if is_nested(&to) {
        if let Some(assigned) = in_zone(array).map_err(|e| nested_error(column, &e))? {
            return Ok(assigned);
        }
        // NULLs a lenient cast makes inside lists would go unseen: be strict.
        return cast_with_options(array, &to, &CastOptions { safe: false, ..CastOptions::default() })
            .map_err(|e| nested_error(column, &e));
    }
    let source = prepare(array, &to)?;
    let result = match in_zone(&source).map_err(|_| mismatch(column, from))? {
        Some(assigned) => assigned,
        None => cast(&source, &to).map_err(|_| mismatch(column, from))?,
    };
    if result.null_count() > array.logical_null_count() {
        return Err(first_lost(column, array, &result));
    }
    Ok(result)
}

/// Whether PostgreSQL's assignment rules, with text accepted for everything that has a text form, allow it.
fn assignable(from: &DataType, to: &ColumnType) -> bool {
    let from = match from {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if matches!(from, DataType::Null) {
        return true;
    }
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let number = from.is_numeric();
    match to {
        ColumnType::Boolean => text || *from == DataType::Boolean,
        ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. } => text || number,
        ColumnType::Text => !is_nested(from) && !is_binary(from),
        ColumnType::Json => text,
        ColumnType::Bytea => text || is_binary(from),
        ColumnType::Date => {
            text || matches!(from, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
        }
        ColumnType::Time => {
            text || matches!(from, DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..))
        }
        ColumnType::Timestamp { .. } | ColumnType::TimestampTz { .. } => {
            text || matches!(from, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
        }
        // Vectors have a conversion of their own.
        ColumnType::Vector(_) => false,
        ColumnType::List(_) => {
            matches!(
                from,
                DataType::List(_)
                    | DataType::LargeList(_)
                    | DataType::FixedSizeList(..)
                    | DataType::ListView(_)
            )
        }
        ColumnType::Struct(members) => {
            matches!(from, DataType::Struct(fields) if fields.len() == members.len())
        }
    }
}

fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested()
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

/// What Arrow's cast would do otherwise than PostgreSQL, done before it: rounding to integers, `\x` in bytea, blanks
/// around numbers, and dates written into timestamps.
fn prepare(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let from = array.data_type();
    if to.is_integer() {
        if matches!(from, DataType::Float16 | DataType::Float32 | DataType::Float64) {
            let wide = cast(array, &DataType::Float64).map_err(arrow)?;
            if let Some(values) = wide.as_any().downcast_ref::<Float64Array>() {
                let rounded: Float64Array = values.unary(f64::round_ties_even);
                return Ok(Arc::new(rounded));
            }
        }
        if let DataType::Decimal128(precision, scale) = from
            && *scale > 0
        {
            return cast(array, &DataType::Decimal128((*precision).min(37) + 1, 0)).map_err(arrow);
        }
    }
    if matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        if *to == DataType::BinaryView {
            return bytes_of_text(array);
        }
        if to.is_numeric() || *to == DataType::Boolean || to.is_temporal() {
            return trimmed(array);
        }
    }
    Ok(Arc::clone(array))
}

fn text_view(array: &ArrayRef) -> Result<StringViewArray> {
    let view = cast(array, &DataType::Utf8View).map_err(arrow)?;
    view.as_any()
        .downcast_ref::<StringViewArray>()
        .cloned()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "text did not become a string view"))
}

fn trimmed(array: &ArrayRef) -> Result<ArrayRef> {
    let text = text_view(array)?;
    if text.iter().flatten().all(|t| t.trim().len() == t.len()) {
        return Ok(Arc::clone(array));
    }
    let trimmed: StringViewArray = text.iter().map(|t| t.map(str::trim)).collect();
    Ok(Arc::new(trimmed))
}

fn bytes_of_text(array: &ArrayRef) -> Result<ArrayRef> {
    let text = text_view(array)?;
    let mut builder = BinaryViewBuilder::with_capacity(text.len());
    for value in &text {
        match value {
            None => builder.append_null(),
            Some(value) => match value.strip_prefix("\\x") {
                None => builder.append_value(value.as_bytes()),
                Some(hex) => match unhex(hex.as_bytes()) {
                    Some(bytes) => builder.append_value(bytes),
                    None => builder.append_null(),
                },
            },
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| {
            let digit = |b: u8| char::from(b).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        })
        .collect()
}

/// The error of the first value that `result` lost.
fn first_lost(column: &ColumnDef, source: &ArrayRef, result: &ArrayRef) -> Error {
    let nulls = source.logical_nulls();
    let lost =
        (0..source.len()).find(|i| nulls.as_ref().is_none_or(|n| n.is_valid(*i)) && result.is_null(*i));
    let value = lost.map(|i| value_text(source, i)).unwrap_or_default();
    let text = matches!(source.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let out_of_range = if text {
        column.column_type.arrow().is_numeric()
            && value.trim().parse::<f64>().is_ok_and(f64::is_finite)
            && !fraction_in_integer(column, &value)
    } else {
        true
    };
    if out_of_range {
        Error::new(
            ErrorKind::InvalidInput,
            format!(
                "value {value} is out of range for column \"{}\" of type {}",
                column.name, column.column_type
            ),
        )
        .map(|e| e.with_sqlstate(if column.column_type.arrow().is_temporal() { "22008" } else { "22003" }))
    } else {
        Error::new(
            ErrorKind::InvalidInput,
            format!(
                "invalid input for column \"{}\" of type {}: \"{value}\"",
                column.name, column.column_type
            ),
        )
        .map(|e| e.with_sqlstate(if column.column_type.arrow().is_temporal() { "22007" } else { "22P02" }))
    }
}

fn fraction_in_integer(column: &ColumnDef, value: &str) -> bool {
    column.column_type.arrow().is_integer() && value.contains(['.', 'e', 'E'])
}

/// One value as text, cut for messages.
pub(crate) fn value_text(array: &ArrayRef, row: usize) -> String {
    let text = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())
        .map(|f| f.value(row).to_string())
        .unwrap_or_default();
    cut(&text)
}

/// Columns that a message names a row by, at most.
const NAMING_COLUMNS: usize = 4;

/// A row in a message: `(id, tag) = (7, a)`, of the first few columns.
pub(crate) fn row_text<'a>(columns: impl Iterator<Item = (&'a str, &'a ArrayRef)>, row: usize) -> String {
    let value = |array: &ArrayRef| {
        let null = array.logical_nulls().is_some_and(|nulls| nulls.is_null(row));
        if null { "NULL".to_owned() } else { value_text(array, row) }
    };
    let (names, values): (Vec<&str>, Vec<String>) =
        columns.take(NAMING_COLUMNS).map(|(name, array)| (name, value(array))).unzip();
    format!("({}) = ({})", names.join(", "), values.join(", "))
}

/// At most 80 characters of `text`.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn mismatch(column: &ColumnDef, from: &DataType) -> Error {
    let from = ColumnType::from_arrow(from).map_or_else(|| from.to_string(), |t| t.to_string());
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "column \"{}\" is of type {} but the value is of type {from}",
            column.name, column.column_type
        ),
    )
    .map(|e| e.with_sqlstate("42804").with_hint("write a CAST to say how to convert it"))
}

fn nested_error(column: &ColumnDef, error: &ArrowError) -> Error {
    let reason = match error {
        ArrowError::CastError(message) | ArrowError::ComputeError(message) => message.clone(),
        other => other.to_string(),
    };
    Error::new(
        ErrorKind::InvalidInput,
        format!("invalid value for column \"{}\" of type {}: {reason}", column.name, column.column_type),
    )
    .map(|e| e.with_sqlstate("22P02"))
}

/// An Arrow error as ours, through DataFusion's translation.
pub(crate) fn arrow(error: ArrowError) -> Error {
    DataFusionError::from(error).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_storage::id::ColumnId;
    use datafusion::arrow::array::{Decimal128Array, Int16Array, Int64Array, StringArray};

    use super::*;

    fn column(column_type: ColumnType) -> ColumnDef {
        ColumnDef {
            id: ColumnId(1),
            name: "c".into(),
            column_type,
            nullable: true,
            default: None,
            initial: None,
        }
    }

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn text_reads_as_the_columns_type() {
        let got = assign_column(&column(ColumnType::Date), &text(&["2020-02-29"]), None).unwrap();
        assert_eq!(got.data_type(), &DataType::Date32);
        assert!(assign_column(&column(ColumnType::Int32), &text(&[" 12 "]), None).is_ok());
        let decimal =
            assign_column(&column(ColumnType::Decimal { precision: 10, scale: 2 }), &text(&["1.25"]), None)
                .unwrap();
        let decimal = decimal.as_any().downcast_ref::<Decimal128Array>().unwrap();
        assert_eq!(decimal.value(0), 125);
        let bytes = assign_column(&column(ColumnType::Bytea), &text(&["\\x00ff"]), None).unwrap();
        assert_eq!(bytes.len(), 1);
    }

    #[test]
    fn times_are_read_in_the_sessions_zone() {
        let zone: Arc<str> = "Europe/Zurich".into();
        let at = column(ColumnType::TimestampTz { nanos: false, zone: "UTC".into() });
        let read = |said: &str| assign_column(&at, &text(&[said]), Some(&zone));
        assert_eq!(value_text(&read(" 2024-07-01 10:00:00 ").unwrap(), 0), "2024-07-01T08:00:00Z");
        let refused = read("yesterday").unwrap_err();
        assert_eq!(refused.sqlstate(), "22007");
        assert!(refused.message().contains("\"yesterday\""), "{refused}");
        let day =
            assign_column(&column(ColumnType::Date), &read("2024-07-01 00:30:00").unwrap(), Some(&zone));
        assert_eq!(value_text(&day.unwrap(), 0), "2024-07-01");
        let list = ColumnType::List(Box::new(ColumnType::TimestampTz { nanos: false, zone: "UTC".into() }));
        let texts = cast(&text(&["2024-07-01 10:00:00"]), &DataType::new_list(DataType::Utf8, true)).unwrap();
        let moments = assign_column(&column(list), &texts, Some(&zone)).unwrap();
        assert_eq!(value_text(&moments, 0), "[2024-07-01T08:00:00Z]");
    }

    #[test]
    fn errors_name_column_value_and_state() {
        let e = assign_column(&column(ColumnType::Int32), &text(&["1", "abc"]), None).unwrap_err();
        assert_eq!(e.sqlstate(), "22P02");
        assert!(e.message().contains("\"abc\"") && e.message().contains("\"c\""), "{e}");
        let e = assign_column(
            &column(ColumnType::Int8),
            &(Arc::new(Int64Array::from(vec![1, 300])) as ArrayRef),
            None,
        )
        .unwrap_err();
        assert_eq!(e.sqlstate(), "22003");
        let e = assign_column(
            &column(ColumnType::Date),
            &(Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            None,
        )
        .unwrap_err();
        assert_eq!(e.sqlstate(), "42804");
        let e = assign_column(&column(ColumnType::Timestamp { nanos: false }), &text(&["yesterday"]), None)
            .unwrap_err();
        assert_eq!(e.sqlstate(), "22007");
    }

    #[test]
    fn fractions_round_into_integers() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5, -0.6]));
        let got = assign_column(&column(ColumnType::Int16), &floats, None).unwrap();
        assert_eq!(got.as_any().downcast_ref::<Int16Array>().unwrap().values(), &[2, 2, -1]);
        let decimals: ArrayRef =
            Arc::new(Decimal128Array::from(vec![150, 249]).with_precision_and_scale(5, 2).unwrap());
        let got = assign_column(&column(ColumnType::Int16), &decimals, None).unwrap();
        assert_eq!(got.as_any().downcast_ref::<Int16Array>().unwrap().values(), &[2, 2]);
    }
}
