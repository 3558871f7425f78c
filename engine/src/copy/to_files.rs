//! COPY … TO a file, or to a directory of files by `partition_by`.
//!
//! Owns: that what is written appears whole or not at all: it goes to a temporary name beside the target, is made durable and then renamed.
//! Does not own: formats (`write_file`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::layout::Layout;
use super::to::{FILES_MAX, packed, too_many_directories};
use super::write_file::OpenFile;
use super::{CopyOptions, Format};
use crate::error::{Error, Result};

/// What is being written, under its temporary name.
pub(super) struct TargetFiles {
    path: PathBuf,
    temporary: PathBuf,
    format: Format,
    options: CopyOptions,
    /// Behind the names of files in directories.
    suffix: &'static str,
    layout: Layout,
    files: HashMap<PathBuf, OpenFile>,
    published: bool,
}

impl TargetFiles {
    /// The files for rows of `schema` at `path`.
    ///
    /// # Errors
    /// 22023 for what names no file; 58P01 without its directory; 58P02 when something stands there that is not replaced; those of the disk.
    pub(super) fn new(
        path: PathBuf,
        schema: SchemaRef,
        format: Format,
        options: &CopyOptions,
    ) -> Result<Self> {
        let invalid =
            |message: String| Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22023"));
        // A link's file is replaced, not the link; a device or a pipe would be gone for good.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| invalid(format!("'{}' does not name a file", path.display())))?;
        let parent = parent(&path);
        if !parent.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("directory '{}' does not exist", parent.display()),
            )
            .map(|e| e.with_sqlstate("58P01").with_hint("make it first")));
        }
        let layout = Layout::new(&schema, options)?;
        if fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Err(invalid(format!("'{}' is not a regular file", path.display()))
                .map(|e| e.with_hint("COPY writes a new file and puts it in place whole; write to a file")));
        }
        let exists = if layout.is_partitioned() { path.exists() } else { path.is_dir() };
        if exists {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("'{}' already exists", path.display()))
                .map(|e| e.with_sqlstate("58P02").with_hint("remove it first, or write elsewhere")));
        }
        let (options, suffix) = packed(&path, format, options)?;
        let temporary = parent.join(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()));
        let files = HashMap::new();
        let mut target = Self { path, temporary, format, options, suffix, layout, files, published: false };
        if target.layout.is_partitioned() {
            make_directory(&target.temporary)?;
        } else {
            // Made at once: an empty result is an empty file, and a bad place shows before the query runs.
            target.open(&target.temporary.clone())?;
        }
        Ok(target)
    }

    fn open(&mut self, path: &Path) -> Result<&mut OpenFile> {
        if !self.files.contains_key(path) {
            if self.files.len() >= FILES_MAX {
                return Err(too_many_directories());
            }
            let file = OpenFile::create(path, self.layout.schema(), self.format, &self.options)?;
            self.files.insert(path.to_path_buf(), file);
        }
        self.files.get_mut(path).ok_or_else(|| Error::new(ErrorKind::Internal, "the file just made is gone"))
    }

    /// Takes rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.layout.is_partitioned() {
            let path = self.temporary.clone();
            let file = self.open(&path)?;
            return file.write(batch, &path);
        }
        for (directory, rows) in self.layout.parts(batch)? {
            let directory = self.temporary.join(directory);
            make_directory(&directory)?;
            let path = directory.join(format!("data_0.{}{}", self.format, self.suffix));
            self.open(&path)?.write(&rows, &path)?;
        }
        Ok(())
    }

    /// Makes them durable and lets them appear.
    pub(super) fn publish(mut self) -> Result<()> {
        for (path, file) in std::mem::take(&mut self.files) {
            file.finish(&path)?;
            if self.layout.is_partitioned() {
                // Each directory from the file up, so that every entry is durable before the rename.
                let mut above = path.ancestors().skip(1).take_while(|a| a.starts_with(&self.temporary));
                above.try_for_each(sync_directory)?;
            }
        }
        fs::rename(&self.temporary, &self.path)
            .map_err(|e| cairn_storage::Error::io(format!("renaming to '{}'", self.path.display()), e))?;
        self.published = true;
        sync_directory(&parent(&self.path))
    }
}

impl Drop for TargetFiles {
    fn drop(&mut self) {
        if !self.published {
            self.files.clear();
            // Best effort: what stays is hidden and never read.
            let _ = if self.layout.is_partitioned() {
                fs::remove_dir_all(&self.temporary)
            } else {
                fs::remove_file(&self.temporary)
            };
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn make_directory(path: &Path) -> Result<()> {
    Ok(fs::create_dir_all(path)
        .map_err(|e| cairn_storage::Error::io(format!("creating '{}'", path.display()), e))?)
}

fn sync_directory(path: &Path) -> Result<()> {
    let sync = || fs::File::open(path)?.sync_all();
    Ok(sync().map_err(|e| cairn_storage::Error::io(format!("syncing '{}'", path.display()), e))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch() -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("v", DataType::Int32, true)]);
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("x/y")]));
        RecordBatch::try_new(Arc::new(schema), vec![keys, Arc::new(Int32Array::from(vec![1, 2, 3, 4]))])
            .unwrap()
    }

    #[test]
    fn a_dropped_target_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let mut target =
            TargetFiles::new(path.clone(), batch().schema(), Format::Csv, &CopyOptions::default()).unwrap();
        target.write(&batch()).unwrap();
        drop(target);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn csv_appears_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let mut target =
            TargetFiles::new(path.clone(), batch().schema(), Format::Csv, &CopyOptions::default()).unwrap();
        target.write(&batch()).unwrap();
        assert!(!path.exists());
        target.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "k,v\na,1\n,2\na,3\nx/y,4\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn partitions_become_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let options = CopyOptions { partition_by: vec!["k".to_owned()], ..CopyOptions::default() };
        let mut target = TargetFiles::new(path.clone(), batch().schema(), Format::Csv, &options).unwrap();
        target.write(&batch()).unwrap();
        target.publish().unwrap();
        assert_eq!(fs::read_to_string(path.join("k=a/data_0.csv")).unwrap(), "v\n1\n3\n");
        assert!(path.join("k=x%2Fy/data_0.csv").exists());
        assert!(path.join("k=__HIVE_DEFAULT_PARTITION__/data_0.csv").exists());
    }
}
