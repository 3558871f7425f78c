//! Reading objects: a read is done when all its bytes are here.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore,
    Result as StoreResult,
};
use tokio::time::Instant;

use super::Inner;
use super::attempts::{Repeat, until};
use crate::error::{Error, ErrorKind};
use crate::object::meter::ReadMeter;
use crate::object::reason;

/// Ranges with at most so many bytes between them are read by one request.
const GAP_BYTES: u64 = 256 << 10;

/// Ranges are not read by one request when it would be longer than this: several bring the bytes sooner.
const MERGED_BYTES_MAX: u64 = 8 << 20;

/// Requests for ranges of one object at the same time.
const CONCURRENT_REQUESTS: usize = 16;

impl Inner {
    pub(super) async fn get(&self, location: &Path, options: &GetOptions) -> StoreResult<GetResult> {
        if let Some(range) = &options.range {
            range.is_valid().map_err(invalid)?;
        }
        let meter = ReadMeter::of(options);
        let meter = meter.as_ref();
        let get = move || async move {
            let count = if options.head { &self.metrics.heads } else { &self.metrics.gets };
            count.one();
            let begun = Instant::now();
            let mut received = 0;
            let answer = self.attempt(self.get_once(location, options, &mut received)).await;
            self.metrics.read_bytes.add(received);
            if let Some(meter) = meter {
                meter.request(received, begun.elapsed());
            }
            answer
        };
        self.repeat(location.as_ref(), Repeat::Always, get).await
    }

    /// One attempt, whose bytes are counted in `received` also when it fails.
    async fn get_once(
        &self,
        location: &Path,
        options: &GetOptions,
        received: &mut u64,
    ) -> StoreResult<GetResult> {
        let (at, begun) = (location.as_ref(), Instant::now());
        let asked = match &options.range {
            Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
            Some(GetRange::Suffix(bytes)) => *bytes,
            Some(GetRange::Offset(_)) | None => 0,
        };
        let answered = self.store.get_opts(location, options.clone());
        let found = until(at, begun, self.limits.time_for(asked), answered).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let mut chunks = Vec::new();
        if !options.head {
            let length = range.end.saturating_sub(range.start);
            let mut body = found.into_stream();
            let collected = async {
                while let Some(chunk) = body.try_next().await? {
                    *received += chunk.len() as u64;
                    chunks.push(chunk);
                    if *received > length {
                        break;
                    }
                }
                Ok::<(), StoreError>(())
            };
            until(at, begun, self.limits.time_for(length), collected).await?;
            if *received != length {
                return Err(broken(at, *received, length));
            }
        }
        let payload = GetResultPayload::Stream(stream::iter(chunks.into_iter().map(Ok)).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    /// Bytes of each range; neighbouring ranges are read together.
    pub(super) async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let plan = Plan::of_valid(ranges)?;
        let mut requests = Vec::with_capacity(plan.fetches.len());
        for fetch in &plan.fetches {
            requests.push(self.get_range(location, fetch.clone()).boxed());
        }
        plan.read(location, ranges, requests).await
    }

    async fn get_range(&self, location: &Path, range: Range<u64>) -> StoreResult<Bytes> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        self.get(location, &options).await?.bytes().await
    }
}

/// Bytes of each range, in the requests that a steady store makes of them; `meter` goes along with each. `store` is a steady one, which
/// has no way to take a meter with several ranges.
///
/// # Errors
/// The store's; a range without bytes.
pub async fn metered_ranges(
    store: &dyn ObjectStore,
    location: &Path,
    ranges: &[Range<u64>],
    meter: &ReadMeter,
) -> StoreResult<Vec<Bytes>> {
    let plan = Plan::of_valid(ranges)?;
    let mut requests = Vec::with_capacity(plan.fetches.len());
    for fetch in &plan.fetches {
        requests.push(metered_range(store, location, fetch.clone(), meter).boxed());
    }
    plan.read(location, ranges, requests).await
}

async fn metered_range(
    store: &dyn ObjectStore,
    location: &Path,
    range: Range<u64>,
    meter: &ReadMeter,
) -> StoreResult<Bytes> {
    let options = meter.attach(GetOptions::new().with_range(Some(range)));
    store.get_opts(location, options).await?.bytes().await
}

/// Which ranges are read by which request.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    fetches: Vec<Range<u64>>,
    /// For each range the place of its fetch.
    places: Vec<usize>,
}

