//! SQL's type names: what a column, a cast or a literal of that type is.
//!
//! Owns: the one mapping from a type as written to [`ColumnType`], for DDL and for expressions alike, and the texts that
//! refuse the types of later versions.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnType, VECTOR_DIM_MAX};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{CairnDialect, fold_types};
use crate::error::{Error, Result};
use crate::statement::name_of;

/// Deepest nesting of arrays and structs in one type.
pub(crate) const TYPE_DEPTH_MAX: usize = 32;
/// Most members of one struct.
pub(crate) const STRUCT_MEMBERS_MAX: usize = 1_000;

/// Types of casts and typed literals; DataFusion asks it first.
#[derive(Debug)]
pub(crate) struct CairnTypes;

impl TypePlanner for CairnTypes {
    fn plan_type_field(&self, sql_type: &DataType) -> datafusion::error::Result<Option<FieldRef>> {
        // Intervals are values of expressions though not of columns.
        if matches!(sql_type, DataType::Interval { .. }) {
            return Ok(None);
        }
        let column_type = column_type(sql_type)?;
        Ok(Some(Arc::new(Field::new("", column_type.arrow(), true))))
    }
}

/// The column type that `sql_type` names.
///
/// # Errors
/// `Unsupported` (0A000) for types Cairn knows of but doesn't have, `InvalidInput` (42704, 22023) for others and for
/// parameters outside their range.
pub(crate) fn column_type(sql_type: &DataType) -> Result<ColumnType> {
    at_depth(sql_type, 0)
}

fn at_depth(sql_type: &DataType, depth: usize) -> Result<ColumnType> {
    use ColumnType as C;
    use DataType as D;
    if depth > TYPE_DEPTH_MAX {
        return Err(invalid(format!("a type may nest at most {TYPE_DEPTH_MAX} levels deep"), "54001"));
    }
    Ok(match sql_type {
        D::Bool | D::Boolean => C::Boolean,
        D::TinyInt(None) => C::Int8,
        D::SmallInt(None) | D::Int2(None) | D::Int16 => C::Int16,
        D::Int(None) | D::Integer(None) | D::Int4(None) | D::Int32 | D::MediumInt(None) => C::Int32,
        D::BigInt(None) | D::Int8(None) | D::Int64 => C::Int64,
        D::TinyIntUnsigned(None) | D::UTinyInt | D::UInt8 => C::UInt8,
        D::SmallIntUnsigned(None) | D::Int2Unsigned(None) | D::USmallInt | D::UInt16 => C::UInt16,
        D::IntUnsigned(None) | D::IntegerUnsigned(None) | D::Int4Unsigned(None) | D::UInt32 => C::UInt32,
        D::BigIntUnsigned(None) | D::Int8Unsigned(None) | D::UBigInt | D::UInt64 => C::UInt64,
        D::Real | D::Float4 | D::Float32 => C::Float32,
        D::Double(ExactNumberInfo::None)
        | D::DoublePrecision
        | D::Float8
        | D::Float64
        | D::Float(ExactNumberInfo::None) => C::Float64,
        D::Float(ExactNumberInfo::Precision(bits)) => match bits {
            1..=24 => C::Float32,
            25..=53 => C::Float64,
            _ => {
                return Err(invalid(
                    format!("FLOAT({bits}): the precision of FLOAT is 1 to 53 bits"),
                    "22023",
                ));
            }
        },
        D::Numeric(info) | D::Decimal(info) | D::Dec(info) => decimal(*info)?,
        D::Text
        | D::String(None)
        | D::Varchar(None)
        | D::CharacterVarying(None)
        | D::CharVarying(None)
        | D::Clob(None) => C::Text,
        D::Varchar(Some(length)) | D::CharacterVarying(Some(length)) | D::CharVarying(Some(length)) => {
            return Err(limited_text("VARCHAR", length));
        }
        D::Char(length) | D::Character(length) => {
            return Err(limited_text(
                "CHAR",
                &length.unwrap_or(CharacterLength::IntegerLength { length: 1, unit: None }),
            ));
        }
        D::Bytea | D::Blob(None) | D::Binary(None) | D::Varbinary(None) | D::Bytes(None) => C::Bytea,
        D::JSON => C::Json,
        D::Date | D::Date32 => C::Date,
        D::Time(precision, zone) => match zone {
            TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => {
                fraction(*precision, 6, "TIME")?;
                C::Time
            }
            TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => {
                return Err(unsupported("type TIME WITH TIME ZONE", "use TIME or TIMESTAMPTZ"));
            }
        },
        D::Datetime(precision) | D::TimestampNtz(precision) => {
            C::Timestamp { nanos: fraction(*precision, 9, "TIMESTAMP")? }
        }
        D::Timestamp(precision, zone) => {
            let nanos = fraction(*precision, 9, "TIMESTAMP")?;
            match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => C::Timestamp { nanos },
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => {
                    C::TimestampTz { nanos, zone: "UTC".to_owned() }
                }
            }
        }
        D::Array(ArrayElemTypeDef::SquareBracket(item, None) | ArrayElemTypeDef::AngleBracket(item)) => {
            C::List(Box::new(at_depth(item, depth + 1)?))
        }
        D::Array(ArrayElemTypeDef::SquareBracket(_, Some(length))) => {
            return Err(unsupported(
                &format!("an array of fixed length [{length}]"),
                "leave the length out: type[]",
            ));
        }
        D::Struct(members, _) => {
            let mut columns = Vec::with_capacity(members.len());
            for member in members {
                let name =
                    member.field_name.as_ref().map(name_of).ok_or_else(|| {
                        invalid("every member of a STRUCT needs a name".to_owned(), "42601")
                    })?;
                columns.push((name, at_depth(&member.field_type, depth + 1)?));
            }
            struct_of(columns)?
        }
        D::Custom(name, modifiers) => return custom(&name.to_string(), name, modifiers, depth),
        D::Uuid => return Err(unsupported("type UUID", "use TEXT for now")),
        D::JSONB => return Err(unsupported("type JSONB", "use JSON: text, checked when written")),
        D::Interval { .. } => {
            return Err(unsupported(
                "type INTERVAL for a column",
                "intervals can be used in expressions; store a BIGINT number of seconds",
            ));
        }
        other => {
            return Err(Error::new(ErrorKind::InvalidInput, format!("type {other} does not exist")).map(|e| {
                e.with_sqlstate("42704").with_hint(
                    "types: BOOLEAN, TINYINT, SMALLINT, INTEGER, BIGINT (each also UNSIGNED), REAL, DOUBLE, DECIMAL(p,s), TEXT, \
                     BYTEA, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, JSON, VECTOR(n), type[], STRUCT(name type, …)",
                )
            }));
        }
    })
}

