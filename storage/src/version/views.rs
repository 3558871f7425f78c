//! The segments of a table with the rows that are invisible in each, kept with a state once somebody has read them.
//!
//! Owns: handing them to the next states, which know a few deleted rows more: a change by key after thousands of others looks for the
//! places of its own rows only. Does not own: working them out (`snapshot`).
//!
//! Order: whatever changes which segments there are, or deletes rows other than one by one, begins anew.

use std::sync::Arc;

use imbl::Vector;
use tokio::sync::OnceCell;

use super::snapshot::SegmentView;
use crate::id::RowId;

/// Rows deleted since up to which those of an earlier state are of use.
const SINCE_MAX: usize = if cfg!(test) { 40 } else { 100_000 };

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    /// Those of this state, worked out by the first reader.
    pub(super) worked_out: Arc<OnceCell<Arc<Vec<SegmentView>>>>,
    /// Where to begin; None: with nothing.
    pub(super) before: Option<Before>,
}

/// Those of an earlier state with the same segments.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) views: Arc<Vec<SegmentView>>,
    /// Rows deleted since, one by one.
    pub(super) since: Vector<RowId>,
}

impl Views {
    /// Those of a state in which `deleted` are deleted, too.
    pub(super) fn without(&self, deleted: &[RowId]) -> Self {
        let known =
            self.worked_out.get().map(|views| Before { views: Arc::clone(views), since: Vector::new() });
        let before = known.or_else(|| self.before.clone()).map(|mut before| {
            before.since.extend(deleted.iter().copied());
            before
        });
        Self { worked_out: Arc::default(), before: before.filter(|before| before.since.len() <= SINCE_MAX) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn later_states_go_on_from_what_was_read_last() {
        let ids = |numbers: std::ops::Range<u64>| numbers.map(RowId).collect::<Vec<_>>();
        let unread = Views::default();
        assert!(unread.without(&ids(1..2)).before.is_none());
        unread.worked_out.set(Arc::default()).unwrap();
        let next = unread.without(&ids(1..2)).without(&ids(2..4));
        let since = |views: &Views| -> Option<Vec<RowId>> {
            views.before.as_ref().map(|before| before.since.iter().copied().collect())
        };
        assert_eq!(since(&next), Some(ids(1..4)));
        let many = ids(4..4 + SINCE_MAX as u64);
        assert_eq!(since(&next.without(&many)), None);
        next.worked_out.set(Arc::default()).unwrap();
        assert_eq!(since(&next.without(&many)), Some(many));
    }
}
