//! What an earlier process has left in the journal: sent, found to be in the bucket, or in nobody's way until somebody decides.
//!
//! Owns: telling these apart. What is left is sent as its writer would have sent it, under its epoch and behind the last object of the
//! log. So the bucket decides as it does between two writers: where a later epoch has put its fence, nothing is sent any more.
//!
//! 1. The newest manifest is found, and the log read from its replay point on.
//! 2. A later epoch stands in the log: what of the journal is not in the bucket's history can't be sent. That is told, or dropped when
//!    `discard_local` says so.
//! 3. Else what is behind the log's last version is put. Another writer's object in its place: start over.
//! 4. A manifest newer than (1) means that somebody else may have claimed the database and collected the numbers that were taken for
//!    free: start over, and find each commit or miss it. From here on the journal is not needed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{claim, open};
use super::wal::parcel;
use super::{Bucket, Journal, SENT};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::id::{CommitId, CommitVersion, DatabaseId, Epoch, ManifestNumber};
use crate::manifest::history::Recorded;
use crate::manifest::{Manifest, history};
use crate::wal::codec::{EntryHeader, decode_header};
use crate::wal::{
    FileWalReader, ObjectWal, ObjectWalOptions, ObjectWalReader, Recovered, Unsent, WalTip, utc,
};

/// How often it begins anew when others write manifests meanwhile.
const ATTEMPTS: usize = 10;

/// Commits in a journal, all of one epoch.
pub(super) struct Left {
    epoch: Epoch,
    pub(super) commits: Vec<EntryHeader>,
    payloads: Vec<Bytes>,
    /// Everything up to here was sent.
    pub(super) sent: CommitVersion,
    torn: Option<String>,
}

impl Left {
    pub(super) fn read(fs: &dyn FileSystem, id: DatabaseId) -> Result<Self> {
        let recovery = FileWalReader::recover_all(fs, id)?;
        open::check_tip(fs, recovery.predecessor.map_or(CommitVersion(0), |last| last.last))?;
        let headers: Vec<EntryHeader> =
            recovery.entries.iter().map(|entry| decode_header(&entry.payload)).collect::<Result<_>>()?;
        let epoch = headers.last().map_or(Epoch(0), |last| last.epoch);
        // An epoch is begun only when all before it was sent.
        let of_it = headers.into_iter().zip(recovery.entries).filter(|(header, _)| header.epoch == epoch);
        let (commits, payloads) = of_it.map(|(header, entry)| (header, entry.payload)).unzip();
        let sent = match WalTip::read_at(fs, SENT)? {
            Some(mark) if mark.number.0 == epoch.0 => mark.version,
            _ => CommitVersion(0),
        };
        Ok(Self { epoch, commits, payloads, sent, torn: recovery.torn })
    }

    /// How many are versions up to `last`.
    pub(super) fn up_to(&self, last: CommitVersion) -> usize {
        self.commits.partition_point(|commit| commit.version <= last)
    }

    /// All but the first `from`.
    fn unsent(&self, from: usize, journal: &str) -> Unsent {
        Unsent {
            commits: (self.commits.len() - from) as u64,
            bytes: self.payloads[from..].iter().map(|payload| payload.len() as u64).sum(),
            since_us: self.commits.get(from).map(|commit| commit.time_us),
            journal: journal.to_owned(),
            failure: None,
        }
    }
}

/// The end of what is in the bucket.
struct There {
    last: CommitVersion,
    /// Commits of the log.
    ids: HashMap<CommitId, CommitVersion>,
}

impl There {
    fn of(manifest: &Manifest, found: &[Recovered]) -> Result<Self> {
        let (mut last, mut ids) = (manifest.version, HashMap::new());
        for entry in found {
            let header = decode_header(&entry.payload)?;
            last = last.max(header.version);
            ids.insert(header.commit_id, header.version);
        }
        Ok(Self { last, ids })
    }
}

