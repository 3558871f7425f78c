//! Random columns of every type, for the tests of this folder.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringViewArray,
    StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::id::{ColumnId, Epoch, ObjectId, SchemaVersion, TableId};
use crate::schema::{ColumnDef, ColumnType, TableDef};

pub(crate) fn key_types() -> Vec<ColumnType> {
    vec![
        ColumnType::Boolean,
        ColumnType::Int8,
        ColumnType::Int16,
        ColumnType::Int32,
        ColumnType::Int64,
        ColumnType::UInt8,
        ColumnType::UInt16,
        ColumnType::UInt32,
        ColumnType::UInt64,
        ColumnType::Float32,
        ColumnType::Float64,
        ColumnType::Decimal { precision: 7, scale: 2 },
        ColumnType::Decimal { precision: 15, scale: 2 },
        ColumnType::Decimal { precision: 38, scale: 10 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp { nanos: false },
        ColumnType::Timestamp { nanos: true },
        ColumnType::TimestampTz { nanos: false, zone: "Europe/Berlin".into() },
        ColumnType::TimestampTz { nanos: true, zone: "UTC".into() },
    ]
}

pub(crate) fn all_types() -> Vec<ColumnType> {
    let mut types = key_types();
    let pair = ColumnType::Struct(vec![("a".into(), ColumnType::Int32), ("b".into(), ColumnType::Text)]);
    types.extend([
        ColumnType::Json,
        ColumnType::Vector(1),
        ColumnType::Vector(40),
        ColumnType::List(Box::new(ColumnType::Int64)),
        ColumnType::List(Box::new(ColumnType::Text)),
        ColumnType::List(Box::new(pair.clone())),
        ColumnType::List(Box::new(ColumnType::List(Box::new(ColumnType::Date)))),
        pair,
    ]);
    types
}

/// `rows` random values; `nulls`: about one in five is NULL.
pub(crate) fn array(random: &mut StdRng, column_type: &ColumnType, rows: usize, nulls: bool) -> ArrayRef {
    macro_rules! fixed {
        ($array:ty, $value:expr) => {{
            let make = $value;
            let values: Vec<_> = (0..rows)
                .map(|_| if nulls && random.random_bool(0.2) { None } else { Some(make(random)) })
                .collect();
            Arc::new(<$array>::from_iter(values))
        }};
    }
    fn whole(random: &mut StdRng) -> i64 {
        match random.random_range(0..6) {
            0 => random.random(),
            1 => i64::MIN,
            2 => i64::MAX,
            _ => random.random_range(-5..5),
        }
    }
    fn double(random: &mut StdRng) -> f64 {
        let odd =
            [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, -1.5, 1.5];
        if random.random_bool(0.5) {
            odd[random.random_range(0..odd.len())]
        } else {
            random.random_range(-1e9..1e9)
        }
    }
    fn bytes(random: &mut StdRng) -> Vec<u8> {
        let length =
            if random.random_bool(0.1) { random.random_range(0..80) } else { random.random_range(0..4) };
        (0..length).map(|_| [0, 1, 2, b'a', b'b', 0xff][random.random_range(0..6)]).collect()
    }
    fn text(random: &mut StdRng) -> String {
        bytes(random).into_iter().map(|b| if b == 0xff { 'ü' } else { char::from(b) }).collect()
    }
    match column_type {
        ColumnType::Boolean => fixed!(BooleanArray, |r: &mut StdRng| r.random::<bool>()),
        ColumnType::Int8 => fixed!(Int8Array, |r: &mut StdRng| whole(r) as i8),
        ColumnType::Int16 => fixed!(Int16Array, |r: &mut StdRng| whole(r) as i16),
        ColumnType::Int32 => fixed!(Int32Array, |r: &mut StdRng| whole(r) as i32),
        ColumnType::Int64 => fixed!(Int64Array, whole),
        ColumnType::UInt8 => fixed!(UInt8Array, |r: &mut StdRng| whole(r) as u8),
        ColumnType::UInt16 => fixed!(UInt16Array, |r: &mut StdRng| whole(r) as u16),
        ColumnType::UInt32 => fixed!(UInt32Array, |r: &mut StdRng| whole(r) as u32),
        ColumnType::UInt64 => fixed!(UInt64Array, |r: &mut StdRng| whole(r) as u64),
        ColumnType::Float32 => fixed!(Float32Array, |r: &mut StdRng| double(r) as f32),
        ColumnType::Float64 => fixed!(Float64Array, double),
        ColumnType::Decimal { precision, scale } => {
            let limit = 10_i128.pow(u32::from(*precision)) - 1;
            let array: Arc<Decimal128Array> =
                fixed!(Decimal128Array, |r: &mut StdRng| (i128::from(whole(r)) * 1_000_003)
                    .clamp(-limit, limit));
            Arc::new(array.as_ref().clone().with_precision_and_scale(*precision, *scale).unwrap())
        }
        ColumnType::Text => fixed!(StringViewArray, text),
        ColumnType::Json => fixed!(StringViewArray, |r: &mut StdRng| format!("{{\"n\": {}}}", whole(r))),
        ColumnType::Bytea => fixed!(BinaryViewArray, bytes),
        ColumnType::Date => fixed!(Date32Array, |r: &mut StdRng| r.random_range(-800_000..800_000)),
        ColumnType::Time => {
            fixed!(Time64MicrosecondArray, |r: &mut StdRng| r.random_range(0..86_400_000_000))
        }
        ColumnType::Timestamp { nanos } | ColumnType::TimestampTz { nanos, .. } => {
            let zone = match column_type.arrow() {
                DataType::Timestamp(_, zone) => zone,
                _ => None,
            };
            if *nanos {
                let array: Arc<TimestampNanosecondArray> = fixed!(TimestampNanosecondArray, whole);
                Arc::new(array.as_ref().clone().with_timezone_opt(zone))
            } else {
                let array: Arc<TimestampMicrosecondArray> = fixed!(TimestampMicrosecondArray, whole);
                Arc::new(array.as_ref().clone().with_timezone_opt(zone))
            }
        }
        ColumnType::Vector(dim) => {
            let DataType::FixedSizeList(field, size) = column_type.arrow() else { unreachable!() };
            let components: Vec<f32> =
                (0..rows * usize::from(*dim)).map(|_| random.random_range(-9.0..9.0)).collect();
            let valid = nulls.then(|| NullBuffer::from_iter((0..rows).map(|_| random.random_bool(0.8))));
            Arc::new(FixedSizeListArray::new(field, size, Arc::new(Float32Array::from(components)), valid))
        }
        ColumnType::List(item) => {
            let lengths: Vec<usize> = (0..rows).map(|_| random.random_range(0..4)).collect();
            let items = array(random, item, lengths.iter().sum(), true);
            let DataType::List(field) = column_type.arrow() else { unreachable!() };
            let valid = nulls.then(|| NullBuffer::from_iter((0..rows).map(|_| random.random_bool(0.8))));
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, valid))
        }
        ColumnType::Struct(members) => {
            let DataType::Struct(fields) = column_type.arrow() else { unreachable!() };
            let arrays = members.iter().map(|(_, t)| array(random, t, rows, true)).collect();
            let valid = nulls.then(|| NullBuffer::from_iter((0..rows).map(|_| random.random_bool(0.8))));
            Arc::new(StructArray::new(fields, arrays, valid))
        }
    }
}

