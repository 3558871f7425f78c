//! Functions that take a lambda: `list_transform(list, x -> x + 1)`.
//!
//! Owns: which they are and what they are called, what a lambda is given, what becomes of its answers. Does not own: how a lambda is written
//! (engine) and evaluated (DataFusion). DataFusion's functions of these names are replaced: here a lambda may have a parameter more, the place of
//! the element, and every value that it is given may be NULL, so that its types do not hang on what an optimizer finds out.

mod elements;
mod reduce;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use crate::function::{Kind, documented, invalid, refused};
use elements::Elements;

const SECTION: &str = "Array Functions";

/// What comes of the answers of a lambda.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Makes {
    /// A list of them.
    Transformed,
    /// The elements that it is true of.
    Filtered,
    /// One value, which it makes of itself and each element.
    Reduced,
    /// Whether it is true of an element.
    AnyMatch,
    /// Whether it is true of every element.
    AllMatch,
    /// Whether it is true of no element.
    NoneMatch,
    /// The first element that it is true of.
    FirstMatch,
}

/// One function.
#[derive(Debug)]
struct Spec {
    makes: Makes,
    /// How it is called; begins with its name.
    syntax: &'static str,
    aliases: &'static [&'static str],
    does: &'static str,
    example: &'static str,
}

const FUNCTIONS: &[Spec] = &[
    Spec {
        makes: Makes::Transformed,
        syntax: "list_transform(list, lambda)",
        aliases: &["array_transform", "list_apply", "array_apply", "apply"],
        does: "The list of what the lambda makes of each element.",
        example: "SELECT list_transform([1, 2, 3], x -> x * 10)  -- [10, 20, 30]",
    },
    Spec {
        makes: Makes::Filtered,
        syntax: "list_filter(list, lambda)",
        aliases: &["array_filter", "filter"],
        does: "The elements of the list that the lambda is true of.",
        example: "SELECT list_filter([3, 4, 5], x -> x > 3)  -- [4, 5]",
    },
    Spec {
        makes: Makes::Reduced,
        syntax: "list_reduce(list, lambda, initial)",
        aliases: &["array_reduce", "reduce"],
        does: "One value: the lambda makes it of the value so far, at first the initial one, and of each element. Without an initial value the first element is it, and an empty list gives NULL.",
        example: "SELECT list_reduce([1, 2, 3], (sum, x) -> sum + x, 10)  -- 16",
    },
    Spec {
        makes: Makes::AnyMatch,
        syntax: "list_any_match(list, lambda)",
        aliases: &["array_any_match", "any_match"],
        does: "Whether the lambda is true of an element; NULL where it is true of none and NULL of one.",
        example: "SELECT list_any_match([1, 2], x -> x > 1)  -- true",
    },
    Spec {
        makes: Makes::AllMatch,
        syntax: "list_all_match(list, lambda)",
        aliases: &["array_all_match", "all_match"],
        does: "Whether the lambda is true of every element, as of an empty list; NULL where it is false of none and NULL of one.",
        example: "SELECT list_all_match([1, 2], x -> x > 1)  -- false",
    },
    Spec {
        makes: Makes::NoneMatch,
        syntax: "list_none_match(list, lambda)",
        aliases: &["array_none_match", "none_match"],
        does: "Whether the lambda is true of no element; NULL where it is true of none and NULL of one.",
        example: "SELECT list_none_match([1, 2], x -> x > 2)  -- true",
    },
    Spec {
        makes: Makes::FirstMatch,
        syntax: "list_first(list, lambda)",
        aliases: &["array_first"],
        does: "The first element that the lambda is true of; NULL where there is none.",
        example: "SELECT list_first([1, 2, 3], x -> x > 1)  -- 2",
    },
];

impl Spec {
    fn name(&self) -> &'static str {
        self.syntax.split('(').next().unwrap_or(self.syntax)
    }

    fn function(&'static self) -> HigherOrderUDF {
        HigherOrderUDF::new_from_impl(OverElements {
            spec: self,
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            signature: HigherOrderSignature::user_defined(Volatility::Immutable),
            documentation: documented(SECTION, self.does, self.syntax, self.example),
        })
    }
}

/// Whether the second argument of the function `name`, in whatever case, is a lambda.
#[must_use]
pub fn takes_lambda(name: &str) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    FUNCTIONS.iter().any(|spec| is(&spec.name()) || spec.aliases.iter().any(is))
}

/// Registers them.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in functions() {
        registry.register_higher_order_function(Arc::new(function))?;
    }
    Ok(())
}

