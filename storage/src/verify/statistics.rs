//! What the meta of a segment says of its columns, against their values.
//!
//! Owns: how a value is compared with a bound. Bounds of text and bytes may be cut; that a bound is a value of its column is what MIN and MAX
//! are answered from, so DEEP looks whether it is.

use arrow::array::{Array, AsArray};
use arrow::compute::{
    cast, max, max_binary_view, max_boolean, max_string_view, min, min_binary_view, min_boolean,
    min_string_view,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};

use crate::segment::{ColumnStats, StatValue};

/// What was seen of one column so far.
#[derive(Debug, Default)]
pub(super) struct SeenColumn {
    nulls: u64,
    min: Option<StatValue>,
    max: Option<StatValue>,
    nan: bool,
}

impl SeenColumn {
    /// Takes the next values.
    ///
    /// # Errors
    /// Why they can't be compared.
    pub(super) fn add(&mut self, array: &dyn Array) -> Result<(), String> {
        self.nulls += array.null_count() as u64;
        let (low, high) = extremes(array)?;
        self.nan |= [&low, &high].iter().any(|v| matches!(v, Some(StatValue::Float(v)) if v.is_nan()));
        if let Some(low) = low
            && self.min.as_ref().is_none_or(|min| low.is_below(min))
        {
            self.min = Some(low);
        }
        if let Some(high) = high
            && self.max.as_ref().is_none_or(|max| max.is_below(&high))
        {
            self.max = Some(high);
        }
        Ok(())
    }

    /// How many NULLs there were.
    pub(super) fn nulls(&self) -> u64 {
        self.nulls
    }

    /// Whether all values lie within the bounds.
    ///
    /// # Errors
    /// Which do not.
    pub(super) fn within(&self, stats: &ColumnStats) -> Result<(), String> {
        if let (Some(low), Some(found)) = (&stats.min, &self.min)
            && found.is_below(low)
        {
            return Err("a value is below the statistics".to_owned());
        }
        if let (Some(high), Some(found)) = (&stats.max, &self.max)
            && high.is_below(found)
            && !is_cut(high, found)
        {
            return Err("a value is above the statistics".to_owned());
        }
        Ok(())
    }

    /// Whether the bounds that are said to be values are the least and the largest of them.
    ///
    /// # Errors
    /// Which is not.
    pub(super) fn exact(&self, stats: &ColumnStats) -> Result<(), String> {
        if self.nan && stats.max.is_some() {
            return Err("a value is no number, which the statistics do not tell".to_owned());
        }
        let differs = |exact: bool, bound: &Option<StatValue>, found: &Option<StatValue>| {
            exact && found.is_some() && bound.is_some() && bound != found
        };
        if differs(stats.min_exact, &stats.min, &self.min) {
            return Err("the least value is not that of the statistics".to_owned());
        }
        if differs(stats.max_exact, &stats.max, &self.max) {
            return Err("the largest value is not that of the statistics".to_owned());
        }
        Ok(())
    }
}

/// Whether an upper bound is the beginning of the value.
fn is_cut(bound: &StatValue, found: &StatValue) -> bool {
    match (bound, found) {
        (StatValue::Text(bound), StatValue::Text(found)) => found.starts_with(bound.as_str()),
        (StatValue::Bytes(bound), StatValue::Bytes(found)) => found.starts_with(bound),
        _ => false,
    }
}

type Extremes = (Option<StatValue>, Option<StatValue>);

