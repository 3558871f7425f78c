//! Rows a scan has in memory: the memtable's, or those a key lookup fetched.
//!
//! Owns: which columns to ask storage for, the shape of the answer, and each partition's share. Shares are slices of
//! the memtable's batches, never copies.

use cairn_storage::TableSnapshot;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;

use super::storage_error;

/// Rows of one slice handed to a partition.
const SLICE_ROWS: usize = 64 * 1024;

/// The columns to ask storage for and where each column of the scan is in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// User columns, by position in the definition.
    pub(crate) columns: Vec<usize>,
    /// Whether `_row_id` and `_version` come behind them.
    pub(crate) pseudo: bool,
    order: Vec<usize>,
}

impl Wanted {
    /// What a scan of `projection` needs from a table of `user_columns` columns; the two after them are the pseudo-columns.
    pub(crate) fn new(projection: &[usize], user_columns: usize) -> Self {
        let mut columns: Vec<usize> = Vec::with_capacity(projection.len());
        for index in projection.iter().filter(|i| **i < user_columns) {
            if !columns.contains(index) {
                columns.push(*index);
            }
        }
        let pseudo = projection.iter().any(|i| *i >= user_columns);
        // COUNT(*) wants no column but the number of rows, which a batch without columns may not carry.
        if columns.is_empty() && !pseudo && user_columns > 0 {
            columns.push(0);
        }
        let order = projection
            .iter()
            .filter_map(|i| match i.checked_sub(user_columns) {
                Some(behind) => Some(columns.len() + behind),
                None => columns.iter().position(|c| c == i),
            })
            .collect();
        Self { columns, pseudo, order }
    }

    /// Storage's answer in the scan's columns and types.
    pub(crate) fn shape(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        with_schema(&batch.project(&self.order)?, schema)
    }
}

/// The same columns under another schema (names, nullability).
fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

/// Rows in memory, shared among partitions.
#[derive(Clone, Debug)]
pub(crate) struct MemoryRows {
    schema: SchemaRef,
    shares: Vec<Vec<RecordBatch>>,
    rows: usize,
}

impl MemoryRows {
    /// No rows.
    pub(crate) fn none(schema: &SchemaRef) -> Self {
        Self { schema: schema.clone(), shares: Vec::new(), rows: 0 }
    }

