//! Limits of what can be created. Statement length and nesting are in `statement`, types in `dialect::types`.

/// Longest name of a schema, table, view or column, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most columns of a table or view.
pub const COLUMNS_MAX: usize = 2_000;
/// Most columns of a primary key or sort order.
pub const KEY_COLUMNS_MAX: usize = 32;
/// Longest text of a view's query, in bytes.
pub(super) const VIEW_BYTES_MAX: usize = 1 << 20;
/// Longest text of a column's default, in bytes.
pub(super) const DEFAULT_BYTES_MAX: usize = 16 << 10;
