//! `list_aggregate`: an aggregate over the elements of a list.
//!
//! Owns: which aggregates are known, those of one argument, and that each list has an accumulator of its own. Does not own: the aggregates.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::bounded::TooLarge;
use crate::function::{Kind, documented, invalid, refused};

const NAME: &str = "list_aggregate";
const SYNTAX: &str = "list_aggregate(list, name)";
/// Types of elements, one of which most aggregates take.
const ANY: &[DataType] = &[DataType::Int64, DataType::Boolean];

/// The function, with the aggregates that `registry` has; a call makes `limit` bytes at most.
///
/// # Errors
/// When the registry has not what it lists.
pub(super) fn function(registry: &dyn FunctionRegistry, limit: u64) -> Result<ScalarUDF> {
    let named = |name: String| -> Result<(String, Arc<AggregateUDF>)> {
        let function = registry.udaf(&name)?;
        Ok((name, function))
    };
    let known = registry.udafs().into_iter().map(named);
    Ok(ScalarUDF::from(ListAggregate {
        known: known.collect::<Result<_>>()?,
        aliases: ["list_aggr", "array_aggregate", "array_aggr"].map(str::to_owned).into(),
        signature: Signature::user_defined(Volatility::Immutable),
        documentation: documented(
            "Array Functions",
            "What an aggregate of one argument, named by a text, makes of the elements of the list; NULL of NULL.",
            SYNTAX,
            "SELECT list_aggregate([1, 2, 6], 'avg')  -- 3.0",
        ),
        limit,
    }))
}

#[derive(Debug)]
struct ListAggregate {
    known: HashMap<String, Arc<AggregateUDF>>,
    aliases: Vec<String>,
    signature: Signature,
    documentation: Documentation,
    /// Bytes that a call makes at most, beside those of its lists.
    limit: u64,
}

// There is one function of the name.
impl PartialEq for ListAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

impl Eq for ListAggregate {}

impl Hash for ListAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

/// An aggregate, and what it takes and gives.
struct Chosen<'a> {
    function: &'a AggregateUDF,
    takes: FieldRef,
    gives: FieldRef,
}

impl ListAggregate {
    /// The aggregate of a name over elements of the type.
    fn chosen(&self, name: &str, item: &DataType) -> Result<Chosen<'_>> {
        let cut = || name.chars().take(60).collect::<String>();
        let Some(function) = self.known.get(&name.to_lowercase()) else {
            return Err(invalid("42883", format!("{NAME} knows no aggregate '{}'", cut())));
        };
        let over = |item: &DataType| -> Option<Chosen<'_>> {
            let element: FieldRef = Arc::new(Field::new("element", item.clone(), true));
            let takes = fields_with_udf(&[element], &**function).ok()?;
            let [takes] = takes.as_slice() else { return None };
            let gives = function.return_field(std::slice::from_ref(takes)).ok()?;
            Some(Chosen { function, takes: Arc::clone(takes), gives })
        };
        // What is not there may be of any type.
        let others = if item.is_null() { ANY } else { &[] };
        match std::iter::once(item).chain(others).find_map(over) {
            Some(chosen) => Ok(chosen),
            None => {
                let message = format!("'{}' is no aggregate of one argument of type {item}", cut());
                Err(invalid("42883", message))
            }
        }
    }
}

/// The type of the elements; None: it is no list.
fn item_of(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item) => Some(item.data_type()),
        _ => None,
    }
}

