//! Values of the model, their literals, and how they are read back from an answer.
//!
//! Owns: the types the model knows. Each has one form here, and the order of forms is the order of values: dates, timestamps
//! and bytes are texts that sort as they do, doubles are quarters and decimals hundredths, so that every sum is exact.
//! Does not own: NaN, infinity and the ends of ranges (`logic` has those).

use rand::Rng;
use rand::rngs::StdRng;

use super::one_of;

/// A column type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SqlType {
    /// BOOLEAN
    Boolean,
    /// SMALLINT
    SmallInt,
    /// INTEGER
    Integer,
    /// BIGINT
    BigInt,
    /// DOUBLE, of quarters only.
    Double,
    /// DECIMAL(12,2)
    Decimal,
    /// TEXT
    Text,
    /// DATE
    Date,
    /// TIMESTAMP
    Timestamp,
    /// BYTEA
    Bytes,
    /// VECTOR(2), of whole numbers only.
    Vector,
}

/// A value. `Null` is less than all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// NULL
    Null,
    /// A BOOLEAN.
    Boolean(bool),
    /// An integer of any width.
    Integer(i64),
    /// A DOUBLE, in quarters.
    Double(i64),
    /// A DECIMAL, in hundredths.
    Decimal(i64),
    /// A TEXT.
    Text(String),
    /// `2024-02-29`
    Date(String),
    /// `2024-02-29 12:34:56.000000`
    Timestamp(String),
    /// Two digits a byte.
    Bytes(String),
    /// Components.
    Vector(Vec<i32>),
}

const TEXTS: [&str; 9] =
    ["", "a", "b", "ab", "Ab", "äb", "世界", "it's", "a text that is longer than twelve bytes"];
const DATES: [&str; 5] = ["1969-12-31", "1970-01-01", "2023-12-31", "2024-02-29", "2024-03-01"];
const TIMESTAMPS: [&str; 4] = [
    "1969-12-31 23:59:59.500000",
    "1970-01-01 00:00:00.000000",
    "2024-02-29 12:34:56.000000",
    "2024-02-29 12:34:56.123456",
];
const BYTES: [&str; 4] = ["", "00", "00ff10", "61"];

impl SqlType {
    /// Its name in SQL.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::SmallInt => "SMALLINT",
            Self::Integer => "INTEGER",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Decimal => "DECIMAL(12,2)",
            Self::Text => "TEXT",
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
            Self::Bytes => "BYTEA",
            Self::Vector => "VECTOR(2)",
        }
    }

    /// Whether rows can be grouped by it and its least and greatest value asked for.
    #[must_use]
    pub fn has_extremes(self) -> bool {
        !matches!(self, Self::Boolean | Self::Bytes | Self::Vector)
    }

    /// A value of it, never NULL; few of each type, so that they meet.
    pub fn any(self, random: &mut StdRng) -> Value {
        match self {
            Self::Boolean => Value::Boolean(random.random_bool(0.5)),
            Self::SmallInt | Self::Integer => Value::Integer(random.random_range(-3..12)),
            Self::BigInt if random.random_bool(0.1) => Value::Integer(random.random_range(-1000..1000)),
            Self::BigInt => Value::Integer(random.random_range(-3..30)),
            Self::Double => Value::Double(random.random_range(-8..40)),
            Self::Decimal => Value::Decimal(random.random_range(-200..2000)),
            Self::Text => Value::Text((*one_of(random, &TEXTS)).to_owned()),
            Self::Date => Value::Date((*one_of(random, &DATES)).to_owned()),
            Self::Timestamp => Value::Timestamp((*one_of(random, &TIMESTAMPS)).to_owned()),
            Self::Bytes => Value::Bytes((*one_of(random, &BYTES)).to_owned()),
            Self::Vector => Value::Vector(vec![random.random_range(-5..6), random.random_range(-5..6)]),
        }
    }

    /// Reads a cell of an answer (`answer::render`).
    ///
    /// # Errors
    /// When it is no value of this type that the model has.
    pub fn read(self, cell: &str) -> Result<Value, String> {
        if cell == "NULL" {
            return Ok(Value::Null);
        }
        let text = if cell == "(empty)" { "" } else { cell };
        let wrong = || format!("{cell:?} is no {}", self.sql());
        let scaled = |scale: f64| {
            let number: f64 = text.parse().map_err(|_| wrong())?;
            let scaled = (number * scale).round();
            // A quarter and a small hundredth come back exactly, or something is wrong with them.
            if (scaled / scale - number).abs() > 1e-9 || scaled.abs() > 1e12 {
                return Err(wrong());
            }
            Ok(scaled as i64)
        };
        Ok(match self {
            Self::Boolean => Value::Boolean(text.parse().map_err(|_| wrong())?),
            Self::SmallInt | Self::Integer | Self::BigInt => {
                Value::Integer(text.parse().map_err(|_| wrong())?)
            }
            Self::Double => Value::Double(scaled(4.0)?),
            Self::Decimal => Value::Decimal(scaled(100.0)?),
            Self::Text => Value::Text(text.to_owned()),
            Self::Date => Value::Date(text.to_owned()),
            Self::Timestamp => Value::Timestamp(with_microseconds(text)),
            Self::Bytes => Value::Bytes(text.to_ascii_lowercase()),
            Self::Vector => {
                let inside = text.trim_start_matches('[').trim_end_matches(']');
                let components: Result<Vec<i32>, String> = inside
                    .split(',')
                    .map(|part| match part.trim().parse::<f64>() {
                        Ok(number) if number.fract() == 0.0 => Ok(number as i32),
                        _ => Err(wrong()),
                    })
                    .collect();
                Value::Vector(components?)
            }
        })
    }
}

