//! What a segment's writer learns of each column while rows pass: NULLs, NaN, distinct values, memory.
//!
//! Owns: one pass per column and batch. Does not own: bounds (taken from Parquet's own statistics, `bounds`) and
//! what follows for encodings (`encoding`).

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, ByteViewType, DataType};

/// Registers of the sketch: 2048, about 2.3 % error (Flajolet et al., "HyperLogLog", 2007).
const REGISTER_BITS: u32 = 11;

/// Estimates how many distinct values were added.
#[derive(Clone, Debug)]
pub(crate) struct DistinctSketch {
    registers: Vec<u8>,
    last: u64,
}

impl DistinctSketch {
    pub(crate) fn new() -> Self {
        Self { registers: vec![0; 1 << REGISTER_BITS], last: 0 }
    }

    /// Adds a value by its bits; equal neighbours cost nothing.
    pub(crate) fn add(&mut self, bits: u64) {
        // The register of a repeated value is set already; 0 is the start value and goes through.
        if bits == self.last && bits != 0 {
            return;
        }
        self.last = bits;
        let folded = u128::from(bits ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f_u128;
        self.add_hash((folded >> 64) as u64 ^ folded as u64);
    }

    fn add_hash(&mut self, hash: u64) {
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xe703_7ed1_a0b4_28db);
        let hash = hash ^ (hash >> 29);
        let register = (hash >> (64 - REGISTER_BITS)) as usize;
        let rank = ((hash << REGISTER_BITS) | 1 << (REGISTER_BITS - 1)).leading_zeros() as u8 + 1;
        if let Some(seen) = self.registers.get_mut(register)
            && *seen < rank
        {
            *seen = rank;
        }
    }

    /// The estimate; never above `values`, the number of values added.
    pub(crate) fn estimate(&self, values: u64) -> u64 {
        let m = self.registers.len() as f64;
        let sum: f64 = self.registers.iter().map(|&r| (-f64::from(r)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.registers.iter().filter(|&&r| r == 0).count();
        let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
        (estimate.round() as u64).min(values)
    }
}

/// A native value's bits, for the sketch.
trait Bits: Copy {
    fn bits(self) -> u64;
    fn is_nan(self) -> bool {
        false
    }
}

macro_rules! bits {
    ($($native:ty),*) => { $(impl Bits for $native { fn bits(self) -> u64 { self as u64 } })* };
}
bits!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Bits for i128 {
    fn bits(self) -> u64 {
        self as u64 ^ ((self >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Bits for f32 {
    fn bits(self) -> u64 {
        u64::from((self + 0.0).to_bits())
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

impl Bits for f64 {
    fn bits(self) -> u64 {
        (self + 0.0).to_bits()
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

/// What is known of one column so far.
#[derive(Clone, Debug)]
pub(crate) struct ColumnProfile {
    pub(crate) rows: u64,
    pub(crate) null_count: u64,
    pub(crate) nan: bool,
    pub(crate) memory_bytes: u64,
    sketch: DistinctSketch,
    /// Whether the type is one whose distinct values are counted.
    counted: bool,
}

impl ColumnProfile {
    pub(crate) fn new() -> Self {
        Self {
            rows: 0,
            null_count: 0,
            nan: false,
            memory_bytes: 0,
            sketch: DistinctSketch::new(),
            counted: true,
        }
    }

    /// Estimated distinct values, 0 when not known.
    pub(crate) fn distinct(&self) -> u64 {
        if self.counted { self.sketch.estimate(self.rows - self.null_count) } else { 0 }
    }

    pub(crate) fn observe(&mut self, array: &ArrayRef) {
        self.rows += array.len() as u64;
        self.null_count += array.null_count() as u64;
        self.memory_bytes += array.null_count().min(1) as u64 * (array.len() as u64 / 8);
        match array.data_type() {
            DataType::Utf8View => self.observe_views(array.as_string_view()),
            DataType::BinaryView => self.observe_views(array.as_binary_view()),
            DataType::Boolean => {
                self.memory_bytes += array.len() as u64 / 8;
                let values = array.as_boolean();
                let trues = values.true_count();
                if trues > 0 {
                    self.sketch.add(1);
                }
                if trues + array.null_count() < array.len() {
                    self.sketch.add(2);
                }
            }
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
            | DataType::Decimal128(_, _) => self.observe_fixed(array),
            _ => {
                self.counted = false;
                self.memory_bytes += array.to_data().get_slice_memory_size().unwrap_or(0) as u64;
            }
        }
    }

    fn observe_fixed(&mut self, array: &ArrayRef) {
        use arrow::datatypes as t;
        macro_rules! each {
            ($($pattern:pat => $arrow:ty),* $(,)?) => {
                match array.data_type() {
                    $($pattern => self.observe_values(array.as_primitive::<$arrow>()),)*
                    _ => self.counted = false,
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
            DataType::Float32 => t::Float32Type,
            DataType::Float64 => t::Float64Type,
            DataType::Date32 => t::Date32Type,
            DataType::Time64(t::TimeUnit::Microsecond) => t::Time64MicrosecondType,
            DataType::Timestamp(t::TimeUnit::Microsecond, _) => t::TimestampMicrosecondType,
            DataType::Timestamp(t::TimeUnit::Nanosecond, _) => t::TimestampNanosecondType,
            DataType::Decimal128(_, _) => t::Decimal128Type,
        );
    }

    fn observe_values<T: ArrowPrimitiveType>(&mut self, array: &PrimitiveArray<T>)
    where
        T::Native: Bits,
    {
        self.memory_bytes += size_of_val::<[T::Native]>(array.values()) as u64;
        if array.null_count() == 0 {
            for &value in array.values().iter() {
                self.nan |= value.is_nan();
                self.sketch.add(value.bits());
            }
        } else {
            for value in array.iter().flatten() {
                self.nan |= value.is_nan();
                self.sketch.add(value.bits());
            }
        }
    }

    fn observe_views<T: ByteViewType>(&mut self, array: &GenericByteViewArray<T>) {
        let mut memory = 16 * array.len() as u64;
        for (row, &view) in array.views().iter().enumerate() {
            if array.is_null(row) {
                continue;
            }
            let length = view as u32;
            if length <= 12 {
                // A short value is the view itself, its length included.
                self.sketch.add((view >> 64) as u64 ^ (view as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            } else {
                memory += u64::from(length);
                let value: &[u8] = array.value(row).as_ref();
                self.sketch.add(xxhash_rust::xxh3::xxh3_64(value));
            }
        }
        self.memory_bytes += memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_near() {
        for n in [0_u64, 1, 2, 100, 3000, 20_000, 1_000_000] {
            for stride in [1_u64, 8, 1 << 20, 0x0101_0101] {
                let mut sketch = DistinctSketch::new();
                (0..n).for_each(|i| sketch.add(i * stride));
                let got = sketch.estimate(n);
                assert!(got.abs_diff(n) as f64 <= 0.1 * n as f64, "{got} for {n} x {stride}");
            }
        }
    }
}
