//! What checksums can put right: one wrong byte in each block of a segment, and in its footer.
//!
//! Owns: finding these bytes, and that nothing is taken for right but the object that was written: the xxh3-128 of all its bytes, which the meta
//! has, holds in the end. Does not own: what becomes of the object (`repair`).
//!
//! The crc32c of a block and the one it should have differ by what the wrong byte adds, pushed through the bytes behind it. Taking these back
//! byte by byte, from the end, leads to an entry of the polynomial's table where that byte stands; the entry says what is wrong in it. Where
//! more is wrong this leads nowhere. Once in some hundred blocks it leads to another byte as well: the hash tells which one it is.

use xxhash_rust::xxh3::xxh3_128;

use super::super::SegmentMeta;
use super::super::sink::BLOCK_BYTES;
use super::blocks::data_end;
use super::open::block_checksums;

/// crc32c, as its table is indexed: the lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What a byte adds to a checksum.
static TABLE: [u32; 256] = table();
/// Which byte adds something with these upper eight bits; no two are the same.
static BY_TOP: [u8; 256] = by_top();
/// So many objects are tried where several bytes may be the wrong one of their block.
const TRIES_MAX: usize = 16;

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

const fn by_top() -> [u8; 256] {
    let table = table();
    let mut by_top = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        by_top[(table[byte] >> 24) as usize] = byte as u8;
        byte += 1;
    }
    by_top
}

/// A byte of the object, and which bits of it are wrong.
type Change = (usize, u8);

/// The object that was written, from `bytes` as they are now, and how many of them were wrong. None: none is, or they can't be put right.
pub(crate) fn mended(meta: &SegmentMeta, mut bytes: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    let end = usize::try_from(data_end(meta)?).ok()?;
    if bytes.len() as u64 != meta.bytes {
        return None;
    }
    let footer = end..end + meta.footer_bytes as usize;
    // The end of the file says nothing that the meta does not say.
    let trailer = [meta.footer_bytes.to_le_bytes(), *b"PAR1"].concat();
    let wrong = bytes[footer.end..].iter().zip(&trailer).filter(|(is, was)| is != was).count();
    bytes[footer.end..].copy_from_slice(&trailer);
    for in_footer in changes(footer.start, &bytes[footer.clone()], meta.footer_crc32c) {
        apply(&mut bytes, in_footer.as_slice());
        if let Ok(sums) = block_checksums(meta, &bytes[footer.clone()]) {
            let blocks = bytes[..end].chunks(BLOCK_BYTES).zip(sums).enumerate();
            let blocks: Vec<_> =
                blocks.map(|(n, (block, sum))| changes(n * BLOCK_BYTES, block, sum)).collect();
            if let Some(in_blocks) = chosen(meta, &mut bytes, &blocks) {
                let wrong = wrong + in_footer.as_slice().len() + in_blocks;
                return (wrong > 0).then_some((bytes, wrong));
            }
        }
        apply(&mut bytes, in_footer.as_slice());
    }
    None
}

/// Makes the object whole by one of the changes to each block; how many that are.
fn chosen(meta: &SegmentMeta, bytes: &mut [u8], blocks: &[Vec<Option<Change>>]) -> Option<usize> {
    let ways = blocks.iter().fold(1_usize, |ways, of_block| ways.saturating_mul(of_block.len()));
    for way in 0..ways.min(TRIES_MAX) {
        let mut left = way;
        let picked = blocks.iter().filter_map(|of_block| {
            let at = left % of_block.len();
            left /= of_block.len();
            of_block[at]
        });
        let picked: Vec<Change> = picked.collect();
        apply(bytes, &picked);
        if format!("{:032x}", xxh3_128(bytes)) == meta.xxh3 {
            return Some(picked.len());
        }
        apply(bytes, &picked);
    }
    None
}

/// Changes bytes; twice is as before.
fn apply(bytes: &mut [u8], changes: &[Change]) {
    for (at, bits) in changes {
        bytes[*at] ^= bits;
    }
}

