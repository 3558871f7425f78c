//! The grammar of users, roles and grants.
//!
//! Owns: a grammar whose errors never show a value: what was found may be a password.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place::name_of;
use super::token::{peek_is, syntax, take, unexpected};
use super::{AccountKind, AccountStatement, GrantOn, RightsWanted, Statement};
use crate::error::{Error, Result};
use crate::rights::{Right, Secret, UserLimit};

/// Whether CREATE, ALTER or DROP, which comes next, is about a user or role.
pub(super) fn is_next(parser: &Parser<'_>) -> bool {
    ["USER", "ROLE"].iter().any(|word| peek_is(parser, 1, word))
}

/// CREATE, ALTER or DROP of a user or role, which comes next.
pub(super) fn account(parser: &mut Parser<'_>) -> Result<Statement> {
    let verb = parser.next_token().token.to_string().to_ascii_uppercase();
    let kind = if take(parser, "USER") { AccountKind::User } else { AccountKind::Role };
    if kind == AccountKind::Role {
        parser.next_token();
    }
    let statement = match verb.as_str() {
        "CREATE" => create(parser, kind)?,
        "DROP" => {
            let if_exists = words(parser, &["IF", "EXISTS"])?;
            AccountStatement::Drop { kind, names: names(parser)?, if_exists }
        }
        _ if kind == AccountKind::Role => return Err(Error::not_supported_yet("ALTER ROLE")),
        _ => {
            let name = name(parser)?;
            let UserOptions { password, superuser, limits } = options(parser)?;
            if password.is_none() && superuser.is_none() && limits.is_empty() {
                return Err(found(parser, "PASSWORD, SUPERUSER, NOSUPERUSER or WITH (…)"));
            }
            AccountStatement::AlterUser { name, password, superuser, limits }
        }
    };
    end(parser)?;
    Ok(Statement::Account(Box::new(statement)))
}

fn create(parser: &mut Parser<'_>, kind: AccountKind) -> Result<AccountStatement> {
    let if_not_exists = words(parser, &["IF", "NOT", "EXISTS"])?;
    let name = name(parser)?;
    if kind == AccountKind::Role {
        return Ok(AccountStatement::CreateRole { name, if_not_exists });
    }
    let UserOptions { password, superuser, limits } = options(parser)?;
    let Some(password) = password else { return Err(found(parser, "PASSWORD '…'")) };
    let superuser = superuser.unwrap_or(false);
    Ok(AccountStatement::CreateUser { name, if_not_exists, password, superuser, limits })
}

#[derive(Default)]
struct UserOptions {
    password: Option<Secret>,
    superuser: Option<bool>,
    limits: Vec<(UserLimit, u64)>,
}

/// `[WITH] [PASSWORD '…'] [SUPERUSER | NOSUPERUSER] [WITH (limit = value, …)]`, in any order.
fn options(parser: &mut Parser<'_>) -> Result<UserOptions> {
    let mut options = UserOptions::default();
    if peek_is(parser, 0, "WITH") && parser.peek_nth_token_ref(1).token != Token::LParen {
        parser.next_token();
    }
    loop {
        if options.password.is_none() && take(parser, "PASSWORD") {
            options.password = Some(secret(parser)?);
        } else if options.superuser.is_none() && take(parser, "SUPERUSER") {
            options.superuser = Some(true);
        } else if options.superuser.is_none() && take(parser, "NOSUPERUSER") {
            options.superuser = Some(false);
        } else if options.limits.is_empty() && take(parser, "WITH") {
            options.limits = limits(parser)?;
        } else {
            return Ok(options);
        }
    }
}

