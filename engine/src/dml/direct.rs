//! The direct path of `INSERT INTO t VALUES (literals)`: a batch built from the AST, no planner. Many rows of parameters make one
//! batch: that of the statement for the first, then for the second, ….
//!
//! Owns: recognising plain rows and building their columns. Anything unusual, and every value that does not convert,
//! gives `None`: the planned path then answers, so that both give the same rows and the same errors. It ends in the same
//! write set.

use std::borrow::Cow;
use std::sync::Arc;

use cairn_storage::Snapshot;
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray, StringViewBuilder,
    new_null_array,
};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr, Insert, SetExpr, TableObject, TimezoneInfo, Value, Values,
};

use super::assign::assign_column;
use super::identity::check_given;
use super::insert::{default_sql, is_default, number_text};
use super::params;
use super::target::{column_ident, ident_text, split_name};
use super::vectors;
use crate::config::Settings;
use crate::rights::{Right, Rights};

/// Text of one INSERT is kept in blocks of at most this.
const TEXT_BLOCK_BYTES_MAX: u32 = 1 << 20;

/// A literal as written.
#[derive(Clone, Debug, PartialEq)]
enum Literal<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// ARRAY[…] of numbers, as the text of a vector.
    Vector(String),
    /// A bound list, as the one row of an array.
    List(ArrayRef),
    /// A bound value of another type, for a column of just that type.
    Scalar(&'a ScalarValue),
    /// DATE '…'
    Date(&'a str),
    /// TIMESTAMP '…'
    Timestamp(&'a str),
}

/// The rows of a plain INSERT as a batch of its table, with NULL where the table is to number them; None: plan it.
pub(super) fn try_plan(
    (snapshot, rights): (&Snapshot, &Rights),
    settings: &Settings,
    params: &[Option<&ParamValues>],
    insert: &Insert,
) -> Option<(Arc<TableDef>, RecordBatch)> {
    let (name, values) = plain(insert)?;
    let TableObject::TableName(name) = name else { return None };
    let (schema, table) = split_name(name, &settings.search_path).ok()?;
    let table = snapshot.table_named(&schema, &table)?;
    let def = table.def();
    if !rights.may(Right::Insert, def) || needs_zone(def, settings) {
        return None;
    }
    let schema = Arc::clone(table.state().arrow_schema());
    Some((Arc::clone(def), build(def, schema, insert, values, params)?))
}

/// Whether values for the table may have to be read in a zone that is not UTC.
pub(crate) fn needs_zone(def: &TableDef, settings: &Settings) -> bool {
    let is_moment = |column: &ColumnDef| matches!(column.column_type, ColumnType::TimestampTz { .. });
    settings.zone().is_some() && def.columns.iter().any(is_moment)
}

fn plain(insert: &Insert) -> Option<(&TableObject, &Values)> {
    let bare = insert.on.is_none()
        && insert.returning.is_none()
        && insert.or.is_none()
        && !insert.ignore
        && !insert.overwrite
        && !insert.replace_into
        && insert.table_alias.is_none()
        && insert.assignments.is_empty()
        && insert.partitioned.is_none()
        && insert.after_columns.is_empty()
        && insert.output.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none();
    let query = insert.source.as_deref().filter(|_| bare)?;
    let untouched = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    match query.body.as_ref() {
        SetExpr::Values(values) if untouched && !values.value_keyword => Some((&insert.table, values)),
        _ => None,
    }
}

fn build(
    def: &TableDef,
    mut schema: SchemaRef,
    insert: &Insert,
    values: &Values,
    params: &[Option<&ParamValues>],
) -> Option<RecordBatch> {
    let width = if insert.columns.is_empty() { def.columns.len() } else { insert.columns.len() };
    if values.rows.is_empty() || values.rows.iter().any(|row| row.content.len() != width) {
        return None;
    }
    // For each table column the position of its value in a row.
    let mut positions: Vec<Option<usize>> = vec![None; def.columns.len()];
    if insert.columns.is_empty() {
        positions = (0..width).map(Some).collect();
    } else {
        for (position, name) in insert.columns.iter().enumerate() {
            let name = ident_text(column_ident(name).ok()?);
            let index = def.columns.iter().position(|c| c.name == name)?;
            if positions[index].replace(position).is_some() {
                return None;
            }
        }
    }
    let mut arrays = Vec::with_capacity(def.columns.len());
    for (column, position) in def.columns.iter().zip(positions) {
        arrays.push(column_values(column, position, values, params)?);
    }
    if let Some((at, _)) = def.numbered_by() {
        check_given(def, arrays[at].as_ref()).ok()?;
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        fields[at] = Arc::new(fields[at].as_ref().clone().with_nullable(true));
        schema = Arc::new(Schema::new(fields));
    }
    // Refuses NULLs where none may be; the planned path then names the column.
    RecordBatch::try_new(schema, arrays).ok()
}

fn column_values(
    column: &ColumnDef,
    position: Option<usize>,
    values: &Values,
    params: &[Option<&ParamValues>],
) -> Option<ArrayRef> {
    let default = match (&column.default, position) {
        (None, _) => None,
        (Some(_), Some(p)) if !values.rows.iter().any(|row| is_default(&row.content[p])) => None,
        (Some(_), _) => Some(default_sql(column).ok()?),
    };
    let default = match &default {
        Some(expr) => literal(expr, None)?,
        None => Literal::Null,
    };
    let literals = match position {
        None => vec![default; values.rows.len() * params.len()],
        Some(position) => params
            .iter()
            .flat_map(|params| values.rows.iter().map(|row| (&row.content[position], *params)))
            .map(
                |(value, params)| {
                    if is_default(value) { Some(default.clone()) } else { literal(value, params) }
                },
            )
            .collect::<Option<Vec<_>>>()?,
    };
    array(column, &literals)
}

/// The one-value array of a literal that a key column is compared with, where equal text is equal value; None otherwise.
pub(crate) fn key_value(column: &ColumnDef, expr: &Expr, params: Option<&ParamValues>) -> Option<ArrayRef> {
    use ColumnType::{Int8, Int16, Int32, Int64, Text, UInt8, UInt16, UInt32, UInt64};
    let value = literal(expr, params)?;
    let exact = match (&column.column_type, &value) {
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64, Literal::Number(digits)) => {
            digits.strip_prefix('-').unwrap_or(digits).bytes().all(|b| b.is_ascii_digit())
        }
        (Text, Literal::Text(_)) => true,
        _ => false,
    };
    if exact { array(column, &[value]) } else { None }
}

/// The one-value array of a literal that SET gives a column; None otherwise.
pub(crate) fn set_value(column: &ColumnDef, expr: &Expr, params: Option<&ParamValues>) -> Option<ArrayRef> {
    array(column, &[literal(expr, params)?])
}

/// The whole number that a literal or a value of an integer type is; None otherwise.
pub(crate) fn whole_number(expr: &Expr, params: Option<&ParamValues>) -> Option<i64> {
    if let Expr::Value(value) = expr
        && let Value::Placeholder(name) = &value.value
    {
        let value = params::lookup(name, params).ok()?;
        return match value {
            ScalarValue::Int8(Some(v)) => Some((*v).into()),
            ScalarValue::Int16(Some(v)) => Some((*v).into()),
            ScalarValue::Int32(Some(v)) => Some((*v).into()),
            ScalarValue::Int64(Some(v)) => Some(*v),
            _ => None,
        };
    }
    number_text(expr)?.parse().ok()
}

fn literal<'a>(expr: &'a Expr, params: Option<&'a ParamValues>) -> Option<Literal<'a>> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Literal::Null),
            Value::Boolean(b) => Some(Literal::Bool(*b)),
            Value::Number(digits, false) => Some(Literal::Number(Cow::Borrowed(digits))),
            Value::SingleQuotedString(text) => Some(Literal::Text(Cow::Borrowed(text))),
            Value::Placeholder(name) => parameter(params::lookup(name, params).ok()?),
            _ => None,
        },
        Expr::Array(_) => vectors::written(expr).map(Literal::Vector),
        Expr::UnaryOp { .. } => number_text(expr).map(|n| Literal::Number(Cow::Owned(n))),
        Expr::TypedString(typed) => {
            let Value::SingleQuotedString(text) = &typed.value.value else { return None };
            match typed.data_type {
                SqlType::Date => Some(Literal::Date(text)),
                SqlType::Timestamp(None, TimezoneInfo::None) => Some(Literal::Timestamp(text)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn parameter(value: &ScalarValue) -> Option<Literal<'_>> {
    if value.is_null() {
        return Some(Literal::Null);
    }
    let number = |text: String| Some(Literal::Number(Cow::Owned(text)));
    match value {
        ScalarValue::Boolean(Some(b)) => Some(Literal::Bool(*b)),
        ScalarValue::Int8(Some(v)) => number(v.to_string()),
        ScalarValue::Int16(Some(v)) => number(v.to_string()),
        ScalarValue::Int32(Some(v)) => number(v.to_string()),
        ScalarValue::Int64(Some(v)) => number(v.to_string()),
        ScalarValue::UInt8(Some(v)) => number(v.to_string()),
        ScalarValue::UInt16(Some(v)) => number(v.to_string()),
        ScalarValue::UInt32(Some(v)) => number(v.to_string()),
        ScalarValue::UInt64(Some(v)) => number(v.to_string()),
        ScalarValue::Float64(Some(v)) if v.is_finite() => number(v.to_string()),
        ScalarValue::Utf8(Some(s)) | ScalarValue::LargeUtf8(Some(s)) | ScalarValue::Utf8View(Some(s)) => {
            Some(Literal::Text(Cow::Borrowed(s)))
        }
        ScalarValue::FixedSizeList(_) | ScalarValue::List(_) | ScalarValue::LargeList(_) => {
            value.to_array().ok().map(Literal::List)
        }
        other => Some(Literal::Scalar(other)),
    }
}

fn array(column: &ColumnDef, literals: &[Literal<'_>]) -> Option<ArrayRef> {
    if literals.iter().all(|l| *l == Literal::Null) {
        return Some(new_null_array(&column.column_type.arrow(), literals.len()));
    }
    if literals.iter().any(|l| matches!(l, Literal::Scalar(_))) {
        return scalars(column, literals);
    }
    Some(match &column.column_type {
        ColumnType::Boolean => Arc::new(
            each(literals, |l| match l {
                Literal::Bool(b) => Some(*b),
                _ => None,
            })?
            .into_iter()
            .collect::<BooleanArray>(),
        ),
        ColumnType::Int8 => integers::<Int8Type>(literals)?,
        ColumnType::Int16 => integers::<Int16Type>(literals)?,
        ColumnType::Int32 => integers::<Int32Type>(literals)?,
        ColumnType::Int64 => integers::<Int64Type>(literals)?,
        ColumnType::UInt8 => integers::<UInt8Type>(literals)?,
        ColumnType::UInt16 => integers::<UInt16Type>(literals)?,
        ColumnType::UInt32 => integers::<UInt32Type>(literals)?,
        ColumnType::UInt64 => integers::<UInt64Type>(literals)?,
        ColumnType::Float64 => {
            Arc::new(each(literals, float)?.into_iter().collect::<PrimitiveArray<Float64Type>>())
        }
        ColumnType::Float32 => Arc::new(
            each(literals, |l| {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "REAL keeps what fits; infinities fall back"
                )]
                float(l).map(|v| v as f32).filter(|v| v.is_finite())
            })?
            .into_iter()
            .collect::<PrimitiveArray<Float32Type>>(),
        ),
        ColumnType::Text | ColumnType::Json => Arc::new(texts(&each(literals, text)?)),
        ColumnType::Decimal { .. } => through_text(column, literals, |l| match l {
            Literal::Number(n) => Some(n.as_ref()),
            _ => None,
        })?,
        ColumnType::Date => through_text(column, literals, |l| match l {
            Literal::Text(t) => Some(t.as_ref()),
            Literal::Date(t) => Some(t),
            _ => None,
        })?,
        ColumnType::Timestamp { .. } => through_text(column, literals, |l| match l {
            Literal::Text(t) => Some(t.as_ref()),
            Literal::Timestamp(t) => Some(t),
            _ => None,
        })?,
        ColumnType::Time | ColumnType::TimestampTz { .. } => through_text(column, literals, text)?,
        ColumnType::Vector(_) => vectors_of(column, literals)?,
        ColumnType::Bytea | ColumnType::List(_) | ColumnType::Struct(_) => return None,
    })
}

/// Every literal through `value`, NULLs kept; None when one has no value.
fn each<'l, T>(
    literals: &'l [Literal<'_>],
    value: impl Fn(&'l Literal<'_>) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    literals.iter().map(|l| if *l == Literal::Null { Some(None) } else { value(l).map(Some) }).collect()
}

