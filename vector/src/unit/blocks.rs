//! Which blocks of an open unit are known to be as they were written.
//!
//! Owns: the checksum of a block before its first use, and the memory of it. A unit is opened without reading it: whoever
//! reads from a block first checks it, and pays for it once. Does not own: reading ([`access`](super::access)).
//! Order: none. Bytes never change, so two threads may check the same block, and a bit needs no other memory to be seen with it.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::codec::{BLOCK_BYTES, Section, read};
use super::open::{Unit, UnitError, damaged};

/// No block was found damaged.
const UNDAMAGED: u64 = u64::MAX;

/// What is known of the blocks of a unit.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bit `b % 64` of word `b / 64`: block `b` is as it was written.
    known: Box<[AtomicU64]>,
    /// How many are not known yet.
    left: AtomicUsize,
    /// Offset of the first block that is not as it was written.
    damaged: AtomicU64,
}

impl Blocks {
    /// Nothing is known of `count` blocks.
    pub(super) fn unknown(count: usize) -> Self {
        Self {
            known: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            left: AtomicUsize::new(count),
            damaged: AtomicU64::new(UNDAMAGED),
        }
    }

    #[inline]
    fn is_known(&self, block: usize) -> bool {
        let word = self.known.get(block / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        word >> (block % 64) & 1 == 1
    }

    fn note(&self, block: usize) {
        let bit = 1 << (block % 64);
        let before = self.known.get(block / 64).map_or(bit, |word| word.fetch_or(bit, Ordering::Relaxed));
        if before & bit == 0 {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Unit {
    /// Checks up to `most` of the blocks that no search has used yet; true once all of them are known to be as they were
    /// written. A search of a unit known whole does not ask any more, and is a little faster.
    ///
    /// # Errors
    /// [`UnitError::Damaged`]: from then on every search ends with it too.
    pub fn check_blocks(&self, most: usize) -> Result<bool, UnitError> {
        self.undamaged()?;
        let blocks = 0..self.section(Section::Checksums).len() / 4;
        blocks
            .filter(|&block| !self.blocks.is_known(block))
            .take(most)
            .try_for_each(|block| self.check_block(block))?;
        Ok(self.is_checked())
    }

    /// Checks what maps ordinals to row ids and back, before a caller reads all of it.
    ///
    /// # Errors
    /// [`UnitError::Damaged`].
    pub fn check_row_map(&self) -> Result<(), UnitError> {
        [Section::RowIds, Section::ById].into_iter().try_for_each(|section| FirstUse(self).section(section))
    }

    /// Whether every block is known to be as it was written.
    #[inline]
    pub(crate) fn is_checked(&self) -> bool {
        self.blocks.left.load(Ordering::Relaxed) == 0
    }

    /// # Errors
    /// The damage that was met before.
    pub(crate) fn undamaged(&self) -> Result<(), UnitError> {
        match self.blocks.damaged.load(Ordering::Relaxed) {
            UNDAMAGED => Ok(()),
            offset => Err(damaged(offset as usize, "checksum of a block")),
        }
    }

    /// Checks the blocks of `range` that are not known yet.
    ///
    /// # Errors
    /// [`UnitError::Damaged`].
    #[inline]
    pub(super) fn check(&self, range: Range<usize>) -> Result<(), UnitError> {
        let mut block = range.start / BLOCK_BYTES;
        while block * BLOCK_BYTES < range.end {
            if !self.blocks.is_known(block) {
                self.check_block(block)?;
            }
            block += 1;
        }
        Ok(())
    }

    #[cold]
    fn check_block(&self, block: usize) -> Result<(), UnitError> {
        if self.block_is_right(block) {
            self.blocks.note(block);
            return Ok(());
        }
        self.blocks.damaged.fetch_min((block * BLOCK_BYTES) as u64, Ordering::Relaxed);
        Err(damaged(block * BLOCK_BYTES, "checksum of a block"))
    }

    /// Whether a block has its checksum; not when there is no such block.
    pub(super) fn block_is_right(&self, block: usize) -> bool {
        let covered = &self.bytes[..self.sections[Section::Checksums as usize - 1].start];
        let bytes = covered.chunks(BLOCK_BYTES).nth(block);
        let sum = self.section(Section::Checksums).chunks_exact(4).nth(block);
        bytes.zip(sum).is_some_and(|(bytes, sum)| crc32c::crc32c(bytes) == read!(sum, 0, u32))
    }
}

/// What is asked before a row of a section is read.
pub(crate) trait Guard {
    /// Why it must not be read.
    type Damage: Into<UnitError>;

    /// Asks for one row of a section with one entry per row of the unit.
    fn row(&self, section: Section, row: u32) -> Result<(), Self::Damage>;

    /// Asks for some rows of such sections.
    #[inline]
    fn rows<const N: usize>(&self, sections: [Section; N], rows: &[u32]) -> Result<(), Self::Damage> {
        for &row in rows {
            for section in sections {
                self.row(section, row)?;
            }
        }
        Ok(())
    }

    /// Asks for a whole section.
    fn section(&self, section: Section) -> Result<(), Self::Damage>;
}

/// Memory, or a unit known whole: may always be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trusted;

impl Guard for Trusted {
    type Damage = Infallible;

    #[inline(always)]
    fn row(&self, _: Section, _: u32) -> Result<(), Infallible> {
        Ok(())
    }

    #[inline(always)]
    fn section(&self, _: Section) -> Result<(), Infallible> {
        Ok(())
    }
}

impl From<Infallible> for UnitError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Checks each block of a unit before its first use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstUse<'a>(pub(crate) &'a Unit);

impl Guard for FirstUse<'_> {
    type Damage = UnitError;

    #[inline]
    fn row(&self, section: Section, row: u32) -> Result<(), UnitError> {
        let width = self.0.row_bytes(section);
        let start = self.0.sections[section as usize - 1].start + row as usize * width;
        self.0.check(start..start + width)
    }

    fn section(&self, section: Section) -> Result<(), UnitError> {
        self.0.check(self.0.sections[section as usize - 1].clone())
    }
}
