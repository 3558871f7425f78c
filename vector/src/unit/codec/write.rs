//! Writes a unit.

use std::io::{self, Write};

use super::{
    ALIGNMENT, BLOCK_BYTES, END_MAGIC, FEATURES, FORMAT_VERSION, HEADER_BYTES, MAGIC, SECTION_BYTES,
    SKETCH_SECTIONS, Section, TAIL_BYTES, TAIL_CHECKSUM_AT, compared_number, metric_number,
};
use crate::distance::Floats;
use crate::hnsw::Builder;
use crate::hnsw::sketch::Sketch;
use crate::unit::UnitParts;

/// Counts and checksums what goes through it.
struct Checked<'a> {
    out: &'a mut dyn Write,
    length: u64,
    /// Checksum of the block being filled, and of the blocks before.
    block: u32,
    blocks: Vec<u32>,
    sections: Vec<(Section, u64, u64)>,
}

impl Checked<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        while !bytes.is_empty() {
            let filled = (self.length % BLOCK_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled));
            self.block = crc32c::crc32c_append(self.block, now);
            self.length += now.len() as u64;
            if filled + now.len() == BLOCK_BYTES {
                self.blocks.push(std::mem::take(&mut self.block));
            }
            bytes = later;
        }
        Ok(())
    }

    /// Writes one section from pieces.
    fn section<'b>(&mut self, section: Section, pieces: impl Iterator<Item = &'b [u8]>) -> io::Result<()> {
        let offset = self.length;
        pieces.into_iter().try_for_each(|piece| self.write(piece))?;
        self.sections.push((section, offset, self.length - offset));
        self.align()
    }

    /// Writes one section of small values.
    fn values<const N: usize>(
        &mut self,
        section: Section,
        values: impl Iterator<Item = [u8; N]>,
    ) -> io::Result<()> {
        let offset = self.length;
        let mut buffer = Vec::with_capacity(BLOCK_BYTES + N);
        for value in values {
            buffer.extend_from_slice(&value);
            if buffer.len() >= BLOCK_BYTES {
                self.write(&buffer)?;
                buffer.clear();
            }
        }
        self.write(&buffer)?;
        self.sections.push((section, offset, self.length - offset));
        self.align()
    }

    fn align(&mut self) -> io::Result<()> {
        let gap = self.length.next_multiple_of(ALIGNMENT as u64) - self.length;
        self.write(&[0; ALIGNMENT][..gap as usize])
    }

    /// Writes checksums, section table and tail.
    fn finish(mut self) -> io::Result<u64> {
        if !self.length.is_multiple_of(BLOCK_BYTES as u64) {
            self.blocks.push(self.block);
        }
        let checksums_at = self.length;
        let mut end: Vec<u8> = self.blocks.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        self.sections.push((Section::Checksums, checksums_at, end.len() as u64));
        let table_at = checksums_at + end.len() as u64;
        for (section, offset, length) in &self.sections {
            end.extend((*section as u32).to_le_bytes());
            end.extend([0; 4]);
            end.extend(offset.to_le_bytes());
            end.extend(length.to_le_bytes());
        }
        let length = table_at + (self.sections.len() * SECTION_BYTES + TAIL_BYTES) as u64;
        end.extend([checksums_at, table_at, length].map(u64::to_le_bytes).as_flattened());
        end.extend((self.sections.len() as u32).to_le_bytes());
        debug_assert_eq!(end.len() as u64, length - checksums_at - (TAIL_BYTES - TAIL_CHECKSUM_AT) as u64);
        end.extend(crc32c::crc32c(&end).to_le_bytes());
        end.extend(END_MAGIC);
        self.out.write_all(&end)?;
        Ok(length)
    }
}

impl UnitParts {
    /// Writes the file; returns its length.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<u64> {
        let mut file = Checked { out, length: 0, block: 0, blocks: vec![], sections: vec![] };
        file.write(&self.header())?;
        let one = |bytes| std::iter::once(bytes);
        let numbers = |values: &[u32]| values.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>().into_iter();
        file.section(Section::Grid, one(Floats::from(&self.grid.low).bytes()))?;
        file.section(Section::PivotCodes, one(&self.pivot_codes))?;
        file.section(Section::PivotNorms, one(Floats::from(&self.pivot_norms).bytes()))?;
        file.values(Section::PivotRows, numbers(&self.pivot_rows))?;
        file.values(Section::PivotStarts, numbers(&self.pivot_starts))?;
        file.section(Section::Codes, one(self.codes.bytes()))?;
        file.section(Section::Norms, one(Floats::from(&self.norms).bytes()))?;
        file.section(Section::Errors, one(Floats::from(&self.errors).bytes()))?;
        file.values(Section::Graph, self.graph.0.as_flattened().iter().map(|n| n.to_le_bytes()))?;
        file.values(Section::RowIds, self.row_ids.iter().map(|id| id.to_le_bytes()))?;
        file.values(Section::ById, self.by_id.iter().map(|ordinal| ordinal.to_le_bytes()))?;
        let points = self.calibration.points.iter();
        file.values(
            Section::Calibration,
            points.flat_map(|p| {
                [p.k.to_le_bytes(), p.ef.to_le_bytes(), p.recall.to_le_bytes(), p.scored.to_le_bytes()]
            }),
        )?;
        file.section(Section::Statistics, one(&self.statistics_bytes()))?;
        self.write_sketch(&mut file)?;
        file.finish()
    }

    fn write_sketch(&self, file: &mut Checked<'_>) -> io::Result<()> {
        let Some(Sketch { axes, codes, error_max, left }) = &self.sketch else {
            return SKETCH_SECTIONS
                .into_iter()
                .try_for_each(|section| file.section(section, std::iter::empty()));
        };
        let head = [codes.grid.step, codes.norm_max(), *error_max, *left];
        let floats = [&head, codes.grid.low.as_slice(), &axes.frame.scales].concat();
        let centre = axes.frame.centre.map(i32::to_le_bytes);
        let grid = [Floats::from(&floats).bytes(), centre.as_flattened()].concat();
        let bytes = [grid.as_slice(), axes.bytes(), codes.codes.bytes(), Floats::from(&codes.norms).bytes()];
        let mut sections = SKETCH_SECTIONS.into_iter().zip(bytes);
        sections.try_for_each(|(section, bytes)| file.section(section, std::iter::once(bytes)))
    }

    /// The file as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(FORMAT_VERSION.to_le_bytes());
        header.extend([metric_number(self.grid.metric), compared_number(self.calibration.compared)]);
        let stride = self.grid.stride() as u32;
        header.extend([FEATURES, self.grid.dim as u32, stride].map(u32::to_le_bytes).as_flattened());
        header.extend((self.row_ids.len() as u64).to_le_bytes());
        header.extend([self.pivot_rows.len() as u32, 0].map(u32::to_le_bytes).as_flattened());
        let floats = [self.grid.step, self.grid.length_max, self.norm_max, self.error_high];
        header.extend(floats.map(f32::to_le_bytes).as_flattened());
        header.resize(HEADER_BYTES - 4, 0);
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&header);
        bytes
    }

    fn statistics_bytes(&self) -> Vec<u8> {
        let builder = match self.statistics.builder {
            Builder::Partition => 0,
            Builder::HnswRs => 1,
        };
        let mut bytes = vec![builder, 0, 0, 0];
        bytes.extend(self.statistics.improved.to_le_bytes());
        bytes.extend(self.statistics.seed.to_le_bytes());
        bytes.extend(self.statistics.target_recall.to_le_bytes());
        bytes
    }
}
