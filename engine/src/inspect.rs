//! What stands in one file of a database, read by storage's own codecs without the database: for `cairn dump`.

pub use cairn_storage::database::JournalContents;
pub use cairn_storage::index::UnitContents;
pub use cairn_storage::manifest::codec::{DecodedManifest, decode_leaf, decode_manifest};
pub use cairn_storage::manifest::{SegmentEntry, SegmentList};
pub use cairn_storage::segment::SegmentContents;
pub use cairn_storage::wal::{LogContents, LogEntry};
