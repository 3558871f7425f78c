//! Which Parquet encoding a column gets, from what its first rows look like.
//!
//! Owns: the choice, a pure function of a profile and the sampled values. Does not own: writing (`writer`).
//! Measured reasons (TPC-H SF1 on DataFusion 55): deltas on high-cardinality integers and wide decimals and plain
//! long strings, with dictionaries kept for the rest, read 36 % faster and are 15 % smaller than dictionaries
//! everywhere; deltas on dates and small decimals are slower than their dictionaries.
//!
//! | column | encoding |
//! |---|---|
//! | few distinct values, dictionary within [`DICTIONARY_BYTES_MAX`] | dictionary |
//! | other integers, DATE, TIME, TIMESTAMP, DECIMAL up to 18 digits | DELTA_BINARY_PACKED |
//! | … whose neighbours differ by 2^40 and more (hashes, random ids) | plain |
//! | other TEXT, BYTEA, JSON | plain, in small pages, so that one row costs little |
//! | other REAL, DOUBLE, DECIMAL above 18 digits | plain |
//! | VECTOR | plain, uncompressed |
//! | BOOLEAN, members of lists and structs | Parquet's defaults |

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit};

use super::profile::ColumnProfile;
use crate::schema::ColumnType;

/// Largest dictionary of one column chunk: every point read decodes it whole, and it should fit the L2 cache.
pub(crate) const DICTIONARY_BYTES_MAX: usize = 128 * 1024;

/// Rows per distinct value from which a dictionary pays.
const ROWS_PER_VALUE: u64 = 16;

/// Average bits of neighbours' differences above which deltas lose to plain values.
const DELTA_BITS_MAX: u32 = 40;

/// How one column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnEncoding {
    Dictionary,
    /// DELTA_BINARY_PACKED; with the average bits of neighbours' differences.
    Delta {
        bits: u32,
    },
    Plain,
    PlainBytes,
    /// Left to the Parquet writer.
    Default,
}

/// Chooses for a column of `column_type` from its profile over the `sample`d first rows.
pub(crate) fn choose(
    column_type: &ColumnType,
    profile: &ColumnProfile,
    sample: &[ArrayRef],
) -> ColumnEncoding {
    let values = profile.rows - profile.null_count;
    let distinct = profile.distinct();
    let repeats = distinct.saturating_mul(ROWS_PER_VALUE) <= values || distinct <= 16;
    match column_type {
        ColumnType::Vector(_) => ColumnEncoding::Plain,
        ColumnType::Boolean | ColumnType::List(_) | ColumnType::Struct(_) => ColumnEncoding::Default,
        ColumnType::Text | ColumnType::Json | ColumnType::Bytea => {
            let average = profile.memory_bytes / profile.rows.max(1);
            // Text gains more from a dictionary than numbers do: fewer repeats are enough.
            let pays = distinct.saturating_mul(ROWS_PER_VALUE / 4) <= values || distinct <= 16;
            if pays && distinct.saturating_mul(average + 4) <= DICTIONARY_BYTES_MAX as u64 {
                ColumnEncoding::Dictionary
            } else {
                ColumnEncoding::PlainBytes
            }
        }
        ColumnType::Float32 | ColumnType::Float64 => {
            if_dictionary(repeats, distinct, 8, ColumnEncoding::Plain)
        }
        ColumnType::Decimal { precision, .. } if *precision > 18 => {
            if_dictionary(repeats, distinct, 16, ColumnEncoding::Plain)
        }
        _ => {
            let bits = delta_bits(sample);
            let other =
                if bits > DELTA_BITS_MAX { ColumnEncoding::Plain } else { ColumnEncoding::Delta { bits } };
            if_dictionary(repeats, distinct, 8, other)
        }
    }
}

fn if_dictionary(repeats: bool, distinct: u64, width: u64, other: ColumnEncoding) -> ColumnEncoding {
    if repeats && distinct * width <= DICTIONARY_BYTES_MAX as u64 / 2 {
        ColumnEncoding::Dictionary
    } else {
        other
    }
}

/// Average bits of the differences between neighbouring values.
fn delta_bits(sample: &[ArrayRef]) -> u32 {
    let (mut bits, mut count) = (0_u64, 0_u64);
    let mut last: Option<i64> = None;
    let mut see = |value: i64| {
        if let Some(last) = last {
            bits += u64::from(64 - value.wrapping_sub(last).unsigned_abs().leading_zeros());
            count += 1;
        }
        last = Some(value);
    };
    for array in sample {
        each_integer(array, &mut see);
    }
    (bits / count.max(1)) as u32
}

fn each_integer(array: &ArrayRef, see: &mut impl FnMut(i64)) {
    use arrow::datatypes as t;
    macro_rules! each {
        ($($pattern:pat => $arrow:ty),* $(,)?) => {
            match array.data_type() {
                $($pattern => array.as_primitive::<$arrow>().iter().flatten().for_each(|v| see(v as i64)),)*
                _ => {}
            }
        };
    }
    each!(
        DataType::Int8 => t::Int8Type,
        DataType::Int16 => t::Int16Type,
        DataType::Int32 => t::Int32Type,
        DataType::Int64 => t::Int64Type,
        DataType::UInt8 => t::UInt8Type,
        DataType::UInt16 => t::UInt16Type,
        DataType::UInt32 => t::UInt32Type,
        DataType::UInt64 => t::UInt64Type,
        DataType::Date32 => t::Date32Type,
        DataType::Time64(TimeUnit::Microsecond) => t::Time64MicrosecondType,
        DataType::Timestamp(TimeUnit::Microsecond, _) => t::TimestampMicrosecondType,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => t::TimestampNanosecondType,
        DataType::Decimal128(_, _) => t::Decimal128Type,
    );
}
