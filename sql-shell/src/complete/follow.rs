//! What follows the words of a statement that is being typed.
//!
//! Owns: the clauses of each statement and the words that go on from them. Does not own: names (`complete`), the insides of COPY
//! (`files`), CREATE INDEX and `vector_search` (`vectors`). It says what is likely: where it knows nothing, `complete` offers all there is.

use super::{RIGHTS, TYPES};
use crate::keywords::{STARTS, is_keyword};

/// What is likely at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// One of these words.
    Words(Vec<&'static str>),
    /// A column, a function, or one of these words.
    Value(Vec<&'static str>),
    /// A column of the statement's tables.
    Column,
    /// A table that is no view, or one of these words.
    Table(&'static [&'static str]),
    /// A view, or one of these words.
    View(&'static [&'static str]),
    /// A table or view, or one of these words.
    Relation(&'static [&'static str]),
    /// A user or role, or one of these words.
    Account(&'static [&'static str]),
    /// A name of PREPARE, or one of these words.
    Prepared(&'static [&'static str]),
}

/// Options of a table.
const TABLE_OPTIONS: &[&str] = &["layout = '", "sort = '"];
/// Values of its option `layout`.
const LAYOUTS: &[&str] = &["columns", "rows"];
/// Limits of a user.
const USER_LIMITS: &[&str] = &["concurrency = ", "memory_limit = ", "rows_limit = ", "statement_timeout = "];

/// How an identity column is made, and its options.
const GENERATED: &[&str] = &["ALWAYS AS IDENTITY", "BY DEFAULT AS IDENTITY"];
const IDENTITY_OPTIONS: &[&str] = &["INCREMENT BY", "MAXVALUE", "MINVALUE", "START WITH"];

/// What goes on from a whole value.
const OPERATORS: &[&str] = &["AND", "BETWEEN", "ILIKE", "IN", "IS", "LIKE", "NOT", "OR"];
/// What may stand in place of a value besides names.
const VALUES: &[&str] = &[
    "ARRAY",
    "CASE",
    "CAST",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "EXISTS",
    "EXTRACT",
    "FALSE",
    "INTERVAL",
    "NOT",
    "NULL",
    "TRUE",
];
/// Keywords that are values, or end one.
const WHOLE: &[&str] = &["CURRENT_DATE", "CURRENT_TIMESTAMP", "DEFAULT", "END", "FALSE", "NULL", "TRUE"];
const JOINS: &[&str] = &["CROSS", "FULL", "INNER", "JOIN", "LEFT", "NATURAL", "RIGHT"];
const SETS: &[&str] = &["EXCEPT", "INTERSECT", "UNION"];
/// Words that begin a clause of a query or change.
const CLAUSES: &[&str] = &[
    "BY",
    "FROM",
    "HAVING",
    "JOIN",
    "LIMIT",
    "OFFSET",
    "ON",
    "RETURNING",
    "SELECT",
    "SET",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
];
/// What a closed pair of brackets is among the words of its level.
const CLOSED: &str = "()";

/// What is likely after these words and punctuation of a statement; None: nothing is known.
pub(super) fn next(words: &[&str]) -> Option<Next> {
    let begins = explained(words);
    if begins.is_empty() {
        return match words.last() {
            Some(word) if !word.eq_ignore_ascii_case("EXPLAIN") => Some(Next::Words(STARTS.to_vec())),
            _ => None,
        };
    }
    let levels = levels(begins);
    let (level, outer) = levels.split_last()?;
    let level: Vec<&str> = level.iter().map(String::as_str).collect();
    if level.last().is_some_and(|last| last.ends_with('.') || *last == ":") {
        return None;
    }
    let Some(outer) = outer.last() else {
        return of_statement(&level).or_else(|| of_query(&level));
    };
    if level.first().is_some_and(|word| ["SELECT", "VALUES", "WITH"].contains(word)) {
        return of_query(&level);
    }
    let outer: Vec<&str> = outer.iter().map(String::as_str).collect();
    in_brackets(&outer, &level)
}

/// What a text can be that follows these words.
pub(super) fn texts(words: &[&str]) -> &'static [&'static str] {
    let levels = levels(explained(words));
    match levels.as_slice() {
        [outer, level] if takes_table_options(outer) => match level.as_slice() {
            [.., name, equals] if name == "LAYOUT" && equals == "=" => LAYOUTS,
            _ => &[],
        },
        _ => &[],
    }
}

/// Whether a text that follows these words names a time zone.
pub(super) fn takes_zone(words: &[&str]) -> bool {
    let ends = |with: [&str; 2]| {
        let last = words.last_chunk::<2>();
        last.is_some_and(|last| last.iter().zip(with).all(|(word, with)| word.eq_ignore_ascii_case(with)))
    };
    ends(["TIME", "ZONE"])
        || words.first().is_some_and(|word| word.eq_ignore_ascii_case("SET"))
            && (ends(["timezone", "="]) || ends(["timezone", "TO"]))
}

/// The words behind EXPLAIN and its options.
fn explained<'w, 'a>(words: &'w [&'a str]) -> &'w [&'a str] {
    match words.split_first() {
        Some((first, rest)) if first.eq_ignore_ascii_case("EXPLAIN") => {
            let option = |word: &&&str| ["ANALYZE", "VERBOSE"].iter().any(|w| word.eq_ignore_ascii_case(w));
            &rest[rest.iter().take_while(option).count()..]
        }
        _ => words,
    }
}

