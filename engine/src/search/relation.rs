//! Calls of `vector_search` planned as relations.
//!
//! Owns: finding what a call names, and that it may be searched; its vector, which must be a constant: parameters are bound before
//! planning. Does not own: reading the call (`call`).

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ColumnType, TableDef};
use cairn_udfs::vector::{dimensions, vector_type};
use cairn_vector::Metric;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result as PlanResult, TableReference, internal_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, Join, ObjectName, TableAlias, TableFactor,
};

use super::call::{Arguments, FUNCTION, call_of, column_name, invalid, object};
use super::each::{self, EachNode, RowFilter};
use super::filter_text::condition;
use super::literal::{may_be_vector, vector_of};
use super::table::{SearchTable, Shape};
use super::{Scope, Search};
use crate::catalog::{INFORMATION_SCHEMA, missing, unknown_schema};
use crate::dml::cut;
use crate::error::{Error, Result, closest};
use crate::provider::CairnTable;
use crate::rights::Right;
use crate::statement::{name_of, schema_and_name};
use crate::system;

/// How one search for each row is written.
const PER_ROW: &str = "one search for each row of q: FROM q, vector_search('t', 'c', q.v, k => 10, filter => 'tenant = q.tenant') n, or with rows without an answer: FROM q LEFT JOIN LATERAL vector_search('t', 'c', q.v, k => 10) n ON true";
/// See the module.
#[derive(Debug)]
pub(super) struct VectorSearch {
    scope: Scope,
}

impl VectorSearch {
    /// For the calls of one query.
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn table(&self, name: &ObjectName) -> Result<CairnTable> {
        let (schema, table) = schema_and_name(name, &self.scope.search_path)?;
        if let Some(table) = self.scope.snapshot.table_named(&schema, &table) {
            self.scope.rights.table(Right::Select, table.def())?;
            let show = self.scope.pseudo_columns;
            return Ok(if show { CairnTable::with_pseudo_columns(table) } else { CairnTable::new(table) });
        }
        let catalog = self.scope.snapshot.catalog();
        if catalog.view(&schema, &table).is_some() {
            return Err(invalid("42809", format!("{name} is a view; vector_search searches tables"))
                .map(|e| e.with_hint("search the table behind the view")));
        }
        if system::is_system_schema(&schema) && !system::exists(&table) {
            return Err(missing(&schema, &table, system::names()));
        }
        if system::is_system_schema(&schema) || schema == INFORMATION_SCHEMA {
            return Err(invalid("42809", format!("{name} is a system table: it has no vectors to search")));
        }
        if !catalog.has_schema(&schema) {
            return Err(unknown_schema(&self.scope.snapshot, &self.scope.rights, &schema));
        }
        let seen = catalog.tables(&schema).filter(|t| self.scope.rights.sees(t.owner, &schema, &t.name));
        Err(missing(&schema, &table, seen.map(|t| t.name.as_str())))
    }