/// Names the parser has no type of its own for.
fn custom(
    text: &str,
    name: &datafusion::sql::sqlparser::ast::ObjectName,
    modifiers: &[String],
    depth: usize,
) -> Result<ColumnType> {
    let lower = text.to_ascii_lowercase();
    if let Some(ident) = name.0.first().and_then(|p| p.as_ident())
        && ident.quote_style.is_some()
    {
        let folded = ident.value.to_ascii_lowercase();
        if folded.starts_with("struct") {
            return folded_struct(&ident.value, depth);
        }
        if folded.starts_with("timestamptz") {
            return folded_zone(&ident.value);
        }
    }
    match lower.as_str() {
        "vector" => vector(modifiers, depth),
        "halfvec" => Err(unsupported("type HALFVEC", "use VECTOR(n)")),
        "utinyint" => Ok(ColumnType::UInt8),
        "usmallint" => Ok(ColumnType::UInt16),
        "uinteger" | "uint" => Ok(ColumnType::UInt32),
        "ubigint" => Ok(ColumnType::UInt64),
        "serial" | "bigserial" | "smallserial" => Err(unsupported(
            &format!("type {}", lower.to_ascii_uppercase()),
            "use BIGINT and give the values yourself",
        )),
        _ => {
            let modifiers =
                if modifiers.is_empty() { String::new() } else { format!("({})", modifiers.join(",")) };
            Err(Error::new(ErrorKind::InvalidInput, format!("type {text}{modifiers} does not exist"))
                .map(|e| e.with_sqlstate("42704")))
        }
    }
}

/// VECTOR(n), which stands alone: neither arrays nor structs hold one.
fn vector(modifiers: &[String], depth: usize) -> Result<ColumnType> {
    let [dim] = modifiers else {
        return Err(invalid("type VECTOR needs the number of its dimensions".to_owned(), "42601")
            .map(|e| e.with_hint("write VECTOR(384), say")));
    };
    if depth > 0 {
        return Err(unsupported(
            "a VECTOR inside an array or a STRUCT",
            "use a column of its own, or REAL[]",
        ));
    }
    match dim.parse::<u16>() {
        Ok(dim @ 1..=VECTOR_DIM_MAX) => Ok(ColumnType::Vector(dim)),
        _ => Err(invalid(format!("VECTOR({dim}): a vector has 1 to {VECTOR_DIM_MAX} dimensions"), "22023")),
    }
}

