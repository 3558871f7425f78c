//! RETURNING: expressions over the affected rows.
//!
//! Owns: their planning and evaluation. Errors of an expression stop the statement before it commits; the row ids and
//! version that only the commit gives are filled in after it. Does not own: collecting the rows (`write`).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_storage::id::{CommitVersion, RowId};
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use cairn_storage::{ErrorKind, Snapshot};
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef, UInt64Type};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, Function, FunctionArguments, Ident, SelectItem,
    SelectItemQualifiedWildcardKind,
};

use super::assign::arrow;
use super::node::{ACTION, action_field, with_pseudo_columns};
use super::physical_expr;
use super::target::{Target, ident_text, split_name, syntax};
use crate::catalog::CATALOG;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::statement::computed_name;
use crate::statement::walk;

/// Which rows a statement returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    /// Those it wrote: their ids and version come with the commit.
    New,
    /// Those it deleted: collected with their pseudo-columns.
    Old,
    /// Both: collected with pseudo-columns, which are NULL of those it wrote, and with what was done.
    Merged,
}

/// What the column of `merge_action()` is of.
const ACTION_OF: &str = "_merge";

/// A column of FROM or USING under the name that the statement has for it.
pub(super) type SourceColumn = (Option<TableReference>, FieldRef);
/// Schema and name of a table without an alias.
pub(super) type TableName = (String, String);
/// Those of a statement, in the order of its plan.
pub(super) type SourceColumns = Vec<SourceColumn>;

/// A planned RETURNING clause with the rows it will show.
pub(super) struct Returning {
    kind: RowKind,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Columns of the answer.
    output: SchemaRef,
    /// The table's columns with the pseudo-columns, of MERGE what was done, then those of `sources`.
    input: SchemaRef,
    /// How many columns the table has.
    width: usize,
    /// Columns of FROM or USING; empty when no expression reads one.
    sources: SourceColumns,
    /// Whether an expression reads a pseudo-column.
    pseudo: bool,
    affected: Vec<RecordBatch>,
    shown: Vec<RecordBatch>,
}

impl Returning {
    /// Plans the clause, if there is one, over the table's columns and `sources`.
    pub(super) fn plan(
        ctx: &StatementContext,
        target: &Target,
        alias: Option<&Ident>,
        items: Option<Vec<SelectItem>>,
        kind: RowKind,
        tables: &[TableName],
        mut sources: SourceColumns,
    ) -> Result<Option<Self>> {
        let Some(items) = items else { return Ok(None) };
        let qualifier = target.qualifier(alias);
        for (_, field) in &mut sources {
            // An outer join may have made it so.
            *field = Arc::new(field.as_ref().clone().with_nullable(true));
        }
        let own = with_pseudo_columns(&target.def.arrow_schema());
        let mut qualified: Vec<SourceColumn> =
            own.fields().iter().map(|field| (Some(qualifier.clone()), Arc::clone(field))).collect();
        let pseudo_columns = target.def.columns.len()..qualified.len();
        if kind == RowKind::Merged {
            qualified.push((Some(TableReference::bare(ACTION_OF)), Arc::new(action_field())));
        }
        let first_source = qualified.len();
        qualified.extend(sources.iter().cloned());
        let schema = DFSchema::new_with_metadata(qualified, HashMap::new())?;
        let mut input = Arc::clone(schema.inner());
        let (mut exprs, mut fields, mut pseudo, mut joined) = (Vec::new(), Vec::new(), false, false);
        let sources_first = kind == RowKind::Merged;
        for (name, mut expr) in expand(target, (qualifier.table(), tables), &sources, sources_first, items)? {
            if kind == RowKind::Merged {
                name_actions(&mut expr);
            }
            name_pseudo_columns(&mut expr, qualifier.table());
            refuse_other_schemas(&expr, &schema, tables)?;
            let expr = plan_expr(ctx, expr, &schema)?;
            for column in expr.column_refs() {
                if column.relation.is_none() {
                    // The planner leaves the name of several columns as it is, and takes the first of them.
                    schema.qualified_field_with_unqualified_name(&column.name)?;
                }
                let place = schema.index_of_column(column)?;
                pseudo |= pseudo_columns.contains(&place);
                joined |= place >= first_source;
            }
            let name = name.unwrap_or_else(|| match &expr {
                Expr::Column(column) => column.name.clone(),
                Expr::Alias(alias) => alias.name.clone(),
                other => other.schema_name().to_string(),
            });
            let physical = physical_expr(&ctx.state, expr, &schema)?;
            fields.push(Field::new(name, physical.data_type(&input)?, physical.nullable(&input)?));
            exprs.push(physical);
        }
        let output = Arc::new(Schema::new(fields));
        if !joined {
            sources.clear();
            input = Arc::new(Schema::new(input.fields()[..first_source].to_vec()));
        }
        let (width, affected, shown) = (target.def.columns.len(), Vec::new(), Vec::new());
        Ok(Some(Self { kind, exprs, output, input, width, sources, pseudo, affected, shown }))
    }

