//! Numbers: remainders and divisions by name, buckets of a histogram, what a number is.
//!
//! Owns: functions of DuckDB and PostgreSQL that DataFusion has not. Does not own: operators (`arithmetic`, DataFusion).

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::Result;

use crate::function::{Call, Kind, Spec, booleans, integers, invalid, numbers};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Spec> {
    const TWO: &[&[Kind]] = &[&[Kind::Number, Kind::Number]];
    const WHOLE: &[&[Kind]] = &[&[Kind::Integer, Kind::Integer]];
    const ONE: &[&[Kind]] = &[&[Kind::Number]];
    vec![
        Spec::new(
            "mod(a, b)",
            &[&[Kind::Integer, Kind::Integer], &[Kind::Number, Kind::Number]],
            |types| types.first().cloned().unwrap_or(DataType::Null),
            remainder,
            "The remainder of a division, with the sign of a; a BIGINT of whole numbers, else a DOUBLE.",
            "SELECT mod(-5, 3)  -- -2",
        ),
        Spec::new(
            "div(a, b)",
            WHOLE,
            |_| DataType::Int64,
            |call| {
                let (left, right) = (call.integers(0)?, call.integers(1)?);
                integers(call, |row| {
                    let (Some(left), Some(right)) = (left.at(row), right.at(row)) else { return Ok(None) };
                    if right == 0 {
                        return Err(ArrowError::DivideByZero.into());
                    }
                    let overflow = || invalid("22003", format!("BIGINT out of range: div({left}, {right})"));
                    left.checked_div(right).map(Some).ok_or_else(overflow)
                })
            },
            "The quotient of whole numbers, cut off towards 0.",
            "SELECT div(-7, 2)  -- -3",
        ),
        Spec::new(
            "fdiv(a, b)",
            TWO,
            |_| DataType::Float64,
            |call| of_two(call, |left, right| (left / right).floor()),
            "The quotient, rounded down; a DOUBLE.",
            "SELECT fdiv(-5, 3)  -- -2.0",
        ),
        Spec::new(
            "fmod(a, b)",
            TWO,
            |_| DataType::Float64,
            |call| of_two(call, |left, right| left - right * (left / right).floor()),
            "The remainder that belongs to fdiv, with the sign of b; a DOUBLE.",
            "SELECT fmod(-5.5, 3)  -- 0.5",
        ),
        Spec::new(
            "even(x)",
            ONE,
            |_| DataType::Float64,
            |call| {
                let values = call.numbers(0)?;
                numbers(call, |row| Ok(values.at(row).map(even)))
            },
            "The next even number away from 0.",
            "SELECT even(2.1)  -- 4.0",
        ),
        Spec::new(
            "isinf(x)",
            ONE,
            |_| DataType::Boolean,
            |call| {
                let values = call.numbers(0)?;
                booleans(call, |row| Ok(values.at(row).map(f64::is_infinite)))
            },
            "Whether a number is infinite.",
            "SELECT isinf('inf'::DOUBLE)  -- true",
        ),
        Spec::new(
            "signbit(x)",
            ONE,
            |_| DataType::Boolean,
            |call| {
                let values = call.numbers(0)?;
                booleans(call, |row| Ok(values.at(row).map(f64::is_sign_negative)))
            },
            "Whether a number has a minus, which 0 may have, too.",
            "SELECT signbit(-1)  -- true",
        ),
        Spec::new(
            "xor(a, b)",
            WHOLE,
            |_| DataType::Int64,
            |call| {
                let (left, right) = (call.integers(0)?, call.integers(1)?);
                integers(call, |row| Ok(left.at(row).zip(right.at(row)).map(|(left, right)| left ^ right)))
            },
            "The bits that one of two whole numbers has.",
            "SELECT xor(5, 1)  -- 4",
        ),
        Spec::new(
            "bit_not(a)",
            &[&[Kind::Integer]],
            |_| DataType::Int64,
            |call| {
                let values = call.integers(0)?;
                integers(call, |row| Ok(values.at(row).map(|value| !value)))
            },
            "The bits that a whole number, a BIGINT, has not; also written ~a.",
            "SELECT ~5  -- -6",
        ),
        Spec::new(
            "width_bucket(x, low, high, count)",
            &[&[Kind::Number, Kind::Number, Kind::Number, Kind::Integer]],
            |_| DataType::Int64,
            width_bucket,
            "In which of count equal buckets from low to high x is: 1 to count, 0 below and count + 1 above. high may be less than low. As in PostgreSQL.",
            "SELECT width_bucket(5.35, 0.024, 10.06, 5)  -- 3",
        ),
    ]
}

