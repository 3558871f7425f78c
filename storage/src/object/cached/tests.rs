#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as FilePath;
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

    fn file(&self, path: &str) -> std::path::PathBuf {
        let listed = file::list(&self.directory.path().join("cache"), &AtomicBool::new(false));
        assert!(listed.iter().any(|(found, _)| found.as_ref() == path), "{path} is not kept");
        let mut files = files(self.directory.path());
        files.retain(|name, _| fs::read(name).unwrap()[24..].starts_with(path.as_bytes()));
        files.into_keys().next().unwrap()
    }
}

/// All files below a directory with their lengths.
fn files(directory: &FilePath) -> BTreeMap<std::path::PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        match entry.metadata().unwrap() {
            meta if meta.is_dir() => found.extend(files(&entry.path())),
            meta => {
                found.insert(entry.path(), meta.len());
            }
        }
    }
    found
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
async fn another_process_finds_what_is_there() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 150_000).await;
    fixture.range("table/1/a", 140_000..150_000).await;
    fixture.object("table/1/b", 100).await;
    fixture.whole("table/1/b").await;
    let fixture = fixture.reopened(PLENTY).await;
    assert_eq!(fixture.range("table/1/a", 131_072..150_000).await, content[131_072..]);
    fixture.whole("table/1/b").await;
    assert_eq!(fixture.inner.count(), 0);
    fixture.store.cache.scan();
    assert!(fixture.store.figures().bytes >= 18_928 + 100);
    assert_eq!(fixture.whole("table/1/a").await, content);
    assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(0..2 * BLOCK)));
    // Two at the same time write the same.
    let path = fixture.directory.path().join("cache");
    let other = CachedStore::new(fixture.inner.clone(), path, PLENTY).unwrap();
    fixture.store.settled().await;
    let read = other.get(&Path::from("table/1/a")).await.unwrap().bytes().await.unwrap();
    assert_eq!((read, fixture.inner.count()), (content.clone(), 0));
    // One removes what the other has.
    other.cache.forget(&Path::from("table/1/a"));
    assert_eq!(fixture.whole("table/1/a").await, content);
    assert_eq!(fixture.inner.count(), 1);
}

#[tokio::test]
async fn damaged_blocks_are_fetched_again() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 300_000).await;
    fixture.whole("table/1/a").await;
    fixture.store.settled().await;
    assert_eq!(fixture.inner.count(), 1);
    let slot = (BLOCK_BYTES + file::TRAILER_BYTES) as u64;
    let flips = [4096 + slot + 17, 4096 + 2 * slot - 3, 4096 + 4 * slot + 300_000 - 4 * BLOCK + 1];
    for (at, block) in flips.into_iter().zip([1, 1, 4]) {
        let name = fixture.file("table/1/a");
        let mut bytes = fs::read(&name).unwrap();
        bytes[at as usize] ^= 1;
        fs::write(&name, &bytes).unwrap();
        assert_eq!(fixture.whole("table/1/a").await, content);
        let end = ((block + 1) * BLOCK).min(300_000);
        assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(block * BLOCK..end)), "byte {at}");
        fixture.store.settled().await;
        assert_eq!(fixture.whole("table/1/a").await, content);
        assert_eq!(fixture.inner.count(), 0, "byte {at}");
    }
    // Cut short, as by a crash.
    let name = fixture.file("table/1/a");
    let bytes = fs::read(&name).unwrap();
    fs::write(&name, &bytes[..bytes.len() / 2]).unwrap();
    let fixture = fixture.reopened(PLENTY).await;
    assert_eq!(fixture.whole("table/1/a").await, content);
    assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(2 * BLOCK..300_000)));
}

