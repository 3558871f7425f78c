//! What is known in memory of one object: its length, which blocks its file has, which are on their way.
//!
//! Owns: where a reader gets each block from, and that a block is asked for once however many want it. Does not own: reading and
//! writing the file (`file`), requests (`read`). An object that left the cache may still be read through; nothing is written for
//! it any more.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, Shared, WeakShared};
use object_store::path::Path;
use roaring::RoaringBitmap;

use super::BLOCK;
use super::file::{BlockFile, block_bytes};
use super::gathered::{Gathered, Piece};

/// Blocks between two missing ones that are read over.
const GAP_BLOCKS: u32 = 2;
/// Most blocks of one request: more are asked for side by side.
const REQUEST_BLOCKS_MAX: u32 = 256;
/// The blocks of an object whose length is not known.
pub(super) const EVERY_BLOCK: Range<u32> = 0..u32::MAX;

/// What the store sent.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    /// Length of the object.
    pub(super) length: u64,
    /// Where the bytes begin: at a block's start.
    pub(super) start: u64,
    /// They end at a block's end or the object's.
    pub(super) bytes: Bytes,
}

type Fetch = BoxFuture<'static, Result<Arrived, Arc<object_store::Error>>>;

/// The answer to a request that any number of readers wait for. Whoever waits drives it; when the last one gives up, the request
/// is dropped.
pub(super) type Answer = Shared<Fetch>;

/// A request for some blocks, as long as somebody waits for it.
struct Flight {
    blocks: Range<u32>,
    answer: WeakShared<Fetch>,
}

/// Where to get missing blocks from.
pub(super) enum Step {
    /// The file may hold these; true: it is known to.
    Look(Vec<(u32, bool)>),
    /// These answers bring the rest.
    Wait(Vec<Answer>),
}

#[derive(Default)]
struct State {
    length: Option<u64>,
    /// The file was there before this object was first read here: it may hold blocks nobody has looked for.
    unexplored: bool,
    /// Blocks the file holds.
    there: RoaringBitmap,
    /// Blocks that were looked for in vain.
    lost: RoaringBitmap,
    /// Blocks that wait to be written.
    filling: HashMap<u32, Bytes>,
    flights: Vec<Flight>,
}

impl State {
    /// The requests under way. What nobody waits for any more is forgotten.
    fn flying(&mut self) -> Vec<(Range<u32>, Answer)> {
        let mut flying = Vec::new();
        self.flights.retain(|flight| match flight.answer.upgrade() {
            Some(answer) => {
                flying.push((flight.blocks.clone(), answer));
                true
            }
            None => false,
        });
        flying
    }

    fn send(&mut self, blocks: Range<u32>, request: &mut impl FnMut(Range<u32>) -> Answer) -> Answer {
        let answer = request(blocks.clone());
        let flight = answer.downgrade().map(|answer| Flight { blocks, answer });
        self.flights.extend(flight);
        answer
    }
}

/// See the module.
pub(super) struct CachedObject {
    path: Path,
    file: BlockFile,
    used: AtomicBool,
    left: AtomicBool,
    state: Mutex<State>,
}

