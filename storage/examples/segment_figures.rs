//! Speed and size of one lineitem segment: `cargo run --release -p cairn-storage --example segment_figures [scale] [lz4]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use cairn_storage::id::{ColumnId, CommitVersion, Epoch, ObjectId, RowId, SchemaVersion, TableId};
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_storage::segment::{
    Addressing, KeyEncoder, RowChoice, SegmentCache, SegmentCompression, SegmentReader, SegmentWriter,
    SegmentWriterOptions,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tpchgen::generators::LineItemGenerator;
use tpchgen_arrow::LineItemArrow;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let scale: f64 = args.get(1).and_then(|s| s.parse().ok()).unwrap_or(0.1);
    let lz4 = args.iter().any(|a| a == "lz4");
    let batches: Vec<RecordBatch> = LineItemArrow::new(LineItemGenerator::new(scale, 1, 1))
        .with_batch_size(8192)
        .map(|b| b.unwrap())
        .collect();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    for keyed in [false, true] {
        for compression in [SegmentCompression::Zstd, SegmentCompression::Lz4] {
            if lz4 || compression == SegmentCompression::Zstd {
                figures(&batches, rows, keyed, compression).await;
            }
        }
    }
}

fn table(batch: &RecordBatch, keyed: bool) -> Arc<TableDef> {
    let schema = batch.schema();
    let columns: Vec<ColumnDef> = (1..)
        .zip(schema.fields())
        .map(|(id, field)| ColumnDef {
            id: ColumnId(id),
            name: field.name().clone(),
            column_type: ColumnType::from_arrow(field.data_type()).unwrap(),
            nullable: false,
            default: None,
            initial: None,
        })
        .collect();
    let key = if keyed { vec![ColumnId(1), ColumnId(4)] } else { vec![] };
    Arc::new(TableDef {
        id: TableId(1),
        schema: "main".into(),
        name: "lineitem".into(),
        schema_version: SchemaVersion(1),
        next_column_id: ColumnId(columns.len() as u32 + 1),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
        columns,
        primary_key: key,
        sort: vec![],
    })
}

async fn figures(batches: &[RecordBatch], rows: usize, keyed: bool, compression: SegmentCompression) {
    let def = table(&batches[0], keyed);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let options = SegmentWriterOptions { compression, ..Default::default() };
    let id = ObjectId { epoch: Epoch(1), sequence: 1 };
    let start = cpu();
    let mut writer =
        SegmentWriter::new(Arc::clone(&store), Arc::clone(&def), id, Addressing::Load, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
    let encode = cpu() - start;
    let meta = Arc::new(writer.finish().await.unwrap().committed(CommitVersion(1), RowId(1)));
    println!(
        "keyed={keyed} {compression:?}: {rows} rows, {:.2} M rows per CPU second, {:.1} MiB, {:.1} B/row, footer {} KiB, filter {} KiB",
        rows as f64 / encode.as_secs_f64() / 1e6,
        meta.bytes as f64 / 1048576.0,
        meta.bytes as f64 / rows as f64,
        meta.footer_bytes / 1024,
        meta.key_filter_bytes.unwrap_or(0) / 1024,
    );
    let cache = SegmentCache::new(512 << 20);
    let start = Instant::now();
    let open = || {
        SegmentReader::open(Arc::clone(&store), Arc::clone(&meta), Arc::clone(&def), Arc::clone(&cache), None)
    };
    let reader = open().await.unwrap();
    let first = start.elapsed();
    let start = Instant::now();
    for _ in 0..1000 {
        open().await.unwrap();
    }
    println!("  open: first {first:?}, cached {:?}", start.elapsed() / 1000);
    for group in reader.metadata().row_groups().iter().take(1) {
        for column in group.columns() {
            println!(
                "    {:16} {:9} -> {:9} B {:?}",
                column.column_path().string(),
                column.uncompressed_size(),
                column.compressed_size(),
                column.encodings().collect::<Vec<_>>()
            );
        }
    }
    let all: Vec<usize> = (0..def.columns.len()).collect();
    let start = cpu();
    let mut scan = reader.batches(&all, RowChoice::All, 8192).unwrap();
    let mut read = 0;
    while let Some(batch) = scan.next().await.unwrap() {
        read += batch.num_rows();
    }
    println!(
        "  scan of all columns: {:.2} M rows per CPU second",
        read as f64 / (cpu() - start).as_secs_f64() / 1e6
    );

    let mut times = Vec::new();
    for n in 0..2000_u64 {
        let position = (n * 2_654_435_761 % rows as u64) as u32;
        let start = Instant::now();
        reader.read(&all, RowChoice::Positions(&[position])).await.unwrap();
        times.push(start.elapsed());
    }
    report("one row of 16 columns", &mut times);
    if let Some(encoder) = KeyEncoder::for_key(&def).unwrap() {
        for n in 0..2000_usize {
            let position = n * 2_654_435 % rows;
            let batch = &batches[position / 8192];
            let key = encoder.encode_batch(batch, &def.key_indices()).unwrap().to_owned(position % 8192);
            let start = Instant::now();
            let found = reader.lookup_keys(&encoder, &[key], None).await.unwrap();
            times.push(start.elapsed());
            assert_eq!(found, [Some(position as u32)]);
        }
        report("lookup of one key", &mut times);
    }
}

/// CPU time of this (single-threaded) process where Linux tells it, else the clock: other load must not count.
fn cpu() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let started = START.get_or_init(Instant::now);
    let stat = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = stat.and_then(|s| s.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

fn report(what: &str, times: &mut Vec<Duration>) {
    times.drain(..times.len() / 4);
    times.sort_unstable();
    println!("  {what}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    times.clear();
}
