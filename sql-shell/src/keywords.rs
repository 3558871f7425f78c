//! The words the shell paints and completes: the engine's list, and which of them begin a statement.

use cairn_engine::Session;

/// Words a statement can begin with.
pub(crate) const STARTS: &[&str] = &[
    "ALTER",
    "BEGIN",
    "CANCEL",
    "CHECKPOINT",
    "COMMIT",
    "COMPACT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DESCRIBE",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "GRANT",
    "INSERT",
    "KILL",
    "MERGE",
    "PAUSE",
    "PREPARE",
    "REINDEX",
    "RELEASE",
    "RESET",
    "RESUME",
    "RETRY",
    "REVOKE",
    "ROLLBACK",
    "RUN",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TRUNCATE",
    "UPDATE",
    "USE",
    "VACUUM",
    "VALUES",
    "VERIFY",
    "WAIT",
    "WARM",
    "WITH",
];

/// Whether `word` is a keyword, in any case.
pub(crate) fn is_keyword(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    Session::keywords().binary_search(&upper.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(Session::keywords().is_sorted());
        assert!(STARTS.is_sorted());
        assert!(STARTS.iter().all(|w| is_keyword(w)));
        assert!(is_keyword("select") && !is_keyword("selects"));
    }
}
