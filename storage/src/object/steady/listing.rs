//! Listings that go on where they broke off.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, Result as StoreResult};
use tokio::time::Instant;

use super::Inner;
use super::attempts::{Repeat, within};

/// Objects on a page of a listing, by which requests are counted: stores tell objects, not pages.
const PAGE_OBJECTS: u64 = 1000;

/// The objects below `prefix` behind `offset`.
pub(super) fn listed(
    inner: Arc<Inner>,
    prefix: Option<Path>,
    offset: Option<Path>,
) -> BoxStream<'static, StoreResult<ObjectMeta>> {
    let listing = Listing {
        inner,
        prefix,
        floor: offset,
        last: None,
        ordered: true,
        running: None,
        seen: 0,
        attempts: 0,
    };
    stream::unfold(Some(listing), |listing| async move {
        let mut listing = listing?;
        match listing.next().await {
            Some(Ok(meta)) => Some((Ok(meta), Some(listing))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    })
    .boxed()
}

struct Listing {
    inner: Arc<Inner>,
    prefix: Option<Path>,
    /// What runs lists only what is behind this.
    floor: Option<Path>,
    /// The last object handed on.
    last: Option<Path>,
    /// Whether each object was behind the one before it: else nobody can go on behind the last one.
    ordered: bool,
    running: Option<BoxStream<'static, StoreResult<ObjectMeta>>>,
    /// Objects that came from what runs.
    seen: u64,
    /// Failures since the last object.
    attempts: u32,
}

impl Listing {
    async fn next(&mut self) -> Option<StoreResult<ObjectMeta>> {
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.begin(),
            };
            let at = self.prefix.as_ref().map_or("", |prefix| prefix.as_ref());
            let begun = Instant::now();
            let answer = within(at, self.inner.limits.time_for(0), running.try_next()).await;
            match answer {
                Ok(None) => return None,
                Ok(Some(meta)) => {
                    self.count(begun);
                    self.running = Some(running);
                    if self.floor.as_ref().is_some_and(|floor| meta.location <= *floor) {
                        continue;
                    }
                    self.ordered &= self.last.as_ref().is_none_or(|last| *last < meta.location);
                    self.last = Some(meta.location.clone());
                    return Some(Ok(meta));
                }
                Err(error) => {
                    let repeat = if self.ordered { Repeat::Always } else { Repeat::Never };
                    if let Err(error) = self.inner.again(at, repeat, &mut self.attempts, error).await {
                        return Some(Err(error));
                    }
                    if self.last.is_some() {
                        self.floor.clone_from(&self.last);
                    }
                }
            }
        }
    }

    fn begin(&mut self) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.seen = 0;
        self.inner.metrics.lists.one();
        match &self.floor {
            Some(floor) => self.inner.store.list_with_offset(self.prefix.as_ref(), floor),
            None => self.inner.store.list(self.prefix.as_ref()),
        }
    }

    /// Counts an object; the first of a page was waited for.
    fn count(&mut self, begun: Instant) {
        if self.seen.is_multiple_of(PAGE_OBJECTS) {
            if self.seen > 0 {
                self.inner.metrics.lists.one();
            }
            self.inner.metrics.waits.observe(begun.elapsed());
            self.inner.budget.give();
        }
        self.seen += 1;
        self.attempts = 0;
    }
}
