//! `GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY [(options)]` of a column.
//!
//! Owns: what the options may be, and the text that says them again. Does not own: the numbers (storage), who may give others (`dml`).

use cairn_storage::id::ColumnId;
use cairn_storage::schema::{ColumnDef, ColumnType, IdentityDef, TableDef};
use datafusion::sql::sqlparser::ast::{Expr, GeneratedAs, SequenceOptions};

use super::invalid;
use crate::error::{Error, Result};

/// The smallest and the largest number of a column's type; None: it holds no whole numbers.
fn range(column_type: &ColumnType) -> Option<(i64, i64)> {
    Some(match column_type {
        ColumnType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        ColumnType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        ColumnType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        ColumnType::Int64 => (i64::MIN, i64::MAX),
        ColumnType::UInt8 => (0, u8::MAX.into()),
        ColumnType::UInt16 => (0, u16::MAX.into()),
        ColumnType::UInt32 => (0, u32::MAX.into()),
        // Numbers are signed, whatever the column is.
        ColumnType::UInt64 => (0, i64::MAX),
        _ => return None,
    })
}

/// The bounds that nobody has to say.
fn usual_bounds((lowest, highest): (i64, i64), increment: i64) -> (i64, i64) {
    match increment > 0 {
        true => (1, highest),
        false if lowest < 0 => (lowest, -1),
        false => (lowest, highest),
    }
}

/// The identity of a column called `name` as written.
///
/// # Errors
/// 22023 for a column that holds no whole numbers, and for options that contradict each other or the column's type; 0A000 for CYCLE and CACHE.
pub(super) fn identity(
    (column, name): (ColumnId, &str),
    column_type: &ColumnType,
    generated_as: GeneratedAs,
    options: &[SequenceOptions],
) -> Result<IdentityDef> {
    let Some((lowest, highest)) = range(column_type) else {
        return Err(invalid("22023", format!("column {name} of type {column_type} cannot be an IDENTITY"))
            .map(|e| e.with_hint("an IDENTITY column holds whole numbers: SMALLINT, INTEGER, BIGINT")));
    };
    let always = match generated_as {
        GeneratedAs::Always => true,
        GeneratedAs::ByDefault => false,
        GeneratedAs::ExpStored => return Err(Error::not_supported_yet("GENERATED … STORED")),
    };
    let (mut start, mut increment, mut min, mut max) = (None, 1, None, None);
    for option in options {
        match option {
            SequenceOptions::StartWith(value, _) => start = Some(number("START WITH", value)?),
            SequenceOptions::IncrementBy(value, _) => increment = number("INCREMENT BY", value)?,
            SequenceOptions::MinValue(value) => {
                min = value.as_ref().map(|value| number("MINVALUE", value)).transpose()?;
            }
            SequenceOptions::MaxValue(value) => {
                max = value.as_ref().map(|value| number("MAXVALUE", value)).transpose()?;
            }
            // What there is: no number is put aside.
            SequenceOptions::Cache(value) if number("CACHE", value)? == 1 => {}
            SequenceOptions::Cache(_) => return Err(Error::not_supported_yet("CACHE of an IDENTITY column")),
            // Its argument says NO.
            SequenceOptions::Cycle(true) => {}
            SequenceOptions::Cycle(false) => {
                return Err(Error::not_supported_yet("CYCLE of an IDENTITY column")
                    .map(|e| e.with_hint("no number is given twice")));
            }
        }
    }
    if increment == 0 {
        return Err(invalid("22023", format!("INCREMENT BY of column {name} must not be 0")));
    }
    let usual = usual_bounds((lowest, highest), increment);
    let (min, max) = (min.unwrap_or(usual.0), max.unwrap_or(usual.1));
    for (option, value) in [("MINVALUE", min), ("MAXVALUE", max)] {
        if !(lowest..=highest).contains(&value) {
            let message = format!("{option} {value} is out of range for column {name} of type {column_type}");
            return Err(invalid("22023", message));
        }
    }
    if min >= max {
        let message = format!("MINVALUE {min} of column {name} must be less than MAXVALUE {max}");
        return Err(invalid("22023", message));
    }
    let start = start.unwrap_or(if increment > 0 { min } else { max });
    if !(min..=max).contains(&start) {
        let message = format!("START WITH {start} of column {name} is not within {min} and {max}");
        return Err(invalid("22023", message));
    }
    Ok(IdentityDef { column, always, start, increment, min, max })
}

fn number(option: &str, value: &Expr) -> Result<i64> {
    let text = value.to_string();
    text.strip_prefix('+').unwrap_or(&text).parse().map_err(|_| {
        invalid("22023", format!("{option} takes a whole number of 64 bits with sign, not {text}"))
    })
}

/// The same numbers of a column whose type becomes a wider one: as far as that goes, where they went as far as the one before.
pub(super) fn widened(identity: IdentityDef, before: &ColumnType, after: &ColumnType) -> IdentityDef {
    let mut next = identity;
    if let (Some(before), Some(after)) = (range(before), range(after)) {
        match identity.increment > 0 {
            true if identity.max == before.1 => next.max = after.1,
            false if identity.min == before.0 => next.min = after.0,
            _ => {}
        }
    }
    next
}

