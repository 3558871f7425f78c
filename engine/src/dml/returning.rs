//! RETURNING: expressions over the affected rows.
//!
//! Owns: their planning and evaluation. Errors of an expression stop the statement before it commits; the row ids and
//! version that only the commit gives are filled in after it. Does not own: collecting the rows (`write`).

use std::sync::Arc;

use cairn_storage::id::{CommitVersion, RowId};
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use cairn_storage::{ErrorKind, Snapshot};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, Ident, SelectItem, SelectItemQualifiedWildcardKind,
};

use super::assign::arrow;
use super::node::with_pseudo_columns;
use super::physical_expr;
use super::target::{Target, ident_text, syntax};
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::statement::computed_name;

/// Which rows a statement returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    /// Those it wrote: their ids and version come with the commit.
    New,
    /// Those it deleted: collected with their pseudo-columns.
    Old,
}

/// A planned RETURNING clause with the rows it will show.
pub(super) struct Returning {
    kind: RowKind,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Columns of the answer.
    output: SchemaRef,
    /// The table's columns with the pseudo-columns.
    input: SchemaRef,
    /// Whether an expression reads a pseudo-column.
    pseudo: bool,
    affected: Vec<RecordBatch>,
    shown: Vec<RecordBatch>,
}

impl Returning {
    /// Plans the clause, if there is one.
    pub(super) fn plan(
        ctx: &StatementContext,
        target: &Target,
        alias: Option<&Ident>,
        items: Option<Vec<SelectItem>>,
        kind: RowKind,
    ) -> Result<Option<Self>> {
        let Some(items) = items else { return Ok(None) };
        let input = Arc::new(with_pseudo_columns(&target.def.arrow_schema()));
        let qualifier = target.qualifier(alias);
        let schema = DFSchema::try_from_qualified_schema(qualifier.clone(), &input)?;
        let (mut exprs, mut fields, mut pseudo) = (Vec::new(), Vec::new(), false);
        for (name, expr) in expand(target, qualifier.table(), items)? {
            let expr = plan_expr(ctx, expr, &schema)?;
            pseudo |= expr.column_refs().iter().any(|c| c.name == ROW_ID_COLUMN || c.name == VERSION_COLUMN);
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
        Ok(Some(Self { kind, exprs, output, input, pseudo, affected: Vec::new(), shown: Vec::new() }))
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
        self.pseudo && self.kind == RowKind::New
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
            if self.kind == RowKind::New {
                columns.push(Arc::new(UInt64Array::from_iter_values(next..next + rows as u64)));
                columns.push(Arc::new(UInt64Array::from_value(version.0, rows)));
                next += rows as u64;
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
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::visit_expressions;
    let flow = visit_expressions(expr, |e| match e {
        SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

/// The items with `*` written out; a name where the user gave one.
fn expand(target: &Target, table: &str, items: Vec<SelectItem>) -> Result<Vec<(Option<String>, SqlExpr)>> {
    let all =
        || target.def.columns.iter().map(|c| (None, SqlExpr::Identifier(Ident::with_quote('"', &c.name))));
    let mut expanded = Vec::new();
    for item in items {
        match item {
            SelectItem::Wildcard(_) => expanded.extend(all()),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let last = name.0.last().and_then(|p| p.as_ident()).map(ident_text);
                if last.as_deref() != Some(table) {
                    return Err(syntax(format!("\"{name}\" is not the table of this statement"))
                        .map(|e| e.with_sqlstate("42P01")));
                }
                expanded.extend(all());
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
