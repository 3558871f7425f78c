//! Where the benchmarks keep what takes long to make.
//!
//! Owns: the data folder: Parquet and CSV files of one scale, and databases built from them. A file or database is
//! made under another name and renamed when whole, so an interrupted run leaves nothing half made.

use std::fs::File;
use std::path::{Path, PathBuf};

use cairn_tests::tpch;
use datafusion::arrow::csv;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Result;

/// The folder of one scale factor.
pub(crate) struct Home {
    folder: PathBuf,
    scale: f64,
}

impl Home {
    /// The folder `<data>/sf<scale>`, made when it is not there.
    pub(crate) fn new(data: &Path, scale: f64) -> Result<Self> {
        let folder = std::path::absolute(data)?.join(format!("sf{scale}"));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, scale })
    }

    /// Its path.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its scale factor.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// Folder of the eight Parquet files.
    pub(crate) fn parquet(&self) -> Result<PathBuf> {
        let folder = self.folder.join("parquet");
        if !folder.exists() {
            let part = self.folder.join("parquet.part");
            tpch::write_parquet(&part, self.scale)?;
            std::fs::rename(part, &folder)?;
        }
        Ok(folder)
    }

    /// `lineitem` as CSV with a header.
    pub(crate) fn csv(&self) -> Result<PathBuf> {
        let path = self.folder.join("lineitem.csv");
        if !path.exists() {
            let source = File::open(self.parquet()?.join("lineitem.parquet"))?;
            let part = self.folder.join("lineitem.csv.part");
            let mut writer = csv::WriterBuilder::new().with_header(true).build(File::create(&part)?);
            for batch in ParquetRecordBatchReaderBuilder::try_new(source)?.build()? {
                writer.write(&batch?)?;
            }
            std::fs::rename(part, &path)?;
        }
        Ok(path)
    }

    /// A database named `name`: its path, and whether it is there already. When it is not, build it at the path given
    /// and say [`keep`](Self::keep).
    pub(crate) fn database(&self, name: &str) -> Result<(PathBuf, bool)> {
        let path = self.folder.join(name);
        if path.exists() {
            return Ok((path, true));
        }
        let part = self.folder.join(format!("{name}.part"));
        if part.exists() {
            std::fs::remove_dir_all(&part)?;
        }
        Ok((part, false))
    }

    /// Gives a database built at `part` its name.
    pub(crate) fn keep(&self, name: &str, part: &Path) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::rename(part, &path)?;
        Ok(path)
    }
}
