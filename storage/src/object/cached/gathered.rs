//! The blocks of one read, as they come together.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::BLOCK;

/// Bytes of an object that follow each other, from a block's start to a block's end or the object's.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
    /// Whether no request was needed for it.
    pub(super) local: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The blocks a read needs, and where their bytes are.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Ascending.
    blocks: Vec<u32>,
    /// For each of them the piece it is in.
    places: Vec<Option<usize>>,
    pieces: Vec<Piece>,
}

impl Gathered {
    /// The blocks of `ranges`, of which none is there yet.
    pub(super) fn of(ranges: &[Range<u64>]) -> Self {
        let numbers = |range: &Range<u64>| (range.start / BLOCK) as u32..range.end.div_ceil(BLOCK) as u32;
        let mut blocks: Vec<u32> = ranges.iter().flat_map(numbers).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Self { places: vec![None; blocks.len()], blocks, pieces: Vec::new() }
    }

    /// The blocks that are not there yet, ascending.
    pub(super) fn missing(&self) -> Vec<u32> {
        self.blocks.iter().zip(&self.places).filter(|(_, place)| place.is_none()).map(|(n, _)| *n).collect()
    }

    /// How many blocks are there without a request, and how many are not or took one.
    pub(super) fn local_blocks(&self) -> (u64, u64) {
        let is_local = |place: &&Option<usize>| place.is_some_and(|place| self.pieces[place].local);
        let local = self.places.iter().filter(is_local).count();
        (local as u64, (self.places.len() - local) as u64)
    }

    /// Takes those blocks of a piece that are not there yet.
    pub(super) fn add(&mut self, piece: Piece) {
        let from = self.blocks.partition_point(|block| u64::from(*block) * BLOCK < piece.start);
        let to = self.blocks.partition_point(|block| u64::from(*block) * BLOCK < piece.end());
        let place = self.pieces.len();
        self.places[from..to.max(from)].iter_mut().for_each(|found| *found = found.or(Some(place)));
        self.pieces.push(piece);
    }

    /// Drops the blocks past the end of an object of `count` blocks.
    pub(super) fn limit(&mut self, count: u32) {
        let left = self.blocks.partition_point(|block| *block < count);
        self.blocks.truncate(left);
        self.places.truncate(left);
    }

    fn piece_at(&self, offset: u64) -> Option<&Piece> {
        let place = self.blocks.binary_search(&((offset / BLOCK) as u32)).ok()?;
        let piece = self.pieces.get((*self.places.get(place)?)?)?;
        (piece.end() > offset).then_some(piece)
    }

    /// The bytes of a range whose blocks are there; those of one piece are not copied. None: one is not.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        let mut joined: Option<BytesMut> = None;
        let mut at = range.start;
        while at < range.end {
            let piece = self.piece_at(at)?;
            let to = piece.end().min(range.end);
            let part = (at - piece.start) as usize..(to - piece.start) as usize;
            if at == range.start && to == range.end {
                return Some(piece.bytes.slice(part));
            }
            let room = || BytesMut::with_capacity((range.end - range.start) as usize);
            joined.get_or_insert_with(room).extend_from_slice(&piece.bytes[part]);
            at = to;
        }
        Some(joined.unwrap_or_default().freeze())
    }

    /// How many bytes of a range whose blocks are there took no request.
    pub(super) fn local_bytes(&self, range: &Range<u64>) -> u64 {
        let (mut at, mut bytes) = (range.start, 0);
        while at < range.end {
            let Some(piece) = self.piece_at(at) else { break };
            let to = ((at / BLOCK + 1) * BLOCK).min(range.end);
            bytes += if piece.local { to - at } else { 0 };
            at = to;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_put_together_from_pieces() {
        let object: Bytes = (0..5 * BLOCK as u32 / 2).map(|i| (i % 253) as u8).collect();
        let end = object.len() as u64;
        let piece = |blocks: Range<u64>, local: bool| {
            let (start, to) = (blocks.start * BLOCK, (blocks.end * BLOCK).min(end));
            Piece { start, bytes: object.slice(start as usize..to as usize), local }
        };
        let ranges = [10..20, BLOCK - 1..BLOCK + 1, 2 * BLOCK + 5..end, 70_000..70_000];
        let mut gathered = Gathered::of(&ranges);
        assert_eq!(gathered.missing(), [0, 1, 2]);
        gathered.add(piece(1..3, false));
        assert_eq!(gathered.missing(), [0]);
        assert_eq!(gathered.bytes(&ranges[1]), None);
        gathered.add(piece(0..2, true));
        assert!(gathered.missing().is_empty());
        assert_eq!(gathered.local_blocks(), (1, 2));
        for range in &ranges {
            let bytes = gathered.bytes(range).unwrap();
            assert_eq!(bytes, object[range.start as usize..range.end as usize], "{range:?}");
        }
        assert_eq!(ranges.iter().map(|r| gathered.local_bytes(r)).collect::<Vec<_>>(), [10, 1, 0, 0]);
        assert_eq!(gathered.bytes(&(end - 1..end + 1)), None, "past the end");
        gathered.limit(1);
        assert_eq!(gathered.bytes(&(BLOCK..BLOCK + 1)), None);
    }
}
