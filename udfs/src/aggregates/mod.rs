//! Aggregates: shapes of distributions, most frequent values, the row with the least or greatest value, JSON.
//!
//! Owns: functions of DuckDB and PostgreSQL that DataFusion has not or has otherwise, and other names of those it has. Does not own:
//! integer sums (`sum`), bounds on approximate quantiles (`bounded`). Memory is counted by what runs the query.

mod counted;
mod json;
mod lists;
mod moments;
mod most;
mod quantiles;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, not_impl_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
};

use crate::function::{Kind, documented, fitting, refused};

const SECTION: &str = "Aggregate Functions";

/// Other names of functions that DataFusion has.
const NAMES: &[(&str, &[&str])] = &[
    ("approx_distinct", &["approx_count_distinct"]),
    ("approx_percentile_cont", &["approx_quantile"]),
    ("array_agg", &["list"]),
    ("bool_and", &["every"]),
    ("first_value", &["first"]),
    ("last_value", &["last"]),
    ("string_agg", &["group_concat", "listagg"]),
    ("var", &["variance"]),
];

/// Registers them; `limit` is what one value may have, in bytes.
pub(crate) fn register(registry: &mut dyn FunctionRegistry, limit: u64) -> Result<()> {
    for (name, aliases) in NAMES {
        let function = registry.udaf(name)?.as_ref().clone().with_aliases(aliases.iter().copied());
        registry.register_udaf(Arc::new(function))?;
    }
    let lists = registry.udaf("array_agg")?;
    registry.register_udaf(Arc::new(AggregateUDF::from(json::JsonList::new(&lists, limit))))?;
    let specs = moments::functions().into_iter().chain(counted::functions()).chain(most::functions());
    for spec in specs.chain(json::functions()) {
        registry.register_udaf(Arc::new(spec.function(limit)))?;
    }
    quantiles::register(registry)?;
    let of_lists = lists::function(&*registry, limit)?;
    registry.register_udf(Arc::new(of_lists))?;
    Ok(())
}

/// What a state is kept in, from the types of the arguments.
type States = fn(&[DataType]) -> Vec<DataType>;
/// Makes an accumulator, from the types of the arguments and the limit of one value.
type Make = fn(&[DataType], u64) -> Result<Box<dyn Accumulator>>;

/// One aggregate.
#[derive(Clone, Debug)]
struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    takes: &'static [&'static [Kind]],
    returns: fn(&[DataType]) -> DataType,
    states: States,
    make: Make,
    syntax: &'static str,
    does: &'static str,
    example: &'static str,
}

impl Spec {
    fn function(self, limit: u64) -> AggregateUDF {
        AggregateUDF::from(Aggregate {
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: documented(SECTION, self.does, self.syntax, self.example),
            spec: self,
            limit,
        })
    }
}

/// A [`Spec`] that DataFusion can call.
#[derive(Debug)]
struct Aggregate {
    spec: Spec,
    aliases: Vec<String>,
    signature: Signature,
    documentation: Documentation,
    limit: u64,
}

// There is one function of a name.
impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name && self.limit == other.limit
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

fn types_of(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types that fit no call stay as they are: `return_type` says so, in words of its own.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(fitting(self.spec.takes, None, arg_types).unwrap_or_else(|| arg_types.to_vec()))
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match fitting(self.spec.takes, None, arg_types) {
            Some(types) => Ok((self.spec.returns)(&types)),
            None => {
                let also = most::also(self.spec.name).map(|also| format!(" or {also}"));
                let syntax = format!("{}{}", self.spec.syntax, also.unwrap_or_default());
                Err(refused(self.spec.name, &syntax, arg_types))
            }
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("DISTINCT in {} beside other aggregates", self.spec.name);
        }
        if counted::takes_fractions(self.spec.name) {
            quantiles::check_fractions(&args)?;
        }
        let is_descending = args.order_bys.first().is_some_and(|by| by.options.descending);
        let make = match counted::descending(self.spec.name) {
            Some(make) if is_descending => make,
            _ => self.spec.make,
        };
        make(&types_of(args.expr_fields), self.limit)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match most::sliding(self.spec.name).filter(|_| !args.is_distinct) {
            Some(make) => make(&types_of(args.expr_fields), self.limit),
            None => self.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let states = (self.spec.states)(&types_of(args.input_fields));
        let field = |(place, data_type): (usize, DataType)| {
            let name = format_state_name(args.name, &format!("state {place}"));
            Arc::new(Field::new(name, data_type, true))
        };
        Ok(states.into_iter().enumerate().map(field).collect())
    }

    /// What another process makes of a plan has the order only where it is said to matter.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        match self.supports_within_group_clause() {
            true => AggregateOrderSensitivity::HardRequirement,
            false => AggregateOrderSensitivity::Insensitive,
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        counted::descending(self.spec.name).is_some()
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
