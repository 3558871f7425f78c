//! Deletion vectors, read by what their commit says of them.

use cairn_storage::id::{CommitVersion, Epoch, ObjectId, TableId};
use cairn_storage::segment::{DeletesMeta, DeletionVector};
use datafusion::object_store::ObjectStoreExt;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use futures::executor::block_on;

use super::{Seed, is_answer, number, sealed};

const TABLE: TableId = TableId(1);
/// Of the objects that are written here.
const ID: ObjectId = ObjectId { epoch: Epoch(1), sequence: 9 };

pub(super) fn run(bytes: &[u8]) {
    for version in [None, Some(CommitVersion(5))] {
        read(bytes, version);
    }
}

/// What is read as a vector has as many positions as it says, and comes back as it was written. Positions are not looked at one by
/// one: 200 bytes can be four thousand million of them.
fn read(bytes: &[u8], version: Option<CommitVersion>) {
    let word = |at| number(bytes, at).unwrap_or(0);
    let segment = ObjectId { epoch: Epoch(word(16)), sequence: word(24) };
    let meta = DeletesMeta {
        id: ID,
        table: TABLE,
        segment,
        rows: word(32),
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(bytes),
        version,
    };
    block_on(async {
        let store = InMemory::new();
        store.put(&Path::from(meta.path()), bytes.to_vec().into()).await.expect("a store in memory");
        let vector = match DeletionVector::load(&store, &meta).await {
            Ok(vector) => vector,
            Err(error) => return is_answer(&error),
        };
        assert_eq!(vector.len(), meta.rows);
        let (first, last) = (vector.positions().min(), vector.positions().max());
        for position in [first, last].into_iter().flatten() {
            let deleted = vector.version_of(position).expect("a position that it has");
            assert!(deleted <= vector.max_version());
        }
        let keeps_versions = version.is_none();
        let again =
            vector.put(&store, ID, TABLE, segment, keeps_versions).await.expect("a vector that was read");
        let again = DeletesMeta { version, ..again };
        let back = DeletionVector::load(&store, &again).await.expect("a vector that was written");
        assert_eq!(back, vector);
    });
}

pub(super) fn seeds() -> Vec<Seed> {
    let scattered = (0..500_u32).map(|i| (i * 131, CommitVersion(u64::from(i % 7) + 3)));
    let dense = (0..70_000_u32).filter(|i| i % 2 == 0 || *i > 66_000).map(|i| (i, CommitVersion(4)));
    vec![
        ("scattered", written(scattered, true)),
        ("dense", written(dense, false)),
        ("run", written((10..5_000).map(|i| (i, CommitVersion(8))), false)),
        ("three", written([(1, CommitVersion(7)), (2, CommitVersion(9)), (70_000, CommitVersion(8))], true)),
        ("none", written([], true)),
    ]
}

fn written(pairs: impl IntoIterator<Item = (u32, CommitVersion)>, keeps_versions: bool) -> Vec<u8> {
    let vector = DeletionVector::from_pairs(pairs);
    let segment = ObjectId { epoch: Epoch(1), sequence: 2 };
    let bytes = block_on(async {
        let store = InMemory::new();
        let meta = vector.put(&store, ID, TABLE, segment, keeps_versions).await.expect("a store in memory");
        let found = store.get(&Path::from(meta.path())).await.expect("what was put");
        found.bytes().await.expect("what was put").to_vec()
    });
    assert!(sealed::deletes(&bytes).is_some_and(|sealed| sealed == bytes), "its checksums stand elsewhere");
    bytes
}
