//! COPY … TO a file, or to a directory of files by `partition_by`.
//!
//! Owns: the rows, and that a target of this machine appears whole or not at all: they go to a temporary name beside it, which is made durable and
//! then renamed. Does not own: formats (`write_file`), objects (`to_objects`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::from::blocking;
use super::layout::Layout;
use super::to_objects::TargetObjects;
use super::write_file::{OpenFile, check_compression};
use super::{Compression, CopyOptions, CopyStatement, CopySubject, Format};
use crate::context::StatementContext;
use crate::dml::Target;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::output::Output;
use crate::provider::CairnTable;
use crate::rights::Right;
use crate::session::{Awaited, plan_query};
use crate::statement::inspect;
use crate::stores::{ObjectPlace, SessionStores, Uploads, names_objects};

/// Files of one statement open at once.
pub(super) const FILES_MAX: usize = 500;

/// Runs COPY … TO.
pub(super) async fn run(ctx: &StatementContext, statement: &CopyStatement) -> Result<Output> {
    let place = if names_objects(&statement.path) {
        let place = ObjectPlace::parse(&statement.path)?;
        let uploads = SessionStores::of(ctx.state.as_ref())?.uploads(&place, ctx.state.as_ref())?;
        Place::Objects(place, uploads)
    } else {
        Place::File(FileAccess::of(ctx.state.as_ref()).write(&statement.path)?)
    };
    let path = place.path();
    let format = format_of(&path, &statement.options)?;
    check_compression(&path, format, &statement.options)?;
    let plan = source(ctx, &statement.subject).await?;
    let physical = ctx.state.create_physical_plan(&plan).await?;
    let schema = physical.schema();
    let options = &statement.options;
    let target = match place {
        Place::File(path) => Destination::Files(TargetFiles::new(path, schema, format, options)?),
        Place::Objects(place, uploads) => {
            let target = TargetObjects::new(uploads, &place, &schema, format, options).await?;
            Destination::Objects(target)
        }
    };

    let mut stream = execute_stream(physical, ctx.state.task_ctx())?;
    let (batches, mut received) = mpsc::channel::<RecordBatch>(4);
    let writing = tokio::spawn(blocking(move || {
        let mut target = target;
        while let Some(batch) = received.blocking_recv() {
            target.write(&batch)?;
        }
        target.finish()?;
        Ok(target)
    }));
    let mut rows = 0_u64;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        ctx.progress.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        if batches.send(batch).await.is_err() {
            break; // The writer failed; its error follows.
        }
    }
    drop(batches);
    let target = writing
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the writing task ended early: {e}")))??;
    // Only here, with every row received, may the file appear; a cancelled statement never comes this far.
    Awaited::of_task().check()?;
    blocking(move || target.publish()).await?;
    Ok(Output::Affected { verb: "COPY", rows, notes: Vec::new() })
}

/// Where the rows go.
enum Place {
    File(PathBuf),
    Objects(ObjectPlace, Uploads),
}

impl Place {
    /// Its name, whose end tells format and compression.
    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Objects(place, _) => PathBuf::from(place.to_string()),
        }
    }
}

/// What is being written.
enum Destination {
    Files(TargetFiles),
    Objects(TargetObjects),
}

impl Destination {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Files(target) => target.write(batch),
            Self::Objects(target) => target.write(batch),
        }
    }

    /// Every row has been written.
    fn finish(&mut self) -> Result<()> {
        match self {
            // Durable when it is published.
            Self::Files(_) => Ok(()),
            Self::Objects(target) => target.finish(),
        }
    }

    /// Lets it appear.
    fn publish(self) -> Result<()> {
        match self {
            Self::Files(target) => target.publish(),
            Self::Objects(target) => target.publish(),
        }
    }
}

fn format_of(path: &Path, options: &CopyOptions) -> Result<Format> {
    options.format.or_else(|| Format::of(path)).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the format of '{}' is not known from its name", path.display()),
        )
        .map(|e| e.with_sqlstate("22023").with_hint("add WITH (format csv | parquet | ndjson | arrow)"))
    })
}

async fn source(ctx: &StatementContext, subject: &CopySubject) -> Result<LogicalPlan> {
    match subject {
        CopySubject::Query(query) => {
            let shape = inspect(&ast::Statement::Query(query.clone()));
            plan_query(ctx, &shape, query).await
        }
        CopySubject::Table { name, columns } => {
            let target = Target::resolve(ctx, name, Right::Select)?;
            let named = target.columns(columns.iter())?;
            let provider = Arc::new(CairnTable::new(target.table.clone()));
            let source = datafusion::catalog::default_table_source::provider_as_source(provider);
            let scan = LogicalPlanBuilder::scan(target.def.name.as_str(), source, None)?;
            if named.is_empty() {
                return Ok(scan.build()?);
            }
            let items = named.iter().map(|i| ident(target.column_def(*i).name.as_str()));
            Ok(scan.project(items.collect::<Vec<_>>())?.build()?)
        }
    }
}

/// What is being written, under its temporary name.
struct TargetFiles {
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
    fn new(path: PathBuf, schema: SchemaRef, format: Format, options: &CopyOptions) -> Result<Self> {
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

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
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

    fn publish(mut self) -> Result<()> {
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

/// The options with the compression that the target's name tells, which its temporary name does not; and the suffix of such
/// files.
pub(super) fn packed(
    path: &Path,
    format: Format,
    options: &CopyOptions,
) -> Result<(CopyOptions, &'static str)> {
    let mut options = options.clone();
    if !matches!(format, Format::Csv | Format::Ndjson) {
        return Ok((options, ""));
    }
    let (name, suffix) = match options.text_compression(path)? {
        Compression::None => ("none", ""),
        Compression::Gzip => ("gzip", ".gz"),
        Compression::Zstd => ("zstd", ".zst"),
    };
    options.compression = Some(name.to_owned());
    Ok((options, suffix))
}

/// The error for directories beyond [`FILES_MAX`].
pub(super) fn too_many_directories() -> Error {
    let message = format!("partition_by makes more than {FILES_MAX} directories");
    Error::new(ErrorKind::ResourceExhausted, message)
        .map(|e| e.with_hint("partition by columns with fewer values"))
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
