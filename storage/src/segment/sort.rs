//! Putting rows into the order of their table's segments.
//!
//! Owns: the order check and the stable sort, a pure function. Does not own: checking for duplicates (`writer`, `transaction`).

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;

use super::key::{EncodedKeys, KeyEncoder};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::TableDef;

/// Rows per batch that sorting makes.
const BATCH_ROWS: usize = 16 * 1024;

/// Rows in segment order.
#[derive(Clone, Debug)]
pub struct SortedRows {
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// For each row its number in the input; None: the input was in order already and is passed on.
    pub permutation: Option<Vec<u32>>,
}

/// Sorts rows by the table's sort columns (ascending, NULLs last, equal rows in input order). Batches begin with the
/// table's columns; further columns travel along. Without sort columns the rows pass unchanged.
///
/// # Errors
/// `ConstraintViolation` (23502) for NULL in a key column; `ResourceExhausted` above 2^32 - 1 rows.
pub fn sort_batches(def: &TableDef, batches: Vec<RecordBatch>) -> Result<SortedRows> {
    let Some(encoder) = KeyEncoder::for_sort(def)? else {
        return Ok(SortedRows { batches, permutation: None });
    };
    let indices = def.sort_indices();
    let keys = batches.iter().map(|b| encoder.encode_batch(b, &indices)).collect::<Result<Vec<_>>>()?;
    if in_order(&keys) {
        return Ok(SortedRows { batches, permutation: None });
    }
    let rows: usize = keys.iter().map(EncodedKeys::len).sum();
    if rows > u32::MAX as usize {
        return Err(Error::new(ErrorKind::ResourceExhausted, "more than 2^32 - 1 rows in one sort"));
    }
    let permutation = order(&keys);
    let starts: Vec<u32> = batches
        .iter()
        .scan(0, |next, batch| {
            let start = *next;
            *next += batch.num_rows() as u32;
            Some(start)
        })
        .collect();
    let inputs: Vec<&RecordBatch> = batches.iter().collect();
    let sorted = permutation
        .chunks(BATCH_ROWS)
        .map(|chunk| {
            let places: Vec<(usize, usize)> = chunk
                .iter()
                .map(|&row| {
                    let batch = starts.partition_point(|&start| start <= row) - 1;
                    (batch, (row - starts[batch]) as usize)
                })
                .collect();
            Ok(interleave_record_batch(&inputs, &places)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(SortedRows { batches: sorted, permutation: Some(permutation) })
}

fn in_order(keys: &[EncodedKeys]) -> bool {
    let mut last: Option<&[u8]> = None;
    keys.iter().filter(|k| !k.is_empty()).all(|keys| {
        let follows = last.is_none_or(|last| last <= keys.get(0));
        last = Some(keys.get(keys.len() - 1));
        follows && keys.first_unsorted().is_none()
    })
}

/// Row numbers in key order, equal keys in input order.
fn order(keys: &[EncodedKeys]) -> Vec<u32> {
    let rows = keys.iter().flat_map(EncodedKeys::iter);
    if keys.iter().all(|k| k.stride().is_some_and(|s| s <= 16)) {
        let mut short: Vec<(u128, u32)> = rows
            .zip(0..)
            .map(|(key, row)| (key.iter().fold(0_u128, |n, &b| n << 8 | u128::from(b)), row))
            .collect();
        short.sort_unstable();
        return short.into_iter().map(|(_, row)| row).collect();
    }
    let mut all: Vec<(&[u8], u32)> = rows.zip(0..).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, row)| row).collect()
}
