//! Checks of manifests: the newest, those before it as far back as they are kept, and on a root in an object store all their leaves.
//!
//! There the collector removes manifests below the boundary, all but claims: so nothing is looked for below it. In a directory the oldest are removed
//! one after the other, and what is looked for begins with the oldest that is there.

use std::collections::{BTreeMap, HashSet};

use super::{Depth, Finding, Findings, absent, counted};
use crate::collect::{Named, leaves, oldest_kept};
use crate::database::Database;
use crate::database::boundary::Boundary;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ManifestNumber, ObjectId, WalNumber};
use crate::manifest::invariants::check_successor;
use crate::manifest::store::{leaf_path, manifest_path};
use crate::manifest::{LeafRef, Manifest};
use crate::version::Snapshot;

/// What the manifests that are kept say. On other roots than those in object stores only the numbers and the names of leaves are known.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// What they name.
    pub(super) named: Named,
    /// The oldest of them.
    pub(super) oldest: ManifestNumber,
    /// The newest of them; 0: there is none.
    pub(super) newest: ManifestNumber,
    /// Where replay from the oldest begins; None: it cannot be read.
    pub(super) replay_from: Option<WalNumber>,
    /// What the newest has settled.
    pub(super) settled: Option<ObjectId>,
    /// Those that could be read.
    pub(super) standing: BTreeMap<ManifestNumber, Standing>,
    /// Leaves that cannot be read; each is told once.
    lost: HashSet<ObjectId>,
    /// Whether one can't be read, so that nobody knows which leaves it names.
    unread: bool,
}

/// What is remembered of a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The newest commit it describes, and its time.
    pub(super) version: CommitVersion,
    pub(super) time_us: i64,
    /// Whether it only takes an epoch.
    pub(super) is_claim: bool,
}

/// Whether the root is in an object store.
pub(super) fn is_remote(database: &Database) -> bool {
    database.shared.remote
}

/// The manifests from the boundary on.
pub(super) async fn check(
    database: &Database,
    depth: Depth,
    snapshot: &Snapshot,
    findings: &mut Findings,
) -> Chain {
    let newest = snapshot.state().manifest;
    let mut chain = Chain { newest, ..Chain::default() };
    if newest == ManifestNumber(0) {
        return chain;
    }
    chain.oldest = match oldest(database, newest).await {
        Ok(oldest) => oldest,
        Err(error) => {
            let object = if is_remote(database) { "boundary" } else { "manifest" };
            findings.push(Finding::new(object, "checksums and rules", Err(error)));
            chain.unread = true;
            newest
        }
    };
    let path = manifest_path(newest);
    let (last, mut checked) = match manifest(database, newest, &path).await {
        Ok((manifest, detail)) => {
            chain.note(&manifest);
            (Some(manifest), Ok(detail))
        }
        Err(error) => (None, Err(error)),
    };
    // Claims stay when their leaves go.
    if checked.is_err() && chain.has_passed(database, newest).await {
        checked = Ok("it was replaced and collected meanwhile".to_owned());
    }
    findings.push(Finding::new(path, "checksums and rules", checked));
    let (mut damaged, mut marked, mut before) = (0, 0, None);
    for number in (chain.oldest.0..newest.0).map(ManifestNumber) {
        let error = match database.manifests.read(number).await {
            Ok(manifest) => {
                chain.note(&manifest);
                chain.add(database, &manifest, findings).await;
                if depth == Depth::Deep {
                    damaged += follows(before.as_ref(), &manifest, findings);
                    before = Some(manifest);
                }
                continue;
            }
            Err(error) => error,
        };
        if matches!(database.manifests.is_marked(number, database.id()).await, Ok(true)) {
            marked += 1;
        } else if !is_absent(&error) || !chain.has_passed(database, number).await {
            chain.unread = true;
            findings.push(Finding::new(manifest_path(number), "checksums and rules", Err(error)));
            damaged += 1;
        }
    }
    let anew = match is_remote(database) {
        true => database.manifests.read(newest).await.ok(),
        false => None,
    };
    if let Some(manifest) = anew.as_ref().or(last.as_ref().filter(|_| !is_remote(database))) {
        chain.add(database, manifest, findings).await;
    }
    if depth == Depth::Deep
        && let Some(last) = &last
    {
        damaged += follows(before.as_ref(), last, findings);
    }
    let older = newest.0.saturating_sub(chain.oldest.0);
    let mut detail = format!("{}, {damaged} with findings", counted(older, "older manifest"));
    if marked > 0 {
        detail += &format!(", {marked} put aside by repairs");
    }
    findings.push(Finding::new("manifest", "chain", Ok(detail)));
    chain
}

