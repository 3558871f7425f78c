//! Files queried in place: `FROM 'file.parquet' | 'dir/*.csv'` and `read_parquet('…')` with its sisters, of this machine and of object storage.
//!
//! Owns: which files a text names, their common schema, a DataFusion listing table over them. Does not own: loading files into
//! tables (`copy`). A file is opened at planning for its schema; a damaged one is named in the error. Objects are opened before planning, since
//! a function in FROM is planned by whoever cannot wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::csv::reader::Format as CsvInference;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::context::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::Expr;
use futures::{StreamExt, TryStreamExt};

use crate::catalog::SnapshotCatalog;
use crate::copy::{Compression, Format, InputFile, ReadSeek, inputs, is_tabbed, parquet_metadata};
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::stores::{names_objects, store_error};

/// The functions in FROM, with the formats they read.
const FUNCTIONS: [(&str, Format); 5] = [
    ("read_parquet", Format::Parquet),
    ("read_csv", Format::Csv),
    ("read_json", Format::Ndjson),
    ("read_ndjson", Format::Ndjson),
    ("read_arrow", Format::Arrow),
];

/// Rows a schema of text is inferred from, per file.
const INFERENCE_ROWS: usize = 10_000;
/// Files whose schema is read; the others must follow it.
const INFERENCE_FILES: usize = 64;
/// Objects whose schema is read at one time.
const INFERENCES_AT_ONCE: usize = 8;

/// The table that `text` in FROM stands for when it looks like a path; None when it does not.
///
/// # Errors
/// The file is missing, damaged, or of a format its name does not tell.
pub(crate) async fn provider(state: &SessionState, text: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    if names_objects(text) {
        return objects(state, text, None).await.map(Some);
    }
    let access = FileAccess::of(state);
    access.any()?;
    if !looks_like_path(text) {
        return Ok(None);
    }
    let text = text.to_owned();
    tokio::task::spawn_blocking(move || table(&access, &text, None))
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a file task ended early: {e}")))?
        .map(Some)
}

fn looks_like_path(text: &str) -> bool {
    text.contains(['/', '*', '?']) || Format::of(Path::new(text)).is_some() || Path::new(text).exists()
}

/// The objects that a call of one of the `read_…` functions names; None: it names none.
///
/// # Errors
/// As [`provider`].
pub(crate) async fn opened(
    state: &SessionState,
    function: &str,
    text: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    match FUNCTIONS.iter().find(|(name, _)| *name == function) {
        Some((_, format)) if names_objects(text) => objects(state, text, Some(*format)).await.map(Some),
        Some(_) | None => Ok(None),
    }
}

/// Adds `read_parquet`, `read_csv`, `read_json`, `read_ndjson` and `read_arrow`.
pub(crate) fn register(builder: &mut SessionStateBuilder) {
    let functions = builder.table_functions().get_or_insert_with(HashMap::new);
    for (name, format) in FUNCTIONS {
        let function = TableFunction::new(name.to_owned(), Arc::new(ReadFiles { name, format }));
        functions.insert(name.to_owned(), Arc::new(function));
    }
}

/// One of the `read_…` functions.
#[derive(Debug)]
struct ReadFiles {
    name: &'static str,
    format: Format,
}

impl TableFunctionImpl for ReadFiles {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> DfResult<Arc<dyn TableProvider>> {
        let text = match args.exprs() {
            [
                Expr::Literal(
                    ScalarValue::Utf8(Some(text))
                    | ScalarValue::LargeUtf8(Some(text))
                    | ScalarValue::Utf8View(Some(text)),
                    _,
                ),
            ] => text,
            _ => {
                let message = format!("{} takes one text: a path, a glob or a directory", self.name);
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .map(|e| e.with_sqlstate("42883"))
                    .into());
            }
        };
        if names_objects(text) {
            let catalogs = args.session().catalog_list();
            let opened =
                catalogs.downcast_ref::<SnapshotCatalog>().and_then(|names| names.opened(self.name, text));
            return opened.ok_or_else(|| {
                Error::not_supported_yet(format!("{} of objects whose URL is no plain text", self.name))
                    .map(|e| e.with_hint("write the URL itself, in single quotes"))
                    .into()
            });
        }
        Ok(table(&FileAccess::of(args.session()), text, Some(self.format))?)
    }
}

