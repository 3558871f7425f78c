//! Between which keys those of a segment lie, as its meta says: told before anything of the segment is read.
//!
//! Owns: the two ends, as bytes of the first key column. Does not own: what the meta says (`bounds`, `alter`), the pages within the
//! segment (`reader`). An end that is not known rules nothing out.

use super::SegmentMeta;
use super::key::{EncodedKey, KeyEncoder};
use super::stats::StatValue;
use crate::alter::single;
use crate::schema::{ColumnType, TableDef};

/// See the module.
#[derive(Debug)]
pub(crate) struct KeySpan {
    min: Option<EncodedKey>,
    max: Option<EncodedKey>,
}

impl KeySpan {
    /// That of a segment of `def`; without ends where the meta is of another definition.
    pub(crate) fn of(meta: &SegmentMeta, def: &TableDef) -> Self {
        let first = def.key_indices().first().copied().filter(|_| meta.schema_version == def.schema_version);
        let known = first.and_then(|at| Some((&def.columns.get(at)?.column_type, meta.columns.get(at)?)));
        let end = |of: Option<&StatValue>| known.zip(of).and_then(|((of, _), value)| encoded(of, value));
        let min = known.and_then(|(_, statistics)| statistics.min.as_ref());
        let max = known.and_then(|(_, statistics)| statistics.max.as_ref());
        Self { min: end(min), max: end(max) }
    }

    /// Whether an encoded key may be there; false is certain. The first column's bytes are a prefix of a key and prefix-free, so comparing
    /// whole keys with them is exact.
    pub(crate) fn may_hold(&self, key: &[u8]) -> bool {
        let below = self.min.as_ref().is_some_and(|min| key < min.as_bytes());
        let above =
            self.max.as_ref().is_some_and(|max| key > max.as_bytes() && !key.starts_with(max.as_bytes()));
        !below && !above
    }
}

/// A bound of a column as the first bytes of a key. None: it can't be said in the column's type, and so is no end.
fn encoded(column_type: &ColumnType, bound: &StatValue) -> Option<EncodedKey> {
    let value = single(bound, &column_type.arrow()).ok()?;
    let keys = KeyEncoder::new(std::slice::from_ref(column_type)).ok()?.encode(&[value]).ok()?;
    Some(keys.to_owned(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use object_store::memory::InMemory;

    use super::*;
    use crate::id::SchemaVersion;
    use crate::segment::testing::{batch, key_types, object_id, random, table};
    use crate::segment::{Addressing, SegmentWriter, SegmentWriterOptions};

    async fn written(def: &Arc<TableDef>, rows: &RecordBatch) -> SegmentMeta {
        let (store, options) = (Arc::new(InMemory::new()), SegmentWriterOptions::default());
        let id = object_id(1);
        let mut writer = SegmentWriter::new(store, Arc::clone(def), id, Addressing::Load, options).unwrap();
        writer.write(rows).unwrap();
        writer.finish().await.unwrap()
    }

    #[tokio::test]
    async fn no_key_that_is_there_is_ruled_out() {
        for (seed, column_type) in (1..).zip(key_types()) {
            let def = table(&[(column_type.clone(), false), (ColumnType::Int64, false)], &[0, 1], &[1]);
            let random = &mut random(seed);
            let all = batch(random, &def, 200);
            let encoder = KeyEncoder::for_key(&def).unwrap().unwrap();
            let mut ruled_out = 0;
            for first in 0..10 {
                let some = all.slice(20 * first, 3);
                // Rows of other segments may stand in no order: this table is sorted by its other column, or not at all.
                let span = KeySpan::of(&written(&def, &some).await, &def);
                let keys = encoder.encode_batch(&some, &[0, 1]).unwrap();
                assert!(keys.iter().all(|key| span.may_hold(key)), "{column_type} {span:?}");
                let others = encoder.encode_batch(&all, &[0, 1]).unwrap();
                ruled_out += others.iter().filter(|key| !span.may_hold(key)).count();
                // What is said of another definition says nothing.
                let newer = TableDef { schema_version: SchemaVersion(2), ..TableDef::clone(&def) };
                let unknown = KeySpan::of(&written(&def, &some).await, &newer);
                assert!(unknown.min.is_none() && unknown.max.is_none());
            }
            assert!(ruled_out > 0 || column_type == ColumnType::Boolean, "{column_type}");
        }
    }
}
