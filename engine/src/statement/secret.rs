//! Telling, without parsing, that a text may hold a password. It may hold errors as well, and be cut off anywhere.

/// Whether `sql` may hold a password, and belongs into no history, log or quotation.
pub(crate) fn holds_secret(sql: &str) -> bool {
    let sql = without_comments(sql);
    about_users(&sql) || gives_password(&sql)
}

/// `CREATE [OR REPLACE] USER` and its like, anywhere.
fn about_users(sql: &str) -> bool {
    let words: Vec<&str> = words(sql).map(|(_, word)| word).collect();
    let is = |at: usize, any: &[&str]| {
        words.get(at).is_some_and(|w| any.iter().any(|a| w.eq_ignore_ascii_case(a)))
    };
    (0..words.len()).filter(|at| is(*at, &["CREATE", "ALTER"])).any(|at| {
        let replaces = is(at + 1, &["OR"]) && is(at + 2, &["REPLACE"]);
        is(if replaces { at + 3 } else { at + 1 }, &["USER", "ROLE"])
    })
}

/// `PASSWORD '…'`, anywhere.
fn gives_password(sql: &str) -> bool {
    words(sql).filter(|(_, word)| word.eq_ignore_ascii_case("PASSWORD")).any(|(at, word)| {
        let rest = &sql[at + word.len()..];
        let value = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        value.len() < rest.len()
            && (value.starts_with(['\'', '"', '$']) || value.starts_with("E'") || value.starts_with("e'"))
    })
}

/// Words with where they begin.
fn words(sql: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = sql.as_ptr() as usize;
    let parts = sql.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    parts.map(move |word| (word.as_ptr() as usize - base, word))
}

fn without_comments(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find("--").into_iter().chain(rest.find("/*")).min() {
        text.push_str(&rest[..at]);
        text.push(' ');
        let end = if rest[at..].starts_with("--") { "\n" } else { "*/" };
        rest = rest[at + 2..].split_once(end).map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_with_passwords_are_told() {
        for sql in [
            "CREATE USER bob PASSWORD 'x'",
            "create\n user bob",
            "ALTER /* PASSWORD */ USER bob PASSWORD 'x",
            "SELECT 1; CREATE OR REPLACE ROLE bob",
            "CRATE USER bob PASSWORD 'x'",
            "CREATE -- a user\nUSER bob",
            "GRANT x TO bob PASSWORD = $$x$$",
            "bob PASSWORD E'x'",
        ] {
            assert!(holds_secret(sql), "{sql}");
        }
        for sql in [
            "SELECT password FROM users",
            "SELECT 'PASSWORD'",
            "DROP USER bob",
            "CREATE TABLE t (password TEXT)",
            "-- CREATE USER bob",
            "",
        ] {
            assert!(!holds_secret(sql), "{sql}");
        }
    }
}
