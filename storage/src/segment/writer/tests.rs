#![allow(clippy::unwrap_used)]

use arrow::array::{
    Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringViewArray, UInt64Array,
};
use arrow::datatypes::DataType;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;

use super::*;
use crate::error::ErrorKind;
use crate::schema::ColumnType;
use crate::segment::sort::sort_batches;
use crate::segment::stats::StatValue;
use crate::segment::testing::{array, object_id, random, table};

fn writer(store: &Arc<InMemory>, def: &Arc<TableDef>, addressing: Addressing) -> SegmentWriter {
    let options = SegmentWriterOptions { sample_rows: 2000, ..Default::default() };
    SegmentWriter::new(store.clone(), def.clone(), object_id(1), addressing, options).unwrap()
}

async fn bytes(store: &InMemory, meta: &SegmentMeta) -> Bytes {
    store.get(&Path::from(meta.path())).await.unwrap().bytes().await.unwrap()
}

fn batch_of(def: &TableDef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(def.arrow_schema(), columns).unwrap()
}

#[tokio::test]
async fn encodings_follow_the_data() {
    let rows = 3000_i64;
    let decimal = ColumnType::Decimal { precision: 15, scale: 2 };
    let mixed = |i: i64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
    let decimals = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(15, 2).unwrap())
    };
    let columns: Vec<(ColumnType, ArrayRef, Encoding)> = vec![
        (ColumnType::Int64, Arc::new(Int64Array::from_iter_values(0..rows)), Encoding::DELTA_BINARY_PACKED),
        (ColumnType::Int64, Arc::new(Int64Array::from_iter_values((0..rows).map(mixed))), Encoding::PLAIN),
        (
            ColumnType::Int32,
            Arc::new(Int32Array::from_iter_values((0..3000).map(|i| i % 7))),
            Encoding::RLE_DICTIONARY,
        ),
        (
            decimal.clone(),
            decimals((0..3000).map(|i| i * 977 % 90_001).collect()),
            Encoding::DELTA_BINARY_PACKED,
        ),
        (decimal, decimals((0..3000).map(|i| i % 50).collect()), Encoding::RLE_DICTIONARY),
        (
            ColumnType::Date,
            Arc::new(Date32Array::from_iter_values((0..3000).map(|i| i % 90))),
            Encoding::RLE_DICTIONARY,
        ),
        (
            ColumnType::Text,
            Arc::new(StringViewArray::from_iter_values((0..rows).map(|i| format!("comment {i}")))),
            Encoding::PLAIN,
        ),
        (
            ColumnType::Text,
            Arc::new(StringViewArray::from_iter_values((0..rows).map(|i| format!("mode {}", i % 7)))),
            Encoding::RLE_DICTIONARY,
        ),
        (
            ColumnType::Float64,
            Arc::new(Float64Array::from_iter_values((0..3000).map(f64::from))),
            Encoding::PLAIN,
        ),
    ];
    let types: Vec<_> = columns.iter().map(|(t, ..)| (t.clone(), false)).collect();
    let def = table(&types, &[], &[]);
    let store = Arc::new(InMemory::new());
    let mut writer = writer(&store, &def, Addressing::Load);
    writer.write(&batch_of(&def, columns.iter().map(|(_, a, _)| a.clone()).collect())).unwrap();
    let meta = writer.finish().await.unwrap();
    let file = ParquetRecordBatchReaderBuilder::try_new(bytes(&store, &meta).await).unwrap();
    for (i, (column_type, _, expected)) in columns.iter().enumerate() {
        let found: Vec<Encoding> = file.metadata().row_group(0).column(i).encodings().collect();
        assert!(found.contains(expected), "column {i} of {column_type}: {found:?}");
        assert_eq!(found.contains(&Encoding::RLE_DICTIONARY), *expected == Encoding::RLE_DICTIONARY, "{i}");
    }
}

