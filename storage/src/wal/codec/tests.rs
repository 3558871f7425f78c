#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::ErrorKind;
use crate::id::{ColumnId, IndexId, ObjectId};
use crate::index::{Positions, UnitMeta, UnitSegment};
use crate::schema::{ColumnDef, ColumnType, IdentityDef, TableDef, ViewDef};
use crate::segment::{ColumnStats, Created, DeletesMeta, RowIds, SegmentMeta, StatValue};
use crate::wal::entry::{CatalogEdit, SegmentSwap};

const GOLDEN_COMPACT: &str = include_str!("../golden/entry-compact-1.hex");
const GOLDEN_UNIT: &str = include_str!("../golden/entry-unit-2.hex");
const GOLDEN_IPC: &str = include_str!("../golden/entry-ipc-1.hex");

fn flat_types() -> Vec<ColumnType> {
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
        ColumnType::Decimal { precision: 38, scale: 6 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Json,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp { nanos: false },
        ColumnType::Timestamp { nanos: true },
        ColumnType::TimestampTz { nanos: false, zone: "Europe/Berlin".into() },
        ColumnType::TimestampTz { nanos: true, zone: "UTC".into() },
    ]
}

fn random_type(rng: &mut StdRng, depth: usize) -> ColumnType {
    let flat = flat_types();
    match rng.random_range(0..if depth == 0 { 1 } else { 5 }) {
        3 => ColumnType::List(Box::new(random_type(rng, depth - 1))),
        4 => ColumnType::Struct(
            (0..rng.random_range(1..4)).map(|i| (format!("m{i}"), random_type(rng, depth - 1))).collect(),
        ),
        _ => flat[rng.random_range(0..flat.len())].clone(),
    }
}

fn text(rng: &mut StdRng) -> String {
    let length = if rng.random_bool(0.1) { 200 } else { 20 };
    (0..rng.random_range(0..length)).map(|_| ['a', 'ß', '漢', '\0', 'z'][rng.random_range(0..5)]).collect()
}

/// A random array of `rows`, often a slice of a longer one.
fn random_array(rng: &mut StdRng, data_type: &DataType, rows: usize, nullable: bool) -> ArrayRef {
    let (before, after) = if rng.random_bool(0.5) { (rng.random_range(0..9), 5) } else { (0, 0) };
    let n = before + rows + after;
    let null_rate = if nullable { [0.0, 0.3, 1.0][rng.random_range(0..3)] } else { 0.0 };
    let nulls: Vec<bool> = (0..n).map(|_| rng.random_bool(null_rate)).collect();
    macro_rules! primitive {
        ($array:ty) => {
            Arc::new((0..n).map(|i| (!nulls[i]).then(|| rng.random())).collect::<$array>()) as ArrayRef
        };
    }
    let valid = || NullBuffer::from(nulls.iter().map(|n| !n).collect::<Vec<_>>());
    let array: ArrayRef = match data_type {
        DataType::Boolean => {
            Arc::new((0..n).map(|i| (!nulls[i]).then(|| rng.random_bool(0.5))).collect::<BooleanArray>())
        }
        DataType::Int8 => primitive!(Int8Array),
        DataType::Int16 => primitive!(Int16Array),
        DataType::Int32 => primitive!(Int32Array),
        DataType::Int64 => primitive!(Int64Array),
        DataType::UInt8 => primitive!(UInt8Array),
        DataType::UInt16 => primitive!(UInt16Array),
        DataType::UInt32 => primitive!(UInt32Array),
        DataType::UInt64 => primitive!(UInt64Array),
        DataType::Float32 => primitive!(Float32Array),
        DataType::Float64 => primitive!(Float64Array),
        DataType::Date32 => primitive!(Date32Array),
        DataType::Decimal128(p, s) => Arc::new(
            (0..n)
                .map(|i| (!nulls[i]).then(|| rng.random_range(-(10i128.pow(37))..10i128.pow(37))))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(*p, *s)
                .unwrap(),
        ),
        DataType::Time64(_) => primitive!(Time64MicrosecondArray),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(
            (0..n)
                .map(|i| (!nulls[i]).then(|| rng.random()))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone_opt(zone.clone()),
        ),
        DataType::Timestamp(_, zone) => Arc::new(
            (0..n)
                .map(|i| (!nulls[i]).then(|| rng.random()))
                .collect::<TimestampNanosecondArray>()
                .with_timezone_opt(zone.clone()),
        ),
        DataType::Utf8View => {
            Arc::new((0..n).map(|i| (!nulls[i]).then(|| text(rng))).collect::<StringViewArray>())
        }
        DataType::BinaryView => {
            Arc::new((0..n).map(|i| (!nulls[i]).then(|| text(rng).into_bytes())).collect::<BinaryViewArray>())
        }
        DataType::List(item) => {
            let lengths: Vec<usize> = (0..n).map(|_| rng.random_range(0..4)).collect();
            let values = random_array(rng, item.data_type(), lengths.iter().sum(), true);
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::new(item.clone(), offsets, values, Some(valid())))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|f| random_array(rng, f.data_type(), n, true)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, Some(valid())))
        }
        other => panic!("{other}"),
    };
    array.slice(before, rows)
}

