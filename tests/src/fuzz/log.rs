//! Files and objects of the log, their entries and the rows in them.

use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::fs::{FileSystem, OpenMode, SimFileSystem};
use cairn_storage::id::{
    ColumnId, CommitId, CommitVersion, Epoch, IndexId, ObjectId, RowId, SchemaVersion, TableId, WalNumber,
};
use cairn_storage::index::{Positions, UnitMeta, UnitSegment};
use cairn_storage::manifest::SegmentEntry;
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef, ViewDef};
use cairn_storage::segment::{ColumnStats, Created, DeletesMeta, RowIds, SegmentMeta, StatValue};
use cairn_storage::wal::codec::{decode, decode_header, decode_rows, encode, encode_rows};
use cairn_storage::wal::{
    CatalogEdit, CommitInfo, FileWalReader, LogContents, ObjectWalReader, RowBody, SegmentSwap, TableChange,
    WalEntry, object_path,
};
use datafusion::arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float32Array,
    Float64Array, Int64Array, ListArray, RecordBatch, StringViewArray, StructArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::executor::block_on;
use uuid::Uuid;

use super::{DATABASE, Seed, is_answer, sealed};

/// Path of the first file.
pub(super) const FIRST_FILE: &str = "wal/00000000000000000001";
/// The magic begins every file and object; an input without it is an entry alone.
const MAGIC: &[u8; 8] = b"CAIRNWAL";
const SALT: u64 = 0x0123_4567_89ab_cdef;
const ENTRY: u8 = 1;
const SEAL: u8 = 2;
const FRAME_HEADER: usize = 32;

pub(super) fn run(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if !bytes.starts_with(MAGIC) {
        entry(&bytes);
        return;
    }
    contents(&bytes);
    recovered(&bytes);
    of_objects(&bytes);
}

/// As `cairn dump wal` reads it; then each entry.
fn contents(file: &Bytes) {
    let contents = match LogContents::read("wal/1", file) {
        Ok(contents) => contents,
        Err(error) => return is_answer(&error),
    };
    assert!(contents.end <= file.len() as u64, "frames end at {} of {}", contents.end, file.len());
    for found in &contents.entries {
        let payload = found.offset as usize + FRAME_HEADER;
        entry(&file.slice(payload..payload + found.bytes as usize));
    }
}

/// As the only file of a directory.
fn recovered(file: &Bytes) {
    let fs = SimFileSystem::new(1);
    write(&fs, FIRST_FILE, file);
    match FileWalReader::recover(&fs, WalNumber(1), DATABASE) {
        Ok(recovery) => {
            let predecessor = recovery.predecessor.expect("a file that was read");
            assert!(predecessor.length <= file.len() as u64 && predecessor.synced <= file.len() as u64);
        }
        Err(error) => is_answer(&error),
    }
}

/// As the only object of a bucket.
fn of_objects(object: &Bytes) {
    let found = block_on(async {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from(object_path(WalNumber(1)));
        store.put(&path, object.clone().into()).await.expect("a store in memory");
        ObjectWalReader::new(store, DATABASE, WalNumber(1), Epoch(0)).read_on(1).await
    });
    match found {
        Ok(entries) => {
            for found in entries {
                let end = found.offset as usize + FRAME_HEADER + found.payload.len();
                assert!(end <= object.len(), "an entry at {} of {}", found.offset, object.len());
            }
        }
        Err(error) => is_answer(&error),
    }
}

/// An entry reads back as it was written, rows included.
fn entry(payload: &Bytes) {
    let entry = match decode(payload.clone()) {
        Ok(entry) => entry,
        Err(error) => return is_answer(&error),
    };
    let header = decode_header(payload).expect("the header of an entry that was read");
    assert_eq!((header.version, header.commit_id), (entry.version, entry.commit_id));
    for change in &entry.tables {
        for def in [flat(), nested()] {
            rows(&change.rows, &def.arrow_schema());
        }
    }
    // A value that JSON can say and no reader gives back, as a bound that is NaN, is refused by whoever writes.
    let Ok(again) = encode(&entry) else { return };
    let back = decode(again.clone()).expect("an entry that was written");
    assert_eq!(back.catalog, entry.catalog);
    assert_eq!(encode(&back).ok().as_ref(), Some(&again), "an entry is written in two ways");
}

