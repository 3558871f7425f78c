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

/// What walks compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// Codes.
    #[default]
    Codes,
    /// Sketches; the rows they find are scored by their codes then.
    Sketches,
}

/// Recall by width, measured on rows held out of the build, for the nearest row, the nearest 10 and 100; in ascending order of
/// `k`, then `ef`. Empty for units that are always scanned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// Of the walks that were measured; others reach other recalls.
    pub compared: Compared,
    /// The measurements.
    pub points: Vec<CalibrationPoint>,
}

/// Rows scored per unit of width where nothing was measured.
const SCORED_PER_WIDTH: f32 = 25.0;
/// Part of the way from the recall asked for to 1.
const MARGIN: f32 = 0.25;
/// Widest walk a recall is extrapolated to.
const WIDTH_MAX: f32 = 1e6;
const POWER_MIN: f32 = 0.1;
/// The least width: narrower walks miss the whole answer of single queries, however many others have all of theirs.
const WIDTH_MIN: usize = 16;
/// Widths per row asked for where nothing was measured.
const WIDTH_PER_ROW: usize = 6;

impl Calibration {
    fn of(&self, k: u32) -> impl DoubleEndedIterator<Item = &CalibrationPoint> {
        self.points.iter().filter(move |point| point.k == k)
    }

    /// Recall of the nearest `k` at width `ef`; 0 when that was not measured, the last measured for wider ones.
    #[must_use]
    pub fn recall(&self, k: u32, ef: u32) -> f32 {
        self.of(k).take_while(|point| point.ef <= ef).last().map_or(0.0, |point| point.recall)
    }

    /// The width that reaches `recall` for `k` rows, at least 16: measured for 1, 10 and 100, in between interpolated, beyond in
    /// proportion.
    /// Where no measured width did, it is extrapolated, and may be so large that a scan is cheaper.
    #[must_use]
    pub fn width(&self, k: usize, recall: f32) -> usize {
        let (one, ten, hundred) =
            (self.reaching(1, recall), self.reaching(10, recall), self.reaching(100, recall));
        let width = match (ten, hundred) {
            (None, _) => k * WIDTH_PER_ROW,
            (Some(ten), _) if k <= 1 => one.unwrap_or(ten),
            (Some(ten), _) if k <= 10 => ten.max(one.unwrap_or(0)),
            (Some(ten), None) => ten * k / 10,
            (Some(ten), Some(hundred)) if k <= 100 => ten + hundred.saturating_sub(ten) * (k - 10) / 90,
            (_, Some(hundred)) => hundred * k / 100,
        };
        width.max(k).max(WIDTH_MIN)
    }

    /// The width that reaches `recall` for `k` rows; None when nothing was measured for `k`.
    fn reaching(&self, k: u32, recall: f32) -> Option<usize> {
        // A part of the way to 1 above what is asked for covers the sampling error of the measurement.
        let wanted = recall + (1.0 - recall) * MARGIN;
        if let Some(point) = self.of(k).find(|point| point.recall >= wanted) {
            return Some(point.ef as usize);
        }
        let last = self.of(k).last()?;
        let before = self.of(k).rev().nth(1).unwrap_or(last);
        // What is missed falls with a power of the width: a small one where the graph itself keeps rows apart.
        let missed = |point: &CalibrationPoint| (1.0 - point.recall).max(f32::MIN_POSITIVE);
        let power = (missed(before) / missed(last)).ln() / (last.ef as f32 / before.ef as f32).ln();
        let factor = (missed(last) / (1.0 - wanted).max(f32::MIN_POSITIVE)).powf(1.0 / power.max(POWER_MIN));
        Some((last.ef as f32 * factor.max(2.0)).min(WIDTH_MAX) as usize)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(points: &[(u32, u32, f32)]) -> Calibration {
        let point = |&(k, ef, recall)| CalibrationPoint { k, ef, recall, scored: 20.0 * ef as f32 };
        Calibration { points: points.iter().map(point).collect(), ..Calibration::default() }
    }

    #[test]
    fn widths_are_measured_between_and_beyond() {
        let measured = calibration(&[(1, 10, 0.999), (10, 16, 0.95), (10, 32, 0.999), (100, 128, 0.999)]);
        for (k, recall, width) in
            [(1, 0.99, 16), (5, 0.99, 32), (10, 0.9, 16), (10, 0.99, 32), (55, 0.99, 80)]
        {
            assert_eq!(measured.width(k, recall), width, "{k} {recall}");
        }
        assert_eq!(measured.width(200, 0.99), 256);
        assert_eq!(Calibration::default().width(10, 0.99), 60);
        assert_eq!(Calibration::default().width(1, 0.99), 16);
        // Half as much is missed at twice the width: four times the width for a quarter.
        let falling = calibration(&[(10, 64, 0.80), (10, 128, 0.90)]);
        assert!((450..580).contains(&falling.width(10, 1.0 - 0.025 / 0.75)), "{}", falling.width(10, 0.9667));
        let flat = calibration(&[(10, 64, 0.90), (10, 128, 0.90)]);
        assert_eq!(flat.width(10, 0.99), 1_000_000);
        assert_eq!(falling.width(10, 1.0), 1_000_000);
        // Nothing is claimed for a width that was not measured.
        assert_eq!(falling.recall(10, 1_000_000), 0.90);
    }
}
