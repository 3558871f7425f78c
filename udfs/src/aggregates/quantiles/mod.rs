//! `quantile_cont`, `percentile_cont` and `median`: the number below which a share of all is, between two where it is none of them.
//!
//! Owns: the calls, and which fractions are asked for. Does not own: `quantile_disc`, which answers with one of the values (`counted`), approximate
//! quantiles and the median of decimals, which is a decimal (DataFusion). DataFusion's `percentile_cont` rounds the share between two numbers to six
//! digits.

mod kept;
mod places;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, internal_err};
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate::median::Median;
use datafusion::functions_aggregate::percentile_cont::PercentileCont;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;

use self::kept::{Every, Groups, Sliding};
use self::places::Asked;
use super::SECTION;
use crate::bounded::TooLarge;
use crate::function::{Kind, documented, invalid, refused};

/// The name that DataFusion has for it.
const NAME: &str = "percentile_cont";
const SYNTAX: &str = "quantile_cont(x, fraction)";
/// Fractions of one list: it is copied for each row of a batch.
const FRACTIONS_MAX: usize = 1000;

/// Registers both.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_udaf(Arc::new(AggregateUDF::from(Quantile::default())))?;
    registry.register_udaf(Arc::new(AggregateUDF::from(ExactMedian::default())))?;
    Ok(())
}

/// REAL for REAL, DOUBLE for other numbers and NULL; None: it is no number.
fn number(from: &DataType) -> Option<DataType> {
    match from {
        DataType::Float16 | DataType::Float32 => Some(DataType::Float32),
        DataType::Dictionary(_, values) => number(values),
        other => Kind::Number.converted(other),
    }
}

/// DOUBLE, or a list of it; None: these are no fractions.
fn fractions(from: &DataType) -> Option<DataType> {
    match from {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Kind::Number.converted(item.data_type()).map(|number| DataType::new_list(number, true))
        }
        other => Kind::Number.converted(other),
    }
}

fn fitting(types: &[DataType]) -> Option<[DataType; 2]> {
    match types {
        [of, at] => Some([number(of)?, fractions(at)?]),
        _ => None,
    }
}

/// What a call asks for.
fn asked(args: &AccumulatorArgs<'_>) -> Result<Asked> {
    let Some(written) = args.exprs.get(1) else { return internal_err!("{NAME} without a fraction") };
    let Some(value) = constant(written)? else {
        return Err(invalid("22023", format!("the fraction of {SYNTAX} is no constant")));
    };
    let list = value.as_list_opt::<i32>();
    let null = || invalid("22004", format!("the fraction of {SYNTAX} is not NULL"));
    let values = match list {
        Some(list) if list.is_null(0) => return Err(null()),
        Some(list) => list.value(0),
        None => Arc::clone(&value),
    };
    let Some(values) = values.as_primitive_opt::<Float64Type>() else {
        return internal_err!("a fraction of type {}", values.data_type());
    };
    if values.null_count() > 0 {
        return Err(null());
    }
    check_length(values.len())?;
    if let Some(wrong) = values.values().iter().find(|fraction| !(0.0..=1.0).contains(*fraction)) {
        return Err(invalid("22003", format!("a quantile is from 0 to 1, not {wrong}")));
    }
    let from_above = args.order_bys.first().is_some_and(|by| by.options.descending);
    Ok(Asked::new(values.values().to_vec(), list.is_some(), from_above))
}

/// The value of an expression in one row; None: it is no constant.
fn constant(written: &Arc<dyn PhysicalExpr>) -> Result<Option<ArrayRef>> {
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)?;
    // Whatever is no constant reads a column, and there is none.
    match written.evaluate(&one_row) {
        Ok(value) => Ok(Some(value.into_array(1)?)),
        Err(_) => Ok(None),
    }
}

fn check_length(fractions: usize) -> Result<()> {
    if fractions <= FRACTIONS_MAX {
        return Ok(());
    }
    let message = format!("a list of quantiles has at most {FRACTIONS_MAX} of them, not {fractions}");
    Err(TooLarge::error(message))
}