/// A listing table over the files of this machine that `text` names.
fn table(access: &FileAccess, text: &str, format: Option<Format>) -> Result<Arc<dyn TableProvider>> {
    let files: Vec<_> = access.read(text)?.into_iter().map(InputFile::local).collect();
    let format = common_format(&files, text, format)?;
    let schemas =
        files.iter().take(INFERENCE_FILES).map(|f| schema(f, format)).collect::<Result<Vec<_>>>()?;
    listing(&files, text, format, schemas)
}

/// The same over objects.
async fn objects(state: &SessionState, text: &str, format: Option<Format>) -> Result<Arc<dyn TableProvider>> {
    let files = inputs(state, text).await?;
    let format = common_format(&files, text, format)?;
    let first: Vec<InputFile> = files.iter().take(INFERENCE_FILES).cloned().collect();
    let read = move |file: InputFile| async move {
        tokio::task::spawn_blocking(move || schema(&file, format))
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a file task ended early: {e}")))?
    };
    let schemas: Vec<Schema> =
        futures::stream::iter(first).map(read).buffered(INFERENCES_AT_ONCE).try_collect().await?;
    listing(&files, text, format, schemas)
}

/// The one format of `files`.
fn common_format(files: &[InputFile], text: &str, format: Option<Format>) -> Result<Format> {
    if let Some(packed) = files.iter().find(|f| Compression::of(f.path()) != Compression::None) {
        return Err(Error::not_supported_yet(format!(
            "querying compressed file '{}' in place",
            packed.path().display()
        ))
        .map(|e| e.with_hint("load it with COPY … FROM, or decompress it first")));
    }
    let format = match (format, files.first()) {
        (Some(format), _) => format,
        (None, Some(first)) => Format::of(first.path()).ok_or_else(|| unknown(first.path()))?,
        (None, None) => return Err(Error::new(ErrorKind::NotFound, format!("no file matches '{text}'"))),
    };
    match files.iter().find(|f| Format::of(f.path()).is_some_and(|f| f != format)) {
        None => Ok(format),
        Some(other) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("'{text}' names {format} files and others ('{}')", other.path().display()),
        )
        .map(|e| e.with_hint("name files of one format, with a glob such as '*.parquet'"))),
    }
}

fn listing(
    files: &[InputFile],
    text: &str,
    format: Format,
    schemas: Vec<Schema>,
) -> Result<Arc<dyn TableProvider>> {
    let schema = Schema::try_merge(schemas).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, format!("the files of '{text}' do not have one schema: {e}"))
    })?;
    let urls = files.iter().map(url).collect::<Result<Vec<_>>>()?;
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(ListingOptions::new(file_format(format, files)).with_file_extension(""))
        .with_schema(Arc::new(schema));
    Ok(Arc::new(ListingTable::try_new(config)?))
}

fn unknown(path: &Path) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("the format of '{}' is not known from its name", path.display()),
    )
    .map(|e| e.with_sqlstate("22023").with_hint("use read_csv, read_parquet, read_ndjson or read_arrow"))
}

fn url(file: &InputFile) -> Result<ListingTableUrl> {
    if let Some(object) = file.as_object() {
        return object.open().listing_url(&object.meta().location);
    }
    let path = file.path();
    let absolute = std::path::absolute(path)
        .map_err(|e| cairn_storage::Error::io(format!("reading '{}'", path.display()), e))?;
    Ok(ListingTableUrl::parse(absolute.to_string_lossy())?)
}

