//! The kinds of rights, and sets of them.

use std::fmt;
use std::ops::BitOrAssign;

/// What may be done with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Right {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    /// Making tables and views in a schema; on the database, schemas too.
    Create,
}

impl Right {
    /// Every right.
    pub(crate) const ALL: [Self; 6] =
        [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::Truncate, Self::Create];
    /// Those that a table or view has.
    pub(crate) const OF_TABLES: [Self; 5] =
        [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// Its word in GRANT and in the table of grants.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Create => "CREATE",
        }
    }

    /// The right with that word, in capitals.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.word() == word)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RightSet(u8);

impl RightSet {
    /// Just this one.
    pub(crate) const fn of(right: Right) -> Self {
        Self(1 << right as u8)
    }

    pub(crate) const fn has(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOrAssign for RightSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
