#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use rand::Rng;
use rand::seq::SliceRandom;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::fs::OsFileSystem;
use crate::id::{CommitVersion, RowId};
use crate::object::counting::CountingStore;
use crate::schema::ColumnType;
use crate::segment::key::{EncodedKey, KeyEncoder};
use crate::segment::sort::sort_batches;
use crate::segment::testing::{all_types, array, batch, key_types, object_id, random, table};
use crate::segment::writer::{Addressing, SegmentWriter, SegmentWriterOptions};
use crate::version::{Pins, SegmentState, Shared, TableSnapshot, TableState};

struct Fixture {
    store: Arc<InMemory>,
    def: Arc<TableDef>,
    meta: SegmentMeta,
}

impl Fixture {
    async fn write(def: &Arc<TableDef>, batches: &[RecordBatch], addressing: Addressing) -> Self {
        let options = SegmentWriterOptions {
            row_group_rows: 700,
            page_rows: 100,
            text_page_bytes: 1000,
            sample_rows: 300,
            ..Default::default()
        };
        Self::write_as(def, batches, addressing, options).await
    }

    async fn write_as(
        def: &Arc<TableDef>,
        batches: &[RecordBatch],
        addressing: Addressing,
        options: SegmentWriterOptions,
    ) -> Self {
        let store = Arc::new(InMemory::new());
        let mut writer =
            SegmentWriter::new(store.clone(), def.clone(), object_id(1), addressing, options).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        let mut meta = writer.finish().await.unwrap();
        if addressing == Addressing::Load {
            meta = meta.committed(CommitVersion(8), RowId(100));
        }
        Self { store, def: def.clone(), meta }
    }

    async fn open(&self) -> Result<SegmentReader> {
        let cache = SegmentCache::new(8 << 20);
        SegmentReader::open(self.store.clone(), Arc::new(self.meta.clone()), self.def.clone(), cache, None)
            .await
    }

    async fn all(&self) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.def.columns.len()).collect();
        let batches = self.open().await?.read(&columns, RowChoice::All).await?;
        Ok(concat_batches(&self.def.arrow_schema(), &batches)?)
    }
}

/// With `_row_id` and `_version` at the end.
fn addressed(batch: &RecordBatch, ids: Vec<u64>, versions: Vec<u64>) -> RecordBatch {
    let pseudo = ["_row_id", "_version"].map(|name| Arc::new(Field::new(name, DataType::UInt64, false)));
    let fields: Vec<_> = batch.schema().fields().iter().cloned().chain(pseudo).collect();
    let mut columns = batch.columns().to_vec();
    columns.extend([ids, versions].map(|values| Arc::new(UInt64Array::from(values)) as ArrayRef));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test]
async fn every_type_comes_back() {
    for nullable in [false, true] {
        let types: Vec<_> = all_types().into_iter().map(|t| (t, nullable)).collect();
        let def = table(&types, &[], &[]);
        for rows in [0, 1, 2, 1500] {
            let written = batch(&mut random(rows as u64), &def, rows);
            let half = rows / 2;
            let fixture = Fixture::write(
                &def,
                &[written.slice(0, half), written.slice(half, rows - half)],
                Addressing::Load,
            )
            .await;
            assert_eq!(fixture.meta.rows, rows as u64);
            let read = fixture.all().await.unwrap();
            assert_eq!(written, read, "{rows} rows, nullable {nullable}");
        }
    }
}

#[tokio::test]
async fn chosen_rows_and_columns_come_in_row_order() {
    let def =
        table(&[(ColumnType::Int64, false), (ColumnType::Text, true), (ColumnType::Date, true)], &[], &[]);
    let written = batch(&mut random(5), &def, 2500);
    let fixture = Fixture::write(&def, std::slice::from_ref(&written), Addressing::Load).await;
    let reader = fixture.open().await.unwrap();
    let mut random = random(6);
    for density in [0.001, 0.02, 0.5] {
        let positions: Vec<u32> = (0..2500).filter(|_| random.random_bool(density)).collect();
        let read = reader.read(&[2, 0], RowChoice::Positions(&positions)).await.unwrap();
        let expected = written.project(&[2, 0]).unwrap();
        let indices = arrow::array::UInt32Array::from(positions.clone());
        let expected = arrow::compute::take_record_batch(&expected, &indices).unwrap();
        let schema = expected.schema();
        assert_eq!(expected, concat_batches(&schema, &read).unwrap());
        let read = reader.read(&[], RowChoice::Positions(&positions)).await.unwrap();
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), positions.len());
    }
    let read = reader.read(&[0], RowChoice::Ranges(&[0..1, 690..1405, 2499..2500])).await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 717);
    for wrong in [&[5, 4][..], &[4, 4], &[2500]] {
        assert!(reader.read(&[0], RowChoice::Positions(wrong)).await.is_err());
    }
}

