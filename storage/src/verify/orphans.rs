//! Objects that nothing names. Harmless: what a crash, a failed statement or a replacement has left behind.
//!
//! In a directory those of tables and leaves are looked for; in an object store also manifests, the log and the history, each with
//! what the collector will do about it.

use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;

use super::chain::{Chain, is_remote};
use super::{Finding, FindingStatus, Findings, counted};
use crate::collect::{FOLDERS, HISTORY_KEPT, LEAVES, Listed, ObjectKind, ObjectName, PROBE_KEPT, is_older};
use crate::database::Database;
use crate::error::{ErrorKind, Result};
use crate::id::{ManifestNumber, ObjectId};
use crate::version::Snapshot;
use crate::wal::FENCE_BYTES;

/// Most rows of single objects.
const ROWS_MAX: usize = 1_000;
/// Manifests below the boundary, claims nearly all of them, that are looked at.
const OLD_MANIFESTS: usize = 1_000;

/// Why an object is listed.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// Nothing names its id.
    Unnamed(ObjectId),
    /// Nobody reads what is that old.
    Old,
    /// Cairn writes nothing under such a name.
    Foreign,
}

/// The search for them.
struct Search<'a> {
    database: &'a Database,
    chain: Chain,
    found: Vec<(Listed, Why)>,
    /// Manifests below the boundary.
    below: Vec<(ManifestNumber, Listed)>,
}

/// Adds a row for each, up to a number of them, and one for all. `chain`: what the manifests say.
///
/// # Errors
/// The store's answer to a listing.
pub(super) async fn find(
    database: &Database,
    snapshot: &Snapshot,
    chain: Chain,
    findings: &mut Findings,
) -> Result<()> {
    let mut search = Search { database, chain, found: Vec::new(), below: Vec::new() };
    search.chain.named.add_version(snapshot.state());
    let folders: &[&str] = if is_remote(database) { FOLDERS } else { &["table", LEAVES] };
    for folder in folders {
        search.list(folder).await?;
    }
    search.look_below().await?;
    search.forget_new(findings).await;
    search.report(findings);
    Ok(())
}

