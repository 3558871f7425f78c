//! Which objects are in the cache, how many bytes they take, and which leaves first.
//!
//! Owns: the limit (CLOCK over whole objects: a second chance for what was read since the hand last passed). Does not own: their
//! files; who is told that an object goes removes it. What another process keeps in the same directory counts since it was last
//! listed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;

use super::object::CachedObject;

/// More objects than this are not kept, however small they are.
const OBJECTS_MAX: usize = 64 * 1024;

#[derive(Default)]
struct Clock {
    objects: HashMap<Path, Shelved>,
    /// Objects in the order the hand passes them; may name some that are gone.
    hand: VecDeque<Path>,
    bytes: u64,
}

struct Shelved {
    object: Arc<CachedObject>,
    bytes: u64,
}

impl Clock {
    /// Lets go of objects until no more than `bytes_max` are left.
    fn evict(&mut self, bytes_max: u64) -> Vec<Arc<CachedObject>> {
        let mut gone = Vec::new();
        // Twice around, and every second chance is used up.
        let mut steps = 2 * self.hand.len();
        while (self.bytes > bytes_max || self.objects.len() > OBJECTS_MAX) && steps > 0 {
            steps -= 1;
            let Some(path) = self.hand.pop_front() else { break };
            if self.objects.get(&path).is_some_and(|shelved| shelved.object.take_used()) {
                self.hand.push_back(path);
            } else {
                gone.extend(self.remove(&path));
            }
        }
        gone
    }

    fn remove(&mut self, path: &Path) -> Option<Arc<CachedObject>> {
        let shelved = self.objects.remove(path)?;
        self.bytes -= shelved.bytes;
        Some(shelved.object)
    }
}

/// See the module.
pub(super) struct Shelf {
    limit_bytes: u64,
    clock: Mutex<Clock>,
}

impl Shelf {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, clock: Mutex::default() }
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// An object that is there.
    pub(super) fn get(&self, path: &Path) -> Option<Arc<CachedObject>> {
        let clock = self.lock();
        let object = &clock.objects.get(path)?.object;
        object.mark_used();
        Some(Arc::clone(object))
    }

    /// Adds an object whose file has `bytes`, unless it is there already; returns the one that is.
    pub(super) fn put(&self, object: CachedObject, bytes: u64) -> Arc<CachedObject> {
        let mut clock = self.lock();
        if let Some(shelved) = clock.objects.get(object.path()) {
            return Arc::clone(&shelved.object);
        }
        let (path, object) = (object.path().clone(), Arc::new(object));
        clock.objects.insert(path.clone(), Shelved { object: Arc::clone(&object), bytes });
        clock.hand.push_back(path);
        clock.bytes += bytes;
        object
    }

    /// Takes an object out.
    pub(super) fn remove(&self, path: &Path) -> Option<Arc<CachedObject>> {
        let mut guard = self.lock();
        let clock = &mut *guard;
        let removed = clock.remove(path);
        // Each name is passed over only when room is needed, which may be never.
        if clock.hand.len() > 2 * clock.objects.len() + 64 {
            clock.hand.retain(|path| clock.objects.contains_key(path));
        }
        removed
    }

    /// Makes room for `bytes` more of `object`: whether they may be written, and the objects that have to go.
    pub(super) fn admit(&self, object: &Arc<CachedObject>, bytes: u64) -> (bool, Vec<Arc<CachedObject>>) {
        let Some(bytes_max) = self.limit_bytes.checked_sub(bytes) else { return (false, Vec::new()) };
        let mut guard = self.lock();
        let clock = &mut *guard;
        let gone = clock.evict(bytes_max);
        let fits = clock.bytes <= bytes_max;
        let shelved = clock.objects.get_mut(object.path()).filter(|s| fits && Arc::ptr_eq(&s.object, object));
        let admitted = shelved.is_some();
        if let Some(shelved) = shelved {
            shelved.bytes += bytes;
            clock.bytes += bytes;
        }
        (admitted, gone)
    }

    /// The objects that have to go to keep the limit.
    pub(super) fn overflow(&self) -> Vec<Arc<CachedObject>> {
        self.lock().evict(self.limit_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        // A panic while it was held can at worst have left the byte count off.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
