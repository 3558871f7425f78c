//! `date_part`, where a year begins at a midnight that clocks skip or show twice.
//!
//! DataFusion makes of `date_part('year', t) = 1986` the range of moments from one New Year's midnight to the next. Of a midnight that there is
//! not, or that there is twice (Kathmandu, 1986), it makes NULL, and of that a range without an end. Owns: that the year is looked at row by row
//! then. Does not own: what `date_part` computes.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::udf_eq::UdfEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// `date_part` with years that have both ends; `function` is DataFusion's.
pub(crate) fn with_ends(function: &ScalarUDF) -> ScalarUDF {
    ScalarUDF::from(Years { inner: Arc::clone(function.inner()).into() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Years {
    inner: UdfEq<Arc<dyn ScalarUDFImpl>>,
}

impl ScalarUDFImpl for Years {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn preimage(&self, args: &[Expr], lit_expr: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        match self.inner.preimage(args, lit_expr, info)? {
            PreimageResult::Range { interval, .. }
                if interval.lower().is_null() || interval.upper().is_null() =>
            {
                Ok(PreimageResult::None)
            }
            found => Ok(found),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Puts the function in the place of DataFusion's, which EXTRACT is planned to.
#[derive(Debug)]
pub(crate) struct YearsWithEnds {
    /// The one of [`with_ends`].
    pub(crate) date_part: Arc<ScalarUDF>,
}

impl FunctionRewrite for YearsWithEnds {
    fn name(&self) -> &str {
        "years_with_ends"
    }

    fn rewrite(&self, expr: Expr, _schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args })
                if func.name() == "date_part" && !func.inner().is::<Years>() =>
            {
                let call = ScalarFunction::new_udf(Arc::clone(&self.date_part), args);
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}
