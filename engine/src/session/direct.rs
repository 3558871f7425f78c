//! Statements that need no planner: INSERT of literals, and SELECT by full primary key.
//!
//! Owns: recognising a key read. Anything unusual gives None and is planned, so both ways give the same rows and errors;
//! both end in the same storage calls as the planned ones (`dml`, `scan::point`).

use std::sync::Arc;

use cairn_storage::segment::EncodedKey;
use cairn_storage::{Database, Snapshot, TableSnapshot};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ParamValues;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor,
};

use crate::config::Settings;
use crate::dml::{self, ident_text, key_value, split_name};
use crate::error::Result;
use crate::output::{Output, RowStream};
use crate::statement::Statement;

/// The answer of a statement that needs no planner; None: plan it.
///
/// # Errors
/// What storage says of the rows; `Conflict` when a fresh snapshot may succeed.
pub(super) async fn run(
    db: &Arc<Database>,
    settings: &Settings,
    params: Option<&ParamValues>,
    statement: &Statement,
) -> Result<Option<Output>> {
    match statement {
        Statement::Dml(statement) => match statement.as_ref() {
            ast::Statement::Insert(insert) => dml::insert_directly(db, settings, params, insert).await,
            _ => Ok(None),
        },
        Statement::Query(query) => {
            let Some(read) = KeyRead::recognise(query) else { return Ok(None) };
            if db.is_read_only() {
                db.refresh().await?;
            }
            let snapshot = db.snapshot();
            match read.resolve(&snapshot, &settings.search_path, params) {
                Some(read) => Ok(Some(read.rows().await?)),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// `SELECT * | columns FROM t WHERE column = value AND …`
struct KeyRead<'a> {
    table: &'a ObjectName,
    /// None: `*`.
    columns: Option<Vec<String>>,
    equal: Vec<(String, &'a Expr)>,
}

struct Resolved {
    table: TableSnapshot,
    columns: Vec<usize>,
    key: EncodedKey,
}

impl<'a> KeyRead<'a> {
    fn recognise(query: &'a Query) -> Option<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let Select { projection, from, selection: Some(selection), .. } = select.as_ref() else {
            return None;
        };
        let [from] = from.as_slice() else { return None };
        let TableFactor::Table { name, .. } = &from.relation else { return None };
        let columns = match projection.as_slice() {
            [SelectItem::Wildcard(_)] => None,
            items => Some(items.iter().map(item_name).collect::<Option<Vec<_>>>()?),
        };
        let mut equal = Vec::new();
        equalities(selection, &mut equal)?;
        // Whatever else the query says shows in its text.
        let items: Vec<String> = projection.iter().map(ToString::to_string).collect();
        let plain = format!("SELECT {} FROM {name} WHERE {selection}", items.join(", "));
        let is_star = columns.is_some() || items == ["*"];
        (is_star && plain == query.to_string()).then_some(Self { table: name, columns, equal })
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        search_path: &str,
        params: Option<&ParamValues>,
    ) -> Option<Resolved> {
        let (schema, name) = split_name(self.table, search_path).ok()?;
        let table = snapshot.table_named(&schema, &name)?;
        let def = table.def();
        let key_columns = def.key_indices();
        if key_columns.is_empty() || key_columns.len() != self.equal.len() {
            return None;
        }
        let values = key_columns
            .iter()
            .map(|i| {
                let column = &def.columns[*i];
                let (_, value) = self.equal.iter().find(|(name, _)| *name == column.name)?;
                key_value(column, value, params)
            })
            .collect::<Option<Vec<ArrayRef>>>()?;
        let columns = match &self.columns {
            None => (0..def.columns.len()).collect(),
            Some(names) => names
                .iter()
                .map(|name| def.columns.iter().position(|c| c.name == *name))
                .collect::<Option<Vec<usize>>>()?,
        };
        let mut distinct = columns.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != columns.len() {
            return None;
        }
        let keys = table.key_encoder().ok()??.encode(&values).ok()?;
        Some(Resolved { columns, key: keys.to_owned(0), table })
    }
}

impl Resolved {
    async fn rows(self) -> Result<Output> {
        let found = self.table.lookup(std::slice::from_ref(&self.key)).await?;
        let ids: Vec<_> = found.into_iter().flatten().collect();
        let batch = self.table.rows(&ids, &self.columns, false).await?;
        Ok(one_batch(batch.schema(), batch))
    }
}

fn one_batch(schema: SchemaRef, batch: RecordBatch) -> Output {
    let rows = (batch.num_rows() > 0).then_some(Ok(batch));
    let stream = futures::stream::iter(rows);
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
    Output::Rows(RowStream { schema, stream })
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(ident_text(name)),
        _ => None,
    }
}

fn equalities<'a>(expr: &'a Expr, found: &mut Vec<(String, &'a Expr)>) -> Option<()> {
    let Expr::BinaryOp { left, op, right } = expr else { return None };
    match (op, left.as_ref()) {
        (BinaryOperator::And, _) => {
            equalities(left, found)?;
            equalities(right, found)
        }
        (BinaryOperator::Eq, Expr::Identifier(name)) => {
            found.push((ident_text(name), right.as_ref()));
            Some(())
        }
        _ => None,
    }
}
