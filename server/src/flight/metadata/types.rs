//! The types a column can have, as ODBC and JDBC count them.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;

use super::unbuilt;

/// How literals of a type are written, and what of it ODBC asks.
#[derive(Clone, Copy)]
enum Family {
    /// Bits, whether unsigned.
    Whole(i32, bool),
    /// Bits.
    Float(i32),
    Decimal,
    Text,
    Bytes,
    Moment(XdbcDatetimeSubcode, i32),
    /// No type of ODBC's.
    Other,
}

/// ODBC gives DATE the number that this enum names YEAR.
const DATE_SUBCODE: XdbcDatetimeSubcode = XdbcDatetimeSubcode::XdbcSubcodeYear;

/// Name, ODBC's type, family.
const TYPES: &[(&str, XdbcDataType, Family)] = &[
    ("BOOLEAN", XdbcDataType::XdbcBit, Family::Other),
    ("TINYINT", XdbcDataType::XdbcTinyint, Family::Whole(8, false)),
    ("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, Family::Whole(8, true)),
    ("SMALLINT", XdbcDataType::XdbcSmallint, Family::Whole(16, false)),
    ("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, Family::Whole(16, true)),
    ("INTEGER", XdbcDataType::XdbcInteger, Family::Whole(32, false)),
    ("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, Family::Whole(32, true)),
    ("BIGINT", XdbcDataType::XdbcBigint, Family::Whole(64, false)),
    ("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, Family::Whole(64, true)),
    ("REAL", XdbcDataType::XdbcReal, Family::Float(24)),
    ("DOUBLE", XdbcDataType::XdbcDouble, Family::Float(53)),
    ("DECIMAL", XdbcDataType::XdbcDecimal, Family::Decimal),
    ("TEXT", XdbcDataType::XdbcVarchar, Family::Text),
    ("JSON", XdbcDataType::XdbcLongvarchar, Family::Text),
    ("BYTEA", XdbcDataType::XdbcVarbinary, Family::Bytes),
    ("DATE", XdbcDataType::XdbcDate, Family::Moment(DATE_SUBCODE, 10)),
    ("TIME", XdbcDataType::XdbcTime, Family::Moment(XdbcDatetimeSubcode::XdbcSubcodeTime, 15)),
    ("TIMESTAMP", XdbcDataType::XdbcTimestamp, Family::Moment(XdbcDatetimeSubcode::XdbcSubcodeTimestamp, 26)),
    (
        "TIMESTAMPTZ",
        XdbcDataType::XdbcTimestamp,
        Family::Moment(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone, 32),
    ),
    ("VECTOR", XdbcDataType::XdbcUnknownType, Family::Other),
    ("ARRAY", XdbcDataType::XdbcUnknownType, Family::Other),
    ("STRUCT", XdbcDataType::XdbcUnknownType, Family::Other),
];

/// Digits a DECIMAL can have.
const DECIMAL_DIGITS: i32 = 38;
/// Digits behind the point of a second.
const SECOND_DIGITS: i32 = 6;

static INFO: LazyLock<std::result::Result<XdbcTypeInfoData, String>> = LazyLock::new(|| {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, family) in TYPES {
        builder.append(describe(name, *data_type, *family));
    }
    builder.build().map_err(|error| error.to_string())
});

fn describe(name: &str, data_type: XdbcDataType, family: Family) -> XdbcTypeInfo {
    let mut info = XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size: None,
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: None,
        local_type_name: Some(name.to_owned()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: data_type,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    };
    let mut quote = |with: &str| {
        info.literal_prefix = Some(with.to_owned());
        info.literal_suffix = Some("'".to_owned());
    };
    match family {
        Family::Text => {
            quote("'");
            info.case_sensitive = true;
        }
        Family::Bytes => quote("X'"),
        Family::Moment(subcode, size) => {
            quote("'");
            info.sql_data_type = XdbcDataType::XdbcDatetime;
            info.datetime_subcode = Some(subcode);
            info.column_size = Some(size);
            if data_type != XdbcDataType::XdbcDate {
                (info.minimum_scale, info.maximum_scale) = (Some(0), Some(SECOND_DIGITS));
            }
        }
        Family::Whole(bits, unsigned) => {
            info.column_size = Some(bits);
            info.num_prec_radix = Some(2);
            info.unsigned_attribute = Some(unsigned);
            (info.minimum_scale, info.maximum_scale) = (Some(0), Some(0));
            // A column of it can be an IDENTITY.
            info.auto_increment = Some(true);
        }
        Family::Float(bits) => {
            info.column_size = Some(bits);
            info.num_prec_radix = Some(2);
            info.unsigned_attribute = Some(false);
            info.auto_increment = Some(false);
        }
        Family::Decimal => {
            info.column_size = Some(DECIMAL_DIGITS);
            info.num_prec_radix = Some(10);
            info.unsigned_attribute = Some(false);
            info.create_params = Some(vec!["precision".to_owned(), "scale".to_owned()]);
            (info.minimum_scale, info.maximum_scale) = (Some(0), Some(DECIMAL_DIGITS));
            info.auto_increment = Some(false);
        }
        Family::Other => {}
    }
    info
}

pub(super) fn rows(wanted: CommandGetXdbcTypeInfo) -> Result<RecordBatch> {
    let info = INFO.as_ref().map_err(|error| Error::new(ErrorKind::Internal, error))?;
    wanted.into_builder(info).build().map_err(unbuilt)
}
