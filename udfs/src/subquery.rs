//! Scalar subqueries that may find no row.
//!
//! Owns: the function that says that they may be NULL, and the analyzer rule that puts it around them. Does not own: running them.
//!
//! DataFusion 55 takes a scalar subquery for as nullable as its column, although one that finds no row is NULL. Where n is NOT NULL it
//! makes false of `(SELECT n FROM t WHERE id = 99) IS NULL`, and an error of the value itself.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, Result, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Subquery, Union, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Says of every scalar subquery that may find no row that it may be NULL. Runs when types are settled.
#[derive(Debug)]
pub struct EmptySubqueries {
    or_null: Arc<ScalarUDF>,
}

impl Default for EmptySubqueries {
    fn default() -> Self {
        Self { or_null: Arc::new(or_null()) }
    }
}

impl AnalyzerRule for EmptySubqueries {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let mut changed = false;
        let said = plan.transform_up_with_subqueries(|plan| {
            let plan = plan.map_expressions(|expr| self.rewrite(expr))?;
            changed |= plan.transformed;
            match changed {
                // What stands above a value that may be NULL now must know of it.
                true => plan.map_data(with_new_nulls),
                false => Ok(plan),
            }
        });
        let mut plan = said.data()?;
        // So must subqueries that read it; what they make of it may be NULL then, and be read by others. Each time round there is one
        // reference less that takes its column for never NULL.
        while changed {
            let told = tell(plan, &[])?;
            changed = told.transformed;
            plan = told.data;
        }
        Ok(plan)
    }

    fn name(&self) -> &'static str {
        "empty_subqueries"
    }
}

impl EmptySubqueries {
    fn rewrite(&self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_down(|expr| {
            let is_list = matches!(&expr, Expr::InList(list) if matches!(list.list.as_slice(), [Expr::ScalarSubquery(_)]));
            if is_list {
                // IN of the subquery's rows: the optimizer makes it so.
                return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
            }
            let is_meant = matches!(&expr, Expr::ScalarSubquery(subquery) if is_denied_null(subquery));
            if !is_meant {
                return Ok(Transformed::no(expr));
            }
            let call = ScalarFunction::new_udf(Arc::clone(&self.or_null), vec![expr]);
            Ok(Transformed::new(Expr::ScalarFunction(call), true, TreeNodeRecursion::Jump))
        })
    }
}

/// `plan` with a schema that knows where its inputs and expressions may be NULL.
fn with_new_nulls(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan.recompute_schema()? {
        // It keeps what it has.
        LogicalPlan::Union(Union { inputs, schema }) => {
            let may_be_null = |i: usize| {
                inputs.iter().any(|input| input.schema().fields().get(i).is_some_and(|f| f.is_nullable()))
            };
            let fields = schema.iter().enumerate().map(|(i, (qualifier, field))| {
                let nullable = field.is_nullable() || may_be_null(i);
                (qualifier.cloned(), Arc::new(field.as_ref().clone().with_nullable(nullable)))
            });
            let schema = DFSchema::new_with_metadata(fields.collect(), schema.as_arrow().metadata().clone())?;
            Ok(LogicalPlan::Union(Union { inputs, schema: Arc::new(schema) }))
        }
        other => Ok(other),
    }
}

/// `plan` with subqueries that know what may be NULL in the plans around them; `around` are the schemas of those around `plan`, the nearest
/// last.
fn tell(plan: LogicalPlan, around: &[Arc<DFSchema>]) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    plan.transform_up(|plan| {
        let own = match plan {
            LogicalPlan::Subquery(subquery) => {
                let known = subquery.outer_ref_columns.into_iter().map(|expr| read(expr, around).data);
                Transformed::no(LogicalPlan::Subquery(Subquery {
                    outer_ref_columns: known.collect(),
                    ..subquery
                }))
            }
            plan => plan.map_expressions(|expr| expr.transform_up(|expr| Ok(read(expr, around))))?,
        };
        let told = own.transform_data(|plan| {
            let mut around = around.to_vec();
            around.push(Arc::new(merge_schema(&plan.inputs())));
            plan.map_subqueries(|subquery| tell(subquery, &around))
        })?;
        changed |= told.transformed;
        match changed {
            true => told.map_data(with_new_nulls),
            false => Ok(told),
        }
    })
}

/// A reference to a column of a plan around, which may be NULL where that column may be.
fn read(expr: Expr, around: &[Arc<DFSchema>]) -> Transformed<Expr> {
    match expr {
        Expr::OuterReferenceColumn(field, column) if !field.is_nullable() => {
            let of = around.iter().rev().find_map(|schema| schema.field_from_column(&column).ok());
            if of.is_none_or(|of| !of.is_nullable()) {
                return Transformed::no(Expr::OuterReferenceColumn(field, column));
            }
            let field = Arc::new(field.as_ref().clone().with_nullable(true));
            Transformed::yes(Expr::OuterReferenceColumn(field, column))
        }
        other => Transformed::no(other),
    }
}

/// Whether a subquery is taken for never NULL and may find no row.
fn is_denied_null(subquery: &Subquery) -> bool {
    let fields = subquery.subquery.schema().fields();
    fields.first().is_some_and(|field| !field.is_nullable()) && !finds_a_row(&subquery.subquery)
}

/// Whether a plan has a row whatever stands in the tables.
fn finds_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => finds_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => finds_a_row(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => finds_a_row(&sort.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(relation) => relation.produce_one_row,
        _ => false,
    }
}

/// Its argument, which may be NULL.
pub(crate) fn or_null() -> ScalarUDF {
    ScalarUDF::from(OrNull { signature: Signature::any(1, Volatility::Immutable) })
}

/// Whether `function` is [`or_null`].
pub(crate) fn is_or_null(function: &ScalarUDF) -> bool {
    function.inner().is::<OrNull>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull {
    signature: Signature,
}

impl ScalarUDFImpl for OrNull {
    fn name(&self) -> &str {
        "or_null"
    }

    /// That of its argument: columns keep their names.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [arg] => Ok(arg.schema_name().to_string()),
            _ => exec_err!("or_null takes one argument"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [arg] => Ok(arg.clone()),
            _ => exec_err!("or_null takes one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields {
            [arg] => Ok(Arc::new(arg.as_ref().clone().with_nullable(true))),
            _ => exec_err!("or_null takes one argument"),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match <[ColumnarValue; 1]>::try_from(args.args) {
            Ok([arg]) => Ok(arg),
            Err(_) => exec_err!("or_null takes one argument"),
        }
    }

    /// A subquery that became a column of an outer join needs it no more.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match <[Expr; 1]>::try_from(args) {
            Ok([arg])
                if !matches!(arg, Expr::ScalarSubquery(_)) && info.nullable(&arg).is_ok_and(|is| is) =>
            {
                Ok(ExprSimplifyResult::Simplified(arg))
            }
            Ok([arg]) => Ok(ExprSimplifyResult::Original(vec![arg])),
            Err(args) => Ok(ExprSimplifyResult::Original(args)),
        }
    }
}