/// Least and largest value in the family of their bounds; none of types without an order.
fn extremes(array: &dyn Array) -> Result<Extremes, String> {
    use DataType as T;
    let as_type = |array: &dyn Array, to: &T| cast(array, to).map_err(|e| e.to_string());
    let integers = |array: &dyn Array| -> Result<Extremes, String> {
        let wide = as_type(array, &T::Int64)?;
        let wide = wide.as_primitive::<Int64Type>();
        Ok((min(wide).map(StatValue::Int), max(wide).map(StatValue::Int)))
    };
    Ok(match array.data_type() {
        T::Boolean => {
            let values = array.as_boolean();
            let bound = |value: Option<bool>| value.map(|value| StatValue::Int(value.into()));
            (bound(min_boolean(values)), bound(max_boolean(values)))
        }
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => integers(array)?,
        T::Date32 => integers(&*as_type(array, &T::Int32)?)?,
        T::Timestamp(..) | T::Time64(_) => integers(array)?,
        T::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            (min(values).map(StatValue::UInt), max(values).map(StatValue::UInt))
        }
        T::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            (min(values).map(StatValue::Decimal), max(values).map(StatValue::Decimal))
        }
        T::Float32 | T::Float64 => {
            let wide = as_type(array, &T::Float64)?;
            let wide = wide.as_primitive::<Float64Type>();
            (min(wide).map(StatValue::Float), max(wide).map(StatValue::Float))
        }
        T::Utf8View => {
            let values = array.as_string_view();
            let bound = |value: Option<&str>| value.map(|value| StatValue::Text(value.to_owned()));
            (bound(min_string_view(values)), bound(max_string_view(values)))
        }
        T::BinaryView => {
            let values = array.as_binary_view();
            let bound = |value: Option<&[u8]>| value.map(|value| StatValue::Bytes(value.to_vec()));
            (bound(min_binary_view(values)), bound(max_binary_view(values)))
        }
        _ => (None, None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Int8Array,
        StringViewArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
    };

    use super::*;

    fn stats(min: StatValue, max: StatValue) -> ColumnStats {
        ColumnStats {
            min: Some(min),
            max: Some(max),
            min_exact: true,
            max_exact: true,
            ..ColumnStats::default()
        }
    }

    #[test]
    fn bounds_of_every_family_are_compared() {
        use StatValue as V;
        let columns: Vec<(ArrayRef, V, V, V)> = vec![
            (Arc::new(BooleanArray::from(vec![false, true])), V::Int(0), V::Int(1), V::Int(0)),
            (Arc::new(Int8Array::from(vec![-3, 7])), V::Int(-3), V::Int(7), V::Int(6)),
            (Arc::new(UInt32Array::from(vec![3, u32::MAX])), V::Int(3), V::Int(u32::MAX.into()), V::Int(4)),
            (Arc::new(UInt64Array::from(vec![3, u64::MAX])), V::UInt(3), V::UInt(u64::MAX), V::UInt(4)),
            (Arc::new(Date32Array::from(vec![-1, 20_000])), V::Int(-1), V::Int(20_000), V::Int(19_999)),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![-5, 5]).with_timezone("UTC")),
                V::Int(-5),
                V::Int(5),
                V::Int(4),
            ),
            (
                Arc::new(Decimal128Array::from(vec![-125, 9]).with_precision_and_scale(9, 2).unwrap()),
                V::Decimal(-125),
                V::Decimal(9),
                V::Decimal(8),
            ),
            (Arc::new(Float32Array::from(vec![-0.5, 0.5])), V::Float(-0.5), V::Float(0.5), V::Float(0.25)),
            (
                Arc::new(StringViewArray::from(vec!["ab", "b"])),
                V::Text("ab".to_owned()),
                V::Text("b".to_owned()),
                V::Text("az".to_owned()),
            ),
            (
                Arc::new(BinaryViewArray::from(vec![&b"a"[..], &b"c"[..]])),
                V::Bytes(b"a".to_vec()),
                V::Bytes(b"c".to_vec()),
                V::Bytes(b"bz".to_vec()),
            ),
        ];
        for (array, low, high, less) in columns {
            let mut seen = SeenColumn::default();
            // In pieces, as they are read.
            seen.add(&*array.slice(1, 1)).unwrap();
            seen.add(&*array.slice(0, 1)).unwrap();
            let right = stats(low.clone(), high.clone());
            assert_eq!((seen.within(&right), seen.exact(&right)), (Ok(()), Ok(())), "{low:?}");
            assert!(seen.within(&stats(low.clone(), less.clone())).unwrap_err().contains("above"), "{low:?}");
            assert!(
                seen.within(&stats(high.clone(), high.clone())).unwrap_err().contains("below"),
                "{low:?}"
            );
            // Wider bounds are bounds, but no values.
            let narrow = SeenColumn { max: Some(less), min: Some(low.clone()), ..SeenColumn::default() };
            assert_eq!(narrow.within(&right), Ok(()), "{low:?}");
            assert!(narrow.exact(&right).unwrap_err().contains("largest"), "{low:?}");
        }
    }

    #[test]
    fn a_cut_bound_and_a_column_without_values_are_right() {
        let mut seen = SeenColumn::default();
        seen.add(&StringViewArray::from(vec![Some("abcdef"), None])).unwrap();
        let cut = ColumnStats {
            min: Some(StatValue::Text("abc".to_owned())),
            max: Some(StatValue::Text("abc".to_owned())),
            ..ColumnStats::default()
        };
        assert_eq!((seen.within(&cut), seen.exact(&cut), seen.nulls()), (Ok(()), Ok(()), 1));
        let none = SeenColumn::default();
        let bounds = stats(StatValue::Int(1), StatValue::Int(2));
        assert_eq!((none.within(&bounds), none.exact(&bounds)), (Ok(()), Ok(())));
        let mut nan = SeenColumn::default();
        nan.add(&Float32Array::from(vec![1.0, f32::NAN])).unwrap();
        assert!(nan.exact(&stats(StatValue::Float(1.0), StatValue::Float(1.0))).is_err());
    }
}
