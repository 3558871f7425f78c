//! Telling, without parsing, that a text may hold a password or a key. It may hold errors as well, and be cut off anywhere.

/// What a password or a key stands behind.
pub(super) const GIVING: [&str; 4] = ["PASSWORD", "SECRET", "KEY_ID", "SESSION_TOKEN"];

/// What a signature stands behind in a URL.
const SIGNING: [&str; 4] = ["signature=", "sig=", "token=", "credential="];

/// Whether `sql` may hold a password or a key, and belongs into no history, log or quotation.
pub(crate) fn holds_secret(sql: &str) -> bool {
    // In a URL what looks like a comment is none.
    if in_url(sql) {
        return true;
    }
    let sql = without_comments(sql);
    about_users_or_secrets(&sql) || gives_one(&sql)
}

/// `s3://key:secret@bucket/…` or a signed URL, which are refused, anywhere.
fn in_url(sql: &str) -> bool {
    sql.split("://").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"')).unwrap_or(rest.len());
        let (place, query) = rest[..end].split_once('?').unwrap_or((&rest[..end], ""));
        let query = query.to_ascii_lowercase();
        let who = place.rsplit_once('@').map(|(who, _)| who);
        // Keys may hold slashes.
        who.is_some_and(|who| who.contains(':') || !who.contains('/'))
            || SIGNING.iter().any(|signing| query.contains(signing))
    })
}

/// `CREATE [OR REPLACE] USER` and its like, anywhere.
fn about_users_or_secrets(sql: &str) -> bool {
    let words: Vec<&str> = words(sql).map(|(_, word)| word).collect();
    let is = |at: usize, any: &[&str]| {
        words.get(at).is_some_and(|w| any.iter().any(|a| w.eq_ignore_ascii_case(a)))
    };
    (0..words.len()).filter(|at| is(*at, &["CREATE", "ALTER"])).any(|at| {
        let replaces = is(at + 1, &["OR"]) && is(at + 2, &["REPLACE"]);
        let next = if replaces { at + 3 } else { at + 1 };
        let lives = is(next, &["TEMPORARY", "TEMP", "PERSISTENT"]);
        is(next, &["USER", "ROLE"]) || is(if lives { next + 1 } else { next }, &["SECRET"])
    })
}

/// `PASSWORD '…'` and its like, anywhere.
fn gives_one(sql: &str) -> bool {
    words(sql).filter(|(_, word)| GIVING.iter().any(|giving| word.eq_ignore_ascii_case(giving))).any(
        |(at, word)| {
            let rest = &sql[at + word.len()..];
            // Columns of the other names are compared with texts.
            let is_between =
                |c: char| c.is_whitespace() || (c == '=' && word.eq_ignore_ascii_case("PASSWORD"));
            let value = rest.trim_start_matches(is_between);
            value.len() < rest.len()
                && (value.starts_with(['\'', '"', '$']) || value.starts_with("E'") || value.starts_with("e'"))
        },
    )
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
            "CREATE SECRET a (TYPE s3)",
            "create or replace temporary\n secret a",
            "CREATE /* a */ PERSISTENT SECRET a (SECRET 'x",
            "CRATE SECRT a (TYPE s3, KEY_ID 'x', SECRET 'y')",
            "(TYPE s3, session_token $$x$$",
            "COPY t FROM 's3://AKIA:a/b@bucket/x'",
            "SELECT * FROM \"https://x@host/y\"",
            "SELECT * FROM 's3://bucket/a--b.csv?X-Amz-Signature=x'",
            "SELECT * FROM read_csv('az://c/x.csv?sv=1&sig=x')",
        ] {
            assert!(holds_secret(sql), "{sql}");
        }
        for sql in [
            "SELECT password FROM users",
            "SELECT 'PASSWORD'",
            "DROP USER bob",
            "DROP SECRET a",
            "SHOW SECRETS",
            "SELECT secret FROM t WHERE key_id = 'x'",
            "CREATE TABLE secret (secret TEXT)",
            "CREATE TEMP TABLE t (key_id INT)",
            "CREATE TABLE t (password TEXT)",
            "-- CREATE USER bob",
            "SELECT * FROM 's3://bucket/a@b/c?.csv'",
            "SELECT 'a://', 'b@c', 'sig=x'",
            "",
        ] {
            assert!(!holds_secret(sql), "{sql}");
        }
    }
}