/// Refuses lists of too many fractions, which are copied for each row before an accumulator sees them.
///
/// # Errors
/// 54000 for such a list.
pub(super) fn check_fractions(args: &AccumulatorArgs<'_>) -> Result<()> {
    let (Some(written), Some(field)) = (args.exprs.get(1), args.expr_fields.get(1)) else { return Ok(()) };
    if !matches!(field.data_type(), DataType::List(_)) {
        return Ok(());
    }
    let value = constant(written)?;
    match value.as_ref().and_then(|value| value.as_list_opt::<i32>()) {
        Some(list) if list.is_valid(0) => check_length(list.value(0).len()),
        _ => Ok(()),
    }
}

fn number_of(args: &AccumulatorArgs<'_>) -> DataType {
    args.expr_fields.first().map_or(DataType::Null, |field| field.data_type().clone())
}

fn every(asked: Asked, args: &AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
    match number_of(args) {
        DataType::Float32 => Ok(Box::new(Every::<f32>::new(asked, args.is_distinct))),
        DataType::Float64 => Ok(Box::new(Every::<f64>::new(asked, args.is_distinct))),
        other => internal_err!("a quantile of {other}"),
    }
}

fn sliding(asked: Asked, args: &AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
    match number_of(args) {
        DataType::Float32 => Ok(Box::new(Sliding::<f32>::new(asked, args.is_distinct))),
        DataType::Float64 => Ok(Box::new(Sliding::<f64>::new(asked, args.is_distinct))),
        other => internal_err!("a quantile of {other}"),
    }
}

fn groups(asked: Asked, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
    match number_of(args) {
        DataType::Float32 => Ok(Box::new(Groups::<f32>::new(asked))),
        DataType::Float64 => Ok(Box::new(Groups::<f64>::new(asked))),
        other => internal_err!("a quantile of {other}"),
    }
}

/// The quantile at a fraction, or a list of those at several.
#[derive(Debug)]
struct Quantile {
    aliases: Vec<String>,
    signature: Signature,
    documentation: Documentation,
}

impl Default for Quantile {
    fn default() -> Self {
        Self {
            aliases: vec!["quantile_cont".to_owned()],
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: documented(
                SECTION,
                "The number that the fraction, 0 to 1, of all numbers is not above: one of them, or as far between two as PostgreSQL has it. DOUBLE; of REAL, REAL. Of a list of up to 1000 fractions, a list. Also percentile_cont(fraction) WITHIN GROUP (ORDER BY x).",
                SYNTAX,
                "SELECT quantile_cont(x, 0.3), quantile_cont(x, [0.5, 1]) FROM (VALUES (1), (2), (9)) AS t(x)  -- 1.6, [2.0, 9.0]",
            ),
        }
    }
}

// There is one function of the name.
impl PartialEq for Quantile {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Quantile {}

impl Hash for Quantile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types that fit no call stay as they are: `return_type` says so, in words of its own.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(fitting(arg_types).map_or_else(|| arg_types.to_vec(), Vec::from))
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match fitting(arg_types) {
            Some([number, DataType::List(_)]) => Ok(DataType::new_list(number, true)),
            Some([number, _]) => Ok(number),
            None => {
                let syntax = format!("{SYNTAX}: of numbers, at one fraction or a list of them");
                Err(refused(NAME, &syntax, arg_types))
            }
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        every(asked(&args)?, &args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        sliding(asked(&args)?, &args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        groups(asked(&args)?, &args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(of) = args.input_fields.first() else { return internal_err!("{NAME} of nothing") };
        let numbers = DataType::new_list(of.data_type().clone(), true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "numbers"), numbers, true))])
    }

    /// The least and the greatest number are not looked for among all.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        PercentileCont::new().simplify()
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// `median`: the quantile at a half. DataFusion adds the two numbers in the middle, which may be more than there is.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct ExactMedian(Median);

fn half() -> Asked {
    Asked::new(vec![0.5], false, false)
}