#[tokio::test]
async fn the_file_is_plain_parquet_with_field_ids() {
    let list = ColumnType::List(Box::new(ColumnType::Text));
    let zoned = ColumnType::TimestampTz { nanos: false, zone: "Europe/Berlin".into() };
    let def = table(&[(ColumnType::Text, false), (zoned, true), (list, true)], &[0], &[]);
    let mut random = random(1);
    let mut columns: Vec<ArrayRef> =
        def.columns.iter().map(|c| array(&mut random, &c.column_type, 50, c.nullable)).collect();
    columns[0] = Arc::new(StringViewArray::from_iter_values((0..50).map(|i| format!("{i:03}"))));
    let store = Arc::new(InMemory::new());
    let mut writer = writer(&store, &def, Addressing::Columns);
    let fields = def
        .arrow_schema()
        .fields()
        .iter()
        .cloned()
        .chain(
            ["_row_id", "_version"]
                .map(|name| Arc::new(arrow::datatypes::Field::new(name, DataType::UInt64, false))),
        )
        .collect::<Vec<_>>();
    columns.push(Arc::new(UInt64Array::from_iter_values((0..50).map(|i| 1000 - i))));
    columns.push(Arc::new(UInt64Array::from_iter_values((0..50).map(|i| 5 + i % 2))));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    let meta = writer.finish().await.unwrap();
    assert_eq!((meta.min_row_id, meta.max_row_id), (RowId(951), RowId(1000)));
    assert_eq!((meta.min_created, meta.max_created), (CommitVersion(5), CommitVersion(6)));
    assert_eq!((meta.created, meta.row_ids), (Created::Column, RowIds::Column));
    assert!(meta.sorted);

    let data = bytes(&store, &meta).await;
    assert_eq!(data.len() as u64, meta.bytes);
    assert_eq!(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&data)), meta.xxh3);
    let file = ParquetRecordBatchReaderBuilder::try_new(data).unwrap();
    let ids: Vec<i32> =
        file.parquet_schema().root_schema().get_fields().iter().map(|f| f.get_basic_info().id()).collect();
    assert_eq!(ids, [1, 2, 3, 0x7fff_fff0, 0x7fff_fff1]);
    assert_eq!(file.schema().field(0).data_type(), &DataType::Utf8);
    let keys: Vec<&str> = file
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|e| e.key.as_str())
        .collect();
    assert_eq!(keys, ["cairn.format", "cairn.segment", "cairn.table", "cairn.block_crc32c"]);
    assert_eq!(file.build().unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>(), 50);
}

#[tokio::test]
async fn statistics_are_the_datas() {
    let types = [
        (ColumnType::Int32, true),
        (ColumnType::UInt32, false),
        (ColumnType::Decimal { precision: 30, scale: 1 }, false),
        (ColumnType::Text, false),
        (ColumnType::Float64, false),
        (ColumnType::Float64, false),
    ];
    let def = table(&types, &[], &[]);
    let long = format!("{}é", "x".repeat(31));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(-3), None, Some(9)])),
        Arc::new(arrow::array::UInt32Array::from(vec![1, u32::MAX, 2])),
        Arc::new(
            Decimal128Array::from(vec![-5, 10_i128.pow(29), 0]).with_precision_and_scale(30, 1).unwrap(),
        ),
        Arc::new(StringViewArray::from(vec!["b", "a", &long])),
        Arc::new(Float64Array::from(vec![1.5, -2.5, 0.0])),
        Arc::new(Float64Array::from(vec![1.5, f64::NAN, 0.0])),
    ];
    let store = Arc::new(InMemory::new());
    let mut writer = writer(&store, &def, Addressing::Load);
    writer.write(&batch_of(&def, columns)).unwrap();
    let stats = writer.finish().await.unwrap().columns;
    let bounds: Vec<_> = stats.iter().map(|s| (s.min.clone(), s.max.clone())).collect();
    assert_eq!(bounds[0], (Some(StatValue::Int(-3)), Some(StatValue::Int(9))));
    assert_eq!(bounds[1], (Some(StatValue::Int(1)), Some(StatValue::Int(i64::from(u32::MAX)))));
    assert_eq!(bounds[2], (Some(StatValue::Decimal(-5)), Some(StatValue::Decimal(10_i128.pow(29)))));
    assert_eq!(bounds[3].0, Some(StatValue::Text("a".into())));
    let Some(StatValue::Text(max)) = &bounds[3].1 else { panic!("{:?}", bounds[3]) };
    assert!(max.len() <= 32 && *max > long, "{max}");
    assert!(stats[3].min_exact && !stats[3].max_exact);
    assert_eq!(bounds[4], (Some(StatValue::Float(-2.5)), Some(StatValue::Float(1.5))));
    assert_eq!(bounds[5], (None, None));
    assert_eq!(stats.iter().map(|s| s.null_count).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0]);
    assert_eq!(stats.iter().map(|s| s.distinct).collect::<Vec<_>>(), [2, 3, 3, 3, 3, 3]);
    assert!(stats[3].memory_bytes >= 3 * 16 + 33);
}

