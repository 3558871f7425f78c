#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::error::ErrorKind;
use crate::id::{
    CommitId, CommitVersion, DatabaseId, Epoch, ObjectId, RowId, SchemaVersion, TableId, WalNumber,
};
use crate::manifest::model::{CatalogRecord, LeafRef, SegmentEntry};
use crate::schema::{ColumnDef, ColumnType, IdentityDef, ViewDef};
use crate::segment::{Created, DeletesMeta, RowIds, SegmentMeta};

/// A segment of table 1 with ten rows from `base`.
pub(crate) fn segment_entry(sequence: u64, base: u64) -> SegmentEntry {
    let segment = SegmentMeta {
        id: ObjectId { epoch: Epoch(2), sequence },
        table: TableId(1),
        schema_version: SchemaVersion(1),
        reshaped: false,
        rows: 10,
        bytes: 1000,
        xxh3: format!("{:032x}", 255),
        footer_bytes: 100,
        footer_crc32c: 7,
        page_index_bytes: None,
        key_filter_bytes: Some(64),
        key_filter_crc32c: 8,
        created: Created::Column,
        min_created: CommitVersion(0),
        max_created: CommitVersion(0),
        row_ids: RowIds::Column,
        min_row_id: RowId(0),
        max_row_id: RowId(0),
        sorted: true,
        run: None,
        columns: vec![],
    };
    let deletes = DeletesMeta {
        id: ObjectId { epoch: Epoch(2), sequence: 1 << 40 | sequence },
        table: TableId(1),
        segment: segment.id,
        rows: 3,
        bytes: 30,
        crc32c: 9,
        version: Some(CommitVersion(20)),
    };
    SegmentEntry {
        segment: Arc::new(segment.committed(CommitVersion(11), RowId(base))),
        deletes: vec![deletes],
        dropped_at: None,
    }
}

/// A manifest in which every rule holds: table `main.t` with two segments, a view.
pub(crate) fn sound() -> Manifest {
    let column = |id, name: &str, column_type, nullable| ColumnDef {
        id: ColumnId(id),
        name: name.into(),
        column_type,
        nullable,
        default: None,
        initial: None,
    };
    let def = TableDef {
        id: TableId(1),
        schema: "main".into(),
        name: "t".into(),
        schema_version: SchemaVersion(1),
        columns: vec![
            column(1, "id", ColumnType::Int64, false),
            column(2, "doc", ColumnType::Json, true),
            column(3, "day", ColumnType::Date, true),
        ],
        primary_key: vec![ColumnId(1)],
        sort: vec![ColumnId(3)],
        next_column_id: ColumnId(4),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    };
    let view = ViewDef {
        schema: "main".into(),
        name: "v".into(),
        sql: "SELECT 1".into(),
        search_path: "main".into(),
        owner: None,
    };
    Manifest {
        number: ManifestNumber(5),
        database_id: DatabaseId(uuid::Uuid::from_u128(1)),
        epoch: Epoch(3),
        commit_id: CommitId(uuid::Uuid::from_u128(2)),
        version: CommitVersion(30),
        time_us: 1000,
        replay_epoch: Epoch(0),
        is_claim: false,
        replay_from: WalNumber(4),
        horizon: CommitVersion(10),
        next_table_id: TableId(2),
        settled: None,
        history: Vec::new(),
        catalog: CatalogRecord { schemas: vec!["main".into()], views: vec![Arc::new(view)] },
        tables: vec![TableRecord {
            units: Vec::new(),
            def: Arc::new(def),
            flushed: CommitVersion(25),
            next_row_id: RowId(100),
            numbered: None,
            segments: SegmentList::Inline(vec![segment_entry(1, 20), segment_entry(2, 0)]),
            dropped_at: None,
        }],
    }
}

/// The manifest after [`sound`].
pub(crate) fn successor(previous: &Manifest) -> Manifest {
    let mut next = previous.clone();
    next.number = previous.number.next();
    next.commit_id = CommitId(uuid::Uuid::from_u128(1000 + u128::from(next.number.0)));
    next
}

#[track_caller]
fn breaks(rule: u8, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = sound();
    change(&mut manifest);
    assert_eq!(check_manifest(&manifest).unwrap_err().rule, rule);
}

#[track_caller]
fn breaks_def(rule: u8, change: impl FnOnce(&mut TableDef)) {
    breaks(rule, |m| change(Arc::make_mut(&mut m.tables[0].def)));
}

#[track_caller]
fn breaks_segment(rule: u8, change: impl FnOnce(&mut SegmentMeta)) {
    breaks(rule, |m| change(Arc::make_mut(&mut inline(m)[0].segment)));
}

