//! A unit that is open, and the way from row ids to its rows.

use std::sync::{Arc, OnceLock};

use cairn_vector::unit::Unit;

use super::UnitMeta;
use crate::error::{Error, Result};
use crate::segment::cache::{CacheKey, CacheValue};
use crate::version::Shared;

/// No row of the unit.
const NONE: u32 = u32::MAX;
/// A table of ordinals by row id is made when it has at most this many places per row.
const PLACES_PER_ROW: u64 = 4;

/// A unit over its bytes.
#[derive(Debug)]
pub(crate) struct LoadedUnit {
    pub(crate) meta: Arc<UnitMeta>,
    pub(crate) unit: Unit,
    ordinals: OnceLock<Ordinals>,
}

#[derive(Debug)]
enum Ordinals {
    /// Ordinal of row id `first + i`.
    Table { first: u64, places: Vec<u32> },
    /// Row ids too far apart: by binary search.
    Search,
}

impl LoadedUnit {
    /// The unit, opened once and then cached.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unsupported` (written by a newer Cairn), the store's.
    pub(crate) async fn open(shared: &Shared, meta: &Arc<UnitMeta>) -> Result<Arc<Self>> {
        let key = CacheKey::Unit(meta.id);
        if let Some(CacheValue::Unit(unit)) = shared.cache.get(key) {
            return Ok(unit);
        }
        let bytes = shared.bytes_in_place(&meta.path()).await?;
        if bytes.len() as u64 != meta.bytes {
            return Err(Error::corrupt(
                meta.path(),
                format!("{} bytes instead of {}", bytes.len(), meta.bytes),
            ));
        }
        let unit = Unit::open(bytes).map_err(|e| Error::corrupt(meta.path(), &e).with_source(e))?;
        if unit.len() as u64 != meta.rows {
            return Err(Error::corrupt(meta.path(), format!("{} rows instead of {}", unit.len(), meta.rows)));
        }
        // Once, before its first use: a walk over damaged bytes ends, but not at the nearest rows.
        unit.check_blocks()
            .map_err(|f| Error::corrupt(meta.path(), format!("{} at byte {}", f.problem, f.offset)))?;
        let loaded = Arc::new(Self { meta: Arc::clone(meta), unit, ordinals: OnceLock::new() });
        // Mapped bytes are the system's to keep; the table of ordinals is what may be held.
        shared.cache.put(key, CacheValue::Unit(Arc::clone(&loaded)), 4 * loaded.unit.len() + 256);
        Ok(loaded)
    }

    /// Ordinal of a row; None: not in the unit.
    pub(crate) fn ordinal(&self, row_id: u64) -> Option<u32> {
        match self.ordinals.get_or_init(|| Ordinals::of(&self.unit)) {
            Ordinals::Table { first, places } => {
                let place = usize::try_from(row_id.checked_sub(*first)?).ok()?;
                places.get(place).copied().filter(|ordinal| *ordinal != NONE)
            }
            Ordinals::Search => self.unit.ordinal_of(row_id),
        }
    }
}

impl Ordinals {
    fn of(unit: &Unit) -> Self {
        let mut ids = unit.row_ids();
        let Some(first) = ids.next() else { return Self::Search };
        let last = ids.last().unwrap_or(first);
        let span = last.saturating_sub(first);
        if last < first || span >= PLACES_PER_ROW * unit.len() as u64 {
            return Self::Search;
        }
        let mut places = vec![NONE; span as usize + 1];
        for ordinal in 0..unit.len() as u32 {
            let place = unit.row_id(ordinal).and_then(|id| id.checked_sub(first));
            if let Some(slot) = place.and_then(|p| places.get_mut(usize::try_from(p).ok()?)) {
                *slot = ordinal;
            }
        }
        Self::Table { first, places }
    }
}
