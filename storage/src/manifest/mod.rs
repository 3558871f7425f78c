//! The manifest: the numbered, complete description of the database at one checkpoint.
//!
//! Owns: its model, bytes, numbered objects and the invariants checked before writing and after reading.
//! Does not own: when one is written (`checkpoint`). A manifest is immutable; a new one has the next number and
//! is created only if absent.

pub mod codec;
pub mod history;
pub mod identity;
pub mod invariants;
pub mod model;
pub mod store;

pub use model::{CatalogRecord, HistoryMark, LeafRef, Manifest, SegmentEntry, SegmentList, TableRecord};
pub use store::{Access, ManifestStore};