/// The words of the brackets that are open, from outside in: in capitals, each qualified name as one, closed brackets as one.
fn levels(words: &[&str]) -> Vec<Vec<String>> {
    let mut levels: Vec<Vec<String>> = vec![Vec::new()];
    for word in words {
        match *word {
            "(" | "[" => levels.push(Vec::new()),
            ")" | "]" => {
                if levels.len() > 1 {
                    levels.pop();
                }
                push(&mut levels, CLOSED);
            }
            word if is_text(word) || word.starts_with('"') => push(&mut levels, word),
            word => push(&mut levels, &word.to_uppercase()),
        }
    }
    levels
}

/// Adds a word to the innermost level; `a.b` is one name.
fn push(levels: &mut [Vec<String>], word: &str) {
    let Some(level) = levels.last_mut() else { return };
    let goes_on = word == "." || level.last().is_some_and(|name| name.ends_with('.') && !is_text(name));
    match level.last_mut() {
        Some(name) if goes_on => name.push_str(word),
        _ => level.push(word.to_owned()),
    }
}

fn is_text(word: &str) -> bool {
    word.starts_with('\'') || word.starts_with("E'") || word.starts_with("e'") || word.starts_with('$')
}

/// Whether a value, a table or a name ends with this word, at the end of `level`.
fn is_whole(level: &[&str]) -> bool {
    let Some((last, before)) = level.split_last() else { return false };
    if *last == "*" {
        // All columns, or a product.
        return before
            .last()
            .is_none_or(|word| ["SELECT", ",", "DISTINCT", "ALL", "RETURNING"].contains(word));
    }
    *last == CLOSED
        || before.last() == Some(&":")
        || WHOLE.contains(last)
        || is_text(last)
        || last.ends_with(".*")
        || last.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"') && !is_keyword(last)
}

