//! What joins by sorting sort and compare by, where it is not the key itself (ADR 47).
//!
//! DataFusion 55 compares keys of such joins in two ways, which are not of one mind about NaN and -0, and one of which does not know times: those
//! are compared by their bits here, as a hash join does. Rows with a NULL among their keys have no partner and yet are held as rows of one key: a
//! number of each of them keeps them apart, or they are left out.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// The bits of a key, which are equal where the keys are.
#[derive(Debug, Clone, Eq)]
pub(super) struct Bits {
    key: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        self.key.eq(&other.key)
    }
}

impl Hash for Bits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Bits {
    /// Those of `key`, if it is of a type that is compared so.
    pub(super) fn of(key: &Arc<dyn PhysicalExpr>, of_type: &DataType) -> Option<Arc<dyn PhysicalExpr>> {
        bits_of(of_type).map(|_| Arc::new(Self { key: Arc::clone(key) }) as Arc<dyn PhysicalExpr>)
    }
}

fn bits_of(key: &DataType) -> Option<DataType> {
    match key {
        DataType::Float32 | DataType::Time32(_) => Some(DataType::Int32),
        DataType::Float64 | DataType::Time64(_) | DataType::Timestamp(..) => Some(DataType::Int64),
        _ => None,
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bits({})", self.key)
    }
}

impl PhysicalExpr for Bits {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        let key = self.key.data_type(input)?;
        match bits_of(&key) {
            Some(bits) => Ok(bits),
            None => internal_err!("keys of type {key} are not compared by their bits"),
        }
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.key.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let keys = self.key.evaluate(batch)?.into_array(batch.num_rows())?;
        // Both zeros are one key.
        let bits: ArrayRef = match (keys.data_type(), bits_of(keys.data_type())) {
            (DataType::Float32, _) => {
                let bits = |key: f32| if key == 0.0 { 0 } else { key.to_bits().cast_signed() };
                Arc::new(keys.as_primitive::<Float32Type>().unary::<_, Int32Type>(bits))
            }
            (DataType::Float64, _) => {
                let bits = |key: f64| if key == 0.0 { 0 } else { key.to_bits().cast_signed() };
                Arc::new(keys.as_primitive::<Float64Type>().unary::<_, Int64Type>(bits))
            }
            (_, Some(bits)) => cast(&keys, &bits)?,
            (other, None) => return internal_err!("keys of type {other} are not compared by their bits"),
        };
        Ok(ColumnarValue::Array(bits))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.key]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([key]) => Ok(Arc::new(Self { key })),
            Err(children) => internal_err!("the bits of one key, not of {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt_sql(f)
    }
}

/// A number for each row, which no other row has; 0 for rows that have all their keys, if there are any.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    next: Arc<AtomicU64>,
}

impl Numbered {
    /// Numbers of the rows without one of `keys`; of all rows, where there are none.
    pub(super) fn without(keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { keys, next: Arc::new(AtomicU64::new(1)) }
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.next, &other.next) && self.keys == other.keys
    }
}

impl Eq for Numbered {}

impl Hash for Numbered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys.hash(state);
    }
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "numbered({})", keys.join(", "))
    }
}

impl PhysicalExpr for Numbered {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let nulls = nulls_among(&self.keys, batch)?;
        let is_numbered = |row| match &nulls {
            Some(nulls) => nulls.is_null(row),
            None => self.keys.is_empty(),
        };
        let first = self.next.fetch_add(rows as u64, Ordering::Relaxed);
        let numbers = (first..).zip(0..rows).map(|(number, row)| if is_numbered(row) { number } else { 0 });
        Ok(ColumnarValue::Array(Arc::new(UInt64Array::from_iter_values(numbers))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { keys: children, next: Arc::clone(&self.next) }))
    }

    fn is_volatile_node(&self) -> bool {
        true
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbered")
    }
}

/// Whether a row has all its keys.
///
/// It says that it is volatile, so that it stays where it is: DataFusion 55 moves a filter below the projection that computes a key, and asks it before the
/// conditions that are there, which may leave out the rows of which the key cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HasKeys {
    keys: Vec<Arc<dyn PhysicalExpr>>,
}

impl HasKeys {
    /// Whether a row has each of `keys`.
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { keys }
    }
}

impl fmt::Display for HasKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        f.write_str(&keys.join(" AND "))
    }
}

