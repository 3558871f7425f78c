//! Where a plan needs the session's zone.
//!
//! Owns: the analyzer rule. Casts between moments and what people write or clocks show become functions of the zone, sums with
//! intervals too; functions that read clocks get moments whose type says the zone. What the types of a plan say stays.
//! Does not own: the functions (`convert`), results, which a session shows in its zone (engine). What it has made it leaves alone.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::AnalyzerRule;

use super::convert::{Conversion, Zoned, is_clock, is_time};
use super::{is_utc, relabelled};
use crate::function::{is_text, reads_clocks};
use crate::rewrite;

/// Functions of DataFusion that read clocks.
const READ_CLOCKS: [&str; 6] =
    ["date_part", "date_trunc", "generate_series", "range", "to_char", "to_local_time"];

/// Puts the session's zone into a plan, when it is not UTC. Runs after type coercion.
#[derive(Debug, Default)]
pub struct ZonedTimes;

impl AnalyzerRule for ZonedTimes {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        match InZone::of(config) {
            Some(zone) => rewrite::expressions(plan, |expr, schema| {
                expr.transform_up(|expr| zone.replaced(expr, schema))
            }),
            None => Ok(plan),
        }
    }

    fn name(&self) -> &'static str {
        "zoned_times"
    }
}

impl ZonedTimes {
    /// `expr`, its types settled, in the zone of `config`.
    ///
    /// # Errors
    /// What is wrong with the types of a call.
    pub fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match InZone::of(config) {
            Some(zone) => expr.transform_up(|expr| zone.replaced(expr, schema)),
            None => Ok(Transformed::no(expr)),
        }
    }
}

/// A session's zone that is not UTC.
struct InZone(Arc<str>);

impl InZone {
    fn of(config: &ConfigOptions) -> Option<Self> {
        let zone = config.execution.time_zone.as_deref()?;
        (!is_utc(zone)).then(|| Self(zone.into()))
    }

    fn replaced(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let replaced = match &expr {
            Expr::Cast(cast) => self.cast(&cast.expr, cast.field.data_type(), false, schema),
            Expr::TryCast(cast) => self.cast(&cast.expr, cast.field.data_type(), true, schema),
            Expr::BinaryExpr(sum) => self.sum(sum, schema),
            Expr::ScalarFunction(call) => self.call(call, schema)?,
            _ => None,
        };
        Ok(match replaced {
            Some(replaced) => Transformed::yes(replaced),
            None => Transformed::no(expr),
        })
    }

    fn function(&self, conversion: Conversion, args: Vec<Expr>) -> Expr {
        let function = Arc::new(Zoned::function(&self.0, conversion));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
    }

    fn to_moment(&self, inner: &Expr, unit: TimeUnit, label: &Arc<str>, safe: bool) -> Expr {
        let conversion = Conversion::ToMoment { unit, label: Arc::clone(label), safe };
        self.function(conversion, vec![inner.clone()])
    }

    fn cast(&self, inner: &Expr, to: &DataType, safe: bool, schema: &DFSchema) -> Option<Expr> {
        let from = inner.get_type(schema).ok()?;
        let cast = |expr: Expr, to: DataType| match safe {
            true => Expr::TryCast(TryCast::new(Box::new(expr), to)),
            false => Expr::Cast(Cast::new(Box::new(expr), to)),
        };
        match (&from, to) {
            (from, DataType::Timestamp(unit, Some(label)))
                if is_utc(label) && (is_text(from) || is_clock(from)) =>
            {
                Some(self.to_moment(inner, *unit, label, safe))
            }
            (DataType::Timestamp(unit, Some(label)), to)
                if is_utc(label) && (is_clock(to) || is_time(to)) =>
            {
                let clock = self.function(Conversion::ToClock, vec![inner.clone()]);
                match *to == DataType::Timestamp(*unit, None) {
                    true => Some(clock),
                    false => Some(cast(clock, to.clone())),
                }
            }
            (from, to) if is_text(to) => {
                let zoned = Expr::Cast(Cast::new(Box::new(inner.clone()), relabelled(from, &self.0)?));
                Some(cast(zoned, to.clone()))
            }
            (from, to) if to.is_nested() => {
                let has_none = |data_type: &DataType| relabelled(data_type, &self.0).is_none();
                if (has_none(from) && has_none(to)) || differ_by_units(from, to) {
                    return None;
                }
                Some(self.function(Conversion::Nested { to: to.clone(), safe }, vec![inner.clone()]))
            }
            _ => None,
        }
    }