    /// A table and the position of its VECTOR column.
    fn column(&self, table: &ObjectName, column: &str) -> Result<(CairnTable, usize)> {
        let table = self.table(table)?;
        let def = table.table().def();
        let position = def.columns.iter().position(|c| c.name == column).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("column \"{column}\" of table \"{}\" does not exist", def.qualified_name()),
            )
            .map(|e| e.with_sqlstate("42703").with_hint(column_hint(def, column)))
        })?;
        let found = &def.columns[position];
        let ColumnType::Vector(_) = found.column_type else {
            return Err(invalid(
                "42804",
                format!(
                    "column \"{column}\" of table \"{}\" is of type {}, not VECTOR",
                    def.qualified_name(),
                    found.column_type
                ),
            ));
        };
        Ok((table, position))
    }

    /// Type and dimensions of the vectors that a call with these arguments looks for.
    ///
    /// # Errors
    /// 42P01, 42703, 42804, 42501 for what cannot be searched.
    pub(super) fn vector_type(&self, table: &SqlExpr, column: &SqlExpr) -> Result<(DataType, usize)> {
        let (table, column) = self.column(&object(table)?, &column_name(column)?)?;
        let data_type = table.table().def().columns[column].column_type.arrow();
        let dim = dimensions(&data_type).unwrap_or_default();
        Ok((data_type, dim))
    }

    /// What a call searches, the vector it names, its conditions, and those that name columns of `around`.
    fn search(
        &self,
        args: Vec<FunctionArg>,
        around: Option<&DFSchema>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<(Search, SqlExpr, (Vec<Expr>, RowFilter))> {
        let args = Arguments::read(args)?;
        let (table, column) = self.column(&args.table, &args.column)?;
        let def = table.table().def();
        let metric = match args.metric {
            Some(metric) => metric,
            None => the_metric(def, def.columns[column].id)?,
        };
        let filters = match &args.filter {
            Some(filter) => condition(filter, &table, around, context)?,
            None => Default::default(),
        };
        let search = Search { table, column, metric, k: args.k, exact: args.exact, width: args.width };
        Ok((search, args.query, filters))
    }

    /// A call for one vector.
    fn one(&self, args: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> Result<SearchTable> {
        let (search, query, (filters, _)) = self.search(args, None, context)?;
        let dim = search.dim();
        let query = constant(query, self.scope.described.then_some(dim), context)?;
        if query.len() != dim {
            return Err(invalid(
                "22000",
                format!(
                    "the query vector has {} dimensions, column \"{}\" has {dim}",
                    query.len(),
                    search.column_name()
                ),
            ));
        }
        search
            .metric
            .check_query((&query).into())
            .map_err(|e| invalid("22000", format!("the query vector: {e}")))?;
        Ok(SearchTable::new(Arc::clone(&self.scope.searches), search, query, Shape::Ranked, filters))
    }

    /// One search for each row of `before`.
    fn each(
        &self,
        before: TableFactor,
        join: &Join,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<LogicalPlan> {
        let Some((_, args, alias)) = call_of(&join.relation) else {
            return internal_err!("a lateral join without a call");
        };
        let Some((outer, on)) = each::kind(&join.join_operator) else {
            return Err(Error::not_supported_yet("this kind of join with vector_search")
                .map(|e| e.with_hint(PER_ROW))
                .into());
        };
        if outer && on.is_some() {
            return Err(Error::not_supported_yet("LEFT JOIN vector_search … ON a condition but true")
                .map(|e| {
                    e.with_hint("say ON true; a condition on the rows that are searched is filter => '…'")
                })
                .into());
        }
        let (alias, names) = match alias {
            None => (FUNCTION.to_owned(), Vec::new()),
            Some(alias) => (name_of(&alias.name), column_names(alias)?),
        };
        let before = context.plan(before)?;
        let (search, query, (filters, of_rows)) =
            self.search(args.to_vec(), Some(before.schema().as_ref()), context)?;
        let written: Arc<str> = cut(&query.to_string()).into();
        let vector = context.sql_to_expr(query, before.schema())?;
        let wanted = vector_type(search.dim());
        let found = vector.get_type(before.schema())?;
        if let Some(dim) = dimensions(&found).filter(|dim| *dim != search.dim()) {
            let (column, wanted) = (search.column_name(), search.dim());
            return Err(invalid(
                "22000",
                format!("the query vectors have {dim} dimensions, column \"{column}\" has {wanted}"),
            )
            .into());
        }
        let vector = if found == wanted { vector } else { Expr::Cast(Cast::new(Box::new(vector), wanted)) };
        let table =
            SearchTable::new(Arc::clone(&self.scope.searches), search, Vec::new(), Shape::Ranked, filters)
                .renamed(&names)?;
        let answers = DFSchema::try_from_qualified_schema(TableReference::bare(alias), &table.schema())?;
        let plan = EachNode::plan(before, (vector, written), of_rows, table, answers, outer)?;
        match on {
            None => Ok(plan),
            Some(on) => {
                let on = context.sql_to_expr(on.clone(), plan.schema())?;
                LogicalPlanBuilder::from(plan).filter(on)?.build()
            }
        }
    }
}

impl RelationPlanner for VectorSearch {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let planned =
            |plan, alias| Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))));
        let (relation, join) = each::unfold(relation);
        if let Some(join) = join {
            return planned(self.each(relation, &join, context)?, None);
        }
        match call_of(&relation) {
            Some((_, args, alias)) => {
                let names = alias.map(column_names).transpose()?.unwrap_or_default();
                let search = self.one(args.to_vec(), context)?.renamed(&names)?;
                let plan = LogicalPlanBuilder::scan(FUNCTION, provider_as_source(Arc::new(search)), None)?;
                // The search has the names itself: a projection would stand between it and its conditions.
                let alias = alias.map(|alias| TableAlias { columns: Vec::new(), ..alias.clone() });
                planned(plan.build()?, alias)
            }
            None => Ok(RelationPlanning::Original(Box::new(relation))),
        }
    }
}

