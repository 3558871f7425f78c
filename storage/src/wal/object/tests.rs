#![allow(clippy::unwrap_used)]
use futures::executor::block_on;
use uuid::Uuid;

use super::*;
use crate::object::open_memory;

fn group(first: u64, payloads: &[&'static [u8]]) -> Group {
    Group { first: CommitVersion(first), entries: payloads.iter().map(|p| Bytes::from_static(p)).collect() }
}

#[test]
fn groups_come_back_and_old_objects_go() {
    let (store, id) = (open_memory(), DatabaseId(Uuid::from_u128(1)));
    let wal = ObjectWal::create(Arc::clone(&store), id, WalNumber(1), CommitVersion(1), None);
    block_on(wal.append(group(1, &[b"one", b"two"]))).unwrap();
    block_on(wal.append(group(3, &[b"three"]))).unwrap();
    assert!(matches!(block_on(wal.append(group(9, &[b"x"]))), Err(AppendError::Clean(_))));
    let found = block_on(ObjectWal::recover(&*store, WalNumber(1), id)).unwrap();
    let payloads: Vec<_> = found.entries.iter().map(|e| e.payload.clone()).collect();
    assert_eq!(payloads, ["one", "two", "three"]);
    assert_eq!(found.next, WalNumber(3));
    assert_eq!(found.predecessor.unwrap().last, CommitVersion(3));

    let next = block_on(wal.rotate(CommitVersion(4))).unwrap();
    block_on(wal.append(group(4, &[b"four"]))).unwrap();
    block_on(wal.truncate(next)).unwrap();
    let status = wal.status();
    assert_eq!((status.oldest, status.durable), (next, CommitVersion(4)));
    let found = block_on(ObjectWal::recover(&*store, next, id)).unwrap();
    assert_eq!(found.entries[0].payload, "four");
    block_on(wal.close()).unwrap();
    block_on(wal.append(group(5, &[b"five"]))).unwrap_err();
}

#[test]
fn somebody_elses_object_fences_for_ever() {
    let (store, id) = (open_memory(), DatabaseId(Uuid::from_u128(1)));
    let mine = ObjectWal::create(Arc::clone(&store), id, WalNumber(1), CommitVersion(1), None);
    let theirs = ObjectWal::create(Arc::clone(&store), id, WalNumber(1), CommitVersion(1), None);
    block_on(theirs.append(group(1, &[b"theirs"]))).unwrap();
    let Err(AppendError::Unknown(error)) = block_on(mine.append(group(1, &[b"mine"]))) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Fenced);
    block_on(mine.append(group(1, &[b"mine"]))).unwrap_err();
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (store, id) = (open_memory(), DatabaseId(Uuid::from_u128(1)));
    let wal = ObjectWal::create(Arc::clone(&store), id, WalNumber(1), CommitVersion(1), None);
    block_on(wal.append(group(1, &[b"one", b"two"]))).unwrap();
    let path = Path::from(path(WalNumber(1)));
    let good = block_on(async { store.get(&path).await.unwrap().bytes().await.unwrap() }).to_vec();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        block_on(store.put(&path, Bytes::from(bad).into())).unwrap();
        let error = block_on(ObjectWal::recover(&*store, WalNumber(1), id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
    }
}
