//! The grammar of SHOW.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::job::for_table;
use super::place::position_of;
use super::precedence;
use super::setting::setting_name;
use super::token::{syntax, take, unexpected};
use super::{Show, Statement};
use crate::error::Result;

/// SHOW, which comes next.
pub(super) fn show(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let token = parser.peek_token();
    let Token::Word(word) = &token.token else { return Err(unexpected("what to show", &token)) };
    let place = position_of(token.span.start);
    let shown = match word.value.to_ascii_uppercase().as_str() {
        "TABLES" => {
            parser.next_token();
            let schema = if take(parser, "FROM") || take(parser, "IN") {
                Some(parser.parse_identifier().map_err(syntax)?)
            } else {
                None
            };
            Show::Tables { schema }
        }
        "SCHEMAS" => {
            parser.next_token();
            Show::Schemas
        }
        "COLUMNS" => {
            parser.next_token();
            if !take(parser, "FROM") && !take(parser, "IN") {
                return Err(unexpected("FROM", &parser.peek_token()));
            }
            Show::Columns(parser.parse_object_name(false).map_err(syntax)?)
        }
        "CREATE" => {
            parser.next_token();
            if !take(parser, "TABLE") && !take(parser, "VIEW") {
                return Err(unexpected("TABLE or VIEW", &parser.peek_token()));
            }
            Show::Create(parser.parse_object_name(false).map_err(syntax)?)
        }
        "VERSIONS" => {
            parser.next_token();
            Show::Versions
        }
        "COMMIT" => {
            parser.next_token();
            let token = parser.next_token();
            match &token.token {
                Token::SingleQuotedString(id) => Show::Commit(id.clone(), position_of(token.span.start)),
                _ => return Err(unexpected("the id of a commit in single quotes", &token)),
            }
        }
        "FUNCTIONS" => {
            parser.next_token();
            Show::Functions
        }
        "SECRETS" => {
            parser.next_token();
            Show::Secrets
        }
        "JOBS" => {
            parser.next_token();
            let table = for_table(parser)?;
            let like = if take(parser, "LIKE") {
                Some(parser.parse_literal_string().map_err(syntax)?)
            } else {
                None
            };
            let mut filter = None;
            if take(parser, "WHERE") {
                let mut expr = parser.parse_expr().map_err(syntax)?;
                precedence::settle_within(&mut expr);
                filter = Some(Box::new(expr));
            }
            Show::Jobs { table, like, filter }
        }
        "STATS" => {
            parser.next_token();
            let mut table = None;
            if take(parser, "FOR") {
                if !take(parser, "TABLE") {
                    return Err(unexpected("TABLE", &parser.peek_token()));
                }
                table = Some(parser.parse_object_name(false).map_err(syntax)?);
            }
            Show::Stats { table }
        }
        "ALL" => {
            parser.next_token();
            Show::All
        }
        _ => Show::Setting(setting_name(parser)?, place),
    };
    Ok(Statement::Show(shown))
}
