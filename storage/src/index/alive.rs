//! Which rows of a unit a search may give: visible ones, and among them those that match its condition.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::LoadedUnit;
use super::cover::Part;
use super::exact::RowIdsOf;
use crate::error::Result;

/// A bitmap over the ordinals of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ordinals {
    pub(super) words: Vec<u64>,
    pub(super) set: usize,
}

impl Ordinals {
    /// None of `rows` ordinals.
    pub(super) fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], set: 0 }
    }

    /// All of `rows` ordinals.
    fn all(rows: usize) -> Self {
        let mut words = vec![u64::MAX; rows / 64];
        if !rows.is_multiple_of(64) {
            words.push((1 << (rows % 64)) - 1);
        }
        Self { words, set: rows }
    }

    pub(super) fn insert(&mut self, ordinal: u32) {
        if let Some(word) = self.words.get_mut(ordinal as usize / 64) {
            let bit = 1 << (ordinal % 64);
            self.set += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    fn remove(&mut self, ordinal: u32) {
        if let Some(word) = self.words.get_mut(ordinal as usize / 64) {
            let bit = 1 << (ordinal % 64);
            self.set -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    pub(super) fn contains(&self, ordinal: u32) -> bool {
        self.words.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }
}

/// None: every row.
pub(super) type Alive = Option<Arc<Ordinals>>;

/// The rows of `unit` that are visible in `parts`, what it answers for; `whole`: that is everything it was built over.
pub(super) fn alive(unit: &LoadedUnit, parts: &[(Part, RowIdsOf)], whole: bool) -> Result<Alive> {
    let rows = unit.unit.len();
    if whole {
        if parts.iter().all(|(part, _)| part.view.deleted.is_none()) {
            return Ok(None);
        }
        let mut alive = Ordinals::all(rows);
        let deleted = parts.iter().filter_map(|(part, _)| {
            let deleted = part.view.deleted.as_ref()?;
            Some(deleted.range_cardinality(part.rows.clone()))
        });
        let lookup = unit.lookup(deleted.sum())?;
        for (part, ids) in parts {
            for position in part.view.deleted.iter().flat_map(|deleted| deleted.range(part.rows.clone())) {
                if let Some(ordinal) = lookup.ordinal(ids.at(position)?)? {
                    alive.remove(ordinal);
                }
            }
        }
        return Ok(Some(Arc::new(alive)));
    }
    // Segments that are gone, or that another unit answers for, leave their rows behind in the unit.
    let mut alive = Ordinals::none(rows);
    for (part, ids) in parts {
        let held = unit.held(&part.view.meta, ids)?;
        let mine = part.among(&held.positions);
        let dead = part.view.deleted.as_deref().map_or_else(RoaringBitmap::new, |deleted| &mine & deleted);
        // The usual case: nobody else has rows of the segment, and few are deleted.
        if mine.len() == held.positions.len() && dead.len() < mine.len() / 2 {
            held.ordinals.iter().for_each(|ordinal| alive.insert(ordinal));
            let lookup = unit.lookup(dead.len())?;
            for position in dead {
                if let Some(ordinal) = lookup.ordinal(ids.at(position)?)? {
                    alive.remove(ordinal);
                }
            }
            continue;
        }
        let left = mine - dead;
        let lookup = unit.lookup(left.len())?;
        for position in left {
            if let Some(ordinal) = lookup.ordinal(ids.at(position)?)? {
                alive.insert(ordinal);
            }
        }
    }
    // A merge that left no row out: searches need no bitmap, as before it.
    Ok((alive.set < rows).then(|| Arc::new(alive)))
}
