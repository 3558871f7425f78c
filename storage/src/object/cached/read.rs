//! Reading blocks: from the file, from a request under way, from one of our own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, Extensions, GetOptions, GetRange, Result as StoreResult};

use super::file::{BlockFile, OpenFile, TRAILER_BYTES, blocks_of};
use super::gathered::{Gathered, Piece};
use super::object::{Answer, Arrived, CachedObject, EVERY_BLOCK, Step};
use super::{BLOCK, Cache};
use crate::error::{Error, ErrorKind};
use crate::object::ReadMeter;

/// Requests of one read that are under way at the same time.
const REQUESTS_AT_ONCE: usize = 8;
/// Blocks read from the file before other tasks get their turn.
const BLOCKS_AT_ONCE: usize = 64;
/// Most bytes that are read of an object before its length is known: one of several requests might begin past its end.
const UNKNOWN_BYTES_MAX: u64 = 8 << 20;

/// The blocks of a read, and the object's length.
pub(super) struct Read {
    pub(super) gathered: Gathered,
    pub(super) length: u64,
}

impl Cache {
    /// The object to read through; None: nothing of it is kept.
    pub(super) fn object(&self, location: &Path) -> Option<Arc<CachedObject>> {
        if let Some(object) = self.shelf.get(location) {
            return Some(object);
        }
        let file = BlockFile::new(&self.directory, location);
        let found = file.find();
        if found.is_none() && self.is_off() {
            return None;
        }
        let object = CachedObject::new(location.clone(), file, found.map(|found| found.length));
        Some(self.shelf.put(object, found.map_or(0, |found| found.held_bytes)))
    }

    /// Whether the blocks of `ranges` are there, as far as what is known in memory tells and, where it does not, a look at the file.
    pub(super) fn has(&self, location: &Path, ranges: &[Range<u64>]) -> bool {
        let Some(object) = self.object(location) else { return false };
        let Some(length) = object.length() else { return false };
        let inside: Vec<Range<u64>> = ranges.iter().map(|range| range.start..range.end.min(length)).collect();
        if inside.iter().any(|range| range.end.div_ceil(BLOCK) >= u64::from(u32::MAX)) {
            return false;
        }
        let Some(doubtful) = object.doubtful(&Gathered::of(&inside).missing()) else { return false };
        if doubtful.is_empty() {
            return true;
        }
        let Some(file) = object.file().open(length) else {
            object.no_file();
            return false;
        };
        // The first that is not there tells.
        let held = doubtful.iter().take_while(|number| file.promises(**number)).count();
        let (found, rest) = doubtful.split_at(held);
        object.looked(found, &rest[..rest.len().min(1)]);
        rest.is_empty()
    }

