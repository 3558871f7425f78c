//! Checks of the objects that find commits by their ids: each byte, that they hold the commits between two manifests, and that together they hold
//! all that can still be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::chain::Chain;
use super::{Finding, Findings, counted};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ManifestNumber};
use crate::manifest::history::{self, Covered, history_path, is_over};

const CHECK: &str = "checksum and versions";

/// All that are there, and those that should be.
pub(super) async fn check(database: &Database, chain: &Chain, findings: &mut Findings) {
    let store = &*database.shared.store;
    // Before they are listed: what it speaks of stands by then.
    let recorded = Arc::clone(&database.snapshot().state().recorded);
    let listed: BTreeMap<ManifestNumber, i64> = match history::listed(store).await {
        Ok(listed) => listed.into_iter().collect(),
        Err(error) => {
            findings.push(Finding::new("history", CHECK, Err(error)));
            return;
        }
    };
    let (mut objects, mut commits, mut told) = (0, 0, BTreeSet::new());
    let mut covered = Covered::default();
    for number in listed.keys() {
        let found = history::check(store, *number).await;
        if let Ok(Some((first, count))) = &found {
            covered.know(*number, first.0..first.0.saturating_add(*count));
        }
        match found.and_then(|found| fits(chain, *number, found)) {
            Ok(count) => {
                objects += 1;
                commits += count;
            }
            Err(error) => {
                told.insert(*number);
                findings.push(Finding::new(history_path(*number), CHECK, Err(error)));
            }
        }
    }
    let now_us = database.options().clock.now_us();
    for (number, manifest) in &chain.standing {
        let is_first = chain.version_before(*number).is_some_and(|before| before < manifest.version);
        if !is_first || manifest.is_claim || listed.contains_key(number) || is_over(manifest.time_us, now_us)
        {
            continue;
        }
        // A listing may lack what is new.
        match history::check(store, *number).await {
            Ok(Some((first, count))) => covered.know(*number, first.0..first.0.saturating_add(count)),
            Ok(None) => {
                let why = "it is not there, and its commits can still be asked for by their ids";
                let error = Error::new(ErrorKind::NotFound, why);
                findings.push(Finding::new(history_path(*number), CHECK, Err(error)));
                told.insert(*number);
            }
            Err(error) => {
                findings.push(Finding::new(history_path(*number), CHECK, Err(error)));
                told.insert(*number);
            }
        }
    }
    let mut damaged = told.len();
    // What the manifests say of those that were told is theirs alone; a gap beside it is another's.
    for number in &told {
        if let Some(versions) = versions(chain, *number) {
            covered.know(*number, versions);
        }
    }
    let is_taken = |number: ManifestNumber| listed.contains_key(&number) || told.contains(&number);
    // Those beside manifests that were collected are found by this alone.
    match covered.gaps(store, &recorded, database.options().clock.now_us()).await {
        Ok(gaps) => {
            // Where one of those that were told may have them, its repair sees to them.
            for gap in gaps.iter().filter(|gap| !told.iter().any(|number| gap.may_be_in(*number))) {
                let path = gap.number(is_taken).map_or_else(|| "history".to_owned(), history_path);
                let (first, last) = gap.commits();
                let why = format!(
                    "an object with the ids of commits {first} to {last} is not there, and they can still be asked for"
                );
                findings.push(Finding::new(path, CHECK, Err(Error::new(ErrorKind::NotFound, why))));
                damaged += 1;
            }
        }
        // That object was told.
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        Err(error) => findings.push(Finding::new("history", CHECK, Err(error))),
    }
    let detail =
        format!("{}, {}, {damaged} with findings", counted(objects, "object"), counted(commits, "commit"));
    findings.push(Finding::new("history", CHECK, Ok(detail)));
}

/// Versions of the commits that the manifest of that number is the first to hold; None: nobody knows, or it is a claim, beside which an earlier
/// writer may have left any.
fn versions(chain: &Chain, number: ManifestNumber) -> Option<Range<u64>> {
    let manifest = chain.standing.get(&number).filter(|manifest| !manifest.is_claim)?;
    let before = chain.version_before(number)?;
    Some(before.next().0..manifest.version.next().0)
}

/// Commits in an object, when they are those between its manifest and the one before.
fn fits(chain: &Chain, number: ManifestNumber, found: Option<(CommitVersion, u64)>) -> Result<u64> {
    // It was collected since it was listed.
    let Some((first, count)) = found else { return Ok(0) };
    // Its manifest was collected, or never published; where a claim has its number, an earlier writer was about to publish it.
    let Some(manifest) = chain.standing.get(&number).filter(|manifest| !manifest.is_claim) else {
        return Ok(count);
    };
    let path = history_path(number);
    if first.0.checked_add(count) != Some(manifest.version.next().0) {
        let why = format!(
            "its {} begin with version {first}, its manifest is of {}",
            counted(count, "commit"),
            manifest.version
        );
        return Err(Error::corrupt(path, why));
    }
    match chain.version_before(number) {
        Some(before) if before.next() != first => {
            let why = format!("it begins with version {first}, the manifest before is of {before}");
            Err(Error::corrupt(path, why))
        }
        Some(_) | None => Ok(count),
    }
}
