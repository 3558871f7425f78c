//! Optimised plans of queries that come more than once, with the placeholders of their parameters.
//!
//! Owns: which plans may be used again, and for which statements; giving one the values and the tables of an execution. Does not own:
//! planning (`query`), the text of statements (`prepared`). A query is planned the ordinary way when it comes first; from the second time on its optimised
//! plan is kept, and an execution only puts values and tables into it and plans physically.
//!
//! What is kept holds no snapshot: its scans are of tables at no version, and each execution puts those of its own snapshot there. What it
//! was planned under is compared by identity each time (settings, catalog, rights), so nothing has to tell it of a change. Whatever
//! is unusual is planned each time: the same rows and errors either way (ADR 34).

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_storage::id::TableId;
use cairn_storage::{Catalog, ErrorKind};
use cairn_udfs::vector::Distance;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableSource, Volatility};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::sql::sqlparser::ast::Query;

use super::query::with_values;
use super::{Session, query};
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::provider::{CairnTable, table_filters};
use crate::rights::Rights;
use crate::statement::Shape;

/// Plans that a session keeps.
const KEPT_MAX: usize = 64;
/// Of these, for one text: its values may be of different types.
const KEPT_OF_TEXT_MAX: usize = 4;
/// Expressions in the plan of one, those of its views included.
const EXPRESSIONS_MAX: usize = 2_000;
/// Rows that a table may get before a plan made for fewer is made again, beside as many as it had.
const GROWTH_ROWS: u64 = 10_000;

/// Those of a session.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// The least recently used first.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    text: Arc<str>,
    under: Under,
    known: Known,
}

/// What is known of a text.
#[derive(Clone, Debug)]
enum Known {
    /// It came once.
    Seen,
    /// It is planned each time.
    Unfit,
    Template(Arc<Template>),
}

/// What a plan depends on beside its text and values.
#[derive(Debug)]
struct Under {
    options: Arc<ConfigOptions>,
    catalog: Arc<Catalog>,
    rights: Rights,
}

impl Under {
    fn of(context: &StatementContext) -> Self {
        Self {
            options: Arc::clone(context.state.config_options()),
            catalog: Arc::clone(context.snapshot.catalog()),
            rights: context.rights.clone(),
        }
    }

    /// Whether all of it is as it was. A change of any of these makes another object, and this one keeps the old ones.
    fn is_that_of(&self, context: &StatementContext) -> bool {
        Arc::ptr_eq(&self.options, context.state.config_options())
            && Arc::ptr_eq(&self.catalog, context.snapshot.catalog())
            && self.rights.are_same(&context.rights)
    }
}

impl Templates {
    /// What is known of `text` for a statement of `context`; None: it comes for the first time.
    fn find(&mut self, text: &str, context: &StatementContext) -> Option<Known> {
        self.kept.retain(|kept| *kept.text != *text || kept.under.is_that_of(context));
        let fits = |kept: &Kept| {
            *kept.text == *text
                && match &kept.known {
                    Known::Seen | Known::Unfit => true,
                    Known::Template(template) => template.takes(context),
                }
        };
        let Some(at) = self.kept.iter().rposition(fits) else {
            // Values of other types.
            return self.kept.iter().any(|kept| *kept.text == *text).then_some(Known::Seen);
        };
        let found = self.kept.remove(at)?;
        let known = found.known.clone();
        self.kept.push_back(found);
        Some(known)
    }

    fn keep(&mut self, text: &Arc<str>, context: &StatementContext, known: Known) {
        let under = Under::of(context);
        self.kept.retain(|kept| kept.text != *text || matches!(kept.known, Known::Template(_)));
        let of_text = self.kept.iter().filter(|kept| kept.text == *text).count();
        let oldest = match of_text >= KEPT_OF_TEXT_MAX {
            true => self.kept.iter().position(|kept| kept.text == *text),
            false => (self.kept.len() >= KEPT_MAX).then_some(0),
        };
        if let Some(oldest) = oldest {
            self.kept.remove(oldest);
        }
        self.kept.push_back(Kept { text: Arc::clone(text), under, known });
    }
}

