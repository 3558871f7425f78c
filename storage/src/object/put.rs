//! Writing objects so that a lost answer does no harm (D9).

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::time::Instant;

use super::reason;
use crate::error::{Error, ErrorKind, Result};

/// How often a store may say "exists" and then "not found" (S3's 409) before its first answer is believed.
const ATTEMPTS: usize = 4;
/// Pause before a put is tried again; each one is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What stands under a name after a conditional put.
#[derive(Debug)]
pub enum Put {
    /// Our object.
    Ours,
    /// Somebody else's, with these bytes.
    Taken(Bytes),
}

/// Creates the object `path`, or finds what stands there.
///
/// A store may answer "exists" to a put whose first reply was lost, and some answer so when nothing was written. So the
/// object is read back: `is_ours` looks for the unique id that was put into `bytes` (D9).
///
/// # Errors
/// The store's; the object may or may not exist then, and calling again with the same bytes settles it.
pub async fn put_if_absent(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: Bytes,
    is_ours: impl Fn(&[u8]) -> bool + Send,
) -> Result<Put> {
    put_once(store, path, bytes, is_ours).await.map_err(|(error, _)| error)
}

/// As [`put_if_absent`]; an error comes with whether the object may have been written, or may still be.
async fn put_once(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: Bytes,
    is_ours: impl Fn(&[u8]) -> bool + Send,
) -> Result<Put, (Error, bool)> {
    let mut attempt = 1;
    loop {
        let exists = match store.put_opts(path, bytes.clone().into(), PutMode::Create.into()).await {
            Ok(_) => return Ok(Put::Ours),
            Err(
                e @ (object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }),
            ) => e,
            Err(e) => {
                let (error, may_stand) = reason::judged(e);
                // What exists may be ours: whoever stands between may have sent it twice.
                return Err((error, may_stand || attempt > 1));
            }
        };
        match store.get(path).await {
            Ok(found) => {
                let found = found.bytes().await.map_err(|e| (Error::from(e), true))?;
                return Ok(if is_ours(&found) { Put::Ours } else { Put::Taken(found) });
            }
            Err(object_store::Error::NotFound { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(object_store::Error::NotFound { .. }) => {
                let message = format!("{path} can be neither created nor read");
                return Err((Error::new(ErrorKind::Unavailable, message).with_source(exists), true));
            }
            Err(e) => return Err((e.into(), true)),
        }
    }
}

/// As [`put_if_absent`], tried until the store says what stands there or `deadline` passes.
///
/// # Errors
/// The store's last, with whether some attempt may have taken effect or still may: not when each was surely refused.
pub(crate) async fn put_settled(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: &Bytes,
    deadline: Instant,
) -> Result<Put, (Error, bool)> {
    let mut pause = PAUSE_FIRST;
    let mut may_stand = false;
    loop {
        let (error, doubtful) = match put_once(store, path, bytes.clone(), |found| found == bytes).await {
            Ok(put) => return Ok(put),
            Err(failed) => failed,
        };
        may_stand |= doubtful;
        if error.kind() != ErrorKind::Unavailable || Instant::now() + pause >= deadline {
            return Err((error, may_stand));
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Puts an object whose name is this writer's alone: writing it twice is the same as once, so a lost answer is made good by
/// sending it again.
///
/// # Errors
/// The store's.
pub async fn put_own(store: &dyn ObjectStore, path: String, payload: PutPayload) -> Result<()> {
    let options = PutOptions { mode: PutMode::Overwrite, ..Default::default() };
    store.put_opts(&Path::from(path), payload, options).await?;
    Ok(())
}
