//! Which unit answers for which segment of a snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use super::{IndexDef, LoadedUnit, UnitMeta};
use crate::error::Error;
use crate::id::ObjectId;
use crate::segment::SegmentMeta;
use crate::version::{SegmentView, TableSnapshot};

/// The segments of a snapshot, shared out.
pub(super) struct Cover {
    /// Units in use, each with the segments it answers for.
    pub(super) units: Vec<(Arc<LoadedUnit>, Vec<SegmentView>)>,
    /// Segments to compare exactly.
    pub(super) uncovered: Vec<SegmentView>,
    /// Units that cannot be used, and why.
    pub(super) lost: Vec<(Arc<UnitMeta>, Error)>,
}

/// Shares out `views`, the segments of `table`, among the units of `index`. A unit holds for a segment when it left out no
/// row that is visible: at a version older than the build, rows deleted in between are in the segment alone.
pub(super) async fn cover(table: &TableSnapshot, index: &IndexDef, views: Vec<SegmentView>) -> Cover {
    let mut left = views;
    let mut cover = Cover { units: Vec::new(), uncovered: Vec::new(), lost: Vec::new() };
    let mut units: Vec<&Arc<UnitMeta>> = table.state().units.iter().filter(|u| u.index == index.id).collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.rows));
    for meta in units {
        let (mine, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|view| holds(meta, view));
        left = others;
        if mine.is_empty() {
            continue;
        }
        match LoadedUnit::open(table.shared(), meta).await {
            Ok(unit) => cover.units.push((unit, mine)),
            Err(error) => {
                cover.lost.push((Arc::clone(meta), error));
                left.extend(mine);
            }
        }
    }
    cover.uncovered = left;
    cover
}

fn holds(unit: &UnitMeta, view: &SegmentView) -> bool {
    let deleted = view.deleted.as_ref().map_or(0, |d| d.len());
    unit.segments.iter().any(|segment| segment.id == view.meta.id && segment.left_out <= deleted)
}

/// Segments of `segments` that no unit of `index` covers.
pub(super) fn without_unit<'a>(
    units: &[Arc<UnitMeta>],
    index: &IndexDef,
    segments: impl Iterator<Item = &'a Arc<SegmentMeta>>,
) -> Vec<Arc<SegmentMeta>> {
    let covered: HashSet<ObjectId> = units
        .iter()
        .filter(|unit| unit.index == index.id)
        .flat_map(|unit| unit.segments.iter().map(|segment| segment.id))
        .collect();
    segments.filter(|meta| !covered.contains(&meta.id)).cloned().collect()
}
