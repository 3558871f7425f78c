//! A damaged unit is reported, and searched without panic, endless loop or wrong row.

mod data;

use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use cairn_vector::Metric;
use cairn_vector::hnsw::BuildOptions;
use cairn_vector::search::{Effort, Filter, Hit, SearchError, SearchScratch};
use cairn_vector::unit::codec::BLOCK_BYTES;
use cairn_vector::unit::{Compared, Unit, UnitError};
use data::{Data, ID_FACTOR, Shape, bitmap, open};

fn small() -> (Data, Vec<u8>) {
    let data = Data::new(Shape::Clustered, 70, 6, 1);
    let bytes = data.build(&BuildOptions::new(Metric::L2));
    (data, bytes)
}

/// A unit of some seventy blocks, above the size that is always scanned; built once.
fn large() -> (&'static Data, Vec<u8>) {
    static LARGE: LazyLock<(Data, Vec<u8>)> = LazyLock::new(|| {
        let data = Data::new(Shape::Clustered, 20_000, 32, 12);
        let bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
        (data, bytes)
    });
    let (data, bytes) = &*LARGE;
    (data, bytes.clone())
}

/// Where the bytes under block checksums end.
fn covered(bytes: &[u8]) -> usize {
    let tail = bytes.len() - 40;
    u64::from_le_bytes(bytes[tail..tail + 8].try_into().expect("eight bytes")) as usize
}

/// Gives changed bytes the checksums they should have, as who writes a wrong unit on purpose would.
fn reseal(bytes: &mut [u8]) {
    let (checksums, tail) = (covered(bytes), bytes.len() - 40);
    for block in 0..checksums.div_ceil(BLOCK_BYTES) {
        let end = checksums.min((block + 1) * BLOCK_BYTES);
        let sum = crc32c::crc32c(&bytes[block * BLOCK_BYTES..end]);
        bytes[checksums + block * 4..][..4].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes[checksums..tail + 28]);
    bytes[tail + 28..tail + 32].copy_from_slice(&sum.to_le_bytes());
}

/// Where the section table begins.
fn table_of(bytes: &[u8]) -> usize {
    let tail = bytes.len() - 40;
    u64::from_le_bytes(bytes[tail + 8..tail + 16].try_into().expect("eight bytes")) as usize
}

/// The bytes of the section that is this entry of the table.
fn section(bytes: &[u8], entry: usize) -> std::ops::Range<usize> {
    let entry = &bytes[table_of(bytes) + entry * 24..];
    let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes")) as usize;
    number(8)..number(8) + number(16)
}

/// Entries of the grid and the axes of sketches.
const SKETCH_GRID: usize = 13;
const SKETCH_AXES: usize = 14;