#[tokio::test]
async fn blocks_of_others_are_noticed() {
    let fixture = Fixture::new(PLENTY);
    let (a, b) = (fixture.object("table/1/a", 140_000).await, fixture.object("table/1/b", 140_001).await);
    let c = Bytes::from(vec![1; 140_000]);
    fixture.memory.put(&Path::from("table/1/c"), c.clone().into()).await.unwrap();
    for path in ["table/1/a", "table/1/b", "table/1/c"] {
        fixture.whole(path).await;
    }
    fixture.store.settled().await;
    let [name_a, name_b, name_c] = ["table/1/a", "table/1/b", "table/1/c"].map(|path| fixture.file(path));
    let (in_a, in_c) = (fs::read(&name_a).unwrap(), fs::read(&name_c).unwrap());
    // The whole file of another object, and blocks of one under the header of another.
    fs::copy(&name_a, &name_b).unwrap();
    fs::write(&name_a, [&in_a[..4096], &in_c[4096..]].concat()).unwrap();
    // Two blocks of one object in each other's place.
    let slot = BLOCK_BYTES + file::TRAILER_BYTES;
    let (first, rest) = in_c[4096..].split_at(slot);
    let (second, rest) = rest.split_at(slot);
    fs::write(&name_c, [&in_c[..4096], second, first, rest].concat()).unwrap();
    let fixture = fixture.reopened(PLENTY).await;
    for (path, content) in [("table/1/a", a), ("table/1/b", b), ("table/1/c", c)] {
        assert_eq!(fixture.whole(path).await, content);
        assert_eq!(fixture.inner.count(), 1, "{path}");
    }
}

#[tokio::test]
async fn an_object_of_another_length_is_another_one() {
    let fixture = Fixture::new(PLENTY);
    fixture.object("table/1/a", 200_000).await;
    fixture.range("table/1/a", 0..10).await;
    fixture.store.settled().await;
    let longer = fixture.object("table/1/a", 210_000).await;
    assert_eq!(fixture.range("table/1/a", 100_000..100_010).await, longer[100_000..100_010]);
    assert_eq!(fixture.whole("table/1/a").await, longer);
    // Put through the store, it is known to be another one.
    let path = Path::from("table/1/a");
    fixture.store.settled().await;
    fixture.store.put(&path, vec![7; 210_000].into()).await.unwrap();
    assert_eq!(fixture.whole("table/1/a").await, vec![7; 210_000]);
}

#[tokio::test]
async fn the_limit_is_kept() {
    let limit = 10 * (BLOCK + 8);
    let fixture = Fixture::new(limit);
    let mut contents = Vec::new();
    for i in 0..12 {
        contents.push(fixture.object(&format!("table/1/{i}"), 2 * BLOCK).await);
    }
    for (i, content) in contents.iter().enumerate() {
        assert_eq!(fixture.whole(&format!("table/1/{i}")).await, *content);
        fixture.store.settled().await;
        assert_eq!(fixture.whole("table/1/0").await, contents[0], "the one that is used stays");
        fixture.store.settled().await;
        assert!(fixture.store.figures().bytes <= limit);
    }
    assert_eq!(fixture.inner.count(), 12);
    let kept: u64 = files(fixture.directory.path()).values().sum();
    assert!(kept <= limit + 5 * 4096, "{kept}");
    assert_eq!(fixture.store.figures().bytes, limit);
    // Too large for the cache.
    let large = fixture.object("table/2/large", 20 * BLOCK).await;
    for _ in 0..2 {
        assert_eq!(fixture.whole("table/2/large").await, large);
        fixture.store.settled().await;
        assert_eq!(fixture.inner.count(), 1);
    }
    assert_eq!(fixture.whole("table/1/0").await, contents[0]);
    assert_eq!(fixture.inner.count(), 0);
    // Smaller at the next opening.
    let fixture = fixture.reopened(limit / 2).await;
    fixture.store.cache.scan();
    assert!(fixture.store.figures().bytes <= limit / 2);
    assert!(fixture.store.figures().bytes > 0);
    let fixture = fixture.reopened(0).await;
    fixture.store.cache.scan();
    assert!(files(fixture.directory.path()).is_empty());
    assert_eq!(fixture.whole("table/1/3").await, contents[3]);
    fixture.store.settled().await;
    assert!(files(fixture.directory.path()).is_empty());
    assert_eq!(fixture.store.figures().failures, 0);
}