#[tokio::test]
async fn columns_are_matched_by_field_id() {
    let def = table(&[(ColumnType::Int64, false), (ColumnType::Text, true)], &[], &[]);
    let written = batch(&mut random(5), &def, 10);
    let mut fixture = Fixture::write(&def, std::slice::from_ref(&written), Addressing::Load).await;
    let mut later = TableDef::clone(&def);
    later.columns.swap(0, 1);
    later.columns[0].name = "renamed".into();
    let mut added = later.columns[0].clone();
    (added.id, added.name) = (crate::id::ColumnId(9), "added".into());
    later.columns.push(added);
    fixture.def = Arc::new(later);
    let read = fixture.all().await.unwrap();
    assert_eq!(read.schema(), fixture.def.arrow_schema());
    assert_eq!(read.column(0), written.column(1));
    assert_eq!(read.column(1), written.column(0));
    assert_eq!(read.column(2).null_count(), 10);
}

#[tokio::test]
async fn row_ids_and_versions_answer_both_ways() {
    let def = table(&[(ColumnType::Int64, false)], &[], &[]);
    let rows = batch(&mut random(5), &def, 1000);
    let mut random = random(9);
    let ascending: Vec<u64> = (0..1000).map(|i| 50 + i * 3).collect();
    let mut shuffled = ascending.clone();
    shuffled.shuffle(&mut random);
    let versions: Vec<u64> = (0..1000).map(|i| 5 + i % 4).collect();
    for ids in [ascending, shuffled] {
        let written = addressed(&rows, ids.clone(), versions.clone());
        let fixture = Fixture::write(&def, &[written], Addressing::Columns).await;
        let reader = fixture.open().await.unwrap();
        let asked: Vec<RowId> = (0..4000).map(RowId).collect();
        let model: BTreeMap<u64, u32> = ids.iter().copied().zip(0..).collect();
        let expected: Vec<Option<u32>> = asked.iter().map(|id| model.get(&id.0).copied()).collect();
        assert_eq!(reader.positions_of_row_ids(&asked).await.unwrap(), expected);
        let got = reader.row_ids_at(&[999, 0, 5]).await.unwrap();
        assert_eq!(got, [ids[999], ids[0], ids[5]].map(RowId));
        assert_eq!(reader.versions_at(&[2, 3]).await.unwrap(), [7, 8].map(CommitVersion));
        assert!(reader.row_ids_at(&[1000]).await.is_err());
        for version in 3..10 {
            let later = reader.created_after(CommitVersion(version)).await.unwrap();
            let expected = versions.iter().filter(|v| **v > version).count() as u64;
            assert_eq!(later.map_or(0, |l| l.len()), expected);
        }
    }
    let fixture = Fixture::write(&def, &[rows], Addressing::Load).await;
    let reader = fixture.open().await.unwrap();
    let got = reader.positions_of_row_ids(&[99, 100, 1099, 1100].map(RowId)).await.unwrap();
    assert_eq!(got, [None, Some(0), Some(999), None]);
    assert_eq!(reader.row_ids_at(&[7]).await.unwrap(), [RowId(107)]);
    assert_eq!(reader.created_after(CommitVersion(8)).await.unwrap(), None);
    assert_eq!(reader.created_after(CommitVersion(7)).await.unwrap().unwrap().len(), 1000);
}

