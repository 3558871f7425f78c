//! Texts as SQL: `quote_literal`, `quote_ident`, and `format`, all of PostgreSQL.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::{formatter, write_value};
use crate::function::{Call, Kind, Spec, TextRows, invalid};

/// Characters that a field of `format` or `printf` may be wide, and digits it may have.
pub(super) const WIDTH_MAX: usize = 1_000;

pub(super) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "quote_literal(value)",
            &[&[Kind::Any]],
            |_| DataType::Utf8View,
            |call| quoted(call, None),
            "The value as a literal of SQL, in quotes; NULL of NULL.",
            "SELECT quote_literal('it''s')  -- 'it''s'",
        ),
        Spec::new(
            "quote_nullable(value)",
            &[&[Kind::Any]],
            |_| DataType::Utf8View,
            |call| quoted(call, Some("NULL")),
            "As quote_literal; the word NULL of NULL.",
            "SELECT quote_nullable(NULL)  -- NULL",
        ),
        Spec::new(
            "quote_ident(name)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    Ok(texts.at(row).map(|text| ident(text, out)).is_some())
                })
            },
            "The name as SQL has it, in quotes unless it is lower-case letters, digits and _ .",
            "SELECT quote_ident('My table')  -- \"My table\"",
        ),
        Spec::new(
            "format(format, value, …)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            format,
            "The format with values in place of %s, as SQL literals of %L, as SQL names of %I; %2$s takes the second value, %-10s is 10 wide with the text on the \
             left, %% is %. This is PostgreSQL's; printf has more kinds of numbers.",
            "SELECT format('%s of %I', 3, 'My table')  -- 3 of \"My table\"",
        )
        .and_more(Kind::Any),
    ]
}

fn literal(text: &str, out: &mut String) {
    // A backslash needs the form that knows escapes.
    if text.contains('\\') {
        out.push('E');
    }
    out.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
}

fn ident(text: &str, out: &mut String) {
    let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&text);
    if is_plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if c == '"' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('"');
}

/// Words that are no names without quotes; more than needed do no harm.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "cross",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "in",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "primary",
    "qualify",
    "references",
    "returning",
    "right",
    "select",
    "set",
    "some",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
];

fn quoted(call: &Call<'_>, null: Option<&str>) -> Result<ArrayRef> {
    let values = call.values(0)?;
    let formatter = formatter(values.array())?;
    let mut text = String::new();
    TextRows::written(call, |row, out| {
        text.clear();
        if write_value(&formatter, &values, row, &mut text)? {
            literal(&text, out);
            return Ok(true);
        }
        out.push_str(null.unwrap_or_default());
        Ok(null.is_some())
    })
}

/// One field of a format: `%[position$][-][width](s|I|L)`.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// From 1; None: the next one.
    position: Option<usize>,
    width: usize,
    is_left: bool,
    kind: char,
}

/// The field that `rest`, which is behind a `%`, begins with, and how many bytes it has.
fn field(rest: &str) -> Result<(Field, usize)> {
    let number = |from: usize| {
        let digits = rest[from..].bytes().take_while(u8::is_ascii_digit).count();
        (rest[from..from + digits].parse::<usize>().ok(), digits)
    };
    let mut at = 0;
    let mut position = None;
    let (given, digits) = number(0);
    if digits > 0 && rest[digits..].starts_with('$') {
        position = Some(given.filter(|position| *position > 0).ok_or_else(|| bad("values count from 1"))?);
        at = digits + 1;
    }
    let is_left = rest[at..].starts_with('-');
    at += usize::from(is_left);
    let (width, digits) = number(at);
    let width = if digits == 0 { 0 } else { width.unwrap_or(usize::MAX) };
    at += digits;
    if width > WIDTH_MAX {
        return Err(bad(&format!("a field is at most {WIDTH_MAX} characters wide")));
    }
    match rest[at..].chars().next() {
        Some(kind @ ('s' | 'I' | 'L')) => Ok((Field { position, width, is_left, kind }, at + 1)),
        Some(other) => Err(bad(&format!("there is no %{other}; there are %s, %I, %L and %%"))),
        None => Err(bad("it ends in the middle of a field")),
    }
}

fn bad(why: &str) -> datafusion::error::DataFusionError {
    invalid("22023", format!("the format cannot be used: {why}"))
}

/// `text` behind `out`, filled up with blanks to `width` characters.
pub(super) fn pad(text: &str, width: usize, is_left: bool, out: &mut String) {
    let blanks = width.saturating_sub(text.chars().count());
    if is_left {
        out.push_str(text);
    }
    out.extend(std::iter::repeat_n(' ', blanks));
    if !is_left {
        out.push_str(text);
    }
}

fn format(call: &Call<'_>) -> Result<ArrayRef> {
    let formats = call.texts(0)?;
    let values = (1..call.len()).map(|at| call.values(at)).collect::<Result<Vec<_>>>()?;
    let formatters = values.iter().map(|values| formatter(values.array())).collect::<Result<Vec<_>>>()?;
    let (mut value, mut shown) = (String::new(), String::new());
    TextRows::written(call, |row, out| {
        let Some(format) = formats.at(row) else { return Ok(false) };
        let (mut rest, mut next) = (format, 1);
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('%') {
                out.push('%');
                rest = behind;
                continue;
            }
            let (field, bytes) = field(rest)?;
            rest = &rest[bytes..];
            let position = field.position.unwrap_or(next);
            next = position.saturating_add(1);
            let (Some(values), Some(formatter)) = (values.get(position - 1), formatters.get(position - 1))
            else {
                return Err(bad(&format!("there is no value {position}")));
            };
            value.clear();
            shown.clear();
            let there = write_value(formatter, values, row, &mut value)?;
            match field.kind {
                'L' if there => literal(&value, &mut shown),
                'L' => shown.push_str("NULL"),
                'I' if there => ident(&value, &mut shown),
                'I' => return Err(invalid("22004", "NULL is no name: %I of format")),
                _ => shown.push_str(&value),
            }
            pad(&shown, field.width, field.is_left, out);
            if out.len() as u64 > call.limit() {
                return Err(crate::bounded::TooLarge::error(format!(
                    "{} would make more than {} bytes",
                    call.name(),
                    call.limit()
                )));
            }
        }
        out.push_str(rest);
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn made(of: fn(&str, &mut String), text: &str) -> String {
        let mut out = String::new();
        of(text, &mut out);
        out
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(made(literal, "it's"), "'it''s'");
        assert_eq!(made(literal, r"a\b"), r"E'a\\b'");
        assert_eq!(made(ident, "plain_1"), "plain_1");
        assert_eq!((made(ident, "My"), made(ident, "a\"b")), ("\"My\"".to_owned(), "\"a\"\"b\"".to_owned()));
        assert_eq!((made(ident, "select"), made(ident, "")), ("\"select\"".to_owned(), "\"\"".to_owned()));
    }

    #[test]
    fn fields_are_read() {
        let plain = |kind| Field { position: None, width: 0, is_left: false, kind };
        assert_eq!(field("s and more").unwrap(), (plain('s'), 1));
        assert_eq!(
            field("2$-10I").unwrap(),
            (Field { position: Some(2), width: 10, is_left: true, kind: 'I' }, 6)
        );
        for wrong in ["", "d", "0$s", "99999999999999999999s", "5", "-", "1$", "→"] {
            assert!(field(wrong).is_err(), "{wrong}");
        }
    }
}
