//! Which row versions somebody may still ask for.
//!
//! A row version may be left out of a merge only if no retained version lies between its creation and its deletion. What is read
//! now does not count: whoever reads holds the segments that were merged.

use crate::collect::Retained;
use crate::id::CommitVersion;

impl Retained {
    /// Whether a retained version sees rows that were created and deleted by these commits.
    pub(super) fn sees(&self, created: CommitVersion, deleted: CommitVersion) -> bool {
        deleted > self.horizon
            || (created < deleted && self.versions.range(created..deleted).next().is_some())
    }

    /// Whether no retained version sees any row that was deleted at or before `deleted`.
    pub(super) fn is_past(&self, deleted: CommitVersion) -> bool {
        deleted <= self.horizon && self.versions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_is_needed_while_a_retained_version_sees_it() {
        let version = CommitVersion;
        let retained = Retained { horizon: version(10), versions: BTreeSet::from([version(4)]) };
        for (created, deleted) in
            [(1, 11), (1, 10), (4, 5), (1, 4), (5, 10), (5, 11), (12, 13), (7, 7), (3, 4), (2, 5)]
        {
            // By its meaning: some retained version in [created, deleted).
            let seen = (created..deleted).any(|v| v >= 10 || v == 4);
            assert_eq!(retained.sees(version(created), version(deleted)), seen, "{created} to {deleted}");
        }
        assert!(!retained.is_past(version(3)));
        assert!(Retained { horizon: version(10), ..Retained::default() }.is_past(version(10)));
    }
}