impl ScalarUDFImpl for ListAggregate {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name stays as it is written: a cast would hide it from `return_field_from_args`, which refuses what is no call.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [list, name] = arg_types else { return Ok(arg_types.to_vec()) };
        let list = Kind::List.converted(list).unwrap_or_else(|| list.clone());
        Ok(vec![list, name.clone()])
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("{NAME} has a type by the name that it is given")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let list = args.arg_fields.first().and_then(|field| item_of(field.data_type()));
        let name = args.scalar_arguments.get(1).copied().flatten().and_then(ScalarValue::try_as_str);
        match (list, name.flatten()) {
            (Some(item), Some(name)) => {
                let gives = self.chosen(name, item)?.gives;
                Ok(Arc::new(Field::new(NAME, gives.data_type().clone(), true)))
            }
            (Some(_), None) => {
                Err(invalid("22023", format!("{NAME} takes the name of an aggregate as a text")))
            }
            (None, _) => {
                let types: Vec<DataType> =
                    args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
                Err(refused(NAME, SYNTAX, &types))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [list, ColumnarValue::Scalar(name)] = args.args.as_slice() else {
            return internal_err!("{NAME} was given no list and name");
        };
        let constant = matches!(list, ColumnarValue::Scalar(_));
        let lists = list.to_array(if constant { 1 } else { args.number_rows })?;
        let (Some(item), Some(name)) = (item_of(lists.data_type()), name.try_as_str().flatten()) else {
            return internal_err!("{NAME} was given {}", lists.data_type());
        };
        let made = self.each(&self.chosen(name, item)?, &lists)?;
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
            false => ColumnarValue::Array(made),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

impl ListAggregate {
    fn each(&self, chosen: &Chosen<'_>, lists: &ArrayRef) -> Result<ArrayRef> {
        let lists = lists.as_list::<i32>();
        if lists.is_empty() {
            return Ok(new_empty_array(chosen.gives.data_type()));
        }
        let elements = cast(lists.values(), chosen.takes.data_type())?;
        let schema = Schema::new(vec![Arc::clone(&chosen.takes)]);
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(chosen.takes.name(), 0));
        // Each list may make one value, whatever it has.
        let there = elements.get_array_memory_size() + lists.len() * size_of::<ScalarValue>();
        let limit = self.limit.saturating_add(there as u64);
        let mut bytes = 0_u64;
        let mut made = Vec::with_capacity(lists.len());
        for row in 0..lists.len() {
            if lists.is_null(row) {
                made.push(ScalarValue::try_from(chosen.gives.data_type())?);
                continue;
            }
            let mut accumulator = chosen.function.accumulator(AccumulatorArgs {
                return_field: Arc::clone(&chosen.gives),
                schema: &schema,
                ignore_nulls: false,
                order_bys: &[],
                is_reversed: false,
                name: NAME,
                is_distinct: false,
                exprs: std::slice::from_ref(&column),
                expr_fields: std::slice::from_ref(&chosen.takes),
            })?;
            let from = lists.value_offsets().get(row).and_then(|from| usize::try_from(*from).ok());
            accumulator.update_batch(&[elements.slice(from.unwrap_or(0), lists.value(row).len())])?;
            let value = accumulator.evaluate()?;
            bytes = bytes.saturating_add(value.size() as u64);
            if bytes > limit {
                return Err(TooLarge::error(format!("{NAME} would make more than {limit} bytes")));
            }
            made.push(value);
        }
        ScalarValue::iter_to_array(made)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{Float64Array, Int64Array, ListArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn each_list_is_aggregated_by_itself() {
        let mut state = SessionContext::new().state();
        crate::register(&mut state, "1", 1 << 30).unwrap();
        let function = function(&state, 1 << 20).unwrap();
        let aggregate = function.inner().downcast_ref::<ListAggregate>().unwrap();
        let lists = [Some(vec![Some(1), Some(2), Some(6)]), None, Some(vec![]), Some(vec![None, Some(4)])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists).slice(0, 4));
        let of = |name: &str| {
            let chosen = aggregate.chosen(name, &DataType::Int64).unwrap();
            aggregate.each(&chosen, &lists).unwrap()
        };
        let average: ArrayRef = Arc::new(Float64Array::from(vec![Some(3.0), None, None, Some(4.0)]));
        assert_eq!(&of("AVG"), &average);
        let count: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(0), Some(1)]));
        assert_eq!(&of("count"), &count);
        let most: ArrayRef = Arc::new(Int64Array::from(vec![Some(6), None, None, Some(4)]));
        assert_eq!(&of("max"), &most);
        let last = aggregate.each(&aggregate.chosen("max", &DataType::Int64).unwrap(), &lists.slice(3, 1));
        assert_eq!(&last.unwrap(), &(Arc::new(Int64Array::from(vec![4])) as ArrayRef));
        assert_eq!(aggregate.chosen("sum", &DataType::Null).unwrap().gives.data_type(), &DataType::Int64);
        for wrong in ["no_such", "arg_min", "corr"] {
            assert!(aggregate.chosen(wrong, &DataType::Int64).is_err(), "{wrong}");
        }
    }
}
