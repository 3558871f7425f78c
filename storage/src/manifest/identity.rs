//! The root file `CAIRN`: says that this is a database, and which.
//!
//! Owns: its bytes and its creation (only if absent). Features and versions stand in manifests and WAL headers, never here:
//! the file is written once in the life of a database.
//!
//! ```text
//! 0 [8] magic "CAIRN-DB"    8 u32 format version (1)    12 [16] database id    28 u32 crc32c of bytes 0..28
//! ```

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result, newer};
use crate::id::DatabaseId;
use crate::object::{Put, put_if_absent};

/// Path of the file below the root.
pub const IDENTITY_PATH: &str = "CAIRN";

const MAGIC: &[u8; 8] = b"CAIRN-DB";
const FORMAT_VERSION: u32 = 1;
const BYTES: usize = 32;

/// Bytes of the file for database `id`.
#[must_use]
pub fn encode_identity(id: DatabaseId) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..28].copy_from_slice(id.0.as_bytes());
    let crc = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The database id in the file's bytes.
///
/// # Errors
/// `InvalidInput` when it is not a Cairn database, `Unsupported` when it is one of a newer Cairn, `Corrupt` when damaged.
pub fn decode_identity(bytes: &[u8]) -> Result<DatabaseId> {
    if bytes.get(..8) != Some(MAGIC.as_slice()) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("this is not a Cairn database: {IDENTITY_PATH} does not begin with CAIRN-DB"),
        )
        .with_hint("name another place; if a database stood here, restore CAIRN from a backup"));
    }
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let (Some(version), Some(id), Some(crc)) = (word(8), bytes.get(12..28), word(28)) else {
        return Err(Error::corrupt(IDENTITY_PATH, format_args!("{} bytes instead of {BYTES}", bytes.len())));
    };
    if crc32c::crc32c(&bytes[..28]) != crc {
        return Err(Error::corrupt(IDENTITY_PATH, "checksum").with_hint("restore that file from a backup"));
    }
    if version > FORMAT_VERSION {
        return Err(newer(IDENTITY_PATH, format_args!("it has format {version}")));
    }
    if bytes.len() != BYTES || version == 0 {
        return Err(Error::corrupt(IDENTITY_PATH, format_args!("{} bytes, format {version}", bytes.len())));
    }
    let id = Uuid::from_slice(id).map_err(|e| Error::corrupt(IDENTITY_PATH, e))?;
    Ok(DatabaseId(id))
}

/// The id of the database in `store`; None when there is no `CAIRN` file.
///
/// # Errors
/// As [`decode_identity`], and whatever the store answers.
pub async fn read_identity(store: &dyn ObjectStore) -> Result<Option<DatabaseId>> {
    match store.get(&Path::from(IDENTITY_PATH)).await {
        Ok(found) => decode_identity(&found.bytes().await?).map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Creates the file, durable at return; settles a lost reply by reading it back.
///
/// # Errors
/// `AlreadyExists` when another database stands there, and as [`read_identity`].
pub async fn create_identity(store: &dyn ObjectStore, id: DatabaseId) -> Result<()> {
    let bytes = Bytes::copy_from_slice(&encode_identity(id));
    let ours = bytes.clone();
    match put_if_absent(store, &Path::from(IDENTITY_PATH), bytes, |found| found == ours).await? {
        Put::Ours => Ok(()),
        Put::Taken(found) => {
            let found = decode_identity(&found)?;
            Err(Error::new(ErrorKind::AlreadyExists, format!("database {found} is here already")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::memory::InMemory;

    use super::*;

    fn id(n: u128) -> DatabaseId {
        DatabaseId(Uuid::from_u128(n))
    }

    #[test]
    fn every_flip_and_cut_is_refused() {
        let good = encode_identity(id(7));
        assert_eq!(decode_identity(&good).unwrap(), id(7));
        for at in 0..good.len() {
            assert!(decode_identity(&good[..at]).is_err());
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                let kind = decode_identity(&bad).unwrap_err().kind();
                assert_eq!(kind, if at < 8 { ErrorKind::InvalidInput } else { ErrorKind::Corrupt });
            }
        }
        let mut long = good.to_vec();
        long.push(0);
        assert_eq!(decode_identity(&long).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut newer = encode_identity(id(7));
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..28]);
        newer[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_identity(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[tokio::test]
    async fn it_is_created_once() {
        let store = InMemory::new();
        assert_eq!(read_identity(&store).await.unwrap(), None);
        create_identity(&store, id(7)).await.unwrap();
        create_identity(&store, id(7)).await.unwrap();
        assert_eq!(read_identity(&store).await.unwrap(), Some(id(7)));
        let error = create_identity(&store, id(8)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
}
