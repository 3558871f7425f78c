//! VECTOR columns of files.
//!
//! Owns: a column filled from text, what JSON is read as on its way to vectors, which rows of a file hold no vector of their column. Does not own: the conversion
//! (`cairn_udfs::vector`), lines and their numbers (`csv_file`, `ndjson_file`).

use std::sync::Arc;

use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_udfs::vector::{self, BadVector, Why};
use cairn_vector::Metric;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema};
use datafusion::arrow::error::ArrowError;

/// Vectors of one dimension being gathered from text.
pub(super) struct VectorBuilder {
    dim: u16,
    /// Of the column's indexes.
    metrics: Vec<Metric>,
    components: Vec<f32>,
    valid: Vec<bool>,
}

impl VectorBuilder {
    pub(super) fn new(dim: u16, metrics: Vec<Metric>) -> Self {
        Self { dim, metrics, components: Vec::new(), valid: Vec::new() }
    }

    pub(super) fn append_null(&mut self) {
        self.components.resize(self.components.len() + usize::from(self.dim), 0.0);
        self.valid.push(false);
    }

    /// False, and a NULL, when `text` is no such vector.
    pub(super) fn append(&mut self, text: &str) -> bool {
        match read(text, self.dim, &self.metrics) {
            Ok(vector) => {
                self.components.extend(vector);
                self.valid.push(true);
                true
            }
            Err(_) => {
                self.append_null();
                false
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        let components = Arc::new(Float32Array::from(std::mem::take(&mut self.components)));
        let valid = std::mem::take(&mut self.valid);
        let nulls = valid.contains(&false).then(|| NullBuffer::new(BooleanBuffer::from(valid)));
        vector::list(components, self.dim.into(), nulls)
    }
}

/// Why `text` does not fit `column`; None unless it is a column of vectors.
pub(super) fn problem(text: &str, table: &TableDef, column: &ColumnDef) -> Option<String> {
    let ColumnType::Vector(dim) = column.column_type else { return None };
    read(text, dim, &table.metrics_of(column.id)).err()
}

/// The vector in `text`, which has distances under `metrics`.
fn read(text: &str, dim: u16, metrics: &[Metric]) -> Result<Vec<f32>, String> {
    let vector = vector::parse(text, Some(dim.into())).map_err(|why| why.to_string())?;
    check(&vector, metrics).map(|()| vector)
}

fn check(vector: &[f32], metrics: &[Metric]) -> Result<(), String> {
    metrics.iter().try_for_each(|metric| metric.check(vector.into())).map_err(|why| why.to_string())
}

/// A row that holds no vector of its column.
#[derive(Debug)]
pub(super) struct BadRow {
    pub(super) row: usize,
    pub(super) sqlstate: &'static str,
    pub(super) why: String,
}

/// `array`, which fills `column` of `table`, as vectors of it, and the rows, ascending, that hold none: they are NULL. Arrays of a
/// type that no vector has, and those of other columns, stay as they are.
pub(super) fn readable(table: &TableDef, column: &ColumnDef, array: &ArrayRef) -> (ArrayRef, Vec<BadRow>) {
    let ColumnType::Vector(dim) = column.column_type else { return (Arc::clone(array), Vec::new()) };
    let mut bad = Vec::new();
    let made = match vector::vectors(array, Some(dim.into())) {
        Ok(made) => made,
        Err(BadVector { why: Why::Type(_), .. }) => return (Arc::clone(array), Vec::new()),
        Err(_) => {
            // Row by row: the first error says nothing of the rows behind it.
            let mut components = vec![0.0; array.len() * usize::from(dim)];
            let mut valid = vec![false; array.len()];
            for (row, into) in components.chunks_exact_mut(dim.into()).enumerate() {
                match vector::vectors(&array.slice(row, 1), Some(dim.into())) {
                    Ok(one) => {
                        valid[row] = one.is_valid(0);
                        into.copy_from_slice(components_of(&one, 0, dim));
                    }
                    Err(BadVector { why, .. }) => {
                        bad.push(BadRow { row, sqlstate: why.sqlstate(), why: why.to_string() });
                    }
                }
            }
            let nulls = Some(NullBuffer::new(BooleanBuffer::from(valid)));
            vector::list(Arc::new(Float32Array::from(components)), dim.into(), nulls)
        }
    };
    let metrics = table.metrics_of(column.id);
    if !metrics.is_empty() {
        for row in (0..made.len()).filter(|row| made.is_valid(*row)) {
            if let Err(why) = check(components_of(&made, row, dim), &metrics) {
                bad.push(BadRow { row, sqlstate: "22000", why });
            }
        }
        bad.sort_by_key(|bad| bad.row);
    }
    (made, bad)
}

/// Components of a row of vectors.
fn components_of(vectors: &ArrayRef, row: usize, dim: u16) -> &[f32] {
    let list = vectors.as_fixed_size_list();
    let begin = usize::try_from(list.value_offset(row)).unwrap_or_default();
    &list.values().as_primitive::<Float32Type>().values()[begin..begin + usize::from(dim)]
}

/// What JSON holds vectors as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    Arrays,
    Texts,
}

impl JsonForm {
    /// The type the values of `column` are read as.
    pub(super) fn data_type(self, column: &ColumnDef) -> DataType {
        match (&column.column_type, self) {
            (ColumnType::Vector(_), Self::Arrays) => {
                DataType::List(Arc::new(Field::new("item", DataType::Float32, true)))
            }
            (ColumnType::Vector(_), Self::Texts) => DataType::Utf8View,
            (other, _) => other.arrow(),
        }
    }
}

/// `batch`, whose columns are those of `columns`, with its vectors made.
pub(super) fn made(batch: &RecordBatch, columns: &[ColumnDef]) -> Result<RecordBatch, ArrowError> {
    let convert = |(array, column): (&ArrayRef, &ColumnDef)| match column.column_type {
        ColumnType::Vector(dim) => vector::vectors(array, Some(dim.into()))
            .map_err(|bad| ArrowError::JsonError(format!("column \"{}\": {}", column.name, bad.why))),
        _ => Ok(Arc::clone(array)),
    };
    let arrays = batch.columns().iter().zip(columns).map(convert).collect::<Result<Vec<_>, _>>()?;
    let fields = columns.iter().map(|c| Field::new(&c.name, c.column_type.arrow(), true)).collect::<Vec<_>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}