#[tokio::test]
async fn a_block_is_fetched_once_for_all() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 5 * BLOCK).await;
    fixture.inner.hold();
    let read = |range: Range<u64>| {
        let store = Arc::clone(&fixture.store);
        tokio::spawn(async move { store.get_range(&Path::from("table/1/a"), range).await })
    };
    let waiting = async || {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    let first = read(0..2 * BLOCK);
    waiting().await;
    let others = [read(10..20), read(BLOCK..3 * BLOCK), read(0..2 * BLOCK)];
    waiting().await;
    assert_eq!(fixture.inner.ranges(), [0..2 * BLOCK, 2 * BLOCK..3 * BLOCK]);
    // Whoever asked first gives up; the others go on with its request.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fixture.inner.release(2);
    for (read, range) in others.into_iter().zip([10..20, BLOCK..3 * BLOCK, 0..2 * BLOCK]) {
        assert_eq!(read.await.unwrap().unwrap(), content[range.start as usize..range.end as usize]);
    }
    assert_eq!(fixture.inner.count(), 0);
    // When all give up, so does the request; the next reader begins another.
    let gone = read(4 * BLOCK..5 * BLOCK);
    waiting().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let next = read(4 * BLOCK..5 * BLOCK);
    waiting().await;
    assert_eq!(fixture.inner.count(), 2);
    fixture.inner.release(1);
    assert_eq!(next.await.unwrap().unwrap(), content[4 * BLOCK_BYTES..]);
}

#[tokio::test]
async fn whole_objects_are_fetched_once_for_all() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 100_000).await;
    fixture.inner.hold();
    let path = Path::from("table/1/a");
    let whole = async || fixture.store.get(&path).await.unwrap().bytes().await.unwrap();
    let range = fixture.store.get_range(&path, 5..10);
    let release = async {
        tokio::task::yield_now().await;
        fixture.inner.release(1);
    };
    let (first, second, range, ()) = tokio::join!(whole(), whole(), range, release);
    assert_eq!((&first, &second, range.unwrap()), (&content, &content, content.slice(5..10)));
    assert_eq!(fixture.inner.count(), 1);
}

