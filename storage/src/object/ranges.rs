//! Reading objects and ranges of them, counted for a query where somebody asks for that.
//!
//! Owns: how ranges become requests. Without a meter that is the store's own affair: a directory reads ranges fastest as they are.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, Result, coalesce_ranges};

use super::ReadMeter;
use crate::error::Error;

/// Ranges nearer to each other than this are read in one request: fetching the bytes between takes less time than another request.
const GAP_BYTES: u64 = 256 * 1024;

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
        Some(meter) => coalesce_ranges(ranges, |range| metered(store, path, range, meter), GAP_BYTES).await,
    }
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

async fn metered(
    store: &dyn ObjectStore,
    path: &Path,
    range: Range<u64>,
    meter: &ReadMeter,
) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let options = meter.attach(GetOptions::new().with_range(Some(range.clone())));
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
