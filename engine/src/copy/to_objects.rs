//! COPY … TO an object, or to objects below a prefix by `partition_by`.
//!
//! Owns: which objects are written, and when they appear: each whole or not at all, when every row has been written. Several appear one after the
//! other; when one cannot, those that did are removed. Does not own: uploads (`stores`), formats (`write_file`).

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::object_store::path::Path;

use super::layout::Layout;
use super::to::{FILES_MAX, packed, too_many_directories};
use super::write_file::{OpenFile, OutputFile};
use super::{CopyOptions, Format};
use crate::error::{Error, Result};
use crate::stores::{ObjectPlace, ObjectUpload, Uploads};

/// What is being written, and not there yet.
pub(super) struct TargetObjects {
    uploads: Uploads,
    /// The object, or the prefix of them.
    key: Path,
    format: Format,
    options: CopyOptions,
    /// Behind the names of objects in directories.
    suffix: &'static str,
    layout: Layout,
    files: BTreeMap<Path, OpenFile>,
    /// All but appeared.
    finished: Vec<ObjectUpload>,
}

impl TargetObjects {
    /// The objects for rows of `schema` at `place`.
    ///
    /// # Errors
    /// 22023 for what names no object; 58P02 when there are objects where directories are to be made; those of the store.
    pub(super) async fn new(
        uploads: Uploads,
        place: &ObjectPlace,
        schema: &SchemaRef,
        format: Format,
        options: &CopyOptions,
    ) -> Result<Self> {
        let layout = Layout::new(schema, options)?;
        let key = place.target(layout.is_partitioned())?;
        if layout.is_partitioned() && uploads.is_taken(&key).await? {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("'{place}' already exists"))
                .map(|e| e.with_sqlstate("58P02").with_hint("remove it first, or write elsewhere")));
        }
        let (options, suffix) = packed(FilePath::new(&place.to_string()), format, options)?;
        let files = BTreeMap::new();
        Ok(Self { uploads, key, format, options, suffix, layout, files, finished: Vec::new() })
    }

    /// Takes rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.layout.is_partitioned() {
            return self.write_to(self.key.clone(), batch);
        }
        for (directory, rows) in self.layout.parts(batch)? {
            let name = format!("{}/{directory}/data_0.{}{}", self.key, self.format, self.suffix);
            let key = Path::parse(&name).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, format!("'{name}' cannot be the name of an object"))
                    .map(|e| e.with_sqlstate("22023"))
            })?;
            self.write_to(key, &rows)?;
        }
        Ok(())
    }

    fn write_to(&mut self, key: Path, rows: &RecordBatch) -> Result<()> {
        let shown = PathBuf::from(self.uploads.url(&key));
        if !self.files.contains_key(&key) {
            if self.files.len() >= FILES_MAX {
                return Err(too_many_directories());
            }
            let file = self.begin(key.clone(), &shown)?;
            self.files.insert(key.clone(), file);
        }
        match self.files.get_mut(&key) {
            Some(file) => file.write(rows, &shown),
            None => Err(Error::new(ErrorKind::Internal, "the object just begun is gone")),
        }
    }

    fn begin(&self, key: Path, shown: &FilePath) -> Result<OpenFile> {
        let output = OutputFile::Object(Box::new(self.uploads.begin(key)));
        OpenFile::over(output, shown, self.layout.schema(), self.format, &self.options)
    }

    /// Ends the files, and sends all that can be sent before they appear.
    pub(super) fn finish(&mut self) -> Result<()> {
        if !self.layout.is_partitioned() && self.files.is_empty() {
            // An empty result is an empty file.
            let shown = PathBuf::from(self.uploads.url(&self.key));
            let file = self.begin(self.key.clone(), &shown)?;
            self.files.insert(self.key.clone(), file);
        }
        for (key, file) in std::mem::take(&mut self.files) {
            let shown = PathBuf::from(self.uploads.url(&key));
            if let OutputFile::Object(mut upload) = file.finish(&shown)? {
                upload.finish()?;
                self.finished.push(*upload);
            }
        }
        Ok(())
    }

    /// Lets them appear.
    pub(super) fn publish(self) -> Result<()> {
        let mut appeared: Vec<Path> = Vec::new();
        for upload in self.finished {
            let key = upload.key().clone();
            if let Err(error) = upload.complete() {
                let left = appeared.iter().filter(|key| self.uploads.remove(key).is_err());
                let left: Vec<String> = left.map(|key| self.uploads.url(key)).collect();
                return Err(match left.first() {
                    None => error,
                    Some(first) => {
                        let told = format!(
                            "{} objects were written and could not be removed: {first}, …",
                            left.len()
                        );
                        error.map(|e| e.with_detail(told))
                    }
                });
            }
            appeared.push(key);
        }
        Ok(())
    }
}
