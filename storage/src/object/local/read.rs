//! Reading objects of the local store: whole, in ranges, or only their length.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use super::store_error;
use crate::error::Error;
use crate::fs::{File, FileSystem, OpenMode};

/// Bytes read for each item of a stream.
const CHUNK_BYTES: u64 = 1 << 20;

/// What is known of an object: its name and length.
pub(super) fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
}

fn open(fs: &dyn FileSystem, location: &Path) -> Result<(Arc<dyn File>, u64)> {
    let failed = |e| store_error("reading", location.as_ref(), e);
    let file = fs.open(location.as_ref(), OpenMode::Read).map_err(failed)?;
    let size = file.len().map_err(failed)?;
    Ok((file, size))
}

fn read(file: &dyn File, location: &Path, range: Range<u64>) -> Result<Bytes> {
    // Ranges were checked against the length of the file, so this allocates no more than there is.
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let read =
        file.read_at(&mut bytes, range.start).map_err(|e| store_error("reading", location.as_ref(), e))?;
    if read < bytes.len() {
        return Err(Error::corrupt(location, "it became shorter while it was read").into());
    }
    Ok(bytes.into())
}

fn checked(range: &GetRange, size: u64) -> Result<Range<u64>> {
    range.as_range(size).map_err(|e| object_store::Error::Generic { store: "cairn", source: Box::new(e) })
}

pub(super) fn get(fs: &dyn FileSystem, location: &Path, options: &GetOptions) -> Result<GetResult> {
    let (file, size) = open(fs, location)?;
    let meta = meta(location.clone(), size);
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        Some(range) => checked(range, size)?,
        None => 0..size,
    };
    let wanted = if options.head { range.start..range.start } else { range.clone() };
    let location = location.clone();
    let chunks = wanted.clone().step_by(CHUNK_BYTES as usize).map(move |from| {
        let to = wanted.end.min(from.saturating_add(CHUNK_BYTES));
        read(&*file, &location, from..to)
    });
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream::iter(chunks).boxed()),
        meta,
        range,
        attributes: Attributes::default(),
    })
}

pub(super) fn get_ranges(fs: &dyn FileSystem, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let (file, size) = open(fs, location)?;
    ranges
        .iter()
        .map(|range| read(&*file, location, checked(&GetRange::Bounded(range.clone()), size)?))
        .collect()
}
