//! A function of DataFusion that first says how large its result can be.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ExprSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::udf_eq::UdfEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};

use super::bound::{Bound, fixed_bytes};
use super::column::kept;
use super::concatenation::{self, Concatenation};
use super::{TooLarge, shown};

/// Bytes of a value of a type whose values all have as many: 8,192 of them have 1 GiB.
const FIXED_MAX: u64 = 128 << 10;
/// Parts of the limit that are made at a time where sizes are not known before.
const PARTS: u64 = 4;

/// `function` with the bound it needs; itself when it needs none.
pub(super) fn bounded(function: &Arc<ScalarUDF>, limit: u64) -> Arc<ScalarUDF> {
    match Bound::of(function.name()) {
        Some(bound) if !function.inner().is::<Bounded>() => {
            let inner = Arc::clone(function.inner()).into();
            Arc::new(ScalarUDF::from(Bounded { inner, bound, limit }))
        }
        _ => Arc::clone(function),
    }
}

/// The function for `||`, with its bound.
pub(super) fn concatenation(limit: u64) -> Arc<ScalarUDF> {
    let inner: Arc<dyn ScalarUDFImpl> = Arc::new(Concatenation::default());
    Arc::new(ScalarUDF::from(Bounded { inner: inner.into(), bound: Bound::Concat, limit }))
}

/// Whether `function` is that.
pub(crate) fn is_concatenation(function: &ScalarUDF) -> bool {
    function.name() == concatenation::NAME && function.inner().is::<Bounded>()
}

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: UdfEq<Arc<dyn ScalarUDFImpl>>,
    bound: Bound,
    /// Bytes of one value, and of the values of a batch.
    limit: u64,
}

impl Bounded {
    fn check(&self, bytes: u64) -> Result<()> {
        if bytes <= self.limit {
            return Ok(());
        }
        let size = if bytes == u64::MAX {
            "that has no end or is too large".to_owned()
        } else {
            format!("of {bytes} bytes")
        };
        Err(TooLarge::error(format!(
            "{} would make a value {size}; a value has at most {}",
            self.name(),
            shown(self.limit)
        )))
    }

    fn too_many(&self, rows: usize) -> DataFusionError {
        TooLarge::error(format!(
            "{} would make more than {} in {rows} rows; set datafusion.execution.batch_size to fewer",
            self.name(),
            shown(self.limit)
        ))
    }

    /// Bytes that the results for a batch may have: as many as one value, and as the largest argument, which is there already. Never more
    /// than offsets of 32 bits reach.
    fn batch_limit(&self, args: &[ColumnarValue]) -> Result<u64> {
        let mut largest = 0;
        for arg in args {
            if let ColumnarValue::Array(array) = arg {
                largest = kept(array.as_ref())?.max(largest);
            }
        }
        Ok(self.limit.saturating_add(largest).min(i32::MAX as u64))
    }

