//! The names completion offers, as they are at one moment.

/// A table or view and its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// Those of type VECTOR.
    pub(crate) vectors: Vec<String>,
    /// Whether it is a view.
    pub(crate) is_view: bool,
}

/// Everything that has a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Schema of unqualified names.
    pub(crate) current_schema: String,
    pub(crate) schemas: Vec<String>,
    pub(crate) tables: Vec<TableName>,
    /// Schema and name.
    pub(crate) indexes: Vec<(String, String)>,
    pub(crate) functions: Vec<String>,
    /// Functions that stand in FROM.
    pub(crate) table_functions: Vec<String>,
    pub(crate) settings: Vec<String>,
    /// Settings that SET may change.
    pub(crate) changeable: Vec<String>,
    /// Users and roles.
    pub(crate) accounts: Vec<String>,
    /// Statements prepared by name.
    pub(crate) prepared: Vec<String>,
}

impl Names {
    /// The table `name` of `schema`, or of the current schema.
    pub(crate) fn table(&self, schema: Option<&str>, name: &str) -> Option<&TableName> {
        let schema = schema.unwrap_or(&self.current_schema);
        self.tables.iter().find(|t| t.schema == schema && t.name == name)
    }
}

/// Words that are no names without quotes.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "create",
    "cross",
    "current",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "false",
    "fetch",
    "for",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "in",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "lateral",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "primary",
    "right",
    "select",
    "set",
    "table",
    "then",
    "to",
    "true",
    "union",
    "update",
    "user",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
];

/// A name as SQL writes it: quoted unless it is lower-case letters, digits and `_`, and no word of SQL's own.
pub(crate) fn quoted(name: &str) -> String {
    let simple = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if simple && RESERVED.binary_search(&name).is_err() {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// The name that `written` means: without quotes, or folded to lower case.
pub(crate) fn meant(written: &str) -> String {
    match written.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest).replace("\"\"", "\""),
        None => written.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_and_back() {
        for (name, sql) in
            [("notes", "notes"), ("_x1", "_x1"), ("My Table", "\"My Table\""), ("a\"b", "\"a\"\"b\"")]
        {
            assert_eq!(quoted(name), sql);
            assert_eq!(meant(sql), name);
        }
        assert_eq!(meant("NOTES"), "notes");
        assert_eq!(quoted("order"), "\"order\"");
        assert!(RESERVED.is_sorted());
    }
}
