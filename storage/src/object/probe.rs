//! Whether a store keeps what the protocol rests on: that a put with a condition is refused when the condition does not
//! hold.
//!
//! Asked once before a database is written to, by five requests for an object that is removed again. A store without
//! conditional puts often ignores the condition and answers "done", so that two writers would replace each other's commits
//! and nobody would know.

use std::time::Duration;

use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, PutResult, Result as StoreResult,
    UpdateVersion,
};
use uuid::Uuid;

use super::reason;
use crate::error::{Error, ErrorKind, Result};

/// How often a probe whose requests fail is begun anew, under another name. Puts that create or update are sent once only.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes sure that `store` refuses to create an object that is there, and to update one that has another tag than was
/// named; and that it lets an update with the right tag pass, which also shows that what it refused was not written.
///
/// # Errors
/// `Unsupported` when it does not; else why it could not be asked.
pub async fn probe(store: &dyn ObjectStore) -> Result<()> {
    let mut attempt = 1;
    loop {
        match probe_once(store).await {
            Err(error) if error.kind() == ErrorKind::Unavailable && attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

async fn probe_once(store: &dyn ObjectStore) -> Result<()> {
    let path = Path::from(format!("probe/{}", Uuid::new_v4()));
    let answer = ask(store, &path).await;
    // Also when a put failed: it may have been done.
    let removed = store.delete(&path).await;
    answer?;
    match removed {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn ask(store: &dyn ObjectStore, path: &Path) -> Result<()> {
    let first = match put(store, path, "first", PutMode::Create).await {
        Ok(first) => UpdateVersion::from(first),
        Err(error) if is_refusal(&error) => return Err(contended(path, error)),
        Err(error) => return Err(unasked(error)),
    };
    if first.e_tag.is_none() && first.version.is_none() {
        return Err(unconditional("gives no tag for what it has written (ETag)"));
    }
    refused(put(store, path, "created twice", PutMode::Create).await, "refuse to overwrite an object")?;
    let wrong = PutMode::Update(another(&first));
    refused(
        put(store, path, "updated by a wrong tag", wrong).await,
        "refuse to update an object by a wrong tag",
    )?;
    match put(store, path, "updated", PutMode::Update(first)).await {
        Ok(_) => Ok(()),
        Err(error @ StoreError::Precondition { .. }) => {
            Err(unconditional("refuses to update an object by its own tag").with_source(error))
        }
        Err(error @ StoreError::AlreadyExists { .. }) => Err(contended(path, error)),
        Err(error) => Err(unasked(error)),
    }
}

/// Stores say "exists" also when requests come together; here nobody else knows the name.
fn contended(path: &Path, error: StoreError) -> Error {
    let message = format!("the object store says that somebody else writes {path}, whose name nobody knows");
    Error::new(ErrorKind::Unavailable, message).with_hint("try again").with_source(error)
}

async fn put(
    store: &dyn ObjectStore,
    path: &Path,
    text: &'static str,
    mode: PutMode,
) -> StoreResult<PutResult> {
    store.put_opts(path, PutPayload::from_static(text.as_bytes()), mode.into()).await
}

/// The answer to a put that must be refused.
fn refused(answer: StoreResult<PutResult>, what: &str) -> Result<()> {
    match answer {
        Ok(_) => Err(unconditional(&format!("does not {what}"))),
        Err(error) if is_refusal(&error) => Ok(()),
        Err(error) => Err(unasked(error)),
    }
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })
}

/// Why a put with a condition failed.
fn unasked(error: StoreError) -> Error {
    let error = reason::describe(error);
    match error.kind() {
        ErrorKind::Unsupported => unconditional("takes no puts with a condition").with_source(error),
        _ => error,
    }
}

fn unconditional(what: &str) -> Error {
    let message = format!(
        "the object store {what} (conditional PUT), so two writers could destroy each other's commits"
    );
    Error::new(ErrorKind::Unsupported, message).with_hint(
        "AWS S3, Google Cloud Storage, Azure Blob Storage, Cloudflare R2 and MinIO of 2025 or newer have it; the \
         database can still be read",
    )
}

/// Another version than the object has, of the same form: stores refuse what can be no tag of theirs before they compare.
fn another(version: &UpdateVersion) -> UpdateVersion {
    UpdateVersion {
        e_tag: version.e_tag.as_deref().map(altered),
        version: version.version.as_deref().map(altered),
    }
}

/// The tag with its last letter or digit changed.
fn altered(tag: &str) -> String {
    let Some(at) = tag.rfind(|c: char| c.is_ascii_alphanumeric()) else { return format!("{tag}1") };
    let (before, rest) = tag.split_at(at);
    let changed = if rest.starts_with('1') { '2' } else { '1' };
    format!("{before}{changed}{}", &rest[1..])
}

#[cfg(test)]
mod tests;
