//! The bytes of one simulated file: what programs see, what the disk has, what is on its way.
//!
//! Owns: which bytes may be found after a crash. Rule: 512-byte sectors are atomic; of everything written since the
//! last sync each sector keeps its synced content or any version written since; the length is any the file had since.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// Bytes a disk writes as a whole.
pub(super) const SECTOR: usize = 512;

/// What a sector has that nobody has written.
const UNWRITTEN: [u8; SECTOR] = [0; SECTOR];

/// Cuts `bytes`, or puts zeros behind them. Every file of the log begins with many, and in a test build `Vec::resize` writes them one by one:
/// these come from the allocator, and at once.
fn set_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.truncate(length);
    let zeros = vec![0; length - bytes.len()];
    if bytes.is_empty() {
        *bytes = zeros;
    } else {
        bytes.extend_from_slice(&zeros);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// As programs see it.
    pub(super) data: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    /// Contents of each sector written since the last sync, oldest first.
    versions: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// Shortest and longest length since the last sync.
    lengths: (usize, usize),
    /// A sync has failed.
    pub(super) sync_failed: bool,
}

impl Inode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let known = self.data.len().max(self.durable.len());
        // Sectors of the gap between the old end and the write were never written: they read as zeros.
        if self.data.len() < end {
            set_length(&mut self.data, end);
            self.lengths.1 = self.lengths.1.max(end);
        }
        self.data[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            let content = self.sector(sector);
            // Zeros behind all that ever was are found there whether the disk has taken them or not. Every file of the log begins with
            // thousands of such sectors.
            let is_as_before =
                sector * SECTOR >= known && content == UNWRITTEN && !self.versions.contains_key(&sector);
            if !is_as_before {
                self.versions.entry(sector).or_default().push(content);
            }
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        if length >= self.data.len() {
            return;
        }
        let old = self.data.len();
        self.data.truncate(length);
        self.lengths.0 = self.lengths.0.min(length);
        for sector in length / SECTOR..=(old - 1) / SECTOR {
            let content = self.sector(sector);
            self.versions.entry(sector).or_default().push(content);
        }
    }

    fn sector(&self, sector: usize) -> [u8; SECTOR] {
        let mut content = [0; SECTOR];
        let from = (sector * SECTOR).min(self.data.len());
        let to = (from + SECTOR).min(self.data.len());
        content[..to - from].copy_from_slice(&self.data[from..to]);
        content
    }

    pub(super) fn sync(&mut self) {
        set_length(&mut self.durable, self.data.len());
        for sector in std::mem::take(&mut self.versions).into_keys() {
            let from = (sector * SECTOR).min(self.data.len());
            let to = (from + SECTOR).min(self.data.len());
            self.durable[from..to].copy_from_slice(&self.data[from..to]);
        }
        self.lengths = (self.data.len(), self.data.len());
    }

    /// A sync that failed: every dirty page is called clean now, whether the disk has it or not, and programs see
    /// either what they wrote or what the disk has ("Can Applications Recover from fsync Failures?", ATC '20).
    pub(super) fn sync_failed(&mut self, rng: &mut StdRng) {
        self.durable = self.crashed(rng);
        self.versions.clear();
        if rng.random() {
            self.data = self.durable.clone();
        }
        self.lengths = (self.data.len().min(self.durable.len()), self.data.len().max(self.durable.len()));
        self.sync_failed = true;
    }

    /// What a machine finds after power loss.
    pub(super) fn crashed(&self, rng: &mut StdRng) -> Vec<u8> {
        let (shortest, longest) = self.lengths;
        let length = match rng.random_range(0..3) {
            0 => shortest,
            1 => longest,
            _ => rng.random_range(shortest..=longest),
        };
        // Whole-file bias: nothing, everything and a mixture are all likely.
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][rng.random_range(0..5)];
        let mut found = self.durable.clone();
        let longest = found.len().max(longest);
        set_length(&mut found, longest);
        for (sector, versions) in &self.versions {
            if !rng.random_bool(kept) {
                continue;
            }
            let newest = rng.random_bool(0.7);
            let pick = if newest { versions.len() - 1 } else { rng.random_range(0..versions.len()) };
            let from = (sector * SECTOR).min(found.len());
            let to = (from + SECTOR).min(found.len());
            found[from..to].copy_from_slice(&versions[pick][..to - from]);
        }
        set_length(&mut found, length);
        found
    }

    /// What a machine finds that has lost everything since the last sync.
    pub(super) fn synced(&self) -> Vec<u8> {
        self.durable.clone()
    }

    /// A file whose every byte is durable.
    pub(super) fn settled(data: Vec<u8>) -> Self {
        let length = data.len();
        Self { durable: data.clone(), data, lengths: (length, length), ..Self::default() }
    }
}