/// `(limit = value, …)`, which comes next.
fn limits(parser: &mut Parser<'_>) -> Result<Vec<(UserLimit, u64)>> {
    if !parser.consume_token(&Token::LParen) {
        return Err(found(parser, "("));
    }
    let mut limits: Vec<(UserLimit, u64)> = Vec::new();
    loop {
        let ident = name(parser)?;
        let limit = UserLimit::of_name(&name_of(&ident)).filter(|limit| limits.iter().all(|l| l.0 != *limit));
        let Some(limit) = limit else {
            let names: Vec<&str> = UserLimit::ALL.iter().map(|limit| limit.name()).collect();
            let error = super::token::syntax_error("each limit of a user stands there once, under its name")
                .map(|e| e.with_hint(format!("limits: {}", names.join(", "))));
            return Err(match super::place::ident_position(&ident) {
                Some(position) => error.at(position),
                None => error,
            });
        };
        if !parser.consume_token(&Token::Eq) {
            return Err(found(parser, "="));
        }
        let next = parser.peek_token();
        let (Token::SingleQuotedString(text) | Token::Number(text, _)) = &next.token else {
            return Err(found(parser, "a number or a text"));
        };
        let value = limit.parse(text).map_err(|error| match super::place::position_of(next.span.start) {
            Some(position) => error.at(position),
            None => error,
        })?;
        parser.next_token();
        limits.push((limit, value));
        if parser.consume_token(&Token::RParen) {
            return Ok(limits);
        }
        if !parser.consume_token(&Token::Comma) {
            return Err(found(parser, ", or )"));
        }
    }
}

fn secret(parser: &mut Parser<'_>) -> Result<Secret> {
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            let secret = Secret::new(text.clone());
            parser.next_token();
            Ok(secret)
        }
        Token::DollarQuotedString(text) => {
            let secret = Secret::new(text.value.clone());
            parser.next_token();
            Ok(secret)
        }
        _ => Err(found(parser, "the password in single quotes")),
    }
}

