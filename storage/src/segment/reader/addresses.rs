//! Row ids and created versions: from the meta where they are arithmetic, else from the pseudo-columns, read once
//! and cached.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use roaring::RoaringBitmap;

use super::super::cache::{CacheKey, CacheValue};
use super::super::{Created, RowIds};
use super::rows::root_batches;
use super::{BATCH_ROWS, RowChoice, SegmentReader};
use crate::error::{Error, Result};
use crate::id::{CommitVersion, RowId};

/// A pseudo-column in memory.
#[derive(Debug)]
pub(crate) struct NumberColumn {
    values: Vec<u64>,
    /// Positions in order of their value; None: the values ascend already.
    order: Option<Vec<u32>>,
}

impl NumberColumn {
    fn new(values: Vec<u64>) -> Self {
        let order = (!values.is_sorted()).then(|| {
            let mut order: Vec<u32> = (0..values.len() as u32).collect();
            order.sort_unstable_by_key(|&position| values[position as usize]);
            order
        });
        Self { values, order }
    }

    fn memory_bytes(&self) -> usize {
        self.values.len() * 8 + self.order.as_ref().map_or(0, |o| o.len() * 4)
    }

    /// The value at a position.
    pub(crate) fn value(&self, position: u32) -> Option<u64> {
        self.values.get(position as usize).copied()
    }

    /// Position of `value`, if there.
    pub(crate) fn find(&self, value: u64) -> Option<u32> {
        match &self.order {
            None => self.values.binary_search(&value).ok().map(|position| position as u32),
            Some(order) => {
                let found =
                    order.binary_search_by_key(&value, |&position| self.values[position as usize]).ok()?;
                order.get(found).copied()
            }
        }
    }
}

impl SegmentReader {
    /// For each row id its position, None where this segment does not hold it.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn positions_of_row_ids(&self, ids: &[RowId]) -> Result<Vec<Option<u32>>> {
        if let RowIds::Base(base) = self.meta.row_ids {
            let position =
                |id: &RowId| id.0.checked_sub(base.0).filter(|&p| p < self.meta.rows).map(|p| p as u32);
            return Ok(ids.iter().map(position).collect());
        }
        let (min, max) = (self.meta.min_row_id, self.meta.max_row_id);
        if self.meta.rows == 0 || ids.iter().all(|id| *id < min || *id > max) {
            return Ok(vec![None; ids.len()]);
        }
        let column = self.row_id_column().await?;
        Ok(ids.iter().map(|id| column.find(id.0)).collect())
    }

    /// The row ids at these positions (in any order).
    ///
    /// # Errors
    /// `Internal` for a position past the end, `Corrupt` for damage, the store's.
    pub async fn row_ids_at(&self, positions: &[u32]) -> Result<Vec<RowId>> {
        if positions.iter().any(|&p| u64::from(p) >= self.meta.rows) {
            return Err(Error::internal("a position past the end of its segment"));
        }
        if let RowIds::Base(base) = self.meta.row_ids {
            return Ok(positions.iter().map(|&p| RowId(base.0 + u64::from(p))).collect());
        }
        let column = self.row_id_column().await?;
        Ok(positions.iter().map(|&p| RowId(column.values[p as usize])).collect())
    }

    /// The created versions at these positions (in any order).
    ///
    /// # Errors
    /// As [`row_ids_at`](Self::row_ids_at).
    pub async fn versions_at(&self, positions: &[u32]) -> Result<Vec<CommitVersion>> {
        if positions.iter().any(|&p| u64::from(p) >= self.meta.rows) {
            return Err(Error::internal("a position past the end of its segment"));
        }
        if let Created::Constant(version) = self.meta.created {
            return Ok(vec![version; positions.len()]);
        }
        let column = self.version_column().await?;
        Ok(positions.iter().map(|&p| CommitVersion(column.values[p as usize])).collect())
    }

    /// Positions created after `version`, not visible there yet; None: there are none.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn created_after(&self, version: CommitVersion) -> Result<Option<RoaringBitmap>> {
        if self.meta.max_created <= version || self.meta.rows == 0 {
            return Ok(None);
        }
        if self.meta.min_created > version {
            let mut all = RoaringBitmap::new();
            all.insert_range(0..=(self.meta.rows - 1) as u32);
            return Ok(Some(all));
        }
        let column = self.version_column().await?;
        let later = (0..).zip(&column.values).filter(|(_, v)| **v > version.0).map(|(position, _)| position);
        Ok(Some(later.collect()))
    }

    pub(crate) async fn row_id_column(&self) -> Result<Arc<NumberColumn>> {
        self.number_column(CacheKey::RowIds(self.meta.id), self.opened.row_id_root, true).await
    }

    async fn version_column(&self) -> Result<Arc<NumberColumn>> {
        self.number_column(CacheKey::Versions(self.meta.id), self.opened.version_root, false).await
    }

    async fn number_column(
        &self,
        key: CacheKey,
        root: Option<usize>,
        find: bool,
    ) -> Result<Arc<NumberColumn>> {
        if let Some(CacheValue::Numbers(column)) = self.cache.get(key) {
            return Ok(column);
        }
        let root =
            root.ok_or_else(|| Error::corrupt(self.source.path(), "it lacks a column its meta names"))?;
        let mut values = Vec::with_capacity(self.meta.rows as usize);
        let mut batches = root_batches(self, &[root], RowChoice::All, BATCH_ROWS)?;
        while let Some(batch) = batches.next().await? {
            let array = batch.column(0).as_primitive_opt::<UInt64Type>();
            let array = array
                .ok_or_else(|| Error::corrupt(self.source.path(), "a pseudo-column has a wrong type"))?;
            values.extend_from_slice(array.values());
        }
        let column =
            Arc::new(if find { NumberColumn::new(values) } else { NumberColumn { values, order: None } });
        self.cache.put(key, CacheValue::Numbers(Arc::clone(&column)), column.memory_bytes());
        Ok(column)
    }
}