fn random_batches(rng: &mut StdRng, schema: &SchemaRef, rows: usize) -> Vec<RecordBatch> {
    let cut = rng.random_range(0..=rows);
    [cut, rows - cut]
        .into_iter()
        .map(|n| {
            let columns = schema
                .fields()
                .iter()
                .map(|f| random_array(rng, f.data_type(), n, f.is_nullable()))
                .collect();
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        })
        .collect()
}

fn random_schema(rng: &mut StdRng, depth: usize) -> SchemaRef {
    let fields: Vec<Field> = (0..rng.random_range(1..8))
        .map(|i| Field::new(format!("c{i}"), random_type(rng, depth).arrow(), rng.random_bool(0.8)))
        .collect();
    Arc::new(Schema::new(fields))
}

fn segment(id: u64) -> SegmentMeta {
    let stats =
        |min, max| ColumnStats { min: Some(min), max: Some(max), min_exact: true, ..ColumnStats::default() };
    SegmentMeta {
        id: ObjectId { epoch: Epoch(3), sequence: id },
        table: TableId(1),
        schema_version: SchemaVersion(1),
        reshaped: false,
        rows: 10,
        bytes: 1000,
        xxh3: "00ff".into(),
        footer_bytes: 100,
        footer_crc32c: 7,
        page_index_bytes: (id % 2 == 1).then_some(50),
        key_filter_bytes: None,
        key_filter_crc32c: 0,
        created: Created::Column,
        min_created: CommitVersion(0),
        max_created: CommitVersion(0),
        row_ids: RowIds::Column,
        min_row_id: RowId(0),
        max_row_id: RowId(0),
        sorted: false,
        run: id.is_multiple_of(2).then_some(ObjectId { epoch: Epoch(2), sequence: 9 }),
        columns: vec![
            stats(StatValue::Float(f64::NEG_INFINITY), StatValue::Float(-0.0)),
            stats(StatValue::Decimal(i128::MIN), StatValue::UInt(u64::MAX)),
            stats(StatValue::Text("\u{0}é\"".into()), StatValue::Bytes(vec![0, 255])),
        ],
    }
}

fn edits() -> Vec<CatalogEdit> {
    let columns: Vec<ColumnDef> = flat_types()
        .into_iter()
        .chain([ColumnType::List(Box::new(ColumnType::Struct(vec![("x y".into(), ColumnType::Text)])))])
        .enumerate()
        .map(|(i, column_type)| ColumnDef {
            id: ColumnId(i as u32 + 1),
            name: format!("c{i}"),
            column_type,
            nullable: i != 3,
            default: (i % 2 == 0).then(|| "1 + 1".into()),
            initial: None,
        })
        .collect();
    vec![
        CatalogEdit::CreateSchema { name: "s".into() },
        CatalogEdit::PutTable(Arc::new(TableDef {
            id: TableId(1),
            schema: "s".into(),
            name: "t".into(),
            schema_version: SchemaVersion(1),
            next_column_id: ColumnId(columns.len() as u32 + 1),
            layout: crate::schema::TableLayout::Rows,
            indexes: Vec::new(),
            identity: None,
            owner: None,
            columns,
            primary_key: vec![ColumnId(4)],
            sort: vec![],
        })),
        CatalogEdit::DropTable { table: TableId(9) },
        CatalogEdit::PutView(Arc::new(ViewDef {
            schema: "s".into(),
            name: "v".into(),
            sql: "SELECT 'ü'".into(),
            search_path: "s".into(),
            owner: None,
        })),
        CatalogEdit::DropView { schema: "s".into(), name: "w".into() },
        CatalogEdit::DropSchema { name: "q".into() },
    ]
}

