//! The names completion offers, as they are at one moment.

/// A table or view and its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// Those of type VECTOR.
    pub(crate) vectors: Vec<String>,
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
}

impl Names {
    /// The table `name` of `schema`, or of the current schema.
    pub(crate) fn table(&self, schema: Option<&str>, name: &str) -> Option<&TableName> {
        let schema = schema.unwrap_or(&self.current_schema);
        self.tables.iter().find(|t| t.schema == schema && t.name == name)
    }
}

/// A name as SQL writes it: quoted unless it is lower-case letters, digits and `_`.
pub(crate) fn quoted(name: &str) -> String {
    let simple = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if simple { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
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
    }
}
