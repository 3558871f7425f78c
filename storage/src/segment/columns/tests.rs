#![allow(clippy::unwrap_used)]

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, StringViewArray};
use arrow::datatypes::Int32Type;

use super::*;
use crate::id::Epoch;

const SLOW: Duration = Duration::from_millis(10);
const FAST: Duration = Duration::from_micros(1);

fn key(sequence: u64, group: u32) -> ColumnKey {
    ColumnKey { segment: ObjectId { epoch: Epoch(1), sequence }, column: ColumnId(1), group }
}

fn column(chunks: Vec<ArrayRef>) -> Arc<DecodedColumn> {
    Arc::new(DecodedColumn::new(&chunks).unwrap())
}

fn numbers(rows: usize) -> Arc<DecodedColumn> {
    column(vec![Arc::new(Int64Array::from(vec![7; rows]))])
}

fn cache(bytes: usize) -> ColumnCache {
    let cache = ColumnCache::default();
    cache.set_limit(bytes);
    cache
}

/// What the parts hold, counted anew.
fn counted(cache: &ColumnCache) -> u64 {
    cache.kept().iter().map(|kept| kept.bytes).sum()
}

#[test]
fn the_budget_holds_and_what_is_used_stays() {
    let one = numbers(1000).bytes();
    let cache = cache(10 * one);
    for group in 0..50 {
        cache.keep(key(1, group), &numbers(1000), SLOW);
        assert!(cache.find(&key(1, 0)).is_some(), "what is used left at {group}");
        assert!(cache.bytes() <= 10 * one);
        assert_eq!(cache.bytes() as u64, counted(&cache));
    }
    let figures = cache.figures();
    assert_eq!((figures.hits, figures.misses, figures.evictions), (50, 0, 40));
    assert!(cache.find(&key(1, 1)).is_none());
    assert_eq!(cache.figures().misses, 1);
    // The same again is no second one.
    cache.keep(key(1, 0), &numbers(1000), SLOW);
    assert_eq!((cache.kept().len(), cache.bytes()), (10, 10 * one));
    cache.keep(key(2, 0), &numbers(CHUNK_ROWS), SLOW);
    assert!(cache.bytes() <= 10 * one);
    cache.set_limit(3 * one);
    assert!(cache.bytes() <= 3 * one && cache.bytes() as u64 == counted(&cache));
    cache.set_limit(0);
    assert_eq!((cache.bytes(), cache.is_on()), (0, false));
    cache.keep(key(1, 0), &numbers(1), SLOW);
    assert!(cache.find(&key(1, 0)).is_none());
}

#[test]
fn what_was_quick_to_decode_leaves_first_and_gets_in_last() {
    let one = numbers(1000).bytes();
    let cache = cache(4 * one);
    cache.keep(key(1, 0), &numbers(1000), FAST);
    for group in 1..4 {
        cache.keep(key(1, group), &numbers(1000), SLOW);
    }
    cache.keep(key(1, 4), &numbers(1000), SLOW);
    assert!(cache.find(&key(1, 0)).is_none() && cache.find(&key(1, 4)).is_some());
    // It is worth less than all others, until they have become old.
    let refused = (0..200).take_while(|_| {
        cache.keep(key(1, 0), &numbers(1000), FAST);
        !cache.kept().iter().any(|kept| kept.key == key(1, 0))
    });
    let refused = refused.count();
    assert!((1..200).contains(&refused), "{refused}");
}

#[test]
fn what_is_asked_for_once_is_not_decoded_for_later_when_room_is_short() {
    let one = numbers(1000).bytes();
    let cache = cache(8 * one);
    assert!(cache.admits(&[key(1, 0)], one, true), "while half is free");
    assert!(!cache.admits(&[key(1, 1)], one, false));
    assert!(cache.admits(&[key(1, 1)], one, false), "the second time");
    for group in 0..4 {
        cache.keep(key(2, group), &numbers(1000), SLOW);
    }
    assert!(!cache.admits(&[key(3, 0), key(3, 1)], 2 * one, true));
    assert!(!cache.admits(&[key(3, 1), key(3, 2)], 2 * one, true), "one of them is new");
    assert!(cache.admits(&[key(3, 0), key(3, 1)], 2 * one, true));
    assert!(!cache.admits(&[key(3, 0), key(3, 1)], 5 * one, true), "more than half of the budget at once");
    // One scan of a great many others, and nobody remembers.
    let others: Vec<ColumnKey> = (0..4 * (SHARDS * ASKED_MAX) as u32).map(|group| key(9, group)).collect();
    assert!(!cache.admits(&others, one, false));
    assert!(!cache.admits(&[key(3, 2)], one, false));
}

