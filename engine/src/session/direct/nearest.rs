//! `SELECT columns FROM t WHERE condition ORDER BY column <-> vector LIMIT k`: the rows nearest to a vector.
//!
//! Owns: recognising it where the column has an index of the metric. A condition is planned the first time, as the WHERE it
//! is, and kept with places for its parameters.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_storage::Snapshot;
use cairn_storage::index::VectorSearcher;
use cairn_storage::schema::{ColumnType, TableDef};
use cairn_vector::Metric;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr as PlannedExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, LimitClause, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, Value,
};

use super::key::item_name;
use super::one_held_batch;
use crate::config::Settings;
use crate::dml::{ident_text, parameter, split_name};
use crate::error::Result;
use crate::output::Output;
use crate::provider::{CairnTable, usable};
use crate::rights::{Right, Rights};
use crate::search::{self, Held, K_MAX, Pick, SampleRate, Search};
use crate::session::{Session, query, shape_of};
use crate::statement::Statement;
use crate::statement::walk;

/// See the module.
#[derive(Debug)]
pub(in crate::session) struct NearestRead {
    table: ObjectName,
    items: Vec<Item>,
    operator: BinaryOperator,
    column: String,
    vector: Expr,
    limit: Expr,
    condition: Option<Condition>,
}

#[derive(Debug)]
enum Item {
    /// `*`
    All,
    Column(String),
    /// The distance, under this name.
    Distance(String),
}

/// A WHERE and what it means.
#[derive(Debug)]
struct Condition {
    /// `SELECT * FROM t WHERE …`
    query: Box<Query>,
    planned: Mutex<Option<Planned>>,
}

/// The conjuncts of a condition over one definition of the table, with the placeholders of its parameters.
#[derive(Clone, Debug)]
struct Planned {
    def: Arc<TableDef>,
    filters: Arc<[PlannedExpr]>,
}

/// A read of a table that is there.
struct Resolved {
    search: Search,
    query: Vec<f32>,
    picks: Vec<Pick>,
    schema: Arc<Schema>,
}