/// Makes the step of the sketches no number, under right checksums.
fn spoil_sketches(bytes: &mut [u8]) {
    let grid = section(bytes, SKETCH_GRID);
    bytes[grid][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    reseal(bytes);
}

/// Searches a unit in every way, whatever comes out.
fn search(data: &Data, unit: &Unit, scratch: &mut SearchScratch) {
    for effort in [Effort::Recall(0.9), Effort::Width(8), Effort::Exact] {
        let _ = data.try_search(unit, (&data.queries[..data.dim], 5, effort), None, scratch);
    }
    unit.row_ids().for_each(drop);
    (0..80).for_each(|id| drop(unit.ordinal_of(id)));
}

/// Whether something notices; a unit that opens is searched in every way.
fn noticed(data: &Data, bytes: Vec<u8>, scratch: &mut SearchScratch) -> bool {
    let Ok(unit) = Unit::open(Bytes::from(bytes)) else { return true };
    search(data, &unit, scratch);
    !unit.verify().is_empty()
}

#[test]
fn sealed_nonsense_about_sketches_ends_no_search() {
    let data = Data::new(Shape::Flat, 5_000, 200, 1);
    let bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    let (grid, axes) = (section(&bytes, SKETCH_GRID), section(&bytes, SKETCH_AXES));
    let places = [8..12, 40..56].into_iter().flatten().chain(grid).chain(axes.step_by(997));
    let mut scratch = SearchScratch::default();
    for at in places {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xFF;
        let header = crc32c::crc32c(&damaged[..124]);
        damaged[124..128].copy_from_slice(&header.to_le_bytes());
        reseal(&mut damaged);
        if let Ok(unit) = Unit::open(Bytes::from(damaged)) {
            search(&data, &unit, &mut scratch);
            let _ = unit.verify();
        }
    }
    let mut damaged = bytes;
    spoil_sketches(&mut damaged);
    let unit = open(damaged);
    assert_eq!(unit.verify().len(), 1, "{:?}", unit.verify());
}

#[test]
fn walks_go_by_codes_where_queries_have_no_sketch() {
    let data = Data::new(Shape::Flat, 12_000, 600, 20);
    let mut bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    let answers = |unit: &Unit| -> Vec<Vec<Hit>> {
        let request = |query| (query, 10, Effort::Recall(0.99));
        let search = |query| data.search(unit, request(query), None, &mut SearchScratch::default()).0;
        data.queries().map(search).collect()
    };
    let unit = open(bytes.clone());
    assert_eq!(unit.calibration().compared, Compared::Sketches);
    let by_sketches = answers(&unit);
    spoil_sketches(&mut bytes);
    let by_codes = answers(&open(bytes));
    let found = by_codes.iter().zip(&by_sketches).flat_map(|(a, b)| a.iter().filter(|hit| b.contains(hit)));
    assert!(found.count() >= 195, "{by_codes:?}");
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (data, bytes) = small();
    let mut scratch = SearchScratch::default();
    assert!(!noticed(&data, bytes.clone(), &mut scratch));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(noticed(&data, damaged.clone(), &mut scratch), "byte {at} of {}", bytes.len());
            if at < covered(&bytes) {
                reseal(&mut damaged);
                noticed(&data, damaged, &mut scratch);
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let (_, bytes) = small();
    for length in 0..bytes.len() {
        let cut = Unit::open(Bytes::copy_from_slice(&bytes[..length]));
        assert!(matches!(cut, Err(UnitError::Damaged { .. })), "length {length}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(Unit::open(Bytes::from(longer)), Err(UnitError::Damaged { .. })));
    let (_, bytes) = large();
    for length in (0..bytes.len()).step_by(BLOCK_BYTES / 2) {
        assert!(matches!(
            Unit::open(Bytes::copy_from_slice(&bytes[..length])),
            Err(UnitError::Damaged { .. })
        ));
    }
}

#[test]
fn random_graphs_are_walked_to_an_end() {
    let data = Data::new(Shape::Gaussian, 6_000, 8, 20);
    let bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    let mut scratch = SearchScratch::default();
    for (step, sealed) in [(3, true), (17, true), (64, false), (64, true), (1_001, false), (1_001, true)] {
        let mut damaged = bytes.clone();
        // Header, section table and tail stay, or it would not open.
        let end = damaged.len() - 2_000;
        let mut state = step as u32;
        for at in (1_024..end).step_by(step) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            damaged[at] ^= (state >> 24) as u8;
        }
        if sealed {
            reseal(&mut damaged);
        }
        let Ok(unit) = Unit::open(Bytes::from(damaged)) else { continue };
        for query in data.queries() {
            for effort in [Effort::Width(10), Effort::Width(500), Effort::Recall(0.99)] {
                let found = data.try_search(&unit, (query, 10, effort), None, &mut scratch);
                assert!(sealed == found.is_ok(), "step {step}: {:?}", found.err());
            }
        }
        assert!(!unit.verify().is_empty());
    }
}

type Answer = Result<Vec<Hit>, SearchError<Infallible>>;

/// A way to search: how hard, and a bitmap of the rows that match.
type Way = (Effort, Option<Vec<u64>>);

/// Walks, a scan of all rows, and filters that lead to a walk and to a scan.
fn ways(unit: &Unit) -> [Way; 5] {
    let filter = |matches: fn(u64) -> bool| Some(bitmap(unit, matches));
    [
        (Effort::Recall(0.95), None),
        (Effort::Width(200), None),
        (Effort::Exact, None),
        (Effort::Width(40), filter(|id| id % 5 > 0)),
        (Effort::Width(40), filter(|id| id % 97 == 0)),
    ]
}

fn answer(data: &Data, unit: &Unit, (effort, filter): &Way) -> Answer {
    let request = (&data.queries[..data.dim], 10, *effort);
    let filter = filter.as_deref().map(Filter::new);
    Ok(data.try_search(unit, request, filter, &mut SearchScratch::default())?.0)
}

/// Whether it is the error of the block at `offset`.
fn names<E>(error: &SearchError<E>, offset: usize) -> bool {
    matches!(error, SearchError::Unit(UnitError::Damaged { offset: at, .. }) if *at == offset as u64)
}

/// Flips every bit of one block, of what is under a checksum.
fn flip_block(bytes: &[u8], block: usize) -> Bytes {
    let mut damaged = bytes.to_vec();
    let end = covered(bytes).min((block + 1) * BLOCK_BYTES);
    damaged[block * BLOCK_BYTES..end].iter_mut().for_each(|byte| *byte ^= 0xFF);
    damaged.into()
}

#[test]
fn the_first_search_that_uses_a_damaged_block_says_so_and_no_other_is_wrong() {
    let (data, bytes) = large();
    no_damage_is_missed(data, &bytes, |scanned, refused, blocks| {
        // A scan reads codes, norms and errors of all rows, and neither graph nor most of the row map.
        let all = 20_000 * (64 + 4 + 4) / BLOCK_BYTES;
        assert!((all..all + 6).contains(&scanned), "{refused:?} of {blocks} blocks");
        assert!(
            refused.iter().all(|&refused| refused > 5 && refused < blocks - 5),
            "{refused:?} of {blocks}"
        );
    });
}

#[test]
fn damage_to_sketches_is_noticed_too() {
    let data = Data::new(Shape::Flat, 5_000, 200, 1);
    let bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    no_damage_is_missed(&data, &bytes, |scanned, refused, blocks| {
        // A scan reads axes, codes and norms of all sketches, and codes of some rows.
        let all = 5_000 * (64 + 4) / BLOCK_BYTES;
        assert!((all..blocks - 5).contains(&scanned), "{refused:?} of {blocks} blocks");
    });
}

/// Damages each block in turn, and searches in each way. `told`: how many blocks a scan refused, how many each way did, and how many
/// there are.
fn no_damage_is_missed(data: &Data, bytes: &[u8], told: impl Fn(usize, [usize; 5], usize)) {
    let clean = open(bytes.to_vec());
    let ways = ways(&clean);
    let right: Vec<Vec<Hit>> = ways.iter().map(|way| answer(data, &clean, way).expect("an answer")).collect();
    let blocks = covered(bytes).div_ceil(BLOCK_BYTES);
    let mut refused = [0; 5];
    for block in 1..blocks {
        for (i, way) in ways.iter().enumerate() {
            let unit = match Unit::open(flip_block(bytes, block)) {
                Ok(unit) => unit,
                Err(error) => {
                    let offset = (block * BLOCK_BYTES) as u64;
                    assert!(
                        matches!(error, UnitError::Damaged { offset: at, .. } if at == offset),
                        "{error}"
                    );
                    continue;
                }
            };
            match answer(data, &unit, way) {
                Ok(hits) => assert_eq!(hits, right[i], "block {block}, {way:?}"),
                Err(error) => {
                    assert!(names(&error, block * BLOCK_BYTES), "block {block}: {error}");
                    refused[i] += 1;
                    // Known from then on, also where another search would not meet it.
                    assert!(ways.iter().all(|way| answer(data, &unit, way).is_err()), "block {block}");
                    assert!(unit.check_blocks(1).is_err());
                }
            }
            assert!(unit.check_blocks(usize::MAX).is_err(), "block {block}");
            assert!(answer(data, &unit, way).is_err_and(|e| names(&e, block * BLOCK_BYTES)));
        }
    }
    told(refused[2], refused, blocks);
}

#[test]
fn the_row_map_is_checked_before_it_is_used() {
    let (data, bytes) = large();
    let (mut refused, mut found) = (0, 0);
    for block in 1..covered(&bytes).div_ceil(BLOCK_BYTES) {
        let Ok(unit) = Unit::open(flip_block(&bytes, block)) else { continue };
        for row in (0..data.len() as u64).step_by(37) {
            match unit.ordinal_of(row * ID_FACTOR) {
                Ok(ordinal) => {
                    let id = ordinal.and_then(|ordinal| unit.row_id(ordinal));
                    assert_eq!(id, Some(row * ID_FACTOR), "block {block}");
                    found += 1;
                }
                Err(error) => {
                    assert!(names(&SearchError::<Infallible>::from(error), block * BLOCK_BYTES));
                    refused += 1;
                }
            }
        }
        assert!(unit.check_row_map().is_ok() || refused > 0, "block {block}");
    }
    assert!(refused > 100 && found > 1_000, "{refused} refused, {found} found");
}

#[test]
fn blocks_are_checked_piece_by_piece() {
    let (data, bytes) = large();
    let blocks = covered(&bytes).div_ceil(BLOCK_BYTES);
    let clean = open(bytes.clone());
    let ways = ways(&clean);
    let unit = open(bytes);
    let mut pieces = 0;
    while !unit.check_blocks(3).expect("an undamaged unit") {
        pieces += 1;
        let way = &ways[pieces % ways.len()];
        assert_eq!(answer(data, &unit, way).ok(), answer(data, &clean, way).ok());
    }
    assert!(pieces > 0 && pieces <= blocks.div_ceil(3), "{pieces} for {blocks} blocks");
    for way in &ways {
        assert_eq!(answer(data, &unit, way).ok(), answer(data, &clean, way).ok());
    }
}

#[test]
fn concurrent_first_searches_agree() {
    let (data, bytes) = large();
    let clean = open(bytes.clone());
    let ways = ways(&clean);
    let right: Vec<Vec<Hit>> = ways.iter().map(|way| answer(data, &clean, way).expect("an answer")).collect();
    let middle = covered(&bytes) / BLOCK_BYTES / 2;
    for block in [None, Some(2), Some(middle), Some(middle + 9)] {
        for _ in 0..10 {
            let file = block.map_or_else(|| Bytes::from(bytes.clone()), |block| flip_block(&bytes, block));
            let unit = Unit::open(file).expect("nothing that is read on opening is damaged");
            std::thread::scope(|scope| {
                for thread in 0..6 {
                    let (unit, data, ways, right) = (unit.clone(), data, &ways, &right);
                    scope.spawn(move || {
                        for i in (0..ways.len()).map(|i| (i + thread) % ways.len()) {
                            match answer(data, &unit, &ways[i]) {
                                Ok(hits) => assert_eq!(hits, right[i], "{block:?}"),
                                Err(error) => {
                                    assert!(block.is_some_and(|block| names(&error, block * BLOCK_BYTES)));
                                }
                            }
                        }
                        assert_eq!(unit.check_blocks(usize::MAX).is_ok(), block.is_none());
                    });
                }
            });
            // What one clone knows, all do.
            assert_eq!(answer(data, &unit, &ways[0]).is_ok(), block.is_none(), "{block:?}");
        }
    }
}

#[test]
fn newer_units_are_refused_by_name() {
    let (_, bytes) = small();
    let sealed = |mut bytes: Vec<u8>| {
        let header = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&header.to_le_bytes());
        bytes
    };
    let mut newer = bytes.clone();
    newer[8] = 4;
    let damaged = Unit::open(Bytes::from(newer.clone())).err();
    assert!(matches!(damaged, Some(UnitError::Damaged { offset: 0, .. })), "{damaged:?}");
    let newer = sealed(newer);
    assert_eq!(Unit::open(Bytes::from(newer)).err(), Some(UnitError::Newer { format: 4, features: 0 }));
    let mut feature = bytes;
    feature[13] = 1;
    let feature = sealed(feature);
    assert_eq!(Unit::open(Bytes::from(feature)).err(), Some(UnitError::Newer { format: 3, features: 256 }));
}

#[test]
fn sketches_of_the_second_format_are_left_aside() {
    let data = Data::new(Shape::Folded, 5_000, 200, 1);
    let mut bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    let now = open(bytes.clone());
    assert_eq!(now.calibration().compared, Compared::Codes);
    let scanned = |unit: &Unit| {
        let request = (&data.queries[..data.dim], 5, Effort::Exact);
        data.search(unit, request, None, &mut SearchScratch::default())
    };
    let (right, sketched) = scanned(&now);
    // Whatever its walks compared.
    (bytes[8], bytes[11]) = (2, 1);
    let header = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&header.to_le_bytes());
    reseal(&mut bytes);
    let unit = open(bytes);
    assert_eq!(unit.verify(), []);
    let (found, stats) = scanned(&unit);
    assert_eq!((&found, stats.code_distances), (&right, 5_000));
    let walked = (&data.queries[..data.dim], 5, Effort::Width(200));
    assert_eq!(data.search(&unit, walked, None, &mut SearchScratch::default()).0, right);
    assert!(sketched.code_distances > 5_000, "{sketched:?}");
}

#[test]
fn units_of_the_first_format_are_read() {
    let (data, mut bytes) = small();
    let right = answer(&data, &open(bytes.clone()), &(Effort::Exact, None)).expect("an answer");
    // It had no sections for sketches, which are empty in this unit: entries 13 to 16 of the table.
    let table = table_of(&bytes);
    bytes.drain(table + 13 * 24..table + 17 * 24);
    let (length, tail) = (bytes.len() as u64, bytes.len() - 40);
    bytes[tail + 16..tail + 24].copy_from_slice(&length.to_le_bytes());
    bytes[tail + 24..tail + 28].copy_from_slice(&14_u32.to_le_bytes());
    bytes[8] = 1;
    let header = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&header.to_le_bytes());
    reseal(&mut bytes);
    let unit = open(bytes);
    assert_eq!(unit.verify(), []);
    assert_eq!(answer(&data, &unit, &(Effort::Exact, None)).expect("an answer"), right);
}

