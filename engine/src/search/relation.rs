//! `vector_search('table', 'column', vector, k => 10, filter => '…', metric => '…', mode => '…', ef => …)` in FROM.
//!
//! Owns: its arguments and their errors. The vector must be a constant; its parameters are bound before planning.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::ColumnType;
use cairn_udfs::vector::{dimensions, vector_type};
use cairn_vector::Metric;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::{DFSchema, Result as PlanResult, TableReference, internal_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, Join, ObjectName, TableAlias, TableFactor, Value,
};
use datafusion::sql::sqlparser::parser::Parser;

use super::each::{self, EachNode};
use super::filter_text::condition;
use super::literal::vector_of;
use super::table::{SearchTable, Shape};
use super::{Scope, Search};
use crate::catalog::{missing, unknown_schema};
use crate::dialect::CairnDialect;
use crate::error::{Error, Result};
use crate::provider::CairnTable;
use crate::rights::Right;
use crate::statement::{name_of, schema_and_name};

/// The function's name.
pub(crate) const FUNCTION: &str = "vector_search";
/// Its named arguments, with the values of those that have a list of them.
pub(crate) const ARGUMENTS: &[(&str, &[&str])] = &[
    ("k", &[]),
    ("filter", &[]),
    ("metric", &["l2", "cosine", "ip", "l1"]),
    ("mode", &["auto", "ann", "exact"]),
    ("ef", &[]),
];
/// Rows when k is not said.
const K_DEFAULT: usize = 10;
/// Most rows of one search: they are held in memory.
const K_MAX: usize = 1_000_000;
/// Widest walk.
const EF_MAX: usize = 1_000_000;

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
            return Ok(CairnTable::new(table));
        }
        let catalog = self.scope.snapshot.catalog();
        if catalog.view(&schema, &table).is_some() {
            return Err(invalid("42809", format!("{name} is a view; vector_search searches tables"))
                .map(|e| e.with_hint("search the table behind the view")));
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
            .map(|e| e.with_sqlstate("42703"))
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

    /// What a call searches, and the vector it names.
    fn search(
        &self,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<(Search, SqlExpr, Vec<Expr>)> {
        let args = Arguments::read(args)?;
        let (table, column) = self.column(&args.table, &args.column)?;
        let def = table.table().def();
        let metric = match args.metric {
            Some(metric) => metric,
            None => the_metric(def, def.columns[column].id)?,
        };
        let filters = match &args.filter {
            Some(filter) => condition(filter, &table, context)?,
            None => Vec::new(),
        };
        let search = Search { table, column, metric, k: args.k, exact: args.exact, width: args.width };
        Ok((search, args.query, filters))
    }

    /// A call for one vector.
    fn one(&self, args: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> Result<SearchTable> {
        let (search, query, filters) = self.search(args, context)?;
        let query = constant(query, context)?;
        let dim = search.dim();
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
            .check((&query).into())
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
            return Err(Error::not_supported_yet("this kind of join with vector_search").into());
        };
        if outer && on.is_some() {
            return Err(Error::not_supported_yet("LEFT JOIN vector_search … ON a condition but true").into());
        }
        let alias = match alias {
            None => FUNCTION.to_owned(),
            Some(alias) if alias.columns.is_empty() => name_of(&alias.name),
            Some(_) => return Err(Error::not_supported_yet("names for the columns of vector_search").into()),
        };
        let before = context.plan(before)?;
        let (search, query, filters) = self.search(args.to_vec(), context)?;
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
            SearchTable::new(Arc::clone(&self.scope.searches), search, Vec::new(), Shape::Ranked, filters);
        let answers = DFSchema::try_from_qualified_schema(TableReference::bare(alias), &table.schema())?;
        let plan = EachNode::plan(before, vector, table, answers, outer)?;
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
                let search = self.one(args.to_vec(), context)?;
                let plan = LogicalPlanBuilder::scan(FUNCTION, provider_as_source(Arc::new(search)), None)?;
                planned(plan.build()?, alias.cloned())
            }
            None => Ok(RelationPlanning::Original(Box::new(relation))),
        }
    }
}

/// Name, arguments and alias of a call of this function.
pub(super) fn call_of(relation: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], Option<&TableAlias>)> {
    let (name, args, alias) = match relation {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return None,
    };
    let is_search =
        matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|i| name_of(i) == FUNCTION));
    is_search.then_some((name, args, alias.as_ref()))
}

/// What a call says.
struct Arguments {
    table: ObjectName,
    column: String,
    query: SqlExpr,
    k: usize,
    filter: Option<String>,
    metric: Option<Metric>,
    exact: bool,
    width: Option<usize>,
}