/// Every key that is there is found at a row of that key, and no other.
async fn check_lookups(def: &Arc<TableDef>, rows: &RecordBatch, addressing: Addressing) {
    let encoder = KeyEncoder::for_key(def).unwrap().unwrap();
    let indices = def.key_indices();
    let mut model: BTreeMap<EncodedKey, Vec<u32>> = BTreeMap::new();
    let keys = encoder.encode_batch(rows, &indices).unwrap();
    (0..).zip(keys.iter()).for_each(|(p, key)| model.entry(EncodedKey::new(key)).or_default().push(p));
    let written = match addressing {
        Addressing::Load => rows.clone(),
        Addressing::Columns => {
            let ids = (0..rows.num_rows() as u64).collect::<Vec<_>>();
            addressed(rows, ids.clone(), ids)
        }
    };
    let fixture = Fixture::write(def, &[written], addressing).await;
    let reader = fixture.open().await.unwrap();
    let others = encoder.encode_batch(&batch(&mut random(77), def, 200), &indices).unwrap();
    let mut asked: Vec<EncodedKey> =
        model.keys().cloned().chain(others.iter().map(EncodedKey::new)).collect();
    asked.sort_unstable();
    let check = |asked: &[EncodedKey], found: &[Option<u32>], hidden: &roaring::RoaringBitmap| {
        for (key, found) in asked.iter().zip(found) {
            let there: Vec<u32> =
                model.get(key).into_iter().flatten().copied().filter(|p| !hidden.contains(*p)).collect();
            match found {
                Some(position) => assert!(there.contains(position), "{:?}", def.columns),
                None => assert!(there.is_empty(), "{key:?} was not found in {:?}", def.columns),
            }
        }
    };
    let none = roaring::RoaringBitmap::new();
    check(&asked, &reader.lookup_keys(&encoder, &asked, None).await.unwrap(), &none);
    let hidden: roaring::RoaringBitmap = (0..rows.num_rows() as u32).step_by(3).collect();
    check(&asked, &reader.lookup_keys(&encoder, &asked, Some(&hidden)).await.unwrap(), &hidden);
    for key in asked.iter().step_by(asked.len() / 12) {
        let one = std::slice::from_ref(key);
        check(one, &reader.lookup_keys(&encoder, one, None).await.unwrap(), &none);
    }
}

#[tokio::test]
async fn keys_are_found_as_in_the_model() {
    for (seed, column_type) in key_types().into_iter().enumerate() {
        let def = table(&[(column_type, false), (ColumnType::Int32, false)], &[0, 1], &[]);
        let unsorted = batch(&mut random(seed as u64), &def, 900);
        let sorted = sort_batches(&def, vec![unsorted.clone()]).unwrap().batches;
        let sorted = concat_batches(&sorted[0].schema(), &sorted).unwrap();
        check_lookups(&def, &unsorted, Addressing::Columns).await;
        check_lookups(&def, &sorted, Addressing::Columns).await;
    }
    let by_other = table(&[(ColumnType::Int64, false), (ColumnType::Text, true)], &[0], &[1]);
    let rows = batch(&mut random(3), &by_other, 900);
    let sorted = sort_batches(&by_other, vec![rows]).unwrap().batches;
    check_lookups(&by_other, &sorted[0], Addressing::Load).await;
}

#[tokio::test]
async fn long_texts_with_equal_beginnings_are_found() {
    let def = table(&[(ColumnType::Text, false)], &[0], &[]);
    let texts = (0..2000).map(|i| format!("{}{i:06}", "p".repeat(60)));
    let column: ArrayRef = Arc::new(arrow::array::StringViewArray::from_iter_values(texts));
    let rows = RecordBatch::try_new(def.arrow_schema(), vec![column]).unwrap();
    check_lookups(&def, &rows, Addressing::Load).await;
}