#[test]
fn a_code_that_is_not_of_its_vector_is_named() {
    for metric in Metric::ALL {
        let data = Data::new(Shape::Clustered, 70, 6, 1);
        let mut bytes = data.build(&BuildOptions::new(metric));
        let unit = open(bytes.clone());
        let mut point = Vec::new();
        let vector = |unit: &Unit, ordinal: u32| data.row(unit.row_id(ordinal).expect("an id")).to_vec();
        for ordinal in 0..unit.len() as u32 {
            assert_eq!(
                unit.wrong_code(ordinal, &vector(&unit, ordinal), &mut point),
                None,
                "{metric:?} {ordinal}"
            );
        }
        assert!(unit.wrong_code(0, &[0.0], &mut point).is_some(), "another dimension");
        assert!(unit.wrong_code(1 << 20, &vector(&unit, 0), &mut point).is_some(), "past the last row");
        let far: Vec<f32> = vector(&unit, 3).iter().map(|component| -3.0 * component + 100.0).collect();
        assert!(unit.wrong_code(3, &far, &mut point).is_some() || metric == Metric::Cosine, "{metric:?}");
        // The code of a row under right checksums.
        let codes = section(&bytes, 5);
        bytes[codes.start] ^= 0x80;
        bytes[codes.start + 1] ^= 0x80;
        reseal(&mut bytes);
        let unit = open(bytes);
        let found = unit.wrong_code(0, &vector(&unit, 0), &mut point).expect("it is wrong");
        assert_eq!(found.offset, codes.start as u64, "{}", found.problem);
        assert_eq!(unit.wrong_code(1, &vector(&unit, 1), &mut point), None);
    }
}
