//! Which of the numbers a quantile is, or between which two it lies.
//!
//! Owns: their order, in which each NaN is the greatest, the places of fractions and the value between two numbers, as PostgreSQL has them. Does not own:
//! where the numbers are kept (`kept`).

use std::cmp::Ordering;

use datafusion::arrow::datatypes::{ArrowNativeTypeOp, ArrowPrimitiveType, Float32Type, Float64Type};

/// Fractions for which each place is looked for by itself; for more, the numbers are sorted.
const FEW: usize = 8;

/// REAL or DOUBLE.
pub(super) trait Number: ArrowNativeTypeOp {
    /// What a column has them in.
    type Column: ArrowPrimitiveType<Native = Self>;

    /// How it stands to another one. Both are plain.
    fn order(&self, other: &Self) -> Ordering;
    /// The same, and of NaN that which is above every number: that of a division is below.
    fn plain(self) -> Self;
    fn wide(self) -> f64;
    fn narrow(wide: f64) -> Self;
}

impl Number for f64 {
    type Column = Float64Type;

    fn order(&self, other: &Self) -> Ordering {
        self.total_cmp(other)
    }

    fn plain(self) -> Self {
        if self.is_nan() { self.abs() } else { self }
    }

    fn wide(self) -> f64 {
        self
    }

    fn narrow(wide: f64) -> Self {
        wide
    }
}

impl Number for f32 {
    type Column = Float32Type;

    fn order(&self, other: &Self) -> Ordering {
        self.total_cmp(other)
    }

    fn plain(self) -> Self {
        if self.is_nan() { self.abs() } else { self }
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn narrow(wide: f64) -> Self {
        wide as Self
    }
}

/// Whether they count as one where only different numbers do.
pub(super) fn is_same<N: Number>(a: N, b: N) -> bool {
    a == b || (a.wide().is_nan() && b.wide().is_nan())
}

/// What is asked of the numbers.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Each from 0 to 1.
    fractions: Vec<f64>,
    /// Places in `fractions`, that of the least number first.
    in_order: Vec<usize>,
    /// Whether the answer is a list.
    pub(super) is_list: bool,
    /// Whether the greatest number is the first.
    from_above: bool,
}

impl Asked {
    pub(super) fn new(fractions: Vec<f64>, is_list: bool, from_above: bool) -> Self {
        let mut in_order: Vec<usize> = (0..fractions.len()).collect();
        in_order.sort_by(|a, b| fractions[*a].total_cmp(&fractions[*b]));
        if from_above {
            in_order.reverse();
        }
        Self { fractions, in_order, is_list, from_above }
    }

    /// How many quantiles there are.
    pub(super) fn len(&self) -> usize {
        self.fractions.len()
    }

    /// Bytes of it, beside its own.
    pub(super) fn size(&self) -> usize {
        self.fractions.capacity() * size_of::<f64>() + self.in_order.capacity() * size_of::<usize>()
    }

    /// Puts the quantiles of plain `numbers` behind `made`, and the numbers into another order; nothing of no numbers.
    pub(super) fn of<N: Number>(&self, numbers: &mut [N], made: &mut Vec<N>) {
        if self.fractions.len() > FEW {
            numbers.sort_unstable_by(N::order);
            return self.of_sorted(numbers, made);
        }
        if numbers.is_empty() {
            return;
        }
        let (first, all) = (made.len(), numbers.len());
        made.resize(first + self.fractions.len(), N::default());
        // Those before it are not above any behind it.
        let mut settled = 0;
        for at in &self.in_order {
            let place = self.place(self.fractions[*at], all);
            let (_, low, above) =
                numbers[settled..].select_nth_unstable_by(place.low.saturating_sub(settled), N::order);
            let low = *low;
            let high = match place.share > 0.0 {
                true => above.iter().copied().min_by(N::order).unwrap_or(low),
                false => low,
            };
            made[first + at] = place.value(low, high);
            settled = place.low;
        }
    }

    /// Puts the quantiles of plain numbers in their order behind `made`; nothing of no numbers.
    pub(super) fn of_sorted<N: Number>(&self, sorted: &[N], made: &mut Vec<N>) {
        for fraction in &self.fractions {
            let place = self.place(*fraction, sorted.len());
            if let Some(low) = sorted.get(place.low) {
                let high = sorted.get(place.low + 1).unwrap_or(low);
                made.push(place.value(*low, *high));
            }
        }
    }

    fn place(&self, fraction: f64, numbers: usize) -> Place {
        let last = numbers.saturating_sub(1);
        let exact = fraction * last as f64;
        let share = exact - exact.floor();
        let before = (exact.floor() as usize).min(last);
        let low = match (self.from_above, share > 0.0) {
            (false, _) => before,
            (true, false) => last - before,
            (true, true) => last.saturating_sub(before + 1),
        };
        Place { low, share, from_above: self.from_above }
    }
}