/// GRANT or REVOKE, which comes next.
pub(super) fn grant(parser: &mut Parser<'_>) -> Result<Statement> {
    let gives = peek_is(parser, 0, "GRANT");
    parser.next_token();
    let mut given = Vec::new();
    loop {
        given.push(name(parser)?);
        if let [all] = given.as_slice()
            && is_word(all, "ALL")
        {
            take(parser, "PRIVILEGES");
        }
        if parser.peek_token_ref().token == Token::LParen {
            return Err(Error::not_supported_yet("a right on single columns"));
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let on = if take(parser, "ON") { Some(on(parser)?) } else { None };
    let to = if gives { "TO" } else { "FROM" };
    if !take(parser, to) {
        let expected = if on.is_some() { to.to_owned() } else { format!("ON or {to}") };
        return Err(found(parser, &expected));
    }
    let whom = names(parser)?;
    if peek_is(parser, 0, "WITH") {
        return Err(Error::not_supported_yet("WITH GRANT OPTION and WITH ADMIN OPTION"));
    }
    if peek_is(parser, 0, "CASCADE") {
        return Err(Error::not_supported_yet("REVOKE … CASCADE"));
    }
    end(parser)?;
    let statement = match (on, gives) {
        (None, true) => AccountStatement::GrantRole { roles: given, to: whom },
        (None, false) => AccountStatement::RevokeRole { roles: given, from: whom },
        (Some(on), true) => AccountStatement::Grant { rights: rights(&given)?, on, to: whom },
        (Some(on), false) => AccountStatement::Revoke { rights: rights(&given)?, on, from: whom },
    };
    Ok(Statement::Account(Box::new(statement)))
}

/// What stands behind ON.
fn on(parser: &mut Parser<'_>) -> Result<GrantOn> {
    if take(parser, "DATABASE") {
        if !peek_is(parser, 0, "TO") && !peek_is(parser, 0, "FROM") {
            let name = name(parser)?;
            if name_of(&name) != crate::catalog::CATALOG {
                let message = format!("this database is named {}", crate::catalog::CATALOG);
                return Err(super::token::syntax_error(&message).map(|e| e.with_sqlstate("3D000")));
            }
        }
        return Ok(GrantOn::Database);
    }
    if take(parser, "SCHEMA") {
        return Ok(GrantOn::Schemas(names(parser)?));
    }
    if peek_is(parser, 0, "ALL") {
        return Err(Error::not_supported_yet("GRANT ON ALL … IN SCHEMA")
            .map(|e| e.with_hint("GRANT … ON SCHEMA s covers all its tables, later ones too")));
    }
    let _ = take(parser, "TABLE") || take(parser, "VIEW");
    let mut tables = Vec::new();
    loop {
        tables.push(parser.parse_object_name(false).map_err(syntax)?);
        if !parser.consume_token(&Token::Comma) {
            return Ok(GrantOn::Tables(tables));
        }
    }
}

fn rights(given: &[Ident]) -> Result<RightsWanted> {
    if let [all] = given
        && is_word(all, "ALL")
    {
        return Ok(RightsWanted::All);
    }
    let one = |word: &Ident| {
        let plain = word.quote_style.is_none();
        Right::of_word(&word.value.to_ascii_uppercase()).filter(|_| plain).ok_or_else(|| {
            let words: Vec<&str> = Right::ALL.iter().map(|right| right.word()).collect();
            let error = super::token::syntax_error(&format!("there is no right {word}"))
                .map(|e| e.with_hint(format!("rights: {}, ALL", words.join(", "))));
            match super::place::ident_position(word) {
                Some(position) => error.at(position),
                None => error,
            }
        })
    };
    given.iter().map(one).collect::<Result<_>>().map(RightsWanted::These)
}

fn is_word(ident: &Ident, word: &str) -> bool {
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(word)
}

fn names(parser: &mut Parser<'_>) -> Result<Vec<Ident>> {
    let mut names = Vec::new();
    loop {
        names.push(name(parser)?);
        if !parser.consume_token(&Token::Comma) {
            return Ok(names);
        }
    }
}

/// A name, any word: `select` is a right, and `public` everybody.
pub(super) fn name(parser: &mut Parser<'_>) -> Result<Ident> {
    let token = parser.peek_token();
    let Token::Word(word) = token.token else { return Err(found(parser, "a name")) };
    parser.next_token();
    Ok(Ident { value: word.value, quote_style: word.quote_style, span: token.span })
}

/// All of `words`, or none.
pub(super) fn words(parser: &mut Parser<'_>, words: &[&str]) -> Result<bool> {
    for (i, word) in words.iter().enumerate() {
        if !take(parser, word) {
            return if i == 0 { Ok(false) } else { Err(found(parser, word)) };
        }
    }
    Ok(true)
}

/// That the statement ends here.
pub(super) fn end(parser: &Parser<'_>) -> Result<()> {
    match parser.peek_token_ref().token {
        Token::EOF | Token::SemiColon => Ok(()),
        _ => Err(found(parser, "the end of the statement")),
    }
}

/// As [`unexpected`] for what comes next, which is shown when it is a keyword.
pub(super) fn found(parser: &Parser<'_>, expected: &str) -> Error {
    const SHOWN: &[&str] = &[
        "CREATE",
        "DELETE",
        "EXISTS",
        "FROM",
        "GRANT",
        "IF",
        "INSERT",
        "NOSUPERUSER",
        "NOT",
        "ON",
        "PASSWORD",
        "ROLE",
        "SCHEMA",
        "SELECT",
        "SUPERUSER",
        "TABLE",
        "TO",
        "UPDATE",
        "USER",
        "WITH",
    ];
    let next = parser.peek_token();
    let plain = match &next.token {
        Token::EOF | Token::SemiColon | Token::Comma => true,
        Token::Word(word) => {
            word.quote_style.is_none() && SHOWN.contains(&word.value.to_ascii_uppercase().as_str())
        }
        _ => false,
    };
    if plain {
        return unexpected(expected, &next);
    }
    let hidden = TokenWithSpan { token: Token::make_word("something else", None), span: next.span };
    unexpected(expected, &hidden)
}
