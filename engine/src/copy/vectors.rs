//! VECTOR columns of files that hold text or JSON.
//!
//! Owns: a column filled from text, and what JSON is read as on its way to vectors. Does not own: the conversion
//! (`cairn_udfs::vector`), lines and their numbers (`csv_file`, `ndjson_file`).

use std::sync::Arc;

use cairn_storage::schema::{ColumnDef, ColumnType};
use cairn_udfs::vector;
use datafusion::arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;

/// Vectors of one dimension being gathered from text.
pub(super) struct VectorBuilder {
    dim: u16,
    components: Vec<f32>,
    valid: Vec<bool>,
}

impl VectorBuilder {
    pub(super) fn new(dim: u16) -> Self {
        Self { dim, components: Vec::new(), valid: Vec::new() }
    }

    pub(super) fn append_null(&mut self) {
        self.components.resize(self.components.len() + usize::from(self.dim), 0.0);
        self.valid.push(false);
    }

    /// False, and a NULL, when `text` is no such vector.
    pub(super) fn append(&mut self, text: &str) -> bool {
        match vector::parse(text, Some(self.dim.into())) {
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
pub(super) fn problem(text: &str, column: &ColumnDef) -> Option<String> {
    let ColumnType::Vector(dim) = column.column_type else { return None };
    vector::parse(text, Some(dim.into())).err().map(|why| why.to_string())
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
