//! A statement without its values, for logs: who reads them must learn no secret and no row from them.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::secret::GIVING;
use super::{Statement, inspect};
use crate::copy::CopySubject;
use crate::dialect::CairnDialect;

/// Longest fingerprint, in bytes.
const FINGERPRINT_BYTES_MAX: usize = 4096;
/// Bytes of a statement that are read for it: tokens take many times the memory of their text.
const READ_BYTES_MAX: usize = 64 << 10;

/// What is written shorter: many values and many rows are one.
const REPEATED: [(&str, &str); 8] = [
    ("?, ?", "?…"),
    ("?,?", "?…"),
    ("?…, ?", "?…"),
    ("?…,?", "?…"),
    ("(?), (?", "(?…"),
    ("(?),(?", "(?…"),
    ("(?…), (?", "(?…"),
    ("(?…),(?", "(?…"),
];

/// `sql` with `?` for each literal and `…` for what repeats it, without comments, blanks made one; of a long one its beginning. Empty
/// when it cannot be cut into tokens. `is_parsed`: it is a statement, whose quotes are where they belong.
pub(crate) fn fingerprint(sql: &str, is_parsed: bool) -> String {
    of_beginning(sql, READ_BYTES_MAX, is_parsed)
}

/// The same of the first `read_max` bytes.
fn of_beginning(sql: &str, read_max: usize, is_parsed: bool) -> String {
    let Some((tokens, is_whole)) = tokens_of(sql, read_max, is_parsed) else { return String::new() };
    let mut text = String::new();
    let mut secret = false;
    let hidden = hidden_from(&tokens, is_parsed);
    for (at, token) in tokens.iter().map(|token| &token.token).enumerate() {
        if at == hidden {
            text.push_str(if text.ends_with(' ') { "?" } else { " ?" });
            return text;
        }
        if text.len() > FINGERPRINT_BYTES_MAX || (secret && !is_whole && !is_parsed) {
            text.push('…');
            break;
        }
        match token {
            Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with([' ', '(']) {
                    text.push(' ');
                }
            }
            // Somebody forgot the quotes.
            Token::Word(_) if std::mem::take(&mut secret) => text.push('?'),
            Token::Word(word) => {
                secret = word.value.eq_ignore_ascii_case("password");
                text.push_str(&token.to_string());
            }
            Token::Placeholder(_) => text.push_str(&token.to_string()),
            token if is_sign(token) => text.push_str(&token.to_string()),
            // Literals of every kind, those of later dialects too.
            _ => text.push('?'),
        }
        for (long, short) in REPEATED {
            if let Some(start) = text.strip_suffix(long).map(str::len) {
                text.truncate(start);
                text.push_str(short);
            }
        }
    }
    let last: &[char] = if is_whole { &[' ', ';'] } else { &[' ', ','] };
    text.truncate(text.trim_end_matches(last).len());
    if !is_whole && !text.ends_with('…') {
        text.push('…');
    }
    text
}

/// The first token of those that are shown as one `?`: what stands behind the name in CREATE SECRET, where a key without quotes would be words and signs;
/// and what stands behind the words that give a key, in what is no statement.
fn hidden_from(tokens: &[TokenWithSpan], is_parsed: bool) -> usize {
    let mut words = tokens.iter().enumerate().filter_map(|(at, token)| match &token.token {
        Token::Word(word) => Some((at, word.value.to_ascii_uppercase())),
        _ => None,
    });
    let is_key = |word: &str| GIVING.contains(&word) && word != "PASSWORD";
    let mut creates = false;
    while let Some((at, word)) = words.next() {
        match word.as_str() {
            "CREATE" => creates = true,
            "OR" | "REPLACE" | "TEMPORARY" | "TEMP" | "PERSISTENT" => {}
            "SECRET" if creates => {
                // Up to the name, when it stands there.
                let name = words.find(|(_, word)| !["IF", "NOT", "EXISTS"].contains(&word.as_str()));
                let last = name.map_or(at, |(name, _)| name);
                let between = &tokens[at + 1..last.max(at + 1)];
                let is_plain =
                    |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_) | Token::Word(_));
                return if between.iter().all(is_plain) { last + 1 } else { at + 1 };
            }
            word if is_key(word) && !is_parsed => return at + 1,
            _ => creates = false,
        }
    }
    usize::MAX
}

