//! The journal of a bucket: a mark of what was sent, a tip and a file of the log, one behind the other.

use cairn_storage::fs::SimFileSystem;
use cairn_storage::fuzzing;

use super::log::{FIRST_FILE, entries, file, write};
use super::sealed::{self, TIP};
use super::{DATABASE, Seed, is_answer};

pub(super) fn run(bytes: &[u8]) {
    let (sent, rest) = bytes.split_at(TIP.min(bytes.len()));
    let (tip, log) = rest.split_at(TIP.min(rest.len()));
    let fs = SimFileSystem::new(1);
    write(&fs, FIRST_FILE, log);
    write(&fs, "wal/tip", tip);
    write(&fs, "sent", sent);
    match fuzzing::journal(&fs, DATABASE) {
        Ok((commits, sent)) => assert!(sent <= commits, "{sent} of {commits} commits were sent"),
        Err(error) => is_answer(&error),
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let log = file(&entries(), false);
    let journal =
        |sent: u64, last: u64| [mark(1, 0, sent), mark(1, log.len() as u64, last), log.clone()].concat();
    vec![
        ("unsent", journal(0, 4)),
        ("half-sent", journal(2, 4)),
        ("sent", journal(4, 3)),
        ("lost", journal(2, 5)),
        ("empty", [mark(1, 0, 0), mark(1, 128, 0), file(&[], true)].concat()),
    ]
}

/// A tip, or a mark of what was sent, which has the same form.
pub(super) fn mark(number: u64, offset: u64, version: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(TIP);
    for word in [number, offset, version] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(b"CTIP\0\0\0\0");
    sealed::last_checksum(&out).expect("a tip")
}
