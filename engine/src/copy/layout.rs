//! Which columns of what is copied stand in files, and which become the names of directories.
//!
//! Owns: `partition_by`: hive directories (`a=1/b=x`) and the rows of each. Does not own: where the directories are (`to_files`, `to_objects`).

use std::collections::HashMap;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::CopyOptions;
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Layout {
    /// Columns that become directories.
    partition: Vec<usize>,
    /// Columns in the files.
    kept: Vec<usize>,
    schema: SchemaRef,
}

impl Layout {
    /// That of rows of `schema`.
    ///
    /// # Errors
    /// 22023 for a column that is not there, or when none is left.
    pub(super) fn new(schema: &SchemaRef, options: &CopyOptions) -> Result<Self> {
        let partition = options
            .partition_by
            .iter()
            .map(|column| {
                schema.index_of(column).map_err(|_| {
                    invalid(format!(
                        "partition_by names \"{column}\", which is not a column of what is copied"
                    ))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|i| !partition.contains(i)).collect();
        if kept.is_empty() {
            return Err(invalid("no column is left to write beside those of partition_by".to_owned()));
        }
        let fields: Vec<_> = kept.iter().map(|i| Arc::clone(&schema.fields()[*i])).collect();
        Ok(Self { partition, kept, schema: Arc::new(Schema::new(fields)) })
    }

    /// Whether there are directories.
    pub(super) fn is_partitioned(&self) -> bool {
        !self.partition.is_empty()
    }

    /// Columns in the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of each directory, in order of appearance.
    ///
    /// # Errors
    /// A value that cannot be shown.
    pub(super) fn parts(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let part = |(directory, rows): (String, Vec<u32>)| -> Result<(String, RecordBatch)> {
            let rows =
                take_record_batch(batch, &UInt32Array::from(rows)).map_err(cairn_storage::Error::from)?;
            let columns: Vec<ArrayRef> = self.kept.iter().map(|i| Arc::clone(rows.column(*i))).collect();
            let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(cairn_storage::Error::from)?;
            Ok((directory, rows))
        };
        self.directories(batch)?.into_iter().map(part).collect()
    }

    fn directories(&self, batch: &RecordBatch) -> Result<Vec<(String, Vec<u32>)>> {
        let options = FormatOptions::default();
        let columns = self
            .partition
            .iter()
            .map(|i| {
                let column = batch.column(*i);
                let formatter =
                    ArrayFormatter::try_new(column.as_ref(), &options).map_err(cairn_storage::Error::from)?;
                Ok((escaped(batch.schema_ref().field(*i).name()), column, formatter))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (index, row) in (0..batch.num_rows()).zip(0_u32..) {
            let mut directory = String::new();
            for (name, column, formatter) in &columns {
                let value = if column.is_null(index) {
                    "__HIVE_DEFAULT_PARTITION__".to_owned()
                } else {
                    escaped(&formatter.value(index).to_string())
                };
                if !directory.is_empty() {
                    directory.push('/');
                }
                directory.push_str(&format!("{name}={value}"));
            }
            let group = match known.get(&directory) {
                Some(group) => *group,
                None => {
                    groups.push((directory.clone(), Vec::new()));
                    known.insert(directory, groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[group].1.push(row);
        }
        Ok(groups)
    }
}

/// A value as part of a path: what could end or leave the directory's name is written `%XX`.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control()
            || matches!(c, '/' | '\\' | '%' | '=' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '#')
        {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    if out.is_empty() { "__EMPTY__".to_owned() } else { out }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Int32Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn rows_go_to_the_directory_of_their_values() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("v", DataType::Int32, true),
            Field::new("n", DataType::Int32, true),
        ]));
        let keys: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("x/y"), Some("")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 1, 1, 2, 2]));
        let values: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![keys, values, numbers]).unwrap();
        let by = |columns: &[&str]| {
            let partition_by = columns.iter().map(|c| (*c).to_owned()).collect();
            Layout::new(&schema, &CopyOptions { partition_by, ..CopyOptions::default() })
        };
        let layout = by(&["k", "n"]).unwrap();
        let parts = layout.parts(&batch).unwrap();
        let shown: Vec<_> = parts.iter().map(|(name, rows)| (name.as_str(), rows.num_rows())).collect();
        assert_eq!(
            shown,
            [
                ("k=a/n=1", 2),
                ("k=__HIVE_DEFAULT_PARTITION__/n=1", 1),
                ("k=x%2Fy/n=2", 1),
                ("k=__EMPTY__/n=2", 1)
            ]
        );
        assert_eq!(parts[0].1.schema().fields().len(), 1);
        assert!(!by(&[]).unwrap().is_partitioned());
        for columns in [&["none"][..], &["k", "v", "n"]] {
            assert_eq!(by(columns).unwrap_err().sqlstate(), "22023");
        }
    }
}
