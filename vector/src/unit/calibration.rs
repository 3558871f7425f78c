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

/// Recall by width, measured on rows held out of the build, for the nearest row, the nearest 10 and 100; in ascending order of
/// `k`, then `ef`. Empty for units that are always scanned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// The measurements.
    pub points: Vec<CalibrationPoint>,
}

/// Rows scored per unit of width where nothing was measured.
const SCORED_PER_WIDTH: f32 = 25.0;
const MARGIN: f32 = 0.25;
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

    /// The width that reaches `recall` for `k` rows: measured for 1, 10 and 100, in between interpolated, beyond in proportion. The
    /// widest measured, doubled, where none did.
    #[must_use]
    pub fn width(&self, k: usize, recall: f32) -> usize {
        // A part of the way to 1 above what is asked for covers the sampling error of the measurement.
        let wanted = recall + (1.0 - recall) * MARGIN;
        let measured = |depth: u32| {
            let enough = self.of(depth).find(|point| point.recall >= wanted);
            enough.map(|point| point.ef as usize).or(self.of(depth).last().map(|point| point.ef as usize * 2))
        };
        let (one, ten, hundred) = (measured(1), measured(10), measured(100));
        let width = match (ten, hundred) {
            (None, _) => k * WIDTH_PER_ROW,
            (Some(ten), _) if k <= 1 => one.unwrap_or(ten),
            (Some(ten), _) if k <= 10 => ten.max(one.unwrap_or(0)),
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
