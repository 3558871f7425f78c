//! What the writer checks of keys while rows pass: order, repeats, and their hashes for the key filter.

use arrow::array::RecordBatch;

use super::super::key::{EncodedKey, KeyEncoder, describe, filter_hash};
use super::super::writer::{Addressing, columns_at};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::TableDef;

pub(super) struct OrderCheck {
    table: String,
    key_names: String,
    key: Option<(KeyEncoder, Vec<usize>)>,
    /// None: no sort columns, or the same as the key.
    sort: Option<(KeyEncoder, Vec<usize>)>,
    /// Whether equal neighbours are an error: a load in key order. (A checkpoint may hold dead versions.)
    unique: bool,
    hashes: Vec<u64>,
    last: Option<EncodedKey>,
    sorted: bool,
}

impl OrderCheck {
    pub(super) fn new(def: &TableDef, addressing: Addressing) -> Result<Self> {
        let key_indices = def.key_indices();
        let sort_indices = def.sort_indices();
        let key = KeyEncoder::for_key(def)?.map(|encoder| (encoder, key_indices.clone()));
        let same = key_indices == sort_indices;
        let sort =
            if same { None } else { KeyEncoder::for_sort(def)?.map(|encoder| (encoder, sort_indices)) };
        let names: Vec<&str> = key_indices.iter().map(|&i| def.columns[i].name.as_str()).collect();
        Ok(Self {
            table: def.qualified_name(),
            key_names: names.join(", "),
            sorted: key.is_some() || sort.is_some(),
            unique: same && addressing == Addressing::Load,
            key,
            sort,
            hashes: Vec::new(),
            last: None,
        })
    }

    pub(super) fn check(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut by_key = None;
        if let Some((encoder, indices)) = &self.key {
            let keys = encoder.encode_batch(batch, indices)?;
            self.hashes.extend(keys.iter().map(filter_hash));
            by_key = Some(keys);
        }
        if !self.sorted {
            return Ok(());
        }
        let keys = match (&self.sort, by_key) {
            (Some((encoder, indices)), _) => encoder.encode_batch(batch, indices)?,
            (None, Some(keys)) => keys,
            (None, None) => return Ok(()),
        };
        let mut last = self.last.as_ref().map(EncodedKey::as_bytes);
        for (row, key) in keys.iter().enumerate() {
            match last.map(|last| last.cmp(key)) {
                Some(std::cmp::Ordering::Greater) => {
                    self.sorted = false;
                    self.last = None;
                    return Ok(());
                }
                Some(std::cmp::Ordering::Equal) if self.unique => return Err(self.repeated(batch, row)),
                _ => last = Some(key),
            }
        }
        self.last = last.map(EncodedKey::new);
        Ok(())
    }

    fn repeated(&self, batch: &RecordBatch, row: usize) -> Error {
        let indices = self.key.as_ref().map_or(&[][..], |(_, indices)| indices);
        let value = describe(&columns_at(batch, indices), row);
        Error::new(
            ErrorKind::ConstraintViolation,
            format!(
                "duplicate key in {}: ({}) = {value} is there more than once",
                self.table, self.key_names
            ),
        )
        .with_sqlstate("23505")
    }

    /// Whether all rows so far stand in order of the sort columns.
    pub(super) fn sorted(&self) -> bool {
        self.sorted
    }

    /// Hashes of all keys; None without a key.
    pub(super) fn into_hashes(self) -> Option<Vec<u64>> {
        self.key.map(|_| self.hashes)
    }
}
