#![allow(clippy::unwrap_used)]

mod kept;
mod together;

use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::*;
use crate::object::ReadMeter;
use crate::object::counting::{CountingStore, Read};

/// A cache over a store that counts.
struct Fixture {
    directory: TempDir,
    memory: Arc<InMemory>,
    inner: Arc<CountingStore>,
    store: Arc<CachedStore>,
}

impl Fixture {
    fn new(limit_bytes: u64) -> Self {
        Self::over(Arc::new(InMemory::new()), tempfile::tempdir().unwrap(), limit_bytes)
    }

    fn over(memory: Arc<InMemory>, directory: TempDir, limit_bytes: u64) -> Self {
        let inner = Arc::new(CountingStore::new(memory.clone()));
        let path = directory.path().join("cache");
        let store = Arc::new(CachedStore::new(inner.clone(), path, limit_bytes).unwrap());
        Self { directory, memory, inner, store }
    }

    /// The same directory, as another process finds it.
    async fn reopened(self, limit_bytes: u64) -> Self {
        self.store.settled().await;
        Self::over(self.memory, self.directory, limit_bytes)
    }

    /// An object of random bytes.
    async fn object(&self, path: &str, bytes: u64) -> Bytes {
        let mut random = StdRng::seed_from_u64(bytes);
        let content: Bytes = (0..bytes).map(|_| random.random::<u8>()).collect();
        self.memory.put(&Path::from(path), content.clone().into()).await.unwrap();
        content
    }

    async fn range(&self, path: &str, range: Range<u64>) -> Bytes {
        self.store.get_range(&Path::from(path), range).await.unwrap()
    }

    async fn whole(&self, path: &str) -> Bytes {
        self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap()
    }
}

const PLENTY: u64 = 1 << 30;

#[tokio::test]
async fn what_was_read_is_not_asked_for_again() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a.parquet", 200_000).await;
    let check = async |range: Range<u64>, requests: &[Range<u64>]| {
        let read = fixture.range("table/1/a.parquet", range.clone()).await;
        assert_eq!(read, content[range.start as usize..(range.end as usize).min(content.len())], "{range:?}");
        assert_eq!(fixture.inner.ranges(), requests, "{range:?}");
        fixture.store.settled().await;
    };
    check(10..100, std::slice::from_ref(&(0..BLOCK))).await;
    check(0..BLOCK, &[]).await;
    check(65_535..140_000, std::slice::from_ref(&(BLOCK..3 * BLOCK))).await;
    check(10..3 * BLOCK, &[]).await;
    // The last block is short, and ranges may end behind it.
    check(190_000..200_000, std::slice::from_ref(&(3 * BLOCK..200_000))).await;
    check(3 * BLOCK..200_000, &[]).await;
    check(0..300_000, &[]).await;
    check(199_999..500_000, &[]).await;
    assert_eq!(fixture.whole("table/1/a.parquet").await, content);
    let path = Path::from("table/1/a.parquet");
    let suffix = GetOptions::new().with_range(Some(GetRange::Suffix(5)));
    let suffix = fixture.store.get_opts(&path, suffix).await.unwrap();
    assert_eq!((suffix.meta.size, suffix.range.clone()), (200_000, 199_995..200_000));
    assert_eq!(suffix.bytes().await.unwrap(), content[199_995..]);
    let ranges = [0..5, 100_000..100_001, 131_000..132_000, 0..7];
    let read = fixture.store.get_ranges(&path, &ranges).await.unwrap();
    for (range, read) in ranges.iter().zip(read) {
        assert_eq!(read, content[range.start as usize..range.end as usize]);
    }
    assert!(fixture.store.get_range(&path, 200_000..200_001).await.is_err());
    let backwards = Range { start: 5, end: 3 };
    assert!(fixture.store.get_ranges(&path, &[backwards]).await.is_err());
    assert_eq!(fixture.inner.count(), 0);
    let figures = fixture.store.figures();
    assert_eq!((figures.misses, figures.limit_bytes, figures.failures), (4, PLENTY, 0));
    assert_eq!(figures.bytes, 200_000 + 4 * 8);
    assert!(figures.hits > 10);
}

