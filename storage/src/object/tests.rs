#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use futures::executor::block_on;
use object_store::path::Path;

use super::*;

#[test]
fn create_if_absent_is_settled_by_reading_back() {
    let store = open_memory();
    let path = Path::from("manifest/1");
    let put = |bytes: &'static [u8]| {
        block_on(put_if_absent(&*store, &path, Bytes::from_static(bytes), move |found| found == bytes))
    };
    assert!(matches!(put(b"mine"), Ok(Put::Ours)));
    // The reply was lost: the same put again is the same success.
    assert!(matches!(put(b"mine"), Ok(Put::Ours)));
    assert!(matches!(put(b"theirs"), Ok(Put::Taken(found)) if found == "mine"));
}
