//! Session options, which arrow-flight has no messages for.
//!
//! Owns: the messages (Flight.proto: SetSessionOptions, GetSessionOptions, CloseSession), and what options mean here:
//! `catalog`, `schema`, and every setting that SET knows.

use std::collections::HashMap;

use cairn_engine::{Error, Output, Result, Session};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::{Array, AsArray};
use futures::StreamExt;
use prost::Message;

use crate::session::SqlSession;

/// The current database.
const CATALOG: &str = "catalog";
/// The schema that unqualified names resolve in.
const SCHEMA: &str = "schema";

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(enumeration = "ErrorValue", tag = "1")]
    value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringList),
}

#[derive(Clone, PartialEq, Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseSessionResult {
    #[prost(enumeration = "CloseStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum CloseStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}

impl CloseSessionResult {
    /// The session is closed.
    pub(super) fn closed() -> Self {
        Self { status: CloseStatus::Closed.into() }
    }
}

/// Sets every option that can be set and says which can't.
///
/// # Errors
/// What has nothing to do with one option.
pub(super) async fn set(
    sql: &SqlSession,
    request: SetSessionOptionsRequest,
) -> Result<SetSessionOptionsResult> {
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        if let Err(error) = set_one(sql, &name, value.value).await {
            let value = match error.kind() {
                ErrorKind::NotFound if error.sqlstate() == "42704" => ErrorValue::InvalidName,
                ErrorKind::InvalidInput | ErrorKind::NotFound => ErrorValue::InvalidValue,
                _ => ErrorValue::Error,
            };
            errors.insert(name, OptionError { value: value.into() });
        }
    }
    Ok(SetSessionOptionsResult { errors })
}

async fn set_one(sql: &SqlSession, name: &str, value: Option<OptionValue>) -> Result<()> {
    let text = match value {
        None => None,
        Some(OptionValue::String(text)) => Some(text),
        Some(OptionValue::Bool(value)) => Some(value.to_string()),
        Some(OptionValue::Int64(value)) => Some(value.to_string()),
        Some(OptionValue::Double(value)) => Some(value.to_string()),
        Some(OptionValue::StringList(list)) => Some(list.values.join(",")),
    };
    let setting = match name {
        CATALOG => {
            return match text {
                Some(catalog) if catalog != Session::catalog_name() => {
                    Err(Error::new(ErrorKind::InvalidInput, format!("there is no database {catalog} here")))
                }
                _ => Ok(()),
            };
        }
        SCHEMA => "search_path",
        // A name goes into a statement; ours are words with dots.
        name if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) => name,
        name => {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no setting {name}"))
                .map(|e| e.with_sqlstate("42704")));
        }
    };
    let statement = match text {
        Some(text) => format!("SET {setting} = '{}'", text.replace('\'', "''")),
        None => format!("RESET {setting}"),
    };
    sql.execute(&statement, None).await.map(|_| ())
}

/// Every option with its value.
///
/// # Errors
/// As SHOW ALL.
pub(super) async fn get(sql: &SqlSession) -> Result<GetSessionOptionsResult> {
    let text = |text: &str| SessionOptionValue { value: Some(OptionValue::String(text.to_owned())) };
    let mut session_options = HashMap::from([
        (CATALOG.to_owned(), text(Session::catalog_name())),
        (SCHEMA.to_owned(), text(&sql.engine().search_path())),
    ]);
    if let Output::Rows(mut rows) = sql.execute("SHOW ALL", None).await? {
        while let Some(batch) = rows.stream.next().await {
            let batch = batch?;
            let (names, values) = (batch.column(0).as_string_view(), batch.column(1).as_string_view());
            for row in 0..names.len() {
                session_options.insert(names.value(row).to_owned(), text(values.value(row)));
            }
        }
    }
    Ok(GetSessionOptionsResult { session_options })
}