impl Plan {
    /// # Errors
    /// A range without bytes.
    fn of_valid(ranges: &[Range<u64>]) -> StoreResult<Self> {
        for range in ranges {
            GetRange::Bounded(range.clone()).is_valid().map_err(invalid)?;
        }
        Ok(Self::of(ranges))
    }

    fn of(ranges: &[Range<u64>]) -> Self {
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|&i| ranges[i].start);
        let mut fetches: Vec<Range<u64>> = Vec::new();
        let mut places = vec![0; ranges.len()];
        for i in order {
            let range = &ranges[i];
            match fetches.last_mut() {
                Some(last)
                    if range.end <= last.end
                        || (range.start <= last.end.saturating_add(GAP_BYTES)
                            && range.end - last.start <= MERGED_BYTES_MAX) =>
                {
                    last.end = last.end.max(range.end);
                }
                _ => fetches.push(range.clone()),
            }
            places[i] = fetches.len() - 1;
        }
        Self { fetches, places }
    }

    /// The bytes of each range, out of those of `requests`, one for each fetch.
    async fn read(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
        requests: Vec<BoxFuture<'_, StoreResult<Bytes>>>,
    ) -> StoreResult<Vec<Bytes>> {
        let fetched: Vec<Bytes> = stream::iter(requests).buffered(CONCURRENT_REQUESTS).try_collect().await?;
        ranges
            .iter()
            .zip(&self.places)
            .map(|(range, place)| self.cut(location, range, *place, &fetched))
            .collect()
    }

    /// The bytes of `range`: fewer where the object ends, as [`GetRange::Bounded`] has it.
    fn cut(
        &self,
        location: &Path,
        range: &Range<u64>,
        place: usize,
        fetched: &[Bytes],
    ) -> StoreResult<Bytes> {
        let (Some(fetch), Some(bytes)) = (self.fetches.get(place), fetched.get(place)) else {
            return Err(Error::internal(format!("no bytes for a range of {location}")).into());
        };
        let start = range.start - fetch.start;
        let end = (range.end - fetch.start).min(bytes.len() as u64);
        if start >= end {
            let message = format!("{location} ends before byte {}, which was asked for", range.start);
            return Err(Error::new(ErrorKind::InvalidInput, message).into());
        }
        Ok(bytes.slice(start as usize..end as usize))
    }
}

/// A range without bytes.
fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Generic { store: "cairn", source: Box::new(error) }
}

/// A body that is not as long as was announced.
fn broken(at: &str, received: u64, length: u64) -> StoreError {
    let message = format!("{at}: the object store sent {received} bytes or more instead of {length}");
    reason::failure(Error::new(ErrorKind::Unavailable, message).with_hint(reason::NETWORK_HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fetches of ranges, and for each range its fetch.
    fn plan(ranges: &[(u64, u64)]) -> (Vec<(u64, u64)>, Vec<usize>) {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
        let plan = Plan::of(&ranges);
        (plan.fetches.iter().map(|fetch| (fetch.start, fetch.end)).collect(), plan.places)
    }

    #[test]
    fn neighbours_are_fetched_together_but_not_too_much() {
        const GAP: u64 = GAP_BYTES;
        const MOST: u64 = MERGED_BYTES_MAX;
        assert_eq!(plan(&[]), (vec![], vec![]));
        assert_eq!(plan(&[(10, 20), (0, 5)]), (vec![(0, 20)], vec![0, 0]));
        assert_eq!(plan(&[(0, 1), (1 + GAP, 2 + GAP)]), (vec![(0, 2 + GAP)], vec![0, 0]));
        assert_eq!(plan(&[(0, 1), (2 + GAP, 3 + GAP)]), (vec![(0, 1), (2 + GAP, 3 + GAP)], vec![0, 1]));
        assert_eq!(plan(&[(0, MOST), (MOST, MOST + 1)]), (vec![(0, MOST), (MOST, MOST + 1)], vec![0, 1]));
        // One range that is too long by itself has what lies in it.
        let long = [(0, 3 * MOST), (7, 8), (MOST, 2 * MOST)];
        assert_eq!(plan(&long), (vec![(0, 3 * MOST)], vec![0, 0, 0]));
        assert_eq!(plan(&[(5, 8), (0, 10), (9, 12)]), (vec![(0, 12)], vec![0, 0, 0]));
    }
}
