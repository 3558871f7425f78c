//! A unit that is open, and the way from row ids to its rows.
//!
//! Owns: opening without reading, the check of the rest behind the first search, the table of ordinals, which rows of a segment it has. Does not own: the checks themselves
//! (`cairn_vector`), what becomes of a damaged unit (`searcher`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cairn_vector::unit::{Unit, UnitError};
use roaring::RoaringBitmap;

use super::UnitMeta;
use super::exact::RowIdsOf;
use crate::error::{Error, Result, newer};
use crate::id::ObjectId;
use crate::object::ReadMeter;
use crate::segment::SegmentMeta;
use crate::segment::cache::{CacheKey, CacheValue};
use crate::version::Shared;

/// No row of the unit.
const NONE: u32 = u32::MAX;
/// A table of ordinals by row id is made when it has at most this many places per row.
const PLACES_PER_ROW: u64 = 4;
/// Looking a row up costs about as much as this many entries of a table: a table for fewer is not worth while.
const ENTRIES_PER_LOOKUP: u64 = 64;
/// A unit up to this size is checked whole when it is opened, which takes less time than starting a task.
const CHECKED_AT_ONCE_BYTES: u64 = 1 << 20;
/// Segments of which a unit keeps what it has, at most: about a bit a row where that is most of them.
const HELD_MAX: usize = 1_024;
/// Blocks checked behind a search before looking whether the unit is still wanted.
const BLOCKS_AT_A_TIME: usize = 64;

/// A unit over its bytes.
#[derive(Debug)]
pub(crate) struct LoadedUnit {
    pub(crate) meta: Arc<UnitMeta>,
    pub(crate) unit: Unit,
    ordinals: OnceLock<Ordinals>,
    /// Rows that were looked up so far.
    looked_up: AtomicU64,
    /// By segment.
    held: Mutex<HashMap<ObjectId, Arc<Held>>>,
}

/// The rows of one segment that a unit has, whatever is deleted: row ids never change, so neither does this.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Where they stand in the segment.
    pub(super) positions: RoaringBitmap,
    /// And in the unit.
    pub(super) ordinals: RoaringBitmap,
}

#[derive(Debug)]
enum Ordinals {
    /// Ordinal of row id `first + i`.
    Table { first: u64, places: Vec<u32> },
    /// Row ids too far apart: by binary search.
    Search,
}

impl LoadedUnit {
    /// The unit, opened once and then cached. Opening reads almost nothing of it: each block is checked before its first use, and
    /// all others by a task behind the first search.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unsupported` (written by a newer Cairn), the store's.
    pub(crate) async fn open(
        shared: &Shared,
        meta: &Arc<UnitMeta>,
        meter: Option<&ReadMeter>,
    ) -> Result<Arc<Self>> {
        let key = CacheKey::Unit(meta.id);
        if let Some(CacheValue::Unit(unit)) = shared.cache.get(key) {
            return Ok(unit);
        }
        let bytes = shared.bytes_in_place(&meta.path(), meter).await?;
        if bytes.len() as u64 != meta.bytes {
            return Err(Error::corrupt(
                meta.path(),
                format!("{} bytes instead of {}", bytes.len(), meta.bytes),
            ));
        }
        let unit = Unit::open(bytes).map_err(|e| not_opened(&meta.path(), e))?;
        if unit.len() as u64 != meta.rows {
            return Err(Error::corrupt(meta.path(), format!("{} rows instead of {}", unit.len(), meta.rows)));
        }
        let loaded = Arc::new(Self {
            meta: Arc::clone(meta),
            unit,
            ordinals: OnceLock::new(),
            looked_up: AtomicU64::new(0),
            held: Mutex::default(),
        });
        if meta.bytes <= CHECKED_AT_ONCE_BYTES {
            loaded.unit.check_blocks(usize::MAX).map_err(|e| loaded.damaged(e))?;
        } else {
            check_behind(&loaded);
        }
        // Mapped bytes are the system's to keep; the table of ordinals is what may be held.
        shared.cache.put(key, CacheValue::Unit(Arc::clone(&loaded)), 4 * loaded.unit.len() + 256);
        Ok(loaded)
    }

    /// What damage of its bytes is to the caller of a search.
    pub(super) fn damaged(&self, error: UnitError) -> Error {
        Error::corrupt(self.meta.path(), &error).with_source(error)
    }