impl Bucket<'_> {
    async fn newest(&self) -> Result<Option<Manifest>> {
        let newest = claim::newest(self.manifests, self.shared, ManifestNumber(0)).await?;
        open::check_id(self.id, newest.as_ref().map(|manifest| manifest.database_id))?;
        Ok(newest)
    }

    /// Whether this is the newest manifest still. Searched for anew: the one after it may be there no more, unless it is a claim.
    async fn is_at(&self, manifest: &Manifest) -> Result<bool> {
        Ok(self.newest().await?.is_some_and(|newest| newest.number == manifest.number))
    }
}

impl Journal {
    /// Sees to it that nothing is left in the journal that is not in the bucket; what there is to tell of it.
    ///
    /// # Errors
    /// `Fenced` when another writer has taken the database over before everything was sent, `Corrupt` when the journal is damaged or
    /// does not fit the bucket: nothing is changed then, unless the bucket's `discards` has it dropped. `Unavailable` and others of the
    /// store: the journal is kept.
    pub(in crate::database) async fn settle(&self, bucket: &Bucket<'_>) -> Result<Vec<String>> {
        let left = match Left::read(&*self.fs, bucket.id) {
            Ok(left) => left,
            Err(error) => return self.unreadable(bucket, error),
        };
        let mut notes: Vec<String> =
            left.torn.iter().map(|torn| format!("journal {}: {torn}", self.name)).collect();
        if left.commits.is_empty() {
            self.remove()?;
            return Ok(notes);
        }
        let mut sent = 0;
        for _ in 0..ATTEMPTS {
            let Some(manifest) = bucket.newest().await? else {
                return self.misfit(bucket, &left, 0, "the bucket holds no manifest");
            };
            let store = Arc::clone(&bucket.shared.store);
            let mut log = ObjectWalReader::new(store, bucket.id, manifest.replay_from, manifest.replay_epoch);
            let found = match log.read_on(2).await {
                Ok(found) => found,
                // What was collected meanwhile looks like damage.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    if bucket.is_at(&manifest).await? {
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let there = There::of(&manifest, &found)?;
            if log.epoch() > left.epoch {
                notes.extend(self.superseded(bucket, &left, &manifest, &there, log.epoch()).await?);
                return Ok(notes);
            }
            let from = left.up_to(there.last);
            let differs = left.commits[..from].iter().any(|commit| {
                there.ids.get(&commit.commit_id).is_some_and(|version| *version != commit.version)
            });
            let follows = left.commits.get(from).is_none_or(|next| next.version == there.last.next());
            if differs || !follows || (log.epoch() < left.epoch && from < left.commits.len()) {
                let what = format!("the bucket ends with version {} of epoch {}", there.last, log.epoch());
                return self.misfit(bucket, &left, from, &what);
            }
            match self.send(bucket, &left, from, &log, there.last).await {
                Ok(()) => sent += left.commits.len() - from,
                // Something stands in its place: the next look tells what.
                Err(error) if error.kind() == ErrorKind::Fenced => continue,
                Err(error) => return Err(error),
            }
            if bucket.is_at(&manifest).await? {
                self.remove()?;
                if sent > 0 {
                    notes.push(format!(
                        "{} that an earlier process had acknowledged went to the bucket",
                        count(sent)
                    ));
                }
                return Ok(notes);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "others write manifests of this database all the time")
            .with_detail(format!("the journal {} is kept", self.name))
            .with_hint("another process writes it or takes it over; close that one, or try again"))
    }

    /// Puts all but the first `from` behind `log`, which ends with version `last`.
    async fn send(
        &self,
        bucket: &Bucket<'_>,
        left: &Left,
        from: usize,
        log: &ObjectWalReader,
        last: CommitVersion,
    ) -> Result<()> {
        let options = ObjectWalOptions {
            database_id: bucket.id,
            epoch: left.epoch,
            flush_interval: bucket.options.wal_flush_interval,
            timeout: bucket.options.commit_timeout,
            removes: false,
        };
        let objects = ObjectWal::create(options, log, last.next());
        let (mut rest, mut first) = (&left.payloads[from..], last.next());
        while !rest.is_empty() {
            let sent = objects.send(first, rest, parcel(rest.iter())).await?;
            rest = &rest[sent..];
            first = CommitVersion(first.0 + sent as u64);
        }
        Ok(())
    }

    /// A later epoch has begun. Commits were sent in order, so those that are missing are the last ones.
    async fn superseded(
        &self,
        bucket: &Bucket<'_>,
        left: &Left,
        manifest: &Manifest,
        there: &There,
        epoch: Epoch,
    ) -> Result<Option<String>> {
        let store = &*bucket.shared.store;
        let recorded = Recorded::of(manifest);
        let now_us = bucket.options.clock.now_us();
        let (mut low, mut high) = (left.up_to(left.sent), left.commits.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let commit = &left.commits[middle];
            let found = match there.ids.get(&commit.commit_id) {
                Some(version) => Some(*version),
                None => {
                    let found = history::find(store, &recorded, commit.commit_id, now_us).await?;
                    found.map(|found| found.version)
                }
            };
            match found {
                Some(version) if version == commit.version => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        if low == left.commits.len() {
            self.remove()?;
            return Ok(None);
        }
        let unsent = left.unsent(low, &self.name);
        if bucket.discards {
            self.remove()?;
            return Ok(Some(dropped(&unsent)));
        }
        let message = format!(
            "{} made on this machine are not in {}, which another writer has taken over since",
            unsent.describe(),
            bucket.root
        );
        Err(Error::new(ErrorKind::Fenced, message)
            .with_detail(format!(
                "they are of epoch {}, versions {} to {}, and the bucket is written under epoch {epoch}; they are kept in the journal {}",
                left.epoch,
                left.commits[low].version,
                left.commits[left.commits.len() - 1].version,
                self.name
            ))
            .with_hint(HINT))
    }

    /// The journal is whole and does not go on where the bucket ends.
    fn misfit(&self, bucket: &Bucket<'_>, left: &Left, from: usize, what: &str) -> Result<Vec<String>> {
        let unsent = left.unsent(from, &self.name);
        if bucket.discards {
            self.remove()?;
            return Ok(vec![dropped(&unsent)]);
        }
        let next = left.commits.get(from).or(left.commits.last());
        let next = next.map_or(CommitVersion(0), |commit| commit.version);
        let message = format!("the journal {} does not fit {}: {what}", self.name, bucket.root);
        Err(Error::new(ErrorKind::Corrupt, message)
            .with_detail(format!(
                "it goes on with version {next} of epoch {}; {} are at stake",
                left.epoch,
                unsent.describe()
            ))
            .with_hint(HINT))
    }

    fn unreadable(&self, bucket: &Bucket<'_>, error: Error) -> Result<Vec<String>> {
        let is_damage =
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::Unsupported);
        if !is_damage {
            return Err(error);
        }
        if bucket.discards {
            self.remove()?;
            let what =
                format!("what the journal {} held was dropped; it could not be read: {error}", self.name);
            return Ok(vec![what]);
        }
        let message =
            format!("the journal {} of {} can't be read: {}", self.name, bucket.root, error.message());
        let mut told = Error::new(error.kind(), message).with_hint(HINT);
        if let Some(detail) = error.detail() {
            told = told.with_detail(detail);
        }
        Err(told.with_source(error))
    }
}

/// What to do about commits that can't be sent.
const HINT: &str =
    "nothing was changed; --read-only reads the bucket without them, --discard-local drops them for good";

fn dropped(unsent: &Unsent) -> String {
    let since = unsent.since_us.map_or_else(String::new, |since| format!(" since {}", utc(since)));
    format!(
        "{} made on this machine{since} were dropped; the bucket never had them",
        count(unsent.commits as usize)
    )
}

fn count(commits: usize) -> String {
    if commits == 1 { "1 commit".to_owned() } else { format!("{commits} commits") }
}