    /// A moment and an interval.
    fn sum(&self, sum: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
        let BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right } = sum else {
            return None;
        };
        let is_moment =
            |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, Some(label)) if is_utc(label));
        // A long sum is a tree to the left: its right side has a type soon.
        let of_right = right.get_type(schema).ok()?;
        let subtracts = *op == Operator::Minus;
        let args = match of_right {
            DataType::Interval(_) if is_moment(&left.get_type(schema).ok()?) => [left, right],
            moment if is_moment(&moment) && !subtracts => match left.get_type(schema).ok()? {
                DataType::Interval(_) => [right, left],
                _ => return None,
            },
            _ => return None,
        };
        let args = args.map(|arg| arg.as_ref().clone());
        Some(self.function(Conversion::Shift { subtracts }, args.into()))
    }

    fn call(&self, call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
        let name = call.func.name();
        if name.starts_with("to_timestamp") {
            return self.to_timestamp(call, schema);
        }
        if name == "to_date" {
            let [moment] = call.args.as_slice() else { return Ok(None) };
            return Ok(self.cast(moment, &DataType::Date32, false, schema));
        }
        if name == "make_timestamptz" && call.args.len() == 6 {
            let zone = ScalarValue::Utf8View(Some(self.0.to_string()));
            let args = call.args.iter().cloned().chain([Expr::Literal(zone, None)]).collect();
            return Ok(Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&call.func), args))));
        }
        if !READ_CLOCKS.contains(&name) && !reads_clocks(&call.func) {
            return Ok(None);
        }
        let (mut args, mut is_other) = (Vec::with_capacity(call.args.len()), false);
        for arg in &call.args {
            args.push(match relabelled(&arg.get_type(schema)?, &self.0) {
                Some(zoned) => {
                    is_other = true;
                    Expr::Cast(Cast::new(Box::new(arg.clone()), zoned))
                }
                None => arg.clone(),
            });
        }
        if !is_other {
            return Ok(None);
        }
        let before = Expr::ScalarFunction(call.clone()).get_type(schema)?;
        let call = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&call.func), args));
        Ok(Some(match call.get_type(schema)? == before {
            true => call,
            false => Expr::Cast(Cast::new(Box::new(call), before)),
        }))
    }

    /// `to_timestamp(text)` and the like, which DataFusion reads in UTC.
    fn to_timestamp(&self, call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
        let [arg] = call.args.as_slice() else { return Ok(None) };
        let from = arg.get_type(schema)?;
        if !is_text(&from) && !is_clock(&from) {
            return Ok(None);
        }
        match Expr::ScalarFunction(call.clone()).get_type(schema)? {
            DataType::Timestamp(unit, Some(label)) if is_utc(&label) => {
                Ok(Some(self.to_moment(arg, unit, &label, false)))
            }
            _ => Ok(None),
        }
    }
}

/// Whether two types differ in the units of their timestamps at most.
fn differ_by_units(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(_, from), DataType::Timestamp(_, to)) => from == to,
        (DataType::List(from), DataType::List(to)) => differ_by_units(from.data_type(), to.data_type()),
        (DataType::Struct(from), DataType::Struct(to)) => {
            let is_same = |(from, to): (&FieldRef, &FieldRef)| {
                from.name() == to.name() && differ_by_units(from.data_type(), to.data_type())
            };
            from.len() == to.len() && from.iter().zip(to).all(is_same)
        }
        (from, to) => from == to,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::datatypes::Field;
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    fn utc() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn schema() -> DFSchema {
        let fields = vec![
            Field::new("at", utc(), false),
            Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("abroad", DataType::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())), true),
            Field::new("said", DataType::Utf8View, true),
        ];
        DFSchema::from_unqualified_fields(fields.into(), std::collections::HashMap::new()).unwrap()
    }

    fn in_zone(zone: &str) -> ConfigOptions {
        let mut config = ConfigOptions::new();
        config.execution.time_zone = Some(zone.to_owned());
        config
    }

    fn rewritten(expr: Expr) -> Transformed<Expr> {
        ZonedTimes.rewrite(expr, &schema(), &in_zone("Europe/Zurich")).unwrap()
    }

    #[test]
    fn types_stay_and_what_was_made_is_left_alone() {
        let day = lit(ScalarValue::new_interval_mdn(0, 1, 0));
        for expr in [
            cast(col("said"), utc()),
            cast(col("local"), utc()),
            cast(col("at"), DataType::Timestamp(TimeUnit::Microsecond, None)),
            cast(col("at"), DataType::Date32),
            cast(col("at"), DataType::Utf8),
            cast(
                cast(col("said"), DataType::new_list(DataType::Utf8, true)),
                DataType::new_list(utc(), true),
            ),
            col("at") + day.clone(),
            day.clone() + col("at"),
            col("at") - day,
        ] {
            let (before, nullable) = (expr.get_type(&schema()).unwrap(), expr.nullable(&schema()).unwrap());
            let once = rewritten(expr.clone());
            assert!(once.transformed, "{expr}");
            assert_eq!(once.data.get_type(&schema()).unwrap(), before, "{expr}");
            assert_eq!(once.data.nullable(&schema()).unwrap(), nullable, "{expr}");
            let again = rewritten(once.data.clone());
            assert_eq!(again.data, once.data, "{expr}");
        }
    }

    #[test]
    fn units_are_all_that_needs_no_zone() {
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let pair = |one: DataType, other: DataType| {
            let members = vec![Field::new("a", one, true), Field::new("b", other, true)];
            DataType::new_list(DataType::Struct(members.into()), true)
        };
        assert!(differ_by_units(&pair(utc(), utc()), &pair(utc(), nanos.clone())));
        assert!(!differ_by_units(&pair(utc(), DataType::Utf8), &pair(utc(), nanos.clone())));
        assert!(!differ_by_units(&utc(), &DataType::Timestamp(TimeUnit::Microsecond, None)));
        let given = rewritten(cast(col("said"), pair(utc(), DataType::Utf8))).data;
        assert!(rewritten(cast(given, pair(utc(), utc()))).transformed);
        let once = rewritten(cast(col("said"), pair(utc(), utc()))).data;
        assert!(!rewritten(cast(once, pair(utc(), nanos))).transformed);
    }

    #[test]
    fn what_needs_no_zone_stays() {
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        for expr in [
            cast(col("at"), nanos),
            cast(col("abroad"), DataType::Date32),
            cast(col("said"), DataType::Date32),
            cast(col("said"), DataType::Timestamp(TimeUnit::Microsecond, Some("+02:00".into()))),
            col("at") - col("at"),
            col("local") + lit(ScalarValue::new_interval_mdn(0, 1, 0)),
        ] {
            assert!(!rewritten(expr.clone()).transformed, "{expr}");
        }
        let read = cast(col("said"), utc());
        assert!(!ZonedTimes.rewrite(read, &schema(), &in_zone("+00:00")).unwrap().transformed);
    }
}
