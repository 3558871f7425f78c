//! `system.*`: the database about itself. `sys` is the same schema by another name.
//!
//! Owns: which tables there are, and computing their rows when, and only when, a query reads them. Figures of tables are those
//! of the statement's snapshot; jobs, metrics and the log show the moment of the scan.

mod cache;
mod columns;
mod functions;
mod grants;
mod indexes;
mod jobs;
mod metrics;
mod prepared_statements;
mod queries;
mod roles;
mod segments;
mod settings;
mod tables;
mod users;
mod vector_recall;
mod versions;
mod wal;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::Snapshot;
use cairn_storage::schema::TableDef;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
    UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::config::Settings;
use crate::engine::Engine;
use crate::error::Result;
use crate::rights::Rights;
use crate::session::NamedStatements;

/// Name of the schema.
pub(crate) const SCHEMA: &str = "system";
/// Its other name.
pub(crate) const ALIAS: &str = "sys";

/// What the tables' rows are computed from.
#[derive(Debug)]
pub(crate) struct SystemSource {
    /// The engine, and through it the database.
    pub(crate) engine: Arc<Engine>,
    /// The statement's snapshot.
    pub(crate) snapshot: Snapshot,
    /// The session's settings.
    pub(crate) settings: Settings,
    /// What the session may do: tables of which it may do nothing do not show.
    pub(crate) rights: Rights,
    /// What the session has prepared by name.
    pub(crate) named: Arc<NamedStatements>,
}

impl SystemSource {
    /// The tables that show.
    fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        let catalog = self.snapshot.catalog();
        let tables = catalog.schemas().flat_map(|schema| catalog.tables(schema));
        tables.filter(|table| self.rights.sees(table.owner, &table.schema, &table.name))
    }
}

/// One table of the schema.
#[async_trait]
trait SystemTable: Debug + Send + Sync {
    /// Name.
    fn name(&self) -> &'static str;

    /// Columns.
    fn schema(&self) -> SchemaRef;

    /// All its rows.
    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>>;
}

/// By name.
const TABLES: &[&dyn SystemTable] = &[
    &cache::Cache,
    &columns::Columns,
    &functions::Functions,
    &grants::Grants,
    &indexes::Indexes,
    &jobs::Jobs,
    &metrics::Metrics,
    &prepared_statements::PreparedStatements,
    &queries::Queries,
    &roles::Roles,
    &segments::Segments,
    &settings::SettingsTable,
    &tables::Tables,
    &users::Users,
    &vector_recall::VectorRecall,
    &versions::Versions,
    &wal::Wal,
];

/// Whether `schema` is this one.
pub(crate) fn is_system_schema(schema: &str) -> bool {
    schema == SCHEMA || schema == ALIAS
}

/// Whether a table is about the whole database, whoever's it is: superusers may read it.
pub(crate) fn is_of_everything(name: &str) -> bool {
    ["jobs", "metrics", "versions", "wal"].contains(&name)
}

/// Names of the tables.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|t| t.name())
}

/// Whether there is a table of that name.
pub(crate) fn exists(name: &str) -> bool {
    names().any(|n| n == name)
}

/// Names and types of a table's columns, for completion.
pub(crate) fn schema_of(name: &str) -> Option<SchemaRef> {
    TABLES.iter().find(|t| t.name() == name).map(|t| t.schema())
}

/// The table as one of a query.
pub(crate) fn provider(name: &str, source: &Arc<SystemSource>) -> Option<Result<Arc<dyn TableProvider>>> {
    let table = *TABLES.iter().find(|t| t.name() == name)?;
    let stream = Rows { table, schema: table.schema(), source: Arc::clone(source) };
    let streaming = StreamingTable::try_new(table.schema(), vec![Arc::new(stream)]);
    Some(streaming.map(|t| Arc::new(t) as Arc<dyn TableProvider>).map_err(Into::into))
}

/// Rows of a table, computed when the stream is polled.
#[derive(Debug)]
struct Rows {
    table: &'static dyn SystemTable,
    schema: SchemaRef,
    source: Arc<SystemSource>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, schema, source) = (self.table, Arc::clone(&self.schema), Arc::clone(&self.source));
        let batch = async move {
            let columns = table.rows(&source).await?;
            Ok::<_, DataFusionError>(RecordBatch::try_new(schema, columns)?)
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(batch)))
    }
}

/// Types the tables are made of.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Unsigned,
    Boolean,
    Fraction,
    Time,
}

/// A schema of (name, type, nullable).
fn schema(columns: &[(&str, Kind, bool)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind, nullable)| {
        let data_type = match kind {
            Kind::Text => DataType::Utf8View,
            Kind::Unsigned => DataType::UInt64,
            Kind::Boolean => DataType::Boolean,
            Kind::Fraction => DataType::Float64,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(*name, data_type, *nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringViewArray>())
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringViewArray>())
}

fn numbers(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

fn booleans(values: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.collect::<BooleanArray>())
}

fn fractions(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