impl Session {
    /// Runs a query; `text`, when it may come again, is what its plan is kept under.
    ///
    /// # Errors
    /// As [`query::run`].
    pub(super) async fn query(
        &self,
        context: &StatementContext,
        shape: &Shape,
        text: Option<&Arc<str>>,
        query: &Query,
    ) -> Result<Output> {
        let Some(text) = text else { return query::run(context, shape, query).await };
        let metrics = self.engine.metrics();
        let known = self.lock().templates.find(text, context);
        let template = match known {
            None => {
                self.lock().templates.keep(text, context, Known::Seen);
                metrics.plan_made();
                return query::run(context, shape, query).await;
            }
            Some(Known::Unfit) => {
                metrics.plan_made();
                return query::run(context, shape, query).await;
            }
            Some(Known::Seen) => {
                metrics.plan_made();
                let unbound = query::unbound(context, shape, query).await?;
                // What it meets without values it may not meet with them.
                let Ok(Some(template)) = Template::of(context, &unbound) else {
                    self.lock().templates.keep(text, context, Known::Unfit);
                    return query::start(context, with_values(unbound, context.params.as_ref())?).await;
                };
                let template = Arc::new(template);
                self.lock().templates.keep(text, context, Known::Template(Arc::clone(&template)));
                template
            }
            Some(Known::Template(template)) => {
                metrics.plan_reused();
                template
            }
        };
        if let Ok(output) = template.run(context).await {
            return Ok(output);
        }
        // Planned the ordinary way it tells what is wrong; where nothing is, it is always planned so.
        let output = query::run(context, shape, query).await?;
        self.lock().templates.keep(text, context, Known::Unfit);
        Ok(output)
    }
}

/// What the value of a parameter must be.
#[derive(Debug)]
enum Takes {
    /// Some value of the type.
    Type(DataType),
    /// Just this: it stands in the plan.
    Value(ScalarValue),
}

/// An optimised plan that lacks its values and its tables.
#[derive(Debug)]
struct Template {
    plan: LogicalPlan,
    takes: Vec<(String, Takes)>,
    /// Tables with the number their next row had.
    sizes: Vec<(TableId, u64)>,
}

impl Template {
    /// That of a plan as the planner made it; None: it is to be planned each time.
    fn of(context: &StatementContext, unbound: &LogicalPlan) -> PlanResult<Option<Self>> {
        if !reads_tables_only(unbound)? || !is_lasting(unbound)? {
            return Ok(None);
        }
        let in_plan = placeholders_of_limits(unbound)?;
        let mut takes = Vec::new();
        for name in unbound.get_parameter_names()? {
            let Some(value) = value_of(&name, context.params.as_ref()) else { return Ok(None) };
            let take = match value.is_null() || in_plan.contains(&name) {
                true => Takes::Value(value),
                false => Takes::Type(value.data_type()),
            };
            takes.push((name, take));
        }
        let typed = unbound.clone().transform_up_with_subqueries(|node| {
            let node = replaced(node, |placeholder| {
                let (_, take) = takes.iter().find(|(name, _)| *name == placeholder.id)?;
                Some(match take {
                    Takes::Value(value) => Expr::Literal(value.clone(), None),
                    Takes::Type(data_type) => {
                        let field = Field::new("", data_type.clone(), true);
                        let field = Some(Arc::new(field));
                        Expr::Placeholder(Placeholder::new_with_field(placeholder.id.clone(), field))
                    }
                })
            })?;
            node.map_data(LogicalPlan::recompute_schema)
        })?;
        let plan = context.state.optimize(&typed.data)?;
        // A rule may have put a search in the place of a table.
        if !reads_tables_only(&plan)? {
            return Ok(None);
        }
        let mut sizes = Vec::new();
        let plan = plan.transform_up_with_subqueries(|node| {
            Ok(match node {
                LogicalPlan::TableScan(mut scan) => {
                    if let Some(table) = own_table(&scan.source) {
                        sizes.push((table.table().def().id, table.table().next_row_id().0));
                        scan.source = Arc::new(Unpinned::of(&table));
                    }
                    Transformed::yes(LogicalPlan::TableScan(scan))
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(Some(Self { plan: plan.data, takes, sizes }))
    }

    /// Whether it is right for the values of a statement, and for its tables still a good one.
    fn takes(&self, context: &StatementContext) -> bool {
        let fits = |(name, take): &(String, Takes)| match (value_of(name, context.params.as_ref()), take) {
            (Some(value), Takes::Type(data_type)) => !value.is_null() && value.data_type() == *data_type,
            (Some(value), Takes::Value(wanted)) => value == *wanted,
            (None, _) => false,
        };
        let is_near = |(id, next): &(TableId, u64)| {
            let now = context.snapshot.table(*id).map_or(0, |table| table.next_row_id().0);
            now <= next.saturating_mul(2).saturating_add(GROWTH_ROWS)
        };
        self.takes.iter().all(fits) && self.sizes.iter().all(is_near)
    }

    async fn run(&self, context: &StatementContext) -> Result<Output> {
        let plan = self.bound(context)?;
        query::start_optimized(context, &plan).await
    }

    /// The plan with the values and the tables of a statement.
    fn bound(&self, context: &StatementContext) -> PlanResult<LogicalPlan> {
        let simplify = SimplifyExpressions::new();
        let bound = self.plan.clone().transform_up_with_subqueries(|node| {
            let node = match node {
                LogicalPlan::TableScan(mut scan) => {
                    if let Some(table) = scan.source.downcast_ref::<Unpinned>() {
                        scan.source = table.at(context)?;
                    }
                    LogicalPlan::TableScan(scan)
                }
                other => other,
            };
            let node = replaced(node, |placeholder| {
                let value = value_of(&placeholder.id, context.params.as_ref())?;
                Some(Expr::Literal(value, None))
            })?;
            match node.transformed {
                // Casts of values become values, which a scan looks for.
                true => simplify.rewrite(node.data, context.state.as_ref()),
                // It may have another table.
                false => Ok(Transformed::yes(node.data)),
            }
        })?;
        Ok(bound.data)
    }
}

/// A table as the optimizer sees it, at no version.
#[derive(Debug)]
struct Unpinned {
    id: TableId,
    schema: SchemaRef,
    pseudo_columns: bool,
}

impl Unpinned {
    fn of(table: &CairnTable) -> Self {
        let (def, schema) = (table.table().def(), table.schema());
        Self { id: def.id, pseudo_columns: schema.fields().len() > def.columns.len(), schema }
    }

    /// The table at the version of a statement.
    fn at(&self, context: &StatementContext) -> PlanResult<Arc<dyn TableSource>> {
        let table = context
            .snapshot
            .table(self.id)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a kept plan reads a table that is not there"))?;
        let provider = match self.pseudo_columns {
            true => CairnTable::with_pseudo_columns(table),
            false => CairnTable::new(table),
        };
        Ok(provider_as_source(Arc::new(provider)))
    }
}

impl TableSource for Unpinned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        table_filters(filters)
    }
}

/// `node` with `put` in the place of its placeholders, its expressions under the names they have.
fn replaced(
    node: LogicalPlan,
    put: impl Fn(&Placeholder) -> Option<Expr>,
) -> PlanResult<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        if !holds_placeholder(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| {
            let Expr::Placeholder(placeholder) = &expr else { return Ok(Transformed::no(expr)) };
            Ok(match put(placeholder) {
                Some(other) => Transformed::yes(other),
                None => Transformed::no(expr),
            })
        })?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })
}