/// The functions of this module.
pub(crate) fn functions() -> impl Iterator<Item = HigherOrderUDF> {
    FUNCTIONS.iter().map(Spec::function)
}

/// A [`Spec`] that DataFusion can call.
#[derive(Debug)]
struct OverElements {
    spec: &'static Spec,
    aliases: Vec<String>,
    signature: HigherOrderSignature,
    documentation: Documentation,
}

// There is one function of a name.
impl PartialEq for OverElements {
    fn eq(&self, other: &Self) -> bool {
        self.spec.makes == other.spec.makes
    }
}

impl Eq for OverElements {}

impl Hash for OverElements {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.makes.hash(state);
    }
}

/// The arguments of a call: list, lambda, initial value.
type Arguments<'a, V, L> = (&'a V, &'a L, Option<&'a V>);

impl OverElements {
    /// None: they are others than the function takes.
    fn arguments<'a, V, L>(&self, args: &'a [ValueOrLambda<V, L>]) -> Option<Arguments<'a, V, L>> {
        match args {
            [ValueOrLambda::Value(list), ValueOrLambda::Lambda(lambda)] => Some((list, lambda, None)),
            [ValueOrLambda::Value(list), ValueOrLambda::Lambda(lambda), ValueOrLambda::Value(initial)]
                if self.spec.makes == Makes::Reduced =>
            {
                Some((list, lambda, Some(initial)))
            }
            _ => None,
        }
    }

    fn refused<L>(&self, args: &[ValueOrLambda<FieldRef, L>]) -> DataFusionError {
        let values = args.iter().filter_map(|arg| match arg {
            ValueOrLambda::Value(field) => Some(field.data_type().clone()),
            ValueOrLambda::Lambda(_) => None,
        });
        refused(self.name(), self.spec.syntax, &values.collect::<Vec<_>>())
    }

    /// The type of the elements.
    fn item<'a>(&self, list: &'a FieldRef) -> Result<&'a DataType> {
        match list.data_type() {
            DataType::List(item) => Ok(item.data_type()),
            other => Err(refused(self.name(), self.spec.syntax, std::slice::from_ref(other))),
        }
    }

    fn answers_wrongly(&self, made: &DataType, wanted: &DataType) -> DataFusionError {
        invalid("42804", format!("the lambda of {} gives {made}, which is no {wanted}", self.name()))
    }

    /// The type of what is made, when the lambda answers with `made`.
    fn gives(&self, list: &FieldRef, made: &DataType, initial: Option<&FieldRef>) -> Result<DataType> {
        let item = self.item(list)?;
        match self.spec.makes {
            Makes::Transformed => Ok(DataType::List(Arc::new(Field::new_list_field(made.clone(), true)))),
            Makes::Reduced => {
                let kept = reduce::kept(initial.map(|field| field.data_type()), item, Some(made));
                match can_cast_types(made, &kept) {
                    true => Ok(kept),
                    false => Err(self.answers_wrongly(made, &kept)),
                }
            }
            _ if !matches!(made, DataType::Boolean | DataType::Null) => {
                Err(self.answers_wrongly(made, &DataType::Boolean))
            }
            Makes::Filtered => Ok(list.data_type().clone()),
            Makes::FirstMatch => Ok(item.clone()),
            Makes::AnyMatch | Makes::AllMatch | Makes::NoneMatch => Ok(DataType::Boolean),
        }
    }
}

/// A parameter of a lambda; its name is the one that is written.
fn parameter(data_type: &DataType) -> FieldRef {
    Arc::new(Field::new("", data_type.clone(), true))
}

impl HigherOrderUDFImpl for OverElements {
    fn name(&self) -> &str {
        self.spec.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let converted = match arg_types {
            [list] => Kind::List.converted(list).map(|list| vec![list]),
            [list, initial] if self.spec.makes == Makes::Reduced => {
                Kind::List.converted(list).map(|list| vec![list, initial.clone()])
            }
            _ => None,
        };
        converted.ok_or_else(|| refused(self.name(), self.spec.syntax, arg_types))
    }