    /// The rows of a segment, whose ids are `ids`, that the unit has, be it built over the segment or over others that were merged
    /// into it; found once, then kept.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn held(&self, segment: &SegmentMeta, ids: &RowIdsOf) -> Result<Arc<Held>> {
        let known = self.kept().get(&segment.id).cloned();
        if let Some(held) = known {
            return Ok(held);
        }
        let held = Arc::new(self.find(segment.rows, ids)?);
        let mut kept = self.kept();
        if kept.len() >= HELD_MAX {
            kept.clear();
        }
        kept.insert(segment.id, Arc::clone(&held));
        Ok(held)
    }

    /// Whether ids of a segment's rows are within those of the unit's: else it has none of them.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn reaches(&self, segment: &SegmentMeta) -> Result<bool> {
        self.unit.check_row_map().map_err(|e| self.damaged(e))?;
        let mut ids = self.unit.row_ids();
        let Some(first) = ids.next() else { return Ok(false) };
        let last = ids.next_back().unwrap_or(first);
        Ok(first <= segment.max_row_id.0 && segment.min_row_id.0 <= last)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ObjectId, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Few rows are looked up, many are gone through beside those of the unit.
    fn find(&self, rows: u64, ids: &RowIdsOf) -> Result<Held> {
        let mut held = Held::default();
        if rows.saturating_mul(ENTRIES_PER_LOOKUP) < self.unit.len() as u64 {
            for (id, position) in ids.ascending(rows) {
                if let Some(ordinal) = self.unit.ordinal_of(id).map_err(|e| self.damaged(e))? {
                    held.positions.insert(position);
                    held.ordinals.insert(ordinal);
                }
            }
            return Ok(held);
        }
        self.unit.check_row_map().map_err(|e| self.damaged(e))?;
        let mut mine = self.unit.rows_by_id().peekable();
        for (id, position) in ids.ascending(rows) {
            while mine.next_if(|(of, _)| *of < id).is_some() {}
            if let Some((_, ordinal)) = mine.next_if(|(of, _)| *of == id) {
                held.positions.insert(position);
                held.ordinals.insert(ordinal);
            }
        }
        Ok(held)
    }

    /// A way to the ordinals of about `count` rows: through a table, which is made once, when all that was looked up so far is
    /// worth one.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn lookup(&self, count: u64) -> Result<Lookup<'_>> {
        let count = count.saturating_add(self.looked_up.fetch_add(count, Ordering::Relaxed));
        let worth = count.saturating_mul(ENTRIES_PER_LOOKUP) >= self.unit.len() as u64;
        if worth && self.ordinals.get().is_none() {
            self.unit.check_row_map().map_err(|e| self.damaged(e))?;
            self.ordinals.get_or_init(|| Ordinals::of(&self.unit));
        }
        Ok(Lookup { unit: self, ordinals: self.ordinals.get().unwrap_or(&Ordinals::Search) })
    }
}

/// The error of a file that is no unit of this Cairn.
pub(crate) fn not_opened(path: &str, error: UnitError) -> Error {
    let described = match &error {
        UnitError::Newer { format, features } => {
            newer(path, format_args!("it has format {format} and features {features:#x}"))
        }
        UnitError::Damaged { .. } => Error::corrupt(path, &error),
    };
    described.with_source(error)
}

/// Finds ordinals of row ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup<'a> {
    unit: &'a LoadedUnit,
    ordinals: &'a Ordinals,
}

impl Lookup<'_> {
    /// Ordinal of a row; None: not in the unit.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn ordinal(&self, row_id: u64) -> Result<Option<u32>> {
        match self.ordinals {
            Ordinals::Table { first, places } => {
                let place = row_id.checked_sub(*first).and_then(|place| usize::try_from(place).ok());
                Ok(place.and_then(|place| places.get(place)).copied().filter(|ordinal| *ordinal != NONE))
            }
            Ordinals::Search => self.unit.unit.ordinal_of(row_id).map_err(|e| self.unit.damaged(e)),
        }
    }

    /// Shows the ordinals of the rows at `positions` of a segment; rows that are not in the unit are left out.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn each(&self, ids: &RowIdsOf, positions: &[u32], mut see: impl FnMut(u32)) -> Result<()> {
        // The usual case in a loop of its own: a condition may leave half of a large table.
        if let (Ordinals::Table { first, places }, RowIdsOf::Base(base)) = (self.ordinals, ids) {
            for &position in positions {
                let place = (base + u64::from(position)).wrapping_sub(*first);
                match usize::try_from(place).ok().and_then(|place| places.get(place)) {
                    Some(&ordinal) if ordinal != NONE => see(ordinal),
                    _ => {}
                }
            }
            return Ok(());
        }
        for &position in positions {
            if let Some(ordinal) = self.ordinal(ids.at(position)?)? {
                see(ordinal);
            }
        }
        Ok(())
    }
}

/// Checks the blocks no search has used yet, so that searches need not ask any more. Damage is what the next search says.
fn check_behind(loaded: &Arc<LoadedUnit>) {
    // Without a runtime every search goes on checking what it uses.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let unit = Arc::downgrade(loaded);
    runtime.spawn_blocking(move || {
        while let Some(loaded) = unit.upgrade() {
            if !matches!(loaded.unit.check_blocks(BLOCKS_AT_A_TIME), Ok(false)) {
                return;
            }
        }
    });
}

impl Ordinals {
    /// Of a unit whose row map was checked.
    fn of(unit: &Unit) -> Self {
        let mut ids = unit.row_ids();
        let Some(first) = ids.next() else { return Self::Search };
        let last = ids.next_back().unwrap_or(first);
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
