//! Reading objects and ranges of them, counted for a query where somebody asks for that.
//!
//! Owns: how ranges become requests. Without a meter that is the store's own affair: a directory reads ranges fastest as they are.
//! Scans of a distant store ask for few large ranges instead ([`read_apart`]): what a request costs in time and money, they pay rarely.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, Result};

use super::ReadMeter;
use crate::error::Error;

/// Ranges nearer to each other than this are read in one request: fetching the bytes between takes less time than another request.
const GAP_BYTES: u64 = 256 * 1024;

/// The same for the column chunks of a scan. At 100 MB/s they are 20 ms, what it takes until a store's first byte: what scans wait for
/// is fetched ahead, so that fewer requests are worth more than the soonest byte.
const SCAN_GAP_BYTES: u64 = 2 << 20;
/// A request is not made longer than this by merging, and a range that is longer is fetched in parts at the same time.
const REQUEST_BYTES_MAX: u64 = 16 << 20;
/// Requests of one read that are under way at the same time: what is one more waits for another's first byte, and then for its own. A
/// row of a table with a few dozen columns is no more.
const REQUESTS_AT_ONCE: usize = 32;

/// Bytes of each of the ranges, none of which is empty; `meter` goes along with every request.
///
/// # Errors
/// The store's; `Corrupt` inside `Generic` when the object is shorter than a range that is counted.
pub(crate) async fn read_ranges(
    store: &dyn ObjectStore,
    path: &Path,
    ranges: &[Range<u64>],
    meter: Option<&ReadMeter>,
) -> Result<Vec<Bytes>> {
    match meter {
        None => store.get_ranges(path, ranges).await,
        Some(meter) => read_merged(store, path, ranges, merged(ranges, GAP_BYTES), Some(meter)).await,
    }
}

/// Bytes of each of the ranges, none of which is empty, for a scan of a distant store: in as few requests as [`requests`] makes of them.
///
/// # Errors
/// As [`read_ranges`], counted or not.
pub(crate) async fn read_apart(
    store: &dyn ObjectStore,
    path: &Path,
    ranges: &[Range<u64>],
    meter: Option<&ReadMeter>,
) -> Result<Vec<Bytes>> {
    read_merged(store, path, ranges, requests(ranges), meter).await
}

/// Bytes of each of the ranges out of those of the requests `parts`, which ascend and cover them.
async fn read_merged(
    store: &dyn ObjectStore,
    path: &Path,
    ranges: &[Range<u64>],
    parts: Vec<Range<u64>>,
    meter: Option<&ReadMeter>,
) -> Result<Vec<Bytes>> {
    let mut asked = Vec::with_capacity(parts.len());
    for part in &parts {
        asked.push(Box::pin(request(store, path, part.clone(), meter)));
    }
    let read: Vec<Bytes> = stream::iter(asked).buffered(REQUESTS_AT_ONCE).try_collect().await?;
    ranges.iter().map(|range| cut(path, range, &parts, &read)).collect()
}

/// The requests of [`read_apart`], ascending and apart.
pub(crate) fn requests(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    merged(ranges, SCAN_GAP_BYTES)
}

/// The ranges, those no further than `gap` apart as one, ascending and apart.
fn merged(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<&Range<u64>> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last)
                if range.start < last.end
                    || (range.start - last.end <= gap && range.end - last.start <= REQUEST_BYTES_MAX) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range.clone()),
        }
    }
    merged.into_iter().flat_map(parts).collect()
}

/// A range in parts of about the same length, none too long for one request.
fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let length = range.end - range.start;
    let count = length.div_ceil(REQUEST_BYTES_MAX).max(1);
    let step = length.div_ceil(count);
    (0..count).map(move |n| {
        let start = range.start + n * step;
        start..range.end.min(start + step)
    })
}

/// The bytes of `range` out of those of `parts`, which cover it.
fn cut(path: &Path, range: &Range<u64>, parts: &[Range<u64>], read: &[Bytes]) -> Result<Bytes> {
    let first = parts.partition_point(|part| part.end <= range.start);
    let mut pieces = parts.iter().zip(read).skip(first).take_while(|(part, _)| part.start < range.end).map(
        |(part, bytes)| {
            let start = range.start.max(part.start) - part.start;
            bytes.slice(start as usize..(range.end.min(part.end) - part.start) as usize)
        },
    );
    let length = (range.end - range.start) as usize;
    let whole = match (pieces.next(), pieces.next()) {
        (Some(one), None) => one,
        (Some(one), Some(next)) => {
            let mut joined = BytesMut::with_capacity(length);
            [one, next].into_iter().chain(pieces).for_each(|piece| joined.extend_from_slice(&piece));
            joined.freeze()
        }
        (None, _) => Bytes::new(),
    };
    if whole.len() != length {
        return Err(Error::internal(format!("requests do not cover a range of {path}")).into());
    }
    Ok(whole)
}

/// All bytes of an object; `meter` goes along with the request.
///
/// # Errors
/// The store's.
pub(crate) async fn read_object(
    store: &dyn ObjectStore,
    path: &Path,
    meter: Option<&ReadMeter>,
) -> Result<Bytes> {
    let options = meter.map_or_else(GetOptions::new, |meter| meter.attach(GetOptions::new()));
    store.get_opts(path, options).await?.bytes().await
}

