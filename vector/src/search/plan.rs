//! How a unit is searched: a pure function of numbers, so that EXPLAIN gives the same answer as the search.

use std::fmt;

use super::walk::FOUND;
use crate::quantize;
use crate::unit::Compared;

/// What a plan is chosen by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Rows a walk of width 1 scores; a walk scores this times its width.
    pub scored_per_width: f32,
    /// Width that reaches the recall asked for when every row matches.
    pub width: usize,
    /// What a scan spends on a row, over scoring its whole codes.
    pub scan_per_row: f32,
    /// What a walk spends, in the same measure.
    pub walk: WalkCosts,
}

/// What a walk spends, over scoring the whole codes of one row in a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WalkCosts {
    /// Before it begins.
    pub start: f32,
    /// On each row it scores.
    pub per_row: f32,
    /// On each row it found, to score it once more.
    pub per_width: f32,
}

/// Cost of scoring the codes of a row in a walk (a random access, a look at the visited rows, a place in the pool) over that of
/// scoring it in a scan; the same without the walk's own part of it; measured with `index_bench`.
const WALK_OVER_SCAN: f32 = 3.0;
const GATHER_OVER_SCAN: f32 = 1.5;
/// Bytes of codes whose scoring in a walk takes as long as the walk's own part.
const WALK_BYTES: f32 = 400.0;
/// Cost of projecting a query, per byte of codes.
const PROJECTION: f32 = 0.01;

impl WalkCosts {
    /// Of a walk that compares these in a unit with codes of `stride` bytes.
    #[must_use]
    pub fn new(compared: Compared, stride: usize) -> Self {
        let stride = stride as f32;
        match compared {
            Compared::Codes => Self { start: 0.0, per_row: WALK_OVER_SCAN, per_width: 0.0 },
            Compared::Sketches => Self {
                start: PROJECTION * stride,
                per_row: WALK_OVER_SCAN * (WALK_BYTES + quantize::WIDTH as f32) / (WALK_BYTES + stride),
                per_width: GATHER_OVER_SCAN,
            },
        }
    }

    /// Of a walk of this width that scores so many rows.
    #[must_use]
    pub fn total(&self, width: usize, scored: f32) -> f32 {
        self.start + self.per_row * scored + self.per_width * FOUND as f32 * width as f32
    }
}

/// Bytes of codes whose scoring takes as long as a look at a sketch, and those that stand for what each row takes whatever its
/// length; measured with `index_bench`.
const SKETCH_BYTES: f32 = 250.0;
const ROW_BYTES: f32 = 300.0;

/// See [`Costs::scan_per_row`]: sketches come before the `stride` bytes of codes, which `left` of the rows need.
pub(super) fn scan_per_row(stride: usize, left: f32) -> f32 {
    (SKETCH_BYTES / (ROW_BYTES + stride as f32) + left).min(1.0)
}

/// Times that a scan must cost what a walk among matching rows does for the rows near the query to be looked at first.
const PROBE_FROM: f32 = 1.5;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// No row matches.
    Nothing,
    /// All matching rows are the answer.
    All,
    /// Score every matching row.
    Scan,
    /// Walk the graph until the `width` nearest matching rows are found.
    Walk {
        /// How many rows the walk is to find.
        width: usize,
    },
    /// Begin such a walk and go on with it where the rows near the query match more often than others; else scan.
    Probe {
        /// How many rows the walk is to find.
        width: usize,
    },
}

/// A strategy and what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How.
    pub strategy: Strategy,
    /// Rows of the unit.
    pub rows: usize,
    /// Those that match.
    pub matches: usize,
    /// Rows asked for.
    pub k: usize,
    /// Cost of a scan, in scanned rows.
    pub scan_cost: f32,
    /// Cost of a walk, in scanned rows, when rows near the query match as often as others.
    pub walk_cost: f32,
    /// Cost of a walk, in scanned rows, when all rows near the query match.
    pub plain_walk_cost: f32,
}

/// The plan for the `k` nearest of `matches` among `rows` rows.
#[must_use]
pub fn plan(rows: usize, matches: usize, k: usize, costs: Costs) -> Plan {
    let selectivity = matches as f32 / rows.max(1) as f32;
    // A walk passes rows that do not match: as many more as there are of them.
    let plain_walk_cost = costs.walk.total(costs.width, costs.scored_per_width * costs.width as f32);
    let walk_cost = plain_walk_cost / selectivity.max(f32::MIN_POSITIVE);
    let scan_cost = matches as f32 * costs.scan_per_row;
    let width = costs.width;
    let strategy = if matches == 0 || k == 0 {
        Strategy::Nothing
    } else if matches <= k {
        Strategy::All
    } else if scan_cost > walk_cost {
        Strategy::Walk { width }
    } else if matches < rows && scan_cost > PROBE_FROM * plain_walk_cost {
        Strategy::Probe { width }
    } else {
        Strategy::Scan
    };
    Plan { strategy, rows, matches, k, scan_cost, walk_cost, plain_walk_cost }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { strategy, rows, matches, k, scan_cost, walk_cost, plain_walk_cost } = self;
        match strategy {
            Strategy::Nothing => write!(f, "nothing: {matches} of {rows} rows match, {k} wanted"),
            Strategy::All => write!(f, "all {matches} matching rows: not more than the {k} wanted"),
            Strategy::Scan => {
                write!(f, "scan of {matches} of {rows} rows: cost {scan_cost:.0}, a walk {walk_cost:.0}")
            }
            Strategy::Walk { width } => write!(
                f,
                "walk of width {width}, {matches} of {rows} rows match: cost {walk_cost:.0}, a scan {scan_cost:.0}"
            ),
            Strategy::Probe { width } => write!(
                f,
                "probe of width {width}, {matches} of {rows} rows match: cost of a walk {plain_walk_cost:.0} to {walk_cost:.0}, a scan {scan_cost:.0}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        let walk = WalkCosts::new(Compared::Codes, 128);
        let costs = Costs { scored_per_width: 25.0, width: 40, scan_per_row: 1.0, walk };
        let strategy = |rows, matches, k| plan(rows, matches, k, costs).strategy;
        assert_eq!(strategy(100_000, 0, 10), Strategy::Nothing);
        assert_eq!(strategy(100_000, 7, 10), Strategy::All);
        assert_eq!(strategy(100_000, 11, 10), Strategy::Scan);
        assert_eq!(strategy(100_000, 4_000, 10), Strategy::Scan);
        assert_eq!(strategy(100_000, 10_000, 10), Strategy::Probe { width: 40 });
        assert_eq!(strategy(100_000, 50_000, 10), Strategy::Walk { width: 40 });
        assert_eq!(strategy(100_000, 100_000, 10), Strategy::Walk { width: 40 });
        assert_eq!(strategy(1_000, 1_000, 10), Strategy::Scan);
        assert_eq!(strategy(0, 0, 10), Strategy::Nothing);
        let sketched = Costs { scan_per_row: scan_per_row(832, 0.05), ..costs };
        assert_eq!(plan(100_000, 6_000, 10, sketched).strategy, Strategy::Scan);
    }
}