/// Where a quantile is among sorted numbers.
#[derive(Debug)]
struct Place {
    /// That of the number, or of the lesser of two.
    low: usize,
    /// How far it is from the first of two to the second; 0: it is the number at `low`.
    share: f64,
    /// Whether the greater of two is the first.
    from_above: bool,
}

impl Place {
    fn value<N: Number>(&self, low: N, high: N) -> N {
        if self.share == 0.0 {
            return low;
        }
        let (first, second) = if self.from_above { (high, low) } else { (low, high) };
        N::narrow(between(first.wide(), second.wide(), self.share))
    }
}

/// The number that is `share` of the way from one to another, more than 0 and less than 1 of it.
fn between(first: f64, second: f64, share: f64) -> f64 {
    // Infinities, too, which have no distance.
    if first == second {
        return first;
    }
    let far = second - first;
    match far.is_finite() {
        true => first + share * far,
        // A distance larger than any number, or one from an infinity.
        false => first * (1.0 - share) + second * share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn of(fractions: &[f64], from_above: bool, numbers: &[f64]) -> Vec<f64> {
        let asked = Asked::new(fractions.to_vec(), true, from_above);
        let (mut made, mut of_sorted) = (Vec::new(), Vec::new());
        let mut numbers: Vec<f64> = numbers.iter().map(|number| number.plain()).collect();
        asked.of(&mut numbers, &mut made);
        numbers.sort_by(f64::order);
        asked.of_sorted(&numbers, &mut of_sorted);
        // In bits: NaN is itself.
        let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&made), bits(&of_sorted), "{fractions:?} of {numbers:?}");
        made
    }

    #[test]
    fn quantiles_are_those_of_postgresql() {
        let numbers = [12.5, 0.75, 5.0, 10.0, 2.5];
        assert_eq!(of(&[0.3], false, &numbers), [3.0]);
        assert_eq!(of(&[0.9, 0.0, 0.5, 1.0, 0.3], false, &numbers), [11.5, 0.75, 5.0, 12.5, 3.0]);
        assert_eq!(of(&[0.3, 0.0, 1.0, 0.5], true, &numbers), [9.0, 12.5, 0.75, 5.0]);
        assert_eq!(of(&[0.7], true, &numbers), [3.000_000_000_000_000_4]);
        assert_eq!(of(&[0.3], false, &[1.0, 2.0]), [1.3]);
        assert_eq!(of(&[0.3, 0.3], false, &[7.0]), [7.0, 7.0]);
        assert_eq!(of(&[], false, &numbers), [] as [f64; 0]);
        assert_eq!(of(&[0.5], false, &[]), [] as [f64; 0]);
    }

    #[test]
    fn many_fractions_are_as_few() {
        let numbers: Vec<f64> = (0..101).rev().map(f64::from).collect();
        let fractions: Vec<f64> =
            [7_i32, 99, 0, 50, 100, 50, 1, 33, 66, 12, 98].map(|n| f64::from(n) / 100.0).into();
        for from_above in [false, true] {
            let each: Vec<f64> =
                fractions.iter().flat_map(|fraction| of(&[*fraction], from_above, &numbers)).collect();
            assert_eq!(of(&fractions, from_above, &numbers), each);
            assert_eq!(of(&fractions[..6], from_above, &numbers), each[..6]);
        }
    }

    #[test]
    fn infinities_and_nan_stay_where_they_are() {
        for (numbers, median) in [
            ([INF, INF], INF),
            ([-INF, -INF], -INF),
            ([1.0, INF], INF),
            ([-INF, 1.0], -INF),
            ([1.7e308, 1.7e308], 1.7e308),
            ([-1.7e308, 1.7e308], 0.0),
        ] {
            assert_eq!(of(&[0.5], false, &numbers), [median], "{numbers:?}");
            assert_eq!(of(&[0.5], true, &numbers), [median], "{numbers:?}");
        }
        assert!(of(&[0.5], false, &[-INF, INF])[0].is_nan());
        // NaN is the greatest, whatever its sign.
        for nan in [f64::NAN, -f64::NAN] {
            assert_eq!(of(&[0.0, 0.5], false, &[2.0, nan, 1.0]), [1.0, 2.0]);
            assert!(of(&[1.0], false, &[2.0, nan, 1.0])[0].is_nan());
        }
        assert_eq!(f32::narrow(between(f64::from(f32::MIN), f64::from(f32::MAX), 0.5)), 0.0);
    }
}
