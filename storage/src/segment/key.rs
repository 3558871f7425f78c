//! Keys as bytes: comparing two encoded keys with `memcmp` gives the order of their values.
//!
//! Owns: the byte encoding of primary-key and sort columns, versioned because key filters keep hashes of it
//! on disk. Does not own: which columns make a key (`schema`), what equal keys mean (`transaction`).
//!
//! # Encoding, version 1
//! The columns' bytes follow each other in key order; every column's bytes are prefix-free.
//!
//! | type | bytes |
//! |---|---|
//! | BOOLEAN | 1: 0 false, 1 true |
//! | signed integers, DATE, TIME, TIMESTAMP\[TZ\] | own width, big-endian, sign bit flipped |
//! | unsigned integers | own width, big-endian |
//! | DECIMAL | 16: unscaled value, big-endian, sign bit flipped |
//! | REAL, DOUBLE | 4 or 8: IEEE bits big-endian, sign bit flipped, all bits of negatives flipped; -0 is written as 0, every NaN as the one quiet NaN, above infinity |
//! | TEXT, BYTEA | the bytes with `00` as `01 01` and `01` as `01 02`, then the end mark `00` |
//!
//! A nullable column (only `sort` has those) puts one byte before: 0 value, 1 NULL (so NULLs are last); the
//! bytes of a NULL of fixed width are zeros, of TEXT and BYTEA there are none. TEXT compares by bytes, that is by code point.

mod column;
mod describe;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

use arrow::array::{ArrayRef, RecordBatch};

pub use describe::describe;

use crate::error::{Error, ErrorKind, Result};
use crate::schema::{ColumnType, TableDef};

use column::KeyColumn;

/// Version of the encoding above, kept in every key filter.
pub const KEY_ENCODING_VERSION: u32 = 1;

/// Longest key kept without an allocation.
const INLINE_BYTES: usize = 22;

/// One encoded key, owned. Compares, hashes and borrows as its bytes.
#[derive(Clone)]
pub struct EncodedKey(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl EncodedKey {
    /// Owns a copy of an encoded key's bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        if key.len() <= INLINE_BYTES {
            let mut bytes = [0; INLINE_BYTES];
            bytes[..key.len()].copy_from_slice(key);
            Self(Repr::Inline { len: key.len() as u8, bytes })
        } else {
            Self(Repr::Heap(key.into()))
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }

    /// Hash that key filters are built from.
    #[must_use]
    pub fn filter_hash(&self) -> u64 {
        filter_hash(self.as_bytes())
    }

    /// Bytes it holds on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap(bytes) => bytes.len(),
        }
    }
}

/// Hash of an encoded key that key filters are built from.
#[must_use]
pub fn filter_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

impl AsRef<[u8]> for EncodedKey {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<[u8]> for EncodedKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for EncodedKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for EncodedKey {}

impl PartialOrd for EncodedKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EncodedKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for EncodedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for EncodedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodedKey(")?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// The encoded keys of a batch's rows, in one buffer.
#[derive(Clone, Debug)]
pub struct EncodedKeys {
    bytes: Vec<u8>,
    rows: usize,
    layout: Layout,
}

#[derive(Clone, Debug)]
enum Layout {
    Stride(usize),
    /// Start of each row and, last, the end of the buffer.
    Offsets(Vec<usize>),
}

impl EncodedKeys {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of row `row`'s key. Panics past the end, as a slice does.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        match &self.layout {
            Layout::Stride(stride) => &self.bytes[row * stride..(row + 1) * stride],
            Layout::Offsets(offsets) => &self.bytes[offsets[row]..offsets[row + 1]],
        }
    }

    /// Row `row`'s key, owned.
    #[must_use]
    pub fn to_owned(&self, row: usize) -> EncodedKey {
        EncodedKey::new(self.get(row))
    }

    /// All keys in row order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }

    /// First row that is smaller than the row before it; None: the rows are sorted.
    #[must_use]
    pub fn first_unsorted(&self) -> Option<usize> {
        (1..self.rows).find(|&row| self.get(row) < self.get(row - 1))
    }

    /// Width of every key when all have the same.
    pub(crate) fn stride(&self) -> Option<usize> {
        match self.layout {
            Layout::Stride(stride) => Some(stride),
            Layout::Offsets(_) => None,
        }
    }