/// Unfolds what [`fold_types`] folded.
fn folded_struct(text: &str, depth: usize) -> Result<ColumnType> {
    let broken = || invalid(format!("{text} is not a STRUCT type"), "42601");
    let open = text.find('(').ok_or_else(broken)?;
    let inner = text[open + 1..].strip_suffix(')').ok_or_else(broken)?;
    let tokens = Tokenizer::new(&CairnDialect, inner).tokenize_with_location().map_err(|_| broken())?;
    let mut parser = Parser::new(&CairnDialect).with_tokens_with_locations(fold_types(tokens));
    let mut members = Vec::new();
    loop {
        let name = parser.parse_identifier().map_err(|_| broken())?;
        let member_type = parser.parse_data_type().map_err(|_| broken())?;
        members.push((name_of(&name), at_depth(&member_type, depth + 1)?));
        match parser.next_token().token {
            Token::Comma => {}
            Token::EOF => break,
            _ => return Err(broken()),
        }
    }
    struct_of(members)
}

/// The zone of `TIMESTAMPTZ([digits,] 'zone')`.
fn folded_zone(text: &str) -> Result<ColumnType> {
    let broken = || invalid(format!("{text} is not a TIMESTAMPTZ type"), "42601");
    let (head, rest) = text.split_once('\'').ok_or_else(broken)?;
    let zone = rest.rsplit_once('\'').ok_or_else(broken)?.0.replace("''", "'");
    let digits: String = head.chars().filter(char::is_ascii_digit).collect();
    let precision = if digits.is_empty() { None } else { Some(digits.parse().map_err(|_| broken())?) };
    zone.parse::<Tz>().map_err(|_| {
        invalid(
            format!("'{zone}' is not a time zone: UTC or an offset such as '+02:00' is expected"),
            "22023",
        )
    })?;
    Ok(ColumnType::TimestampTz { nanos: fraction(precision, 9, "TIMESTAMPTZ")?, zone })
}

fn struct_of(members: Vec<(String, ColumnType)>) -> Result<ColumnType> {
    if members.is_empty() || members.len() > STRUCT_MEMBERS_MAX {
        return Err(invalid(format!("a STRUCT has 1 to {STRUCT_MEMBERS_MAX} members"), "54011"));
    }
    for (i, (name, _)) in members.iter().enumerate() {
        if members[..i].iter().any(|(earlier, _)| earlier == name) {
            return Err(invalid(format!("member {name} of a STRUCT is named twice"), "42701"));
        }
    }
    Ok(ColumnType::Struct(members))
}

fn decimal(info: ExactNumberInfo) -> Result<ColumnType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(p) => (p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (p, s),
    };
    let bad = || {
        invalid(
            format!(
                "DECIMAL({precision},{scale}): the precision is 1 to 38 and the scale 0 to the precision"
            ),
            "22023",
        )
    };
    if !(1..=38).contains(&precision) || scale < 0 || scale.unsigned_abs() > precision {
        return Err(bad());
    }
    Ok(ColumnType::Decimal {
        precision: u8::try_from(precision).map_err(|_| bad())?,
        scale: i8::try_from(scale).map_err(|_| bad())?,
    })
}

/// Whether `precision` digits of a second need nanoseconds.
fn fraction(precision: Option<u64>, max: u64, name: &str) -> Result<bool> {
    match precision {
        None => Ok(false),
        Some(p) if p > max => {
            Err(invalid(format!("{name}({p}): at most {max} digits after the second"), "22023"))
        }
        // 7 and 8 digits would be cut at µs: they need the finer unit as well.
        Some(p) => Ok(p > 6),
    }
}

fn limited_text(name: &str, length: &CharacterLength) -> Error {
    unsupported(
        &format!("{name}({length}), a text type with a length limit,"),
        "use TEXT; its length is not limited",
    )
}

fn unsupported(what: &str, hint: &str) -> Error {
    Error::not_supported_yet(what).map(|e| e.with_hint(hint))
}

fn invalid(message: String, sqlstate: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}
