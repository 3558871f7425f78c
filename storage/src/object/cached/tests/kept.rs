//! What stands on disk: who finds it, what is damaged, what has to go.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as FilePath;

use super::*;

impl Fixture {
    /// Where an object is kept.
    fn file(&self, path: &str) -> PathBuf {
        let listed = file::list(&self.directory.path().join("cache"), &AtomicBool::new(false));
        assert!(listed.iter().any(|(found, _)| found.as_ref() == path), "{path} is not kept");
        let mut files = files(self.directory.path());
        files.retain(|name, _| fs::read(name).unwrap()[24..].starts_with(path.as_bytes()));
        files.into_keys().next().unwrap()
    }
}

/// All files below a directory with their lengths.
fn files(directory: &FilePath) -> BTreeMap<PathBuf, u64> {
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
    let is_there = |fixture: &Fixture| fixture.store.has(&Path::from("table/1/a"), &[0..BLOCK, 5..300_000]);
    let slot = (BLOCK_BYTES + file::TRAILER_BYTES) as u64;
    let flips = [4096 + slot + 17, 4096 + 2 * slot - 3, 4096 + 4 * slot + 300_000 - 4 * BLOCK + 1];
    for (at, block) in flips.into_iter().zip([1, 1, 4]) {
        let name = fixture.file("table/1/a");
        let mut bytes = fs::read(&name).unwrap();
        bytes[at as usize] ^= 1;
        fs::write(&name, &bytes).unwrap();
        // Only who reads it finds out.
        assert!(is_there(&fixture));
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
    assert!(!is_there(&fixture));
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