/// Each change of one byte that gives these bytes, the first of which stands at `start`, their checksum; one that is None when they have it.
fn changes(start: usize, bytes: &[u8], checksum: u32) -> Vec<Option<Change>> {
    let mut rest = crc32c::crc32c(bytes) ^ checksum;
    if rest == 0 {
        return vec![None];
    }
    let mut found = Vec::new();
    for at in (0..bytes.len()).rev() {
        let byte = BY_TOP[(rest >> 24) as usize];
        let added = TABLE[usize::from(byte)];
        if added == rest {
            found.push(Some((start + at, byte)));
        }
        rest = ((rest ^ added) << 8) | u32::from(byte);
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use rand::Rng;

    use super::*;
    use crate::schema::ColumnType;
    use crate::segment::testing::{batch, object_id, random, table};
    use crate::segment::writer::{Addressing, SegmentWriter, SegmentWriterOptions};

    async fn segment() -> (SegmentMeta, Vec<u8>) {
        let def = table(&[(ColumnType::Int64, false), (ColumnType::Vector(40), false)], &[], &[]);
        let store = Arc::new(InMemory::new());
        let options = SegmentWriterOptions::default();
        let mut writer =
            SegmentWriter::new(store.clone(), def.clone(), object_id(1), Addressing::Load, options).unwrap();
        writer.write(&batch(&mut random(1), &def, 2_000)).unwrap();
        let meta = writer.finish().await.unwrap();
        let bytes = store.get(&Path::from(meta.path())).await.unwrap().bytes().await.unwrap();
        (meta, bytes.to_vec())
    }

    #[test]
    fn the_wrong_byte_is_found() {
        let mut random = random(3);
        let good: Vec<u8> = (0..5_000).map(|_| random.random()).collect();
        let checksum = crc32c::crc32c(&good);
        assert_eq!(changes(0, &good, checksum), [None::<Change>]);
        for at in 0..good.len() {
            let bits = random.random_range(1..=255_u8);
            let mut bad = good.clone();
            bad[at] ^= bits;
            assert!(changes(100, &bad, checksum).contains(&Some((100 + at, bits))), "byte {at}");
        }
    }

    #[tokio::test]
    async fn one_wrong_byte_in_a_block_is_put_right_wherever_it_is() {
        let (meta, good) = segment().await;
        assert!(good.len() > 3 * BLOCK_BYTES, "{} bytes", good.len());
        assert!(mended(&meta, good.clone()).is_none(), "nothing is wrong");
        let mut random = random(2);
        let footer = good.len() - 8 - meta.footer_bytes as usize;
        for round in 0..120 {
            let at = match round % 3 {
                0 => random.random_range(footer..good.len() - 8),
                1 => good.len() - 1 - round % 8,
                _ => random.random_range(0..footer),
            };
            let mut bad = good.clone();
            bad[at] ^= random.random_range(1..=255_u8);
            let (again, wrong) = mended(&meta, bad).unwrap();
            assert!(again == good && wrong == 1, "byte {at}");
        }
        // In each block, in the footer, and all of the end.
        let mut bad = good.clone();
        for at in (0..footer).step_by(BLOCK_BYTES).chain([footer + 7]) {
            bad[at] ^= 0x11;
        }
        bad[good.len() - 8..].fill(0xee);
        let (again, wrong) = mended(&meta, bad).unwrap();
        assert!(again == good);
        assert_eq!(wrong, footer.div_ceil(BLOCK_BYTES) + 1 + 8);
    }

    #[tokio::test]
    async fn what_is_wrong_beyond_that_is_left_alone() {
        let (meta, good) = segment().await;
        let footer = good.len() - 8 - meta.footer_bytes as usize;
        for start in [40, BLOCK_BYTES + 5, footer + 3] {
            let mut bad = good.clone();
            bad[start] ^= 1;
            bad[start + 9] ^= 1;
            assert!(mended(&meta, bad).is_none(), "two bytes from {start}");
            let mut bad = good.clone();
            bad[start..start + 40].fill(0);
            assert!(mended(&meta, bad).is_none(), "zeros from {start}");
        }
        assert!(mended(&meta, good[..good.len() - 1].to_vec()).is_none());
        assert!(mended(&meta, [&good[..], &[0]].concat()).is_none());
        // Another object with checksums of its own.
        let other = SegmentMeta { xxh3: format!("{:032x}", 1), ..meta };
        assert!(mended(&other, good).is_none());
    }
}
