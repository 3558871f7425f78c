//! What schemas, tables, views and columns may be called.

use datafusion::sql::sqlparser::ast::Ident;

use super::limits::NAME_BYTES_MAX;
use super::{at_ident, invalid};
use crate::error::Result;
use crate::statement::name_of;

/// Schemas that are Cairn's own.
const RESERVED_SCHEMAS: &[&str] =
    &["system", "sys", "information_schema", "pg_catalog", "cairn", "main", "root", "sql"];

/// Whether nothing can be created in or as `schema`.
pub(super) fn is_reserved_schema(schema: &str) -> bool {
    RESERVED_SCHEMAS.contains(&schema)
}

/// Name for a new schema.
///
/// # Errors
/// 42939 for a reserved name; otherwise as [`new_object`].
pub(super) fn new_schema(ident: &Ident) -> Result<String> {
    let name = new_object(ident)?;
    if is_reserved_schema(&name) {
        let error = invalid("42939", format!("schema name {name} is reserved"))
            .map(|e| e.with_hint(format!("reserved: {}", RESERVED_SCHEMAS.join(", "))));
        return Err(at_ident(error, ident));
    }
    Ok(name)
}

/// Name for a new table, view, column or user.
///
/// # Errors
/// 42602 for a name against the rules, 42622 for one too long; both say the rule.
pub(crate) fn new_object(ident: &Ident) -> Result<String> {
    let name = name_of(ident);
    check(&name, ident.quote_style.is_some()).map_err(|error| at_ident(error, ident))?;
    Ok(name)
}

/// The rules, for names that come from a query as well.
///
/// # Errors
/// As [`new_object`].
pub(super) fn check(name: &str, quoted: bool) -> Result<()> {
    if name.is_empty() {
        return Err(invalid("42602", "a name may not be empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        let start: String = name.chars().take(24).collect();
        return Err(invalid(
            "42622",
            format!("name {start}… has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len()),
        ));
    }
    if name.starts_with('_') {
        return Err(invalid(
            "42939",
            format!("name {name} begins with _, which is kept for Cairn's own columns"),
        )
        .map(|e| e.with_hint("use a name that begins with a letter")));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid("42602", "a name may not hold control characters"));
    }
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !quoted && !plain {
        return Err(invalid("42602", format!("name {name} needs double quotes")).map(|e| {
            e.with_hint("without quotes a name is a letter a-z followed by letters, digits and _")
        }));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for (name, quoted, sqlstate) in [
            ("notes", false, None),
            ("n2_x", false, None),
            ("My Notes", true, None),
            ("größe", true, None),
            ("größe", false, Some("42602")),
            ("a$b", false, Some("42602")),
            ("", true, Some("42602")),
            ("a\nb", true, Some("42602")),
            ("_row_id", false, Some("42939")),
            ("_mine", true, Some("42939")),
        ] {
            assert_eq!(check(name, quoted).err().map(|e| e.sqlstate()), sqlstate, "{name}");
        }
        assert_eq!(check(&"x".repeat(129), false).unwrap_err().sqlstate(), "42622");
        assert_eq!(new_schema(&Ident::new("System")).unwrap_err().sqlstate(), "42939");
        assert_eq!(new_schema(&Ident::new("App")).unwrap(), "app");
    }
}
