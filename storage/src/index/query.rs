//! What a search is asked, and what it answers.

use cairn_vector::search::Plan;

use crate::id::{ObjectId, RowId};

/// Row ids, each once.
#[derive(Clone, Debug, Default)]
pub struct RowSet(Vec<u64>);

impl RowSet {
    /// Of ids in any order.
    #[must_use]
    pub fn new(mut ids: Vec<u64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row is among them.
    #[must_use]
    pub fn contains(&self, row_id: u64) -> bool {
        self.0.binary_search(&row_id).is_ok()
    }

    /// Those from `first` to `last`, ascending.
    pub(super) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        let from = self.0.partition_point(|id| *id < first);
        self.0[from..].iter().copied().take_while(move |id| *id <= last)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
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
    /// Whether the walk was given up for a scan.
    pub bailed_out: bool,
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
