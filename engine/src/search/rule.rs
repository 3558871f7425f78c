//! `ORDER BY distance LIMIT k` over one table, answered by its index.
//!
//! Matches a sort of at least one row by one distance between a column and a constant vector, or by what has its order
//! ([`order`](super::order)), over projections, aliases, filters and UNION ALL of tables that have an index of that metric on the
//! column. The plan stays as it is but for its leaves, which then give the k nearest rows only, in the order of the sort. Where a
//! table has an index on the column and a sort cannot use it, its scan is told why, for EXPLAIN.

use std::sync::Arc;

use cairn_storage::schema::TableDef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, Sort, SortExpr, TableScan, Union};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::literal::vector_of;
use super::matching::unqualified;
use super::order::{self, ByDistance};
use super::table::{SearchTable, Shape};
use super::{Search, Searches};
use crate::provider::{CairnTable, usable};

/// Longer answers are sorted: they are no longer a small part of a table.
pub(crate) const K_MAX: usize = 10_000;

/// Rows that a LIMIT leaves are not the nearest ones.
const BELOW_LIMIT: &str = "a LIMIT stands below the sort";

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
        let unfit = match sort.fetch {
            None => Some("the sort has no LIMIT"),
            Some(0) => return Ok(None),
            Some(k) if k > K_MAX => Some("LIMIT and OFFSET together are over 10000"),
            Some(_) if sort.expr.len() > 1 => Some("the sort has other keys besides the distance"),
            Some(_) => None,
        };
        let k = sort.fetch.unwrap_or_default();
        // Of several keys, which no search answers, the first that is a distance is told why.
        for by in &sort.expr {
            let wanted = Wanted { k, ascending: by.asc, nulls_first: by.nulls_first, unfit };
            if let Some(input) = self.below(&sort.input, by.expr.clone(), &wanted, Vec::new())? {
                let (expr, input) = (sort.expr.clone(), Arc::new(input));
                return Ok(Some(LogicalPlan::Sort(Sort { expr, input, fetch: sort.fetch })));
            }
        }
        Ok(None)
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
            LogicalPlan::Union(union) => return self.each_of(union, &by, wanted, &filters),
            LogicalPlan::Join(join) => return self.joined(join, &by, wanted),
            LogicalPlan::TableScan(scan) => return self.scan(scan, &by, wanted, filters),
            // From here on only the reason goes down: the nearest of what stands below are not the nearest of these rows.
            LogicalPlan::Aggregate(aggregate) => {
                let why = "the rows are grouped or told apart (GROUP BY, DISTINCT, UNION) below the sort";
                match of_groups(aggregate, by)? {
                    Some(by) => self.below(&aggregate.input, by, &wanted.unfit_for(why), Vec::new())?,
                    None => None,
                }
            }
            LogicalPlan::Window(window) => {
                let why = "a window function stands below the sort";
                self.below(&window.input, by, &wanted.unfit_for(why), Vec::new())?
            }
            LogicalPlan::Limit(limit) => {
                self.below(&limit.input, by, &wanted.unfit_for(BELOW_LIMIT), Vec::new())?
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => {
                self.below(&sort.input, by, &wanted.unfit_for(BELOW_LIMIT), Vec::new())?
            }
            _ => None,
        };
        input.map(|input| plan.with_new_exprs(plan.expressions(), vec![input])).transpose()
    }

    /// The nearest of several relations' rows are among the nearest of each.
    fn each_of(
        &self,
        union: &Union,
        by: &Expr,
        wanted: &Wanted,
        filters: &[Expr],
    ) -> Result<Option<LogicalPlan>> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut changed = false;
        for input in &union.inputs {
            let of_input = input.schema();
            let column = |i| Expr::Column(Column::from(of_input.qualified_field(i)));
            let through = |expr: &Expr| through(expr.clone(), &union.schema, column);
            let filters = filters.iter().map(through).collect::<Result<_>>()?;
            inputs.push(match self.below(input, through(by)?, wanted, filters)? {
                Some(searched) => {
                    changed = true;
                    Arc::new(searched)
                }
                None => Arc::clone(input),
            });
        }
        let schema = Arc::clone(&union.schema);
        Ok(changed.then(|| LogicalPlan::Union(Union { inputs, schema })))
    }

    /// The nearest rows of a join are not the nearest of one of its sides: only the reason goes down, to the side sorted by.
    fn joined(&self, join: &Join, by: &Expr, wanted: &Wanted) -> Result<Option<LogicalPlan>> {
        let wanted = wanted.unfit_for(
            "a join or a subquery of WHERE stands below the sort, vector_search can stand below a join",
        );
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
        let def = table.table().def();
        let found = order::by_distance(by, wanted.ascending);
        let indexed = match &found {
            Some(found) => indexed(def, found.columns()),
            None => indexed(def, order::columns_of_distances(by)?),
        };
        let Some((column, metrics)) = indexed else { return Ok(None) };
        filters.extend(scan.filters.iter().cloned());
        let unused = |why: &str| {
            let noted = (table.unsearched() != Some(why)).then(|| table.clone().with_unsearched(why));
            Ok(noted.map(|noted| with_source(scan.clone(), Arc::new(noted))))
        };
        if let Some(why) = wanted.unfit {
            return unused(why);
        }
        if scan.fetch.is_some() {
            return unused(BELOW_LIMIT);
        }
        let Some(ByDistance { function, operands: [a, b], ascending }) = found else {
            return unused("the sort is by an expression of a distance that may have another order");
        };
        let Some(metric) = function.sorted_metric(ascending) else {
            return unused("the sort has the farthest first");
        };
        if !metrics.contains(&metric) {
            return unused(&format!("no index has the metric {}", metric.name()));
        }
        for filter in &filters {
            if !usable(filter)? {
                return unused("a condition is volatile or needs other rows");
            }
        }
        let query = if matches!(a, Expr::Column(_)) { b } else { a };
        let Some(query) = vector_of(query)? else {
            return unused("the vector compared with is no constant");
        };
        let fits =
            def.columns[column].column_type == cairn_storage::schema::ColumnType::Vector(query.len() as u16);
        if !fits {
            return unused(&format!("the vector compared with has {} dimensions", query.len()));
        }
        if let Err(error) = metric.check((&query).into()) {
            return unused(&format!("the vector compared with: {error}"));
        }
        // What the scan would have dropped early stands above it too, so one of each is enough.
        let mut distinct: Vec<Expr> = Vec::new();
        filters.into_iter().for_each(|f| {
            if !distinct.contains(&f) {
                distinct.push(f)
            }
        });
        let search = Search { table: table.clone(), column, metric, k: wanted.k, exact: false, width: None };
        let by = SortExpr::new(unqualified(by.clone())?, wanted.ascending, wanted.nulls_first);
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

impl Wanted {
    /// The same where nothing below can answer it: because of `why`, unless something above is to blame already.
    fn unfit_for(&self, why: &'static str) -> Self {
        Self { unfit: self.unfit.or(Some(why)), ..*self }
    }
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

/// What the rows of groups are sorted by, over the rows that are grouped; None: it is no matter of the groups' keys alone.
fn of_groups(aggregate: &Aggregate, by: Expr) -> Result<Option<Expr>> {
    let keys = &aggregate.group_expr;
    let is_key = |column: &&Column| {
        aggregate.schema.maybe_index_of_column(column).and_then(|index| keys.get(index)).is_some()
    };
    let are_sets = keys.iter().any(|key| matches!(key, Expr::GroupingSet(_)));
    if are_sets || !by.column_refs().iter().all(is_key) {
        return Ok(None);
    }
    through(by, &aggregate.schema, |i| keys[i].clone().unalias()).map(Some)
}

/// The first of `columns` that has indexes, by its position in the definition, and their metrics.
fn indexed<'a>(
    def: &TableDef,
    columns: impl IntoIterator<Item = &'a Column>,
) -> Option<(usize, Vec<cairn_vector::Metric>)> {
    columns.into_iter().find_map(|column| {
        let position = def.columns.iter().position(|c| c.name == column.name)?;
        let metrics = def.metrics_of(def.columns[position].id);
        (!metrics.is_empty()).then_some((position, metrics))
    })
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