#[tokio::test]
async fn any_flipped_byte_gives_the_right_rows_or_an_error() {
    let types = [(ColumnType::Int64, false), (ColumnType::Text, true), (ColumnType::Date, false)];
    let def = table(&types, &[0], &[]);
    let column: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..60));
    let mut random = random(2);
    let rest = [1, 2].map(|i: usize| array(&mut random, &types[i].0, 60, types[i].1));
    let [texts, dates] = rest;
    let written = RecordBatch::try_new(def.arrow_schema(), vec![column, texts, dates]).unwrap();
    let fixture = Fixture::write(&def, std::slice::from_ref(&written), Addressing::Load).await;
    let encoder = KeyEncoder::for_key(&def).unwrap().unwrap();
    let keys = encoder.encode_batch(&written, &[0]).unwrap();
    let keys: Vec<EncodedKey> = keys.iter().map(EncodedKey::new).collect();
    for path in [fixture.meta.path(), fixture.meta.key_filter_path()] {
        let path = object_store::path::Path::from(path);
        let bytes = fixture.store.get(&path).await.unwrap().bytes().await.unwrap();
        let data = path.as_ref().ends_with(".parquet");
        for at in 0..=bytes.len() {
            let mut bad = bytes.to_vec();
            match bad.get_mut(at) {
                Some(byte) => *byte ^= 1 << (at % 8),
                None => bad.truncate(bytes.len() / 2),
            }
            fixture.store.put(&path, PutPayload::from(bad)).await.unwrap();
            match fixture.all().await {
                Ok(read) => assert!(written == read && !data, "byte {at} of {path}"),
                Err(error) => assert!(error.kind() == ErrorKind::Corrupt && data, "byte {at}: {error}"),
            }
            let looked_up = match fixture.open().await {
                Ok(reader) => reader.lookup_keys(&encoder, &keys, None).await,
                Err(error) => Err(error),
            };
            match looked_up {
                Ok(found) => assert_eq!(found, (0..60).map(Some).collect::<Vec<_>>(), "byte {at} of {path}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
                    assert!(error.message().contains("table/7/"), "{error}");
                }
            }
        }
        fixture.store.put(&path, PutPayload::from(bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn parquet_readers_get_verified_bytes() {
    use futures::TryStreamExt;
    use parquet::arrow::ParquetRecordBatchStreamBuilder;

    let def = table(&[(ColumnType::Int64, false), (ColumnType::Text, true)], &[], &[]);
    let written = batch(&mut random(5), &def, 3000);
    let fixture = Fixture::write(&def, std::slice::from_ref(&written), Addressing::Load).await;
    let reader = fixture.open().await.unwrap();
    let stream = ParquetRecordBatchStreamBuilder::new(reader.file()).await.unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3000);

    let path = object_store::path::Path::from(fixture.meta.path());
    let mut bad = fixture.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    assert_eq!(reader.verified_range(2..9).await.unwrap(), bad[2..9]);
    reader.check_object().await.unwrap();
    bad[4] ^= 1;
    fixture.store.put(&path, PutPayload::from(bad)).await.unwrap();
    let stream = ParquetRecordBatchStreamBuilder::new(reader.file()).await.unwrap().build().unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("checksum mismatch in block 0 at offset 0"), "{error}");
    let error = reader.verified_range(0..10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(reader.check_object().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// 20,000 rows by ascending key, their columns a few blocks each.
async fn keyed_rows() -> (Fixture, RecordBatch) {
    let types =
        [ColumnType::Int64, ColumnType::Text, ColumnType::Float64, ColumnType::Int64, ColumnType::Date];
    let types: Vec<_> = types.into_iter().enumerate().map(|(i, t)| (t, i > 0)).collect();
    let def = table(&types, &[0], &[]);
    let mut columns = batch(&mut random(5), &def, 20_000).columns().to_vec();
    columns[0] = Arc::new(arrow::array::Int64Array::from_iter_values(0..20_000));
    let written = RecordBatch::try_new(def.arrow_schema(), columns).unwrap();
    let options = SegmentWriterOptions { page_rows: 1000, sample_rows: 300, ..Default::default() };
    let fixture = Fixture::write_as(&def, std::slice::from_ref(&written), Addressing::Load, options).await;
    (fixture, written)
}

#[tokio::test]
async fn a_cold_lookup_takes_few_requests() {
    let (fixture, written) = keyed_rows().await;
    assert!(fixture.meta.bytes > 2 * 64 * 1024, "{}", fixture.meta.bytes);
    let encoder = KeyEncoder::for_key(&fixture.def).unwrap().unwrap();
    let encoded = encoder.encode_batch(&written, &[0]).unwrap();
    let keys = [100, 9_000, 12_345, 19_999].map(|row| EncodedKey::new(encoded.get(row)));
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    let open = async |meta: &SegmentMeta, meter: Option<ReadMeter>| {
        let cache = SegmentCache::new(8 << 20);
        SegmentReader::open(store.clone(), Arc::new(meta.clone()), fixture.def.clone(), cache, meter).await
    };
    for meter in [None, Some(ReadMeter::default())] {
        let reader = open(&fixture.meta, meter.clone()).await.unwrap();
        assert_eq!(store.count(), 1, "page index and footer");
        let found = reader.lookup_keys(&encoder, &keys[2..3], None).await.unwrap();
        assert_eq!(found, [Some(12_345)]);
        assert_eq!(store.count(), 2, "key filter and the key's page");
        let row = reader.rows_at(&[0, 1, 2, 3, 4], &[12_345]).await.unwrap();
        assert_eq!(row.columns(), written.slice(12_345, 1).columns());
        assert_eq!(store.count(), 1, "the pages of all other columns");
        assert_eq!(meter.map_or(4, |meter| meter.figures().requests), 4);

        let reader = open(&fixture.meta, None).await.unwrap();
        let found = reader.lookup_keys(&encoder, &keys, None).await.unwrap();
        assert_eq!(found, [Some(100), Some(9_000), Some(12_345), Some(19_999)]);
        let rows = reader.rows_at(&[3, 1, 2], &[100, 9_000, 12_345, 19_999]).await.unwrap();
        let expected = arrow::array::UInt32Array::from(vec![100, 9_000, 12_345, 19_999]);
        let expected = arrow::compute::take_record_batch(&written.project(&[3, 1, 2]).unwrap(), &expected);
        assert_eq!(rows.columns(), expected.unwrap().columns());
        assert_eq!(store.count(), 4, "no more for rows of several pages");
    }
}

#[tokio::test]
async fn a_footer_that_many_want_is_read_once() {
    let (fixture, _) = keyed_rows().await;
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    let (meta, cache) = (Arc::new(fixture.meta.clone()), SegmentCache::new(8 << 20));
    store.hold();
    let open = || SegmentReader::open(store.clone(), meta.clone(), fixture.def.clone(), cache.clone(), None);
    let release = async {
        tokio::task::yield_now().await;
        store.release(3);
    };
    let (first, second, third, ()) = futures::join!(open(), open(), open(), release);
    for opened in [first, second, third] {
        assert_eq!(opened.unwrap().metadata().file_metadata().num_rows(), 20_000);
    }
    assert_eq!(store.count(), 1);
}

#[tokio::test]
async fn a_lookup_in_a_distant_store_brings_the_rows_with_the_keys() {
    let (fixture, written) = keyed_rows().await;
    let encoder = KeyEncoder::for_key(&fixture.def).unwrap().unwrap();
    let encoded = encoder.encode_batch(&written, &[0]).unwrap();
    let key = [EncodedKey::new(encoded.get(12_345))];
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    // A filter that is many times the page is not read; one that is small is.
    for (key_filter_bytes, requests) in [(fixture.meta.key_filter_bytes, 2), (Some(1 << 30), 1)] {
        let meta = Arc::new(SegmentMeta { key_filter_bytes, ..fixture.meta.clone() });
        let cache = SegmentCache::new(8 << 20);
        let opened = SegmentReader::open(store.clone(), meta, fixture.def.clone(), cache, None).await;
        let reader = opened.unwrap().distant(None).then_reading(&[1, 2, 3, 4]);
        assert_eq!(store.count(), 1, "page index and footer");
        assert_eq!(reader.lookup_keys(&encoder, &key, None).await.unwrap(), [Some(12_345)]);
        assert_eq!(store.count(), requests, "pages of all columns together");
        let row = reader.rows_at(&[0, 1, 2, 3, 4], &[12_345]).await.unwrap();
        assert_eq!(row.columns(), written.slice(12_345, 1).columns());
        assert_eq!(store.count(), 0);
        let read = reader.read(&[4, 0], RowChoice::All).await.unwrap();
        let read = concat_batches(&read[0].schema(), &read).unwrap();
        assert_eq!(read.columns(), written.project(&[4, 0]).unwrap().columns());
        assert_eq!(store.count(), 1, "the two columns and what is between them");
    }
}

#[tokio::test]
async fn a_lookup_in_a_distant_store_brings_the_ids_of_the_rows() {
    let (loaded, written) = keyed_rows().await;
    let encoder = KeyEncoder::for_key(&loaded.def).unwrap().unwrap();
    let encoded = encoder.encode_batch(&written, &[0]).unwrap();
    // Of no order, as after a merge.
    let ids: Vec<u64> = (0..20_000).map(|row| 1 + row * 7919 % 20_011).collect();
    let rows = addressed(&written, ids.clone(), vec![8; 20_000]);
    for row_group_rows in [2_000, 256 * 1024] {
        let options =
            SegmentWriterOptions { row_group_rows, page_rows: 1000, sample_rows: 300, ..Default::default() };
        let fixture =
            Fixture::write_as(&loaded.def, std::slice::from_ref(&rows), Addressing::Columns, options).await;
        let store = Arc::new(CountingStore::new(fixture.store.clone()));
        let (meta, cache) = (Arc::new(fixture.meta.clone()), SegmentCache::new(8 << 20));
        let opened = SegmentReader::open(store.clone(), meta, fixture.def.clone(), cache, None).await;
        let reader = opened.unwrap().distant(None).then_reading(&[1, 2, 3, 4]);
        assert_eq!(store.count(), 1, "page index and footer");
        for (row, requests) in [(12_345, 2), (300, 1)] {
            let key = [EncodedKey::new(encoded.get(row))];
            let position = u32::try_from(row).unwrap();
            assert_eq!(reader.lookup_keys(&encoder, &key, None).await.unwrap(), [Some(position)]);
            let count = store.count();
            assert!(count <= requests, "{count} requests: the key filter once, and pages of all columns");
            assert_eq!(reader.row_ids_at(&[position]).await.unwrap(), [RowId(ids[row])]);
            let found = reader.rows_at(&[0, 1, 2, 3, 4], &[position]).await.unwrap();
            assert_eq!(found.columns(), written.slice(row, 1).columns());
            assert_eq!(store.count(), 0, "{row_group_rows} rows in a row group");
        }
        // All of them by id, and those of many rows.
        let all: Vec<u32> = (0..20_000).collect();
        let expected: Vec<RowId> = ids.iter().copied().map(RowId).collect();
        assert_eq!(reader.row_ids_at(&all).await.unwrap(), expected);
        let found = reader.positions_of_row_ids(&[RowId(ids[777]), RowId(30_000)]).await.unwrap();
        assert_eq!(found, [Some(777), None]);
    }
}

#[tokio::test]
async fn the_key_filter_and_the_pages_are_asked_for_at_the_same_time() {
    let (fixture, written) = keyed_rows().await;
    let encoder = KeyEncoder::for_key(&fixture.def).unwrap().unwrap();
    let encoded = encoder.encode_batch(&written, &[0]).unwrap();
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    let (meta, cache) = (Arc::new(fixture.meta.clone()), SegmentCache::new(8 << 20));
    let opened = SegmentReader::open(store.clone(), meta, fixture.def.clone(), cache, None).await;
    let reader = opened.unwrap().distant(None).then_reading(&[1, 2, 3, 4]);
    assert_eq!(store.count(), 1);
    store.hold();
    let key = [EncodedKey::new(encoded.get(12_345))];
    let look_up = reader.lookup_keys(&encoder, &key, None);
    let release = async {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.count(), 2, "neither waits for the other");
        store.release(2);
    };
    let (found, ()) = futures::join!(look_up, release);
    assert_eq!(found.unwrap(), [Some(12_345)]);
    assert_eq!(store.count(), 0);
}

#[tokio::test]
async fn the_page_index_is_read_with_the_footer_where_the_meta_tells_its_length() {
    let (fixture, written) = keyed_rows().await;
    let noted = fixture.meta.page_index_bytes.unwrap();
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    // As written before it was noted; a length that is too small or larger than need be; one that can't be.
    let end = fixture.meta.bytes - u64::from(fixture.meta.footer_bytes) - 8;
    let lengths =
        [(None, 2), (Some(noted), 1), (Some(0), 2), (Some(end as u32), 1), (Some(end as u32 + 1), 0)];
    for (page_index_bytes, requests) in lengths {
        let meta = Arc::new(SegmentMeta { page_index_bytes, ..fixture.meta.clone() });
        let cache = SegmentCache::new(8 << 20);
        let opened = SegmentReader::open(store.clone(), meta, fixture.def.clone(), cache, None).await;
        let count = store.count();
        match opened {
            Ok(reader) => {
                assert!(count <= requests, "{count} for {page_index_bytes:?}");
                let read = reader.read(&[0, 1, 2, 3, 4], RowChoice::All).await.unwrap();
                assert_eq!(concat_batches(&fixture.def.arrow_schema(), &read).unwrap(), written);
                store.count();
            }
            Err(error) => {
                assert_eq!((error.kind(), requests), (ErrorKind::Corrupt, 0), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_meter_counts_the_reads_of_its_snapshot_only() {
    let (fixture, _) = keyed_rows().await;
    let meta = Arc::new(fixture.meta.clone());
    let segments = vec![Arc::new(SegmentState::clean(meta.clone()))];
    let state = TableState::restored(fixture.def.clone(), RowId(30_000), CommitVersion(8), segments, None);
    let state = Arc::new(state);
    let store = Arc::new(CountingStore::new(fixture.store.clone()));
    let shared = Shared {
        store: store.clone(),
        cache: SegmentCache::new(8 << 20),
        files: None,
        remote: true,
        disk_cache: None,
        may_expire: false.into(),
        pins: Pins::default(),
    };
    let snapshot = TableSnapshot::new(state.clone(), CommitVersion(8), Arc::new(shared));
    let meter = ReadMeter::default();
    let metered = snapshot.clone().metered(meter.clone());
    metered.open_segment(&meta).await.unwrap().read(&[0, 2], RowChoice::All).await.unwrap();
    let counted = meter.figures();
    assert_eq!(counted.requests, store.count() as u64);
    assert!(counted.requests >= 2 && counted.bytes > 100_000, "{counted:?}");
    // Others use what it has opened, but not its meter.
    snapshot.open_segment(&meta).await.unwrap().read(&[1, 3], RowChoice::All).await.unwrap();
    assert!(store.count() > 0);
    assert_eq!(meter.figures(), counted);
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(OsFileSystem::new(directory.path().to_owned()));
    let shared = Shared {
        store,
        cache: SegmentCache::new(8 << 20),
        files: Some(files),
        remote: false,
        disk_cache: None,
        may_expire: false.into(),
        pins: Pins::default(),
    };
    let local = TableSnapshot::new(state, CommitVersion(8), Arc::new(shared)).metered(meter);
    assert!(local.meter().is_none(), "files are read as fast as ever");
}

#[tokio::test]
async fn few_rows_by_id_cost_the_pages_they_are_in() {
    const ROWS: usize = 100_000;
    let block = 64 * 1024_u64;
    let def = table(&[(ColumnType::Int64, false)], &[], &[]);
    let mut random = random(9);
    let rows = batch(&mut random, &def, ROWS);
    // Far apart, so that they take many bytes.
    let ascending: Vec<u64> =
        (1..=ROWS as u64).map(|i| (i << 40) + random.random_range(0..(1_u64 << 40) - 1)).collect();
    let mut shuffled = ascending.clone();
    shuffled.shuffle(&mut random);
    let options = SegmentWriterOptions { page_rows: 1000, sample_rows: 300, ..Default::default() };
    for ids in [ascending.clone(), shuffled] {
        let written = addressed(&rows, ids.clone(), vec![8; ROWS]);
        let fixture = Fixture::write_as(&def, &[written], Addressing::Columns, options.clone()).await;
        let meta = Arc::new(fixture.meta.clone());
        let store = Arc::new(CountingStore::new(fixture.store.clone()));
        let bytes = || store.ranges().iter().map(|range| range.end - range.start).sum::<u64>();
        let open = async || {
            let cache = SegmentCache::new(8 << 20);
            let reader =
                SegmentReader::open(store.clone(), meta.clone(), def.clone(), cache.clone(), None).await;
            store.count();
            (reader.unwrap(), cache)
        };
        let (reader, _) = open().await;
        reader.row_id_column().await.unwrap();
        let whole = bytes();
        assert!(whole > 6 * block, "{whole}");
        let row = 77_777;
        let id = RowId(ids[row]);
        let place = Some((meta.id, row as u32));

        let (reader, cache) = open().await;
        assert_eq!(reader.row_ids_at(&[row as u32]).await.unwrap(), [id]);
        let few = bytes();
        assert!(few <= 2 * block, "{few}");
        assert_eq!(reader.row_ids_at(&[row as u32 + 1, row as u32]).await.unwrap()[1], id);
        assert_eq!(cache.places().find(meta.table, &[id]), [place]);
        // So a version that deletes it need not look for it.
        let segments = vec![Arc::new(SegmentState::clean(meta.clone()))];
        let mut state = TableState::restored(def.clone(), RowId(u64::MAX), CommitVersion(8), segments, None);
        state.hot_deletes.delete(&[id], CommitVersion(9));
        let shared = Shared {
            store: store.clone(),
            cache,
            files: None,
            remote: true,
            disk_cache: None,
            may_expire: false.into(),
            pins: Pins::default(),
        };
        let snapshot = TableSnapshot::new(Arc::new(state), CommitVersion(9), Arc::new(shared));
        store.count();
        let views = snapshot.segments().await.unwrap();
        assert_eq!(views[0].deleted.as_ref().unwrap().iter().collect::<Vec<_>>(), [row as u32]);
        assert_eq!(snapshot.rows(&[id], &[0], true).await.unwrap().num_rows(), 0);
        assert_eq!(store.count(), 0);

        // By its id alone: bounds of pages tell only where ids ascend.
        let (reader, cache) = open().await;
        let found = reader.positions_of_row_ids(&[id, RowId(id.0 + 1)]).await.unwrap();
        assert_eq!(found, [Some(row as u32), None]);
        let read = bytes();
        let most = if ids == ascending { 4 * block } else { whole };
        assert!(read <= most, "{read}");
        assert_eq!(cache.places().find(meta.table, &[id, RowId(id.0 + 1)]), [place, None]);
    }
}

#[tokio::test]
async fn row_groups_are_decoded_whole() {
    let types: Vec<_> = all_types().into_iter().map(|t| (t, true)).collect();
    let def = table(&types, &[], &[]);
    let rows = batch(&mut random(31), &def, 1500);
    let fixture = Fixture::write(&def, std::slice::from_ref(&rows), Addressing::Load).await;
    let reader = fixture.open().await.unwrap();
    let roots: Vec<usize> = reader.file_columns().iter().copied().flatten().collect();
    assert_eq!(roots.len(), def.columns.len());
    let mut first = 0;
    for group in 0..3 {
        let decoded = reader.decode_group(group, &roots).await.unwrap();
        let part = rows.slice(first, decoded[0].rows());
        first += part.num_rows();
        for (place, column) in decoded.iter().enumerate() {
            let data_type = reader.file_schema().field(roots[place]).data_type();
            assert_eq!(column.data_type(), Some(data_type));
            assert_eq!(reader.column_id(roots[place]), Some(def.columns[place].id));
            assert_eq!(column.chunks().len(), 1);
            let stored = crate::segment::vectors::to_stored(part.column(place)).unwrap();
            assert_eq!(&column.chunks()[0], &stored, "{data_type}");
        }
    }
    assert_eq!(first, 1500);
    assert!(reader.decode_group(3, &roots).await.is_err());
    assert!(reader.decode_group(0, &[1, 0]).await.is_err());
    assert!(reader.decode_group(0, &[999]).await.is_err());
    assert!(reader.is_near([0..10, 500..600]), "a read is as good as the look");
    assert!(!reader.distant(None).is_near([0..10, 500..600]));
}
