#![allow(clippy::unwrap_used)]
use futures::executor::block_on;

use super::*;
use crate::error::ErrorKind;

#[test]
fn create_if_absent_is_settled_by_reading_back() {
    let store = open_memory();
    let path = Path::from("manifest/1");
    let put = |bytes: &'static [u8]| {
        block_on(put_if_absent(&*store, &path, Bytes::from_static(bytes), move |found| found == bytes))
    };
    put(b"mine").unwrap();
    // The reply was lost: the same put again is the same success.
    put(b"mine").unwrap();
    assert_eq!(put(b"theirs").unwrap_err().kind(), ErrorKind::AlreadyExists);
}
