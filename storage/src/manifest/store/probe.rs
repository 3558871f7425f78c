//! The search for the newest manifest: by probing numbers, never by LIST (D11).
//!
//! Manifests are dense from the hint on, and the hint (`boundary`, or a number seen before) moves only upward. A listing can only
//! propose a number to probe, and raise the alarm when it shows manifests that probing did not find.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{ManifestStore, manifest_path};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ManifestNumber;
use crate::manifest::model::Manifest;

/// How often the search begins anew when the newest is gone before it is read.
const SEARCHES: usize = 4;

impl ManifestStore {
    /// The newest manifest, None when there is none at all. `hint` is a number at or below it (0 when nothing is known): the
    /// search gallops upward from there.
    ///
    /// # Errors
    /// `Corrupt` and `Unsupported` naming the manifest; `Unavailable` when it vanished again and again.
    pub async fn newest(&self, hint: ManifestNumber) -> Result<Option<Manifest>> {
        let from = ManifestNumber(hint.0.max(1));
        // The hint is mostly the newest itself: one round trip tells and brings it.
        let (manifest, newer) = futures::join!(self.read_if_present(from), self.exists(from.next()));
        if !newer? && let Some(manifest) = manifest? {
            return Ok(Some(manifest));
        }
        for _ in 0..SEARCHES {
            let Some(number) = self.newest_number(from).await? else {
                return Ok(None);
            };
            if let Some(manifest) = self.read_if_present(number).await? {
                return Ok(Some(manifest));
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the newest manifest was removed while it was read")
            .with_hint("try again; if it stays so, run VERIFY"))
    }

    /// Whether there is a manifest after `number`.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_newer_than(&self, number: ManifestNumber) -> Result<bool> {
        self.exists(number.next()).await
    }

    async fn newest_number(&self, from: ManifestNumber) -> Result<Option<ManifestNumber>> {
        if self.exists(from).await? {
            return self.gallop(from).await.map(Some);
        }
        // Collected below, or never written: what a listing shows may serve as a hint, once it is probed.
        match self.listed().await? {
            None => Ok(None),
            Some(listed) if self.exists(listed).await? => self.gallop(listed).await.map(Some),
            Some(listed) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{} is listed but can't be read", manifest_path(listed)),
            )),
        }
    }

    /// The last number of the dense run that `found` is in.
    async fn gallop(&self, found: ManifestNumber) -> Result<ManifestNumber> {
        let mut present = found.0;
        let mut step = 1u64;
        let mut absent = loop {
            let Some(next) = present.checked_add(step) else { break u64::MAX };
            if !self.exists(ManifestNumber(next)).await? {
                break next;
            }
            present = next;
            step = step.saturating_mul(2);
        };
        while absent - present > 1 {
            let middle = present + (absent - present) / 2;
            if self.exists(ManifestNumber(middle)).await? {
                present = middle;
            } else {
                absent = middle;
            }
        }
        Ok(ManifestNumber(present))
    }

    async fn exists(&self, number: ManifestNumber) -> Result<bool> {
        match self.store.head(&Path::from(manifest_path(number))).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Largest number that a listing shows: a hint where nothing better is known.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn listed(&self) -> Result<Option<ManifestNumber>> {
        Ok(self.listed_range().await?.map(|(_, largest)| largest))
    }

    /// Smallest and largest number that a listing shows.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn listed_range(&self) -> Result<Option<(ManifestNumber, ManifestNumber)>> {
        let numbers = self.store.list(Some(&Path::from("manifest"))).map_ok(|object| {
            let path = object.location.as_ref();
            let number = path.strip_prefix("manifest/").and_then(|name| name.parse().ok());
            number.map(ManifestNumber).filter(|n| manifest_path(*n) == path)
        });
        let range = numbers.try_fold(None, |range: Option<(ManifestNumber, ManifestNumber)>, number| {
            let wider = match (range, number) {
                (Some((smallest, largest)), Some(n)) => Some((smallest.min(n), largest.max(n))),
                (None, Some(n)) => Some((n, n)),
                (range, None) => range,
            };
            std::future::ready(Ok(wider))
        });
        Ok(range.await?)
    }
}
