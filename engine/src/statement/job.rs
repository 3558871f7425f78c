//! The grammar of statements about jobs: RUN, RETRY, CANCEL, PAUSE and RESUME JOB(S), and VACUUM.

use cairn_storage::JobKind;
use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::token::{syntax, take, unexpected};
use super::{JobStatement, JobsNamed, Statement};
use crate::error::Result;

/// RUN JOBS [FOR TABLE t] [LIMIT n] [STRICT], RUN JOB kind [ON t].
pub(super) fn run(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if take(parser, "JOB") {
        let kind = Some(kind(parser)?);
        let mut table = None;
        if take(parser, "ON") {
            take(parser, "TABLE");
            table = Some(parser.parse_object_name(false).map_err(syntax)?);
        }
        let strict = true;
        return Ok(Statement::Jobs(JobStatement::Run { kind, table, limit: None, strict }));
    }
    jobs(parser)?;
    let table = for_table(parser)?;
    let mut limit = None;
    if take(parser, "LIMIT") {
        limit = Some(parser.parse_literal_uint().map_err(syntax)?);
    }
    let strict = take(parser, "STRICT");
    Ok(Statement::Jobs(JobStatement::Run { kind: None, table, limit, strict }))
}

/// RETRY JOB id, RETRY JOBS [FOR TABLE t].
pub(super) fn retry(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if take(parser, "JOB") {
        let id = parser.parse_literal_uint().map_err(syntax)?;
        return Ok(Statement::Jobs(JobStatement::Retry(id)));
    }
    jobs(parser)?;
    Ok(Statement::Jobs(JobStatement::RetryAll(for_table(parser)?)))
}

/// CANCEL JOB id.
pub(super) fn cancel(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if !take(parser, "JOB") {
        return Err(unexpected("JOB", &parser.peek_token()));
    }
    Ok(Statement::Jobs(JobStatement::Cancel(parser.parse_literal_uint().map_err(syntax)?)))
}

/// PAUSE JOB id, PAUSE JOBS [kind].
pub(super) fn pause(parser: &mut Parser<'_>) -> Result<Statement> {
    Ok(Statement::Jobs(JobStatement::Pause(named(parser)?)))
}

/// RESUME JOB id, RESUME JOBS [kind].
pub(super) fn resume(parser: &mut Parser<'_>) -> Result<Statement> {
    Ok(Statement::Jobs(JobStatement::Resume(named(parser)?)))
}

/// VACUUM [[TABLE] t].
pub(super) fn vacuum(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let named = take(parser, "TABLE") || matches!(parser.peek_token_ref().token, Token::Word(_));
    let table = if named { Some(parser.parse_object_name(false).map_err(syntax)?) } else { None };
    Ok(Statement::Vacuum(table))
}

fn named(parser: &mut Parser<'_>) -> Result<JobsNamed> {
    parser.next_token();
    if take(parser, "JOB") {
        return Ok(JobsNamed::One(parser.parse_literal_uint().map_err(syntax)?));
    }
    jobs(parser)?;
    let all = matches!(parser.peek_token_ref().token, Token::EOF | Token::SemiColon);
    Ok(JobsNamed::All(if all { None } else { Some(kind(parser)?) }))
}

fn jobs(parser: &mut Parser<'_>) -> Result<()> {
    if take(parser, "JOBS") { Ok(()) } else { Err(unexpected("JOB or JOBS", &parser.peek_token())) }
}

fn kind(parser: &mut Parser<'_>) -> Result<JobKind> {
    let token = parser.next_token();
    let name = match &token.token {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        Token::SingleQuotedString(text) => text.clone(),
        _ => String::new(),
    };
    JobKind::of_name(&name).ok_or_else(|| unexpected("checkpoint, compact, build_index or collect", &token))
}

/// FOR TABLE and its name, where that follows.
pub(super) fn for_table(parser: &mut Parser<'_>) -> Result<Option<ObjectName>> {
    if !take(parser, "FOR") {
        return Ok(None);
    }
    if !take(parser, "TABLE") {
        return Err(unexpected("TABLE", &parser.peek_token()));
    }
    parser.parse_object_name(false).map(Some).map_err(syntax)
}
