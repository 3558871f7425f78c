//! What may be deleted: pure functions of listings and of what is known.
//!
//! Owns: the two decisions, [`first_kept`] and [`Bounds::judge`]. Does not own: how the facts are found (`live`), requests
//! (`collect`). Whatever is not understood or not known stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use object_store::ObjectMeta;
use object_store::path::Path;

use super::live::Named;
use super::name::{ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, ManifestNumber, ObjectId, WalNumber};
use crate::manifest::history::KEPT_FOR;
use crate::wal::FENCE_BYTES;

/// As long as ids of commits are looked up; the hour is for clocks that differ.
pub(crate) const HISTORY_KEPT: Duration = Duration::from_secs(KEPT_FOR.as_secs() + 3600);
/// What the question whether the store can do what is needed leaves behind when it is interrupted.
pub(crate) const PROBE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// One collection deletes this many objects; what is left is for the next.
pub(super) const DEAD_MAX: usize = 100_000;

/// An object as a listing shows it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) location: Path,
    pub(crate) bytes: u64,
    /// µs since 1970 UTC, by the store's clock.
    pub(crate) modified_us: i64,
}

impl From<ObjectMeta> for Listed {
    fn from(meta: ObjectMeta) -> Self {
        let modified_us = meta.last_modified.timestamp_micros();
        Self { location: meta.location, bytes: meta.size, modified_us }
    }
}

/// What the choice of the first manifest that is kept depends on. Times in µs since 1970 UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// The boundary's: all from here on are there.
    pub(super) oldest: ManifestNumber,
    /// Readers may hold what was replaced after this instant.
    pub(super) grace_us: i64,
    /// What this process reads is kept unless it was replaced before this instant.
    pub(super) retention_us: i64,
    /// The oldest manifest that something this process reads stands on.
    pub(super) pinned: Option<ManifestNumber>,
}

/// The newest manifest that was the newest already at the instant before which nobody holds anything; None: there is none yet.
///
/// What it names, and everything newer, is all that anybody may need: a reader at that instant or later stands on it or on a later
/// one.
pub(super) fn first_kept(published: &BTreeMap<ManifestNumber, i64>, ages: &Ages) -> Option<ManifestNumber> {
    let newest_at = |instant: i64| {
        let mut kept = published.range(ages.oldest..).rev();
        kept.find(|(_, published_us)| **published_us <= instant).map(|(number, _)| *number)
    };
    let first = newest_at(ages.grace_us)?;
    let Some(pinned) = ages.pinned.filter(|pinned| *pinned < first) else { return Some(first) };
    let held = published.range(ages.oldest..=pinned.max(ages.oldest)).next_back();
    let held = held.map_or(ages.oldest, |(number, _)| *number);
    let expired = newest_at(ages.retention_us.min(ages.grace_us)).unwrap_or(ages.oldest);
    Some(held.max(expired))
}

/// From where on everything is kept.
#[derive(Debug)]
pub(super) struct Start {
    /// The first manifest that is kept.
    pub(super) manifest: ManifestNumber,
    /// Its `settled`.
    pub(super) settled: Option<ObjectId>,
    /// Replay from any manifest that is kept needs no object of the log below.
    pub(super) wal_from: WalNumber,
    /// Manifests before it that are known to be neither claims nor needed for a retained version.
    pub(super) replaced: BTreeSet<ManifestNumber>,
    /// What it names, and manifests of retained versions, and what this process knows besides.
    pub(super) named: Named,
}

/// What decides about an object.
#[derive(Debug)]
pub(super) struct Bounds {
    /// This writer's epoch.
    pub(super) epoch: Epoch,
    /// µs since 1970 UTC.
    pub(super) now_us: i64,
    /// See [`OpenOptions::reader_grace`](crate::OpenOptions::reader_grace).
    pub(super) grace: Duration,
    /// None: no manifest is old enough, so that nothing it could have replaced is.
    pub(super) start: Option<Start>,
}

impl Bounds {
    /// What the object is when it may be deleted; None: it stays.
    ///
    /// # Errors
    /// `Fenced` when a later writer made it.
    pub(super) fn judge(&self, object: &Listed) -> Result<Option<ObjectKind>> {
        let Some(name) = ObjectName::of(object.location.as_ref()) else { return Ok(None) };
        let older = |than: Duration| is_older(object, self.now_us, than);
        let start = self.start.as_ref();
        Ok(match name {
            ObjectName::Made(_, id) if id.epoch > self.epoch => {
                return Err(fenced(self.epoch, id.epoch).with_detail(format!("it made {}", object.location)));
            }
            ObjectName::Made(kind, id) => start
                .is_some_and(|start| {
                    let settled = start.settled.is_some_and(|settled| id < settled);
                    // Nothing that a manifest of that age has settled is younger, but what a fenced writer still wrote.
                    settled && !start.named.contains(id) && older(self.grace)
                })
                .then_some(kind),
            ObjectName::Manifest(number) => start
                .is_some_and(|start| number < start.manifest && start.replaced.contains(&number))
                .then_some(ObjectKind::Manifest),
            ObjectName::Wal(number) => start
                .is_some_and(|start| number < start.wal_from && object.bytes != FENCE_BYTES)
                .then_some(ObjectKind::Wal),
            ObjectName::History(_) => older(HISTORY_KEPT).then_some(ObjectKind::History),
            ObjectName::Probe => older(PROBE_KEPT).then_some(ObjectKind::Probe),
        })
    }
}

pub(crate) fn is_older(object: &Listed, now_us: i64, than: Duration) -> bool {
    let age_us = now_us.saturating_sub(object.modified_us);
    age_us >= i64::try_from(than.as_micros()).unwrap_or(i64::MAX)
}

/// The error of a writer that finds traces of a later one.
pub(super) fn fenced(ours: Epoch, later: Epoch) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!(
            "a writer with epoch {later} has taken the database over from this one, whose epoch is {ours}"
        ),
    )
    .with_hint("reopen the database; this handle only reads from now on")
}

/// An object to delete.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) location: Path,
    pub(super) kind: ObjectKind,
    pub(super) bytes: u64,
}

/// What a collection deletes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) dead: Vec<Dead>,
}

impl Plan {
    /// Adds the object when it may be deleted.
    ///
    /// # Errors
    /// As for [`Bounds::judge`].
    pub(super) fn consider(&mut self, object: Listed, bounds: &Bounds) -> Result<()> {
        if let Some(kind) = bounds.judge(&object)? {
            self.dead.push(Dead { location: object.location, kind, bytes: object.bytes });
        }
        Ok(())
    }

    /// Whether one collection can take no more.
    pub(super) fn is_full(&self) -> bool {
        self.dead.len() >= DEAD_MAX
    }
}

#[cfg(test)]
mod tests;
