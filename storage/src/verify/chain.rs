//! Checks of manifests: the newest, those before it as far back as they are kept, and on a root in an object store all their leaves.
//!
//! There the collector removes manifests below the boundary, all but claims: so nothing is looked for below it.

use std::collections::HashSet;

use super::{Finding, absent, counted};
use crate::collect::{Named, leaves};
use crate::database::Database;
use crate::database::boundary::Boundary;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ManifestNumber, ObjectId, WalNumber};
use crate::manifest::store::{leaf_path, manifest_path};
use crate::manifest::{LeafRef, Manifest};
use crate::version::Snapshot;

/// What the manifests that are kept say. On other roots than those in object stores only the numbers are known.
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
    /// Leaves that cannot be read; each is told once.
    lost: HashSet<ObjectId>,
}

/// Whether the root is in an object store.
pub(super) fn is_remote(database: &Database) -> bool {
    database.shared.remote
}

/// The manifests from the boundary on.
pub(super) async fn check(database: &Database, snapshot: &Snapshot, findings: &mut Vec<Finding>) -> Chain {
    let newest = snapshot.state().manifest;
    let mut chain = Chain { newest, ..Chain::default() };
    if newest == ManifestNumber(0) {
        return chain;
    }
    chain.oldest = match oldest(database).await {
        Ok(oldest) => oldest,
        Err(error) => {
            findings.push(Finding::new("boundary", "checksums and rules", Err(error)));
            newest
        }
    };
    let path = manifest_path(newest);
    let mut checked = manifest(database, newest, &path).await;
    // Claims stay when their leaves go.
    if checked.is_err() && chain.has_passed(database, newest).await {
        checked = Ok("it was replaced and collected meanwhile".to_owned());
    }
    findings.push(Finding::new(path, "checksums and rules", checked));
    let mut damaged = 0;
    for number in (chain.oldest.0..newest.0).map(ManifestNumber) {
        let error = match database.manifests.read(number).await {
            Ok(manifest) => {
                chain.add(database, &manifest, findings).await;
                continue;
            }
            Err(error) => error,
        };
        if !is_absent(&error) || !chain.has_passed(database, number).await {
            findings.push(Finding::new(manifest_path(number), "checksums and rules", Err(error)));
            damaged += 1;
        }
    }
    if is_remote(database)
        && let Ok(manifest) = database.manifests.read(newest).await
    {
        chain.add(database, &manifest, findings).await;
    }
    let older = newest.0.saturating_sub(chain.oldest.0);
    let detail = Ok(format!("{}, {damaged} with findings", counted(older, "older manifest")));
    findings.push(Finding::new("manifest", "chain", detail));
    chain
}

impl Chain {
    /// Whether the boundary has passed that manifest meanwhile; the chain then begins where it stands now.
    async fn has_passed(&mut self, database: &Database, number: ManifestNumber) -> bool {
        if number >= self.oldest
            && let Ok(oldest) = oldest(database).await
        {
            self.oldest = self.oldest.max(oldest);
        }
        number < self.oldest
    }

    /// Adds what the next manifest names.
    pub(super) async fn add(
        &mut self,
        database: &Database,
        manifest: &Manifest,
        findings: &mut Vec<Finding>,
    ) {
        if !is_remote(database) {
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

async fn lost_leaf(database: &Database, leaf: &LeafRef, error: Error) -> Finding {
    let path = leaf_path(leaf.id);
    let error = match database.shared.length(&path).await {
        Ok(None) => absent(Error::new(ErrorKind::NotFound, path.as_str()), leaf.bytes),
        Ok(Some(_)) | Err(_) => error,
    };
    Finding::new(path, "checksums and rules", Err(error))
}

/// The oldest manifest that is kept, claims apart.
async fn oldest(database: &Database) -> Result<ManifestNumber> {
    if !is_remote(database) {
        return Ok(ManifestNumber(1));
    }
    let boundary = Boundary::read(&*database.shared.store).await?;
    Ok(boundary.map_or(ManifestNumber(1), |(boundary, _)| boundary.oldest))
}

fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

async fn manifest(database: &Database, number: ManifestNumber, path: &str) -> Result<String> {
    let manifest = database.manifests.read(number).await?;
    if manifest.database_id != database.id() {
        return Err(Error::corrupt(path, "it belongs to another database"));
    }
    let mut segments = 0;
    for table in &manifest.tables {
        segments += database.manifests.load_table(table).await?.len() as u64;
    }
    let tables = counted(manifest.tables.len() as u64, "table");
    Ok(format!("{tables}, {}, version {}", counted(segments, "segment"), manifest.version))
}