impl NearestRead {
    pub(super) fn recognise(query: &Query) -> Option<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let Select { projection, from, selection, .. } = select.as_ref();
        let [from] = from.as_slice() else { return None };
        let TableFactor::Table { name, args: None, .. } = &from.relation else { return None };
        let OrderByKind::Expressions(by) = &query.order_by.as_ref()?.kind else { return None };
        let [by] = by.as_slice() else { return None };
        let LimitClause::LimitOffset { limit: Some(limit), .. } = query.limit_clause.as_ref()? else {
            return None;
        };
        // The distance is written out where it is sorted by, or has its name there.
        let distance = match &by.expr {
            Expr::Identifier(name) => projection.iter().find_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } if ident_text(alias) == ident_text(name) => {
                    Some(expr)
                }
                _ => None,
            })?,
            other => other,
        };
        let Expr::BinaryOp { left, op, right } = distance else { return None };
        let (column, vector) = match (left.as_ref(), right.as_ref()) {
            (Expr::Identifier(column), vector) | (vector, Expr::Identifier(column)) => (column, vector),
            _ => return None,
        };
        let items = projection.iter().map(|item| match item {
            SelectItem::Wildcard(_) => Some(Item::All),
            SelectItem::ExprWithAlias { expr, alias } if expr == distance => {
                Some(Item::Distance(ident_text(alias)))
            }
            item => item_name(item).map(Item::Column),
        });
        let items = items.collect::<Option<Vec<_>>>()?;
        // Whatever else the query says shows in its text.
        let shown: Vec<String> = projection.iter().map(ToString::to_string).collect();
        let condition = selection.as_ref().map(|s| format!(" WHERE {s}")).unwrap_or_default();
        let rest = format!("{condition} ORDER BY {} LIMIT {limit}", by.expr);
        let text = query.to_string();
        let plain = |by: &str| text == format!("SELECT {} FROM {name}{by}", shown.join(", "));
        // A subquery needs the planner each time.
        let needs_more = selection.as_ref().is_some_and(has_subquery);
        if needs_more
            || !plain(&rest)
            || projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_)) && i.to_string() != "*")
        {
            return None;
        }
        Some(Self {
            table: name.clone(),
            items,
            operator: op.clone(),
            column: ident_text(column),
            vector: vector.clone(),
            limit: limit.clone(),
            condition: selection.as_ref().map(|_| Condition::new(query)),
        })
    }

    /// The rows; None: plan it.
    ///
    /// # Errors
    /// What is wrong with the condition; storage errors.
    pub(super) async fn run(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        rights: &Rights,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Result<Option<Output>> {
        let searches = session.engine.searches();
        let rate = SampleRate(settings.recall_sample_rate);
        let Some(resolved) = self.resolve(snapshot, rights, settings, params) else { return Ok(None) };
        let filters = match &self.condition {
            None => Some(Vec::new()),
            Some(condition) => condition.known(&resolved.search, params)?,
        };
        if let Some(filters) = filters {
            let state = session.state();
            let searcher = searches.searcher(state.as_ref(), &resolved.search, &filters).await?;
            return resolved.rows(searches, &searcher, rate, &state.runtime_env().memory_pool).await;
        }
        let Some(condition) = &self.condition else { return Ok(None) };
        let shape = shape_of(&Statement::Query(condition.query.clone()));
        let (context, catalog) = session.context(&shape, settings, params.cloned()).await?;
        let output = async {
            // The context has pinned a version of its own.
            let Some(resolved) = self.resolve(&context.snapshot, &context.rights, settings, params) else {
                return Ok(None);
            };
            let plan = query::unbound(&context, &shape, &condition.query).await?;
            let Some(filters) = filters_of(&plan) else { return Ok(None) };
            condition.keep(&resolved.search, &filters)?;
            let Some(filters) = bound(&filters, params)? else { return Ok(None) };
            let searcher = searches.searcher(context.state.as_ref(), &resolved.search, &filters).await?;
            resolved.rows(searches, &searcher, rate, &context.state.runtime_env().memory_pool).await
        }
        .await;
        drop((context, catalog));
        session.lock().unpin();
        output
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        rights: &Rights,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Option<Resolved> {
        let (schema, name) = split_name(&self.table, &settings.search_path).ok()?;
        let table = snapshot.table_named(&schema, &name)?;
        let def = Arc::clone(table.def());
        if !rights.may(Right::Select, &def) {
            return None;
        }
        let position = |name: &str| def.columns.iter().position(|c| c.name == name);
        let column = position(&self.column)?;
        let ColumnType::Vector(dim) = def.columns[column].column_type else { return None };
        let metric = match &self.operator {
            BinaryOperator::Custom(op) if op == "<->" => Metric::L2,
            BinaryOperator::Spaceship => Metric::Cosine,
            BinaryOperator::Custom(op) if op == "<#>" => Metric::InnerProduct,
            _ => return None,
        };
        let indexed = def.metrics_of(def.columns[column].id).contains(&metric);
        let query = search::of_scalar(&*value(&self.vector, params)?).ok()??;
        let k = match &*value(&self.limit, params)? {
            ScalarValue::Int64(Some(k)) => usize::try_from(*k).ok()?,
            ScalarValue::Int32(Some(k)) => usize::try_from(*k).ok()?,
            ScalarValue::UInt64(Some(k)) => usize::try_from(*k).ok()?,
            _ => return None,
        };
        let is_plain = indexed && query.len() == usize::from(dim) && metric.check((&query).into()).is_ok();
        if !is_plain || !(1..=K_MAX).contains(&k) {
            return None;
        }
        let provider = CairnTable::new(table);
        let mut picks = Vec::with_capacity(self.items.len());
        let mut fields: Vec<FieldRef> = Vec::with_capacity(self.items.len());
        let arrow = def.arrow_schema();
        for item in &self.items {
            let columns = match item {
                Item::All => 0..def.columns.len(),
                Item::Column(name) => position(name).map(|i| i..i + 1)?,
                Item::Distance(name) => {
                    picks.push(Pick::Distance);
                    fields.push(Arc::new(Field::new(name, DataType::Float32, true)));
                    continue;
                }
            };
            picks.extend(columns.clone().map(Pick::Column));
            fields.extend(columns.map(|i| Arc::clone(&arrow.fields()[i])));
        }
        let mut names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        names.dedup();
        // The planner has its own words for a name that is there twice.
        if names.len() != fields.len() {
            return None;
        }
        let search = Search { table: provider, column, metric, k, exact: false, width: None };
        Some(Resolved { search, query, picks, schema: Arc::new(Schema::new(fields)) })
    }
}

impl Resolved {
    async fn rows(
        &self,
        searches: &search::Searches,
        searcher: &VectorSearcher,
        rate: SampleRate,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Option<Output>> {
        let held = Held::new(memory);
        held.searching(searcher.most_rows(self.search.k))?;
        let (hits, _) = searches.nearest(searcher, &self.search, &self.query, rate)?;
        // Rows without a vector come last in a sort.
        if hits.len() < self.search.k && searcher.has_nulls() {
            return Ok(None);
        }
        let table = self.search.table.table();
        held.found(hits.len())?;
        let fetched = held.another();
        let batch = search::rows(table, &hits, &[], &self.picks, &self.schema, &fetched).await?;
        Ok(Some(one_held_batch(batch, fetched)))
    }
}

impl Condition {
    fn new(query: &Query) -> Self {
        let mut alone = query.clone();
        alone.order_by = None;
        alone.limit_clause = None;
        if let SetExpr::Select(select) = alone.body.as_mut() {
            select.projection = vec![SelectItem::Wildcard(Default::default())];
        }
        Self { query: Box::new(alone), planned: Mutex::default() }
    }

    /// Its conjuncts for the values of `params`, if it was planned for the table as it is.
    fn known(&self, search: &Search, params: Option<&ParamValues>) -> Result<Option<Vec<PlannedExpr>>> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match planned {
            Some(planned) if Arc::ptr_eq(&planned.def, search.table.table().def()) => {
                bound(&planned.filters, params)
            }
            _ => Ok(None),
        }
    }

    fn keep(&self, search: &Search, filters: &[PlannedExpr]) -> Result<()> {
        if search::lasting(filters)? {
            let def = Arc::clone(search.table.table().def());
            let planned = Planned { def, filters: filters.into() };
            *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned);
        }
        Ok(())
    }
}

