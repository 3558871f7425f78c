#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};

use super::*;
use crate::segment::testing::{array, key_types, random};

/// The order SQL gives two values of a key column, NULLs last, -0 = 0, NaN largest.
fn compare(column: &ArrayRef, a: usize, b: usize) -> Ordering {
    match (column.is_null(a), column.is_null(b)) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(a).cmp(column.as_string_view().value(b)),
        DataType::BinaryView => column.as_binary_view().value(a).cmp(column.as_binary_view().value(b)),
        DataType::Boolean => column.as_boolean().value(a).cmp(&column.as_boolean().value(b)),
        DataType::Float32 | DataType::Float64 => {
            let wide = cast(column, &DataType::Float64).unwrap();
            let (a, b) =
                (wide.as_primitive::<Float64Type>().value(a), wide.as_primitive::<Float64Type>().value(b));
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
        DataType::Decimal128(_, _) => column
            .as_primitive::<Decimal128Type>()
            .value(a)
            .cmp(&column.as_primitive::<Decimal128Type>().value(b)),
        DataType::UInt64 => {
            column.as_primitive::<UInt64Type>().value(a).cmp(&column.as_primitive::<UInt64Type>().value(b))
        }
        DataType::Date32 => compare(&cast(column, &DataType::Int32).unwrap(), a, b),
        _ => {
            let wide = cast(column, &DataType::Int64).unwrap();
            wide.as_primitive::<Int64Type>().value(a).cmp(&wide.as_primitive::<Int64Type>().value(b))
        }
    }
}

fn check(types: &[(ColumnType, bool)], columns: &[ArrayRef]) {
    let keys = KeyEncoder::with_nulls(types).unwrap().encode(columns).unwrap();
    assert_eq!(keys.len(), columns[0].len());
    for a in 0..keys.len() {
        for b in 0..keys.len() {
            let expected =
                columns.iter().map(|c| compare(c, a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
            let got = keys.get(a).cmp(keys.get(b));
            assert_eq!(got, expected, "{types:?}: {} and {}", describe(columns, a), describe(columns, b));
            assert_eq!(keys.to_owned(a).cmp(&keys.to_owned(b)), expected);
        }
    }
}

#[test]
fn byte_order_is_value_order_for_every_type() {
    for (seed, column_type) in key_types().into_iter().enumerate() {
        for nullable in [false, true] {
            let column = array(&mut random(seed as u64), &column_type, 60, nullable);
            check(&[(column_type.clone(), nullable)], &[column]);
        }
    }
}

#[test]
fn byte_order_is_value_order_for_composites() {
    let types = key_types();
    let mut random = random(11);
    for first in &types {
        for second in &types {
            for nullable in [(false, false), (true, true)] {
                let columns =
                    [array(&mut random, first, 12, nullable.0), array(&mut random, second, 12, nullable.1)];
                check(&[(first.clone(), nullable.0), (second.clone(), nullable.1)], &columns);
            }
        }
    }
}

#[test]
fn bytes_are_pinned() {
    let hex = |types: &[(ColumnType, bool)], columns: &[ArrayRef]| -> Vec<String> {
        let keys = KeyEncoder::with_nulls(types).unwrap().encode(columns).unwrap();
        keys.iter().map(|key| key.iter().map(|b| format!("{b:02x}")).collect()).collect()
    };
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(-1), Some(7), None]));
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a\0\u{1}b"), None, Some("")]));
    assert_eq!(
        hex(&[(ColumnType::Int32, true), (ColumnType::Text, true)], &[ints, texts]),
        [
            "007fffffff00610101010262".to_owned() + "00",
            "008000000701".to_owned(),
            "01000000000000".to_owned()
        ]
    );
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    assert_eq!(hex(&[(ColumnType::Boolean, false)], &[flags]), ["01"]);
    let doubles: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![-0.0, 0.0, f64::NAN, -1.0]));
    assert_eq!(
        hex(&[(ColumnType::Float64, false)], &[doubles]),
        ["8000000000000000", "8000000000000000", "fff8000000000000", "400fffffffffffff"]
    );
    let decimals: ArrayRef = Arc::new(arrow::array::Decimal128Array::from(vec![1]));
    let decimal = ColumnType::Decimal { precision: 38, scale: 10 };
    assert_eq!(hex(&[(decimal, false)], &[decimals]), ["80000000000000000000000000000001"]);
}

#[test]
fn wrong_use_is_an_error() {
    assert!(KeyEncoder::new(&[]).is_err());
    let json = KeyEncoder::new(&[ColumnType::Json]).unwrap_err();
    assert_eq!(json.kind(), ErrorKind::InvalidInput);
    let encoder = KeyEncoder::new(&[ColumnType::Int64]).unwrap();
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert!(encoder.encode(&[ints]).is_err());
    let nulls: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![None]));
    assert_eq!(encoder.encode(&[nulls]).unwrap_err().sqlstate(), "23502");
}

#[test]
fn descriptions_read_as_sql() {
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["it's", &"x".repeat(100)]));
    let columns = [ints, texts];
    assert_eq!(describe(&columns, 0), "(7, 'it''s')");
    assert_eq!(describe(&columns, 1), format!("(NULL, '{}…')", "x".repeat(64)));
}

#[test]
fn owned_keys_find_each_other_by_bytes() {
    let mut map = std::collections::HashMap::new();
    for length in [0, 1, 21, 22, 23, 300] {
        map.insert(EncodedKey::new(&vec![9; length]), length);
    }
    for length in [0_usize, 1, 21, 22, 23, 300] {
        assert_eq!(map.get(vec![9; length].as_slice()), Some(&length));
    }
    assert_eq!(size_of::<EncodedKey>(), 24);
}
