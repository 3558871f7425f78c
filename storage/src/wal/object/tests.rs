#![allow(clippy::unwrap_used)]
use uuid::Uuid;

use super::*;
use crate::object::counting::CountingStore;
use crate::object::open_memory;

fn group(first: u64, payloads: &[&'static [u8]]) -> Group {
    Group { first: CommitVersion(first), entries: payloads.iter().map(|p| Bytes::from_static(p)).collect() }
}

fn id() -> DatabaseId {
    DatabaseId(Uuid::from_u128(1))
}

fn reader(store: &Arc<dyn ObjectStore>, from: u64) -> ObjectWalReader {
    ObjectWalReader::new(Arc::clone(store), id(), WalNumber(from), Epoch(0))
}

fn options(epoch: u64) -> ObjectWalOptions {
    ObjectWalOptions {
        database_id: id(),
        epoch: Epoch(epoch),
        flush_interval: Duration::ZERO,
        timeout: Duration::from_secs(1),
        removes: true,
    }
}

fn log(store: &Arc<dyn ObjectStore>, epoch: u64) -> ObjectWal {
    ObjectWal::create(options(epoch), &reader(store, 1), CommitVersion(1))
}

#[tokio::test]
async fn groups_come_back_and_old_objects_go() {
    let store = open_memory();
    let wal = log(&store, 1);
    wal.append(group(1, &[b"one", b"two"])).await.unwrap();
    wal.append(group(3, &[b"three"])).await.unwrap();
    assert!(matches!(wal.append(group(9, &[b"x"])).await, Err(AppendError::Clean(_))));
    for at_once in [1, 2, 7] {
        let mut found = reader(&store, 1);
        let payloads: Vec<_> =
            found.read_on(at_once).await.unwrap().into_iter().map(|entry| entry.payload).collect();
        assert_eq!(payloads, ["one", "two", "three"]);
        assert_eq!(found.number(), WalNumber(3));
        assert_eq!(found.predecessor().unwrap().last, CommitVersion(3));
        assert!(found.read_on(1).await.unwrap().is_empty());
    }
    let next = wal.rotate(CommitVersion(4)).await.unwrap();
    wal.append(group(4, &[b"four"])).await.unwrap();
    wal.truncate(next).await.unwrap();
    let status = wal.status();
    assert_eq!((status.oldest, status.objects, status.durable), (next, 1, CommitVersion(4)));
    assert_eq!(reader(&store, next.0).read_on(2).await.unwrap()[0].payload, "four");
    wal.close().await.unwrap();
    wal.append(group(5, &[b"five"])).await.unwrap_err();
}

#[tokio::test]
async fn somebody_elses_object_fences_for_ever() {
    let store = open_memory();
    let (mine, theirs) = (log(&store, 1), log(&store, 1));
    theirs.append(group(1, &[b"theirs"])).await.unwrap();
    let Err(AppendError::Unknown(error)) = mine.append(group(1, &[b"mine"])).await else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Fenced);
    mine.append(group(1, &[b"mine"])).await.unwrap_err();
}

#[tokio::test]
async fn a_fence_stops_the_writer_before_it_and_is_read_over() {
    let store = open_memory();
    let old = log(&store, 1);
    old.append(group(1, &[b"one"])).await.unwrap();
    let mut read = reader(&store, 1);
    read.read_on(2).await.unwrap();
    put_fence(&mut read, Epoch(2), CommitVersion(2), Duration::from_secs(1)).await.unwrap();
    assert_eq!(read.number(), WalNumber(3));
    let Err(AppendError::Unknown(error)) = old.append(group(2, &[b"late"])).await else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Fenced);

    let new = ObjectWal::create(options(2), &read, CommitVersion(2));
    new.append(group(2, &[b"two"])).await.unwrap();
    let mut all = reader(&store, 1);
    let payloads: Vec<_> = all.read_on(2).await.unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(payloads, ["one", "two"]);
    assert_eq!(all.epoch(), Epoch(2));
    let fence = store.head(&Path::from(object_path(WalNumber(2)))).await.unwrap();
    assert_eq!(fence.size, FENCE_BYTES);
}

