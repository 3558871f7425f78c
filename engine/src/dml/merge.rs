//! MERGE: one join of the target with its source, whose rows are told apart by a number: that of the clause that applies.
//!
//! Owns: that join, which clause takes which rows, the values it gives them. What a clause may name is planned over what it sees: both
//! sides where they matched, else the one that has a row. Does not own: what is done with the rows (`write`).
//!
//! The clauses of one kind are asked in their order, and an expression is evaluated only on rows of its clause.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, lit};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Ident, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, ObjectName, OutputClause, Query, SelectItem,
    TableAlias, TableFactor, TableWithJoins, Value, WildcardAdditionalOptions, With,
};

use super::Prepared;
use super::change::{
    assignments, column, one, plan_query, replace_scan, select, source_columns, sources_of, target_of,
    unexpected,
};
use super::insert::{check_count, default_expr, stored_value};
use super::node::{DmlNode, Operation};
use super::returning::{Returning, RowKind, TableName};
use super::target::{Target, column_ident, ident_text, split_name, syntax};
use super::with::{keep_apart, put_before};
use super::write::SharedTransaction;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::rights::Right;

/// Column of the input with the number of the clause, as BIGINT; NULL: none applies.
pub(super) const STEP: usize = 0;
/// Column with the id of the target's row; NULL: there is none.
pub(super) const ROW_ID: usize = 1;
/// First of the target's columns as they were; values of the clauses are behind them.
pub(super) const OLD: usize = 2;

/// Name of [`STEP`]'s column.
const STEP_NAME: &str = "_step";
/// The column of the source that is true where it has a row.
pub(crate) const HERE: &str = "_here";

/// What is done with the rows of one clause.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// DO NOTHING
    Nothing,
    /// DELETE
    Delete,
    /// UPDATE: columns of the table, and where in the input their new values are.
    Update(Vec<(usize, usize)>),
    /// INSERT: for each column of the table where in the input its value is.
    Insert(Vec<usize>),
}

/// Rows of the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// MATCHED
    Matched,
    /// NOT MATCHED BY TARGET
    Source,
    /// NOT MATCHED BY SOURCE
    Target,
}

impl Rows {
    const ALL: [Self; 3] = [Self::Matched, Self::Source, Self::Target];

    fn of(kind: MergeClauseKind) -> Self {
        match kind {
            MergeClauseKind::Matched => Self::Matched,
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Self::Source,
            MergeClauseKind::NotMatchedBySource => Self::Target,
        }
    }
}

/// What a clause does.
enum Action {
    Nothing,
    Delete,
    Update(Vec<(usize, SqlExpr)>),
    /// Columns with their values; the others get their defaults.
    Insert(Vec<(usize, SqlExpr)>),
}

impl Action {
    fn values(&self) -> &[(usize, SqlExpr)] {
        match self {
            Self::Nothing | Self::Delete => &[],
            Self::Update(values) | Self::Insert(values) => values,
        }
    }
}

struct Clause {
    rows: Rows,
    condition: Option<SqlExpr>,
    action: Action,
}

/// A MERGE taken apart.
pub(super) struct Merged {
    pub(super) target: Target,
    with: Option<With>,
    table: TableFactor,
    /// With the column [`HERE`], under a name of its own.
    source: TableFactor,
    source_name: Ident,
    on: SqlExpr,
    clauses: Vec<Clause>,
    alias: Option<Ident>,
    /// Target and source, where they are known by schema and name.
    tables: Vec<TableName>,
    returning: Option<Vec<SelectItem>>,
}

impl Merged {
    /// Reads MERGE and asks for every right that its clauses need.
    pub(super) fn read(ctx: &StatementContext, with: Option<With>, merge: Merge) -> Result<Self> {
        if !merge.optimizer_hints.is_empty() {
            return Err(Error::not_supported_yet("hints of MERGE"));
        }
        let returning = match merge.output {
            None => None,
            Some(OutputClause::Returning { select_items, .. }) => Some(select_items),
            Some(OutputClause::Output { .. }) => {
                return Err(
                    Error::not_supported_yet("OUTPUT of MERGE").map(|e| e.with_hint("write RETURNING …"))
                );
            }
        };
        if merge.clauses.is_empty() {
            return Err(syntax("MERGE needs a WHEN clause"));
        }
        let mut table = TableWithJoins { relation: merge.table, joins: Vec::new() };
        let (target, alias) = target_of(ctx, &table, Right::Select)?;
        keep_apart(with.as_ref(), &mut table.relation, &target.def.schema);
        let mut clauses: Vec<Clause> = Vec::new();
        for clause in merge.clauses {
            let clause = read_clause(ctx, &target, clause)?;
            if clauses.iter().any(|earlier| earlier.rows == clause.rows && earlier.condition.is_none()) {
                return Err(syntax("a WHEN clause of MERGE stands behind one that takes all of its rows")
                    .map(|e| e.with_hint("give the earlier one a condition: WHEN … AND …")));
            }
            clauses.push(clause);
        }
        let mut tables = target.named_by(alias.as_ref());
        if let TableFactor::Table { name, alias: None, args: None, .. } = &merge.source {
            tables.push(split_name(name, &ctx.search_path)?);
        }
        let (source, source_name) = wrapped(merge.source)?;
        let (table, on) = (table.relation, *merge.on);
        Ok(Self { target, with, table, source, source_name, on, clauses, alias, tables, returning })
    }

