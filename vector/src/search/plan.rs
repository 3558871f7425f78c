//! How a unit is searched: a pure function of numbers, so that EXPLAIN gives the same answer as the search.

use std::fmt;

/// What a plan is chosen by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Rows a walk of width 1 scores; a walk scores this times its width.
    pub scored_per_width: f32,
    /// Width that reaches the recall asked for when every row matches.
    pub width: usize,
}

/// Cost of scoring a row in a walk (a random access, a look at the visited rows, a place in the pool) over that of
/// scoring it in a scan; measured with `index_bench`.
pub(super) const WALK_OVER_SCAN: f32 = 3.0;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// No row matches.
    Nothing,
    /// All matching rows are the answer.
    All,
    /// Score every matching row.
    Scan,
    /// Walk the graph with a pool of `width`, keep the matching rows.
    Walk {
        /// Width of the pool.
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
    /// Cost of a walk, in scanned rows.
    pub walk_cost: f32,
}

/// The plan for the `k` nearest of `matches` among `rows` rows.
#[must_use]
pub fn plan(rows: usize, matches: usize, k: usize, costs: Costs) -> Plan {
    let selectivity = matches as f32 / rows.max(1) as f32;
    // A pool of the nearest rows holds a part of matching ones: it is made wider by the inverse of that part.
    let width = (costs.width as f32 / selectivity.max(f32::MIN_POSITIVE)).min(rows as f32).ceil() as usize;
    let walk_cost = costs.scored_per_width * width as f32 * WALK_OVER_SCAN;
    let scan_cost = matches as f32;
    let strategy = if matches == 0 || k == 0 {
        Strategy::Nothing
    } else if matches <= k {
        Strategy::All
    } else if scan_cost <= walk_cost {
        Strategy::Scan
    } else {
        Strategy::Walk { width }
    };
    Plan { strategy, rows, matches, k, scan_cost, walk_cost }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { strategy, rows, matches, k, scan_cost, walk_cost } = self;
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        let costs = Costs { scored_per_width: 25.0, width: 40 };
        let strategy = |rows, matches, k| plan(rows, matches, k, costs).strategy;
        assert_eq!(strategy(100_000, 0, 10), Strategy::Nothing);
        assert_eq!(strategy(100_000, 7, 10), Strategy::All);
        assert_eq!(strategy(100_000, 11, 10), Strategy::Scan);
        assert_eq!(strategy(100_000, 10_000, 10), Strategy::Scan);
        assert_eq!(strategy(100_000, 50_000, 10), Strategy::Walk { width: 80 });
        assert_eq!(strategy(100_000, 100_000, 10), Strategy::Walk { width: 40 });
        assert_eq!(strategy(1_000, 1_000, 10), Strategy::Scan);
        assert_eq!(strategy(0, 0, 10), Strategy::Nothing);
    }
}
