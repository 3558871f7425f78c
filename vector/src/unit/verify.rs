//! Reads all of a unit and names what is wrong: in itself, and of a row whose vector the caller has.

use super::codec::{BLOCK_BYTES, Section, read};
use super::open::Unit;
use crate::hnsw::sketch::SILENT;
use crate::hnsw::{Adjacency, NO_ROW};
use crate::metric::Metric;
use crate::quantize::{FILLER, Grid};

/// What f32 may have rounded off a bound on the way, as a part of it.
const ROUNDED: f64 = 1e-5;

/// Something wrong in a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Byte of the file.
    pub offset: u64,
    /// What is wrong.
    pub problem: String,
}

/// Findings reported at most, of each kind.
const FINDINGS_MAX: usize = 16;

impl Unit {
    /// Checks every checksum, every neighbour, that the row map fits strictly, that every row can be reached. Empty
    /// when nothing is wrong. Takes about as long as reading the file.
    #[must_use]
    pub fn verify(&self) -> Vec<Finding> {
        let mut findings = self.wrong_blocks();
        findings.extend(self.wrong_rows().into_iter().take(FINDINGS_MAX));
        findings.extend(self.wrong_neighbours().into_iter().take(FINDINGS_MAX));
        findings.extend(self.wrong_clusters());
        findings.extend(self.wrong_sketches());
        findings.extend(self.unreachable());
        findings
    }

    /// What is wrong with the row `ordinal`, whose vector is `vector`: its code is farther from it than the bound that searches go by, or its
    /// norm is not that of its code. None: nothing. `point` is room that is used again.
    #[must_use]
    pub fn wrong_code(&self, ordinal: u32, vector: &[f32], point: &mut Vec<f32>) -> Option<Finding> {
        let (grid, row) = (&self.grid, ordinal as usize);
        let stride = grid.stride();
        let wrong = |what: String| Some(self.finding(Section::Codes, row * stride, what));
        let codes = self.section(Section::Codes).get(row * stride..(row + 1) * stride);
        let Some(codes) = codes.filter(|_| vector.len() == grid.dim) else {
            return wrong(format!("it has no row {ordinal} of {} components", vector.len()));
        };
        point.clear();
        point.extend_from_slice(vector);
        point.resize(Grid::point_dim(grid.metric, grid.dim), 0.0);
        Grid::to_point(grid.metric, grid.dim, grid.length_max, point);
        let (mut squares, mut absolutes, mut norm) = (0.0_f64, 0.0_f64, 0_i64);
        for ((component, low), code) in point.iter().zip(&grid.low).zip(codes) {
            let place = f64::from(*low) + f64::from(grid.step) * f64::from(*code);
            let off = f64::from(*component) - place;
            squares += off * off;
            absolutes += off.abs();
            norm += (i64::from(*code) - 128).pow(2);
        }
        let (distance, norm) = match grid.metric {
            Metric::L1 => (absolutes, 0),
            Metric::L2 | Metric::Cosine | Metric::InnerProduct => (squares.sqrt(), norm),
        };
        let bound = f64::from(self.error(ordinal)) * (1.0 + ROUNDED) + grid.rounding();
        // Not a number is wrong too.
        if distance.partial_cmp(&bound).is_none_or(std::cmp::Ordering::is_gt) {
            return wrong(format!(
                "the code of row {ordinal} is {distance} from its vector, more than {bound}"
            ));
        }
        if codes[point.len()..].iter().any(|code| *code != FILLER) {
            return wrong(format!("the code of row {ordinal} is not filled up"));
        }
        let stored = self.section(Section::Norms).get(row * 4..(row + 1) * 4).map(|norm| read!(norm, 0, f32));
        if stored != Some(norm as f32) {
            return Some(self.finding(Section::Norms, row * 4, format!("norm of row {ordinal}")));
        }
        None
    }

