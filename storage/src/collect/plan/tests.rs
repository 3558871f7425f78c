#![allow(clippy::unwrap_used)]

use super::*;

const HOUR: i64 = 3_600_000_000;
const NOW: i64 = 1_000 * HOUR;

fn numbers(manifests: &[(u64, i64)]) -> BTreeMap<ManifestNumber, i64> {
    manifests.iter().map(|(number, hours)| (ManifestNumber(*number), hours * HOUR)).collect()
}

/// Manifests published at hours 10, 20, … and now being hour `now`, with one hour of grace and 24 of retention.
fn chosen(oldest: u64, now: i64, pinned: Option<u64>) -> Option<u64> {
    let published = numbers(&[(5, 10), (6, 20), (7, 30), (8, 40), (9, 50)]);
    let ages = Ages {
        oldest: ManifestNumber(oldest),
        grace_us: (now - 1) * HOUR,
        retention_us: (now - 24) * HOUR,
        pinned: pinned.map(ManifestNumber),
    };
    first_kept(&published, &ages).map(|number| number.0)
}

#[test]
fn the_newest_manifest_of_an_hour_ago_is_the_first_that_is_kept() {
    assert_eq!(chosen(1, 10, None), None);
    assert_eq!(chosen(1, 11, None), Some(5));
    assert_eq!(chosen(1, 20, None), Some(5));
    assert_eq!(chosen(1, 21, None), Some(6));
    assert_eq!(chosen(1, 50, None), Some(8));
    assert_eq!(chosen(1, 999, None), Some(9));
}

#[test]
fn what_stands_below_the_boundary_is_not_chosen() {
    assert_eq!(chosen(7, 30, None), None);
    assert_eq!(chosen(7, 31, None), Some(7));
    assert_eq!(
        first_kept(
            &BTreeMap::new(),
            &Ages { oldest: ManifestNumber(1), grace_us: NOW, retention_us: NOW, pinned: None }
        ),
        None
    );
}

#[test]
fn a_pin_holds_its_manifest_for_as_long_as_versions_are_retained() {
    assert_eq!(chosen(1, 51, Some(7)), Some(7));
    assert_eq!(chosen(1, 51, Some(9)), Some(9));
    assert_eq!(chosen(1, 51, Some(12)), Some(9));
    // Replaced more than 24 hours ago.
    assert_eq!(chosen(1, 51, Some(5)), Some(6));
    assert_eq!(chosen(1, 99, Some(5)), Some(9));
    // The boundary has passed it.
    assert_eq!(chosen(8, 51, Some(5)), Some(8));
    assert_eq!(chosen(8, 51, Some(0)), Some(8));
    // Another writer published what it stands on, and it was collected; the next older one is held.
    let published = numbers(&[(5, 10), (9, 50)]);
    let ages = Ages {
        oldest: ManifestNumber(1),
        grace_us: 60 * HOUR,
        retention_us: 0,
        pinned: Some(ManifestNumber(7)),
    };
    assert_eq!(first_kept(&published, &ages), Some(ManifestNumber(5)));
}

#[test]
fn a_retention_shorter_than_the_grace_takes_nothing_from_readers() {
    let published = numbers(&[(5, 10), (6, 20), (7, 30)]);
    let ages = Ages {
        oldest: ManifestNumber(1),
        grace_us: 25 * HOUR,
        retention_us: 99 * HOUR,
        pinned: Some(ManifestNumber(5)),
    };
    assert_eq!(first_kept(&published, &ages), Some(ManifestNumber(6)));
}

fn id(epoch: u64, sequence: u64) -> ObjectId {
    ObjectId { epoch: Epoch(epoch), sequence }
}

/// Manifest 10 of epoch 4: it has settled ids below 4-50 and names 2-7, 4-20 and 4-60; its replay point is 30; 8 and 9 were
/// replaced, 7 was a claim.
fn bounds() -> Bounds {
    let mut named = Named::default();
    named.add([id(2, 7), id(4, 20), id(4, 60)]);
    Bounds {
        epoch: Epoch(5),
        now_us: NOW,
        grace: Duration::from_secs(3600),
        start: Some(Start {
            manifest: ManifestNumber(10),
            settled: Some(id(4, 50)),
            wal_from: WalNumber(30),
            replaced: [ManifestNumber(8), ManifestNumber(9), ManifestNumber(10)].into(),
            named,
        }),
    }
}

fn object(path: &str, bytes: u64, age_us: i64) -> Listed {
    Listed { location: Path::from(path), bytes, modified_us: NOW - age_us }
}

fn judged(bounds: &Bounds, path: &str, bytes: u64, age_us: i64) -> Option<ObjectKind> {
    bounds.judge(&object(path, bytes, age_us)).unwrap()
}

fn paths(id: ObjectId) -> [(String, ObjectKind); 5] {
    [
        (format!("table/1/{id}.parquet"), ObjectKind::Segment),
        (format!("table/1/{id}.keys"), ObjectKind::KeyFilter),
        (format!("table/1/00000002-00000007.{id}.deletes"), ObjectKind::Deletes),
        (format!("table/1/index/{id}.hnsw"), ObjectKind::IndexUnit),
        (format!("manifest/leaf/{id}"), ObjectKind::ManifestLeaf),
    ]
}

