//! Exact distances over rows that stand in segments and in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch, UInt64Array};
use arrow::datatypes::{Float32Type, UInt64Type};
use cairn_vector::search::{ExactDistances, TopRows};
use cairn_vector::{Floats, QueryDistance};
use roaring::RoaringBitmap;

use super::RowSet;
use super::cover::Part;
use crate::error::{Error, Result};
use crate::segment::RowIds;
use crate::segment::reader::{NumberColumn, SegmentReader, SegmentVectors};
use crate::version::{SegmentView, TableSnapshot};

/// Row ids of a segment, by position.
#[derive(Clone, Debug)]
pub(super) enum RowIdsOf {
    /// The first one's; the others follow.
    Base(u64),
    Column(Arc<NumberColumn>),
}

impl RowIdsOf {
    pub(super) async fn open(reader: &SegmentReader) -> Result<Self> {
        Ok(match reader.meta().row_ids {
            RowIds::Base(base) => Self::Base(base.0),
            RowIds::Column => Self::Column(reader.row_id_column().await?),
        })
    }

    pub(super) fn at(&self, position: u32) -> Result<u64> {
        match self {
            Self::Base(base) => Ok(base + u64::from(position)),
            Self::Column(column) => column
                .value(position)
                .ok_or_else(|| Error::internal("a position past the end of its segment")),
        }
    }

    /// The ids of a segment of `rows` rows with their positions, in order of the ids.
    pub(super) fn ascending(&self, rows: u64) -> Box<dyn Iterator<Item = (u64, u32)> + '_> {
        match self {
            Self::Base(base) => {
                let rows = u32::try_from(rows).unwrap_or(u32::MAX);
                Box::new((0..rows).map(move |position| (base + u64::from(position), position)))
            }
            Self::Column(column) => Box::new(column.ascending()),
        }
    }

    fn position(&self, row_id: u64, rows: u64) -> Option<u32> {
        match self {
            Self::Base(base) => {
                row_id.checked_sub(*base).filter(|p| *p < rows).and_then(|p| u32::try_from(p).ok())
            }
            Self::Column(column) => column.find(row_id),
        }
    }
}

/// Vectors of one segment, or of some of its positions, ready for exact distances.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) view: SegmentView,
    /// The only positions that count.
    pub(super) rows: Range<u32>,
    /// Of these the only ones that do; None: all.
    only: Option<Arc<RoaringBitmap>>,
    pub(super) ids: RowIdsOf,
    /// None: the segment is older than the column; every vector is NULL.
    pub(super) vectors: Option<Arc<SegmentVectors>>,
}

impl Source {
    pub(super) async fn open(table: &TableSnapshot, part: Part, column: usize) -> Result<Self> {
        let Part { view, rows, only } = part;
        let reader = table.open_segment(&view.meta).await?;
        let ids = RowIdsOf::open(&reader).await?;
        let vectors = reader.vectors(table.shared(), column).await?;
        let nulls = vectors.as_ref().map(|vectors| vectors.nulls());
        // Every search goes through them one by one.
        let only = only.map(|only| match nulls.filter(|nulls| !nulls.is_disjoint(&only)) {
            Some(nulls) => Arc::new(&*only - nulls),
            None => only,
        });
        Ok(Self { view, rows, only, ids, vectors })
    }

    /// What it is of.
    pub(super) fn part(&self) -> Part {
        Part { view: self.view.clone(), rows: self.rows.clone(), only: self.only.clone() }
    }

    /// Whether a row at this position counts and is not deleted.
    fn has(&self, position: u32) -> bool {
        self.rows.contains(&position)
            && self.only.as_ref().is_none_or(|only| only.contains(position))
            && self.view.deleted.as_ref().is_none_or(|d| !d.contains(position))
    }

    /// Compares every visible row that `wanted` names, all when absent; returns how many.
    pub(super) fn compare(
        &self,
        query: &QueryDistance,
        wanted: Option<&RowSet>,
        top: &mut TopRows,
    ) -> Result<u64> {
        let Some(vectors) = &self.vectors else { return Ok(0) };
        let wanted = wanted.map(|wanted| wanted.within(self.view.meta.id, &self.rows));
        if let Some(few) = self.few(wanted) {
            return self.compare_few(vectors, query, few, top);
        }
        let mut compared = 0;
        let mut distances = Vec::new();
        for page in vectors.pages(self.rows.clone()) {
            let (rows, bytes) = page?;
            distances.resize(bytes.len() / (4 * query.dim()), 0.0);
            query.many(bytes, &mut distances);
            let with_vector = rows.filter(|row| !vectors.nulls().contains(*row));
            for (position, distance) in with_vector.zip(&distances) {
                if *distance > top.limit() || !self.has(position) {
                    continue;
                }
                if wanted.is_none_or(|wanted| wanted.binary_search(&position).is_ok()) {
                    top.offer(*distance, self.ids.at(position)?);
                }
            }
            compared += distances.len() as u64;
        }
        Ok(compared)
    }

    /// How many rows [`compare`](Self::compare) would compare.
    pub(super) fn to_compare(&self, wanted: Option<&RowSet>) -> u64 {
        let Some(vectors) = &self.vectors else { return 0 };
        let wanted = wanted.map(|wanted| wanted.within(self.view.meta.id, &self.rows));
        match self.few(wanted) {
            Some(few) => {
                let counts = |position: &u32| self.has(*position) && !vectors.nulls().contains(*position);
                few.filter(counts).count() as u64
            }
            None => self.rows.len() as u64 - vectors.nulls().range_cardinality(self.rows.clone()),
        }
    }

