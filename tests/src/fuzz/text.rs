//! Short texts that stand in rows and answers: vectors, and what a server says of a statement.

use cairn_server::{Outcome, ProgressReport};
use cairn_vector::text;

use super::Seed;

pub(super) fn run(bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    match text::parse(&shown) {
        Ok(vector) => {
            let written = text::format(&vector);
            let back = text::parse(&written).expect("a vector that was written");
            let bits = |vector: &[f32]| vector.iter().map(|c| c.to_bits()).collect::<Vec<u32>>();
            assert_eq!(bits(&back), bits(&vector), "{written}");
        }
        Err(error) => {
            let end = shown.chars().count() + 1;
            assert!((1..=end).contains(&error.position), "{error} of {end}");
        }
    }
    if let Some(outcome) = Outcome::read(bytes) {
        let written = serde_json::to_vec(&outcome).expect("text and numbers");
        assert_eq!(Outcome::read(&written), Some(outcome));
    }
    for note in Outcome::notes_beside_rows(bytes) {
        assert!(note.len() <= bytes.len(), "{note}");
    }
    if let Some(report) = ProgressReport::read(bytes) {
        assert!(report.jobs.len() <= bytes.len(), "{report:?}");
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    vec![
        ("vector", b"[1,2.5,-3e-7]".to_vec()),
        ("vector-edges", b" [ -0, 3.4028235e38 ,1e-45,.5,5. ] ".to_vec()),
        ("vector-wrong", "[1,é]".into()),
        ("outcome", br#"{"verb":"COPY","rows":3,"notes":["1 row skipped"]}"#.to_vec()),
    ]
}