fn rows(body: &RowBody, schema: &SchemaRef) {
    let batches = match body.decode(schema) {
        Ok(batches) => batches,
        Err(error) => return is_answer(&error),
    };
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(count as u64, body.rows());
    let written = |batches: &[RecordBatch]| {
        let mut out = Vec::new();
        encode_rows(&mut out, batches).expect("rows that were read");
        Bytes::from(out)
    };
    let again = written(&batches);
    let back = decode_rows(schema, body.rows(), &again).expect("rows that were written");
    assert_eq!(written(&back), again, "rows are written in two ways");
}

/// A file of a simulated disk.
pub(super) fn write(fs: &SimFileSystem, path: &str, bytes: &[u8]) {
    fs.create_dir_all("wal").expect("a directory");
    let file = fs.open(path, OpenMode::CreateNew).expect("a file");
    file.write_at(bytes, 0).expect("room");
}

pub(super) fn seeds() -> Vec<Seed> {
    let payload = |entry: &WalEntry| encode(entry).expect("a sound entry").to_vec();
    let [defined, few, many, loaded] = entries();
    vec![
        ("file", file(&[defined.clone(), few.clone()], false)),
        ("file-sealed", file(&[defined.clone(), few.clone(), many.clone(), loaded.clone()], true)),
        ("file-empty", file(&[], true)),
        ("object-fence", fence()),
        ("entry-catalog", payload(&defined)),
        ("entry-compact", payload(&few)),
        ("entry-ipc", payload(&many)),
        ("entry-loaded", payload(&loaded)),
    ]
}

/// A file of the log, number 1, as `docs/formats/wal.md` has it.
pub(super) fn file(entries: &[WalEntry], is_sealed: bool) -> Vec<u8> {
    let mut out = header(false);
    for entry in entries {
        let synced = out.len() as u64;
        let payload = encode(entry).expect("a sound entry");
        frame(&mut out, ENTRY, synced, entry.version, &payload);
    }
    if is_sealed {
        let (synced, last) = (out.len() as u64, entries.last().map_or(CommitVersion(0), |e| e.version));
        frame(&mut out, SEAL, synced, last, &[]);
    }
    sealed::log(&out).expect("a file of the log")
}

fn fence() -> Vec<u8> {
    sealed::log(&header(true)).expect("an object of the log")
}

fn header(is_fence: bool) -> Vec<u8> {
    let mut out = vec![0; 128];
    let mut put = |at: usize, value: &[u8]| out[at..at + value.len()].copy_from_slice(value);
    put(0, MAGIC);
    put(8, &1_u32.to_le_bytes());
    put(12, &128_u32.to_le_bytes());
    put(32, DATABASE.0.as_bytes());
    put(48, &1_u64.to_le_bytes());
    put(56, &SALT.to_le_bytes());
    put(64, &1_u64.to_le_bytes());
    put(104, &u32::from(is_fence).to_le_bytes());
    out
}