    /// Some rows at a time, until there are more bytes than `limit`; `sizes` are the most that each row can have.
    fn in_parts(&self, args: &ScalarFunctionArgs, sizes: &[u64], limit: u64) -> Result<ColumnarValue> {
        let mut parts: Vec<ArrayRef> = Vec::new();
        let (mut made, mut from) = (0_u64, 0);
        while from < sizes.len() {
            let mut bytes = 0_u64;
            let fits = |size: &&u64| {
                bytes = bytes.saturating_add(**size);
                bytes <= self.limit / PARTS
            };
            let rows = sizes[from..].iter().take_while(fits).count().max(1);
            let part = self.inner.invoke_with_args(slice(args, from, rows))?.into_array(rows)?;
            // Views of constants that were copied for these rows would keep all of the copies.
            let part = match part.data_type() {
                DataType::Utf8View => Arc::new(part.as_string_view().gc()) as ArrayRef,
                _ => part,
            };
            made = made.saturating_add(kept(part.as_ref())?);
            if made > limit {
                return Err(self.too_many(sizes.len()));
            }
            parts.push(part);
            from += rows;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

fn slice(args: &ScalarFunctionArgs, from: usize, rows: usize) -> ScalarFunctionArgs {
    let cut = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(cut).collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

// Delegates: every method of the trait has to be here.
#[warn(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    #[expect(deprecated, reason = "delegates")]
    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::clone(self.inner.with_updated_config(config)?.inner()).into();
        Some(ScalarUDF::from(Self { inner, bound: self.bound, limit: self.limit }))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        let bytes = fixed_bytes(field.data_type());
        if self.bound == Bound::Type && bytes > FIXED_MAX {
            return Err(TooLarge::error(format!(
                "{} would make values of {bytes} bytes each; values of fixed size have at most {}",
                self.name(),
                shown(FIXED_MAX)
            )));
        }
        Ok(field)
    }

    #[expect(deprecated, reason = "delegates")]
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.inner.is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Of constants alone, one value is made for all rows.
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        if self.bound.in_all(&args.args, rows)?.is_some_and(|bytes| bytes <= self.limit) {
            return self.inner.invoke_with_args(args);
        }
        let sizes = self.bound.sizes(&args.args, rows, self.limit)?;
        self.check(sizes.iter().copied().max().unwrap_or(0))?;
        let limit = self.batch_limit(&args.args)?;
        if sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)) <= limit {
            return self.inner.invoke_with_args(args);
        }
        if self.bound.is_exact(&args.args) {
            return Err(self.too_many(rows));
        }
        self.in_parts(&args, &sizes, limit)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if self.bound.folded(&args) > self.limit {
            // Refused where it is called, which it may never be.
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(match self.inner.simplify(args, info)? {
            // What DataFusion puts in its place is one of its own functions.
            ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)) => {
                let call = ScalarFunction { func: bounded(&call.func, self.limit), args: call.args };
                ExprSimplifyResult::Simplified(Expr::ScalarFunction(call))
            }
            other => other,
        })
    }

    fn preimage(&self, args: &[Expr], lit_expr: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, lit_expr, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn struct_field_mapping(&self, literal_args: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literal_args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use datafusion::arrow::datatypes::Field;
    use datafusion::execution::FunctionRegistry;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// `regexp_replace(text, 'a', 'xyz', 'g')` where a value and a batch have at most `limit` bytes.
    fn replaced(texts: &[&str], limit: u64) -> Result<ArrayRef> {
        let function = bounded(&SessionContext::new().udf("regexp_replace").unwrap(), limit);
        let text = |text: &str| ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.to_owned())));
        let texts = ColumnarValue::Array(Arc::new(StringArray::from(texts.to_vec())));
        let field = Arc::new(Field::new("text", DataType::Utf8, true));
        let args = ScalarFunctionArgs {
            number_rows: texts.to_array(0)?.len(),
            args: vec![texts, text("a"), text("xyz"), text("g")],
            arg_fields: vec![Arc::clone(&field); 4],
            return_field: field,
            config_options: Arc::default(),
        };
        let rows = args.number_rows;
        function.invoke_with_args(args)?.into_array(rows)
    }

    #[test]
    fn batches_that_only_might_be_too_large_are_made_in_parts() {
        // Nothing matches, which is not known before: 35 bytes of each at most, 240 of the column as it is.
        let mut texts = ["bbbbbbbb"; 10];
        texts[3] = "abbbbbbb";
        let whole = replaced(&texts, 1 << 20).unwrap();
        assert_eq!(whole.as_string::<i32>().value(3), "xyzbbbbbbb");
        assert_eq!(&replaced(&texts, 100).unwrap(), &whole);
        let refused = replaced(&["aaaaaaaa"; 10], 100).unwrap_err().to_string();
        assert!(refused.contains("regexp_replace would make more than"), "{refused}");
        // No more than the column has.
        assert_eq!(replaced(&["aa"; 10], 200).unwrap().len(), 10);
        let refused = replaced(&["a", &"b".repeat(100)], 100).unwrap_err().to_string();
        assert!(refused.contains("would make a value of 403 bytes"), "{refused}");
    }
}