    fn finding(&self, section: Section, at: usize, problem: String) -> Finding {
        Finding { offset: (self.sections[section as usize - 1].start + at) as u64, problem }
    }

    fn wrong_blocks(&self) -> Vec<Finding> {
        let blocks = 0..self.section(Section::Checksums).len() / 4;
        let wrong = blocks.filter(|&block| !self.block_is_right(block));
        wrong
            .take(FINDINGS_MAX)
            .map(|block| Finding {
                offset: (block * BLOCK_BYTES) as u64,
                problem: "checksum of a block".into(),
            })
            .collect()
    }

    /// Ordinals by row id give strictly ascending ids, hence each ordinal and id once; norms and errors are numbers.
    fn wrong_rows(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut last = None;
        for (place, ordinal) in self.section(Section::ById).chunks_exact(4).enumerate() {
            let id = self.row_id(read!(ordinal, 0, u32));
            if id.is_none() || last.is_some() && id <= last {
                findings.push(self.finding(Section::ById, place * 4, format!("row map, entry {place}")));
            }
            last = id.or(last);
        }
        for section in [Section::Norms, Section::Errors, Section::SketchNorms] {
            for (row, value) in self.section(section).chunks_exact(4).enumerate() {
                let value = read!(value, 0, f32);
                let silent = section == Section::SketchNorms && value == SILENT;
                if !silent && (!value.is_finite() || value < 0.0) {
                    findings.push(self.finding(
                        section,
                        row * 4,
                        format!("{section:?} of row {row}: {value}"),
                    ));
                }
            }
        }
        findings
    }

    fn wrong_neighbours(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for row in 0..self.len() as u32 {
            let list = self.graph().neighbours(row);
            let count = list.iter().position(|&n| n == NO_ROW).unwrap_or(list.len());
            let none_after = list[count..].iter().all(|&n| n == NO_ROW);
            let in_range = list[..count].iter().all(|&n| (n as usize) < self.len() && n != row);
            if !(none_after && in_range) {
                let at = row as usize * size_of_val(&list);
                findings.push(self.finding(Section::Graph, at, format!("neighbours of row {row}")));
            }
        }
        findings
    }

    fn wrong_clusters(&self) -> Option<Finding> {
        let starts = self.section(Section::PivotStarts).chunks_exact(4).map(|start| read!(start, 0, u32));
        let starts: Vec<u32> = starts.collect();
        let ends = starts.first() == Some(&0) && starts.last() == Some(&(self.len() as u32));
        if !(ends && starts.is_sorted()) {
            return Some(self.finding(Section::PivotStarts, 0, "ranges of the pivots".into()));
        }
        let outside = self.pivot_rows().position(|row| row as usize >= self.len())?;
        Some(self.finding(Section::PivotRows, outside * 4, "a pivot is no row".into()))
    }

    /// How rows became sketches is told in numbers.
    fn wrong_sketches(&self) -> Option<Finding> {
        let told = !self.section(Section::SketchGrid).is_empty();
        (told && self.sketch().is_none())
            .then(|| self.finding(Section::SketchGrid, 0, "the grid of the sketches is none".into()))
    }

    fn unreachable(&self) -> Option<Finding> {
        let mut reached = vec![false; self.len()];
        let mut first = |row: u32| reached.get_mut(row as usize).is_some_and(|r| !std::mem::replace(r, true));
        let mut stack: Vec<u32> = self.pivot_rows().filter(|&row| first(row)).collect();
        while let Some(row) = stack.pop() {
            stack.extend(self.graph().neighbours(row).into_iter().filter(|&neighbour| first(neighbour)));
        }
        let count = reached.iter().filter(|&&reached| !reached).count();
        let row = reached.iter().position(|&reached| !reached)?;
        let problem = format!("{count} rows cannot be reached, the first is {row}");
        Some(self.finding(Section::Graph, row * 4 * crate::hnsw::DEGREE, problem))
    }
}
