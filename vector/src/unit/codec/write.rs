//! Writes a unit, in pieces that together are its file.
//!
//! The codes, most of it, become a piece as they are: a build that keeps its memory limit has no room for a second copy of them.

use bytes::Bytes;

use super::{
    ALIGNMENT, BLOCK_BYTES, END_MAGIC, FEATURES, FORMAT_VERSION, HEADER_BYTES, MAGIC, POINT_BYTES,
    SECTION_BYTES, SKETCH_GRID_BYTES, SKETCH_SECTIONS, STATISTICS_BYTES, Section, TAIL_BYTES,
    TAIL_CHECKSUM_AT, compared_number, metric_number,
};
use crate::distance::Floats;
use crate::hnsw::sketch::Sketch;
use crate::hnsw::{Builder, DEGREE};
use crate::unit::UnitParts;

/// Counts and checksums what goes into it.
#[derive(Default)]
struct Checked {
    pieces: Vec<Bytes>,
    /// The piece being filled.
    piece: Vec<u8>,
    length: u64,
    /// Checksum of the block being filled, and of the blocks before.
    block: u32,
    blocks: Vec<u32>,
    sections: Vec<(Section, u64, u64)>,
}

impl Checked {
    fn count(&mut self, mut bytes: &[u8]) {
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
    }

    fn write(&mut self, bytes: &[u8]) {
        self.count(bytes);
        self.piece.extend_from_slice(bytes);
    }

    /// Makes `bytes` a piece of their own.
    fn add(&mut self, bytes: Bytes) {
        self.count(&bytes);
        let before = Bytes::from(std::mem::take(&mut self.piece));
        self.pieces.extend([before, bytes].into_iter().filter(|piece| !piece.is_empty()));
    }

    /// Ends the section that began at `offset`.
    fn end(&mut self, section: Section, offset: u64) {
        self.sections.push((section, offset, self.length - offset));
        let gap = self.length.next_multiple_of(ALIGNMENT as u64) - self.length;
        self.write(&[0; ALIGNMENT][..gap as usize]);
    }

    fn section(&mut self, section: Section, bytes: &[u8]) {
        let offset = self.length;
        self.write(bytes);
        self.end(section, offset);
    }

    /// Writes one section of small values.
    fn values<const N: usize>(&mut self, section: Section, values: impl Iterator<Item = [u8; N]>) {
        let offset = self.length;
        let mut buffer = Vec::with_capacity(BLOCK_BYTES + N);
        for value in values {
            buffer.extend_from_slice(&value);
            if buffer.len() >= BLOCK_BYTES {
                self.write(&buffer);
                buffer.clear();
            }
        }
        self.write(&buffer);
        self.end(section, offset);
    }

    /// Writes checksums, section table and tail.
    fn finish(mut self) -> Vec<Bytes> {
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
        self.piece.extend_from_slice(&end);
        self.pieces.push(self.piece.into());
        self.pieces
    }
}

impl UnitParts {
    /// The file, cut anywhere.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        let mut file = Checked::default();
        file.write(&self.header());
        let numbers = |values: &[u32]| values.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>().into_iter();
        file.section(Section::Grid, Floats::from(&self.grid.low).bytes());
        file.section(Section::PivotCodes, &self.pivot_codes);
        file.section(Section::PivotNorms, Floats::from(&self.pivot_norms).bytes());
        file.values(Section::PivotRows, numbers(&self.pivot_rows));
        file.values(Section::PivotStarts, numbers(&self.pivot_starts));
        let codes_at = file.length;
        file.add(Bytes::from_owner(std::mem::take(&mut self.codes)));
        file.end(Section::Codes, codes_at);
        file.piece.reserve_exact(self.bytes_behind_codes(file.length));
        file.section(Section::Norms, Floats::from(&self.norms).bytes());
        file.section(Section::Errors, Floats::from(&self.errors).bytes());
        file.values(Section::Graph, self.graph.0.as_flattened().iter().map(|n| n.to_le_bytes()));
        file.values(Section::RowIds, self.row_ids.iter().map(|id| id.to_le_bytes()));
        file.values(Section::ById, self.by_id.iter().map(|ordinal| ordinal.to_le_bytes()));
        let points = self.calibration.points.iter();
        file.values(
            Section::Calibration,
            points.flat_map(|p| {
                [p.k.to_le_bytes(), p.ef.to_le_bytes(), p.recall.to_le_bytes(), p.scored.to_le_bytes()]
            }),
        );
        file.section(Section::Statistics, &self.statistics_bytes());
        self.write_sketch(&mut file);
        file.finish()
    }

    /// The file as bytes in one piece.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.into_pieces().concat()
    }

    /// What the last piece takes, a little more at most, when the codes end at `end`.
    fn bytes_behind_codes(&self, end: u64) -> usize {
        let sketches = self.sketch.as_ref().map_or(0, |sketch| {
            let Sketch { axes, codes, .. } = sketch;
            SKETCH_GRID_BYTES + axes.bytes().len() + codes.codes.bytes().len() + 4 * codes.norms.len()
        });
        let rows = self.row_ids.len() * (4 + 4 + 4 * DEGREE + 8 + 4);
        let sections = Section::ALL.len() * (ALIGNMENT + SECTION_BYTES);
        let calibration = self.calibration.points.len() * POINT_BYTES + STATISTICS_BYTES;
        let bytes = rows + sketches + calibration + sections + TAIL_BYTES;
        bytes + 4 * ((end as usize + bytes) / BLOCK_BYTES + 1)
    }

    fn write_sketch(&self, file: &mut Checked) {
        let Some(Sketch { axes, codes, error_max, left }) = &self.sketch else {
            SKETCH_SECTIONS.into_iter().for_each(|section| file.section(section, &[]));
            return;
        };
        let head = [codes.grid.step, codes.norm_max(), *error_max, *left];
        let floats = [&head, codes.grid.low.as_slice(), &axes.frame.scales].concat();
        let centre = axes.frame.centre.map(i32::to_le_bytes);
        let grid = [Floats::from(&floats).bytes(), centre.as_flattened()].concat();
        let bytes = [grid.as_slice(), axes.bytes(), codes.codes.bytes(), Floats::from(&codes.norms).bytes()];
        SKETCH_SECTIONS.into_iter().zip(bytes).for_each(|(section, bytes)| file.section(section, bytes));
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