fn random_entry(rng: &mut StdRng) -> (WalEntry, Vec<SchemaRef>) {
    let depth = rng.random_range(0..3);
    let schemas: Vec<_> = (0..rng.random_range(0..4)).map(|_| random_schema(rng, depth)).collect();
    let tables = schemas
        .iter()
        .enumerate()
        .map(|(i, schema)| {
            let rows = [0, 1, rng.random_range(0..66), 300][rng.random_range(0..4)];
            let mut deleted: Vec<RowId> = (0..rng.random_range(0..20))
                .map(|_| RowId(rng.random::<u64>() >> rng.random_range(0..64)))
                .collect();
            deleted.sort();
            deleted.dedup();
            TableChange {
                table: TableId(i as u64 + 1),
                schema_version: SchemaVersion(rng.random()),
                first_row_id: RowId(rng.random()),
                rows: RowBody::Batches(random_batches(rng, schema, rows)),
                deleted,
                segments: (0..rng.random_range(0..3)).map(segment).collect(),
                deletes: (0..rng.random_range(0..3))
                    .map(|n| DeletesMeta {
                        id: ObjectId { epoch: Epoch(2), sequence: n },
                        table: TableId(1),
                        segment: ObjectId { epoch: Epoch(1), sequence: n },
                        rows: 4,
                        bytes: 5,
                        crc32c: 6,
                        version: (n > 0).then_some(CommitVersion(3)),
                    })
                    .collect(),
                truncate: rng.random_bool(0.2),
            }
        })
        .collect();
    let entry = WalEntry {
        version: CommitVersion(rng.random()),
        epoch: Epoch(rng.random()),
        commit_id: CommitId(uuid::Uuid::from_u128(rng.random())),
        time_us: rng.random(),
        info: CommitInfo { user: text(rng), session: text(rng), request_id: text(rng), message: text(rng) },
        catalog: if rng.random_bool(0.3) { edits() } else { vec![] },
        tables,
    };
    (entry, schemas)
}

fn assert_same(back: &WalEntry, entry: &WalEntry, schemas: &[SchemaRef]) {
    assert_eq!(
        (back.version, back.epoch, back.commit_id, back.time_us),
        (entry.version, entry.epoch, entry.commit_id, entry.time_us)
    );
    assert_eq!((&back.info, &back.catalog), (&entry.info, &entry.catalog));
    assert_eq!(back.tables.len(), entry.tables.len());
    for ((b, e), schema) in back.tables.iter().zip(&entry.tables).zip(schemas) {
        assert_eq!((b.table, b.schema_version, b.first_row_id), (e.table, e.schema_version, e.first_row_id));
        assert_eq!((&b.deleted, &b.segments, &b.deletes), (&e.deleted, &e.segments, &e.deletes));
        assert_eq!((b.truncate, b.rows.rows()), (e.truncate, e.rows.rows()));
        let rows = |body: &RowBody| concat_batches(schema, &body.decode(schema).unwrap()).unwrap();
        assert_eq!(rows(&b.rows), rows(&e.rows));
    }
}

#[test]
fn random_entries_round_trip() {
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (entry, schemas) = random_entry(&mut rng);
        let bytes = encode(&entry).unwrap();
        let back = decode(bytes.clone()).unwrap();
        assert_same(&back, &entry, &schemas);
        assert_eq!(encode(&back).unwrap(), bytes, "an encoded body is written as it was read, seed {seed}");
        assert_eq!(decode_header(&bytes).unwrap().commit_id, entry.commit_id);
    }
}

