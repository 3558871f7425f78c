//! Rounding of a query to codes: plain loops that every instruction set compiles for itself.
//!
//! Owns: the loops. Does not own: the grid and what is made of the sums (`quantize`). Sums are kept in sixteen lanes added up in
//! order, so they have the same bits on every machine.

/// Partial sums kept side by side.
pub(crate) const LANES: usize = 16;
/// Adding it to an f32 below 2²² rounds to the nearest integer, which is then in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// What rounding left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rounded {
    /// Sum of squared differences between components and codes.
    pub(crate) squares: f32,
    /// Sum of the signed codes.
    pub(crate) sum: i32,
    /// Sum of their squares.
    pub(crate) squared_codes: i32,
}

/// The largest `|point - (low + offset)|`.
#[inline(always)]
pub(super) fn farthest(point: &[f32], low: &[f32], offset: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut add = |point: &[f32], low: &[f32]| {
        for i in 0..point.len() {
            lanes[i] = lanes[i].max((point[i] - (low[i] + offset)).abs());
        }
    };
    let ((points, last), (lows, last_low)) = (point.as_chunks::<LANES>(), low.as_chunks::<LANES>());
    points.iter().zip(lows).for_each(|(point, low)| add(point, low));
    add(last, last_low);
    lanes.iter().fold(0.0_f32, |far, &lane| far.max(lane))
}

/// Writes the signed codes of `point - (low + offset)` in steps of `unit`.
#[inline(always)]
pub(super) fn signed(point: &[f32], low: &[f32], offset: f32, unit: f32, codes: &mut [u8]) -> Rounded {
    let inverse = 1.0 / unit;
    let (mut squares, mut sums, mut squared) = ([0.0_f32; LANES], [0_i32; LANES], [0_i32; LANES]);
    let mut add = |point: &[f32], low: &[f32], codes: &mut [u8]| {
        for i in 0..point.len() {
            let centred = point[i] - (low[i] + offset);
            let rounded = (centred * inverse).clamp(-128.0, 127.0) + ROUND;
            let error = centred - unit * (rounded - ROUND);
            squares[i] += error * error;
            codes[i] = rounded.to_bits() as u8;
            let code = i32::from(codes[i].cast_signed());
            sums[i] += code;
            squared[i] += code * code;
        }
    };
    let ((points, last), (lows, last_low)) = (point.as_chunks::<LANES>(), low.as_chunks::<LANES>());
    let (whole, rest) = codes.split_at_mut(points.len() * LANES);
    for ((point, low), codes) in points.iter().zip(lows).zip(whole.as_chunks_mut::<LANES>().0) {
        add(point, low, codes);
    }
    add(last, last_low, rest);
    Rounded { squares: squares.iter().sum(), sum: sums.iter().sum(), squared_codes: squared.iter().sum() }
}