#[tokio::test]
async fn an_object_of_an_older_epoch_behind_a_fence_is_void() {
    let store = open_memory();
    let mut read = reader(&store, 1);
    put_fence(&mut read, Epoch(3), CommitVersion(1), Duration::from_secs(1)).await.unwrap();
    // A writer that never saw the fence.
    let stale = ObjectWal::create(options(2), &read, CommitVersion(1));
    stale.append(group(1, &[b"stale"])).await.unwrap();
    let new = ObjectWal::create(options(3), &read, CommitVersion(1));
    new.append(group(1, &[b"one"])).await.unwrap();
    new.append(group(2, &[b"two"])).await.unwrap();
    let payloads: Vec<_> =
        reader(&store, 1).read_on(2).await.unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(payloads, ["one", "two"]);
    // Also when the fence itself is below the place where reading begins.
    let mut later = ObjectWalReader::new(Arc::clone(&store), id(), WalNumber(2), Epoch(3));
    assert_eq!(later.read_on(2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_missing_object_in_the_middle_is_damage() {
    let store = open_memory();
    let wal = log(&store, 1);
    for version in 1..=3 {
        wal.append(group(version, &[b"x"])).await.unwrap();
    }
    store.delete(&Path::from(object_path(WalNumber(2)))).await.unwrap();
    let error = reader(&store, 1).read_on(4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("wal/00000000000000000002"), "{error}");
}

#[tokio::test]
async fn a_long_log_is_read_in_few_steps() {
    let memory = open_memory();
    let wal = log(&memory, 1);
    for version in 1..=256 {
        wal.append(group(version, &[b"x"])).await.unwrap();
    }
    // Beside it stands what is not of the log.
    memory.put(&Path::from("wal/tip"), "x".into()).await.unwrap();
    let counting = Arc::new(CountingStore::new(memory));
    let store = Arc::clone(&counting) as Arc<dyn ObjectStore>;
    counting.hold();
    let mut read = reader(&store, 1);
    let reading = tokio::spawn(async move { (read.read_on(2).await.unwrap(), read.number()) });
    let mut steps = Vec::new();
    while !reading.is_finished() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let asked = counting.count();
        if asked > 0 {
            steps.push(asked);
            counting.release(asked);
        }
    }
    let (entries, next) = reading.await.unwrap();
    assert_eq!((entries.len(), next), (256, WalNumber(257)));
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.number.0).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    // A listing goes along with the second step.
    assert_eq!(steps, [2, 4, 64, 64, 64, 59]);
}

#[tokio::test]
async fn a_log_that_cannot_be_listed_is_read_all_the_same() {
    let memory = open_memory();
    let wal = log(&memory, 1);
    for version in 1..=100 {
        wal.append(group(version, &[b"x"])).await.unwrap();
    }
    let counting = Arc::new(CountingStore::new(Arc::clone(&memory)));
    counting.fail_listings();
    let store = Arc::clone(&counting) as Arc<dyn ObjectStore>;
    let mut read = reader(&store, 1);
    assert_eq!(read.read_on(2).await.unwrap().len(), 100);
    // What comes later is read on as ever, and what is missing is told, listed or not.
    wal.append(group(101, &[b"x"])).await.unwrap();
    assert_eq!(read.read_on(1).await.unwrap().len(), 1);
    memory.delete(&Path::from(object_path(WalNumber(50)))).await.unwrap();
    for at_once in [2, 4] {
        for store in [&store, &memory] {
            let error = reader(store, 1).read_on(at_once).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().contains("wal/00000000000000000050"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_does_not_answer_holds_nobody_up() {
    let memory = open_memory();
    let wal = log(&memory, 1);
    for version in 1..=100 {
        wal.append(group(version, &[b"x"])).await.unwrap();
    }
    let counting = Arc::new(CountingStore::new(memory));
    counting.hang_listings();
    let store = Arc::clone(&counting) as Arc<dyn ObjectStore>;
    let begun = tokio::time::Instant::now();
    assert_eq!(reader(&store, 1).read_on(2).await.unwrap().len(), 100);
    assert!(begun.elapsed() < Duration::from_secs(10), "it is given up once, and not asked for again");
    // Who follows asks for none while there is little.
    let begun = tokio::time::Instant::now();
    assert_eq!(reader(&store, 90).read_on(1).await.unwrap().len(), 11);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn every_flipped_byte_is_noticed() {
    let store = open_memory();
    let wal = log(&store, 1);
    wal.append(group(1, &[b"one", b"two"])).await.unwrap();
    let path = Path::from(object_path(WalNumber(1)));
    let good = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        store.put(&path, Bytes::from(bad).into()).await.unwrap();
        let error = reader(&store, 1).read_on(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

fn entries(payloads: &[&'static [u8]]) -> Vec<Bytes> {
    payloads.iter().map(|payload| Bytes::from_static(payload)).collect()
}

#[tokio::test]
async fn what_an_earlier_process_has_sent_of_a_journal_is_recognised() {
    let store = open_memory();
    let all = entries(&[b"one", b"two", b"three"]);
    assert_eq!(log(&store, 2).send(CommitVersion(1), &all[..2], 2).await.unwrap(), 2);
    // The same journal in the next process, to which nobody has told that.
    let next = log(&store, 2);
    assert_eq!(next.send(CommitVersion(1), &all, 3).await.unwrap(), 2);
    assert_eq!(next.send(CommitVersion(3), &all[2..], 1).await.unwrap(), 1);
    let mut found = reader(&store, 1);
    let payloads: Vec<_> = found.read_on(1).await.unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(payloads, ["one", "two", "three"]);
    // Another journal of that epoch, one that is shorter, and one of an epoch before.
    for (epoch, other) in [(2, entries(&[b"one", b"else"])), (2, entries(&[b"one"])), (1, all)] {
        let wal = log(&store, epoch);
        for _ in 0..2 {
            wal.send(CommitVersion(1), &other, other.len()).await.unwrap_err();
        }
        let error = wal.append(group(1, &[b"one"])).await.unwrap_err();
        assert!(matches!(error, AppendError::Unknown(_)), "{error:?}");
    }
    assert_eq!(found.read_on(1).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_object_cut_between_two_frames_is_damage_also_when_it_is_the_last() {
    let store = open_memory();
    log(&store, 1).append(group(1, &[b"one", b"two"])).await.unwrap();
    let path = Path::from(object_path(WalNumber(1)));
    let good = store.get(&path).await.unwrap().bytes().await.unwrap();
    for length in [HEADER_BYTES, (HEADER_BYTES + good.len()) / 2] {
        store.put(&path, good.slice(..length).into()).await.unwrap();
        let error = reader(&store, 1).read_on(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&format!("at offset {length}")), "{error}");
    }
    // One of before says nothing of its length.
    let mut header = FileHeader::read(&good, &"x").unwrap();
    header.created_length = 0;
    let old = [&header.encode()[..], &good[HEADER_BYTES..]].concat();
    store.put(&path, old.into()).await.unwrap();
    assert_eq!(reader(&store, 1).read_on(1).await.unwrap().len(), 2);
}
