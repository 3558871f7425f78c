//! COPY … TO: the rows of a table or a query, to files or objects.
//!
//! Owns: running the statement, and that nothing appears before every row has been written. Does not own: how files and objects appear (`to_files`,
//! `to_objects`), formats (`write_file`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::from::blocking;
use super::to_files::TargetFiles;
use super::to_objects::TargetObjects;
use super::write_file::check_compression;
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