/// The checksum is still missing.
fn frame(out: &mut Vec<u8>, kind: u8, synced: u64, version: CommitVersion, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small payload");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(&version.0.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Definitions; a few rows; many and nested ones with deletes; segments, deletes and units written before.
pub(super) fn entries() -> [WalEntry; 4] {
    let of = |version: u64, catalog: Vec<CatalogEdit>, tables: Vec<TableChange>| WalEntry {
        version: CommitVersion(version),
        epoch: Epoch(1),
        commit_id: CommitId(Uuid::from_u128(u128::from(version) << 64 | 1)),
        time_us: 1_700_000_000_000_000 + version as i64,
        info: CommitInfo {
            user: "anna".to_owned(),
            session: "shell".to_owned(),
            request_id: String::new(),
            message: "nightly load".to_owned(),
        },
        catalog,
        tables,
    };
    let view = ViewDef {
        schema: "main".to_owned(),
        name: "dear".to_owned(),
        sql: "SELECT id FROM flat WHERE price > 10".to_owned(),
        search_path: "main".to_owned(),
        owner: None,
    };
    let defined = vec![
        CatalogEdit::CreateSchema { name: "old".to_owned() },
        CatalogEdit::PutTable(Arc::new(flat())),
        CatalogEdit::PutTable(Arc::new(nested())),
        CatalogEdit::PutView(Arc::new(view)),
        CatalogEdit::DropView { schema: "main".to_owned(), name: "dear".to_owned() },
        CatalogEdit::DropSchema { name: "old".to_owned() },
    ];
    let few = change(TableId(1), RowBody::Batches(vec![flat_rows(3)]), &[]);
    let many = vec![
        change(TableId(1), RowBody::Batches(vec![flat_rows(150)]), &[1, 2, 400]),
        change(TableId(2), RowBody::Batches(vec![nested_rows()]), &[]),
    ];
    let mut loaded = change(TableId(1), RowBody::Batches(Vec::new()), &[]);
    loaded.segments = vec![segment(2)];
    loaded.deletes = vec![deletes(2)];
    loaded.truncate = true;
    let swap = SegmentSwap {
        table: TableId(1),
        removed: vec![object(2)],
        added: vec![SegmentEntry {
            segment: Arc::new(segment(4)),
            deletes: vec![deletes(4)],
            dropped_at: Some(CommitVersion(9)),
        }],
        horizon: CommitVersion(3),
        rows_left: None,
    };
    let catalog = vec![
        CatalogEdit::PutUnit(Arc::new(unit())),
        CatalogEdit::DropUnits { table: TableId(1), units: vec![object(1)] },
        CatalogEdit::SwapSegments(Arc::new(swap)),
        CatalogEdit::DropTable { table: TableId(2) },
    ];
    [
        of(1, defined, Vec::new()),
        of(2, Vec::new(), vec![few]),
        of(3, Vec::new(), many),
        of(4, catalog, vec![loaded]),
    ]
}

fn change(table: TableId, rows: RowBody, deleted: &[u64]) -> TableChange {
    TableChange {
        table,
        schema_version: SchemaVersion(1),
        first_row_id: RowId(10),
        rows,
        deleted: deleted.iter().map(|id| RowId(*id)).collect(),
        segments: Vec::new(),
        deletes: Vec::new(),
        truncate: false,
    }
}

pub(super) fn object(sequence: u64) -> ObjectId {
    ObjectId { epoch: Epoch(1), sequence }
}

pub(super) fn segment(sequence: u64) -> SegmentMeta {
    let bounds = |min: StatValue, max: StatValue| ColumnStats {
        null_count: 1,
        min: Some(min),
        max: Some(max),
        min_exact: true,
        max_exact: false,
        distinct: 7,
        memory_bytes: 80,
    };
    SegmentMeta {
        id: object(sequence),
        table: TableId(1),
        schema_version: SchemaVersion(1),
        reshaped: false,
        rows: 10,
        bytes: 1000,
        xxh3: format!("{:032x}", 255),
        footer_bytes: 100,
        footer_crc32c: 7,
        page_index_bytes: Some(60),
        key_filter_bytes: Some(100),
        key_filter_crc32c: 8,
        created: Created::Constant(CommitVersion(3)),
        min_created: CommitVersion(3),
        max_created: CommitVersion(3),
        row_ids: RowIds::Base(RowId(100 * sequence)),
        min_row_id: RowId(100 * sequence),
        max_row_id: RowId(100 * sequence + 9),
        sorted: true,
        run: Some(object(sequence)),
        columns: vec![
            bounds(StatValue::Int(-1), StatValue::Int(8)),
            bounds(StatValue::Float(-0.5), StatValue::Float(f64::INFINITY)),
            bounds(StatValue::Decimal(-1), StatValue::Decimal(10_i128.pow(30))),
            bounds(StatValue::Text("a".to_owned()), StatValue::Text("é".to_owned())),
            bounds(StatValue::Bytes(vec![0]), StatValue::Bytes(vec![255, 0])),
        ],
    }
}

pub(super) fn deletes(sequence: u64) -> DeletesMeta {
    DeletesMeta {
        id: object(100 + sequence),
        table: TableId(1),
        segment: object(sequence),
        rows: 3,
        bytes: 90,
        crc32c: 9,
        version: Some(CommitVersion(3)),
    }
}

pub(super) fn unit() -> UnitMeta {
    UnitMeta {
        id: object(200),
        table: TableId(1),
        index: IndexId(1),
        segments: vec![UnitSegment {
            id: object(2),
            left_out: 1,
            positions: Some(Positions { from: 0, to: 8 }),
        }],
        rows: 7,
        bytes: 4096,
        xxh3: format!("{:032x}", 254),
        replaces: vec![object(199)],
        build_ms: 12,
        recall_permille: 990,
    }
}

/// A table of flat columns, whose few rows take the compact form.
pub(super) fn flat() -> TableDef {
    table(
        TableId(1),
        "flat",
        &[
            ("id", ColumnType::Int64),
            ("name", ColumnType::Text),
            ("price", ColumnType::Decimal { precision: 12, scale: 2 }),
            ("weight", ColumnType::Float64),
            ("day", ColumnType::Date),
            ("seen", ColumnType::Timestamp { nanos: false }),
            ("sold", ColumnType::Boolean),
            ("raw", ColumnType::Bytea),
            ("v", ColumnType::Vector(3)),
        ],
    )
}

/// A table with lists and structs, whose rows are always Arrow's messages.
pub(super) fn nested() -> TableDef {
    let point = vec![("x".to_owned(), ColumnType::Float64), ("name".to_owned(), ColumnType::Text)];
    table(
        TableId(2),
        "nested",
        &[
            ("id", ColumnType::Int64),
            ("tags", ColumnType::List(Box::new(ColumnType::Text))),
            ("point", ColumnType::Struct(point)),
        ],
    )
}

fn table(id: TableId, name: &str, columns: &[(&str, ColumnType)]) -> TableDef {
    let column = |(i, (name, column_type)): (usize, &(&str, ColumnType))| ColumnDef {
        id: ColumnId(i as u32 + 1),
        name: (*name).to_owned(),
        column_type: column_type.clone(),
        nullable: i > 0,
        default: (i == 1).then(|| "'none'".to_owned()),
        initial: None,
    };
    TableDef {
        id,
        schema: "main".to_owned(),
        name: name.to_owned(),
        schema_version: SchemaVersion(1),
        columns: columns.iter().enumerate().map(column).collect(),
        primary_key: vec![ColumnId(1)],
        sort: Vec::new(),
        next_column_id: ColumnId(columns.len() as u32 + 1),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    }
}

fn flat_rows(rows: usize) -> RecordBatch {
    let numbers = || 0..rows as i64;
    // Every third is NULL.
    let some = |i: i64| i % 3 != 1;
    let text = |i: i64| some(i).then(|| format!("row number {i} has a name of some length"));
    let schema = flat().arrow_schema();
    let DataType::FixedSizeList(item, dim) = schema.field(8).data_type() else {
        unreachable!("a vector is a list of fixed size");
    };
    let components = Float32Array::from_iter_values((0..3 * rows).map(|i| i as f32 / 4.0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers())),
        Arc::new(numbers().map(text).collect::<StringViewArray>()),
        Arc::new(
            numbers()
                .map(|i| some(i).then_some(i128::from(i) * 125))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(12, 2)
                .expect("a type of the table"),
        ),
        Arc::new(numbers().map(|i| some(i).then_some(i as f64 / 8.0)).collect::<Float64Array>()),
        Arc::new(numbers().map(|i| some(i).then_some(i as i32 - 5)).collect::<Date32Array>()),
        Arc::new(numbers().map(|i| some(i).then_some(i * 1_000_000)).collect::<TimestampMicrosecondArray>()),
        Arc::new(numbers().map(|i| some(i).then_some(i % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(
            numbers().map(|i| some(i).then(|| vec![i as u8; i as usize % 20])).collect::<BinaryViewArray>(),
        ),
        Arc::new(FixedSizeListArray::new(Arc::clone(item), *dim, Arc::new(components), None)),
    ];
    RecordBatch::try_new(schema, columns).expect("rows of the table")
}

fn nested_rows() -> RecordBatch {
    let schema = nested().arrow_schema();
    let (DataType::List(item), DataType::Struct(members)) =
        (schema.field(1).data_type(), schema.field(2).data_type())
    else {
        unreachable!("a list and a struct");
    };
    let words = StringViewArray::from_iter([Some("a"), None, Some("a word of more than twelve bytes")]);
    let tags = ListArray::new(
        Arc::clone(item),
        OffsetBuffer::from_lengths([2, 0, 1]),
        Arc::new(words),
        Some(vec![true, false, true].into()),
    );
    let points = StructArray::new(
        members.clone(),
        vec![
            Arc::new(Float64Array::from_iter([Some(0.5), None, Some(-0.0)])),
            Arc::new(StringViewArray::from_iter([None, Some("b"), Some("c")])),
        ],
        Some(vec![true, true, false].into()),
    );
    let ids = Int64Array::from_iter_values(0..3);
    RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(tags), Arc::new(points)])
        .expect("rows of the table")
}
