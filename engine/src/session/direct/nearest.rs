//! `SELECT columns FROM t WHERE condition ORDER BY column <-> vector LIMIT k`: the rows nearest to a vector.
//!
//! Owns: recognising it where the column has an index of the metric. A condition is planned the first time, as the WHERE it
//! is, and kept for the values its parameters have.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_storage::Snapshot;
use cairn_storage::index::VectorSearcher;
use cairn_storage::schema::{ColumnType, TableDef};
use cairn_vector::Metric;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr as PlannedExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, LimitClause, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, Value, visit_expressions,
};

use super::key::item_name;
use super::one_batch;
use crate::config::Settings;
use crate::dml::{ident_text, parameter, split_name};
use crate::error::Result;
use crate::output::Output;
use crate::provider::{CairnTable, usable};
use crate::search::{self, K_MAX, Pick, SampleRate, Search};
use crate::session::{Session, query, shape_of};
use crate::statement::Statement;

/// Values of parameters for which a condition is kept planned.
const PLANNED_MAX: usize = 64;

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

/// A WHERE and what it means for some values of its parameters.
#[derive(Debug)]
struct Condition {
    /// `SELECT * FROM t WHERE …`
    query: Box<Query>,
    parameters: Vec<String>,
    planned: Mutex<VecDeque<Planned>>,
}

#[derive(Clone, Debug)]
struct Planned {
    def: Arc<TableDef>,
    values: Vec<ScalarValue>,
    filters: Vec<PlannedExpr>,
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
            condition: selection.as_ref().map(|selection| Condition::new(query, selection)),
        })
    }

    /// The rows; None: plan it.
    ///
    /// # Errors
    /// What is wrong with the condition; storage errors.
    pub(super) async fn run(
        &self,
        session: &Session,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Result<Option<Output>> {
        let searches = session.engine.searches();
        let rate = SampleRate(settings.recall_sample_rate);
        let snapshot = session.engine.database().snapshot();
        let Some(resolved) = self.resolve(&snapshot, settings, params) else { return Ok(None) };
        let filters = match &self.condition {
            None => Some(Vec::new()),
            Some(condition) => condition.known(&resolved.search, params),
        };
        let known = match &filters {
            Some(filters) => searches.known(&resolved.search, filters).await?,
            None => None,
        };
        if let Some(searcher) = known {
            return resolved.rows(searches, &searcher, rate).await;
        }
        let Some(condition) = &self.condition else { return Ok(None) };
        let shape = shape_of(&Statement::Query(condition.query.clone()));
        let (context, catalog) = session.context(&shape, settings, params.cloned()).await?;
        let output = async {
            // The context has pinned a version of its own.
            let Some(resolved) = self.resolve(&context.snapshot, settings, params) else { return Ok(None) };
            let plan = query::plan(&context, &shape, &condition.query).await?;
            let Some(filters) = filters_of(&plan)? else { return Ok(None) };
            condition.keep(&resolved.search, params, &filters)?;
            let searcher = searches.searcher(context.state.as_ref(), &resolved.search, &filters).await?;
            resolved.rows(searches, &searcher, rate).await
        }
        .await;
        drop((context, catalog));
        session.lock().unpin();
        output
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Option<Resolved> {
        let (schema, name) = split_name(&self.table, &settings.search_path).ok()?;
        let table = snapshot.table_named(&schema, &name)?;
        let def = Arc::clone(table.def());
        let position = |name: &str| def.columns.iter().position(|c| c.name == name);
        let column = position(&self.column)?;
        let ColumnType::Vector(dim) = def.columns[column].column_type else { return None };
        let metric = match &self.operator {
            BinaryOperator::LtDashGt => Metric::L2,
            BinaryOperator::Spaceship => Metric::Cosine,
            BinaryOperator::Custom(op) if op == "<#>" => Metric::InnerProduct,
            _ => return None,
        };
        let indexed =
            def.indexes.iter().any(|i| i.column == def.columns[column].id && i.metric.metric() == metric);
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
    ) -> Result<Option<Output>> {
        let (hits, _) = searches.nearest(searcher, &self.search, &self.query, rate)?;
        // Rows without a vector come last in a sort.
        if hits.len() < self.search.k && searcher.has_nulls() {
            return Ok(None);
        }
        let table = self.search.table.table();
        let batch = search::rows(table, &hits, &[], &self.picks, &self.schema).await?;
        Ok(Some(one_batch(batch)))
    }
}

impl Condition {
    fn new(query: &Query, selection: &Expr) -> Self {
        let mut alone = query.clone();
        alone.order_by = None;
        alone.limit_clause = None;
        if let SetExpr::Select(select) = alone.body.as_mut() {
            select.projection = vec![SelectItem::Wildcard(Default::default())];
        }
        let mut parameters = Vec::new();
        let _ = visit_expressions(selection, |expr| {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(name) = &value.value
            {
                parameters.push(name.clone());
            }
            ControlFlow::<()>::Continue(())
        });
        Self { query: Box::new(alone), parameters, planned: Mutex::default() }
    }

    fn values(&self, params: Option<&ParamValues>) -> Option<Vec<ScalarValue>> {
        self.parameters.iter().map(|name| parameter(name, params).ok().cloned()).collect()
    }

    /// Its conjuncts for the values of `params`, if it was planned for them.
    fn known(&self, search: &Search, params: Option<&ParamValues>) -> Option<Vec<PlannedExpr>> {
        let values = self.values(params)?;
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let at = planned
            .iter()
            .position(|p| Arc::ptr_eq(&p.def, search.table.table().def()) && p.values == values)?;
        let found = planned.remove(at)?;
        planned.push_back(found.clone());
        Some(found.filters)
    }

    fn keep(&self, search: &Search, params: Option<&ParamValues>, filters: &[PlannedExpr]) -> Result<()> {
        if let Some(values) = self.values(params)
            && search::lasting(filters)?
        {
            let def = Arc::clone(search.table.table().def());
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            planned.push_back(Planned { def, values, filters: filters.to_vec() });
            while planned.len() > PLANNED_MAX {
                planned.pop_front();
            }
        }
        Ok(())
    }
}

fn has_subquery(selection: &Expr) -> bool {
    let found = visit_expressions(selection, |expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The conjuncts of the WHERE of a plain query; None: they need more than the row.
fn filters_of(plan: &LogicalPlan) -> Result<Option<Vec<PlannedExpr>>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let LogicalPlan::Filter(filter) = projection.input.as_ref() else { return Ok(None) };
    let LogicalPlan::TableScan(_) = filter.input.as_ref() else { return Ok(None) };
    let filters: Vec<PlannedExpr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
    for filter in &filters {
        if !usable(filter)? {
            return Ok(None);
        }
    }
    Ok(Some(filters))
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