    /// The first row whose key is at least `key`, of rows that are sorted.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.get(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Encodes rows of some fixed columns.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    columns: Vec<KeyColumn>,
    /// Bytes of a key when every column has a fixed width.
    stride: Option<usize>,
}

impl KeyEncoder {
    /// An encoder for NOT NULL columns of these types.
    ///
    /// # Errors
    /// `InvalidInput` for no column or a type without order.
    pub fn new(types: &[ColumnType]) -> Result<Self> {
        Self::build(types.iter().map(|t| (t, false)))
    }

    /// As [`new`](Self::new), with whether each column may hold NULL.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_nulls(types: &[(ColumnType, bool)]) -> Result<Self> {
        Self::build(types.iter().map(|(t, nullable)| (t, *nullable)))
    }

    /// The encoder of a table's primary key; None when it has none.
    ///
    /// # Errors
    /// As `new`.
    pub fn for_key(def: &TableDef) -> Result<Option<Self>> {
        let indices = def.key_indices();
        if indices.is_empty() {
            return Ok(None);
        }
        Self::build(indices.iter().map(|&i| (&def.columns[i].column_type, false))).map(Some)
    }

    /// The encoder of what a table's segments are sorted by; None when they are not.
    ///
    /// # Errors
    /// As `new`.
    pub fn for_sort(def: &TableDef) -> Result<Option<Self>> {
        if def.sort.is_empty() {
            return Self::for_key(def);
        }
        let columns = def.sort_indices();
        Self::build(columns.iter().map(|&i| (&def.columns[i].column_type, def.columns[i].nullable))).map(Some)
    }

    fn build<'a>(types: impl Iterator<Item = (&'a ColumnType, bool)>) -> Result<Self> {
        let columns = types.map(|(t, nullable)| KeyColumn::new(t, nullable)).collect::<Result<Vec<_>>>()?;
        if columns.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a key needs at least one column"));
        }
        let stride = columns.iter().map(KeyColumn::fixed_bytes).sum();
        Ok(Self { columns, stride })
    }

    /// How many columns a key has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Encodes every row of `columns`, one array of the surface Arrow type per key column.
    ///
    /// # Errors
    /// `ConstraintViolation` (23502) for a NULL in a NOT NULL column; `Internal` when arrays do not fit the encoder.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedKeys> {
        let rows = columns.first().map_or(0, |c| c.len());
        if columns.len() != self.columns.len() || columns.iter().any(|c| c.len() != rows) {
            return Err(Error::internal("key columns do not fit their encoder"));
        }
        match self.stride {
            Some(stride) => {
                let mut bytes = vec![0; rows * stride];
                let mut first = 0;
                for (column, array) in self.columns.iter().zip(columns) {
                    column.write(array, &mut bytes, |row| row * stride + first)?;
                    first += column.fixed_bytes().unwrap_or(0);
                }
                Ok(EncodedKeys { bytes, rows, layout: Layout::Stride(stride) })
            }
            None => self.encode_variable(columns, rows),
        }
    }

    fn encode_variable(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        let mut lengths = vec![0; rows];
        for (column, array) in self.columns.iter().zip(columns) {
            column.add_lengths(array, &mut lengths)?;
        }
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut end = 0;
        for length in &lengths {
            offsets.push(end);
            end += length;
        }
        offsets.push(end);
        let mut bytes = vec![0; end];
        let mut cursors = offsets[..rows].to_vec();
        for (column, array) in self.columns.iter().zip(columns) {
            column.write(array, &mut bytes, |row| cursors[row])?;
            column.add_lengths(array, &mut cursors)?;
        }
        Ok(EncodedKeys { bytes, rows, layout: Layout::Offsets(offsets) })
    }

    /// Encodes the rows of `batch` by the columns at `indices`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_batch(&self, batch: &RecordBatch, indices: &[usize]) -> Result<EncodedKeys> {
        let columns = indices.iter().map(|&i| batch.columns().get(i).cloned()).collect::<Option<Vec<_>>>();
        self.encode(&columns.ok_or_else(|| Error::internal("a batch lacks key columns"))?)
    }
}

#[cfg(test)]
mod tests;