#[tokio::test]
async fn near_blocks_are_fetched_together() {
    let fixture = Fixture::new(PLENTY);
    fixture.object("table/1/a", 20 * BLOCK).await;
    let path = Path::from("table/1/a");
    // Two blocks nobody asked for are read over, three are not.
    let at = |block: u64| block * BLOCK + 5..block * BLOCK + 6;
    fixture.store.get_ranges(&path, &[at(0), at(3), at(7)]).await.unwrap();
    assert_eq!(fixture.inner.ranges(), [0..4 * BLOCK, 7 * BLOCK..8 * BLOCK]);
    fixture.store.settled().await;
    // Those that were read over are there now, and a single one is read over again.
    fixture.range("table/1/a", 6 * BLOCK..9 * BLOCK).await;
    assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(6 * BLOCK..9 * BLOCK)));
    fixture.store.settled().await;
    fixture.range("table/1/a", 0..20 * BLOCK).await;
    assert_eq!(fixture.inner.ranges(), [4 * BLOCK..6 * BLOCK, 9 * BLOCK..20 * BLOCK]);
}

#[tokio::test]
async fn a_look_tells_what_needs_no_request() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 300_000).await;
    let path = Path::from("table/1/a");
    let has = |fixture: &Fixture, ranges: &[Range<u64>]| {
        let has = fixture.store.has(&path, ranges);
        assert_eq!(fixture.inner.count(), 0, "a look sends nothing");
        has
    };
    let there = [10..BLOCK, 2 * BLOCK..3 * BLOCK];
    let partly = [0..10, 2 * BLOCK - 1..3 * BLOCK];
    assert!(!has(&fixture, &there), "nothing is known of it");
    fixture.range("table/1/a", 0..10).await;
    fixture.range("table/1/a", 2 * BLOCK + 5..3 * BLOCK).await;
    assert_eq!(fixture.inner.count(), 2);
    // While they wait to be written, and then.
    for _ in 0..2 {
        assert!(has(&fixture, &there) && !has(&fixture, &partly));
        fixture.store.settled().await;
    }
    // The next process looks into the file, the first time.
    let fixture = fixture.reopened(PLENTY).await;
    for _ in 0..2 {
        assert!(has(&fixture, &there) && has(&fixture, &[]) && !has(&fixture, &partly));
    }
    assert_eq!(fixture.range("table/1/a", 0..BLOCK).await, content[..BLOCK_BYTES]);
    assert_eq!(fixture.inner.count(), 0);
    assert_eq!(fixture.whole("table/1/a").await, content);
    assert!(fixture.inner.count() > 0);
    assert!(has(&fixture, &partly) && has(&fixture, &[0..1, 100_000..400_000]));
    fixture.store.settled().await;
    fixture.store.delete(&path).await.unwrap();
    assert!(!has(&fixture, &there));
    // What is not kept is never there.
    let fixture = fixture.reopened(0).await;
    for path in ["table/1/b", "wal/1"] {
        fixture.object(path, 200_000).await;
        fixture.whole(path).await;
        assert!(!fixture.store.has(&Path::from(path), &there), "{path}");
    }
}

#[tokio::test]
async fn whole_objects_are_one_request() {
    let fixture = Fixture::new(PLENTY);
    for (path, bytes) in
        [("table/1/a", 150_000), ("table/1/b", 7), ("table/1/c", 4 * BLOCK), ("table/1/d", 0)]
    {
        let content = fixture.object(path, bytes).await;
        assert_eq!(fixture.whole(path).await, content);
        assert_eq!(fixture.inner.reads(), [Read { path: path.to_owned(), range: None, head: false }]);
        fixture.store.settled().await;
        assert_eq!(fixture.whole(path).await, content);
        assert_eq!(fixture.inner.count(), 0);
    }
}

#[tokio::test]
async fn a_long_range_ends_with_its_object() {
    let fixture = Fixture::new(PLENTY);
    for (path, end) in [("table/1/a", u64::MAX), ("table/1/b", 100 << 20), ("table/1/c", 300_000)] {
        let content = fixture.object(path, 150_000).await;
        assert_eq!(fixture.range(path, 10..end).await, content[10..]);
        assert!(fixture.inner.count() <= 2);
        fixture.store.settled().await;
        assert_eq!(fixture.range(path, 10..end).await, content[10..]);
        assert_eq!(fixture.inner.count(), 0);
    }
    let beyond = GetOptions::new().with_range(Some(200_000..u64::MAX));
    fixture.object("table/1/d", 150_000).await;
    assert!(fixture.store.get_opts(&Path::from("table/1/d"), beyond).await.is_err());
}

