//! The rows of the last result, for `.last` and `.chart`.
//!
//! Memory: a few at once; a larger result goes into a file without a name, which ends with the shell, and a very large one is not kept.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;

/// Bytes of rows kept in memory.
const MEMORY_BYTES_MAX: usize = 32 << 20;
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// See the module.
pub(crate) struct Kept {
    schema: SchemaRef,
    place: Place,
}

enum Place {
    Memory {
        batches: Vec<RecordBatch>,
        bytes: usize,
    },
    Writing(Box<StreamWriter<BufWriter<File>>>),
    Written(File),
    /// Why it is nowhere.
    Lost(String),
}

impl Kept {
    /// A result without rows so far.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        Self { schema: schema.clone(), place: Place::Memory { batches: Vec::new(), bytes: 0 } }
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the next rows. That they can't be kept is said when they are asked for.
    pub(crate) fn push(&mut self, batch: &RecordBatch) {
        if let Err(error) = self.keep(batch, MEMORY_BYTES_MAX, FILE_BYTES_MAX) {
            self.place = Place::Lost(format!("the last result was not kept: {error}"));
        }
    }

    fn keep(&mut self, batch: &RecordBatch, memory_max: usize, file_max: u64) -> io::Result<()> {
        match &mut self.place {
            Place::Memory { batches, bytes } => {
                *bytes += batch.get_array_memory_size();
                batches.push(batch.clone());
                if *bytes > memory_max {
                    let mut writer =
                        StreamWriter::try_new(BufWriter::new(tempfile::tempfile()?), &self.schema)
                            .map_err(io::Error::other)?;
                    for batch in batches.iter() {
                        writer.write(batch).map_err(io::Error::other)?;
                    }
                    self.place = Place::Writing(Box::new(writer));
                }
            }
            Place::Writing(writer) => {
                writer.write(batch).map_err(io::Error::other)?;
                if writer.get_ref().get_ref().metadata()?.len() > file_max {
                    let why =
                        format!("it is larger than {} GiB; .output FILE takes any size", file_max >> 30);
                    return Err(io::Error::other(why));
                }
            }
            Place::Written(_) | Place::Lost(_) => {}
        }
        Ok(())
    }

    /// Gives every batch to `take`, from the first one on.
    ///
    /// # Errors
    /// Those of `take`; when the rows were not kept, or can't be read back.
    pub(crate) fn each(&mut self, take: &mut dyn FnMut(&RecordBatch) -> io::Result<()>) -> io::Result<()> {
        self.end()?;
        match &self.place {
            Place::Memory { batches, .. } => batches.iter().try_for_each(take),
            Place::Written(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                let reader = StreamReader::try_new(BufReader::new(file), None).map_err(io::Error::other)?;
                for batch in reader {
                    take(&batch.map_err(io::Error::other)?)?;
                }
                Ok(())
            }
            Place::Lost(why) => Err(io::Error::other(why.clone())),
            // The step before has ended it.
            Place::Writing(_) => Ok(()),
        }
    }

    /// Nothing comes any more: the file is complete.
    fn end(&mut self) -> io::Result<()> {
        let nothing = Place::Memory { batches: Vec::new(), bytes: 0 };
        self.place = match std::mem::replace(&mut self.place, nothing) {
            Place::Writing(writer) => {
                let file = writer.into_inner().map_err(io::Error::other)?;
                Place::Written(file.into_inner().map_err(io::IntoInnerError::into_error)?)
            }
            other => other,
        };
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn batch(from: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 100));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    fn rows(kept: &mut Kept) -> Vec<i64> {
        let mut all = Vec::new();
        kept.each(&mut |batch| {
            all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn rows_come_back_as_often_as_wanted_wherever_they_are() {
        for memory_max in [usize::MAX, 2000, 0] {
            let mut kept = Kept::new(&batch(0).schema());
            for i in 0..5 {
                kept.keep(&batch(i * 100), memory_max, u64::MAX).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(rows(&mut kept), (0..500).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_too_large_is_said_to_be_lost() {
        let mut kept = Kept::new(&batch(0).schema());
        kept.keep(&batch(0), 0, 0).unwrap();
        let failed = (0..1000).find_map(|i| kept.keep(&batch(i), 0, 0).err());
        assert!(failed.unwrap().to_string().contains("larger than"));
    }
}