    /// Plans its RETURNING over the rows of `plan`, which is that of the join.
    pub(super) fn returning(
        &mut self,
        ctx: &StatementContext,
        plan: &LogicalPlan,
    ) -> Result<Option<Returning>> {
        let (alias, items) = (self.alias.as_ref(), self.returning.take());
        let mut sources = source_columns(plan, &self.target.qualifier(alias));
        sources.retain(|(_, field)| field.name() != HERE);
        Returning::plan(ctx, &self.target, alias, items, RowKind::Merged, &self.tables, sources)
    }

    /// The columns that get a value, and the value.
    pub(super) fn assigned(&self) -> impl Iterator<Item = (usize, &SqlExpr)> {
        self.clauses.iter().flat_map(|clause| clause.action.values()).map(|(column, value)| (*column, value))
    }

    /// The SELECTs that its expressions are planned in: over the join first, then the source, the target.
    pub(super) fn queries(&self) -> Result<Vec<Query>> {
        self.asked().map(|rows| self.query(rows)).collect()
    }

    /// The rows that there is a SELECT for: the join is needed in any case.
    fn asked(&self) -> impl Iterator<Item = Rows> {
        Rows::ALL.into_iter().filter(|rows| *rows == Rows::Matched || self.take(*rows))
    }

    /// Whether a clause takes these rows.
    fn take(&self, rows: Rows) -> bool {
        self.clauses.iter().any(|clause| clause.rows == rows)
    }

    /// The SELECT of the conditions and values of the clauses that take `rows`.
    fn query(&self, rows: Rows) -> Result<Query> {
        let of = |relation: &TableFactor| TableWithJoins { relation: relation.clone(), joins: Vec::new() };
        let from = match rows {
            Rows::Source => of(&self.source),
            Rows::Target => of(&self.table),
            Rows::Matched => {
                let on = JoinConstraint::On(self.on.clone());
                let join_operator = match (self.take(Rows::Source), self.take(Rows::Target)) {
                    (false, false) => JoinOperator::Inner(on),
                    (true, false) => JoinOperator::Right(on),
                    (false, true) => JoinOperator::Left(on),
                    (true, true) => JoinOperator::FullOuter(on),
                };
                let join = Join { relation: self.source.clone(), global: false, join_operator };
                TableWithJoins { relation: self.table.clone(), joins: vec![join] }
            }
        };
        let clauses = self.clauses.iter().filter(|clause| clause.rows == rows);
        let exprs = clauses.flat_map(|clause| {
            clause.condition.iter().chain(clause.action.values().iter().map(|(_, value)| value))
        });
        let mut items: Vec<SelectItem> = exprs
            .enumerate()
            .map(|(i, expr)| SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::with_quote('"', format!("_value{i}")),
            })
            .collect();
        if items.is_empty() {
            items.push(one());
        }
        Ok(put_before(self.with.clone(), select(items, vec![from], None, None)?))
    }
}

