//! `ORDER BY distance LIMIT k` over one table, answered by its index.
//!
//! Matches a sort of at least one row by one distance between a column and a constant vector, over projections, aliases and
//! filters of a table that has an index of that metric on the column. The plan stays as it is but for its leaf, which then
//! gives the k nearest rows only, in the order of the sort. Where a table has an index on the column and a sort cannot use it, its
//! scan is told why, for EXPLAIN.

use std::sync::Arc;

use cairn_udfs::vector::Distance;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Sort, SortExpr, TableScan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::literal::vector_of;
use super::matching::unqualified;
use super::table::{SearchTable, Shape};
use super::{Search, Searches};
use crate::provider::{CairnTable, usable};

/// Longer answers are sorted: they are no longer a small part of a table.
pub(crate) const K_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct NearestRows {
    searches: Arc<Searches>,
}

impl NearestRows {
    pub(super) fn new(searches: Arc<Searches>) -> Self {
        Self { searches }
    }

    fn searched(&self, sort: &Sort) -> Result<Option<LogicalPlan>> {
        let Some(by) = sort.expr.first() else { return Ok(None) };
        let unfit = match sort.fetch {
            None => Some("the sort has no LIMIT"),
            Some(0) => return Ok(None),
            Some(k) if k > K_MAX => Some("LIMIT and OFFSET together are over 10000"),
            Some(_) if sort.expr.len() > 1 => Some("the sort has other keys besides the distance"),
            Some(_) => None,
        };
        let (k, nulls_first) = (sort.fetch.unwrap_or_default(), by.nulls_first);
        let wanted = Wanted { k, ascending: by.asc, nulls_first, unfit };
        Ok(self.below(&sort.input, by.expr.clone(), &wanted, Vec::new())?.map(|input| {
            LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: sort.fetch })
        }))
    }

    /// `plan` over the search, or over the scan that says why there is none, when its rows are sorted by `by`; `filters` stand
    /// above it. None: it stays as it is.
    fn below(
        &self,
        plan: &LogicalPlan,
        by: Expr,
        wanted: &Wanted,
        mut filters: Vec<Expr>,
    ) -> Result<Option<LogicalPlan>> {
        let input = match plan {
            LogicalPlan::Projection(projection) => {
                let through =
                    |expr| through(expr, &projection.schema, |i| projection.expr[i].clone().unalias());
                let filters = filters.into_iter().map(through).collect::<Result<_>>()?;
                self.below(&projection.input, through(by)?, wanted, filters)?
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = alias.input.schema();
                let column = |i| Expr::Column(Column::from(inner.qualified_field(i)));
                let through = |expr| through(expr, &alias.schema, column);
                let filters = filters.into_iter().map(through).collect::<Result<_>>()?;
                self.below(&alias.input, through(by)?, wanted, filters)?
            }
            LogicalPlan::Filter(filter) => {
                filters.extend(split_conjunction_owned(filter.predicate.clone()));
                self.below(&filter.input, by, wanted, filters)?
            }
            LogicalPlan::Join(join) => return self.joined(join, &by, wanted),
            LogicalPlan::TableScan(scan) => return self.scan(scan, &by, wanted, filters),
            _ => None,
        };
        input.map(|input| plan.with_new_exprs(plan.expressions(), vec![input])).transpose()
    }

    /// The nearest rows of a join are not the nearest of one of its sides: only the reason goes down, to the side sorted by.
    fn joined(&self, join: &Join, by: &Expr, wanted: &Wanted) -> Result<Option<LogicalPlan>> {
        let unfit =
            Some("a join or a subquery of WHERE stands below the sort, vector_search can stand below a join");
        let wanted = Wanted { unfit: wanted.unfit.or(unfit), ..*wanted };
        let columns = by.column_refs();
        let of = |side: &LogicalPlan| columns.iter().all(|column| side.schema().has_column(column));
        let is_left = of(&join.left);
        let side = if is_left { &join.left } else { &join.right };
        let Some(input) = self.below(side, by.clone(), &wanted, Vec::new())? else { return Ok(None) };
        let (mut join, input) = (join.clone(), Arc::new(input));
        if is_left {
            join.left = input;
        } else {
            join.right = input;
        }
        Ok(Some(LogicalPlan::Join(join)))
    }

    fn scan(
        &self,
        scan: &TableScan,
        by: &Expr,
        wanted: &Wanted,
        mut filters: Vec<Expr>,
    ) -> Result<Option<LogicalPlan>> {
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
        let Some(table) = provider.downcast_ref::<CairnTable>() else { return Ok(None) };
        let Some((function, column, query)) = distance(by) else { return Ok(None) };
        let def = table.table().def();
        let Some(column) = def.columns.iter().position(|c| c.name == column.name) else { return Ok(None) };
        let metrics = def.metrics_of(def.columns[column].id);
        if metrics.is_empty() || scan.fetch.is_some() {
            return Ok(None);
        }
        filters.extend(scan.filters.iter().cloned());
        let unused = |why: &str| {
            let noted = (table.unsearched() != Some(why)).then(|| table.clone().with_unsearched(why));
            Ok(noted.map(|noted| with_source(scan.clone(), Arc::new(noted))))
        };
        if let Some(why) = wanted.unfit {
            return unused(why);
        }
        let Some(metric) = function.sorted_metric(wanted.ascending) else {
            return unused("the sort has the farthest first");
        };
        if !metrics.contains(&metric) {
            return unused(&format!("no index has the metric {}", metric.name()));
        }
        // Rows without a vector come last in an answer.
        if wanted.nulls_first {
            return unused("the sort has NULLs first");
        }
        for filter in &filters {
            if !usable(filter)? {
                return unused("a condition is volatile or needs other rows");
            }
        }
        let Some(query) = vector_of(query)? else {
            return unused("the vector compared with is no constant");
        };
        let fits =
            def.columns[column].column_type == cairn_storage::schema::ColumnType::Vector(query.len() as u16);
        if !fits || metric.check((&query).into()).is_err() {
            return Ok(None);
        }
        // What the scan would have dropped early stands above it too, so one of each is enough.
        let mut distinct: Vec<Expr> = Vec::new();
        filters.into_iter().for_each(|f| {
            if !distinct.contains(&f) {
                distinct.push(f)
            }
        });
        let search = Search { table: table.clone(), column, metric, k: wanted.k, exact: false, width: None };
        let by = SortExpr::new(unqualified(by.clone())?, wanted.ascending, false);
        let search = SearchTable::new(Arc::clone(&self.searches), search, query, Shape::Sorted(by), distinct);
        let mut scan = scan.clone();
        scan.filters.clear();
        Ok(Some(with_source(scan, Arc::new(search))))
    }
}

