//! COPY: files into a table in one transaction, and a query's rows out to files that appear whole or not at all.
//!
//! Owns: the statement, its options, the ways in (`from`) and out (`to`). Does not own: parsing the statement's text
//! (`statement`), queries over files in place (`files`). A COPY FROM that fails has changed nothing.

mod columns;
mod csv;
mod csv_file;
mod csv_split;
mod csv_write;
mod from;
mod ingest;
mod input;
mod json;
mod json_column;
mod layout;
mod location;
mod moments;
mod ndjson_file;
mod options;
mod rows;
mod runs;
mod table_file;
mod text_file;
mod to;
mod to_files;
mod to_objects;
mod vectors;
mod write_file;

use datafusion::sql::sqlparser::ast;

pub(crate) use ingest::run as ingest;
pub use ingest::{IfExists, IfMissing, IngestTarget};
pub(crate) use input::{InputFile, ReadSeek, inputs};
pub(crate) use location::{Format, foreign_compression, is_tabbed, list_files, local_path, matches_path};
pub(crate) use options::{CopyOptions, OnError};
pub(crate) use table_file::parquet_metadata;
pub(crate) use text_file::Compression;

use crate::context::StatementContext;
use crate::error::Result;
use crate::output::Output;

/// Which way the rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyDirection {
    /// COPY t FROM 'path'
    From,
    /// COPY t | (query) TO 'path'
    To,
}

/// What is copied.
#[derive(Clone, Debug)]
pub(crate) enum CopySubject {
    /// A table, with the columns named behind it (none: all).
    Table {
        /// Its name as written.
        name: ast::ObjectName,
        /// Columns as written.
        columns: Vec<ast::Ident>,
    },
    /// A query; only for TO.
    Query(Box<ast::Query>),
}

/// A parsed COPY.
#[derive(Clone, Debug)]
pub(crate) struct CopyStatement {
    /// From files or to files.
    pub(crate) direction: CopyDirection,
    /// Table or query.
    pub(crate) subject: CopySubject,
    /// Path, glob, directory or URL as written.
    pub(crate) path: String,
    /// The WITH clause, from [`CopyOptions::parse`].
    pub(crate) options: CopyOptions,
}

/// Runs one attempt of a COPY; a `Conflict` error is retried by the session on a fresh context.
///
/// # Errors
/// Every way the files, the options or the table can be wrong; then nothing has changed.
pub(crate) async fn run(ctx: &StatementContext, statement: CopyStatement) -> Result<Output> {
    match statement.direction {
        CopyDirection::From => from::run(ctx, &statement).await,
        CopyDirection::To => to::run(ctx, &statement).await,
    }
}