/// The names that an alias has for columns.
fn column_names(alias: &TableAlias) -> Result<Vec<String>> {
    let names = alias.columns.iter().map(|column| match &column.data_type {
        None => Ok(name_of(&column.name)),
        Some(_) => Err(Error::not_supported_yet("a type in the alias of vector_search")),
    });
    names.collect()
}

/// What to write instead of the name of a column that is not there.
fn column_hint(def: &TableDef, column: &str) -> String {
    let names = || def.columns.iter().map(|c| c.name.as_str());
    if let Some(same) = names().find(|name| name.eq_ignore_ascii_case(column)) {
        return format!("names are in small letters unless quoted: write '\"{same}\"'");
    }
    match closest(column, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("its columns are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

/// The metric of the column's index; L2 without one.
fn the_metric(def: &TableDef, column: cairn_storage::id::ColumnId) -> Result<Metric> {
    let mut metrics = def.metrics_of(column);
    metrics.dedup();
    match metrics.as_slice() {
        [] => Ok(Metric::L2),
        [metric] => Ok(*metric),
        _ => Err(invalid("42P08", "the column has indexes of several metrics")
            .map(|e| e.with_hint("say metric => 'l2', 'cosine' or 'ip'"))),
    }
}

/// The vector that `query` is; where it is `described`, any of that many dimensions for a subquery that gives one.
fn constant(
    query: SqlExpr,
    described: Option<usize>,
    context: &mut dyn RelationPlannerContext,
) -> Result<Vec<f32>> {
    let shown = query.to_string();
    let empty = DFSchema::empty();
    let expr = context.sql_to_expr(query, &empty)?;
    if let Some(vector) = vector_of(&expr)? {
        return Ok(vector);
    }
    if let Some(vector) = described.and_then(|dim| any_vector(&expr, dim)) {
        return Ok(vector);
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(empty)).build());
    let expr = simplifier.simplify(expr)?;
    if let Some(vector) = vector_of(&expr)? {
        return Ok(vector);
    }
    if let Expr::Placeholder(p) = &expr {
        let message = format!("there is no value for parameter {}", p.id);
        return Err(Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42P02")));
    }
    let shown: String = shown.chars().take(60).collect();
    let error =
        invalid("42804", format!("the query vector of vector_search must be a constant vector, not {shown}"));
    // A column of what stands around the call.
    let of_rows = expr.exists(|expr| {
        Ok(match expr {
            Expr::OuterReferenceColumn(..) => true,
            Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
            _ => false,
        })
    })?;
    Err(if of_rows { error.map(|e| e.with_hint(PER_ROW)) } else { error })
}

/// Any vector such as the subquery gives that `expr` is; None: it is none, or depends on what is around it.
fn any_vector(expr: &Expr, dim: usize) -> Option<Vec<f32>> {
    let plan = match expr {
        Expr::Cast(cast) => return any_vector(&cast.expr, dim),
        Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => &subquery.subquery,
        _ => return None,
    };
    let [field] = plan.schema().fields().as_ref() else { return None };
    let dim = dimensions(field.data_type()).or_else(|| may_be_vector(field.data_type()).then_some(dim))?;
    // Every metric takes a vector of length 1.
    Some((0..dim).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect())
}
