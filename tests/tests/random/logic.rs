//! Queries agree with each other, and with themselves wherever the rows are.

use cairn_tests::random::{logic, seeds};

/// After so many seeds that fail it is enough.
const FAILURES_MAX: usize = 3;

#[test]
fn queries_agree_with_their_parts_and_in_every_state() {
    let seeds = seeds("CAIRN_LOGIC_SEED", "CAIRN_LOGIC_SEEDS", 3);
    let (mut compared, mut unsupported) = (0, 0);
    let mut failures = Vec::new();
    for seed in &seeds {
        match logic::check(*seed) {
            Ok(tally) => {
                compared += tally.compared;
                unsupported += tally.unsupported;
            }
            Err(failure) => failures.push(failure),
        }
        if failures.len() == FAILURES_MAX {
            break;
        }
    }
    println!("{compared} answers compared, {unsupported} queries not supported");
    super::report("queries against each other", &seeds, &failures);
    assert!(compared > 10 * unsupported, "most of what is asked is not supported: nothing was tested");
}