#[test]
fn settled_objects_that_nothing_names_go_and_all_others_stay() {
    let bounds = bounds();
    for (id, dead) in [
        // Named, whoever made them.
        (id(2, 7), false),
        (id(4, 20), false),
        // Left by earlier writers, or replaced.
        (id(1, 1), true),
        (id(2, 8), true),
        (id(3, u64::from(u32::MAX) + 1), true),
        (id(4, 19), true),
        (id(4, 49), true),
        // Work that had not ended when the manifest was made, or began later: the log may name them.
        (id(4, 50), false),
        (id(4, 60), false),
        (id(4, 61), false),
        (id(5, 1), false),
    ] {
        for (path, kind) in paths(id) {
            assert_eq!(judged(&bounds, &path, 10, 2 * HOUR), dead.then_some(kind), "{path}");
            // Too young: a writer that does not know of its end may have written it just now.
            assert_eq!(judged(&bounds, &path, 10, HOUR - 1), None, "{path}");
        }
    }
}

#[test]
fn an_object_of_a_later_writer_stops_everything() {
    for (path, _) in paths(id(6, 1)) {
        let error = bounds().judge(&object(&path, 10, 2 * HOUR)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.message().contains("epoch 6") && error.detail().unwrap().contains(&path), "{error}");
    }
}

#[test]
fn a_manifest_that_settles_nothing_lets_every_object_stay() {
    let mut bounds = bounds();
    bounds.start.as_mut().unwrap().settled = None;
    for (path, _) in paths(id(1, 1)) {
        assert_eq!(judged(&bounds, &path, 10, 99 * HOUR), None);
    }
}

#[test]
fn manifests_before_the_first_go_but_those_that_are_known_to_be_needed_or_not_known() {
    let bounds = bounds();
    let number = |n: u64| judged(&bounds, &format!("manifest/{n:020}"), 500, 99 * HOUR);
    assert_eq!([6, 7, 10, 11, 12].map(number), [None; 5]);
    assert_eq!([8, 9].map(number), [Some(ObjectKind::Manifest); 2]);
}

#[test]
fn the_log_goes_up_to_the_replay_point_but_fences() {
    let bounds = bounds();
    let number = |n: u64, bytes| judged(&bounds, &format!("wal/{n:020}"), bytes, 0);
    for n in [1, 29] {
        assert_eq!(number(n, FENCE_BYTES + 1), Some(ObjectKind::Wal));
        assert_eq!(number(n, FENCE_BYTES), None);
    }
    assert_eq!([30, 31].map(|n| number(n, 1_000)), [None; 2]);
}

#[test]
fn history_and_probes_go_by_age_whatever_else_is_known() {
    let none = Bounds { start: None, ..bounds() };
    let kept = |span: Duration| i64::try_from(span.as_micros()).unwrap();
    for bounds in [bounds(), none] {
        for (path, span, kind) in [
            (format!("history/{:020}", 3), HISTORY_KEPT, ObjectKind::History),
            ("probe/7e57".to_owned(), PROBE_KEPT, ObjectKind::Probe),
        ] {
            assert_eq!(judged(&bounds, &path, 1, kept(span)), Some(kind));
            assert_eq!(judged(&bounds, &path, 1, kept(span) - 1), None);
            // The store's clock may be ahead.
            assert_eq!(judged(&bounds, &path, 1, -HOUR), None);
        }
    }
}

#[test]
fn without_a_manifest_of_that_age_nothing_it_could_replace_goes() {
    let bounds = Bounds { start: None, ..bounds() };
    for (path, _) in paths(id(1, 1)) {
        assert_eq!(judged(&bounds, &path, 10, 99 * HOUR), None);
    }
    for path in [format!("manifest/{:020}", 1), format!("wal/{:020}", 1)] {
        assert_eq!(judged(&bounds, &path, 1_000, 99 * HOUR), None);
    }
}

#[test]
fn what_is_not_cairn_s_is_never_touched() {
    let bounds = bounds();
    for path in [
        "CAIRN",
        "boundary",
        "writer",
        "README.md",
        "table/1/notes.txt",
        "table/1/1-1.parquet",
        "table/1/00000001-00000001.parquet.tmp",
        "manifest/8",
        "manifest/leaf/8",
        "wal/tip",
        "history/x",
        "backup/table/1/00000001-00000001.parquet",
    ] {
        assert_eq!(judged(&bounds, path, 1_000, 999 * HOUR), None, "{path}");
    }
}

#[test]
fn a_plan_takes_so_much_and_no_more() {
    let bounds = bounds();
    let mut plan = Plan::default();
    for number in [8, 9, 12] {
        plan.consider(object(&format!("manifest/{number:020}"), 7, HOUR), &bounds).unwrap();
    }
    assert_eq!(plan.dead.iter().map(|dead| dead.bytes).sum::<u64>(), 14);
    assert!(!plan.is_full());
    let dead = || Dead { location: Path::from("wal/x"), kind: ObjectKind::Wal, bytes: 1 };
    plan.dead.resize_with(DEAD_MAX, dead);
    assert!(plan.is_full());
}
