//! The grammar of MERGE, for what the parser's own lacks: DO NOTHING and DEFAULT VALUES.
//!
//! The tree has no node for either: DO NOTHING is an UPDATE that sets no column, DEFAULT VALUES an INSERT of no row of values.

use datafusion::sql::sqlparser::ast::{
    self, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind,
    MergeUpdateExpr, OutputClause, Values, helpers::attached_token::AttachedToken,
};
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};

use super::token::{peek_is, syntax, take, unexpected};
use crate::error::{Error, Result};

/// MERGE, which comes next.
pub(super) fn merge(parser: &mut Parser<'_>) -> Result<ast::Statement> {
    let merge_token = parser.next_token().into();
    let into = take(parser, "INTO");
    let table = parser.parse_table_factor().map_err(syntax)?;
    expect(parser, "USING")?;
    let source = parser.parse_table_factor().map_err(syntax)?;
    expect(parser, "ON")?;
    let on = Box::new(parser.parse_expr().map_err(syntax)?);
    let mut clauses = Vec::new();
    while peek_is(parser, 0, "WHEN") {
        clauses.push(clause(parser)?);
    }
    if clauses.is_empty() {
        return Err(unexpected("WHEN", &parser.peek_token()));
    }
    if peek_is(parser, 0, "OUTPUT") {
        return Err(Error::not_supported_yet("OUTPUT of MERGE").map(|e| e.with_hint("write RETURNING …")));
    }
    let output = match take(parser, "RETURNING") {
        true => Some(OutputClause::Returning {
            returning_token: AttachedToken::empty(),
            select_items: parser.parse_comma_separated(Parser::parse_select_item).map_err(syntax)?,
        }),
        false => None,
    };
    let optimizer_hints = Vec::new();
    Ok(ast::Statement::Merge(Merge {
        merge_token,
        optimizer_hints,
        into,
        table,
        source,
        on,
        clauses,
        output,
    }))
}

fn clause(parser: &mut Parser<'_>) -> Result<MergeClause> {
    let when_token = parser.next_token().into();
    let is_matched = !take(parser, "NOT");
    expect(parser, "MATCHED")?;
    let clause_kind = match (is_matched, take(parser, "BY")) {
        (true, false) => MergeClauseKind::Matched,
        (false, false) => MergeClauseKind::NotMatched,
        (false, true) if take(parser, "SOURCE") => MergeClauseKind::NotMatchedBySource,
        (false, true) if take(parser, "TARGET") => MergeClauseKind::NotMatchedByTarget,
        (true, true) => return Err(unexpected("AND or THEN", &parser.peek_token())),
        (false, true) => return Err(unexpected("SOURCE or TARGET", &parser.peek_token())),
    };
    let predicate = if take(parser, "AND") { Some(parser.parse_expr().map_err(syntax)?) } else { None };
    expect(parser, "THEN")?;
    let inserts = matches!(clause_kind, MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget);
    let token = parser.next_token();
    let is = |word: &str| token.token.to_string().eq_ignore_ascii_case(word);
    let action = if is("DO") {
        expect(parser, "NOTHING")?;
        update(Vec::new())
    } else if inserts && is("INSERT") {
        insert(parser)?
    } else if !inserts && is("DELETE") {
        MergeAction::Delete { delete_token: AttachedToken::empty() }
    } else if !inserts && is("UPDATE") {
        expect(parser, "SET")?;
        update(parser.parse_comma_separated(Parser::parse_assignment).map_err(syntax)?)
    } else {
        let actions = if inserts { "INSERT or DO NOTHING" } else { "UPDATE, DELETE or DO NOTHING" };
        return Err(unexpected(actions, &token));
    };
    Ok(MergeClause { when_token, clause_kind, predicate, action })
}

fn update(assignments: Vec<ast::Assignment>) -> MergeAction {
    MergeAction::Update(MergeUpdateExpr {
        update_token: AttachedToken::empty(),
        assignments,
        update_predicate: None,
        delete_predicate: None,
    })
}

fn insert(parser: &mut Parser<'_>) -> Result<MergeAction> {
    let columns =
        parser.parse_parenthesized_qualified_column_list(IsOptional::Optional, false).map_err(syntax)?;
    let values = if columns.is_empty() && take(parser, "DEFAULT") {
        expect(parser, "VALUES")?;
        Values { explicit_row: false, value_keyword: false, rows: Vec::new() }
    } else {
        expect(parser, "VALUES")?;
        parser.parse_values(false, false).map_err(syntax)?
    };
    Ok(MergeAction::Insert(MergeInsertExpr {
        insert_token: AttachedToken::empty(),
        columns,
        kind_token: AttachedToken::empty(),
        kind: MergeInsertKind::Values(values),
        insert_predicate: None,
    }))
}

fn expect(parser: &mut Parser<'_>, word: &str) -> Result<()> {
    if take(parser, word) { Ok(()) } else { Err(unexpected(word, &parser.peek_token())) }
}
