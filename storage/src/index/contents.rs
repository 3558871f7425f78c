//! What stands in one index unit's file, for people who look into it.
//!
//! Owns: reading it alone, without its meta: sizes, how it was built, what it knows of its recall, and what is wrong in it. Changes nothing.

use bytes::Bytes;
use cairn_vector::unit::Unit;
use serde::Serialize;

use super::loaded::not_opened;
use crate::error::Result;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct UnitContents {
    /// Length of the file.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Components of its vectors.
    pub dim: u64,
    /// What distances are measured by.
    pub metric: String,
    /// Who chose the edges of its graph.
    pub builder: String,
    /// Seed of all choices.
    pub seed: u64,
    /// Recall that was asked for.
    pub target_recall: f32,
    /// Recall by width, as it was measured; empty for units that are always scanned.
    pub calibration: Vec<Measured>,
    /// Smallest and largest row id; None where that can't be told.
    pub row_ids: Option<(u64, u64)>,
    /// What is wrong in it.
    pub problems: Vec<UnitProblem>,
}

/// One measured width.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Rows asked for.
    pub k: u32,
    /// Width of the walk.
    pub ef: u32,
    /// Part of the exact answer that was found.
    pub recall: f32,
    /// Rows scored per query.
    pub scored: f32,
}

/// Something wrong in a unit.
#[derive(Clone, Debug, Serialize)]
pub struct UnitProblem {
    /// Byte of the file.
    pub offset: u64,
    /// What is wrong.
    pub problem: String,
}

impl UnitContents {
    /// Reads the file `what`.
    ///
    /// # Errors
    /// `Corrupt` when it can't be read as a unit at all, `Unsupported` when a newer Cairn wrote it.
    pub fn read(what: &str, bytes: &Bytes) -> Result<Self> {
        let unit = Unit::open(bytes.clone()).map_err(|error| not_opened(what, error))?;
        let problems: Vec<UnitProblem> = unit
            .verify()
            .into_iter()
            .map(|found| UnitProblem { offset: found.offset, problem: found.problem })
            .collect();
        let mut ids = unit.row_ids();
        let row_ids = match problems.is_empty() {
            true => ids.next().map(|first| (first, ids.next_back().unwrap_or(first))),
            false => None,
        };
        let (statistics, measured) = (unit.statistics(), &unit.calibration().points);
        Ok(Self {
            bytes: bytes.len() as u64,
            rows: unit.len() as u64,
            dim: unit.dim() as u64,
            metric: unit.metric().name().to_owned(),
            builder: format!("{:?}", statistics.builder).to_lowercase(),
            seed: statistics.seed,
            target_recall: statistics.target_recall,
            calibration: measured
                .iter()
                .map(|at| Measured { k: at.k, ef: at.ef, recall: at.recall, scored: at.scored })
                .collect(),
            row_ids,
            problems,
        })
    }
}