    fn lambda_parameters(
        &self,
        step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let Some((list, made, initial)) = self.arguments(fields) else { return Err(self.refused(fields)) };
        let item = self.item(list)?;
        let (element, place) = (parameter(item), parameter(&DataType::Int64));
        if self.spec.makes != Makes::Reduced {
            return Ok(LambdaParametersProgress::Complete(vec![vec![element, place]]));
        }
        // What the lambda answers with says what it is given, and the other way round: it is asked with the type of the first value, and once
        // more where that becomes another one.
        let initial = initial.map(|field| field.data_type());
        let kept = reduce::kept(initial, item, made.as_ref().map(|field| field.data_type()));
        let is_settled = match (step, made) {
            (_, None) => false,
            (1, Some(_)) => kept == reduce::kept(initial, item, None),
            (_, Some(_)) => true,
        };
        let given = vec![parameter(&kept), element, place];
        Ok(match is_settled {
            true => LambdaParametersProgress::Complete(vec![given]),
            false => LambdaParametersProgress::Partial(vec![Some(given)]),
        })
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let Some((list, made, initial)) = self.arguments(args.arg_fields) else {
            return Err(self.refused(args.arg_fields));
        };
        let gives = self.gives(list, made.data_type(), initial)?;
        Ok(Arc::new(Field::new(self.name(), gives, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let Some((list, lambda, initial)) = self.arguments(&args.args) else {
            return internal_err!("{} was given no list and lambda", self.name());
        };
        let elements = Elements::new(&list.to_array(args.number_rows)?)?;
        let returns = args.return_type();
        let made = match self.spec.makes {
            Makes::Transformed => elements.transformed(lambda, returns)?,
            Makes::Filtered => elements.filtered(lambda)?,
            Makes::AnyMatch => elements.matched(lambda, true, true)?,
            Makes::AllMatch => elements.matched(lambda, false, false)?,
            Makes::NoneMatch => elements.matched(lambda, true, false)?,
            Makes::FirstMatch => elements.first(lambda)?,
            Makes::Reduced => {
                let initial = initial.map(|initial| initial.to_array(args.number_rows)).transpose()?;
                reduce::reduced(&elements, lambda, initial.as_ref(), returns)?
            }
        };
        Ok(ColumnarValue::Array(made))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use datafusion::arrow::array::{
        Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch,
    };
    use datafusion::arrow::datatypes::{Int64Type, Schema};
    use datafusion::arrow::util::display::array_value_to_string;
    use datafusion::common::{DFSchema, ScalarValue};
    use datafusion::logical_expr::expr::HigherOrderFunction;
    use datafusion::logical_expr::{Expr, col, lambda, lambda_var, lit};
    use datafusion::prelude::SessionContext;

    use super::*;

    fn lists() -> ListArray {
        ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(99)]),
            Some(vec![Some(1), Some(2), Some(3)]),
            None,
            Some(vec![]),
            Some(vec![None, Some(5)]),
            Some(vec![Some(7)]),
        ])
    }