#[track_caller]
fn breaks_after(rule: u8, change: impl FnOnce(&mut Manifest)) {
    let previous = sound();
    let mut next = successor(&previous);
    change(&mut next);
    assert_eq!(check_successor(Some(&previous), &next).unwrap_err().rule, rule);
}

fn inline(m: &mut Manifest) -> &mut Vec<SegmentEntry> {
    match &mut m.tables[0].segments {
        SegmentList::Inline(segments) => segments,
        SegmentList::Leaves(_) => panic!("inline in these tests"),
    }
}

#[test]
fn a_sound_manifest_passes() {
    let manifest = sound();
    check_manifest(&manifest).unwrap();
    check_successor(Some(&manifest), &successor(&manifest)).unwrap();
}

#[test]
fn rule_1_numbers_are_dense() {
    breaks(1, |m| m.number = ManifestNumber(0));
    breaks_after(1, |m| m.number = ManifestNumber(7));
    breaks_after(1, |m| m.number = ManifestNumber(5));
    assert_eq!(check_successor(None, &sound()).unwrap_err().rule, 1);
}

#[test]
fn rule_2_identity() {
    breaks_after(2, |m| m.database_id = DatabaseId(uuid::Uuid::from_u128(9)));
    breaks_after(2, |m| m.commit_id = sound().commit_id);
}

#[test]
fn rule_3_nothing_goes_back() {
    breaks_after(3, |m| m.version = CommitVersion(29));
    breaks_after(3, |m| m.time_us = 999);
    breaks_after(3, |m| m.epoch = Epoch(2));
    breaks_after(3, |m| m.horizon = CommitVersion(9));
    breaks_after(3, |m| m.replay_from = WalNumber(3));
    breaks_after(3, |m| m.next_table_id = TableId(1));
    let settled = |sequence| Some(ObjectId { epoch: Epoch(2), sequence });
    let previous = Manifest { settled: settled(7), ..sound() };
    for (next, holds) in [(None, false), (settled(6), false), (settled(7), true), (settled(8), true)] {
        let next = Manifest { settled: next, ..successor(&previous) };
        assert_eq!(check_successor(Some(&previous), &next).is_ok(), holds);
    }
}

#[test]
fn rule_4_horizon() {
    breaks(4, |m| m.horizon = CommitVersion(31));
}

#[test]
fn rule_5_schemas_exist_once() {
    breaks(5, |m| m.catalog.schemas.clear());
    breaks(5, |m| m.catalog.schemas.push("main".into()));
    breaks(5, |m| Arc::make_mut(&mut m.catalog.views[0]).schema = "gone".into());
}

#[test]
fn rule_6_names_are_unique() {
    breaks(6, |m| Arc::make_mut(&mut m.catalog.views[0]).name = "t".into());
    breaks(6, |m| m.tables.push(m.tables[0].clone()));
}

#[test]
fn rule_7_table_ids() {
    breaks(7, |m| m.next_table_id = TableId(1));
    breaks(7, |m| {
        let mut twin = m.tables[0].clone();
        Arc::make_mut(&mut twin.def).name = "u".into();
        m.tables.push(twin);
    });
}

#[test]
fn rule_8_columns() {
    breaks_def(8, |d| d.columns[1].id = ColumnId(1));
    breaks_def(8, |d| d.columns[1].id = ColumnId(0));
    breaks_def(8, |d| d.columns[1].id = ColumnId(4));
    breaks_def(8, |d| d.columns[1].name = "id".into());
}

#[test]
fn rule_9_keys() {
    breaks_def(9, |d| d.primary_key = vec![ColumnId(8)]);
    breaks_def(9, |d| d.primary_key = vec![ColumnId(1), ColumnId(1)]);
    breaks_def(9, |d| d.primary_key = vec![ColumnId(3)]);
    breaks_def(9, |d| d.sort = vec![ColumnId(2)]);
}

#[test]
fn rule_10_flushed() {
    breaks(10, |m| m.tables[0].flushed = CommitVersion(31));
}

#[test]
fn rule_11_tables_never_go_back() {
    breaks_after(11, |m| m.tables[0].flushed = CommitVersion(24));
    breaks_after(11, |m| m.tables[0].next_row_id = RowId(99));
    breaks_after(11, |m| Arc::make_mut(&mut m.tables[0].def).schema_version = SchemaVersion(0));
}

