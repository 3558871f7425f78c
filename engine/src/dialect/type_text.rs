//! A column's type as SQL that reads back as the same type: the other direction of `types`.

use cairn_storage::schema::ColumnType;

use crate::session::identifier;

/// `column_type` as it is written in CREATE TABLE.
pub(crate) fn type_text(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::List(item) => format!("{}[]", type_text(item)),
        ColumnType::Struct(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, t)| format!("{} {}", identifier(name), type_text(t))).collect();
            format!("STRUCT({})", members.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::parser::Parser;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;
    use crate::dialect::types::column_type;
    use crate::dialect::{CairnDialect, fold_types};

    #[test]
    fn reads_back() {
        let zoned = |nanos| ColumnType::TimestampTz { nanos, zone: "+05:30".into() };
        let members = vec![("a b".to_owned(), zoned(true)), ("plain".to_owned(), ColumnType::Json)];
        for t in [
            zoned(false),
            zoned(true),
            ColumnType::TimestampTz { nanos: true, zone: "UTC".into() },
            ColumnType::List(Box::new(zoned(false))),
            ColumnType::List(Box::new(ColumnType::Struct(members.clone()))),
            ColumnType::Struct(vec![("inner".into(), ColumnType::Struct(members))]),
            ColumnType::UInt8,
            ColumnType::Decimal { precision: 10, scale: 2 },
        ] {
            let text = format!("c {}", type_text(&t));
            let tokens = Tokenizer::new(&CairnDialect, &text).tokenize_with_location().unwrap();
            let mut parser = Parser::new(&CairnDialect).with_tokens_with_locations(fold_types(tokens));
            parser.parse_identifier().unwrap();
            let parsed = parser.parse_data_type().unwrap();
            assert_eq!(column_type(&parsed).unwrap(), t, "{text}");
        }
    }
}