/// What makes it again: `GENERATED BY DEFAULT AS IDENTITY`, with the options that are not the usual ones of its type.
pub(crate) fn identity_text(identity: &IdentityDef, column_type: &ColumnType) -> String {
    let usual = usual_bounds(range(column_type).unwrap_or((i64::MIN, i64::MAX)), identity.increment);
    let first = if identity.increment > 0 { identity.min } else { identity.max };
    let options = [
        ("START WITH", identity.start, first),
        ("INCREMENT BY", identity.increment, 1),
        ("MINVALUE", identity.min, usual.0),
        ("MAXVALUE", identity.max, usual.1),
    ];
    let said: Vec<String> = options
        .iter()
        .filter(|(_, value, usual)| value != usual)
        .map(|(option, value, _)| format!("{option} {value}"))
        .collect();
    let text = format!("GENERATED {} AS IDENTITY", kind(identity));
    if said.is_empty() { text } else { format!("{text} ({})", said.join(" ")) }
}

/// What a column of `def` gets when nothing is given for it, as text: its default, or that it is an identity. None: NULL.
pub(crate) fn value_unless_given(def: &TableDef, column: &ColumnDef) -> Option<String> {
    match def.identity.filter(|identity| identity.column == column.id) {
        Some(identity) => Some(identity_text(&identity, &column.column_type)),
        None => column.default.clone(),
    }
}

/// `ALWAYS` or `BY DEFAULT`.
pub(crate) fn kind(identity: &IdentityDef) -> &'static str {
    if identity.always { "ALWAYS" } else { "BY DEFAULT" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::ast::ColumnOption;

    use super::*;
    use crate::statement::{Statement, parse};

    fn read(column_type: &ColumnType, written: &str) -> Result<IdentityDef> {
        let Statement::CreateTable(table) = parse(&format!("CREATE TABLE t (a BIGINT {written})"))? else {
            panic!("{written} makes no table")
        };
        let ColumnOption::Generated { generated_as, sequence_options: Some(options), .. } =
            &table.columns[0].options[0].option
        else {
            panic!("{written} is no identity")
        };
        identity((ColumnId(1), "a"), column_type, *generated_as, options)
    }

    #[test]
    fn text_says_it_again() {
        for (column_type, text) in [
            (ColumnType::Int64, "GENERATED ALWAYS AS IDENTITY"),
            (ColumnType::Int16, "GENERATED BY DEFAULT AS IDENTITY"),
            (ColumnType::UInt64, "GENERATED BY DEFAULT AS IDENTITY (START WITH 7)"),
            (ColumnType::Int64, "GENERATED ALWAYS AS IDENTITY (START WITH -5 INCREMENT BY -2)"),
            (ColumnType::UInt8, "GENERATED ALWAYS AS IDENTITY (START WITH 9 INCREMENT BY -2 MAXVALUE 10)"),
            (
                ColumnType::Int32,
                "GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 10 MINVALUE -3 MAXVALUE 90)",
            ),
        ] {
            let identity = read(&column_type, text).unwrap();
            assert_eq!(identity_text(&identity, &column_type), text);
            assert_eq!(read(&column_type, &identity_text(&identity, &column_type)).unwrap(), identity);
        }
    }

    #[test]
    fn options_stand_in_any_order() {
        let dumped = "GENERATED BY DEFAULT AS IDENTITY (START WITH +3 INCREMENT 2 NO MINVALUE NO MAXVALUE CACHE 1 NO CYCLE)";
        let identity = read(&ColumnType::Int32, dumped).unwrap();
        assert_eq!((identity.start, identity.increment, identity.min), (3, 2, 1));
        assert_eq!((identity.max, identity.always), (i32::MAX.into(), false));
    }

    #[test]
    fn contradictions_are_named() {
        for (options, what) in [
            ("INCREMENT BY 0", "INCREMENT BY"),
            ("START WITH 0", "START WITH 0"),
            ("START WITH 9223372036854775808", "64 bits"),
            ("START WITH 1.5", "START WITH"),
            ("MAXVALUE 40000", "MAXVALUE 40000 is out of range"),
            ("MINVALUE 5 MAXVALUE 5", "MINVALUE 5"),
            ("CACHE 20", "CACHE"),
            ("CYCLE", "CYCLE"),
        ] {
            let written = format!("GENERATED ALWAYS AS IDENTITY ({options})");
            let error = read(&ColumnType::Int16, &written).unwrap_err();
            assert!(["22023", "0A000"].contains(&error.sqlstate()), "{options}: {error}");
            assert!(error.message().contains(what), "{options}: {error}");
        }
        assert_eq!(read(&ColumnType::Text, "GENERATED ALWAYS AS IDENTITY").unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn a_wider_type_has_more_numbers() {
        let small = read(&ColumnType::Int16, "GENERATED ALWAYS AS IDENTITY").unwrap();
        assert_eq!(widened(small, &ColumnType::Int16, &ColumnType::Int64).max, i64::MAX);
        let bounded = read(&ColumnType::Int16, "GENERATED ALWAYS AS IDENTITY (MAXVALUE 9)").unwrap();
        assert_eq!(widened(bounded, &ColumnType::Int16, &ColumnType::Int64), bounded);
    }
}
