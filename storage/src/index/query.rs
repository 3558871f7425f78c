//! What a search is asked, and what it answers.

use std::ops::Range;

use cairn_vector::search::{Plan, Strategy};

use crate::error::Result;
use crate::id::{ObjectId, RowId};
use crate::version::TableSnapshot;

/// Rows of a table that are visible, by where they stand.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    /// Of each segment the positions, ascending.
    segments: Vec<(ObjectId, Vec<u32>)>,
    /// Ids of rows in no segment, ascending.
    hot: Vec<u64>,
    rows: u64,
}

impl RowSet {
    /// Adds positions of a segment that has none yet; they ascend without repeats.
    pub fn add_segment(&mut self, segment: ObjectId, positions: Vec<u32>) {
        self.rows += positions.len() as u64;
        self.segments.push((segment, positions));
    }

    /// Adds ids of rows in no segment, each once.
    pub fn add_hot(&mut self, ids: impl IntoIterator<Item = u64>) {
        let before = self.hot.len();
        self.hot.extend(ids);
        self.rows += (self.hot.len() - before) as u64;
        self.hot.sort_unstable();
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        let positions: usize = self.segments.iter().map(|(_, positions)| positions.len()).sum();
        4 * positions + 8 * self.hot.len()
    }

    /// Positions of a segment within a range of them.
    pub(super) fn within(&self, segment: ObjectId, rows: &Range<u32>) -> &[u32] {
        let positions = self.segments.iter().find(|(id, _)| *id == segment);
        let Some((_, positions)) = positions else { return &[] };
        let first = positions.partition_point(|position| *position < rows.start);
        let last = positions.partition_point(|position| *position < rows.end);
        &positions[first..last]
    }

    /// Whether a row in no segment is among them.
    pub(super) fn contains_hot(&self, row_id: u64) -> bool {
        self.hot.binary_search(&row_id).is_ok()
    }
}

impl TableSnapshot {
    /// The visible rows of these ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn row_set(&self, mut ids: Vec<u64>) -> Result<RowSet> {
        ids.sort_unstable();
        ids.dedup();
        let mut ids: Vec<RowId> = ids.into_iter().map(RowId).collect();
        let mut set = RowSet::default();
        for view in self.segments().await? {
            let first = ids.partition_point(|id| *id < view.meta.min_row_id);
            let last = ids.partition_point(|id| *id <= view.meta.max_row_id);
            let found = self.open_segment(&view.meta).await?.positions_of_row_ids(&ids[first..last]).await?;
            let mut positions: Vec<u32> = found.iter().flatten().copied().collect();
            positions.sort_unstable();
            let mut found = found.into_iter();
            let left: Vec<RowId> =
                ids[first..last].iter().copied().filter(|_| found.next().flatten().is_none()).collect();
            ids.splice(first..last, left);
            positions.retain(|p| view.deleted.as_ref().is_none_or(|deleted| !deleted.contains(*p)));
            set.add_segment(view.meta.id, positions);
        }
        set.add_hot(ids.into_iter().map(|id| id.0));
        Ok(set)
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct VectorQuery<'a> {
    /// A vector of the column's dimension, checked under the metric.
    pub query: &'a [f32],
    /// Rows wanted.
    pub k: usize,
    /// Width of walks; None: as the index's `target_recall` asks.
    pub width: Option<usize>,
}

/// One row of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VectorHit {
    /// The row.
    pub row: RowId,
    /// Its exact distance.
    pub distance: f32,
}

/// What one unit did.
#[derive(Clone, Debug)]
pub struct UnitReport {
    /// Which.
    pub unit: ObjectId,
    /// How it was searched.
    pub plan: Plan,
    /// How that ended.
    pub strategy: Strategy,
    /// Distances of codes that were computed.
    pub code_distances: u64,
    /// Exact distances that were computed.
    pub exact_distances: u64,
}

/// Rows compared one by one, and why.
#[derive(Clone, Debug, Default)]
pub struct ExactRows {
    /// In segments no unit covers.
    pub segments: u64,
    /// Not yet in a segment.
    pub hot: u64,
    /// Why segments had to be.
    pub why: String,
}

/// How an answer came about.
#[derive(Clone, Debug, Default)]
pub struct SearchReport {
    /// Name of the index used, if one was.
    pub index: Option<String>,
    /// Its units.
    pub units: Vec<UnitReport>,
    /// Everything else.
    pub exact: ExactRows,
    /// Units that are missing or damaged, with the reason: to be built again.
    pub lost: Vec<(ObjectId, String)>,
}