/// Plans MERGE.
pub(super) async fn prepare(ctx: &StatementContext, with: Option<With>, merge: Merge) -> Result<Prepared> {
    let mut merged = Merged::read(ctx, with, merge)?;
    let join = plan_query(ctx, merged.query(Rows::Matched)?).await?;
    let returning = merged.returning(ctx, &join)?;
    let join = projection(join)?;
    let (joined, table) = replace_scan(&join.input, &merged.target, "MERGE")?;
    let mut exprs = Vec::new();
    for rows in merged.asked() {
        let planned = match rows {
            Rows::Matched => join.expr.clone(),
            Rows::Source | Rows::Target => {
                let plan = projection(plan_query(ctx, merged.query(rows)?).await?)?;
                match plan.input.as_ref() {
                    LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => {}
                    other => return Err(unexpected(other, "MERGE")),
                }
                plan.expr
            }
        };
        exprs.push((rows, planned.into_iter().map(Expr::unalias).collect::<Vec<_>>().into_iter()));
    }
    let mut planned = Vec::with_capacity(merged.clauses.len());
    for clause in &merged.clauses {
        // In the order of the query's items.
        let mut next = || {
            let of = exprs.iter_mut().find(|(rows, _)| *rows == clause.rows);
            of.and_then(|(_, exprs)| exprs.next())
                .ok_or_else(|| Error::new(ErrorKind::Internal, "the plan of MERGE lost an expression"))
        };
        let condition = clause.condition.as_ref().map(|_| next()).transpose()?;
        if let Some(condition) = &condition
            && !matches!(condition.get_type(joined.schema())?, DataType::Boolean | DataType::Null)
        {
            return Err(syntax("what follows AND in a WHEN clause of MERGE must be a condition")
                .map(|e| e.with_sqlstate("42804")));
        }
        let mut values = Vec::new();
        for (column, _) in clause.action.values() {
            values.push((*column, next()?));
        }
        if let Action::Insert(_) = clause.action {
            for (index, column) in merged.target.def.columns.iter().enumerate() {
                if !values.iter().any(|(given, _)| *given == index) {
                    values.push((index, default_expr(ctx, column)?));
                }
            }
            values.sort_by_key(|(index, _)| *index);
        }
        planned.push(Planned { clause, condition, values });
    }
    let source = TableReference::bare(ident_text(&merged.source_name));
    let numbered = numbered(joined, &planned, &table, &source)?;
    let (input, steps, returned) = laid_out(numbered, &planned, &merged.target, &table, returning.as_ref())?;
    let target = merged.target.clone();
    let (transaction, id) = (SharedTransaction::new(ctx), target.def.id);
    let operation = Operation::Merge { steps: steps.into(), returned };
    let collect = returning.as_ref().map(Returning::sources);
    let plan = DmlNode::new(ctx, target, operation, input, transaction.clone(), collect)?.into_plan();
    // A key that others insert meanwhile is a conflict by itself; one that was there is the statement's mistake.
    Ok(Prepared { verb: "MERGE", table: id, plan, transaction, returning, retry_duplicates: false })
}

/// A clause with its expressions over the join.
struct Planned<'a> {
    clause: &'a Clause,
    condition: Option<Expr>,
    /// Of INSERT one for each column, in their order.
    values: Vec<(usize, Expr)>,
}

/// The join's rows with the number of the clause that takes each.
fn numbered(
    joined: LogicalPlan,
    planned: &[Planned<'_>],
    table: &TableReference,
    source: &TableReference,
) -> Result<LogicalPlan> {
    let mut by_rows = Vec::new();
    for rows in Rows::ALL {
        let own = (0_i64..).zip(planned).filter(|(_, p)| p.clause.rows == rows);
        let whens: Vec<_> =
            own.map(|(i, p)| (p.condition.clone().unwrap_or_else(|| lit(true)), lit(i))).collect();
        if whens.is_empty() {
            continue;
        }
        let (row, here) = (column(table, ROW_ID_COLUMN), column(source, HERE));
        let are = match rows {
            Rows::Matched => row.is_not_null().and(here.is_not_null()),
            Rows::Source => row.is_null(),
            Rows::Target => here.is_null(),
        };
        by_rows.push((are, case(whens)));
    }
    let mut exprs: Vec<Expr> = joined.schema().columns().into_iter().map(Expr::Column).collect();
    exprs.push(case(by_rows).alias(STEP_NAME));
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?))
}

/// The input of the change, what it does with each number, and where it has what RETURNING reads.
fn laid_out(
    numbered: LogicalPlan,
    planned: &[Planned<'_>],
    target: &Target,
    table: &TableReference,
    returning: Option<&Returning>,
) -> Result<(LogicalPlan, Vec<Step>, Option<usize>)> {
    let number = || Expr::Column(Column::new_unqualified(STEP_NAME));
    let mut exprs = vec![number(), column(table, ROW_ID_COLUMN).alias(ROW_ID_COLUMN)];
    let columns = target.def.columns.iter().enumerate();
    exprs.extend(columns.map(|(i, c)| column(table, &c.name).alias(format!("_old{i}"))));
    let mut steps = Vec::with_capacity(planned.len());
    for (i, Planned { clause, values, .. }) in (0_i64..).zip(planned) {
        let mut places = Vec::with_capacity(values.len());
        for (column, value) in values {
            let place = exprs.len();
            places.push((*column, place));
            let value = match value {
                // Nothing to evaluate, and no type to give it.
                Expr::Literal(..) => value.clone(),
                _ => case(vec![(number().eq(lit(i)), value.clone())]),
            };
            exprs.push(value.alias(format!("_new{place}")));
        }
        steps.push(match clause.action {
            Action::Nothing => Step::Nothing,
            Action::Delete => Step::Delete,
            Action::Update(_) => Step::Update(places),
            Action::Insert(_) => Step::Insert(places.into_iter().map(|(_, place)| place).collect()),
        });
    }
    let returned = returning.map(|_| exprs.len());
    if returning.is_some() {
        exprs.push(column(table, VERSION_COLUMN).alias(VERSION_COLUMN));
        exprs.extend(sources_of(returning));
    }
    Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(numbered))?), steps, returned))
}