fn holds_placeholder(expr: &Expr) -> PlanResult<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_))))
}

/// The value of a placeholder; None: it has none, or one that says more than its type does.
fn value_of(name: &str, params: Option<&ParamValues>) -> Option<ScalarValue> {
    let value = params?.get_placeholders_with_values(name).ok()?;
    let ScalarAndMetadata { value, metadata: None } = value else { return None };
    Some(value)
}

/// The table behind a scan; None: it is none of ours, as a search, a file or a screened view.
fn own_table(source: &Arc<dyn TableSource>) -> Option<CairnTable> {
    let provider = source_as_provider(source).ok()?;
    provider.downcast_ref::<CairnTable>().cloned()
}

/// Whether a plan is of nodes that are nothing but what they show, over tables of ours.
fn reads_tables_only(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut tables_only = true;
    plan.apply_with_subqueries(|node| {
        let is_known = match node {
            LogicalPlan::TableScan(scan) => {
                own_table(&scan.source).is_some_and(|table| table.unsearched().is_none())
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Distinct(_) => true,
            _ => false,
        };
        tables_only &= is_known;
        Ok(if tables_only { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(tables_only)
}

/// Whether a plan, not analysed yet, means the same at every time and for every value of its types, and is small enough to keep.
///
/// Functions that have one value per statement (`now()`, `current_user`) become that when a plan is optimised. The type of a function
/// may hang on the value of an argument (`round(d, $1)`), and so may what it is made into. A vector that is compared with may be
/// the answer of a subquery that has been run already, and one that is a parameter decides whether an index answers.
fn is_lasting(plan: &LogicalPlan) -> PlanResult<bool> {
    let (mut lasting, mut expressions) = (true, 0);
    plan.apply_with_subqueries(|node| {
        let takes_values = matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
        );
        node.apply_expressions(|expr| {
            lasting &= takes_values || !holds_placeholder(expr)?;
            expr.apply(|expr| {
                expressions += 1;
                lasting &= expressions <= EXPRESSIONS_MAX;
                lasting &= match expr {
                    Expr::ScalarFunction(call) => {
                        call.func.signature().volatility != Volatility::Stable
                            && call.func.inner().downcast_ref::<Distance>().is_none()
                            && !holds_placeholder(expr)?
                    }
                    Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::Unnest(_) => {
                        !holds_placeholder(expr)?
                    }
                    Expr::HigherOrderFunction(_) | Expr::ScalarVariable(..) => false,
                    _ => true,
                };
                Ok(if lasting { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if lasting { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(lasting)
}

/// Placeholders in LIMIT and OFFSET, by which a plan is chosen.
fn placeholders_of_limits(plan: &LogicalPlan) -> PlanResult<Vec<String>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(_) = node {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    if let Expr::Placeholder(placeholder) = expr {
                        found.push(placeholder.id.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
