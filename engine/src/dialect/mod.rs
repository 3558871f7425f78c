//! The SQL dialect: PostgreSQL's, and what Cairn adds to it.
//!
//! Owns: lexing and grammar switches, the types' names (`types`), types that the parser has no grammar for (`folded_type`),
//! their text (`type_text`), `<->` and `<+>` (`operator`), the order of an identity column's options (`identity`). Does not own: statements and lambdas (`statement`), functions (`cairn_udfs`).

mod folded_type;
mod identity;
mod operator;
mod type_text;
pub(crate) mod types;

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

pub(crate) use folded_type::fold_types;
pub(crate) use identity::order_identity_options;
pub(crate) use operator::fold_operators;
pub(crate) use type_text::type_text;

/// PostgreSQL's dialect with reads at older versions (`t VERSION AS OF n`).
#[derive(Debug)]
pub(crate) struct CairnDialect;

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

macro_rules! as_in_postgres {
    ($($name:ident),* $(,)?) => {
        $(fn $name(&self) -> bool {
            POSTGRES.$name()
        })*
    };
}

impl Dialect for CairnDialect {
    // The parser asks "is this PostgreSQL?" in places that have no switch of their own.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    // Behind another operator these begin an operand or a comment: `a >-1`, `a >=?`, `a >/* … */1`.
    fn is_custom_operator_part(&self, ch: char) -> bool {
        !matches!(ch, '?' | '+' | '-' | '*' | '/') && POSTGRES.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        // The parser reads what it cannot read once more, with the word as a name: at each level of nesting, and so that what is nested
        // too deep seems to be something else.
        matches!(keyword, Keyword::NOT | Keyword::CASE | Keyword::CAST | Keyword::TRY_CAST)
            || POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        // Names of arguments are plain names. To look for an expression the parser would read each argument twice, at each level of
        // nesting.
        false
    }

    // The parser would take every name before `->` for the parameter of a lambda, which is JSON's operator as well.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        crate::statement::lambda(parser)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        // `<=>` is an operator of vectors here and binds as the others do, tighter than a comparison.
        if parser.peek_token_ref().token == Token::Spaceship {
            return Some(Ok(self.prec_value(Precedence::PgOther)));
        }
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    // PostgreSQL's older spelling of `name => value`.
    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    // `{'a': 1}` is a struct and `MAP {'a': 1}` a map, as in DuckDB.
    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    // Geometric types have operators that begin with `?`, which is a placeholder here.
    fn supports_geometric_types(&self) -> bool {
        false
    }

    as_in_postgres! {
        supports_alter_column_type_using,
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_set_names,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::statement::parse;

    fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
        format!("SELECT {}{inner}{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn what_is_nested_is_read_once() {
        let begun = Instant::now();
        for (open, inner, close) in [
            ("replace(", "'a'", ", 'b', 'c')"),
            ("NOT (", "true", ")"),
            ("CAST(", "1", " AS BIGINT)"),
            ("CASE WHEN true THEN ", "1", " END"),
        ] {
            parse(&nested(open, inner, close, 24)).unwrap();
            let broken = parse(&nested(open, "1 +", close, 24)).unwrap_err();
            assert_eq!(broken.sqlstate(), "42601", "{open}: {}", broken.message());
            let deep = parse(&nested(open, inner, close, 200)).unwrap_err();
            assert_eq!(deep.sqlstate(), "54001", "{open}: {}", deep.message());
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
        parse("SELECT f(a, k => 1)").unwrap();
    }
}