fn words(lists: &[&[&'static str]]) -> Option<Next> {
    Some(Next::Words(lists.concat()))
}

/// What is likely in a statement outside of brackets, but for what queries have.
fn of_statement(level: &[&str]) -> Option<Next> {
    match level {
        ["ALTER", "TABLE", "IF"] | ["DROP", _, "IF"] => words(&[&["EXISTS"]]),
        ["ALTER", "TABLE", "IF", "EXISTS", rest @ ..] | ["ALTER", "TABLE", rest @ ..] => of_alter(rest),
        ["ALTER", "USER"] => Some(Next::Account(&[])),
        ["ALTER", "USER", _, ..] => of_user(level),
        ["BEGIN"] => words(&[&["ISOLATION", "READ", "TRANSACTION"]]),
        ["START"] => words(&[&["TRANSACTION"]]),
        ["BEGIN" | "START", .., "ISOLATION"] => words(&[&["LEVEL"]]),
        ["BEGIN" | "START", .., "LEVEL"] => words(&[&["READ COMMITTED", "REPEATABLE READ"]]),
        ["BEGIN" | "START", .., "READ"] => words(&[&["ONLY", "WRITE"]]),
        ["BEGIN" | "START", .., "TRANSACTION"] => words(&[&["ISOLATION", "READ"]]),
        ["CHECKPOINT"] => words(&[&["TABLE"]]),
        ["CHECKPOINT" | "COMPACT" | "VACUUM" | "WARM", "TABLE"] => Some(Next::Table(&[])),
        ["VACUUM"] => Some(Next::Table(&["TABLE"])),
        ["COPY", ..] => None,
        ["CREATE", rest @ ..] => of_create(level, rest),
        ["DEALLOCATE"] => Some(Next::Prepared(&["ALL"])),
        ["EXECUTE"] => Some(Next::Prepared(&[])),
        ["DESCRIBE", "TABLE"] | ["SHOW", "CREATE", "TABLE" | "VIEW"] | ["SHOW", "COLUMNS", "FROM"] => {
            Some(Next::Relation(&[]))
        }
        ["SHOW", "COLUMNS"] => words(&[&["FROM"]]),
        ["SHOW", "STATS"] => words(&[&["FOR"]]),
        ["SHOW", "TABLES"] => words(&[&["FROM"]]),
        ["SHOW", "JOBS" | "STATS", "FOR"] | ["RUN" | "RETRY", "JOBS", "FOR"] => words(&[&["TABLE"]]),
        ["SHOW" | "RUN" | "RETRY", _, "FOR", "TABLE"] | ["RUN", "JOB", _, "ON", "TABLE"] => {
            Some(Next::Table(&[]))
        }
        ["RUN", "JOBS", "FOR", "TABLE", _] => words(&[&["LIMIT", "STRICT"]]),
        ["RUN", "JOBS", .., "LIMIT", _] => words(&[&["STRICT"]]),
        ["RUN", "JOB", _] => words(&[&["ON"]]),
        ["RUN", "JOB", _, "ON"] => Some(Next::Table(&["TABLE"])),
        ["DROP", "TABLE"] | ["DROP", "TABLE", "IF", "EXISTS"] => Some(Next::Table(&["IF"])),
        ["DROP", "VIEW"] | ["DROP", "VIEW", "IF", "EXISTS"] => Some(Next::View(&["IF"])),
        ["DROP", "USER" | "ROLE"] | ["DROP", "USER" | "ROLE", "IF", "EXISTS"] => Some(Next::Account(&["IF"])),
        ["DROP", "TABLE", .., ","] => Some(Next::Table(&[])),
        ["DROP", "VIEW", .., ","] => Some(Next::View(&[])),
        ["DROP", "TABLE" | "VIEW" | "SCHEMA", ..] if is_whole(level) => words(&[&["CASCADE", "RESTRICT"]]),
        ["GRANT" | "REVOKE", .., "TO" | "FROM"] => Some(Next::Account(&[])),
        ["GRANT" | "REVOKE", .., ","] if !["ON", "TO", "FROM"].iter().any(|word| level.contains(word)) => {
            words(&[RIGHTS])
        }
        ["GRANT", .., "ALL"] | ["REVOKE", .., "ALL"] => words(&[&["ON", "PRIVILEGES"]]),
        ["GRANT", rest @ .., last] if *last != "ON" && *last != "," => of_grant("TO", rest, last),
        ["REVOKE", rest @ .., last] if *last != "ON" && *last != "," => of_grant("FROM", rest, last),
        ["INSERT", "INTO", _] => words(&[&["(", "DEFAULT VALUES", "SELECT", "VALUES"]]),
        ["INSERT", "INTO", _, CLOSED] => words(&[&["SELECT", "VALUES"]]),
        ["INSERT" | "WITH", .., "ON"] if is_conflict(level) => words(&[&["CONFLICT"]]),
        ["INSERT" | "WITH", .., "CONFLICT"] => words(&[&["(", "DO"]]),
        ["INSERT" | "WITH", .., "CONFLICT", CLOSED] => words(&[&["DO"]]),
        ["INSERT" | "WITH", .., "CONFLICT", "DO"] | ["INSERT" | "WITH", .., "CONFLICT", CLOSED, "DO"] => {
            words(&[&["NOTHING", "UPDATE SET"]])
        }
        ["INSERT" | "WITH", .., "DO", "NOTHING"] => words(&[&["RETURNING"]]),
        ["INSERT" | "MERGE", .., "UPDATE"] | ["WITH", .., "DO", "UPDATE"] => words(&[&["SET"]]),
        ["INSERT" | "UPDATE" | "MERGE" | "WITH", .., "SET"] => Some(Next::Column),
        ["MERGE"] => words(&[&["INTO"]]),
        ["MERGE", ..] => of_merge(level),
        ["PREPARE", _] => words(&[&["(", "AS"]]),
        ["PREPARE", _, CLOSED] => words(&[&["AS"]]),
        ["PREPARE", _, "AS"] | ["PREPARE", _, CLOSED, "AS"] => {
            words(&[&["DELETE", "INSERT", "MERGE", "SELECT", "UPDATE", "VALUES", "WITH"]])
        }
        ["PREPARE", _, "AS", rest @ ..] | ["PREPARE", _, CLOSED, "AS", rest @ ..] => {
            of_statement(rest).or_else(|| of_query(rest))
        }
        ["ROLLBACK"] => words(&[&["TO"]]),
        ["ROLLBACK", "TO"] | ["RELEASE"] => words(&[&["SAVEPOINT"]]),
        ["SET", "TIME"] => words(&[&["ZONE"]]),
        ["SET", "TIME", "ZONE"] => words(&[&["'", "DEFAULT"]]),
        ["SET", "TIME", "ZONE", _] => words(&[&["FOR DATABASE"]]),
        ["SET", _] => words(&[&["=", "TO"]]),
        ["UPDATE", _] => words(&[&["AS", "SET"]]),
        ["UPDATE", _, _] | ["UPDATE", _, "AS", _] if is_whole(level) => words(&[&["SET"]]),
        ["VERIFY", "TABLE"] => Some(Next::Table(&[])),
        ["VERIFY", "TABLE", _] => words(&[&["DEEP", "REPAIR"]]),
        ["WAIT"] => words(&[&["FOR"]]),
        ["WAIT", "FOR"] => words(&[&["VERSION"]]),
        ["WAIT", "FOR", "VERSION", _] => words(&[&["TIMEOUT"]]),
        ["WITH"] => words(&[&["RECURSIVE"]]),
        ["WITH", .., "AS"] if !level.iter().any(|word| STARTS.contains(word) && *word != "WITH") => {
            words(&[&["("]])
        }
        ["WITH", .., CLOSED] if !level.iter().any(|word| STARTS.contains(word) && *word != "WITH") => {
            words(&[&["DELETE", "INSERT", "MERGE", "SELECT", "UPDATE"]])
        }
        // A number, an id, a name of one's own: nothing is known of it.
        ["CANCEL" | "PAUSE" | "RESUME" | "RETRY", "JOB"]
        | ["KILL", "QUERY"]
        | ["SAVEPOINT" | "PREPARE" | "COMMIT" | "END"]
        | ["RELEASE", "SAVEPOINT"]
        | ["WAIT", "FOR", "VERSION"]
        | ["CHECKPOINT" | "COMPACT" | "WARM" | "DESCRIBE" | "TRUNCATE", "TABLE", _] => words(&[]),
        _ => None,
    }
}

/// Whether the ON at the end is that of ON CONFLICT: none of a join.
fn is_conflict(level: &[&str]) -> bool {
    let clause =
        level[..level.len() - 1].iter().rev().find(|word| CLAUSES.contains(word) || **word == "INTO");
    clause.is_some_and(|word| ["VALUES", "INTO", "BY", "FROM", "WHERE", "LIMIT", "SELECT"].contains(word))
}

/// After the table of ALTER TABLE.
fn of_alter(rest: &[&str]) -> Option<Next> {
    // Of several changes, the one that is typed.
    let begin = rest.iter().rposition(|word| *word == ",").unwrap_or(0);
    let change = rest.get(begin + 1..).unwrap_or_default();
    match change {
        [] if rest.is_empty() => Some(Next::Table(&["IF"])),
        [] => words(&[&["ADD", "ALTER", "DROP", "RENAME", "SET"]]),
        ["ADD" | "DROP", "IF"] | ["ADD" | "DROP", "COLUMN", "IF"] => words(&[&["EXISTS", "NOT"]]),
        ["ADD", .., "IF", "NOT"] => words(&[&["EXISTS"]]),
        ["ADD", column] | ["ADD", "COLUMN", column] | ["ADD", .., "EXISTS", column]
            if *column != "COLUMN" =>
        {
            types()
        }
        ["ADD", .., "DEFAULT"] => Some(Next::Value(VALUES.to_vec())),
        ["ADD", .., "NOT"] => words(&[&["NULL"]]),
        ["ADD", .., "COLUMN"] => None,
        ["ADD", .., "EXISTS"] => words(&[]),
        ["ADD", _, ..] => words(&[&["DEFAULT", "NOT NULL"]]),
        ["ALTER", column] | ["ALTER", "COLUMN", column] if *column != "COLUMN" => {
            words(&[&["DROP", "SET", "TYPE"]])
        }
        ["ALTER", .., "TYPE"] => types(),
        ["ALTER", .., "SET", "DEFAULT"] => Some(Next::Value(VALUES.to_vec())),
        ["ALTER", .., "SET" | "DROP"] => words(&[&["DEFAULT", "NOT NULL"]]),
        ["ALTER", .., "NOT"] => words(&[&["NULL"]]),
        ["DROP", column] | ["DROP", "COLUMN", column] | ["DROP", .., "EXISTS", column]
            if *column != "COLUMN" =>
        {
            words(&[&["CASCADE", "RESTRICT"]])
        }
        ["RENAME", column] | ["RENAME", "COLUMN", column] if !["COLUMN", "TO"].contains(column) => {
            words(&[&["TO"]])
        }
        ["RENAME", .., "TO"] => words(&[]),
        ["SET"] => words(&[&["("]]),
        _ => None,
    }
}

fn types() -> Option<Next> {
    words(&[TYPES])
}

/// After CREATE, which `level` begins with.
fn of_create(level: &[&str], rest: &[&str]) -> Option<Next> {
    match rest {
        ["OR"] => words(&[&["REPLACE"]]),
        ["OR", "REPLACE"] => words(&[&["SECRET", "VIEW"]]),
        ["TABLE" | "SCHEMA" | "USER" | "ROLE" | "SECRET"] => words(&[&["IF"]]),
        [_, "IF"] => words(&[&["NOT"]]),
        [_, "IF", "NOT"] => words(&[&["EXISTS"]]),
        [_, "IF", "NOT", "EXISTS"] | ["VIEW"] | ["OR", "REPLACE", "VIEW"] => words(&[]),
        ["TABLE", _] | ["TABLE", "IF", "NOT", "EXISTS", _] => words(&[&["(", "AS", "WITH ("]]),
        ["TABLE", .., "WITH"] => words(&[&["("]]),
        ["TABLE", .., "WITH", CLOSED] => words(&[&["AS"]]),
        ["TABLE", _, CLOSED] | ["TABLE", "IF", "NOT", "EXISTS", _, CLOSED] => words(&[&["WITH ("]]),
        ["VIEW", _] | ["OR", "REPLACE", "VIEW", _] => words(&[&["AS"]]),
        // The first one: those of its query give names.
        ["TABLE" | "VIEW" | "OR", .., "AS"] if rest.iter().filter(|word| **word == "AS").count() == 1 => {
            words(&[&["SELECT", "VALUES", "WITH"]])
        }
        ["USER", ..] => of_user(level),
        ["TABLE" | "VIEW" | "OR", ..] => {
            let query = rest.iter().position(|word| *word == "AS")?;
            of_statement(&rest[query + 1..]).or_else(|| of_query(&rest[query + 1..]))
        }
        _ => None,
    }
}

/// In CREATE USER and ALTER USER.
fn of_user(level: &[&str]) -> Option<Next> {
    match level.last() {
        Some(&"PASSWORD") => words(&[&["'"]]),
        Some(&"WITH") => words(&[&["(", "PASSWORD"]]),
        Some(_) => words(&[&["NOSUPERUSER", "PASSWORD", "SUPERUSER", "WITH ("]]),
        None => None,
    }
}

/// In GRANT and REVOKE, after a right, an object or a role.
fn of_grant(whom: &'static str, rest: &[&str], last: &str) -> Option<Next> {
    match last {
        "SCHEMA" => None,
        _ if rest.contains(&"ON") => words(&[&[whom]]),
        _ if rest.contains(&"TO") || rest.contains(&"FROM") => words(&[]),
        _ => words(&[&["ON"], &[whom]]),
    }
}

fn of_merge(level: &[&str]) -> Option<Next> {
    let by_source = level.ends_with(&["SOURCE", "THEN"])
        || level.iter().rposition(|word| *word == "WHEN").is_some_and(|at| level[at..].contains(&"SOURCE"));
    let not_matched =
        level.iter().rposition(|word| *word == "WHEN").is_some_and(|at| level.get(at + 1) == Some(&"NOT"));
    match level {
        ["MERGE", "INTO", _] => words(&[&["AS", "USING"]]),
        ["MERGE", "INTO", _, "AS", _] => words(&[&["USING"]]),
        [.., "USING", _] => words(&[&["AS", "ON"]]),
        [.., "USING", _, "AS", _] => words(&[&["ON"]]),
        [.., "WHEN"] => words(&[&["MATCHED", "NOT MATCHED"]]),
        [.., "WHEN", "NOT"] => words(&[&["MATCHED"]]),
        [.., "WHEN", "MATCHED"] => words(&[&["AND", "THEN"]]),
        [.., "MATCHED"] => words(&[&["AND", "BY SOURCE", "BY TARGET", "THEN"]]),
        [.., "MATCHED", "BY"] => words(&[&["SOURCE", "TARGET"]]),
        [.., "SOURCE" | "TARGET"] => words(&[&["AND", "THEN"]]),
        [.., "THEN"] if not_matched && !by_source => words(&[&["DO NOTHING", "INSERT"]]),
        [.., "THEN"] => words(&[&["DELETE", "DO NOTHING", "UPDATE SET"]]),
        [.., "THEN", "DO"] => words(&[&["NOTHING"]]),
        [.., "INSERT"] => words(&[&["(", "DEFAULT VALUES", "VALUES"]]),
        [.., "INSERT", CLOSED] => words(&[&["VALUES"]]),
        [.., "NOTHING" | "DELETE"] | [.., "VALUES", CLOSED] => words(&[&["WHEN"]]),
        _ => None,
    }
}

/// What is likely in a query or a change at one level of brackets.
fn of_query(level: &[&str]) -> Option<Next> {
    let verb = *level.first()?;
    let begins = ["DELETE", "FROM", "INSERT", "MERGE", "SELECT", "UPDATE", "VALUES", "WITH"];
    if !begins.contains(&verb) {
        return None;
    }
    let changes = ["DELETE", "INSERT", "UPDATE"].iter().any(|word| level.contains(word));
    let last = level.last().copied().unwrap_or_default();
    let before = level.len().checked_sub(2).and_then(|at| level.get(at)).copied().unwrap_or_default();
    match last {
        "UNION" | "EXCEPT" | "INTERSECT" => return words(&[&["ALL", "DISTINCT", "SELECT", "VALUES"]]),
        "ASC" | "DESC" => return words(&[&["LIMIT", "NULLS", "OFFSET"]]),
        "NULLS" => return words(&[&["FIRST", "LAST"]]),
        "FIRST" | "LAST" if before == "NULLS" => return words(&[&["LIMIT", "OFFSET"]]),
        "LIMIT" | "OFFSET" => return words(&[]),
        _ => {}
    }
    let at = clause(level)?;
    let clause = level[at];
    if !is_whole(level) {
        return match clause {
            // Names of tables.
            "FROM" | "JOIN" | "USING" => None,
            "SELECT" if last == "SELECT" => value(&["ALL", "DISTINCT"]),
            "VALUES" => words(&[&["("]]),
            _ => of_value(level),
        };
    }
    let at_end: &[&str] = if changes { &["RETURNING"] } else { &["LIMIT", "OFFSET", "ORDER"] };
    let sets: &[&str] = if changes { &[] } else { SETS };
    let grouped: &[&str] = if changes { &[] } else { &["GROUP", "HAVING"] };
    let going_on = going_on(level);
    match clause {
        "SELECT" => words(&[&going_on, &["AS", "FROM"], OPERATORS, sets]),
        "FROM" if verb == "DELETE" => words(&[&["AS", "RETURNING", "USING", "WHERE"]]),
        "FROM" => words(&[&["AS", "WHERE"], JOINS, grouped, at_end, sets]),
        "JOIN" if level[..at].last() == Some(&"CROSS") || level[..at].contains(&"NATURAL") => {
            words(&[&["AS", "WHERE"], JOINS, grouped, at_end, sets])
        }
        "JOIN" => words(&[&["ON", "USING", "AS"]]),
        "ON" if verb == "MERGE" => words(&[&["WHEN"], OPERATORS]),
        "USING" => words(&[&["AS", "WHERE"], JOINS, grouped, at_end, sets]),
        "ON" => words(&[&["WHERE"], OPERATORS, JOINS, grouped, at_end, sets]),
        "WHERE" => words(&[&going_on, OPERATORS, grouped, at_end, sets]),
        "WHEN" if verb == "MERGE" => words(&[&["THEN"], OPERATORS]),
        "HAVING" => words(&[&going_on, OPERATORS, at_end, sets]),
        "BY" if level.get(at.wrapping_sub(1)) == Some(&"ORDER") => {
            words(&[&going_on, &["ASC", "DESC", "LIMIT", "NULLS", "OFFSET"]])
        }
        "BY" => words(&[&going_on, &["HAVING"], at_end, sets]),
        "LIMIT" => words(&[&["OFFSET"]]),
        "OFFSET" => words(&[&["LIMIT"]]),
        "SET" if before == "SET" || before == "," => words(&[&["="]]),
        "SET" if verb == "MERGE" => words(&[&going_on, OPERATORS, &["WHEN"]]),
        "SET" if verb == "UPDATE" => words(&[&going_on, &["FROM", "RETURNING", "WHERE"], OPERATORS]),
        "SET" => words(&[&going_on, &["RETURNING", "WHERE"], OPERATORS]),
        "VALUES" if level.contains(&"INSERT") => words(&[&["ON CONFLICT", "RETURNING"]]),
        "VALUES" => words(&[&["LIMIT", "OFFSET", "ORDER"], SETS]),
        "RETURNING" => words(&[&going_on, &["AS"], OPERATORS]),
        _ => None,
    }
}

/// Where the clause begins that the cursor is in.
fn clause(level: &[&str]) -> Option<usize> {
    level.iter().enumerate().rposition(|(at, word)| {
        let before = at.checked_sub(1).and_then(|before| level.get(before)).copied().unwrap_or_default();
        // `IS DISTINCT FROM`, and WHEN of CASE.
        let is_other = *word == "FROM" && before == "DISTINCT" || *word == "WHEN" && level[0] != "MERGE";
        CLAUSES.contains(word) && !is_other
    })
}

/// What a value that has just ended goes on with by itself: the rest of CASE, the windows of a call.
fn going_on(level: &[&str]) -> Vec<&'static str> {
    let count = |wanted: &str| level.iter().filter(|word| **word == wanted).count();
    if level.last() == Some(&CLOSED) {
        return vec!["FILTER", "OVER", "WITHIN"];
    }
    if count("CASE") <= count("END") {
        return Vec::new();
    }
    match level.iter().rev().find(|word| ["CASE", "WHEN", "THEN", "ELSE"].contains(word)) {
        Some(&"CASE") => vec!["WHEN"],
        Some(&"WHEN") => vec!["THEN"],
        Some(&"THEN") => vec!["ELSE", "END", "WHEN"],
        _ => vec!["END"],
    }
}

/// Where a value begins, or goes on after an operator that is a word.
fn of_value(level: &[&str]) -> Option<Next> {
    let (last, before) = level.split_last()?;
    match *last {
        // Names, types and the rest of an operator.
        "AS" | "OVER" | "FILTER" | "WITHIN" | "IS" | "ORDER" | "GROUP" | "PARTITION" => None,
        "NOT" if before.last() == Some(&"IS") => words(&[&["DISTINCT", "FALSE", "NULL", "TRUE"]]),
        "NOT" if is_whole(before) => words(&[&["BETWEEN", "ILIKE", "IN", "LIKE"]]),
        "IN" => words(&[&["("]]),
        "CASE" => value(&["WHEN"]),
        "INNER" | "CROSS" | "LEFT" | "RIGHT" | "FULL" | "NATURAL" | "OUTER" => None,
        _ => value(&[]),
    }
}

fn value(more: &[&'static str]) -> Option<Next> {
    Some(Next::Value([more, VALUES].concat()))
}

/// Inside of brackets, behind these words, that hold no query.
fn in_brackets(outer: &[&str], level: &[&str]) -> Option<Next> {
    let last = level.last().copied();
    match outer {
        [.., "IDENTITY"] => match last {
            Some("INCREMENT") => words(&[&["BY"]]),
            Some("START") => words(&[&["WITH"]]),
            Some("BY" | "WITH" | "MINVALUE" | "MAXVALUE" | "-") => words(&[]),
            _ => words(&[IDENTITY_OPTIONS]),
        },
        _ if takes_table_options(outer) => match level {
            [] => words(&[TABLE_OPTIONS]),
            [.., ","] => words(&[TABLE_OPTIONS]),
            [.., "LAYOUT"] | [.., "SORT"] => words(&[&["= '"]]),
            _ => words(&[]),
        },
        ["CREATE" | "ALTER", "USER", .., "WITH"] => match last {
            None | Some(",") => words(&[USER_LIMITS]),
            Some(_) => words(&[]),
        },
        ["CREATE", "TABLE", ..] if !outer.contains(&"AS") => in_definitions(level),
        // Their columns are known to others.
        ["INSERT" | "COPY", ..] if !outer.contains(&"VALUES") && !outer.contains(&"SELECT") => None,
        ["CREATE", ..] if !outer.contains(&"AS") => None,
        ["ALTER" | "COPY" | "PREPARE", ..] => None,
        [.., "AS"] if level.is_empty() => words(&[&["SELECT", "VALUES", "WITH"]]),
        [.., "USING"] => Some(Next::Column),
        [.., "OVER" | "WITHIN" | "GROUP" | "FILTER"] => None,
        [.., "FROM" | "JOIN"] => None,
        _ if level.contains(&"FROM") || level.contains(&"AS") || level.contains(&"ORDER") => None,
        _ if is_whole(level) => words(&[&going_on(level), OPERATORS]),
        [.., "VALUES"] | [.., "VALUES", ","] => value(&["DEFAULT"]),
        [.., "IN" | "EXISTS" | "ANY"] if level.is_empty() => value(&["SELECT"]),
        _ => match level {
            [] => value(&["SELECT"]),
            _ => of_value(level),
        },
    }
}

/// Whether brackets behind these words hold options of a table.
fn takes_table_options<T: AsRef<str>>(outer: &[T]) -> bool {
    let word = |at: usize| outer.get(at).map(<T as AsRef<str>>::as_ref);
    let last = outer.last().map(<T as AsRef<str>>::as_ref);
    word(1) == Some("TABLE")
        && (word(0) == Some("CREATE") && last == Some("WITH")
            || word(0) == Some("ALTER") && last == Some("SET"))
}

/// Inside of the brackets of CREATE TABLE.
fn in_definitions(level: &[&str]) -> Option<Next> {
    let begin = level.iter().rposition(|word| *word == ",").map_or(0, |at| at + 1);
    match &level[begin..] {
        [] => words(&[&["PRIMARY KEY ("]]),
        ["PRIMARY"] => words(&[&["KEY ("]]),
        ["PRIMARY", "KEY"] => words(&[&["("]]),
        ["PRIMARY", ..] => words(&[]),
        [_] => types(),
        [.., "NOT"] => words(&[&["NULL"]]),
        [.., "PRIMARY"] => words(&[&["KEY"]]),
        [.., "GENERATED"] => words(&[GENERATED]),
        [.., "GENERATED", "BY"] => words(&[&["DEFAULT AS IDENTITY"]]),
        [.., "GENERATED", "ALWAYS"] | [.., "GENERATED", "BY", "DEFAULT"] => words(&[&["AS IDENTITY"]]),
        [.., "ALWAYS" | "DEFAULT", "AS"] => words(&[&["IDENTITY"]]),
        [.., "IDENTITY"] => words(&[&["(", "NOT NULL", "PRIMARY KEY"]]),
        [.., "DEFAULT"] => Some(Next::Value(VALUES.to_vec())),
        [_, _, rest @ ..] if rest.contains(&"IDENTITY") => words(&[&["NOT NULL", "PRIMARY KEY"]]),
        [_, _, ..] => words(&[&["DEFAULT", "GENERATED", "NOT NULL", "PRIMARY KEY"]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::{self, Kind};

    /// What follows `text`, of which the words begin with `expected`.
    fn check(text: &str, expected: &[&str]) {
        let tokens = lex::tokens(text);
        let words: Vec<&str> = tokens
            .iter()
            .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
            .map(|token| &text[token.range.clone()])
            .collect();
        let found = match next(&words) {
            Some(Next::Words(words) | Next::Value(words)) => words,
            Some(
                Next::Table(words)
                | Next::View(words)
                | Next::Relation(words)
                | Next::Account(words)
                | Next::Prepared(words),
            ) => words.to_vec(),
            Some(Next::Column) => vec!["a column"],
            None => vec!["anything"],
        };
        let shown = &found[..found.len().min(expected.len())];
        assert_eq!(shown, expected, "{text}: {found:?}");
        assert!(!expected.is_empty() || found.is_empty(), "{text}: {found:?}");
    }

    #[test]
    fn clauses_of_queries() {
        check("select", &["ALL", "DISTINCT", "ARRAY", "CASE"]);
        check("select a", &["AS", "FROM", "AND"]);
        check("select *", &["AS", "FROM"]);
        check("select a,", &["ARRAY", "CASE"]);
        check("select a +", &["ARRAY"]);
        check("select sum(a)", &["FILTER", "OVER", "WITHIN", "AS", "FROM"]);
        check("select (a", &["AND"]);
        check("select case when a", &["THEN"]);
        check("select case when a then 1", &["ELSE", "END", "WHEN"]);
        check("select * from", &["anything"]);
        check("select * from t", &["AS", "WHERE", "CROSS"]);
        check("select * from app.t", &["AS", "WHERE"]);
        check("select * from t join u", &["ON", "USING"]);
        check("select * from t cross join u", &["AS", "WHERE"]);
        check("select * from t join u using (", &["a column"]);
        check("select * from t join u on", &["ARRAY"]);
        check("select * from t join u on t.a = u.a", &["WHERE", "AND"]);
        check("select * from t where a", &["AND", "BETWEEN"]);
        check("select * from t where a not", &["BETWEEN", "ILIKE", "IN", "LIKE"]);
        check("select * from t where a is not", &["DISTINCT", "FALSE", "NULL"]);
        check("select * from t where a in", &["("]);
        check("select * from t where a in (", &["SELECT"]);
        check("select * from t where a in (select b from u", &["AS", "WHERE"]);
        check("select * from t where a is distinct from b", &["AND"]);
        check("select * from t group by a", &["HAVING", "LIMIT"]);
        check("select * from t order by a", &["ASC", "DESC", "LIMIT", "NULLS"]);
        check("select * from t order by a desc", &["LIMIT", "NULLS"]);
        check("select * from t order by a nulls", &["FIRST", "LAST"]);
        check("select * from t limit", &[]);
        check("select * from t limit 3", &["OFFSET"]);
        check("select 1 union", &["ALL", "DISTINCT", "SELECT"]);
        check("with", &["RECURSIVE"]);
        check("with a as", &["("]);
        check("with a as (", &["SELECT", "VALUES", "WITH"]);
        check("with a as (select 1)", &["DELETE", "INSERT", "MERGE", "SELECT"]);
        check("with a as (select 1) select * from a", &["AS", "WHERE"]);
        check("explain analyze", &["ALTER"]);
        check("explain select a", &["AS", "FROM"]);
    }

    #[test]
    fn clauses_of_changes() {
        check("insert into t", &["(", "DEFAULT VALUES", "SELECT", "VALUES"]);
        check("insert into app.t (a, b)", &["SELECT", "VALUES"]);
        check("insert into t values", &["("]);
        check("insert into t values (", &["DEFAULT"]);
        check("insert into t values (1)", &["ON CONFLICT", "RETURNING"]);
        check("insert into t values (1) on", &["CONFLICT"]);
        check("insert into t values (1) on conflict", &["(", "DO"]);
        check("insert into t values (1) on conflict (a) do", &["NOTHING", "UPDATE SET"]);
        check("insert into t values (1) on conflict do update set", &["a column"]);
        check("update t", &["AS", "SET"]);
        check("update t as n", &["SET"]);
        check("update t set", &["a column"]);
        check("update t set a", &["="]);
        check("update t set a = 1", &["FROM", "RETURNING", "WHERE"]);
        check("update t set a = 1 where b", &["AND"]);
        check("delete from t", &["AS", "RETURNING", "USING", "WHERE"]);
        check("merge into t n", &["anything"]);
        check("merge into t as n", &["USING"]);
        check("merge into t using u", &["AS", "ON"]);
        check("merge into t using u on t.a = u.a", &["WHEN"]);
        check("merge into t using u on t.a = u.a when", &["MATCHED", "NOT MATCHED"]);
        check("merge into t using u on t.a = u.a when matched then", &["DELETE", "DO NOTHING", "UPDATE SET"]);
        check("merge into t using u on t.a = u.a when not matched then", &["DO NOTHING", "INSERT"]);
        check("merge into t using u on a = b when not matched by source then", &["DELETE"]);
        check("prepare p as select a", &["AS", "FROM"]);
    }

    #[test]
    fn definitions() {
        check("create table t", &["(", "AS", "WITH ("]);
        check("create table t (", &["PRIMARY KEY ("]);
        check("create table t (a", &["BIGINT"]);
        check("create table t (a int", &["DEFAULT", "GENERATED", "NOT NULL", "PRIMARY KEY"]);
        check("create table t (a decimal(3, 1)", &["DEFAULT", "GENERATED", "NOT NULL"]);
        check("create table t (a int generated", GENERATED);
        check("create table t (a int generated by", &["DEFAULT AS IDENTITY"]);
        check("create table t (a int generated by default", &["AS IDENTITY"]);
        check("create table t (a int generated always as", &["IDENTITY"]);
        check("create table t (a int generated always as identity", &["(", "NOT NULL", "PRIMARY KEY"]);
        check("create table t (a int generated always as identity (", IDENTITY_OPTIONS);
        check("create table t (a int generated always as identity (start", &["WITH"]);
        check("create table t (a int generated always as identity (start with", &[]);
        check("create table t (a int generated always as identity (start with 7", IDENTITY_OPTIONS);
        check(
            "create table t (a int generated always as identity (start with 7)",
            &["NOT NULL", "PRIMARY KEY"],
        );
        check("create table t (a int generated always as identity, b", &["BIGINT"]);
        check("create table t (a int)", &["WITH ("]);
        check("create table t (a int) with (", &["layout = '", "sort = '"]);
        check("create table t as", &["SELECT", "VALUES", "WITH"]);
        check("create table t as select a", &["AS", "FROM"]);
        check("create table t as select a as", &["anything"]);
        check("create or", &["REPLACE"]);
        check("create view v", &["AS"]);
        check("create user u", &["NOSUPERUSER", "PASSWORD"]);
        check("create user u with (", USER_LIMITS);
        check("alter table", &["IF"]);
        check("alter table t", &["ADD", "ALTER", "DROP", "RENAME", "SET"]);
        check("alter table t add column c", &["BIGINT"]);
        check("alter table t add c int", &["DEFAULT", "NOT NULL"]);
        check("alter table t alter column c", &["DROP", "SET", "TYPE"]);
        check("alter table t alter c type", &["BIGINT"]);
        check("alter table t add c int, alter d set", &["DEFAULT", "NOT NULL"]);
        check("alter table t rename column c", &["TO"]);
        check("alter table t set", &["("]);
        check("alter table t set (", &["layout = '", "sort = '"]);
        check("alter table if exists t", &["ADD"]);
        check("drop table t", &["CASCADE", "RESTRICT"]);
        check("drop table if", &["EXISTS"]);
    }

    #[test]
    fn upkeep_and_sessions() {
        check("verify table t", &["DEEP", "REPAIR"]);
        check("run job compact", &["ON"]);
        check("show stats", &["FOR"]);
        check("show stats for", &["TABLE"]);
        check("wait", &["FOR"]);
        check("wait for version 3", &["TIMEOUT"]);
        check("begin", &["ISOLATION", "READ", "TRANSACTION"]);
        check("start", &["TRANSACTION"]);
        check("rollback", &["TO"]);
        check("set timezone", &["=", "TO"]);
        check("set time", &["ZONE"]);
        check("set time zone", &["'", "DEFAULT"]);
        check("set time zone 'UTC'", &["FOR DATABASE"]);
        check("grant select", &["ON", "TO"]);
        check("grant select on t", &["TO"]);
        check("revoke select on t", &["FROM"]);
        check("deallocate", &["ALL"]);
        check("cancel job", &[]);
    }

    #[test]
    fn texts_that_name_zones() {
        for words in [
            &["set", "time", "zone"] as &[&str],
            &["SET", "timezone", "="],
            &["set", "TimeZone", "to"],
            &["select", "a", "at", "time", "zone"],
        ] {
            assert!(takes_zone(words), "{words:?}");
        }
        for words in [&["set", "search_path", "="] as &[&str], &["select", "timezone", "="], &["zone"], &[]] {
            assert!(!takes_zone(words), "{words:?}");
        }
    }

    #[test]
    fn texts_of_options() {
        let words = ["create", "table", "t", "(", "a", "int", ")", "with", "(", "layout", "="];
        assert_eq!(texts(&words), LAYOUTS);
        let words = ["alter", "table", "t", "set", "(", "sort", "="];
        assert!(texts(&words).is_empty());
    }
}
