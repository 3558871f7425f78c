//! Writing blocks behind the readers that brought them.
//!
//! Owns: the queue, and that one task at a time writes, in the order blocks arrived. Its memory is limited: what arrives faster
//! than the disk takes it is not kept. A disk that does not take it at all ends the writing for good: a query never fails for it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::Cache;
use super::file::{self, BlockFile, TRAILER_BYTES};
use super::object::{Arrived, CachedObject};

/// Most bytes that wait to be written; a single answer may be larger.
const WAITING_BYTES_MAX: usize = 128 << 20;

/// Blocks of one object to be written.
struct Fill {
    object: Arc<CachedObject>,
    /// Length of the object.
    length: u64,
    blocks: Vec<(u32, Bytes)>,
}

impl Fill {
    fn bytes(&self) -> usize {
        self.blocks.iter().map(|(_, block)| block.len() + TRAILER_BYTES).sum()
    }
}

#[derive(Default)]
struct Waiting {
    fills: VecDeque<Fill>,
    bytes: usize,
    /// Whether a task is at it.
    writing: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct FillQueue {
    waiting: Mutex<Waiting>,
}

impl FillQueue {
    /// Adds a fill; Err: there is no room. Ok(true): nobody writes yet, the caller has to.
    fn push(&self, fill: Fill) -> Result<bool, Fill> {
        let mut waiting = self.lock();
        let bytes = fill.bytes();
        if waiting.bytes > 0 && waiting.bytes + bytes > WAITING_BYTES_MAX {
            return Err(fill);
        }
        waiting.bytes += bytes;
        waiting.fills.push_back(fill);
        Ok(!std::mem::replace(&mut waiting.writing, true))
    }

    /// The next fill; None ends the writing.
    fn next(&self) -> Option<Fill> {
        let mut waiting = self.lock();
        let next = waiting.fills.pop_front();
        match &next {
            Some(fill) => waiting.bytes -= fill.bytes(),
            None => waiting.writing = false,
        }
        next
    }

    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.lock().writing
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while it was held can at worst have left the byte count off.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Takes note of an answer; its blocks are written behind it.
    pub(super) fn keep(self: &Arc<Self>, object: &Arc<CachedObject>, arrived: &Arrived) {
        let blocks = object.arrived(arrived, !self.is_off());
        if blocks.is_empty() {
            return;
        }
        let fill = Fill { object: Arc::clone(object), length: arrived.length, blocks };
        match self.fills.push(fill) {
            Ok(false) => {}
            Ok(true) => match Handle::try_current() {
                Ok(runtime) => {
                    let cache = Arc::clone(self);
                    runtime.spawn_blocking(move || cache.write_waiting());
                }
                Err(_) => self.write_waiting(),
            },
            Err(fill) => fill.object.unwritten(&fill.blocks),
        }
    }

    fn write_waiting(&self) {
        // The limit can be kept only when it is known what is there.
        self.scan();
        while let Some(fill) = self.fills.next() {
            self.write(&fill);
        }
    }

    fn write(&self, fill: &Fill) {
        let object = &fill.object;
        if self.is_off() || object.has_left() {
            object.unwritten(&fill.blocks);
            return;
        }
        let (admitted, gone) = self.shelf.admit(object, fill.bytes() as u64);
        gone.iter().for_each(|object| object.leave());
        if !admitted {
            object.unwritten(&fill.blocks);
            return;
        }
        match object.file().write(fill.length, &fill.blocks) {
            Ok(()) => object.written(&fill.blocks),
            Err(_) => {
                object.unwritten(&fill.blocks);
                self.turn_off();
            }
        }
        // It was deleted while it was written: the file may have come back.
        if object.has_left() {
            object.file().remove();
        }
    }

    /// Ends the writing; what is there is still read.
    fn turn_off(&self) {
        if !self.off.swap(true, Ordering::Relaxed) {
            self.failures.one();
        }
    }

    /// Whether nothing is written.
    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Finds, once, what earlier processes left in the directory.
    pub(super) fn scan(&self) {
        self.scanned.call_once(|| {
            for (path, found) in file::list(&self.directory, &self.closing) {
                let file = BlockFile::new(&self.directory, &path);
                self.shelf.put(CachedObject::new(path, file, Some(found.length)), found.held_bytes);
            }
            self.shelf.overflow().iter().for_each(|object| object.leave());
        });
    }
}