impl Chain {
    fn note(&mut self, manifest: &Manifest) {
        let Manifest { version, time_us, is_claim, .. } = *manifest;
        self.standing.insert(manifest.number, Standing { version, time_us, is_claim });
    }

    /// The newest commit that the manifest before that number describes; None: it is not known.
    pub(super) fn version_before(&self, number: ManifestNumber) -> Option<CommitVersion> {
        if number <= ManifestNumber(1) {
            return Some(CommitVersion(0));
        }
        self.standing.get(&ManifestNumber(number.0 - 1)).map(|before| before.version)
    }

    /// Whether that manifest has been removed meanwhile, as older ones are; the chain then begins behind those.
    async fn has_passed(&mut self, database: &Database, number: ManifestNumber) -> bool {
        if number >= self.oldest
            && let Ok(oldest) = oldest(database, self.newest).await
        {
            self.oldest = self.oldest.max(oldest);
        }
        number < self.oldest
    }

    /// Whether nothing names that leaf of a directory, nor will: a checkpoint that runs names its own when it ends.
    pub(super) fn has_lost_leaf(&self, id: ObjectId) -> bool {
        !self.unread && !self.named.contains(id) && self.settled.is_some_and(|settled| id < settled)
    }

    /// Adds what the next manifest names.
    pub(super) async fn add(&mut self, database: &Database, manifest: &Manifest, findings: &mut Findings) {
        if !is_remote(database) {
            // Copied there from elsewhere: what the one that stood there names nobody knows.
            self.unread |= manifest.database_id != database.id();
            self.named.add_leaves(manifest);
            if manifest.number == self.newest {
                self.settled = manifest.settled;
            }
            return;
        }
        if manifest.number == self.oldest {
            self.replay_from = Some(manifest.replay_from);
        }
        self.settled = manifest.settled;
        self.named.add_root(manifest);
        for leaf in leaves(manifest) {
            if let Err(error) = self.named.add_leaf(&database.manifests, leaf).await
                && !self.has_passed(database, manifest.number).await
                && self.lost.insert(leaf.id)
            {
                findings.push(lost_leaf(database, leaf, error).await);
            }
        }
    }
}

/// Tells when `next` is no successor of the manifest before it; how many findings that makes.
fn follows(before: Option<&Manifest>, next: &Manifest, findings: &mut Findings) -> u64 {
    let Some(before) = before.filter(|before| before.number.next() == next.number) else { return 0 };
    let Err(broken) = check_successor(Some(before), next) else { return 0 };
    let path = manifest_path(next.number);
    let error = broken.after_read(&path);
    findings.push(Finding::new(path, "rules between manifests", Err(error)));
    1
}

async fn lost_leaf(database: &Database, leaf: &LeafRef, error: Error) -> Finding {
    let path = leaf_path(leaf.id);
    let error = match database.shared.length(&path).await {
        Ok(None) => absent(Error::new(ErrorKind::NotFound, path.as_str()), leaf.bytes),
        Ok(Some(_)) | Err(_) => error,
    };
    Finding::new(path, "checksums and rules", Err(error))
}

/// The oldest manifest that is kept, claims apart; `newest` is one that is known.
async fn oldest(database: &Database, newest: ManifestNumber) -> Result<ManifestNumber> {
    if !is_remote(database) {
        let listed = database.manifests.listed_range().await?;
        let kept = listed.map(|(lowest, highest)| oldest_kept(lowest, highest.max(newest)));
        return Ok(kept.unwrap_or(ManifestNumber(1)));
    }
    let boundary = Boundary::read(&*database.shared.store).await?;
    Ok(boundary.map_or(ManifestNumber(1), |(boundary, _)| boundary.oldest))
}

fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

async fn manifest(database: &Database, number: ManifestNumber, path: &str) -> Result<(Manifest, String)> {
    let manifest = database.manifests.read(number).await?;
    if manifest.database_id != database.id() {
        return Err(Error::corrupt(path, "it belongs to another database"));
    }
    let mut segments = 0;
    for table in &manifest.tables {
        segments += database.manifests.load_table(table).await?.len() as u64;
    }
    let tables = counted(manifest.tables.len() as u64, "table");
    let detail = format!("{tables}, {}, version {}", counted(segments, "segment"), manifest.version);
    Ok((manifest, detail))
}
