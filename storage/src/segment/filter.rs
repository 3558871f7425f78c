//! Key filter: says of an encoded key that a segment surely does not hold it, or that it may.
//!
//! Owns: the filter and its bytes. Does not own: the hash of a key ([`filter_hash`](super::key::filter_hash)) and
//! where the object lies. A blocked Bloom filter: one cache line of eight 64-bit lanes per key, one bit set
//! in each lane (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007); 12 bits a key give
//! about 0.5 % false positives and never a false negative.
//!
//! # Object `<id>.keys`, little-endian
//! | bytes | what |
//! |---|---|
//! | 8 | magic `CAIRNKEY` |
//! | 4 | reader features; unknown ones are refused |
//! | 4 | [key encoding version](super::key::KEY_ENCODING_VERSION) |
//! | 8 | count of keys |
//! | 8 | count of blocks n, at least 1 |
//! | 64 n | blocks of eight u64 lanes |
//! | 4 | crc32c of everything before |

use bytes::Bytes;

use super::key::KEY_ENCODING_VERSION;
use crate::error::{Error, Result, newer};

const MAGIC: &[u8; 8] = b"CAIRNKEY";
const HEADER_BYTES: usize = 32;
const LANES: usize = 8;
const BLOCK_BYTES: usize = LANES * 8;
const BITS_PER_KEY: usize = 12;

/// Odd multipliers that spread one hash over the lanes.
const SPREAD: [u32; LANES] =
    [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1, 0xd3a2_646d, 0xfd70_46c5, 0xb55a_4f09];

/// What keys a segment may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFilter {
    keys: u64,
    blocks: Vec<[u64; LANES]>,
}

impl KeyFilter {
    /// The object ends in a checksum of so many bytes.
    pub(crate) const OWN_CHECKSUM_BYTES: usize = 4;

    /// A filter over these hashes of encoded keys.
    #[must_use]
    pub fn build(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let keys = hashes.len();
        let count = (keys * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8).max(1);
        let mut blocks = vec![[0; LANES]; count];
        for hash in hashes {
            let block = &mut blocks[index(hash, count)];
            for (lane, bit) in block.iter_mut().zip(bits(hash)) {
                *lane |= bit;
            }
        }
        Self { keys: keys as u64, blocks }
    }

    /// Whether the key of this hash may be there; false is certain.
    #[must_use]
    pub fn contains(&self, hash: u64) -> bool {
        let block = &self.blocks[index(hash, self.blocks.len())];
        block.iter().zip(bits(hash)).all(|(lane, bit)| lane & bit != 0)
    }

    /// How many keys it was built from.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes it holds in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// The object's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.memory_bytes() + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&KEY_ENCODING_VERSION.to_le_bytes());
        out.extend_from_slice(&self.keys.to_le_bytes());
        out.extend_from_slice(&(self.blocks.len() as u64).to_le_bytes());
        for lane in self.blocks.iter().flatten() {
            out.extend_from_slice(&lane.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.into()
    }

    /// Reads back [`encode`](Self::encode)'s bytes; `path` is for messages.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Unsupported` for a newer format.
    pub fn decode(path: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &str| Error::corrupt(path, why);
        let Some((body, crc)) = bytes.split_last_chunk::<4>().filter(|(b, _)| b.len() >= HEADER_BYTES) else {
            return Err(damaged("shorter than a key filter's header"));
        };
        if &body[..8] != MAGIC {
            return Err(damaged("not a key filter (wrong magic)"));
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("checksum mismatch"));
        }
        let mut words =
            body[8..].chunks_exact(8).map(|w| w.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
        let mut word = || words.next().unwrap_or(0);
        let (versions, keys, count) = (word(), word(), word());
        if versions as u32 != 0 || (versions >> 32) as u32 != KEY_ENCODING_VERSION {
            let (features, keys) = (versions as u32, (versions >> 32) as u32);
            return Err(newer(path, format_args!("it has features {features:#x} and key encoding {keys}")));
        }
        if count == 0 || (body.len() - HEADER_BYTES) as u64 != count.saturating_mul(BLOCK_BYTES as u64) {
            return Err(damaged("its length does not match its block count"));
        }
        let mut blocks = vec![[0; LANES]; count as usize];
        blocks.iter_mut().flatten().for_each(|lane| *lane = word());
        Ok(Self { keys, blocks })
    }
}

/// Block of a hash: its high half scaled to the block count.
fn index(hash: u64, blocks: usize) -> usize {
    (u128::from(hash).wrapping_mul(blocks as u128) >> 64) as usize
}

/// One bit per lane, from the low half of the hash.
fn bits(hash: u64) -> [u64; LANES] {
    SPREAD.map(|odd| 1 << ((hash as u32).wrapping_mul(odd) >> 26))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;
    use crate::segment::key::filter_hash;

    fn hashes(range: std::ops::Range<u64>) -> impl ExactSizeIterator<Item = u64> {
        range.collect::<Vec<_>>().into_iter().map(|n| filter_hash(&n.to_be_bytes()))
    }

    #[test]
    fn no_false_negative_and_few_false_positives() {
        for n in [0, 1, 2, 41, 43, 1000, 50_000] {
            let filter = KeyFilter::build(hashes(0..n));
            assert!(hashes(0..n).all(|h| filter.contains(h)));
            let wrong = hashes(1_000_000..1_100_000).filter(|&h| filter.contains(h)).count();
            assert!(wrong < 1500, "{wrong} of 100000 at {n} keys");
            let back = KeyFilter::decode("x.keys", &filter.encode()).unwrap();
            assert_eq!(filter, back);
            assert_eq!(back.keys(), n);
        }
    }

    #[test]
    fn any_flipped_bit_or_cut_is_named() {
        let bytes = KeyFilter::build(hashes(0..50)).encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x10;
            let error = KeyFilter::decode("table/1/x.keys", &bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().contains("table/1/x.keys"));
            assert!(KeyFilter::decode("x", &bytes[..at]).is_err());
        }
    }

    #[test]
    fn a_newer_one_is_told_from_a_damaged_one() {
        let good = KeyFilter::build(hashes(0..50)).encode();
        for (at, more) in [(8, 0), (12, 0), (8, 40)] {
            let mut later = good[..good.len() - 4].to_vec();
            later[at] = 2;
            later.resize(later.len() + more, 1);
            let crc = crc32c::crc32c(&later);
            later.extend_from_slice(&crc.to_le_bytes());
            let error = KeyFilter::decode("x.keys", &later).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().starts_with("x.keys was written by a newer Cairn"), "{error}");
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let bytes = KeyFilter::build([filter_hash(b"a"), filter_hash(b"b")].into_iter()).encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("golden/two_keys.filter.hex").trim());
    }
}
