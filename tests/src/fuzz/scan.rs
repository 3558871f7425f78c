//! Scans as other processes are handed them.

use std::sync::{Arc, LazyLock};

use datafusion::physical_plan::ExecutionPlan;

use super::sample::Sample;
use super::{DATABASE, Seed, is_statement_error, sealed};

/// Where a scan names its database, in its JSON.
const DATABASE_KEY: &[u8] = b"\"database\":\"";
/// Length of an id as text.
const ID_BYTES: usize = 36;

static SAMPLE: LazyLock<Sample> = LazyLock::new(Sample::new);

pub(super) fn run(bytes: &[u8]) {
    // Whatever a plan holds is made and dropped where the engine's tasks run.
    SAMPLE.block_on(async { read(bytes) });
}

/// A scan that was made of bytes has bytes of its own, which make the same.
fn read(bytes: &[u8]) {
    let engine = SAMPLE.engine();
    let _may_be_none = engine.decode_function(bytes);
    let plan = match engine.decode_scan(bytes) {
        Ok(plan) => plan,
        Err(error) => return is_statement_error(&error),
    };
    let encoded = |plan: &Arc<dyn ExecutionPlan>| engine.encode_scan(plan);
    if let Ok(Some(again)) = encoded(&plan) {
        let back = engine.decode_scan(&again).expect("a scan that was written");
        let twice = encoded(&back).expect("a scan that was read").expect("a scan");
        assert_eq!(twice, again, "a scan is written in two ways");
    }
}

/// A scan is of one database, and this one is another in each process.
pub(super) fn seal(bytes: &[u8]) -> Option<Vec<u8>> {
    let id = SAMPLE.engine().database().id().to_string();
    sealed::last_checksum(&named(bytes, &id)?)
}

fn named(bytes: &[u8], id: &str) -> Option<Vec<u8>> {
    let at =
        bytes.windows(DATABASE_KEY.len()).position(|window| window == DATABASE_KEY)? + DATABASE_KEY.len();
    let mut out = bytes.to_vec();
    out.get_mut(at..at + ID_BYTES)?.copy_from_slice(id.as_bytes());
    Some(out)
}

pub(super) fn seeds() -> Vec<Seed> {
    [
        ("all", "SELECT * FROM item"),
        ("columns", "SELECT price, id FROM item WHERE price > 1"),
        ("ordered", "SELECT id FROM item ORDER BY id"),
        ("limited", "SELECT name FROM sale, item LIMIT 1"),
        ("key", "SELECT name FROM item WHERE id = 2"),
        ("pseudo", "SELECT _row_id, _version FROM item"),
        ("count", "SELECT sum(n) FROM sale"),
    ]
    .into_iter()
    .map(|(name, sql)| {
        let plan = SAMPLE.block_on(async { SAMPLE.session().physical_plan(sql).await });
        let plan = plan.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let scan = scan_of(&plan).unwrap_or_else(|| panic!("{sql}: no scan"));
        let scan = named(&scan, &DATABASE.to_string()).expect("a scan names its database");
        (name, sealed::last_checksum(&scan).expect("a scan has a checksum"))
    })
    .collect()
}

/// The bytes of the first scan in `plan`.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<u8>> {
    let own = SAMPLE.engine().encode_scan(plan).expect("a plan for other processes");
    own.or_else(|| plan.children().into_iter().find_map(scan_of))
}