    /// The columns of FROM or USING that the affected rows must come with.
    pub(super) fn sources(&self) -> &[SourceColumn] {
        &self.sources
    }

    /// Columns of the answer.
    pub(super) fn columns(&self) -> &SchemaRef {
        &self.output
    }

    /// Takes the affected rows and evaluates them, before the commit.
    pub(super) fn collect(&mut self, batches: Vec<RecordBatch>, snapshot: &Snapshot) -> Result<()> {
        self.affected = batches;
        self.shown = self.evaluate(snapshot.version().next(), RowId(0))?;
        Ok(())
    }

    /// Affected rows.
    pub(super) fn rows(&self) -> u64 {
        self.affected.iter().map(|b| b.num_rows() as u64).sum()
    }

    /// Whether it shows row ids or versions that only the commit gives.
    pub(super) fn names_new_ids(&self) -> bool {
        self.pseudo && self.kind != RowKind::Old
    }

    /// The rows to show, now that the commit has given `version` and row ids from `first` on.
    pub(super) fn finish(
        self,
        version: CommitVersion,
        first: RowId,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let shown = if self.names_new_ids() { self.evaluate(version, first)? } else { self.shown };
        Ok((self.output, shown))
    }

    fn evaluate(&self, version: CommitVersion, first: RowId) -> Result<Vec<RecordBatch>> {
        let mut next = first.0;
        let mut shown = Vec::with_capacity(self.affected.len());
        for batch in &self.affected {
            let rows = batch.num_rows();
            let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
            match self.kind {
                RowKind::Old => {}
                RowKind::New => {
                    let ids = UInt64Array::from_iter_values(next..next + rows as u64);
                    columns.insert(self.width, Arc::new(ids));
                    columns.insert(self.width + 1, Arc::new(UInt64Array::from_value(version.0, rows)));
                    next += rows as u64;
                }
                RowKind::Merged => {
                    let mut new_id = || {
                        let id = next;
                        next += 1;
                        id
                    };
                    columns[self.width] = filled(&columns[self.width], &mut new_id)?;
                    columns[self.width + 1] = filled(&columns[self.width + 1], &mut || version.0)?;
                }
            }
            let batch = RecordBatch::try_new(Arc::clone(&self.input), columns).map_err(arrow)?;
            let columns = self
                .exprs
                .iter()
                .map(|e| Ok(e.evaluate(&batch)?.into_array(rows)?))
                .collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            shown.push(
                RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)
                    .map_err(arrow)?,
            );
        }
        Ok(shown)
    }
}

/// `numbers` with one that `next` gives in the place of each NULL.
fn filled(numbers: &ArrayRef, next: &mut dyn FnMut() -> u64) -> Result<ArrayRef> {
    let numbers = numbers
        .as_primitive_opt::<UInt64Type>()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the plan of MERGE lost its pseudo-columns"))?;
    let filled = numbers.iter().map(|number| number.unwrap_or_else(&mut *next));
    Ok(Arc::new(UInt64Array::from_iter_values(filled)))
}

/// `merge_action()` is a column of the rows.
fn name_actions(expr: &mut SqlExpr) {
    let _: ControlFlow<()> = walk::expressions_mut(expr, |expr| {
        if let SqlExpr::Function(function) = expr
            && is_action(function)
        {
            *expr = SqlExpr::CompoundIdentifier(vec![quoted(ACTION_OF), quoted(ACTION)]);
        }
        ControlFlow::Continue(())
    });
}

fn is_action(function: &Function) -> bool {
    let is_empty = match &function.args {
        FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    };
    let plain = function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
    let name = match function.name.0.as_slice() {
        [name] => name.as_ident().map(ident_text),
        _ => None,
    };
    is_empty && plain && name.as_deref() == Some("merge_action")
}

/// `_row_id` and `_version` are those of the changed table, also where FROM or USING have their own.
fn name_pseudo_columns(expr: &mut SqlExpr, table: &str) {
    let _: ControlFlow<()> = walk::expressions_mut(expr, |expr| {
        if let SqlExpr::Identifier(name) = expr
            && [ROW_ID_COLUMN, VERSION_COLUMN].contains(&ident_text(name).as_str())
        {
            *expr = SqlExpr::CompoundIdentifier(vec![quoted(table), name.clone()]);
        }
        ControlFlow::Continue(())
    });
}

