//! Deletion vectors: which positions of a segment were deleted, and by which commit.
//!
//! Owns: the vector, its merge and its bytes (`deletes/codec`). Does not own: which `.deletes` objects a segment has
//! (`manifest`, `wal`). A row version has at most one delete version: the same delete seen twice counts once, with
//! the earlier version.

mod codec;

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::checksum;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, ObjectId, TableId};
use crate::object::put_own;

/// Everything the manifest and WAL say of one `.deletes` object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletesMeta {
    /// Its id.
    pub id: ObjectId,
    /// Table of the segment.
    pub table: TableId,
    /// Segment the positions are in.
    pub segment: ObjectId,
    /// Positions in it.
    pub rows: u64,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// crc32c of the object up to the checksums it ends in.
    pub crc32c: u32,
    /// Version of every delete in it, filled in by the commit of a spilled delete; None: the object holds one each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<CommitVersion>,
}

impl DeletesMeta {
    /// Path of the object below the root. Named by its own id, since a spilled delete does not know its version yet.
    #[must_use]
    pub fn path(&self) -> String {
        format!("table/{}/{}.{}.deletes", self.table, self.segment, self.id)
    }

    /// This spilled delete with the version its commit gave it.
    #[must_use]
    pub fn committed(mut self, version: CommitVersion) -> Self {
        self.version = Some(version);
        self
    }
}

/// The versions of a vector's deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteVersions {
    /// All by one commit.
    Constant(CommitVersion),
    /// In the order of the positions.
    Each(Arc<[CommitVersion]>),
}

/// The deleted positions of one segment. Immutable and cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionVector {
    positions: Arc<RoaringBitmap>,
    versions: DeleteVersions,
    max_version: CommitVersion,
}

impl DeletionVector {
    /// Positions deleted by one commit.
    #[must_use]
    pub fn constant(positions: RoaringBitmap, version: CommitVersion) -> Self {
        Self {
            positions: Arc::new(positions),
            versions: DeleteVersions::Constant(version),
            max_version: version,
        }
    }

    /// Positions with the version that deleted each; repeats count once, with the earlier version.
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u32, CommitVersion)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        pairs.dedup_by_key(|(position, _)| *position);
        Self::from_ascending(pairs)
    }

    fn from_ascending(pairs: Vec<(u32, CommitVersion)>) -> Self {
        let max_version = pairs.iter().map(|(_, version)| *version).max().unwrap_or_default();
        let constant = pairs.iter().all(|(_, version)| *version == max_version);
        let mut positions = RoaringBitmap::new();
        positions.extend(pairs.iter().map(|(position, _)| *position));
        let versions = if constant {
            DeleteVersions::Constant(max_version)
        } else {
            DeleteVersions::Each(pairs.iter().map(|(_, version)| *version).collect())
        };
        Self { positions: Arc::new(positions), versions, max_version }
    }

    /// All positions, whatever the version.
    #[must_use]
    pub fn positions(&self) -> &Arc<RoaringBitmap> {
        &self.positions
    }

    /// The versions of the deletes.
    #[must_use]
    pub fn versions(&self) -> &DeleteVersions {
        &self.versions
    }

    /// Version of the latest delete; a read at or above it sees them all.
    #[must_use]
    pub fn max_version(&self) -> CommitVersion {
        self.max_version
    }

    /// How many positions.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.positions.len()
    }

    /// Whether nothing is deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Positions with their versions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, CommitVersion)> + '_ {
        self.positions.iter().enumerate().map(|(i, position)| {
            let version = match &self.versions {
                DeleteVersions::Constant(version) => *version,
                DeleteVersions::Each(versions) => versions.get(i).copied().unwrap_or(self.max_version),
            };
            (position, version)
        })
    }

    /// The version that deleted `position`; None: not deleted.
    #[must_use]
    pub fn version_of(&self, position: u32) -> Option<CommitVersion> {
        if !self.positions.contains(position) {
            return None;
        }
        Some(match &self.versions {
            DeleteVersions::Constant(version) => *version,
            DeleteVersions::Each(versions) => {
                let rank = self.positions.rank(position).saturating_sub(1);
                versions.get(rank as usize).copied().unwrap_or(self.max_version)
            }
        })
    }

    /// Positions not visible any more at `version`: deleted by it or before. Shared, not copied, for reads at or
    /// above [`max_version`](Self::max_version).
    #[must_use]
    pub fn deleted_at(&self, version: CommitVersion) -> Arc<RoaringBitmap> {
        if version >= self.max_version {
            return Arc::clone(&self.positions);
        }
        if let DeleteVersions::Constant(_) = self.versions {
            return Arc::default();
        }
        Arc::new(
            self.iter().filter(|(_, deleted)| *deleted <= version).map(|(position, _)| position).collect(),
        )
    }

    /// Both vectors' deletes; of the same position's two versions the earlier counts.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        if let (DeleteVersions::Constant(a), DeleteVersions::Constant(b)) = (&self.versions, &other.versions)
            && a == b
        {
            return Self::constant(&*self.positions | &*other.positions, *a);
        }
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        let mut merged = Vec::with_capacity((self.len() + other.len()) as usize);
        loop {
            merged.push(match (left.peek().copied(), right.peek().copied()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    left.next();
                    right.next();
                    (a.0, a.1.min(b.1))
                }
                (Some(a), Some(b)) if a.0 < b.0 => {
                    left.next();
                    a
                }
                (Some(a), None) => {
                    left.next();
                    a
                }
                (_, Some(b)) => {
                    right.next();
                    b
                }
                (None, None) => break,
            });
        }
        Self::from_ascending(merged)
    }

    /// Writes the vector as object `id` of `segment`, durable on return.
    ///
    /// `keep_versions` = false is for a spilled delete, whose one version is given by its commit.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(
        &self,
        store: &dyn ObjectStore,
        id: ObjectId,
        table: TableId,
        segment: ObjectId,
        keep_versions: bool,
    ) -> Result<DeletesMeta> {
        let bytes = codec::encode(self, segment, keep_versions)?;
        let meta = DeletesMeta {
            id,
            table,
            segment,
            rows: self.len(),
            bytes: bytes.len() as u64,
            crc32c: checksum::of(&bytes, codec::own_checksum_bytes(bytes.len())),
            version: None,
        };
        put_own(store, meta.path(), bytes.into()).await?;
        Ok(meta)
    }

    /// Reads the object `meta` names.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Unsupported` for a newer format, the store's.
    pub async fn load(store: &dyn ObjectStore, meta: &DeletesMeta) -> Result<Self> {
        let path = meta.path();
        let bytes = store.get(&Path::from(path.as_str())).await?.bytes().await?;
        if bytes.len() as u64 != meta.bytes {
            return Err(Error::corrupt(&path, format!("{} bytes instead of {}", bytes.len(), meta.bytes)));
        }
        let vector = codec::decode(&path, &bytes, meta.segment, meta.version)?;
        let ours = checksum::holds(&bytes, codec::own_checksum_bytes(bytes.len()), meta.crc32c);
        if vector.len() != meta.rows || !ours {
            return Err(Error::corrupt(&path, "not the object its meta describes"));
        }
        Ok(vector)
    }
}

#[cfg(test)]
mod tests;