/// With a space in the middle and six digits behind the point.
fn with_microseconds(text: &str) -> String {
    let text = text.replace('T', " ");
    match text.split_once('.') {
        None => format!("{text}.000000"),
        Some((whole, fraction)) => format!("{whole}.{fraction:0<6}"),
    }
}

impl Value {
    /// Whether it is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// As a literal of SQL.
    #[must_use]
    pub fn literal(&self) -> String {
        match self {
            Self::Null => "NULL".into(),
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Double(quarters) => format!("{:?}", *quarters as f64 / 4.0),
            Self::Decimal(hundredths) => {
                let sign = if *hundredths < 0 { "-" } else { "" };
                let digits = hundredths.unsigned_abs();
                format!("{sign}{}.{:02}", digits / 100, digits % 100)
            }
            Self::Text(text) => quoted(text),
            Self::Date(text) => format!("DATE '{text}'"),
            Self::Timestamp(text) => format!("TIMESTAMP '{text}'"),
            Self::Bytes(digits) => format!("X'{digits}'"),
            Self::Vector(components) => {
                let components: Vec<String> = components.iter().map(i32::to_string).collect();
                format!("'[{}]'", components.join(","))
            }
        }
    }

    /// As a part of an expression: typed where it is NULL, in brackets where it has a sign.
    #[must_use]
    pub fn operand(&self, sql_type: SqlType) -> String {
        let text = self.literal();
        match self {
            Self::Null => format!("CAST(NULL AS {})", sql_type.sql()),
            _ if text.starts_with('-') => format!("({text})"),
            _ => text,
        }
    }
}

/// A text literal.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_shown() {
        for (sql_type, cell, value) in [
            (SqlType::BigInt, "-5", Value::Integer(-5)),
            (SqlType::Double, "-0.25", Value::Double(-1)),
            (SqlType::Decimal, "12.30", Value::Decimal(1230)),
            (SqlType::Text, "(empty)", Value::Text(String::new())),
            (SqlType::Date, "NULL", Value::Null),
            (SqlType::Timestamp, "1969-12-31T23:59:59.5", Value::Timestamp(TIMESTAMPS[0].into())),
            (SqlType::Timestamp, "1970-01-01 00:00:00", Value::Timestamp(TIMESTAMPS[1].into())),
            (SqlType::Vector, "[1, -2.0]", Value::Vector(vec![1, -2])),
        ] {
            assert_eq!(sql_type.read(cell), Ok(value));
        }
        assert!(SqlType::Double.read("0.1").is_err());
    }

    #[test]
    fn literals_say_their_values() {
        assert_eq!(Value::Decimal(-5).literal(), "-0.05");
        assert_eq!(Value::Double(8).literal(), "2.0");
        assert_eq!(Value::Text("it's".into()).literal(), "'it''s'");
        assert_eq!(Value::Integer(-1).operand(SqlType::BigInt), "(-1)");
    }
}