impl PhysicalExpr for HasKeys {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let has_all = match nulls_among(&self.keys, batch)? {
            Some(nulls) => nulls.into_inner(),
            None => BooleanBuffer::new_set(batch.num_rows()),
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(has_all, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { keys: children }))
    }

    fn is_volatile_node(&self) -> bool {
        true
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The rows of a batch that lack one of some keys; None: there is none.
fn nulls_among(keys: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Option<NullBuffer>> {
    let mut nulls: Option<NullBuffer> = None;
    for key in keys {
        let of_key = key.evaluate(batch)?.into_array(batch.num_rows())?.logical_nulls();
        nulls = NullBuffer::union(nulls.as_ref(), of_key.as_ref());
    }
    Ok(nulls)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Float64Array, TimestampSecondArray};
    use datafusion::arrow::datatypes::{Field, UInt64Type};
    use datafusion::physical_expr::expressions::col;

    use super::*;

    fn evaluated(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> ArrayRef {
        expr.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap()
    }

    #[test]
    fn keys_are_equal_where_their_bits_are() {
        let doubles =
            vec![Some(0.0), Some(-0.0), Some(f64::NAN), None, Some(1.5), Some(f64::NAN), Some(-1.5)];
        let floats =
            vec![Some(0.0_f32), Some(-0.0), Some(f32::NAN), None, Some(1.5), Some(f32::NAN), Some(-1.5)];
        let times = vec![Some(0), Some(0), Some(7), None, Some(1), Some(7), Some(-1)];
        let times = TimestampSecondArray::from(times).with_timezone("UTC");
        for keys in [
            Arc::new(Float64Array::from(doubles)) as ArrayRef,
            Arc::new(Float32Array::from(floats)),
            Arc::new(times),
        ] {
            let batch = RecordBatch::try_from_iter_with_nullable([("k", Arc::clone(&keys), true)]).unwrap();
            let key = col("k", &batch.schema()).unwrap();
            let bits = Bits::of(&key, keys.data_type()).unwrap();
            assert_eq!(bits.data_type(&batch.schema()).unwrap(), bits_of(keys.data_type()).unwrap());
            let bits = evaluated(bits.as_ref(), &batch);
            assert_eq!(bits.slice(0, 1).as_ref(), bits.slice(1, 1).as_ref());
            assert_eq!(bits.slice(2, 1).as_ref(), bits.slice(5, 1).as_ref());
            assert_ne!(bits.slice(4, 1).as_ref(), bits.slice(6, 1).as_ref());
            assert_eq!((bits.null_count(), bits.is_null(3)), (1, true));
        }
        let key = col("k", &Schema::new(vec![Field::new("k", DataType::Utf8View, true)])).unwrap();
        assert!(Bits::of(&key, &DataType::Utf8View).is_none());
    }

    #[test]
    fn rows_without_a_key_have_numbers_of_their_own() {
        let a = UInt64Array::from(vec![Some(1), None, Some(3), None]);
        let b = UInt64Array::from(vec![Some(1), Some(2), None, None]);
        let columns: [(&str, ArrayRef, bool); 2] = [("a", Arc::new(a), true), ("b", Arc::new(b), true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let numbers =
            |numbered: &Numbered| evaluated(numbered, &batch).as_primitive::<UInt64Type>().values().to_vec();
        let keys = vec![col("a", &batch.schema()).unwrap(), col("b", &batch.schema()).unwrap()];
        let numbered = Numbered::without(keys);
        assert_eq!(numbers(&numbered), [0, 2, 3, 4]);
        assert_eq!(numbers(&numbered), [0, 6, 7, 8]);
        assert_eq!(numbers(&Numbered::without(Vec::new())), [1, 2, 3, 4]);
    }

    #[test]
    fn rows_have_all_their_keys_or_not() {
        let a = UInt64Array::from(vec![Some(1), None, Some(3), None]);
        let b = UInt64Array::from(vec![Some(1), Some(2), None, None]);
        let c = UInt64Array::from(vec![1, 2, 3, 4]);
        let columns: [(&str, ArrayRef, bool); 3] =
            [("a", Arc::new(a), true), ("b", Arc::new(b), true), ("c", Arc::new(c), true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        for (names, expected) in [
            (vec!["a", "b"], vec![true, false, false, false]),
            (vec!["c", "b"], vec![true, true, false, false]),
            (vec!["c"], vec![true; 4]),
        ] {
            let keys = names.iter().map(|name| col(name, &batch.schema()).unwrap()).collect();
            let has_keys = HasKeys::new(keys);
            assert_eq!(
                evaluated(&has_keys, &batch).as_boolean(),
                &BooleanArray::from(expected),
                "{has_keys}"
            );
        }
    }
}