fn is_ours(args: &AccumulatorArgs<'_>) -> bool {
    matches!(number_of(args), DataType::Float32 | DataType::Float64)
}

impl AggregateUDFImpl for ExactMedian {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.0.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_ours(&args) {
            true => every(half(), &args),
            false => self.0.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_ours(&args) {
            true => sliding(half(), &args),
            false => self.0.create_sliding_accumulator(args),
        }
    }

    /// Of ours it is a list of numbers, too.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match is_ours(&args) {
            true => groups(half(), &args),
            false => self.0.create_groups_accumulator(args),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::common::ScalarValue;
    use datafusion::physical_expr::expressions::{Column, Literal};

    use super::*;

    fn asked_for(at: Arc<dyn PhysicalExpr>) -> Result<Asked> {
        let field: FieldRef = Arc::new(Field::new("x", DataType::Float64, true));
        let fields = vec![field; 2];
        let exprs: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Column::new("x", 0)), at];
        asked(&AccumulatorArgs {
            return_field: Arc::clone(&fields[0]),
            schema: &Schema::empty(),
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: NAME,
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &fields,
        })
    }

    #[test]
    fn fractions_are_constants_from_0_to_1() {
        let one = |value: Option<f64>| ScalarValue::Float64(value);
        let list = |values: &[ScalarValue]| {
            ScalarValue::List(ScalarValue::new_list(values, &DataType::Float64, true))
        };
        let many = |length: usize| list(&std::iter::repeat_n(one(Some(0.1)), length).collect::<Vec<_>>());
        for (value, quantiles, is_list) in [
            (one(Some(1.0)), 1, false),
            (list(&[one(Some(0.5))]), 1, true),
            (list(&[]), 0, true),
            (many(FRACTIONS_MAX), FRACTIONS_MAX, true),
        ] {
            let asked = asked_for(Arc::new(Literal::new(value))).unwrap();
            assert_eq!((asked.len(), asked.is_list), (quantiles, is_list));
        }
        for (value, message) in [
            (one(None), "is not NULL"),
            (list(&[one(Some(0.5)), one(None)]), "is not NULL"),
            (one(Some(1.5)), "from 0 to 1, not 1.5"),
            (list(&[one(Some(0.5)), one(Some(f64::NAN))]), "from 0 to 1, not NaN"),
            (many(FRACTIONS_MAX + 1), "at most 1000 of them, not 1001"),
            (ScalarValue::try_from(&DataType::new_list(DataType::Float64, true)).unwrap(), "is not NULL"),
        ] {
            let refused = asked_for(Arc::new(Literal::new(value))).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
        let refused = asked_for(Arc::new(Column::new("share", 1))).unwrap_err().to_string();
        assert!(refused.contains("is no constant"), "{refused}");
    }

    #[test]
    fn types_are_those_of_numbers() {
        let of = |of: DataType, at: DataType| Quantile::default().return_type(&[of, at]).ok();
        let list = |item: DataType| DataType::new_list(item, true);
        for (x, at, expected) in [
            (DataType::Float32, DataType::Float64, Some(DataType::Float32)),
            (DataType::Decimal128(10, 2), DataType::Int64, Some(DataType::Float64)),
            (DataType::Null, DataType::Float64, Some(DataType::Float64)),
            (DataType::Int64, list(DataType::Null), Some(list(DataType::Float64))),
            (DataType::Float32, list(DataType::Int64), Some(list(DataType::Float32))),
            (DataType::Utf8, DataType::Float64, None),
            (list(DataType::Float64), DataType::Float64, None),
            (DataType::Float64, list(DataType::Utf8), None),
        ] {
            assert_eq!(of(x.clone(), at.clone()), expected, "{x} {at}");
            if let Some(expected) = expected {
                let coerced = Quantile::default().coerce_types(&[x, at]).unwrap();
                assert_eq!(Quantile::default().return_type(&coerced).unwrap(), expected);
            }
        }
        assert!(Quantile::default().return_type(&[DataType::Float64]).is_err());
    }
}