/// Values that need no conversion.
fn scalars(column: &ColumnDef, literals: &[Literal<'_>]) -> Option<ArrayRef> {
    let wanted = column.column_type.arrow();
    let null = ScalarValue::try_from(&wanted).ok()?;
    let values = literals.iter().map(|literal| match literal {
        Literal::Null => Some(null.clone()),
        Literal::Scalar(value) if value.data_type() == wanted => Some((*value).clone()),
        _ => None,
    });
    ScalarValue::iter_to_array(values.collect::<Option<Vec<_>>>()?).ok()
}

fn integers<T>(literals: &[Literal<'_>]) -> Option<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: std::str::FromStr,
{
    let values = each(literals, |l| match l {
        Literal::Number(n) => n.parse::<T::Native>().ok(),
        _ => None,
    })?;
    Some(Arc::new(values.into_iter().collect::<PrimitiveArray<T>>()))
}

/// An array whose buffer has just the room the texts need; a builder's own first block is 8 KiB.
fn texts(values: &[Option<&str>]) -> StringViewArray {
    let bytes: usize = values.iter().flatten().map(|text| text.len()).sum();
    let block = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, TEXT_BLOCK_BYTES_MAX);
    let mut builder = StringViewBuilder::with_capacity(values.len()).with_fixed_block_size(block);
    values.iter().for_each(|value| builder.append_option(*value));
    builder.finish()
}

fn float(literal: &Literal<'_>) -> Option<f64> {
    match literal {
        Literal::Number(n) => n.parse::<f64>().ok().filter(|v| v.is_finite()),
        _ => None,
    }
}

fn text<'l>(literal: &'l Literal<'_>) -> Option<&'l str> {
    match literal {
        Literal::Text(t) => Some(t.as_ref()),
        _ => None,
    }
}

/// Vectors, each in whatever form it has.
fn vectors_of(column: &ColumnDef, literals: &[Literal<'_>]) -> Option<ArrayRef> {
    if !literals.iter().any(|l| matches!(l, Literal::List(_))) {
        return through_text(column, literals, |l| match l {
            Literal::Text(t) => Some(t.as_ref()),
            Literal::Vector(t) => Some(t),
            _ => None,
        });
    }
    let one = |literal: &Literal<'_>| -> Option<ArrayRef> {
        let array: ArrayRef = match literal {
            Literal::Null => new_null_array(&DataType::Null, 1),
            Literal::List(list) => Arc::clone(list),
            Literal::Text(text) => Arc::new(StringArray::from_iter_values([text])),
            Literal::Vector(text) => Arc::new(StringArray::from_iter_values([text])),
            _ => return None,
        };
        assign_column(column, &array, None).ok()
    };
    let rows = literals.iter().map(one).collect::<Option<Vec<_>>>()?;
    concat(&rows.iter().map(AsRef::as_ref).collect::<Vec<_>>()).ok()
}

/// Values that are read from text, by the very cast the planned path uses.
fn through_text<'l>(
    column: &ColumnDef,
    literals: &'l [Literal<'_>],
    value: impl Fn(&'l Literal<'_>) -> Option<&'l str>,
) -> Option<ArrayRef> {
    let texts: ArrayRef = Arc::new(each(literals, value)?.into_iter().collect::<StringArray>());
    assign_column(column, &texts, None).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_storage::id::{ColumnId, SchemaVersion, TableId};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn table(columns: &[(&str, ColumnType, Option<&str>)]) -> TableDef {
        TableDef {
            id: TableId(1),
            schema: "public".into(),
            name: "t".into(),
            schema_version: SchemaVersion(1),
            columns: columns
                .iter()
                .zip(1..)
                .map(|((name, column_type, default), id)| ColumnDef {
                    id: ColumnId(id),
                    name: (*name).into(),
                    column_type: column_type.clone(),
                    nullable: *name != "id",
                    default: default.map(str::to_owned),
                    initial: None,
                })
                .collect(),
            primary_key: Vec::new(),
            sort: Vec::new(),
            next_column_id: ColumnId(99),
            layout: Default::default(),
            indexes: Vec::new(),
            identity: None,
            owner: None,
        }
    }

    fn batch(def: &TableDef, sql: &str) -> Option<RecordBatch> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        let Statement::Insert(insert) = statement else { panic!("not an INSERT") };
        let (_, values) = plain(&insert)?;
        build(def, def.arrow_schema(), &insert, values, &[None])
    }

    fn sample() -> TableDef {
        table(&[
            ("id", ColumnType::Int32, None),
            ("name", ColumnType::Text, Some("'anon'")),
            ("price", ColumnType::Decimal { precision: 10, scale: 2 }, None),
            ("day", ColumnType::Date, None),
            ("ok", ColumnType::Boolean, Some("true")),
            ("score", ColumnType::Float64, None),
        ])
    }

    #[test]
    fn builds_every_plain_type() {
        let def = sample();
        let got = batch(&def, "INSERT INTO t VALUES (1, 'a', -1.25, DATE '2020-01-02', false, 2), (2, NULL, 3, '2021-01-01', DEFAULT, -0.5)").unwrap();
        let text = pretty_format_batches(&[got]).unwrap().to_string();
        assert!(text.contains("| 1  | a    | -1.25 | 2020-01-02 | false | 2.0   |"), "{text}");
        assert!(text.contains("| 2  |      | 3.00  | 2021-01-01 | true  | -0.5  |"), "{text}");
    }

    #[test]
    fn rows_of_parameters_are_rows() {
        let def = sample();
        let sql = "INSERT INTO t (id, day, price, name) VALUES ($1, $2, $3, 'x'), (9, NULL, $3, DEFAULT)";
        let Statement::Insert(insert) = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0)
        else {
            panic!("not an INSERT")
        };
        let (_, values) = plain(&insert).unwrap();
        let row = |id, day| {
            let price = ScalarValue::Decimal128(Some(125), 10, 2);
            ParamValues::from(vec![ScalarValue::Int32(Some(id)), ScalarValue::Date32(day), price])
        };
        let rows = [row(1, Some(0)), row(2, None)];
        let rows: Vec<_> = rows.iter().map(Some).collect();
        let text = pretty_format_batches(&[build(&def, def.arrow_schema(), &insert, values, &rows).unwrap()])
            .unwrap()
            .to_string();
        let lines: Vec<&str> = text.lines().skip(3).take(4).collect();
        for (line, expected) in lines.iter().zip([
            "| 1  | x    | 1.25  | 1970-01-01 | true |       |",
            "| 9  | anon | 1.25  |            | true |       |",
            "| 2  | x    | 1.25  |            | true |       |",
            "| 9  | anon | 1.25  |            | true |       |",
        ]) {
            assert_eq!(*line, expected, "{text}");
        }
        // A value of another type is the planner's to convert.
        let other = ParamValues::from(vec![
            ScalarValue::Int32(Some(1)),
            ScalarValue::Date64(Some(0)),
            ScalarValue::Decimal128(Some(1), 9, 1),
        ]);
        assert!(build(&def, def.arrow_schema(), &insert, values, &[Some(&other)]).is_none());
    }

    #[test]
    fn columns_not_named_get_their_default() {
        let def = sample();
        let got = batch(&def, "INSERT INTO t (day, ID) VALUES ('2020-01-02', 7)").unwrap();
        let text = pretty_format_batches(&[got]).unwrap().to_string();
        assert!(text.contains("| 7  | anon |       | 2020-01-02 | true |"), "{text}");
    }

    #[test]
    fn leaves_the_unusual_to_the_planner() {
        let def = sample();
        for sql in [
            "INSERT INTO t (id) VALUES (1 + 1)",
            "INSERT INTO t (id) VALUES ('1')",
            "INSERT INTO t (id) VALUES (99999999999)",
            "INSERT INTO t (id) VALUES (1.5)",
            "INSERT INTO t (id) VALUES (NULL)",
            "INSERT INTO t (name) VALUES ('no id')",
            "INSERT INTO t (id, day) VALUES (1, 'someday')",
            "INSERT INTO t (id, id) VALUES (1, 1)",
            "INSERT INTO t (id, nope) VALUES (1, 1)",
            "INSERT INTO t (id) VALUES (1, 2)",
            "INSERT INTO t (id) VALUES (1) RETURNING id",
            "INSERT INTO t (id) VALUES (1) ON CONFLICT DO NOTHING",
            "INSERT INTO t (id) SELECT 1",
        ] {
            assert!(batch(&def, sql).is_none(), "{sql}");
        }
    }
}