/// The tokens in the first `read_max` bytes of `sql`, and whether they are all. None when it cannot be cut into tokens.
fn tokens_of(sql: &str, read_max: usize, is_parsed: bool) -> Option<(Vec<TokenWithSpan>, bool)> {
    let read = &sql[..sql.floor_char_boundary(read_max)];
    let mut tokens = Vec::new();
    let ended = Tokenizer::new(&CairnDialect, read).tokenize_with_location_into_buf(&mut tokens);
    if read.len() == sql.len() {
        return ended.is_ok().then_some((tokens, true));
    }
    // A quote that is open at the cut may be one too many: then what seems to stand outside of quotes was meant to be inside.
    if ended.is_err() && !is_parsed {
        return None;
    }
    // The last token may be half of one, and seem to be of another kind.
    let is_end = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_) | Token::Comma);
    tokens.truncate(tokens.iter().rposition(is_end).unwrap_or(0));
    Some((tokens, false))
}

/// Punctuation and operators: text without letters, digits and quotes.
fn is_sign(token: &Token) -> bool {
    token.to_string().chars().all(|c| !c.is_alphanumeric() && c != '\'' && c != '"')
}

/// Tables a statement names, as written and without those it makes up (CTEs).
pub(crate) fn tables(statement: &Statement) -> Vec<String> {
    let of_query = |query: &ast::Query| inspect(&ast::Statement::Query(Box::new(query.clone()))).relations;
    let names = match statement {
        Statement::Query(query) => of_query(query),
        Statement::Dml(change) => inspect(change).relations,
        Statement::CreateTable(table) => {
            let read = table.query.as_deref().map(of_query).unwrap_or_default();
            std::iter::once(table.name.clone()).chain(read).collect()
        }
        Statement::CreateView(view) => {
            std::iter::once(view.name.clone()).chain(of_query(&view.query)).collect()
        }
        Statement::AlterTable(alter) => vec![alter.name.clone()],
        Statement::CreateIndex(index) => vec![index.table_name.clone()],
        Statement::Drop(drop) => drop.names.clone(),
        Statement::Truncate { tables, .. } => tables.clone(),
        Statement::Copy(copy) => match &copy.subject {
            CopySubject::Table { name, .. } => vec![name.clone()],
            CopySubject::Query(query) => of_query(query),
        },
        Statement::Describe(name) | Statement::Warm(name) => vec![name.clone()],
        Statement::Explain(explain) => return tables(&explain.statement),
        Statement::Prepare(prepared) => return tables(&prepared.statement),
        _ => Vec::new(),
    };
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::parse;

    #[test]
    fn no_literal_stays() {
        for (sql, expected) in [
            ("SELECT  a, 'secret' FROM t -- secret\n WHERE b = 1.5e3;", "SELECT a, ? FROM t WHERE b = ?"),
            ("INSERT INTO t VALUES (1, 'a', 3), (2, 'b', 4), (3,'c',5)", "INSERT INTO t VALUES (?…)"),
            ("SELECT $1, E'x\\'y', $$secret$$, X'ff' FROM \"My Table\"", "SELECT $1, ?… FROM \"My Table\""),
            ("CREATE USER anna PASSWORD 'secret'", "CREATE USER anna PASSWORD ?"),
            ("CREATE USER anna PASSWORD \"secret\"", "CREATE USER anna PASSWORD ?"),
            ("ALTER USER anna PASSWORD secret", "ALTER USER anna PASSWORD ?"),
            ("SELECT e <-> '[1,2]' FROM t WHERE a->>'k' = 'v'", "SELECT e <-> ? FROM t WHERE a->>? = ?"),
            ("SELECT 'never closed", ""),
            ("CREATE SECRET mine (TYPE s3, KEY_ID 'secret', SECRET 'secret')", "CREATE SECRET mine ?"),
            (
                "create or replace temp secret IF NOT EXISTS mine (SECRET abc/secret+)",
                "create or replace temp secret IF NOT EXISTS mine ?",
            ),
            ("CREATE SECRET (TYPE s3, SECRET 'secret')", "CREATE SECRET ?"),
        ] {
            assert_eq!(fingerprint(sql, true), expected, "{sql}");
            assert_eq!(fingerprint(sql, false), expected, "{sql}");
        }
        let long = format!("SELECT {} FROM t", vec!["column_name"; 5000].join(", "));
        assert!(fingerprint(&long, true).len() < FINGERPRINT_BYTES_MAX + 64);
    }

    #[test]
    fn long_statements_are_read_in_part() {
        let numbers = format!("SELECT 1{}", ",1".repeat(8 << 20));
        let begun = std::time::Instant::now();
        assert_eq!(fingerprint(&numbers, false), "SELECT ?…");
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
        let text = format!("INSERT INTO t VALUES (1, 'a'), (2, '{}')", "secret ".repeat(READ_BYTES_MAX));
        assert_eq!(fingerprint(&text, true), "INSERT INTO t VALUES (?…");
        assert_eq!(fingerprint(&text, false), "", "nobody knows where its quotes belong");
    }

    #[test]
    fn no_key_stays_of_what_is_no_statement() {
        for (sql, expected) in [
            ("CRATE SECRET mine (TYPE s3, SECRET hun/ter2)", "CRATE SECRET ?"),
            ("mine (TYPE s3, KEY_ID hun/ter2, SECRET 'x')", "mine (TYPE s3, KEY_ID ?"),
            ("CREATE SECRT mine (session_token hun+ter2)", "CREATE SECRT mine (session_token ?"),
            ("EXPLAIN CREATE SECRET mine (SECRET hun/ter2)", "EXPLAIN CREATE SECRET mine ?"),
        ] {
            assert_eq!(fingerprint(sql, false), expected, "{sql}");
        }
        assert_eq!(fingerprint("SELECT secret, key_id FROM t", true), "SELECT secret, key_id FROM t");
    }

    #[test]
    fn no_literal_stays_where_a_statement_is_cut() {
        let secret = "hunter2";
        for statement in [
            "CREATE SECRET mine (TYPE s3, KEY_ID 'hunter2', SECRET 'hunter2 hunter2');",
            "CREATE SECRET mine (TYPE s3, KEY_ID hunter2, SECRET hunter2/hunter2);",
            "CREATE OR REPLACE SECRET IF NOT EXISTS mine TYPE s3, SECRET 'it's hunter2 hunter2';",
        ] {
            let long = format!("{statement} -- and on");
            for cut in 0..=statement.len() {
                let text = of_beginning(&long, cut, false);
                assert!(!text.contains(secret), "{statement} cut at {cut}: {text}");
            }
        }
        let secret = "secret";
        for statement in [
            "CREATE USER anna PASSWORD 'secret secret';",
            "CREATE USER anna PASSWORD secret secret;",
            "CREATE USER anna PASSWORD \"secret secret\";",
            "CREATE USER anna PASSWORD 'it's secret secret';",
            "SELECT a, E'\\'secret', $$secret$$, $tag$ secret $tag$, 'a''secret' FROM t;",
        ] {
            let is_parsed = parse(statement).is_ok();
            let long = format!("{statement} -- and on");
            for cut in 0..=statement.len() {
                for is_parsed in [is_parsed, false] {
                    let text = of_beginning(&long, cut, is_parsed);
                    assert!(!text.contains(secret), "{statement} cut at {cut}: {text}");
                }
            }
        }
    }

    #[test]
    fn tables_named() {
        for (sql, expected) in [
            ("WITH c AS (SELECT * FROM a) SELECT * FROM c JOIN s.b ON true", vec!["a", "s.b"]),
            ("INSERT INTO t SELECT * FROM u", vec!["t", "u"]),
            ("CREATE TABLE n AS SELECT * FROM t", vec!["n", "t"]),
            ("DROP TABLE t, u", vec!["t", "u"]),
            ("COPY t TO 'x.csv'", vec!["t"]),
            ("SELECT 1", vec![]),
        ] {
            assert_eq!(tables(&parse(sql).unwrap()), expected, "{sql}");
        }
    }
}