    /// What `name` makes of all of [`lists`] but the first, and of a column `n` of their numbers, 1 to 5.
    fn called(name: &str, of: Vec<Expr>) -> ArrayRef {
        let lists = lists().slice(1, 5);
        let fields =
            vec![Field::new("l", lists.data_type().clone(), true), Field::new("n", DataType::Int64, true)];
        let schema = Arc::new(Schema::new(fields));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=5));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(lists), numbers]).unwrap();
        let schema = DFSchema::try_from(schema).unwrap();
        let mut state = SessionContext::new().state();
        register(&mut state).unwrap();
        let function = state.higher_order_functions().get(name).cloned().unwrap();
        let args = std::iter::once(col("l")).chain(of).collect();
        let call = Expr::HigherOrderFunction(HigherOrderFunction::new(function, args));
        let call = call.resolve_lambda_variables(&schema).unwrap().data;
        let call = state.create_physical_expr(call, &schema).unwrap();
        let made = call.evaluate(&batch).unwrap().into_array(5).unwrap();
        assert_eq!(made.data_type(), &call.data_type(batch.schema_ref()).unwrap());
        made
    }

    fn integers(of: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(of.to_vec()))
    }

    /// NULL is an empty text.
    fn texts(of: &ArrayRef) -> Vec<String> {
        (0..of.len()).map(|row| array_value_to_string(of, row).unwrap()).collect()
    }

    #[test]
    fn elements_are_transformed_with_their_places_and_columns() {
        let body = lambda_var("x") * lit(100_i64) + lambda_var("i") * lit(10_i64) + col("n");
        let made = called("apply", vec![lambda(["x", "i"], body)]);
        let made = made.as_list::<i32>();
        assert_eq!(made.value(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![111, 221, 331]));
        assert!(made.is_null(1) && made.value(2).is_empty());
        assert_eq!(made.value(3).as_primitive::<Int64Type>(), &Int64Array::from(vec![None, Some(524)]));
        assert_eq!(made.value(4).as_primitive::<Int64Type>(), &Int64Array::from(vec![715]));
        // The place alone, and nothing at all.
        let places = called("list_transform", vec![lambda(["x", "i"], lambda_var("i"))]);
        assert_eq!(texts(&places), ["[1, 2, 3]", "", "[]", "[1, 2]", "[1]"]);
        let ones = called("list_transform", vec![lambda(["x"], lit(1_i64))]);
        assert_eq!(texts(&ones), ["[1, 1, 1]", "", "[]", "[1, 1]", "[1]"]);
    }

    #[test]
    fn elements_are_looked_at() {
        let large = || lambda(["x"], lambda_var("x").gt(lit(1_i64)));
        let kept = called("filter", vec![large()]);
        assert_eq!(texts(&kept), ["[2, 3]", "", "[]", "[5]", "[7]"]);
        let by_place = called("list_filter", vec![lambda(["x", "i"], lambda_var("i").eq(lit(2_i64)))]);
        assert_eq!(texts(&by_place), ["[2]", "", "[]", "[5]", "[]"]);
        let none = called("list_filter", vec![lambda(["x"], lit(ScalarValue::Null))]);
        assert_eq!(texts(&none), ["[]", "", "[]", "[]", "[]"]);
        assert_eq!(&called("list_first", vec![large()]), &integers(&[Some(2), None, None, Some(5), Some(7)]));
        for (name, expected) in [
            ("any_match", [Some(true), None, Some(false), Some(true), Some(true)]),
            ("all_match", [Some(false), None, Some(true), None, Some(true)]),
            ("none_match", [Some(false), None, Some(true), Some(false), Some(false)]),
        ] {
            let made = called(name, vec![large()]);
            assert_eq!(made.as_boolean().iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn elements_become_one_value() {
        let sum = || lambda(["a", "x"], lambda_var("a") + lambda_var("x"));
        assert_eq!(&called("reduce", vec![sum()]), &integers(&[Some(6), None, None, None, Some(7)]));
        let from_ten = called("list_reduce", vec![sum(), lit(10_i64)]);
        assert_eq!(&from_ten, &integers(&[Some(16), None, Some(10), None, Some(17)]));
        let from_column = called("list_reduce", vec![sum(), col("n")]);
        assert_eq!(&from_column, &integers(&[Some(7), None, Some(3), None, Some(12)]));
        // The value is kept in a type that what the lambda makes fits into.
        let half = lambda(["a", "x"], lambda_var("a") + lit(0.5_f64));
        let halves = called("list_reduce", vec![half, lit(0_i64)]);
        let expected: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(0.0), Some(1.0), Some(0.5)]));
        assert_eq!(&halves, &expected);
        let places = lambda(["a", "x", "i"], lambda_var("a") + lambda_var("i") * col("n"));
        let places = called("list_reduce", vec![places, lit(0_i64)]);
        assert_eq!(&places, &integers(&[Some(6), None, Some(0), Some(12), Some(5)]));
    }

    #[test]
    fn the_type_of_the_value_settles() {
        use DataType::{Decimal128, Float64, Int32, Int64, Null, Utf8, Utf8View};
        for (initial, item, made, expected) in [
            (None, Int32, Int32, Int32),
            (None, Int32, Int64, Int64),
            (Some(Int64), Float64, Float64, Float64),
            (Some(Null), Int32, Int32, Int32),
            (None, Null, Int64, Int64),
            (None, Decimal128(10, 2), Decimal128(11, 2), Decimal128(38, 2)),
            (Some(Int64), Decimal128(4, 2), Decimal128(22, 2), Decimal128(38, 2)),
            (None, Utf8View, Utf8, Utf8View),
            (None, Utf8View, Int64, Utf8View),
        ] {
            let kept = reduce::kept(initial.as_ref(), &item, Some(&made));
            assert_eq!(kept, expected, "{initial:?} {item} {made}");
            assert_eq!(reduce::kept(initial.as_ref(), &item, Some(&kept)), kept);
        }
    }

    #[test]
    fn no_function_of_datafusion_is_left() {
        let own: HashSet<String> = functions()
            .flat_map(|function| {
                let names = std::iter::once(function.name().to_owned());
                names.chain(function.aliases().to_vec()).collect::<Vec<_>>()
            })
            .collect();
        let context = SessionContext::new();
        for name in context.state().higher_order_functions().keys() {
            assert!(own.contains(name), "{name} takes a lambda");
        }
        let there: HashSet<String> = context.udfs().into_iter().chain(context.udafs()).collect();
        assert!(own.is_disjoint(&there));
        assert!(own.iter().all(|name| takes_lambda(&name.to_uppercase())) && !takes_lambda("list_last"));
    }
}