async fn request(
    store: &dyn ObjectStore,
    path: &Path,
    range: Range<u64>,
    meter: Option<&ReadMeter>,
) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let options = GetOptions::new().with_range(Some(range.clone()));
    let options = match meter {
        Some(meter) => meter.attach(options),
        None => options,
    };
    let bytes = store.get_opts(path, options).await?.bytes().await?;
    // The ranges that were merged are cut out of it by offsets that have to be there.
    if bytes.len() as u64 != wanted {
        let why = format!("{} bytes at offset {} instead of {wanted}", bytes.len(), range.start);
        return Err(Error::corrupt(path, why).into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::object::counting::CountingStore;

    #[tokio::test]
    async fn a_meter_counts_what_the_ranges_cost() {
        let store = CountingStore::new(Arc::new(InMemory::new()));
        let path = Path::from("table/1/a");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let ranges = [5..10, 200_000..200_100, 900_000..1_000_000];
        let meter = ReadMeter::default();
        for meter in [None, Some(&meter)] {
            let read = read_ranges(&store, &path, &ranges, meter).await.unwrap();
            for (range, read) in ranges.iter().zip(read) {
                assert_eq!(read, bytes[range.start as usize..range.end as usize]);
            }
        }
        let figures = meter.figures();
        assert_eq!((figures.requests, figures.bytes), (2, 200_095 + 100_000));
    }

    #[test]
    fn scans_make_few_requests_that_are_not_too_long() {
        const GAP: u64 = SCAN_GAP_BYTES;
        const MOST: u64 = REQUEST_BYTES_MAX;
        let of = |ranges: &[(u64, u64)]| {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            requests(&ranges).into_iter().map(|request| (request.start, request.end)).collect::<Vec<_>>()
        };
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[(9, 10), (0, 5), (5, 6)]), [(0, 10)]);
        assert_eq!(of(&[(0, 1), (1 + GAP, 2 + GAP)]), [(0, 2 + GAP)]);
        assert_eq!(of(&[(0, 1), (2 + GAP, 3 + GAP)]), [(0, 1), (2 + GAP, 3 + GAP)]);
        assert_eq!(of(&[(0, MOST)]), [(0, MOST)]);
        assert_eq!(of(&[(0, MOST), (MOST, MOST + 1)]), [(0, MOST), (MOST, MOST + 1)]);
        assert_eq!(of(&[(7, 7 + 2 * MOST)]), [(7, 7 + MOST), (7 + MOST, 7 + 2 * MOST)]);
        let odd = of(&[(0, 2 * MOST + 1)]);
        assert_eq!((odd.len(), odd[0].0, odd[2].1), (3, 0, 2 * MOST + 1));
        assert!(odd.windows(2).all(|pair| pair[0].1 == pair[1].0), "{odd:?}");
    }

    #[tokio::test]
    async fn all_requests_for_a_row_are_under_way_at_once() {
        let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
        let path = Path::from("table/1/a");
        store.put(&path, vec![7; 8 << 20].into()).await.unwrap();
        let ranges: Vec<Range<u64>> = (0..20).map(|n| n * 400_000..n * 400_000 + 10).collect();
        store.hold();
        let (reader, at, asked) = (Arc::clone(&store), path.clone(), ranges.clone());
        let read =
            tokio::spawn(
                async move { read_ranges(&*reader, &at, &asked, Some(&ReadMeter::default())).await },
            );
        tokio::task::yield_now().await;
        assert_eq!(store.ranges(), ranges);
        store.release(20);
        assert_eq!(read.await.unwrap().unwrap(), vec![Bytes::from_static(&[7; 10]); 20]);
    }

    #[tokio::test]
    async fn scans_get_the_bytes_of_their_ranges() {
        let store = CountingStore::new(Arc::new(InMemory::new()));
        let path = Path::from("table/1/a");
        let length = 2 * REQUEST_BYTES_MAX + (3 << 20);
        let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let long = (1 << 20)..(1 << 20) + REQUEST_BYTES_MAX + 9;
        let ranges = [length - 3..length, 5..10, 300_000..300_100, long];
        let meter = ReadMeter::default();
        for meter in [None, Some(&meter)] {
            let read = read_apart(&store, &path, &ranges, meter).await.unwrap();
            for (range, read) in ranges.iter().zip(read) {
                assert!(read == bytes[range.start as usize..range.end as usize], "{range:?}");
            }
            // The first two together, the long one in two parts, the last.
            assert_eq!(store.count(), 4);
        }
        assert_eq!(meter.figures().requests, 4);
    }

    #[tokio::test]
    async fn an_object_that_is_too_short_is_an_error() {
        let store = CountingStore::new(Arc::new(InMemory::new()));
        let path = Path::from("table/1/a");
        store.put(&path, vec![1; 1000].into()).await.unwrap();
        let error = read_ranges(&store, &path, &[0..10, 2000..2010], Some(&ReadMeter::default())).await;
        let error = Error::from(error.unwrap_err());
        assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt);
        assert!(error.message().contains("1000 bytes at offset 0 instead of 2010"), "{error}");
    }
}