/// `CASE WHEN … THEN … END`
fn case(whens: Vec<(Expr, Expr)>) -> Expr {
    let whens = whens.into_iter().map(|(when, then)| (Box::new(when), Box::new(then)));
    Expr::Case(Case::new(None, whens.collect(), None))
}

fn projection(plan: LogicalPlan) -> Result<Projection> {
    match plan {
        LogicalPlan::Projection(projection) => Ok(projection),
        other => Err(unexpected(&other, "MERGE")),
    }
}

fn read_clause(ctx: &StatementContext, target: &Target, clause: MergeClause) -> Result<Clause> {
    let may = |right| ctx.rights.table(right, &target.def);
    let action = match clause.action {
        MergeAction::Delete { .. } => {
            may(Right::Delete)?;
            Action::Delete
        }
        // How the grammar hands DO NOTHING on.
        MergeAction::Update(update) if update.assignments.is_empty() => Action::Nothing,
        MergeAction::Update(update) => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                return Err(Error::not_supported_yet("WHERE and DELETE WHERE in a clause of MERGE")
                    .map(|e| e.with_hint("write WHEN MATCHED AND … THEN …")));
            }
            may(Right::Update)?;
            Action::Update(assignments(target, update.assignments)?)
        }
        MergeAction::Insert(insert) => {
            may(Right::Insert)?;
            Action::Insert(inserted(target, insert)?)
        }
    };
    Ok(Clause { rows: Rows::of(clause.clause_kind), condition: clause.predicate, action })
}

/// The columns of an INSERT that are given, with their values.
fn inserted(target: &Target, insert: MergeInsertExpr) -> Result<Vec<(usize, SqlExpr)>> {
    if insert.insert_predicate.is_some() {
        return Err(Error::not_supported_yet("WHERE in a clause of MERGE")
            .map(|e| e.with_hint("write WHEN NOT MATCHED AND … THEN …")));
    }
    let MergeInsertKind::Values(values) = insert.kind else {
        return Err(Error::not_supported_yet("INSERT ROW"));
    };
    let mut rows = values.rows.into_iter().map(|row| row.content);
    let row = match (rows.next(), rows.next()) {
        // DEFAULT VALUES
        (None, _) => return Ok(Vec::new()),
        (Some(row), None) => row,
        (Some(_), Some(_)) => return Err(syntax("INSERT of MERGE has one row of VALUES")),
    };
    let named = insert.columns.iter().map(column_ident).collect::<Result<Vec<_>>>()?;
    let columns = match named.is_empty() {
        true => (0..target.def.columns.len()).collect(),
        false => target.columns(named.into_iter())?,
    };
    check_count(row.len(), columns.len())?;
    let values = columns.into_iter().zip(row);
    values.map(|(column, value)| Ok((column, stored_value(target.column_def(column), value)?))).collect()
}

/// `(SELECT *, true AS _here FROM source) AS name`
fn wrapped(source: TableFactor) -> Result<(TableFactor, Ident)> {
    let name = match &source {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => alias.name.clone(),
        TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => called(name)?,
        TableFactor::Derived { .. } | TableFactor::TableFunction { .. } | TableFactor::UNNEST { .. } => {
            Ident::with_quote('"', "_source")
        }
        _ => {
            return Err(Error::not_supported_yet("this form of source in MERGE")
                .map(|e| e.with_hint("write USING (SELECT …) AS s")));
        }
    };
    let here = SelectItem::ExprWithAlias {
        expr: SqlExpr::value(Value::Boolean(true)),
        alias: Ident::with_quote('"', HERE),
    };
    let items = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default()), here];
    let from = TableWithJoins { relation: source, joins: Vec::new() };
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(select(items, vec![from], None, None)?),
        alias: Some(TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None }),
        sample: None,
    };
    Ok((derived, name))
}

/// What a table or function without an alias is called; a file by its path.
fn called(name: &ObjectName) -> Result<Ident> {
    let last = column_ident(name)?;
    Ok(Ident::with_quote('"', ident_text(last)))
}