#[test]
fn rule_11_numbers_are_used_up_for_ever() {
    let numbered = |increment: i64, used: Option<i64>| {
        let mut manifest = sound();
        let (min, max) = if increment > 0 { (1, 1_000) } else { (-1_000, -1) };
        let identity =
            IdentityDef { column: ColumnId(1), always: false, start: increment, increment, min, max };
        Arc::make_mut(&mut manifest.tables[0].def).identity = Some(identity);
        manifest.tables[0].numbered = used;
        manifest
    };
    for (increment, before, after, holds) in [
        (1, None, None, true),
        (1, None, Some(5), true),
        (1, Some(5), Some(5), true),
        (1, Some(5), Some(7), true),
        (1, Some(5), Some(4), false),
        (1, Some(5), None, false),
        (-2, Some(-5), Some(-7), true),
        (-2, Some(-5), Some(-3), false),
    ] {
        let (previous, next) = (numbered(increment, before), successor(&numbered(increment, after)));
        let checked = check_successor(Some(&previous), &next);
        assert_eq!(checked.as_ref().err().map(|broken| broken.rule), (!holds).then_some(11), "{checked:?}");
    }
    // The column was dropped, or another one has taken its place.
    let previous = numbered(1, Some(5));
    let mut next = successor(&previous);
    next.tables[0].numbered = None;
    Arc::make_mut(&mut next.tables[0].def).identity = None;
    check_successor(Some(&previous), &next).unwrap();
    let mut next = successor(&numbered(1, None));
    Arc::make_mut(&mut next.tables[0].def).identity.as_mut().unwrap().column = ColumnId(3);
    check_successor(Some(&previous), &next).unwrap();
}

#[test]
fn rule_12_object_ids() {
    breaks(12, |m| {
        let again = inline(m)[0].clone();
        inline(m).push(again);
    });
    breaks(12, |m| {
        let id = inline(m)[0].deletes[0].id;
        inline(m)[1].deletes[0].id = id;
    });
}

#[test]
fn rule_13_bounds() {
    breaks_segment(13, |s| s.rows = 0);
    breaks_segment(13, |s| s.rows = 11);
    breaks_segment(13, |s| s.min_created = CommitVersion(1));
    breaks_segment(13, |s| s.max_row_id = RowId(0));
    breaks_segment(13, |s| s.row_ids = RowIds::Base(RowId(21)));
    breaks_segment(13, |s| {
        s.row_ids = RowIds::Column;
        s.max_row_id = RowId(28);
    });
}

#[test]
fn rule_14_row_ids_are_unique() {
    breaks(14, |m| inline(m)[1] = segment_entry(2, 29));
    breaks(14, |m| inline(m)[1] = segment_entry(2, 11));
}

#[test]
fn rule_15_deletes_have_their_segment() {
    breaks(15, |m| inline(m)[0].deletes[0].segment.sequence = 77);
    breaks(15, |m| inline(m)[0].deletes[0].table = TableId(9));
    breaks(15, |m| inline(m)[0].deletes[0].rows = 11);
}

#[test]
fn rule_16_segments_fit_their_table() {
    breaks(16, |m| {
        let entry = &mut inline(m)[0];
        Arc::make_mut(&mut entry.segment).table = TableId(2);
        entry.deletes.clear();
    });
    breaks_segment(16, |s| s.schema_version = SchemaVersion(2));
    breaks(16, |m| m.tables[0].flushed = CommitVersion(10));
    breaks(16, |m| m.tables[0].flushed = CommitVersion(19));
    breaks(16, |m| m.tables[0].next_row_id = RowId(29));
}

#[test]
fn rule_17_key_filters() {
    breaks_segment(17, |s| s.key_filter_bytes = None);
    breaks_def(17, |d| d.primary_key.clear());
}

#[test]
fn rule_18_epochs_and_leaves() {
    breaks(18, |m| m.epoch = Epoch(1));
    breaks(18, |m| m.settled = Some(ObjectId { epoch: Epoch(4), sequence: 1 }));
    let leaf = |sequence, first, segments| LeafRef {
        id: ObjectId { epoch: Epoch(2), sequence },
        first: ObjectId { epoch: Epoch(1), sequence: first },
        segments,
        rows: 10,
        bytes: 1,
        crc32c: 1,
        xxh3: String::new(),
    };
    let put =
        |leaves: Vec<LeafRef>| move |m: &mut Manifest| m.tables[0].segments = SegmentList::Leaves(leaves);
    breaks(18, put(vec![leaf(1, 5, 4), leaf(2, 5, 4)]));
    breaks(18, put(vec![leaf(1, 5, 0)]));
    breaks(18, |m| {
        put(vec![leaf(1, 5, 4)])(m);
        m.epoch = Epoch(1);
    });
}

#[test]
fn a_broken_rule_is_a_fault_before_and_damage_after() {
    let broken = Broken { rule: 4, detail: "x".into() };
    assert_eq!(broken.clone().before_write().kind(), ErrorKind::Internal);
    let error = broken.after_read("manifest/1");
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Corrupt, "manifest/1 is damaged: invariant 4: x")
    );
}