pub(crate) fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn object_id(sequence: u64) -> ObjectId {
    ObjectId { epoch: Epoch(3), sequence }
}

/// A table of columns `c1`, `c2`, …; `key` and `sort` count from 0.
pub(crate) fn table(types: &[(ColumnType, bool)], key: &[u32], sort: &[u32]) -> Arc<TableDef> {
    let columns: Vec<ColumnDef> = (1..)
        .zip(types)
        .map(|(id, (column_type, nullable))| ColumnDef {
            id: ColumnId(id),
            name: format!("c{id}"),
            column_type: column_type.clone(),
            nullable: *nullable,
            default: None,
            initial: None,
        })
        .collect();
    Arc::new(TableDef {
        id: TableId(7),
        schema: "main".into(),
        name: "t".into(),
        schema_version: SchemaVersion(1),
        next_column_id: ColumnId(types.len() as u32 + 1),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
        columns,
        primary_key: key.iter().map(|k| ColumnId(k + 1)).collect(),
        sort: sort.iter().map(|k| ColumnId(k + 1)).collect(),
    })
}

pub(crate) fn batch(random: &mut StdRng, def: &TableDef, rows: usize) -> RecordBatch {
    let columns = def.columns.iter().map(|c| array(random, &c.column_type, rows, c.nullable)).collect();
    RecordBatch::try_new(def.arrow_schema(), columns).unwrap()
}