    /// `batches` (of `schema`) shared among at most `partitions` partitions.
    pub(crate) fn new(schema: &SchemaRef, batches: Vec<RecordBatch>, partitions: usize) -> Self {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Self::none(schema);
        }
        let slices: Vec<RecordBatch> = batches
            .iter()
            .flat_map(|b| {
                (0..b.num_rows()).step_by(SLICE_ROWS).map(|at| b.slice(at, SLICE_ROWS.min(b.num_rows() - at)))
            })
            .collect();
        // A partition for less than a slice costs more than it saves; many small batches stay together.
        let count = partitions.clamp(1, rows.div_ceil(SLICE_ROWS));
        let share_rows = rows.div_ceil(count);
        let mut shares: Vec<Vec<RecordBatch>> = vec![Vec::new()];
        let mut filled = 0;
        for slice in slices {
            if filled >= share_rows && shares.len() < count {
                shares.push(Vec::new());
                filled = 0;
            }
            filled += slice.num_rows();
            if let Some(share) = shares.last_mut() {
                share.push(slice);
            }
        }
        Self { schema: schema.clone(), shares, rows }
    }

    /// Rows of `schema` that have been shared already.
    pub(super) fn of_shares(schema: &SchemaRef, shares: Vec<Vec<RecordBatch>>) -> Self {
        let rows = shares.iter().flatten().map(RecordBatch::num_rows).sum();
        Self { schema: schema.clone(), shares, rows }
    }

    /// The memtable's live rows at the snapshot, in `schema` (the scan's).
    pub(crate) fn of_memtable(
        table: &TableSnapshot,
        wanted: &Wanted,
        schema: &SchemaRef,
        partitions: usize,
    ) -> Result<Self> {
        if table.hot_rows() == 0 {
            return Ok(Self::none(schema));
        }
        let batches = table
            .hot_batches(&wanted.columns, wanted.pseudo)
            .map_err(storage_error)?
            .iter()
            .map(|batch| wanted.shape(batch, schema))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::new(schema, batches, partitions))
    }

    /// Only the columns at `indices`, under `schema`.
    pub(crate) fn project(&self, indices: &[usize], schema: &SchemaRef) -> Result<Self> {
        let shares = self
            .shares
            .iter()
            .map(|share| share.iter().map(|b| with_schema(&b.project(indices)?, schema)).collect())
            .collect::<Result<_>>()?;
        Ok(Self { schema: schema.clone(), shares, rows: self.rows })
    }

    /// Schema of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The share of each partition that has one.
    pub(super) fn shares(&self) -> &[Vec<RecordBatch>] {
        &self.shares
    }

    /// How many partitions have some.
    pub(crate) fn partitions(&self) -> usize {
        self.shares.len()
    }

    /// A partition's share in batches of at most `batch_rows` rows.
    pub(crate) fn share(&self, partition: usize, batch_rows: usize) -> Vec<RecordBatch> {
        let step = batch_rows.max(1);
        let share = self.shares.get(partition).map_or(&[][..], Vec::as_slice);
        share
            .iter()
            .flat_map(|b| {
                (0..b.num_rows()).step_by(step).map(move |at| b.slice(at, step.min(b.num_rows() - at)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::array::{Int64Array, UInt64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect::<Vec<_>>()))
    }

    fn batch(rows: i64) -> RecordBatch {
        RecordBatch::try_new(schema(&["a"]), vec![Arc::new(Int64Array::from_iter_values(0..rows))]).unwrap()
    }

    #[test]
    fn columns_come_back_in_the_scans_order() {
        let wanted = Wanted::new(&[4, 2, 0, 3], 3);
        assert_eq!((wanted.columns.clone(), wanted.pseudo), (vec![2, 0], true));
        let fields = vec![
            Field::new("c", DataType::Int64, true),
            Field::new("a", DataType::Int64, true),
            Field::new("_row_id", DataType::UInt64, false),
            Field::new("_version", DataType::UInt64, false),
        ];
        let answer = RecordBatch::try_new(
            Arc::new(Schema::new(fields.clone())),
            vec![
                Arc::new(Int64Array::from(vec![30])),
                Arc::new(Int64Array::from(vec![10])),
                Arc::new(UInt64Array::from(vec![7])),
                Arc::new(UInt64Array::from(vec![8])),
            ],
        )
        .unwrap();
        let out = Arc::new(Schema::new(vec![
            fields[3].clone(),
            fields[0].clone(),
            fields[1].clone(),
            fields[2].clone(),
        ]));
        let shaped = wanted.shape(&answer, &out).unwrap();
        assert_eq!(shaped.schema(), out);
        assert_eq!(shaped.column(0).as_ref(), &UInt64Array::from(vec![8]));
        assert_eq!(shaped.column(3).as_ref(), &UInt64Array::from(vec![7]));
    }

    #[test]
    fn a_count_keeps_its_rows_without_columns() {
        let wanted = Wanted::new(&[], 1);
        assert_eq!(wanted.columns, vec![0]);
        let shaped = wanted.shape(&batch(5), &schema(&[])).unwrap();
        assert_eq!((shaped.num_rows(), shaped.num_columns()), (5, 0));
    }

    #[test]
    fn shares_hold_every_row_once() {
        let rows = MemoryRows::new(&schema(&["a"]), vec![batch(200_000), batch(3), batch(0)], 2);
        assert_eq!((rows.rows(), rows.partitions()), (200_003, 2));
        let all: usize = (0..3).flat_map(|p| rows.share(p, 8192)).map(|b| b.num_rows()).sum();
        assert_eq!(all, 200_003);
        assert!(rows.share(0, 8192).iter().all(|b| b.num_rows() <= 8192));
        let small = MemoryRows::new(&schema(&["a"]), vec![batch(3), batch(4)], 8);
        assert_eq!(small.partitions(), 1);
        assert_eq!(MemoryRows::new(&schema(&["a"]), vec![batch(0)], 8).partitions(), 0);
    }
}