    /// The positions to look at where these are so few that they are read one by one, not with all the others. Some of them may not count.
    fn few<'a>(&'a self, wanted: Option<&'a [u32]>) -> Option<Box<dyn Iterator<Item = u32> + 'a>> {
        let most = self.rows.len() / 8;
        let only = self.only.as_deref().filter(|only| only.len() < most as u64);
        match (wanted, only) {
            (Some(wanted), _) if wanted.len() < most => Some(Box::new(wanted.iter().copied())),
            (Some(wanted), Some(only)) => {
                Some(Box::new(only.iter().filter(move |position| wanted.binary_search(position).is_ok())))
            }
            (None, Some(only)) => Some(Box::new(only.iter())),
            (_, None) => None,
        }
    }

    /// Shows every visible vector with its row id.
    pub(super) fn each(&self, mut see: impl FnMut(u64, Floats<'_>) -> Result<()>) -> Result<()> {
        let Some(vectors) = &self.vectors else { return Ok(()) };
        for page in vectors.pages(self.rows.clone()) {
            let (rows, bytes) = page?;
            let with_vector = rows.filter(|row| !vectors.nulls().contains(*row));
            for (position, vector) in with_vector.zip(bytes.chunks_exact(vectors.width())) {
                if self.has(position) {
                    see(self.ids.at(position)?, Floats::from_bytes(vector))?;
                }
            }
        }
        Ok(())
    }

    fn compare_few(
        &self,
        vectors: &SegmentVectors,
        query: &QueryDistance,
        few: impl Iterator<Item = u32>,
        top: &mut TopRows,
    ) -> Result<u64> {
        let mut compared = 0;
        for position in few.filter(|position| self.has(*position)) {
            if let Some(vector) = vectors.row(position)? {
                top.offer(distance(query, vector), self.ids.at(position)?);
                compared += 1;
            }
        }
        Ok(compared)
    }
}

fn distance(query: &QueryDistance, vector: &[u8]) -> f32 {
    let mut distance = [0.0];
    query.many(vector, &mut distance);
    distance[0]
}

/// Compares hot rows: batches of the vector column and `_row_id`.
pub(super) fn compare_hot(
    batches: &[RecordBatch],
    query: &QueryDistance,
    wanted: Option<&RowSet>,
    top: &mut TopRows,
) -> Result<u64> {
    let mut compared = 0;
    let mut distances = Vec::new();
    for batch in batches {
        let (list, ids) = hot_columns(batch)?;
        let values = list.values().as_primitive::<Float32Type>();
        distances.resize(list.len(), 0.0);
        query.many(Floats::from(values.values().as_ref()).bytes(), &mut distances);
        for (row, distance) in distances.iter().enumerate() {
            let row_id = ids.value(row);
            if list.is_valid(row) && wanted.is_none_or(|w| w.contains_hot(row_id)) {
                top.offer(*distance, row_id);
                compared += 1;
            }
        }
    }
    Ok(compared)
}

/// How many rows [`compare_hot`] would compare.
pub(super) fn hot_to_compare(batches: &[RecordBatch], wanted: Option<&RowSet>) -> Result<u64> {
    let mut rows = 0;
    for batch in batches {
        let (list, ids) = hot_columns(batch)?;
        let counts =
            |row: &usize| list.is_valid(*row) && wanted.is_none_or(|w| w.contains_hot(ids.value(*row)));
        rows += (0..list.len()).filter(counts).count() as u64;
    }
    Ok(rows)
}

/// Shows every vector of a batch of hot rows with its row id.
pub(super) fn each_hot(
    batch: &RecordBatch,
    mut see: impl FnMut(u64, Floats<'_>) -> Result<()>,
) -> Result<()> {
    let (list, ids) = hot_columns(batch)?;
    let values = list.values().as_primitive::<Float32Type>().values();
    let dim = list.value_length().unsigned_abs() as usize;
    for (row, vector) in values.chunks_exact(dim).enumerate().filter(|(row, _)| list.is_valid(*row)) {
        see(ids.value(row), vector.into())?;
    }
    Ok(())
}

fn hot_columns(batch: &RecordBatch) -> Result<(&FixedSizeListArray, &UInt64Array)> {
    match (batch.column(0).as_fixed_size_list_opt(), batch.column(1).as_primitive_opt::<UInt64Type>()) {
        (Some(list), Some(ids)) => Ok((list, ids)),
        _ => Err(Error::internal("hot rows without vectors or row ids")),
    }
}

/// Exact distances of a unit's rows, from the segments it answers for.
pub(super) struct UnitExact<'a> {
    pub(super) unit: &'a super::LoadedUnit,
    /// Ascending by the largest row id.
    pub(super) sources: &'a [Source],
    pub(super) query: &'a QueryDistance,
}

impl UnitExact<'_> {
    fn vector(&self, ordinal: u32) -> Result<&[u8]> {
        let lost =
            || Error::corrupt(self.unit.meta.path(), format!("row {ordinal} is in none of its segments"));
        let row_id = self.unit.unit.row_id(ordinal).ok_or_else(lost)?;
        let first = self.sources.partition_point(|source| source.view.meta.max_row_id.0 < row_id);
        for source in &self.sources[first..] {
            if source.view.meta.min_row_id.0 <= row_id
                && let Some(position) = source.ids.position(row_id, source.view.meta.rows)
                && let Some(vectors) = &source.vectors
                && let Some(vector) = vectors.row(position)?
            {
                return Ok(vector);
            }
        }
        Err(lost())
    }
}

impl ExactDistances for UnitExact<'_> {
    type Error = Error;

    fn distances(&mut self, ordinals: &[u32], out: &mut [f32]) -> Result<()> {
        for (&ordinal, out) in ordinals.iter().zip(out) {
            self.query.many(self.vector(ordinal)?, std::slice::from_mut(out));
        }
        Ok(())
    }
}