#[test]
fn any_damage_is_an_error_or_an_entry() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let (entry, schemas) = random_entry(&mut rng);
        let bytes = encode(&entry).unwrap();
        for _ in 0..200 {
            let mut damaged = bytes.to_vec();
            match rng.random_range(0..4) {
                0 => damaged.truncate(rng.random_range(0..bytes.len())),
                1 => damaged.extend_from_slice(&[0; 3]),
                2 => {
                    // Whole words: lengths, counts and offsets far out of range.
                    let at = rng.random_range(0..damaged.len().saturating_sub(8).max(1));
                    let word = [u64::MAX, i64::MAX as u64, 1 << 32, 0][rng.random_range(0..4)].to_le_bytes();
                    for (byte, new) in damaged[at..].iter_mut().zip(word) {
                        *byte = new;
                    }
                }
                _ => {
                    for _ in 0..rng.random_range(1..4) {
                        let at = rng.random_range(0..damaged.len());
                        damaged[at] ^= 1 << rng.random_range(0..8);
                    }
                }
            }
            let Ok(back) = decode(damaged.into()) else { continue };
            for (change, schema) in back.tables.iter().zip(&schemas) {
                match change.rows.decode(schema) {
                    Ok(batches) => {
                        assert_eq!(
                            batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(),
                            change.rows.rows()
                        );
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}"),
                }
            }
        }
    }
}

#[test]
fn every_flip_and_cut_of_row_bodies_is_survived() {
    for (seed, rows) in [(1, 3), (2, 64), (3, 70)] {
        let mut rng = StdRng::seed_from_u64(seed);
        let depth = if rows > 64 { 2 } else { 0 };
        let schema = random_schema(&mut rng, depth);
        let batches = random_batches(&mut rng, &schema, rows);
        let mut body = Vec::new();
        rows::encode_rows(&mut body, &batches).unwrap();
        for at in 0..body.len() {
            assert!(decode_rows(&schema, rows as u64, &Bytes::copy_from_slice(&body[..at])).is_err());
            for bit in 0..8 {
                let mut damaged = body.clone();
                damaged[at] ^= 1 << bit;
                if let Err(e) = decode_rows(&schema, rows as u64, &damaged.into()) {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                }
            }
        }
    }
}

#[test]
fn rows_of_other_types_are_refused() {
    let schema = |t: DataType| Arc::new(Schema::new(vec![Field::new("a", t, true)]));
    let batch =
        RecordBatch::try_new(schema(DataType::Int64), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    let mut body = Vec::new();
    rows::encode_rows(&mut body, &[batch]).unwrap();
    let body = Bytes::from(body);
    for other in [DataType::UInt64, DataType::Float64, DataType::Utf8View] {
        assert_eq!(decode_rows(&schema(other), 2, &body).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(decode_rows(&schema(DataType::Int64), 3, &body).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(decode_rows(&schema(DataType::Int64), 2, &body).unwrap().len(), 1);
}

#[test]
fn a_slice_of_large_text_writes_only_the_slice() {
    let long = "x".repeat(1000);
    let array = StringViewArray::from_iter_values((0..1000).map(|_| &long));
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8View, true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(array)]).unwrap().slice(500, 100);
    let mut body = Vec::new();
    rows::encode_rows(&mut body, std::slice::from_ref(&batch)).unwrap();
    assert!(body.len() < 110_000, "{}", body.len());
    let estimate = encoded_rows_len(&[batch]);
    assert!(estimate.abs_diff(body.len()) < 1000, "{estimate} for {}", body.len());
}

/// A join gives many rows the text of one: room for each of them could be more than there is memory.
#[test]
fn a_text_that_many_rows_share_gets_room_once() {
    let long = StringViewArray::from_iter_values(["x".repeat(64 << 10)]);
    let shared = arrow::compute::take(&long, &UInt32Array::from(vec![0; 500]), None).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8View, true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![shared]).unwrap();
    let mut body = Vec::new();
    rows::encode_rows(&mut body, std::slice::from_ref(&batch)).unwrap();
    assert!(body.capacity() < 256 << 10, "{}", body.capacity());
    let estimate = encoded_rows_len(std::slice::from_ref(&batch));
    assert!(estimate.abs_diff(body.len()) < 1000, "{estimate} for {}", body.len());
    let read = decode_rows(&schema, 500, &Bytes::from(body)).unwrap();
    assert_eq!(concat_batches(&schema, &read).unwrap(), batch);
}

/// Megabytes that are moved to where there is more room cost more than writing them.
#[test]
fn rows_and_what_follows_them_get_room_once() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Utf8View, true),
    ]));
    let batch = |rows: i64| {
        let text =
            StringViewArray::from_iter((0..rows).map(|i| (i % 7 != 0).then(|| format!("some text {i:09}"))));
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..rows)), Arc::new(text)];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let batches = [batch(5000), batch(3), batch(2000)];
    let mut body = Vec::new();
    rows::encode_rows_before(&mut body, &batches, 10_000).unwrap();
    let room = encoded_rows_len(&batches) + 10_000;
    assert!(body.len() + 10_000 <= body.capacity() && body.capacity() < room + 1000, "{}", body.capacity());
    let read = decode_rows(&schema, 7003, &Bytes::from(body)).unwrap();
    assert_eq!(read, batches);
}