#[test]
fn what_others_take_is_not_kept() {
    let one = numbers(1000).bytes();
    let cache = cache(8 * one);
    cache.share(10 * one);
    for group in 0..8 {
        cache.keep(key(1, group), &numbers(1000), SLOW);
    }
    cache.make_way(2 * one);
    assert_eq!((cache.bytes(), cache.limit_bytes()), (8 * one, 8 * one));
    cache.make_way(5 * one + 1);
    assert_eq!((cache.bytes(), cache.bytes() as u64), (2 * one, counted(&cache)));
    // What comes in takes the place of others, and a scan of more than there is room for brings in nothing.
    for _ in 0..USES_MAX {
        cache.keep(key(2, 0), &numbers(1000), SLOW);
    }
    assert_eq!(cache.bytes(), 2 * one);
    assert!(!cache.admits(&[key(3, 0)], 2 * one, true));
    cache.make_way(20 * one);
    assert_eq!(cache.bytes(), 0);
    cache.keep(key(2, 1), &numbers(1000), SLOW);
    assert_eq!(cache.kept().len(), 0);
    cache.give_back(27 * one + 1);
    for group in 0..8 {
        cache.keep(key(1, group), &numbers(1000), SLOW);
    }
    assert_eq!(cache.bytes(), 8 * one);
}

#[test]
fn what_no_version_names_is_dropped() {
    let cache = cache(1 << 20);
    for sequence in 0..4 {
        cache.keep(key(sequence, 0), &numbers(100), SLOW);
    }
    cache.forget(&HashSet::from([key(0, 0).segment]));
    assert!(cache.find(&key(0, 0)).is_none() && cache.find(&key(1, 0)).is_some());
    cache.retain(|segment| segment == key(2, 0).segment);
    let kept = cache.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].key, kept[0].rows, kept[0].hits), (key(2, 0), 100, 0));
    assert_eq!(cache.bytes() as u64, kept[0].bytes);
}

#[test]
fn columns_hold_no_memory_of_others() {
    let text = |i: usize| format!("a text of more than twelve bytes, {i}");
    let all = StringViewArray::from_iter_values((0..8000).map(text));
    let whole = column(vec![Arc::new(all.clone())]);
    let few = column(vec![Arc::new(all.slice(100, 10))]);
    assert!(few.bytes() < 2000 && whole.bytes() > 8000 * 40, "{} {}", few.bytes(), whole.bytes());
    assert_eq!(few.chunks()[0].as_ref(), &StringViewArray::from_iter_values((100..110).map(text)));

    // All of them point to one text, as those out of a dictionary do.
    let same: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..8000).map(|_| text(1))));
    let repeated = column(vec![Arc::new(one_text(&same))]);
    assert!(repeated.bytes() < 16 * 8000 + 10_000, "{}", repeated.bytes());
    assert_eq!(repeated.chunks()[0].as_ref(), same.as_ref());

    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let kept = column(vec![Arc::new(lists.clone())]);
    assert_eq!(kept.chunks()[0].as_ref(), &lists);
    assert_eq!(column(Vec::new()).rows(), 0);
}

/// The same texts, of which each that comes again stands once.
fn one_text(array: &ArrayRef) -> StringViewArray {
    let mut builder = arrow::array::StringViewBuilder::new().with_deduplicate_strings();
    let texts = array.as_any().downcast_ref::<StringViewArray>().unwrap();
    texts.iter().for_each(|text| builder.append_option(text));
    builder.finish()
}

#[test]
fn chunks_are_of_one_size() {
    let chunk = |rows: usize| Arc::new(Int64Array::from(vec![1; rows])) as ArrayRef;
    let kept = DecodedColumn::new(&[chunk(CHUNK_ROWS), chunk(CHUNK_ROWS), chunk(5)]).unwrap();
    assert_eq!((kept.rows(), kept.chunks().len()), (2 * CHUNK_ROWS + 5, 3));
    let bytes = 8 * kept.rows();
    assert!(kept.bytes() >= bytes && kept.bytes() < bytes + 4096, "{}", kept.bytes());
    assert!(DecodedColumn::new(&[chunk(5), chunk(CHUNK_ROWS)]).is_err());
    assert!(DecodedColumn::new(&[chunk(CHUNK_ROWS + 1)]).is_err());
}