#[tokio::test]
async fn broken_rules_are_named() {
    let def = table(&[(ColumnType::Int64, false), (ColumnType::Text, false)], &[0, 1], &[]);
    let store = Arc::new(InMemory::new());
    let rows = |ids: Vec<i64>| {
        let names = StringViewArray::from_iter_values(ids.iter().map(|_| "x"));
        batch_of(&def, vec![Arc::new(Int64Array::from(ids)), Arc::new(names)])
    };
    let mut repeated = writer(&store, &def, Addressing::Load);
    repeated.write(&rows(vec![1, 2])).unwrap();
    let error = repeated.write(&rows(vec![2, 3])).unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::ConstraintViolation, "23505"));
    assert_eq!(error.message(), "duplicate key in main.t: (c1, c2) = (2, 'x') is there more than once");
    repeated.abort().await;

    let mut unsorted = writer(&store, &def, Addressing::Load);
    unsorted.write(&rows(vec![1, 9])).unwrap();
    unsorted.write(&rows(vec![4, 4])).unwrap();
    assert!(!unsorted.finish().await.unwrap().sorted);

    let loose = table(&[(ColumnType::Int64, true), (ColumnType::Text, true)], &[], &[]);
    let nulls = RecordBatch::try_new(
        loose.arrow_schema(),
        vec![Arc::new(Int64Array::from(vec![None])) as ArrayRef, Arc::new(StringViewArray::from(vec!["x"]))],
    );
    let error = writer(&store, &def, Addressing::Load).write(&nulls.unwrap()).unwrap_err();
    assert_eq!(error.sqlstate(), "23502");
    assert!(error.message().contains("c1"));
}

#[tokio::test]
async fn large_objects_go_in_parts_and_aborts_leave_nothing() {
    let def = table(&[(ColumnType::Int64, false)], &[], &[]);
    let store = Arc::new(InMemory::new());
    let options = SegmentWriterOptions {
        sample_rows: 1000,
        row_group_rows: 2000,
        part_bytes: 10_000,
        ..Default::default()
    };
    let rows = |n: i64| {
        let values = (n * 1000..n * 1000 + 1000).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64));
        batch_of(&def, vec![Arc::new(Int64Array::from_iter_values(values))])
    };
    let make = || {
        SegmentWriter::new(store.clone(), def.clone(), object_id(4), Addressing::Load, options.clone())
            .unwrap()
    };
    let mut whole = make();
    let mut parts = make();
    for n in 0..20 {
        whole.write(&rows(n)).unwrap();
        parts.write(&rows(n)).unwrap();
        parts.flush().await.unwrap();
    }
    assert!(parts.upload.is_some());
    let meta = parts.finish().await.unwrap();
    assert_eq!(meta.rows, 20_000);
    let in_parts = bytes(&store, &meta).await;
    store.delete(&Path::from(meta.path())).await.unwrap();
    assert_eq!(whole.finish().await.unwrap(), meta);
    assert_eq!(bytes(&store, &meta).await, in_parts);
    store.delete(&Path::from(meta.path())).await.unwrap();

    let mut given_up = make();
    for n in 0..20 {
        given_up.write(&rows(n)).unwrap();
        given_up.flush().await.unwrap();
    }
    given_up.abort().await;
    assert!(store.get(&Path::from(meta.path())).await.is_err());
}

#[test]
fn sorting_is_stable_with_nulls_last() {
    let def = table(&[(ColumnType::Int32, true), (ColumnType::Text, false)], &[], &[0]);
    let rows = |values: Vec<Option<i32>>, names: &str| {
        let names = StringViewArray::from_iter_values(names.chars().map(String::from));
        batch_of(&def, vec![Arc::new(Int32Array::from(values)), Arc::new(names)])
    };
    let sorted = sort_batches(
        &def,
        vec![rows(vec![Some(2), None, Some(1)], "abc"), rows(vec![Some(2), Some(-1)], "de")],
    )
    .unwrap();
    assert_eq!(sorted.permutation, Some(vec![4, 2, 0, 3, 1]));
    assert_eq!(sorted.batches, [rows(vec![Some(-1), Some(1), Some(2), Some(2), None], "ecadb")]);
    assert_eq!(sort_batches(&def, sorted.batches).unwrap().permutation, None);
    let unkeyed = table(&[(ColumnType::Int32, true), (ColumnType::Text, false)], &[], &[]);
    let as_is = sort_batches(&unkeyed, vec![rows(vec![Some(2), Some(1)], "ab")]).unwrap();
    assert_eq!(as_is.permutation, None);

    let by_text = table(&[(ColumnType::Int32, true), (ColumnType::Text, false)], &[1], &[]);
    let sorted = sort_batches(&by_text, vec![rows(vec![Some(1); 4], "dbca")]).unwrap();
    assert_eq!(sorted.permutation, Some(vec![3, 1, 2, 0]));
}