#[test]
fn both_steps_give_the_bytes_of_one() {
    let (entry, _) = random_entry(&mut StdRng::seed_from_u64(5));
    let ids: Vec<RowId> = entry.tables.iter().map(|t| t.first_row_id).collect();
    let body =
        EncodedBody::new(entry.epoch, entry.commit_id, &entry.info, &entry.catalog, &entry.tables).unwrap();
    assert!(body.clone().assemble(entry.version, entry.time_us, &[RowId(1); 9]).is_err());
    assert_eq!(body.assemble(entry.version, entry.time_us, &ids).unwrap(), encode(&entry).unwrap());
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (entry, _) = random_entry(&mut StdRng::seed_from_u64(6));
    for at in [0, 2, 3] {
        let mut bytes = encode(&entry).unwrap().to_vec();
        bytes[at] = 9;
        let error = decode(bytes.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("was written by a newer Cairn"), "{error}");
        assert!(error.hint().unwrap().contains("newer than"));
    }
}

#[test]
fn unsorted_deletes_are_refused_before_they_are_durable() {
    let (mut entry, _) = random_entry(&mut StdRng::seed_from_u64(7));
    entry.tables = vec![TableChange {
        table: TableId(1),
        schema_version: SchemaVersion(1),
        first_row_id: RowId(1),
        rows: RowBody::Batches(vec![]),
        deleted: vec![RowId(5), RowId(5)],
        segments: vec![],
        deletes: vec![],
        truncate: false,
    }];
    assert_eq!(encode(&entry).unwrap_err().kind(), ErrorKind::Internal);
}

/// The entry of the golden files: `rows` rows of three columns, one NULL a column.
fn golden_entry(rows: usize) -> (WalEntry, SchemaRef) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, true),
        Field::new("ok", DataType::Boolean, true),
    ]));
    let names = (0..rows).map(|i| (i != 1).then(|| format!("row number {i} of the golden entry")));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(names.collect::<StringViewArray>()),
            Arc::new((0..rows).map(|i| (i != 2).then_some(i % 2 == 0)).collect::<BooleanArray>()),
        ],
    )
    .unwrap();
    let entry = WalEntry {
        version: CommitVersion(42),
        epoch: Epoch(3),
        commit_id: CommitId(uuid::Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        time_us: 1_700_000_000_000_000,
        info: CommitInfo {
            user: "ada".into(),
            session: "s1".into(),
            request_id: String::new(),
            message: "golden".into(),
        },
        catalog: vec![CatalogEdit::CreateSchema { name: "main".into() }],
        tables: vec![TableChange {
            table: TableId(7),
            schema_version: SchemaVersion(2),
            first_row_id: RowId(1000),
            rows: RowBody::Batches(vec![batch]),
            deleted: vec![RowId(3), RowId(4), RowId(700)],
            segments: vec![],
            deletes: vec![],
            truncate: false,
        }],
    };
    (entry, schema)
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|l| l.iter().map(|b| format!("{b:02x}")).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect::<Vec<_>>()
        .into()
}

#[test]
fn golden_compact_entry_is_read_and_written_the_same() {
    let (entry, schema) = golden_entry(3);
    let bytes = encode(&entry).unwrap();
    assert_eq!(hex(&bytes), GOLDEN_COMPACT.trim(), "the byte form changed");
    assert_same(&decode(unhex(GOLDEN_COMPACT)).unwrap(), &entry, &[schema]);
}

#[test]
fn golden_ipc_entry_is_read() {
    // Only read: another arrow may lay out a message otherwise.
    let (entry, schema) = golden_entry(65);
    assert_same(&decode(unhex(GOLDEN_IPC)).unwrap(), &entry, &[schema]);
}

