//! COPY … TO a file, or to a directory of files by `partition_by`.
//!
//! Owns: that the target appears whole or not at all: rows go to a temporary name beside it, which is made durable and then
//! renamed. Does not own: formats (`write_file`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::from::blocking;
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

/// Files of one statement open at once.
const FILES_MAX: usize = 500;

/// Runs COPY … TO.
pub(super) async fn run(ctx: &StatementContext, statement: &CopyStatement) -> Result<Output> {
    let path = FileAccess::of(ctx.state.as_ref()).write(&statement.path)?;
    let format = format_of(&path, &statement.options)?;
    check_compression(&path, format, &statement.options)?;
    let plan = source(ctx, &statement.subject).await?;
    let physical = ctx.state.create_physical_plan(&plan).await?;
    let schema = physical.schema();
    let target = TargetFiles::new(path, schema, format, &statement.options)?;

    let mut stream = execute_stream(physical, ctx.state.task_ctx())?;
    let (batches, mut received) = mpsc::channel::<RecordBatch>(4);
    let writing = tokio::spawn(blocking(move || {
        let mut target = target;
        while let Some(batch) = received.blocking_recv() {
            target.write(&batch)?;
        }
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
    /// Columns that become directories.
    partition: Vec<usize>,
    /// Columns in the files.
    kept: Vec<usize>,
    schema: SchemaRef,
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
        if fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Err(invalid(format!("'{}' is not a regular file", path.display()))
                .map(|e| e.with_hint("COPY writes a new file and puts it in place whole; write to a file")));
        }
        let exists = if partition.is_empty() { path.is_dir() } else { path.exists() };
        if exists {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("'{}' already exists", path.display()))
                .map(|e| e.with_sqlstate("58P02").with_hint("remove it first, or write elsewhere")));
        }
        let (options, suffix) = packed(&path, format, options)?;
        let temporary = parent.join(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()));
        let file_schema =
            Arc::new(Schema::new(kept.iter().map(|i| Arc::clone(&schema.fields()[*i])).collect::<Vec<_>>()));
        let mut target = Self {
            path,
            temporary,
            format,
            options,
            suffix,
            partition,
            kept,
            schema: file_schema,
            files: HashMap::new(),
            published: false,
        };
        if target.partition.is_empty() {
            // Made at once: an empty result is an empty file, and a bad place shows before the query runs.
            target.open(&target.temporary.clone())?;
        } else {
            make_directory(&target.temporary)?;
        }
        Ok(target)
    }

    fn open(&mut self, path: &Path) -> Result<&mut OpenFile> {
        if !self.files.contains_key(path) {
            if self.files.len() >= FILES_MAX {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("partition_by makes more than {FILES_MAX} directories"),
                )
                .map(|e| e.with_hint("partition by columns with fewer values")));
            }
            let file = OpenFile::create(path, &self.schema, self.format, &self.options)?;
            self.files.insert(path.to_path_buf(), file);
        }
        self.files.get_mut(path).ok_or_else(|| Error::new(ErrorKind::Internal, "the file just made is gone"))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.partition.is_empty() {
            let path = self.temporary.clone();
            let file = self.open(&path)?;
            return file.write(batch, &path);
        }
        for (directory, rows) in self.directories(batch)? {
            let rows =
                take_record_batch(batch, &UInt32Array::from(rows)).map_err(cairn_storage::Error::from)?;
            let columns: Vec<ArrayRef> = self.kept.iter().map(|i| Arc::clone(rows.column(*i))).collect();
            let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(cairn_storage::Error::from)?;
            let directory = self.temporary.join(directory);
            make_directory(&directory)?;
            let path = directory.join(format!("data_0.{}{}", self.format, self.suffix));
            self.open(&path)?.write(&rows, &path)?;
        }
        Ok(())
    }

    /// The rows of each hive directory (`a=1/b=x`), in order of appearance.
    fn directories(&self, batch: &RecordBatch) -> Result<Vec<(PathBuf, Vec<u32>)>> {
        let options = FormatOptions::default();
        let columns = self
            .partition
            .iter()
            .map(|i| {
                let column = batch.column(*i);
                let formatter =
                    ArrayFormatter::try_new(column.as_ref(), &options).map_err(cairn_storage::Error::from)?;
                Ok((batch.schema_ref().field(*i).name().clone(), column, formatter))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<(PathBuf, Vec<u32>)> = Vec::new();
        let mut known: HashMap<PathBuf, usize> = HashMap::new();
        for (index, row) in (0..batch.num_rows()).zip(0_u32..) {
            let mut directory = PathBuf::new();
            for (name, column, formatter) in &columns {
                let value = if column.is_null(index) {
                    "__HIVE_DEFAULT_PARTITION__".to_owned()
                } else {
                    escaped(&formatter.value(index).to_string())
                };
                directory.push(format!("{}={value}", escaped(name)));
            }
            let group = *known.entry(directory.clone()).or_insert_with(|| {
                groups.push((directory, Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(row);
        }
        Ok(groups)
    }

    fn publish(mut self) -> Result<()> {
        for (path, file) in std::mem::take(&mut self.files) {
            file.finish(&path)?;
            if !self.partition.is_empty() {
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
            let _ = if self.partition.is_empty() {
                fs::remove_file(&self.temporary)
            } else {
                fs::remove_dir_all(&self.temporary)
            };
        }
    }
}

/// The options with the compression that the target's name tells, which its temporary name does not; and the suffix of such
/// files.
fn packed(path: &Path, format: Format, options: &CopyOptions) -> Result<(CopyOptions, &'static str)> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Int32Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field};

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