impl Arguments {
    fn read(args: Vec<FunctionArg>) -> Result<Self> {
        let mut positional = Vec::new();
        let (mut k, mut filter, mut metric, mut mode, mut ef) =
            (K_DEFAULT, None, None, "auto".to_owned(), None);
        for arg in args {
            let (name, value) = named(arg)?;
            match name.as_deref() {
                None => positional.push(value),
                Some("k") => k = number("k", &value, K_MAX)?,
                Some("ef") => ef = Some(number("ef", &value, EF_MAX)?),
                Some("filter") => filter = Some(text("filter", &value)?),
                Some("mode") => mode = text("mode", &value)?.to_ascii_lowercase(),
                Some("metric") => metric = Some(metric_of(&text("metric", &value)?)?),
                Some("as_of") => return Err(Error::not_supported_yet("vector_search(… as_of => …)")),
                Some(other) => {
                    return Err(invalid("42883", format!("vector_search has no argument {other}")).map(|e| {
                        e.with_hint("vector_search(table, column, vector, k => 10, filter => '…', metric => '…', mode => 'auto', ef => …)")
                    }));
                }
            }
        }
        let count = positional.len();
        let [table, column, query] = <[SqlExpr; 3]>::try_from(positional).map_err(|_| {
            invalid(
                "42883",
                format!("vector_search takes a table, a column and a vector, not {count} arguments"),
            )
        })?;
        let exact = match mode.as_str() {
            "exact" if ef.is_some() => return Err(invalid("22023", "an exact search has no ef")),
            "exact" => true,
            "auto" | "ann" => false,
            other => {
                return Err(invalid("22023", format!("there is no mode {other}"))
                    .map(|e| e.with_hint("modes: auto, ann, exact")));
            }
        };
        Ok(Self {
            table: object(&table)?,
            column: column_name(&column)?,
            query,
            k,
            filter,
            metric,
            exact,
            width: ef,
        })
    }
}

fn named(arg: FunctionArg) -> Result<(Option<String>, SqlExpr)> {
    let (name, arg) = match arg {
        FunctionArg::Unnamed(arg) => (None, arg),
        FunctionArg::Named { name, arg, .. } => (Some(name_of(&name)), arg),
        FunctionArg::ExprNamed { name, .. } => {
            return Err(invalid("42601", format!("{name} is no name of an argument")));
        }
    };
    match arg {
        FunctionArgExpr::Expr(value) => Ok((name, value)),
        _ => Err(invalid("42601", "vector_search takes no * as an argument")),
    }
}

fn text(name: &str, value: &SqlExpr) -> Result<String> {
    match value {
        SqlExpr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            _ => Err(invalid("22023", format!("{name} of vector_search must be a text, not {value}"))),
        },
        _ => Err(invalid("22023", format!("{name} of vector_search must be a text, not {value}"))),
    }
}

fn number(name: &str, value: &SqlExpr, max: usize) -> Result<usize> {
    let number = match value {
        SqlExpr::Value(v) => match &v.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        // As the value of a parameter is written.
        SqlExpr::Cast { expr, .. } => match expr.as_ref() {
            SqlExpr::Value(v) => match &v.value {
                Value::SingleQuotedString(digits) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    number.filter(|n| (1..=max).contains(n)).ok_or_else(|| {
        invalid("22023", format!("{name} of vector_search must be a number from 1 to {max}, not {value}"))
    })
}

fn metric_of(name: &str) -> Result<Metric> {
    let lower = name.to_ascii_lowercase();
    let name = if lower == "ip" { "inner_product" } else { &lower };
    Metric::from_name(name).ok_or_else(|| {
        invalid("22023", format!("there is no metric {lower}"))
            .map(|e| e.with_hint("metrics: l2, cosine, ip (inner_product), l1"))
    })
}

/// A table as text ('t', 'schema.t') or as a name.
fn object(value: &SqlExpr) -> Result<ObjectName> {
    let name = match value {
        SqlExpr::Identifier(ident) => return Ok(ObjectName::from(vec![ident.clone()])),
        SqlExpr::CompoundIdentifier(parts) => return Ok(ObjectName::from(parts.clone())),
        value => text("table", value)?,
    };
    let parsed = Parser::new(&CairnDialect).try_with_sql(&name).and_then(|mut p| p.parse_object_name(false));
    parsed.map_err(|_| invalid("42602", format!("'{name}' is not the name of a table")))
}

fn column_name(value: &SqlExpr) -> Result<String> {
    match value {
        SqlExpr::Identifier(ident) => Ok(name_of(ident)),
        value => {
            let name = text("column", value)?;
            // As an identifier would be, so that 'Embedding' finds what CREATE TABLE made of Embedding.
            Ok(name_of(&match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
                Some(quoted) => Ident::with_quote('"', quoted),
                None => Ident::new(name),
            }))
        }
    }
}

/// The metric of the column's index; L2 without one.
fn the_metric(def: &cairn_storage::schema::TableDef, column: cairn_storage::id::ColumnId) -> Result<Metric> {
    let mut metrics = def.metrics_of(column);
    metrics.dedup();
    match metrics.as_slice() {
        [] => Ok(Metric::L2),
        [metric] => Ok(*metric),
        _ => Err(invalid("42P08", "the column has indexes of several metrics")
            .map(|e| e.with_hint("say metric => 'l2', 'cosine' or 'ip'"))),
    }
}

fn constant(query: SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<Vec<f32>> {
    let shown = query.to_string();
    let empty = DFSchema::empty();
    let expr = context.sql_to_expr(query, &empty)?;
    if let Some(vector) = vector_of(&expr)? {
        return Ok(vector);
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(empty)).build());
    let expr = simplifier.simplify(expr)?;
    vector_of(&expr)?.ok_or_else(|| match expr {
        Expr::Placeholder(p) => {
            Error::new(ErrorKind::InvalidInput, format!("there is no value for parameter {}", p.id))
                .map(|e| e.with_sqlstate("42P02"))
        }
        _ => {
            let shown: String = shown.chars().take(60).collect();
            invalid(
                "42804",
                format!("the query vector of vector_search must be a constant vector, not {shown}"),
            )
        }
    })
}

pub(super) fn invalid(sqlstate: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}