    /// The blocks of `ranges`, none of which is empty. None: they have to be read past the cache.
    pub(super) async fn read(
        self: &Arc<Self>,
        object: &Arc<CachedObject>,
        ranges: &[Range<u64>],
        extensions: &Extensions,
    ) -> StoreResult<Option<Read>> {
        let asked = ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.end - range.start));
        if object.length().is_none() && asked > UNKNOWN_BYTES_MAX {
            let start = ranges.iter().map(|range| range.start).min().unwrap_or(0);
            if start / BLOCK >= u64::from(u32::MAX) {
                return Ok(None);
            }
            let mut first = Gathered::of(std::slice::from_ref(&(start..start + 1)));
            if !self.gather(object, &mut first, extensions).await? {
                return Ok(None);
            }
        }
        let end = object.length().unwrap_or(u64::MAX);
        let inside: Vec<Range<u64>> = ranges.iter().map(|range| range.start..range.end.min(end)).collect();
        if inside.iter().any(|range| range.end.div_ceil(BLOCK) >= u64::from(u32::MAX)) {
            return Ok(None);
        }
        let mut gathered = Gathered::of(&inside);
        if !self.gather(object, &mut gathered, extensions).await? {
            return Ok(None);
        }
        let (local, others) = gathered.local_blocks();
        self.hits.add(local);
        self.misses.add(others);
        if let Some(meter) = extensions.get::<ReadMeter>() {
            let cached = inside.iter().map(|range| gathered.local_bytes(range)).filter(|bytes| *bytes > 0);
            cached.for_each(|bytes| meter.cached(bytes));
        }
        Ok(object.length().map(|length| Read { gathered, length }))
    }

    /// Gets the blocks that are missing, up to the object's end. False: the object is not what it was, and nothing of it is kept.
    async fn gather(
        self: &Arc<Self>,
        object: &Arc<CachedObject>,
        gathered: &mut Gathered,
        extensions: &Extensions,
    ) -> StoreResult<bool> {
        loop {
            let missing = gathered.missing().len();
            if missing == 0 {
                return Ok(true);
            }
            let answers = match object.step(gathered, |blocks| self.request(object, blocks, extensions)) {
                Step::Look(numbers) => {
                    self.look(object, &numbers, gathered).await;
                    continue;
                }
                Step::Wait(answers) => answers,
            };
            let mut arriving = stream::iter(answers).buffered(REQUESTS_AT_ONCE);
            while let Some(arrived) = arriving.try_next().await.map_err(told)? {
                if object.length() != Some(arrived.length) {
                    // Objects never change, so what is kept is of another one.
                    self.forget(object.path());
                    return Ok(false);
                }
                gathered.limit(blocks_of(arrived.length));
                gathered.add(Piece { start: arrived.start, bytes: arrived.bytes, local: false });
            }
            if gathered.missing().len() == missing {
                return Err(Error::internal(format!("blocks of {} do not arrive", object.path())).into());
            }
        }
    }

    /// All of an object whose length is not known.
    pub(super) async fn read_whole(
        self: &Arc<Self>,
        object: &Arc<CachedObject>,
        extensions: &Extensions,
    ) -> StoreResult<Arrived> {
        let arrived = object.whole(|blocks| self.request(object, blocks, extensions)).await.map_err(told)?;
        self.misses.add(u64::from(blocks_of(arrived.length)));
        Ok(arrived)
    }

    /// Reads blocks from the file, and notes which it does not hold. Inline: they come from the page cache as a rule (ADR 5).
    async fn look(&self, object: &CachedObject, numbers: &[(u32, bool)], gathered: &mut Gathered) {
        let Some(file) = object.length().and_then(|length| object.file().open(length)) else {
            object.no_file();
            return;
        };
        let (mut likely, mut found, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (number, known) in numbers {
            if *known || file.promises(*number) { likely.push(*number) } else { lost.push(*number) }
        }
        for run in likely.chunk_by(|before, number| before + 1 == *number) {
            let mut rest = run;
            while let Some(first) = rest.first() {
                let (bytes, read) = read_run(&file, rest).await;
                if read > 0 {
                    let start = u64::from(*first) * BLOCK;
                    gathered.add(Piece { start, bytes: bytes.into(), local: true });
                    found.extend_from_slice(&rest[..read]);
                }
                lost.extend(rest.get(read));
                rest = &rest[rest.len().min(read + 1)..];
            }
        }
        object.looked(&found, &lost);
    }

    /// Begins a request for some blocks.
    fn request(
        self: &Arc<Self>,
        object: &Arc<CachedObject>,
        blocks: Range<u32>,
        extensions: &Extensions,
    ) -> Answer {
        let (cache, object, extensions) = (Arc::clone(self), Arc::clone(object), extensions.clone());
        async move { cache.fetch(&object, blocks, extensions).await.map_err(Arc::new) }.boxed().shared()
    }

    async fn fetch(
        self: &Arc<Self>,
        object: &Arc<CachedObject>,
        blocks: Range<u32>,
        extensions: Extensions,
    ) -> StoreResult<Arrived> {
        let whole = blocks == EVERY_BLOCK;
        let start = u64::from(blocks.start) * BLOCK;
        let end = (u64::from(blocks.end) * BLOCK).min(object.length().unwrap_or(u64::MAX));
        let range = (!whole).then_some(GetRange::Bounded(start..end));
        let options = GetOptions { range, extensions, ..GetOptions::default() };
        let answer = self.store.get_opts(object.path(), options).await?;
        let (length, sent) = (answer.meta.size, answer.range.clone());
        let bytes = answer.bytes().await?;
        let expected = start..if whole { length } else { end.min(length) };
        if sent != expected || bytes.len() as u64 != expected.end - expected.start {
            let (count, wanted) = (bytes.len(), expected.end.saturating_sub(expected.start));
            let message = format!(
                "{}: the store sent {count} bytes at offset {} instead of {wanted} at {start}",
                object.path(),
                sent.start
            );
            return Err(Error::new(ErrorKind::Unavailable, message).into());
        }
        let arrived = Arrived { length, start, bytes };
        self.keep(object, &arrived);
        Ok(arrived)
    }
}

/// Reads blocks that follow each other into one piece, up to the first that can't be read; returns how many there are in it.
async fn read_run(file: &OpenFile, run: &[u32]) -> (Vec<u8>, usize) {
    let room: usize = run.iter().map(|number| file.block_bytes(*number)).sum();
    // What stands behind a block is read with it, and overwritten by the next one.
    let mut bytes = vec![0; room + TRAILER_BYTES];
    let (mut filled, mut read) = (0_usize, 0_usize);
    for number in run {
        if !file.read(*number, &mut bytes[filled..]) {
            break;
        }
        filled += file.block_bytes(*number);
        read += 1;
        if read.is_multiple_of(BLOCKS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    bytes.truncate(filled);
    (bytes, read)
}

/// The error of a request that several wait for, as told to one of them.
fn told(error: Arc<StoreError>) -> StoreError {
    let error = match Arc::try_unwrap(error) {
        Ok(error) => return error,
        Err(shared) => shared,
    };
    let source = Box::new(Told(Arc::clone(&error)));
    match &*error {
        StoreError::NotFound { path, .. } => StoreError::NotFound { path: path.clone(), source },
        StoreError::PermissionDenied { path, .. } => {
            StoreError::PermissionDenied { path: path.clone(), source }
        }
        StoreError::Unauthenticated { path, .. } => {
            StoreError::Unauthenticated { path: path.clone(), source }
        }
        StoreError::Generic { source: cause, .. } => match cause.downcast_ref::<Error>() {
            // One of ours is found whole by whoever asks.
            Some(ours) => ours.clone().into(),
            None => StoreError::Generic { store: "cache", source },
        },
        _ => StoreError::Generic { store: "cache", source },
    }
}

/// An error that others were told too.
#[derive(Debug)]
struct Told(Arc<StoreError>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Told {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