fn of_two(call: &Call<'_>, of: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) = (call.numbers(0)?, call.numbers(1)?);
    numbers(call, |row| Ok(left.at(row).zip(right.at(row)).map(|(left, right)| of(left, right))))
}

fn remainder(call: &Call<'_>) -> Result<ArrayRef> {
    if *call.returns() == DataType::Float64 {
        return of_two(call, |left, right| left % right);
    }
    let (left, right) = (call.integers(0)?, call.integers(1)?);
    integers(call, |row| {
        let (Some(left), Some(right)) = (left.at(row), right.at(row)) else { return Ok(None) };
        if right == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        // The one that overflows has no rest.
        Ok(Some(left.checked_rem(right).unwrap_or(0)))
    })
}

fn even(x: f64) -> f64 {
    let up = (x.abs() / 2.0).ceil() * 2.0;
    up.copysign(x)
}

fn width_bucket(call: &Call<'_>) -> Result<ArrayRef> {
    let (values, counts) = (call.numbers(0)?, call.integers(3)?);
    let (lows, highs) = (call.numbers(1)?, call.numbers(2)?);
    integers(call, |row| {
        let (Some(x), Some(low), Some(high), Some(count)) =
            (values.at(row), lows.at(row), highs.at(row), counts.at(row))
        else {
            return Ok(None);
        };
        bucket(x, low, high, count).map(Some)
    })
}

fn bucket(x: f64, low: f64, high: f64, count: i64) -> Result<i64> {
    let refused = |why: &str| Err(invalid("2201G", format!("width_bucket takes {why}")));
    if count <= 0 || count > 1 << 52 {
        return refused("a count above 0");
    }
    if x.is_nan() || !low.is_finite() || !high.is_finite() || low == high {
        return refused("two different bounds that are finite, and a number");
    }
    // Turned around, the same way up.
    let (x, low, high) = if low < high { (x, low, high) } else { (-x, -low, -high) };
    Ok(if x < low {
        0
    } else if x >= high {
        count + 1
    } else {
        // Halves, so that the span of two large numbers is finite.
        let part = (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        (((part * count as f64).floor() as i64) + 1).clamp(1, count)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buckets_are_those_of_postgres() {
        let of = |x, low, high, count| bucket(x, low, high, count).unwrap();
        assert_eq!(of(5.35, 0.024, 10.06, 5), 3);
        assert_eq!((of(-1.0, 0.0, 10.0, 5), of(10.0, 0.0, 10.0, 5), of(0.0, 0.0, 10.0, 5)), (0, 6, 1));
        assert_eq!((of(5.0, 10.0, 0.0, 4), of(11.0, 10.0, 0.0, 4), of(0.0, 10.0, 0.0, 4)), (3, 0, 5));
        assert_eq!(of(0.0, -f64::MAX, f64::MAX, 2), 2);
        assert_eq!((of(f64::INFINITY, 0.0, 1.0, 3), of(f64::NEG_INFINITY, 0.0, 1.0, 3)), (4, 0));
        for (low, high, count) in [(0.0, 0.0, 1), (0.0, 1.0, 0), (0.0, f64::INFINITY, 1), (0.0, f64::NAN, 1)]
        {
            assert!(bucket(0.5, low, high, count).is_err());
        }
    }

    #[test]
    fn even_numbers_are_away_from_zero() {
        assert_eq!([2.1, -2.1, 4.0, 0.0].map(even), [4.0, -4.0, 4.0, 0.0]);
    }
}
