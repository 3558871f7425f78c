//! Objects that were written ahead of the commit that is to name them.
//!
//! Owns: which they are, and that they go when no commit will name them: when it fails, is rolled back, or whoever waited for it goes away in the
//! middle. Does not own: writing them, nor whether they may be collected meanwhile (`collect::uploads`).
//!
//! Rule: once the commit order has accepted the entry that names them, and before anything else is awaited, they are [named](Staged::named), and
//! dropping this leaves them alone.
//!
//! Removal is best effort, and only space is at stake: what stays (an object whose removal failed, one that was being written when its statement
//! went away) is named by nothing, and no commit ever will name it, since ids are given once. VERIFY tells of it; in a directory the next
//! checkpoint looks for it, as does VACUUM, in a bucket the collector.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::collect::Swept;
use crate::segment::{DeletesMeta, SegmentMeta};

/// See the module.
#[derive(Debug)]
pub(super) struct Staged {
    store: Arc<dyn ObjectStore>,
    swept: Arc<Swept>,
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    segments: Vec<SegmentMeta>,
    /// `.deletes` objects.
    deletes: Vec<Path>,
    /// Whether there may be objects of its ids, these or others that are being written.
    begun: bool,
    /// Whether an entry of the log names them, or may.
    named: bool,
}

impl Objects {
    fn paths(&mut self) -> Vec<Path> {
        let segments = std::mem::take(&mut self.segments);
        let of_segment = |meta: &SegmentMeta| [Path::from(meta.path()), Path::from(meta.key_filter_path())];
        let mut paths: Vec<Path> = segments.iter().flat_map(of_segment).collect();
        paths.append(&mut self.deletes);
        paths
    }
}

impl Staged {
    /// Nothing yet.
    pub(super) fn new(store: &Arc<dyn ObjectStore>, swept: &Arc<Swept>) -> Self {
        Self { store: Arc::clone(store), swept: Arc::clone(swept), objects: Mutex::default() }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is about to be written.
    pub(super) fn begun(&self) {
        self.objects().begun = true;
    }

    /// Segments are there, with their key filters.
    pub(super) fn add(&self, segments: impl IntoIterator<Item = SegmentMeta>) {
        let mut objects = self.objects();
        objects.segments.extend(segments);
        objects.begun |= !objects.segments.is_empty();
    }

    /// A `.deletes` object is there.
    pub(super) fn add_deletes(&self, meta: &DeletesMeta) {
        self.objects().deletes.push(Path::from(meta.path()));
    }

    /// Gives the segments `wanted` says to somebody else's care. None is being written.
    pub(super) fn give(&self, wanted: impl Fn(&SegmentMeta) -> bool) -> Vec<SegmentMeta> {
        let mut objects = self.objects();
        let (given, kept) = std::mem::take(&mut objects.segments).into_iter().partition(wanted);
        objects.segments = kept;
        objects.begun = !objects.segments.is_empty() || !objects.deletes.is_empty();
        given
    }

    /// From now on an entry of the log names them.
    pub(super) fn named(&self) {
        self.objects().named = true;
    }

    /// No commit will name them: removes them. A caller that goes away in the middle leaves the rest to a task of its own.
    pub(super) async fn remove(&self) {
        let paths = {
            let mut objects = self.objects();
            objects.named = false;
            objects.paths()
        };
        let mut left = Left { store: Arc::clone(&self.store), paths };
        while let Some(path) = left.paths.last() {
            let _ = self.store.delete(path).await;
            left.paths.pop();
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut objects = self.objects();
        if !objects.named {
            if objects.begun {
                self.swept.set_due();
            }
            drop(Left { store: Arc::clone(&self.store), paths: objects.paths() });
        }
    }
}

/// Objects to remove; what is left when it is dropped goes in the background. It holds nothing that keeps a database open.
struct Left {
    store: Arc<dyn ObjectStore>,
    paths: Vec<Path>,
}

impl Drop for Left {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut self.paths);
        if let (false, Ok(runtime)) = (paths.is_empty(), tokio::runtime::Handle::try_current()) {
            let store = Arc::clone(&self.store);
            runtime.spawn(async move {
                for path in paths {
                    let _ = store.delete(&path).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// Whether a sweep is due once what was done with it is over.
    fn is_due(with: impl FnOnce(&Staged)) -> bool {
        let swept = Arc::new(Swept::default());
        swept.take_due();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let staged = Staged::new(&store, &swept);
        with(&staged);
        drop(staged);
        swept.take_due()
    }

    #[test]
    fn what_may_be_left_is_looked_for_at_the_next_checkpoint() {
        assert!(!is_due(|_| {}));
        // The statement went away while it wrote.
        assert!(is_due(Staged::begun));
        let committed = |staged: &Staged| {
            staged.begun();
            staged.named();
        };
        assert!(!is_due(committed));
        let handed_on = |staged: &Staged| {
            staged.begun();
            assert!(staged.give(|_| true).is_empty());
        };
        assert!(!is_due(handed_on));
    }
}
