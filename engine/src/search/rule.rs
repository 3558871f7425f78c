//! `ORDER BY distance LIMIT k` over one table, answered by its index.
//!
//! Matches a sort of at least one row by one distance between a column and a constant vector, over projections, aliases and
//! filters of a table that has an index of that metric on the column. The plan stays as it is but for its leaf, which then
//! gives the k nearest rows only; sort, filters and projections above it do the same again on those.

use std::sync::Arc;

use cairn_udfs::vector::Distance;
use cairn_vector::Metric;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, LogicalPlan, Sort, TableScan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::literal::vector_of;
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
        let (Some(k), [by]) = (sort.fetch.filter(|k| (1..=K_MAX).contains(k)), sort.expr.as_slice()) else {
            return Ok(None);
        };
        // NULL distances come last, as rows without a vector do in the answer.
        let wanted = Wanted { k, ascending: by.asc, nulls_last: !by.nulls_first };
        if !wanted.nulls_last {
            return Ok(None);
        }
        Ok(self.below(&sort.input, by.expr.clone(), &wanted, Vec::new())?.map(|input| {
            LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: sort.fetch })
        }))
    }

    /// `plan` over the search, when its rows are sorted by `by`; `filters` stand above it.
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
            LogicalPlan::TableScan(scan) => return self.scan(scan, &by, wanted, filters),
            _ => None,
        };
        input.map(|input| plan.with_new_exprs(plan.expressions(), vec![input])).transpose()
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
        let Some((metric, column, query)) = distance(by, wanted.ascending)? else { return Ok(None) };
        let def = table.table().def();
        let Some(column) = def.columns.iter().position(|c| c.name == column) else { return Ok(None) };
        let indexed =
            def.indexes.iter().any(|i| i.column == def.columns[column].id && i.metric.metric() == metric);
        let fits =
            def.columns[column].column_type == cairn_storage::schema::ColumnType::Vector(query.len() as u16);
        if !indexed || !fits || scan.fetch.is_some() || metric.check((&query).into()).is_err() {
            return Ok(None);
        }
        filters.extend(scan.filters.iter().cloned());
        for filter in &filters {
            if !usable(filter)? {
                return Ok(None);
            }
        }
        // What the scan would have dropped early stands above it too, so one of each is enough.
        let mut distinct: Vec<Expr> = Vec::new();
        filters.into_iter().for_each(|f| {
            if !distinct.contains(&f) {
                distinct.push(f)
            }
        });
        let search = Search { table: table.clone(), column, metric, k: wanted.k, exact: false, width: None };
        let search = SearchTable::new(Arc::clone(&self.searches), search, query, Shape::Sorted, distinct);
        let source = provider_as_source(Arc::new(search));
        let mut scan = scan.clone();
        scan.source = source;
        scan.filters.clear();
        Ok(Some(LogicalPlan::TableScan(scan)))
    }
}

/// What the sort asks for.
struct Wanted {
    k: usize,
    ascending: bool,
    nulls_last: bool,
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

/// Metric, column and constant of a distance that is sorted by, nearest first.
fn distance(by: &Expr, ascending: bool) -> Result<Option<(Metric, String, Vec<f32>)>> {
    let by = match by {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::ScalarFunction(ScalarFunction { func, args }) = by else { return Ok(None) };
    let function = func.inner().downcast_ref::<Distance>();
    let Some(metric) = function.and_then(|function| function.sorted_metric(ascending)) else {
        return Ok(None);
    };
    let (column, query) = match args.as_slice() {
        [Expr::Column(column), query] | [query, Expr::Column(column)] => (column, query),
        _ => return Ok(None),
    };
    Ok(vector_of(query)?.map(|query| (metric, column.name.clone(), query)))
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