impl CachedObject {
    /// Object `path`, of this length when there is a file of it already.
    pub(super) fn new(path: Path, file: BlockFile, length: Option<u64>) -> Self {
        let state = State { length, unexplored: length.is_some(), ..State::default() };
        Self {
            path,
            file,
            used: AtomicBool::new(false),
            left: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &BlockFile {
        &self.file
    }

    /// Length of the object in bytes, once something of it was read.
    pub(super) fn length(&self) -> Option<u64> {
        self.lock().length
    }

    pub(super) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it was used since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Ends its time in the cache: nothing is written any more, the file goes.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.file.remove();
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Takes what waits to be written, and says where to get the other missing blocks: from the file as long as it may hold one,
    /// so that what then is left can be asked for with as few requests as possible. `request` begins one; it is called under a
    /// lock.
    pub(super) fn step(
        &self,
        gathered: &mut Gathered,
        mut request: impl FnMut(Range<u32>) -> Answer,
    ) -> Step {
        let mut state = self.lock();
        let (mut look, mut away) = (Vec::new(), Vec::new());
        for number in gathered.missing() {
            if let Some(bytes) = state.filling.get(&number) {
                let start = u64::from(number) * BLOCK;
                gathered.add(Piece { start, bytes: bytes.clone(), local: true });
            } else if state.there.contains(number) {
                look.push((number, true));
            } else if state.unexplored && !state.lost.contains(number) {
                look.push((number, false));
            } else {
                away.push(number);
            }
        }
        if !look.is_empty() {
            return Step::Look(look);
        }
        let flying = state.flying();
        let mut waited = vec![false; flying.len()];
        away.retain(|number| match flying.iter().position(|(blocks, _)| blocks.contains(number)) {
            Some(place) => {
                waited[place] = true;
                false
            }
            None => true,
        });
        // Those nobody waits for here go after the lock: the last one to go ends its request.
        let (needed, others): (Vec<_>, Vec<_>) = flying.into_iter().zip(waited).partition(|(_, w)| *w);
        let mut answers: Vec<Answer> = needed.into_iter().map(|((_, answer), _)| answer).collect();
        answers.extend(requests(&away).into_iter().map(|blocks| state.send(blocks, &mut request)));
        drop(state);
        drop(others);
        Step::Wait(answers)
    }

    /// The answer to a request for all of the object, whose length is not known.
    pub(super) fn whole(&self, mut request: impl FnMut(Range<u32>) -> Answer) -> Answer {
        let mut state = self.lock();
        let flying = state.flying();
        let answer = match flying.iter().find(|(blocks, _)| *blocks == EVERY_BLOCK) {
            Some((_, answer)) => answer.clone(),
            None => state.send(EVERY_BLOCK, &mut request),
        };
        drop(state);
        drop(flying);
        answer
    }

    /// Those of `blocks` of which only the file tells whether it holds them; None: there is one that it does not hold, and that does not
    /// wait to be written either.
    pub(super) fn doubtful(&self, blocks: &[u32]) -> Option<Vec<u32>> {
        let state = self.lock();
        let mut doubtful = Vec::new();
        for number in blocks {
            if state.there.contains(*number) || state.filling.contains_key(number) {
                continue;
            }
            if !state.unexplored || state.lost.contains(*number) {
                return None;
            }
            doubtful.push(*number);
        }
        Some(doubtful)
    }

    /// Notes which blocks the file turned out to hold, or to promise, and which not.
    pub(super) fn looked(&self, found: &[u32], lost: &[u32]) {
        let mut state = self.lock();
        state.there.extend(found);
        for number in lost {
            state.there.remove(*number);
            state.lost.insert(*number);
        }
    }

    /// Notes that there is no file, or none that can be read.
    pub(super) fn no_file(&self) {
        let mut state = self.lock();
        state.unexplored = false;
        state.there.clear();
    }

    /// Notes the object's length, and with `keep` returns the blocks that are to be written: until [`written`](Self::written) or
    /// [`unwritten`](Self::unwritten), readers get them from memory.
    pub(super) fn arrived(&self, arrived: &Arrived, keep: bool) -> Vec<(u32, Bytes)> {
        let mut state = self.lock();
        let mut blocks = Vec::new();
        // An object of another length is another one; the reader sees to that.
        if *state.length.get_or_insert(arrived.length) != arrived.length || !keep || self.has_left() {
            return blocks;
        }
        let mut number = (arrived.start / BLOCK) as u32;
        let mut rest = arrived.bytes.clone();
        loop {
            let bytes = block_bytes(arrived.length, number);
            if bytes == 0 || rest.len() < bytes {
                return blocks;
            }
            let block = rest.split_to(bytes);
            if !state.there.contains(number) && !state.filling.contains_key(&number) {
                state.filling.insert(number, block.clone());
                blocks.push((number, block));
            }
            number += 1;
        }
    }

    /// Notes that blocks were written.
    pub(super) fn written(&self, blocks: &[(u32, Bytes)]) {
        let mut state = self.lock();
        for (number, _) in blocks {
            state.filling.remove(number);
            state.there.insert(*number);
        }
    }

    /// Notes that blocks will not be written.
    pub(super) fn unwritten(&self, blocks: &[(u32, Bytes)]) {
        let mut state = self.lock();
        for (number, _) in blocks {
            state.filling.remove(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held can at worst have left out a note.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CachedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedObject").field("path", &self.path).field("length", &self.length()).finish()
    }
}

/// Requests that bring the blocks `missing`, which ascend.
fn requests(missing: &[u32]) -> Vec<Range<u32>> {
    let mut requests: Vec<Range<u32>> = Vec::new();
    for &number in missing {
        match requests.last_mut() {
            Some(last) if number - last.end <= GAP_BLOCKS && number - last.start < REQUEST_BLOCKS_MAX => {
                last.end = number + 1;
            }
            _ => requests.push(number..number + 1),
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_blocks_are_asked_for_together() {
        assert!(requests(&[]).is_empty());
        assert_eq!(requests(&[3, 4, 7, 11, 12]), [3..8, 11..13]);
        let many: Vec<u32> = (0..600).collect();
        assert_eq!(requests(&many), [0..256, 256..512, 512..600]);
    }
}