fn file_format(format: Format, files: &[InputFile]) -> Arc<dyn FileFormat> {
    match format {
        Format::Csv => {
            let delimiter = files.first().map_or(b',', |f| delimiter(f.path()));
            Arc::new(
                CsvFormat::default()
                    .with_has_header(true)
                    .with_delimiter(delimiter)
                    .with_newlines_in_values(true),
            )
        }
        Format::Parquet => Arc::new(ParquetFormat::default()),
        Format::Ndjson => Arc::new(JsonFormat::default()),
        Format::Arrow => Arc::new(ArrowFormat),
    }
}

fn delimiter(path: &Path) -> u8 {
    if is_tabbed(path) { b'\t' } else { b',' }
}

/// Schema of one file, text as views, metadata left out so that files of several writers merge. Blocks.
fn schema(file: &InputFile, format: Format) -> Result<Schema> {
    let failed = RefCell::new(None);
    let damaged = |e: &(dyn StdError + 'static)| {
        failed.take().or_else(|| store_error(e)).unwrap_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("'{}' is not a readable {format} file: {e}", file.path().display()),
            )
            .map(|e| e.with_sqlstate("22P04"))
        })
    };
    let text = || -> Result<_> { Ok(BufReader::new(Telling { input: file.open()?, failed: &failed })) };
    let schema: SchemaRef = match format {
        Format::Parquet => {
            let metadata = parquet_metadata(file)?;
            Arc::clone(metadata.schema())
        }
        Format::Csv => {
            let inference = CsvInference::default().with_header(true).with_delimiter(delimiter(file.path()));
            let inferred = inference.infer_schema(text()?, Some(INFERENCE_ROWS));
            Arc::new(inferred.map_err(|e| damaged(&e))?.0)
        }
        Format::Ndjson => {
            let inferred = infer_json_schema(text()?, Some(INFERENCE_ROWS));
            Arc::new(inferred.map_err(|e| damaged(&e))?.0)
        }
        // Read as written: the Arrow reader does not convert.
        Format::Arrow => {
            let reader = FileReader::try_new(file.open()?, None).map_err(|e| damaged(&e))?;
            return Ok(reader.schema().as_ref().clone());
        }
    };
    Ok(Schema::new(schema.fields().iter().map(with_view).collect::<Vec<_>>()))
}

/// A reader that keeps what a store said when it failed: inference makes a text of it.
struct Telling<'a> {
    input: Box<dyn ReadSeek>,
    failed: &'a RefCell<Option<Error>>,
}

impl Read for Telling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer);
        if let Err(error) = &read {
            *self.failed.borrow_mut() = store_error(error);
        }
        read
    }
}

fn with_view(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Null => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        _ => return Arc::new(field.as_ref().clone().with_nullable(true).with_metadata(HashMap::new())),
    };
    Arc::new(
        field.as_ref().clone().with_data_type(data_type).with_nullable(true).with_metadata(HashMap::new()),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn csv_and_json_read_in_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.csv"), "id,name\n1,x\n2,\"y\nz\"\n").unwrap();
        std::fs::write(dir.path().join("b.csv"), "id,name\n3,w\n").unwrap();
        std::fs::write(dir.path().join("c.ndjson"), "{\"id\":1,\"name\":\"q\"}\n").unwrap();
        let rows = async |pattern: &str, format| {
            let table =
                table(&FileAccess::All, &format!("{}/{pattern}", dir.path().display()), format).unwrap();
            let frame = SessionContext::new().read_table(table).unwrap();
            frame.count().await.unwrap()
        };
        assert_eq!(rows("*.csv", None).await, 3);
        assert_eq!(rows("c.ndjson", None).await, 1);
        assert_eq!(rows("a.csv", Some(Format::Csv)).await, 2);
    }

    #[test]
    fn damage_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.parquet");
        std::fs::write(&path, "not parquet").unwrap();
        let error = table(&FileAccess::All, &path.display().to_string(), None).unwrap_err();
        assert!(error.message().contains("bad.parquet"), "{error}");
        let error = table(&FileAccess::All, "/nowhere/x.csv", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