/// What the sort asks for.
struct Wanted {
    k: usize,
    ascending: bool,
    nulls_first: bool,
    /// Why no search answers it whatever stands below.
    unfit: Option<&'static str>,
}

/// `scan` of another table of the same columns.
fn with_source(mut scan: TableScan, table: Arc<dyn TableProvider>) -> LogicalPlan {
    scan.source = provider_as_source(table);
    LogicalPlan::TableScan(scan)
}

/// `expr` over `schema`, in terms of what stands below: column i is `below(i)`.
fn through(expr: Expr, schema: &DFSchema, below: impl Fn(usize) -> Expr) -> Result<Expr> {
    expr.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => match schema.maybe_index_of_column(&column) {
                Some(index) => Transformed::yes(below(index)),
                None => Transformed::no(Expr::Column(column)),
            },
            other => Transformed::no(other),
        })
    })
    .data()
}

/// The function, its column and what that is compared with, of a distance that is sorted by.
fn distance(by: &Expr) -> Option<(&Distance, &Column, &Expr)> {
    let by = match by {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::ScalarFunction(ScalarFunction { func, args }) = by else { return None };
    let function = func.inner().downcast_ref::<Distance>()?;
    match args.as_slice() {
        [Expr::Column(column), query] | [query, Expr::Column(column)] => Some((function, column, query)),
        _ => None,
    }
}

impl OptimizerRule for NearestRows {
    fn name(&self) -> &'static str {
        "nearest_rows"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down(|plan| {
            let LogicalPlan::Sort(sort) = &plan else { return Ok(Transformed::no(plan)) };
            Ok(match self.searched(sort)? {
                Some(searched) => Transformed::yes(searched),
                None => Transformed::no(plan),
            })
        })
    }
}