impl Search<'_> {
    async fn list(&mut self, folder: &str) -> Result<()> {
        let mut objects = self.database.object_store().list(Some(&Path::from(folder)));
        while let Some(object) = objects.next().await {
            let object = Listed::from(object?);
            let Some(why) = self.judge(&object) else { continue };
            self.found.push((object, why));
        }
        Ok(())
    }

    fn judge(&mut self, object: &Listed) -> Option<Why> {
        let now_us = self.database.options().clock.now_us();
        let old = |than: Duration| is_older(object, now_us, than).then_some(Why::Old);
        match ObjectName::of(object.location.as_ref()) {
            Some(ObjectName::Made(ObjectKind::ManifestLeaf, id)) if !is_remote(self.database) => {
                self.chain.has_lost_leaf(id).then_some(Why::Unnamed(id))
            }
            Some(ObjectName::Made(_, id)) => (!self.chain.named.contains(id)).then_some(Why::Unnamed(id)),
            Some(ObjectName::Manifest(number)) => {
                if number < self.chain.oldest {
                    self.below.push((number, object.clone()));
                }
                None
            }
            Some(ObjectName::Wal(number)) => {
                let replayed = self.chain.replay_from.is_some_and(|from| number < from);
                (replayed && object.bytes != FENCE_BYTES).then_some(Why::Old)
            }
            Some(ObjectName::History(_)) => old(HISTORY_KEPT),
            Some(ObjectName::Probe) => old(PROBE_KEPT),
            None => Some(Why::Foreign),
        }
    }

    /// Manifests below the boundary are claims, or should have been collected.
    async fn look_below(&mut self) -> Result<()> {
        let mut below = std::mem::take(&mut self.below);
        below.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        below.truncate(OLD_MANIFESTS);
        for (number, object) in below {
            match self.database.manifests.read(number).await {
                Ok(manifest) if manifest.is_claim => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(_) | Err(_) => self.found.push((object, Why::Old)),
            }
        }
        Ok(())
    }

    /// What has been named since the checks began is no orphan.
    async fn forget_new(&mut self, findings: &mut Findings) {
        let database = self.database;
        let Self { chain, found, .. } = self;
        if is_remote(database)
            && let Ok(Some(newest)) = database.newest_manifest().await
        {
            for number in (chain.newest.0 + 1..=newest.number.0).map(ManifestNumber) {
                if let Ok(manifest) = database.manifests.read(number).await {
                    chain.add(database, &manifest, findings).await;
                }
            }
            chain.newest = newest.number;
        }
        chain.named.add_version(database.snapshot().state());
        if let Ok(writer) = database.writer() {
            chain.named.add_version(&writer.order.head());
        }
        found.retain(|(_, why)| !matches!(why, Why::Unnamed(id) if chain.named.contains(*id)));
    }

    fn report(&mut self, findings: &mut Findings) {
        if self.found.is_empty() {
            return;
        }
        self.found.sort_unstable_by(|(left, _), (right, _)| left.location.cmp(&right.location));
        let finding = |object: String, detail: String, hint: String| Finding {
            object,
            check: "unreferenced objects".to_owned(),
            status: FindingStatus::Warning,
            detail,
            hint,
        };
        let now_us = self.database.options().clock.now_us();
        for (object, why) in self.found.iter().take(ROWS_MAX) {
            let detail = described(object, now_us);
            findings.push(finding(object.location.to_string(), detail, self.hint(*why)));
        }
        let bytes: u64 = self.found.iter().map(|(object, _)| object.bytes).sum();
        let detail = format!("{}, {bytes} bytes", counted(self.found.len() as u64, "object"));
        let hint = match self.found.len() {
            0..=ROWS_MAX => String::new(),
            _ => format!("the first {ROWS_MAX} of them are listed"),
        };
        findings.push(finding("total".to_owned(), detail, hint));
    }

    fn hint(&self, why: Why) -> String {
        if !is_remote(self.database) {
            return "it costs space only; a later checkpoint removes it".to_owned();
        }
        let grace = span(self.database.options().reader_grace);
        match why {
            Why::Unnamed(id) if self.chain.settled.is_some_and(|settled| id < settled) => {
                let newest = self.chain.newest;
                format!("it costs space only; it is collected once manifest {newest} is {grace} old")
            }
            Why::Unnamed(_) => format!(
                "a statement that runs may yet name it; if none does, it is collected {grace} after the next checkpoint"
            ),
            Why::Old => "it costs space only; the next collection removes it".to_owned(),
            Why::Foreign => "Cairn has not named it so and never collects it".to_owned(),
        }
    }
}

/// Its bytes, and its age where the store knows it.
fn described(object: &Listed, now_us: i64) -> String {
    let bytes = object.bytes;
    match u64::try_from(now_us.saturating_sub(object.modified_us)) {
        Ok(age_us) if object.modified_us > 0 => {
            format!("{bytes} bytes, {} old", span(Duration::from_micros(age_us)))
        }
        Ok(_) | Err(_) => format!("{bytes} bytes"),
    }
}

/// A span of time in its largest unit.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_tells_its_bytes_and_its_age() {
        let hour = 3_600_000_000;
        let object = |modified_us| Listed { location: Path::from("table/1/x"), bytes: 17, modified_us };
        for (modified_us, detail) in [
            (1_000 * hour, "17 bytes, 0 s old"),
            (1_000 * hour - 119_999_999, "17 bytes, 119 s old"),
            (999 * hour, "17 bytes, 60 min old"),
            (998 * hour, "17 bytes, 2 h old"),
            (900 * hour, "17 bytes, 4 days old"),
            // The store's clock is ahead, or it knows no times.
            (1_001 * hour, "17 bytes"),
            (0, "17 bytes"),
        ] {
            assert_eq!(described(&object(modified_us), 1_000 * hour), detail);
        }
    }
}
