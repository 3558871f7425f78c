//! Every kind of damage to a small log: the same entries, a cut at or after S, or a named error; never wrong entries.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use uuid::Uuid;

use super::*;
use crate::error::ErrorKind;
use crate::fs::{OpenMode, SimFileSystem};
use crate::id::{CommitVersion, DatabaseId};
use crate::wal::frame::{FrameKind, encode};
use crate::wal::header::HEADER_BYTES;
use crate::wal::{Group, Recovery, SyncMode, Wal};

const ID: DatabaseId = DatabaseId(Uuid::from_u128(42));

fn options() -> FileWalOptions {
    FileWalOptions { first_bytes: 512, step_bytes: 256, ..FileWalOptions::new(ID, SyncMode::Full) }
}

fn payload(version: u64) -> Bytes {
    Bytes::from(format!("payload of version {version}, {}", "x".repeat(version as usize * 3)))
}

fn append(wal: &FileWal, first: u64, count: u64) {
    let entries = (first..first + count).map(payload).collect();
    block_on(wal.append(Group { first: CommitVersion(first), entries })).unwrap();
}

/// Three files with versions 1 to 4, 5 to 6 and 7 to 10; the last group is 9 to 10.
fn log(close: bool) -> SimFileSystem {
    let fs = SimFileSystem::new(1);
    let wal = FileWal::create(Arc::new(fs.clone()), options(), WalNumber(1), CommitVersion(1), None).unwrap();
    append(&wal, 1, 1);
    append(&wal, 2, 3);
    block_on(wal.rotate(CommitVersion(5))).unwrap();
    append(&wal, 5, 2);
    block_on(wal.rotate(CommitVersion(7))).unwrap();
    append(&wal, 7, 1);
    append(&wal, 8, 1);
    append(&wal, 9, 2);
    if close {
        block_on(wal.close()).unwrap();
    }
    fs
}

fn contents(fs: &SimFileSystem, number: u64) -> Vec<u8> {
    let file = fs.open(&path(WalNumber(number)), OpenMode::Read).unwrap();
    read_range(&*file, 0, u64::MAX).unwrap()
}

/// A log that differs from `fs` in one file.
fn with(fs: &SimFileSystem, number: u64, bytes: &[u8]) -> SimFileSystem {
    let changed = fs.restart(1);
    let file = changed.open(&path(WalNumber(number)), OpenMode::Write).unwrap();
    file.truncate(0).unwrap();
    file.write_at(bytes, 0).unwrap();
    changed
}

fn recover(fs: &SimFileSystem) -> Result<Recovery> {
    FileWalReader::recover(fs, WalNumber(1), ID)
}

/// How many entries came back, all of them right; None when refused as corrupt.
fn judge(fs: &SimFileSystem, case: &str) -> Option<(usize, Recovery)> {
    match recover(fs) {
        Ok(found) => {
            for (version, entry) in (1..).zip(&found.entries) {
                assert_eq!(entry.payload, payload(version), "{case}");
            }
            Some((found.entries.len(), found))
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{case}: {e}");
            assert!(e.message().contains("wal/0000"), "{case}: {e}");
            None
        }
    }
}

#[test]
fn flips_zeros_and_noise_after_a_clean_end() {
    let fs = log(true);
    for number in 1..=3 {
        let good = contents(&fs, number);
        for at in 0..good.len() {
            for (how, change) in [("bit 0", 1), ("bit 7", 0x80), ("all bits", 0xff)] {
                let mut bad = good.clone();
                bad[at] ^= change;
                let case = format!("file {number}, byte {at}, {how}");
                if let Some((entries, _)) = judge(&with(&fs, number, &bad), &case) {
                    assert_eq!(entries, 10, "{case}: after a seal every entry is vouched for");
                }
            }
            let mut bad = good.clone();
            let end = good.len().min(at + 64);
            bad[at..end].fill(0);
            let case = format!("file {number}, zeros at {at}");
            if let Some((entries, _)) = judge(&with(&fs, number, &bad), &case) {
                assert_eq!(entries, 10, "{case}");
            }
        }
    }
}

#[test]
fn flips_in_a_log_that_was_not_closed_are_cut_only_in_the_last_group() {
    let fs = log(false);
    let good = contents(&fs, 3);
    let mut cuts = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let case = format!("byte {at}, bit {bit}");
            if let Some((entries, found)) = judge(&with(&fs, 3, &bad), &case) {
                // Versions 9 and 10 are one group: nothing on disk says that it was synced.
                assert!(entries >= 8, "{case}: {entries}");
                assert!(found.torn.is_some() || entries == 10, "{case}");
                cuts += usize::from(entries < 10);
            }
        }
    }
    assert!(cuts > 0);
}

