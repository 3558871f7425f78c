//! Where a segment's bytes go while they are made: counted, hashed and checksummed block by block.
//!
//! Owns: the running block checksums and whole-object hash. Does not own: sending the bytes to a store (`writer`).

use std::io;

use xxhash_rust::xxh3::Xxh3;

/// Bytes covered by one checksum.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;

/// Collects bytes to be sent. Blocks count from the object's start.
pub(crate) struct ChecksumSink {
    pending: Vec<u8>,
    written: u64,
    hash: Xxh3,
    blocks: Vec<u32>,
    /// crc32c and length of the block being filled.
    open: (u32, usize),
    /// Set once the data is complete: everything after is kept here, neither counted nor hashed.
    tail: Option<Vec<u8>>,
}

impl ChecksumSink {
    pub(crate) fn new() -> Self {
        Self {
            pending: Vec::new(),
            written: 0,
            hash: Xxh3::new(),
            blocks: Vec::new(),
            open: (0, 0),
            tail: None,
        }
    }

    /// From here on bytes are set aside for [`take_tail`](Self::take_tail).
    pub(crate) fn set_tail_aside(&mut self) {
        self.tail = Some(Vec::new());
    }

    /// The bytes set aside; those that follow are taken as data again.
    pub(crate) fn take_tail(&mut self) -> Vec<u8> {
        self.tail.take().unwrap_or_default()
    }

    /// Takes `bytes` as the next ones covered by block checksums.
    pub(crate) fn put_data(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (crc, filled) = self.open;
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - filled));
            self.open = (crc32c::crc32c_append(crc, now), filled + now.len());
            if self.open.1 == BLOCK_BYTES {
                self.blocks.push(self.open.0);
                self.open = (0, 0);
            }
            rest = later;
        }
        self.put_footer(bytes);
    }

    /// Takes `bytes` as the next ones of the object, outside the blocks.
    pub(crate) fn put_footer(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
    }

    /// Closes the last block and returns the checksums of all, in hexadecimal.
    pub(crate) fn close_blocks(&mut self) -> String {
        if self.open.1 > 0 {
            self.blocks.push(self.open.0);
            self.open = (0, 0);
        }
        self.blocks.iter().map(|crc| format!("{crc:08x}")).collect()
    }

    /// Bytes of the object so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// xxh3-128 of them, in hexadecimal.
    pub(crate) fn hash_text(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    /// Bytes not yet taken.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Puts bytes taken back in front.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.pending.splice(0..0, bytes.iter().copied());
    }

    /// Takes the bytes not yet taken.
    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }
}

impl io::Write for ChecksumSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tail {
            Some(tail) => tail.extend_from_slice(bytes),
            None => self.put_data(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads back [`ChecksumSink::close_blocks`]; None when it is not that.
pub(crate) fn parse_blocks(text: &str) -> Option<Vec<u32>> {
    text.as_bytes()
        .chunks(8)
        .map(|hex| std::str::from_utf8(hex).ok().filter(|h| h.len() == 8))
        .map(|hex| u32::from_str_radix(hex?, 16).ok())
        .collect()
}