#[tokio::test]
async fn everything_else_passes_through() {
    let fixture = Fixture::new(PLENTY);
    for path in ["manifest/00000000000000000001", "wal/00000000000000000001", "CAIRN", "tables/x"] {
        let content = fixture.object(path, 100).await;
        for _ in 0..2 {
            assert_eq!(fixture.range(path, 5..10).await, content[5..10]);
            assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(5..10)));
        }
    }
    let content = fixture.object("table/1/a", 100).await;
    fixture.whole("table/1/a").await;
    fixture.store.settled().await;
    fixture.inner.count();
    let path = Path::from("table/1/a");
    let found = fixture.store.head(&path).await.unwrap();
    assert_eq!(found.size, 100);
    assert!(fixture.inner.reads()[0].head);
    let same = GetOptions::new().with_if_match(found.e_tag.clone());
    assert_eq!(fixture.store.get_opts(&path, same).await.unwrap().bytes().await.unwrap(), content);
    let other = GetOptions::new().with_if_match(Some("another"));
    assert!(fixture.store.get_opts(&path, other).await.is_err());
    let past = past_cache(fixture.store.clone());
    assert_eq!(past.get(&path).await.unwrap().bytes().await.unwrap(), content);
    assert_eq!(past.get_ranges(&path, &[0..1, 50..60]).await.unwrap()[1], content[50..60]);
    assert_eq!(fixture.inner.count(), 4);
    let listed: Vec<ObjectMeta> = fixture.store.list(Some(&Path::from("table"))).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_meter_tells_the_cache_from_the_store() {
    let fixture = Fixture::new(PLENTY);
    fixture.object("table/1/a", 3 * BLOCK).await;
    let path = Path::from("table/1/a");
    let meter = ReadMeter::default();
    let read = async |range: Range<u64>| {
        let options = meter.attach(GetOptions::new().with_range(Some(range)));
        fixture.store.get_opts(&path, options).await.unwrap().bytes().await.unwrap();
        fixture.store.settled().await;
        let figures = meter.figures();
        (figures.requests, figures.bytes, figures.cached_reads, figures.cached_bytes)
    };
    assert_eq!(read(5..10).await, (1, BLOCK, 0, 0));
    assert_eq!(read(0..100).await, (1, BLOCK, 1, 100));
    assert_eq!(read(BLOCK - 10..BLOCK + 10).await, (2, 2 * BLOCK, 2, 110));
    assert_eq!(read(2 * BLOCK..3 * BLOCK).await, (3, 3 * BLOCK, 2, 110));
    assert_eq!(meter.figures().waited, Duration::ZERO);
}

#[test]
fn without_a_runtime_it_works_too() {
    let memory = Arc::new(InMemory::new());
    let directory = tempfile::tempdir().unwrap();
    let fixture = Fixture::over(memory, directory, PLENTY);
    futures::executor::block_on(async {
        let content = fixture.object("table/1/a", 100_000).await;
        for requests in [1, 0] {
            assert_eq!(fixture.whole("table/1/a").await, content);
            assert_eq!(fixture.inner.count(), requests);
        }
    });
}

#[test]
fn the_default_directory_follows_the_environment() {
    let directory = |set: &[(&str, &str)]| {
        directory_from(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    };
    let home = ("HOME", "/home/ada");
    assert_eq!(directory(&[]), None);
    assert_eq!(directory(&[home]), Some("/home/ada/.cache/cairn".into()));
    assert_eq!(directory(&[home, ("XDG_CACHE_HOME", "/var/c")]), Some("/var/c/cairn".into()));
    assert_eq!(directory(&[home, ("XDG_CACHE_HOME", "c")]), Some("/home/ada/.cache/cairn".into()));
    assert_eq!(directory(&[home, ("XDG_CACHE_HOME", "")]), Some("/home/ada/.cache/cairn".into()));
    assert_eq!(directory(&[home, ("CAIRN_CACHE_DIR", "here")]), Some("here".into()));
}

#[test]
fn copies_of_a_database_have_folders_of_their_own() {
    let id = DatabaseId(uuid::Uuid::from_u128(7));
    let folder = |url: &str, address: &str| folder_of(id, &StoreUrl::parse(url).unwrap(), address);
    let names = [
        folder("s3://data/a", ""),
        folder("s3://data/b", ""),
        folder("gs://data/a", ""),
        folder("s3://copy/a", ""),
        folder("s3://data/a", "http://localhost:9000"),
    ];
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
    assert_eq!(names[0], folder("s3a://data/a/", ""), "the next process finds it");
    let is_name = |c: char| c.is_ascii_hexdigit() || c == '-';
    assert!(
        names.iter().all(|name| name.starts_with(&id.to_string()) && name.chars().all(is_name)),
        "{names:?}"
    );
}
