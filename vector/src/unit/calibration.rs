//! What a unit knows about its own recall.

/// One measured width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationPoint {
    /// Rows asked for.
    pub k: u32,
    /// Width of the walk.
    pub ef: u32,
    /// Part of the exact answer that was found, mean over held-out rows.
    pub recall: f32,
    /// Rows scored per query.
    pub scored: f32,
}

/// Recall by width, measured on rows held out of the build: the nearest 10, and where the unit is large enough the nearest 100; in
/// ascending order of both. Empty for units that are always scanned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// The measurements.
    pub points: Vec<CalibrationPoint>,
}

/// Rows scored per unit of width where nothing was measured.
const SCORED_PER_WIDTH: f32 = 25.0;
/// Widths per row asked for where nothing was measured.
const WIDTH_PER_ROW: usize = 6;

impl Calibration {
    fn of(&self, k: u32) -> impl Iterator<Item = &CalibrationPoint> {
        self.points.iter().filter(move |point| point.k == k)
    }

    /// Recall of the nearest `k` at width `ef`; 0 when that was not measured, the last measured for wider ones.
    #[must_use]
    pub fn recall(&self, k: u32, ef: u32) -> f32 {
        self.of(k).take_while(|point| point.ef <= ef).last().map_or(0.0, |point| point.recall)
    }

    /// The width that reaches `recall` for `k` rows: measured for 10 and 100, in between interpolated, beyond in proportion. The
    /// widest measured, doubled, where none did.
    #[must_use]
    pub fn width(&self, k: usize, recall: f32) -> usize {
        let measured = |depth: u32| {
            let enough = self.of(depth).find(|point| point.recall >= recall);
            enough.map(|point| point.ef).or(self.of(depth).last().map(|point| point.ef * 2))
        };
        let width = match (measured(10).map(|ef| ef as usize), measured(100).map(|ef| ef as usize)) {
            (None, _) => k * WIDTH_PER_ROW,
            (Some(ten), _) if k <= 10 => ten,
            (Some(ten), None) => ten * k / 10,
            (Some(ten), Some(hundred)) if k <= 100 => ten + hundred.saturating_sub(ten) * (k - 10) / 90,
            (_, Some(hundred)) => hundred * k / 100,
        };
        width.max(k)
    }

    /// Rows a walk of that width scores.
    #[must_use]
    pub fn scored(&self, ef: usize) -> f32 {
        let below = self.points.iter().filter(|point| point.ef as usize <= ef).max_by_key(|point| point.ef);
        match below.or(self.points.first()) {
            Some(point) => point.scored * ef as f32 / point.ef as f32,
            None => SCORED_PER_WIDTH * ef as f32,
        }
    }
}
