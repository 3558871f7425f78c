//! Bodies of HTTP requests.

use cairn_server::fuzzing;

use super::Seed;

pub(super) fn run(bytes: &[u8]) {
    if fuzzing::is_request(bytes) {
        let again: serde_json::Value = serde_json::from_slice(bytes).expect("a request is JSON");
        assert!(again.get("sql").is_some(), "a request without a statement");
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let whole = r#"{"sql":"SELECT $1, $2","params":[1,[1.5,null,2],"x",18446744073709551615,true],"format":"csv",
        "settings":{"timezone":"UTC","batch_size":100},"numbers":"strings"}"#;
    vec![
        ("short", br#"{"sql":"SELECT 1"}"#.to_vec()),
        ("whole", whole.into()),
        ("named", br#"{"sql":"SELECT $a","params":{"a":[[1],[2,3]],"b":-1e300}}"#.to_vec()),
        ("array", br#"["SELECT 1",null]"#.to_vec()),
    ]
}