/// Refuses a schema before the name of another one's table, or before an alias: the planner would not look at it. `tables` are those
/// without an alias.
pub(super) fn refuse_other_schemas(expr: &SqlExpr, schema: &DFSchema, tables: &[TableName]) -> Result<()> {
    let is_bare = |table: &str| {
        schema
            .iter()
            .any(|(qualifier, _)| qualifier.is_some_and(|q| q.schema().is_none() && q.table() == table))
    };
    let flow = walk::expressions(expr, |expr| {
        let SqlExpr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let parts: Vec<String> = parts.iter().map(ident_text).collect();
        let (of, table) = match parts.as_slice() {
            [catalog, of, table, _, ..] if catalog == CATALOG => (of, table),
            [of, table, _, ..] => (of, table),
            _ => return ControlFlow::Continue(()),
        };
        let is_meant = tables.iter().any(|(schema, name)| schema == of && name == table);
        if is_meant || !is_bare(table) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(format!("{of}.{table}"))
        }
    });
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) => Err(no_table(&name)),
    }
}

fn no_table(name: &str) -> Error {
    syntax(format!("\"{name}\" is not a table of this statement")).map(|e| e.with_sqlstate("42P01"))
}

/// One expression over rows at hand: no subqueries, no aggregates.
pub(super) fn plan_expr(ctx: &StatementContext, expr: SqlExpr, schema: &DFSchema) -> Result<Expr> {
    if contains_query(&expr) {
        return Err(Error::not_supported_yet("a subquery in RETURNING or ON CONFLICT"));
    }
    let expr = ctx.state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, schema)?;
    let mut refused = None;
    expr.apply(|e| {
        refused = match e {
            Expr::AggregateFunction(_) => Some(("aggregate", "42803")),
            Expr::WindowFunction(_) => Some(("window", "42P20")),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match refused {
        Some((what, state)) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{what} functions are not allowed in RETURNING or ON CONFLICT"),
        )
        .map(|e| e.with_sqlstate(state))),
        None => Ok(expr),
    }
}

fn contains_query(expr: &SqlExpr) -> bool {
    let flow = walk::expressions(expr, |e| match e {
        SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// The items with `*` written out, of MERGE with `sources_first`; a name where the user gave one.
fn expand(
    target: &Target,
    (table, tables): (&str, &[TableName]),
    sources: &[SourceColumn],
    sources_first: bool,
    items: Vec<SelectItem>,
) -> Result<Vec<(Option<String>, SqlExpr)>> {
    let own = move || {
        let columns = target.def.columns.iter();
        columns.map(move |c| (None, SqlExpr::CompoundIdentifier(vec![quoted(table), quoted(&c.name)])))
    };
    // Of one table of FROM or USING, or of all.
    let joined = move |of: Option<(Option<(String, bool)>, String)>| {
        let columns = sources.iter().filter(move |(qualifier, field)| {
            let is_pseudo = [ROW_ID_COLUMN, VERSION_COLUMN].contains(&field.name().as_str());
            let of_table = of.as_ref().is_none_or(|(schema, table)| {
                qualifier.as_ref().is_some_and(|q| {
                    let is_of = |(schema, is_known): &(String, bool)| match q.schema() {
                        Some(own) => own == schema,
                        None => *is_known,
                    };
                    q.table() == table && schema.as_ref().is_none_or(is_of)
                })
            });
            of_table && !is_pseudo
        });
        columns.map(|(qualifier, field)| {
            let name = quoted(field.name());
            let expr = match qualifier {
                Some(qualifier) => SqlExpr::CompoundIdentifier(vec![quoted(qualifier.table()), name]),
                None => SqlExpr::Identifier(name),
            };
            (None, expr)
        })
    };
    let mut expanded = Vec::new();
    for item in items {
        match item {
            SelectItem::Wildcard(_) if sources_first => expanded.extend(joined(None).chain(own())),
            SelectItem::Wildcard(_) => expanded.extend(own().chain(joined(None))),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let (schema, last) = split_name(&name, &target.def.schema)?;
                let is_qualified = name.0.len() > 1;
                let is_known = tables.iter().any(|(of, name)| *of == schema && *name == last);
                if last == table && (!is_qualified || is_known && schema == target.def.schema) {
                    expanded.extend(own());
                    continue;
                }
                let before = expanded.len();
                expanded.extend(joined(Some((is_qualified.then_some((schema, is_known)), last))));
                if expanded.len() == before {
                    return Err(no_table(&name.to_string()));
                }
            }
            SelectItem::UnnamedExpr(mut expr) => expanded.push((computed_name(&mut expr), expr)),
            SelectItem::ExprWithAlias { expr, alias } => expanded.push((Some(ident_text(&alias)), expr)),
            SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                return Err(Error::not_supported_yet("this form of RETURNING"));
            }
        }
    }
    Ok(expanded)
}
