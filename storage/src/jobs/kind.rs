//! The words of jobs: what they are, and how they stand.

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Writes hot rows into segments.
    Checkpoint,
    /// Builds units of an index.
    BuildIndex,
    /// Merges segments.
    Compact,
    /// Deletes what nobody needs any more.
    Collect,
}

impl JobKind {
    /// All of them, in the order in which they are run when all are.
    pub const ALL: [Self; 4] = [Self::Checkpoint, Self::Compact, Self::BuildIndex, Self::Collect];

    /// As written and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::BuildIndex => "build_index",
            Self::Compact => "compact",
            Self::Collect => "collect",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether a job of it is about one table.
    #[must_use]
    pub const fn is_of_a_table(self) -> bool {
        match self {
            Self::BuildIndex | Self::Compact => true,
            Self::Checkpoint | Self::Collect => false,
        }
    }
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// Found due by upkeep, and not begun.
    New,
    /// Asked for, and not begun.
    Queued,
    /// At work.
    Running,
    /// It has failed, or its process has ended, and it is begun again.
    Retrying,
    /// Not begun by itself until it is resumed.
    Paused,
    /// It did what it was for.
    Completed,
    /// It did not, and nobody tries again.
    Failed,
    /// It was told to end, or its table is gone.
    Cancelled,
}

impl JobStatus {
    const ALL: [Self; 8] = [
        Self::New,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one of that name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub const fn is_end(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::New | Self::Queued | Self::Running | Self::Retrying | Self::Paused => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in JobKind::ALL {
            assert_eq!(JobKind::of_name(kind.as_str()), Some(kind));
        }
        for status in JobStatus::ALL {
            assert_eq!(JobStatus::of_name(status.as_str()), Some(status));
        }
        assert_eq!((JobKind::of_name("tidy"), JobStatus::of_name("done")), (None, None));
    }
}
