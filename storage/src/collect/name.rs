//! What an object is, by its path below the root.
//!
//! Owns: reading paths. Does not own: writing them (`segment`, `index`, `manifest`, `wal`). A path is understood only when it is
//! spelled exactly as Cairn does: all others are somebody else's, and are left alone.

use crate::id::{Epoch, ManifestNumber, ObjectId, WalNumber};

/// The folder of leaves.
pub(crate) const LEAVES: &str = "manifest/leaf";

/// What is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `table/<table>/<id>.parquet`
    Segment,
    /// `table/<table>/<id>.keys`
    KeyFilter,
    /// `table/<table>/<segment>.<id>.deletes`
    Deletes,
    /// `table/<table>/index/<id>.hnsw`
    IndexUnit,
    /// `manifest/leaf/<id>`
    ManifestLeaf,
    /// `manifest/<number>`
    Manifest,
    /// `wal/<number>`
    Wal,
    /// `history/<number>`
    History,
    /// `probe/…`: what the question whether a store can do what is needed has left.
    Probe,
}

impl ObjectKind {
    /// In words, for receipts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::KeyFilter => "key filter",
            Self::Deletes => "deletes",
            Self::IndexUnit => "index unit",
            Self::ManifestLeaf => "manifest leaf",
            Self::Manifest => "manifest",
            Self::Wal => "wal",
            Self::History => "history",
            Self::Probe => "probe",
        }
    }
}

/// A path as it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectName {
    /// A segment or what belongs to one, an index unit, a leaf: all that have ids.
    Made(ObjectKind, ObjectId),
    Manifest(ManifestNumber),
    Wal(WalNumber),
    History(ManifestNumber),
    Probe,
}

impl ObjectName {
    /// None: the path is none of those that are collected.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (folder, rest) = path.split_once('/')?;
        match folder {
            "table" => of_table(rest),
            "manifest" => match rest.strip_prefix("leaf/") {
                Some(id) => made(ObjectKind::ManifestLeaf, id),
                None => number(rest).map(|n| Self::Manifest(ManifestNumber(n))),
            },
            "wal" => number(rest).map(|n| Self::Wal(WalNumber(n))),
            "history" => number(rest).map(|n| Self::History(ManifestNumber(n))),
            "probe" => (!rest.is_empty()).then_some(Self::Probe),
            _ => None,
        }
    }
}

fn of_table(rest: &str) -> Option<ObjectName> {
    let (table, name) = rest.split_once('/')?;
    if table.parse::<u64>().ok()?.to_string() != table {
        return None;
    }
    if let Some(unit) = name.strip_prefix("index/") {
        return made(ObjectKind::IndexUnit, unit.strip_suffix(".hnsw")?);
    }
    let (stem, extension) = name.rsplit_once('.')?;
    match extension {
        "parquet" => made(ObjectKind::Segment, stem),
        "keys" => made(ObjectKind::KeyFilter, stem),
        "deletes" => {
            let (segment, id) = stem.split_once('.')?;
            object_id(segment)?;
            made(ObjectKind::Deletes, id)
        }
        _ => None,
    }
}

fn made(kind: ObjectKind, id: &str) -> Option<ObjectName> {
    Some(ObjectName::Made(kind, object_id(id)?))
}

fn object_id(text: &str) -> Option<ObjectId> {
    let (epoch, sequence) = text.split_once('-')?;
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let id = ObjectId { epoch: Epoch(hexadecimal(epoch)?), sequence: hexadecimal(sequence)? };
    (id.to_string() == text).then_some(id)
}

/// Twenty digits.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (format!("{number:020}") == text).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::TableId;
    use crate::manifest::store::manifest_path;
    use crate::segment::DeletesMeta;

    fn id(epoch: u64, sequence: u64) -> ObjectId {
        ObjectId { epoch: Epoch(epoch), sequence }
    }

    #[test]
    fn paths_are_understood_as_they_are_written() {
        let deletes = DeletesMeta {
            id: id(2, 9),
            table: TableId(7),
            segment: id(1, 4),
            rows: 1,
            bytes: 1,
            crc32c: 0,
            version: None,
        };
        let made = ObjectName::Made;
        for (path, name) in [
            (format!("table/7/{}.parquet", id(1, 4)), made(ObjectKind::Segment, id(1, 4))),
            (format!("table/7/{}.keys", id(1, 4)), made(ObjectKind::KeyFilter, id(1, 4))),
            (deletes.path(), made(ObjectKind::Deletes, id(2, 9))),
            (format!("table/7/index/{}.hnsw", id(u64::MAX, 3)), made(ObjectKind::IndexUnit, id(u64::MAX, 3))),
            (format!("manifest/leaf/{}", id(3, 1 << 40)), made(ObjectKind::ManifestLeaf, id(3, 1 << 40))),
            (manifest_path(ManifestNumber(12)), ObjectName::Manifest(ManifestNumber(12))),
            (crate::wal::object_path(WalNumber(u64::MAX)), ObjectName::Wal(WalNumber(u64::MAX))),
            (format!("history/{:020}", 5), ObjectName::History(ManifestNumber(5))),
            ("probe/3f2a".to_owned(), ObjectName::Probe),
        ] {
            assert_eq!(ObjectName::of(&path), Some(name), "{path}");
        }
    }

    #[test]
    fn other_paths_are_nobody_s_business() {
        for path in [
            "",
            "CAIRN",
            "boundary",
            "writer",
            "table",
            "table/7",
            "table/7/00000001-00000004",
            "table/7/00000001-00000004.parquet.bak",
            "table/7/00000001-00000004.PARQUET",
            "table/7/1-4.parquet",
            "table/7/0000000A-00000004.parquet",
            "table/7/+0000001-00000004.parquet",
            "table/07/00000001-00000004.parquet",
            "table/x/00000001-00000004.parquet",
            "table/7/index/00000001-00000004.parquet",
            "table/7/index/x/00000001-00000004.hnsw",
            "table/7/00000001-00000004.deletes",
            "table/7/x.00000001-00000004.deletes",
            "table/7/notes.txt",
            "manifest/1",
            "manifest/000000000000000000001",
            "manifest/99999999999999999999",
            "manifest/leaf/x",
            "wal/tip",
            "wal/0000000000000000000a",
            "history/",
            "probe/",
            "other/00000000000000000001",
        ] {
            assert_eq!(ObjectName::of(path), None, "{path}");
        }
    }
}
