//! Names and places in a statement's text.

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Spanned};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::{Error, Position, Result};

/// The name an identifier stands for: quoted as written, otherwise lower-cased.
pub(crate) fn name_of(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Where `location` is; None for tokens the parser made up.
pub(crate) fn position_of(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

/// Where `ident` stands.
pub(crate) fn ident_position(ident: &Ident) -> Option<Position> {
    position_of(ident.span.start)
}

/// Where `name` begins.
pub(crate) fn object_position(name: &ObjectName) -> Option<Position> {
    position_of(name.span().start)
}

/// Schema and name of an object; an unqualified one stands in `search_path`. The catalog part may only be `cairn`.
///
/// # Errors
/// `InvalidInput` for more parts, or another catalog.
pub(crate) fn schema_and_name(name: &ObjectName, search_path: &str) -> Result<(String, String)> {
    let parts: Option<Vec<String>> = name.0.iter().map(|p| p.as_ident().map(name_of)).collect();
    let at = |error: Error| match object_position(name) {
        Some(position) => error.at(position),
        None => error,
    };
    match parts.as_deref() {
        Some([object]) => Ok((search_path.to_owned(), object.clone())),
        Some([schema, object]) => Ok((schema.clone(), object.clone())),
        Some([catalog, schema, object]) if catalog == crate::catalog::CATALOG => {
            Ok((schema.clone(), object.clone()))
        }
        Some([catalog, _, _]) => Err(at(Error::new(
            ErrorKind::InvalidInput,
            format!("there is no database {catalog} here; this one is named {}", crate::catalog::CATALOG),
        )
        .map(|e| e.with_sqlstate("3D000")))),
        _ => Err(at(Error::new(
            ErrorKind::InvalidInput,
            format!("{name} is not a name of the form schema.name"),
        )
        .map(|e| e.with_sqlstate("42601")))),
    }
}