/// A commit of a unit over one whole segment and a part of another, or of whole ones.
fn unit_entry(positions: Option<Positions>) -> WalEntry {
    let (entry, _) = golden_entry(0);
    let id = |sequence| ObjectId { epoch: Epoch(2), sequence };
    let unit = UnitMeta {
        id: id(9),
        table: TableId(7),
        index: IndexId(1),
        segments: vec![
            UnitSegment { id: id(3), left_out: 0, positions: None },
            UnitSegment { id: id(4), left_out: 5, positions },
        ],
        rows: 3_000,
        bytes: 400_000,
        xxh3: format!("{:032x}", 255),
        replaces: vec![id(6)],
        build_ms: 12,
        recall_permille: 981,
    };
    WalEntry { catalog: vec![CatalogEdit::PutUnit(Arc::new(unit))], tables: vec![], ..entry }
}

#[test]
fn golden_unit_entry_is_read_and_written_the_same() {
    let entry = unit_entry(Some(Positions { from: 100, to: 2_000 }));
    let bytes = encode(&entry).unwrap();
    assert_eq!(hex(&bytes), GOLDEN_UNIT.trim(), "the byte form changed");
    assert_same(&decode(unhex(GOLDEN_UNIT)).unwrap(), &entry, &[]);
    assert_eq!(bytes[..2], [2, 0], "a Cairn that does not know of parts refuses it by its version");
    let whole = encode(&unit_entry(None)).unwrap();
    assert_eq!(whole[..2], [1, 0], "and reads every other entry");
    assert_same(&decode(whole).unwrap(), &unit_entry(None), &[]);
}

#[test]
fn a_swap_of_segments_round_trips_under_a_version_of_its_own() {
    let (entry, _) = golden_entry(0);
    let mut added = crate::manifest::invariants::tests::segment_entry(9, 100);
    added.deletes[0].version = None;
    let id = |sequence| ObjectId { epoch: Epoch(2), sequence };
    for (added, rows_left, version) in
        [(vec![added], None, 3), (Vec::new(), None, 3), (Vec::new(), Some(7), 5)]
    {
        let removed = vec![id(3), id(4)];
        let swap = SegmentSwap { table: TableId(1), removed, added, horizon: CommitVersion(20), rows_left };
        let swap = CatalogEdit::SwapSegments(Arc::new(swap));
        let entry = WalEntry { catalog: vec![swap], tables: vec![], ..entry.clone() };
        let bytes = encode(&entry).unwrap();
        assert_eq!(bytes[..2], [version, 0], "a Cairn that does not know of it refuses it by its version");
        assert_same(&decode(bytes).unwrap(), &entry, &[]);
        assert!(!entry.changes_catalog());
    }
}

#[test]
fn the_definition_of_an_altered_table_has_a_version_of_its_own() {
    let (entry, _) = golden_entry(0);
    for (number, version) in [(1, 1), (2, 4)] {
        let mut def = crate::database::tests::definition(TableId(1), "t", true);
        def.schema_version = SchemaVersion(number);
        def.columns[1].initial = Some(StatValue::Text("before".into()));
        let catalog = vec![CatalogEdit::PutTable(Arc::new(def))];
        let entry = WalEntry { catalog, tables: vec![], ..entry.clone() };
        let bytes = encode(&entry).unwrap();
        assert_eq!(bytes[..2], [version, 0], "a Cairn that does not know of it refuses it by its version");
        assert_same(&decode(bytes).unwrap(), &entry, &[]);
    }
}

#[test]
fn the_definition_of_a_table_that_numbers_its_rows_has_a_version_of_its_own() {
    let (entry, _) = golden_entry(0);
    let mut def = crate::database::tests::definition(TableId(1), "t", true);
    let column = def.columns[0].id;
    def.identity =
        Some(IdentityDef { column, always: true, start: -3, increment: -2, min: i64::MIN, max: -1 });
    let catalog = vec![CatalogEdit::PutTable(Arc::new(def))];
    let entry = WalEntry { catalog, tables: vec![], ..entry };
    let bytes = encode(&entry).unwrap();
    assert_eq!(bytes[..2], [6, 0], "a Cairn that does not know of it refuses it by its version");
    assert_same(&decode(bytes).unwrap(), &entry, &[]);
}