#[tokio::test]
async fn errors_reach_all_who_wait() {
    let fixture = Fixture::new(PLENTY);
    let path = Path::from("table/1/none");
    fixture.inner.hold();
    let read = async |path: &Path| fixture.store.get_range(path, 0..10).await.unwrap_err();
    let release = async {
        tokio::task::yield_now().await;
        fixture.inner.release(1);
    };
    let (first, second, ()) = tokio::join!(read(&path), read(&path), release);
    for error in [first, second] {
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        assert_eq!(Error::from(error).kind(), ErrorKind::NotFound);
    }
    assert_eq!(fixture.inner.count(), 1);
    // An error is told, not kept.
    fixture.inner.release(10);
    let content = fixture.object("table/1/a", 100).await;
    fixture.inner.fail(true);
    assert!(fixture.store.get(&Path::from("table/1/a")).await.is_err());
    assert!(fixture.store.get_range(&Path::from("table/1/a"), 0..1).await.is_err());
    fixture.inner.fail(false);
    assert_eq!(fixture.whole("table/1/a").await, content);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_costs_only_requests() {
    let memory = Arc::new(InMemory::new());
    let directory = tempfile::tempdir().unwrap();
    // Where a file stands no directory can be made, whoever asks.
    fs::write(directory.path().join("cache"), b"a file").unwrap();
    let fixture = Fixture::over(memory, directory, PLENTY);
    let content = fixture.object("table/1/a", 100_000).await;
    for _ in 0..3 {
        assert_eq!(fixture.range("table/1/a", 5..10).await, content[5..10]);
        fixture.store.settled().await;
        assert_eq!(fixture.inner.count(), 1);
        assert_eq!(fixture.whole("table/1/a").await, content);
        fixture.store.settled().await;
        assert_eq!(fixture.inner.count(), 1);
    }
    assert_eq!(fixture.store.figures().failures, 1);
    fixture.object("table/1/b", 100).await;
    fixture.range("table/1/b", 5..10).await;
    // Nothing is kept, so nothing is rounded to blocks.
    assert_eq!(fixture.inner.ranges(), std::slice::from_ref(&(5..10)));
    let error = CachedStore::new(fixture.inner.clone(), PathBuf::new(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
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
async fn deleted_objects_are_forgotten() {
    let fixture = Fixture::new(PLENTY);
    fixture.object("table/1/a", 100).await;
    fixture.object("table/1/b", 100).await;
    fixture.whole("table/1/a").await;
    fixture.whole("table/1/b").await;
    fixture.store.settled().await;
    let path = Path::from("table/1/a");
    fixture.store.delete(&path).await.unwrap();
    assert!(matches!(fixture.store.get(&path).await.unwrap_err(), StoreError::NotFound { .. }));
    assert!(matches!(fixture.store.get_range(&path, 0..1).await.unwrap_err(), StoreError::NotFound { .. }));
    assert_eq!(files(fixture.directory.path()).len(), 1);
    assert_eq!(fixture.store.figures().bytes, 108);
    // Also what only an earlier process knew.
    let fixture = fixture.reopened(PLENTY).await;
    fixture.store.delete(&Path::from("table/1/b")).await.unwrap();
    assert_eq!(files(fixture.directory.path()).len(), 0);
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

#[tokio::test]
async fn random_reads_give_what_the_store_has() {
    let mut random = StdRng::seed_from_u64(7);
    let mut fixture = Fixture::new(12 * BLOCK);
    let mut contents = Vec::new();
    for i in 0..6_u64 {
        contents.push(fixture.object(&format!("table/1/{i}"), (i + 1) * 50_000 + i * 7_777).await);
    }
    for step in 0..600 {
        let i = random.random_range(0..contents.len());
        let (path, content) = (Path::from(format!("table/1/{i}")), &contents[i]);
        let bytes = content.len() as u64;
        let mut range = || {
            let start = random.random_range(0..bytes);
            let longest = if random.random_bool(0.5) { 1000 } else { bytes };
            start..start + random.random_range(1..=longest)
        };
        let ranges = [range(), range(), range()];
        let cut = |range: &Range<u64>| content.slice(range.start as usize..range.end.min(bytes) as usize);
        match step % 50 {
            0 => fixture = fixture.reopened(12 * BLOCK).await,
            10 => assert_eq!(fixture.whole(path.as_ref()).await, *content, "step {step}"),
            20 => {
                // Somebody else's doing.
                fixture.store.settled().await;
                let kept = files(fixture.directory.path());
                if let Some((name, length)) = kept.into_iter().nth(random.random_range(0..3)) {
                    let mut bytes = fs::read(&name).unwrap();
                    bytes[random.random_range(0..length as usize)] ^= 1;
                    fs::write(&name, bytes).unwrap();
                }
            }
            30 => fixture.store.cache.forget(&path),
            _ if step % 2 == 0 => {
                let read = fixture.store.get_ranges(&path, &ranges).await.unwrap();
                for (range, read) in ranges.iter().zip(read) {
                    assert_eq!(read, cut(range), "step {step}");
                }
            }
            _ => {
                let reads = ranges.iter().map(|range| fixture.store.get_range(&path, range.clone()));
                let reads = futures::future::join_all(reads).await;
                for (range, read) in ranges.iter().zip(reads) {
                    assert_eq!(read.unwrap(), cut(range), "step {step}");
                }
            }
        }
    }
    fixture.store.settled().await;
    fixture.store.cache.scan();
    assert!(fixture.store.figures().bytes <= 12 * BLOCK);
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