#[test]
fn every_truncation() {
    for close in [true, false] {
        let fs = log(close);
        for number in 1..=3 {
            let good = contents(&fs, number);
            for length in 0..good.len() {
                let case = format!("file {number}, {length} of {} bytes, closed: {close}", good.len());
                match judge(&with(&fs, number, &good[..length]), &case) {
                    None => {}
                    Some((entries, _)) if close || number < 3 => assert_eq!(entries, 10, "{case}"),
                    Some((entries, _)) => assert!(entries >= 7 && length >= 512, "{case}: {entries}"),
                }
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for number in 1..=2 {
        let fs = log(true);
        fs.remove_file(&path(WalNumber(number))).unwrap();
        let error = recover(&fs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&path(WalNumber(number))), "{error}");
    }
    let fs = log(true);
    let error = FileWalReader::recover(&fs, WalNumber(4), ID).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "all files are older than the manifest says");
    let empty = recover(&SimFileSystem::new(1)).unwrap();
    assert_eq!((empty.next, empty.predecessor), (WalNumber(1), None));
}

#[test]
fn damage_names_file_offset_and_versions() {
    let fs = log(true);
    let mut bad = contents(&fs, 3);
    let at = HEADER_BYTES + 40;
    bad[at] ^= 1;
    let error = recover(&with(&fs, 3, &bad)).unwrap_err();
    let expected = format!("{} at offset {HEADER_BYTES} is damaged", path(WalNumber(3)));
    assert!(error.message().contains(&expected), "{error}");
    assert_eq!(error.detail().unwrap(), "versions 7 to 10, and any after them, are at stake");
}

/// A file whose frames are given as (`synced_upto` is frame number, good).
fn handmade(frames: &[(usize, bool)]) -> SimFileSystem {
    let fs = log(false);
    let mut bytes = contents(&fs, 3);
    let salt = u64::from_le_bytes(*bytes[56..64].first_chunk().unwrap());
    bytes.truncate(HEADER_BYTES);
    let mut offsets = vec![];
    for (i, (synced, good)) in frames.iter().enumerate() {
        offsets.push(bytes.len());
        let start = bytes.len();
        let version = 7 + i as u64;
        encode(
            &mut bytes,
            salt,
            FrameKind::Entry,
            offsets[*synced] as u64,
            CommitVersion(version),
            &payload(version),
        );
        if !good {
            bytes[start + 20] ^= 1;
        }
    }
    bytes.resize(bytes.len().max(2048), 0);
    with(&fs, 3, &bytes)
}

#[test]
fn a_bad_frame_before_good_ones_is_torn_unless_one_of_them_vouches_for_it() {
    // One group of four, the second lost: frames 3 and 4 are good and never acknowledged.
    let (entries, found) = judge(&handmade(&[(0, true), (0, false), (0, true), (0, true)]), "torn").unwrap();
    assert_eq!(entries, 7);
    assert!(found.torn.is_some());
    // The fourth was written when the first three were synced.
    assert!(judge(&handmade(&[(0, true), (0, false), (0, true), (3, true)]), "vouched").is_none());
    // The fourth was written when only the first was synced.
    let (entries, _) = judge(&handmade(&[(0, true), (1, false), (1, true), (1, true)]), "after S").unwrap();
    assert_eq!(entries, 7);
}

/// With the checksum of each this would take minutes.
#[test]
fn rows_of_a_torn_entry_that_look_like_frames_are_passed_over() {
    let fs = log(false);
    let mut bytes = contents(&fs, 3);
    let salt = u64::from_le_bytes(*bytes[56..64].first_chunk().unwrap());
    bytes.truncate(HEADER_BYTES);
    let synced = HEADER_BYTES as u64;
    encode(&mut bytes, salt, FrameKind::Entry, synced, CommitVersion(7), &payload(7));
    let torn = bytes.len();
    // A length that is there, and the kind of an entry.
    let rows = [1 << 20, 1].map(u64::to_le_bytes).concat().repeat(1 << 18);
    encode(&mut bytes, salt, FrameKind::Entry, synced, CommitVersion(8), &rows);
    bytes[torn + 4] ^= 1;
    encode(&mut bytes, salt, FrameKind::Entry, synced, CommitVersion(9), &payload(9));
    let (entries, found) = judge(&with(&fs, 3, &bytes), "torn").unwrap();
    assert_eq!((entries, found.torn.is_some()), (7, true));
    // What stands behind them is found: it says that they were durable.
    encode(&mut bytes, salt, FrameKind::Entry, torn as u64 + 8, CommitVersion(10), &payload(10));
    assert!(judge(&with(&fs, 3, &bytes), "vouched").is_none());
}

#[test]
fn a_cut_tail_stays_cut_behind_the_next_file() {
    let fs = handmade(&[(0, true), (0, false), (0, true)]);
    let (_, found) = judge(&fs, "torn").unwrap();
    let wal =
        FileWal::create(Arc::new(fs.clone()), options(), found.next, CommitVersion(8), found.predecessor)
            .unwrap();
    append(&wal, 8, 2);
    let (entries, found) = judge(&fs.crash(3), "again").unwrap();
    assert_eq!((entries, found.torn), (9, None));
}

#[test]
fn a_foreign_or_newer_file_is_refused_as_such() {
    let fs = log(true);
    let error = FileWalReader::recover(&fs, WalNumber(1), DatabaseId(Uuid::from_u128(7))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut newer = contents(&fs, 3);
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..HEADER_BYTES - 4]);
    newer[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(recover(&with(&fs, 3, &newer)).unwrap_err().kind(), ErrorKind::Unsupported);
}