fn has_subquery(selection: &Expr) -> bool {
    let found = walk::expressions(selection, |expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The conjuncts of the WHERE of a plain query; None: there is more to it.
fn filters_of(plan: &LogicalPlan) -> Option<Vec<PlannedExpr>> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let LogicalPlan::Filter(filter) = projection.input.as_ref() else { return None };
    let LogicalPlan::TableScan(_) = filter.input.as_ref() else { return None };
    Some(split_conjunction(&filter.predicate).into_iter().cloned().collect())
}

/// The conjuncts with the values of their parameters; None: one has no value or is no condition, or they need more than the
/// row.
fn bound(filters: &[PlannedExpr], params: Option<&ParamValues>) -> Result<Option<Vec<PlannedExpr>>> {
    let mut bound = Vec::with_capacity(filters.len());
    for filter in filters {
        let filter = filter.clone().transform_up(|expr| {
            let PlannedExpr::Placeholder(placeholder) = &expr else { return Ok(Transformed::no(expr)) };
            let value = params.and_then(|params| params.get_placeholders_with_values(&placeholder.id).ok());
            Ok(match value.map(ScalarAndMetadata::into_inner) {
                Some((value, metadata)) => Transformed::yes(PlannedExpr::Literal(value, metadata)),
                None => Transformed::no(expr),
            })
        })?;
        let is_condition = match &filter.data {
            PlannedExpr::Literal(value, _) => {
                matches!(value.data_type(), DataType::Boolean | DataType::Null)
            }
            _ => true,
        };
        if !is_condition || !usable(&filter.data)? {
            return Ok(None);
        }
        bound.push(filter.data);
    }
    Ok(Some(bound))
}

/// The value of a parameter or a plain literal.
fn value<'a>(expr: &Expr, params: Option<&'a ParamValues>) -> Option<std::borrow::Cow<'a, ScalarValue>> {
    use std::borrow::Cow;
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::Placeholder(name) => parameter(name, params).ok().map(Cow::Borrowed),
        Value::Number(digits, false) => digits.parse().ok().map(|n| Cow::Owned(ScalarValue::Int64(Some(n)))),
        Value::SingleQuotedString(text) => Some(Cow::Owned(ScalarValue::Utf8(Some(text.clone())))),
        _ => None,
    }
}
