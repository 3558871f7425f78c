//! Writing one object: a temporary file that gets its name at the end, or goes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error as StoreError, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Inner, TEMPORARY, Target, store_error};
use crate::fs::{File, FileSystem, OpenMode, parent};

/// A sync of more than this moves to a blocking thread where there is one.
const SYNC_INLINE_BYTES: u64 = 1 << 20;

/// The name of an unfinished object; removed when dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    fs: Arc<dyn FileSystem>,
    path: Option<String>,
}

impl Temporary {
    pub(super) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    /// It has been renamed.
    pub(super) fn forget(mut self) {
        self.path = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What stays behind is removed at the next open for writing.
            let _ignored = self.fs.remove_file(&path);
        }
    }
}

/// An object being written, its parts in order.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<Inner>,
    location: Path,
    path: String,
    target: Target,
    /// None once finished or aborted.
    open: Option<(Arc<dyn File>, Temporary)>,
    written: u64,
    failed: bool,
}

impl Upload {
    pub(super) fn begin(store: &Arc<Inner>, location: &Path, target: Target) -> Result<Self> {
        let path = store.writable(location)?;
        store.create_parent(&path)?;
        let open = Some(create(store, &path).map_err(|e| store_error("writing", &path, e))?);
        let location = location.clone();
        Ok(Self { store: Arc::clone(store), location, path, target, open, written: 0, failed: false })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((file, _)) = &self.open else {
            return Err(store_error("writing", &self.path, io::Error::other("it is finished already")));
        };
        if let Err(e) = file.write_at(bytes, self.written) {
            self.failed = true;
            return Err(store_error("writing", &self.path, e));
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<PutResult> {
        let writing = |why: &str| store_error("writing", &self.path, io::Error::other(why.to_owned()));
        let (file, temporary) = self.open.take().ok_or_else(|| writing("it is finished already"))?;
        if self.failed {
            return Err(writing("a part of it could not be written"));
        }
        // After a failure the file is thrown away; its sync is never tried again (D1).
        sync(file, self.written).await.map_err(|e| store_error("syncing", &self.path, e))?;
        // Another put may have met a failed directory sync meanwhile.
        self.store.writable(&self.location)?;
        self.store.publish(temporary, &self.path, self.target)
    }
}

/// A new file beside `path`.
fn create(store: &Inner, path: &str) -> io::Result<(Arc<dyn File>, Temporary)> {
    let directory = parent(path);
    loop {
        let number = store.temporary.fetch_add(1, Ordering::Relaxed);
        let slash = if directory.is_empty() { "" } else { "/" };
        let name = format!("{directory}{slash}{TEMPORARY}{number}");
        match store.fs.open(&name, OpenMode::CreateNew) {
            Ok(file) => return Ok((file, Temporary { fs: Arc::clone(&store.fs), path: Some(name) })),
            // Left behind by a crash.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

async fn sync(file: Arc<dyn File>, bytes: u64) -> io::Result<()> {
    let threads = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > SYNC_INLINE_BYTES && threads {
        tokio::task::spawn_blocking(move || file.sync()).await.map_err(io::Error::other)?
    } else {
        file.sync()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    /// Writes at once: parts come in order, and the page cache takes them quickly.
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let written = part.iter().try_for_each(|bytes| self.write(bytes));
        async move { written }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.finish().await
    }

    async fn abort(&mut self) -> Result<()> {
        let open = self.open.take();
        let missing =
            || StoreError::Generic { store: "cairn", source: "the upload is finished already".into() };
        open.map(drop).ok_or_else(missing)
    }
}
