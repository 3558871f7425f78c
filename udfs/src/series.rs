//! `generate_series` and `range` as tables, of timestamps as Cairn has them.
//!
//! Owns: their arguments in the one form that DataFusion's functions take: nanoseconds, and intervals of months, days and nanoseconds. Does not
//! own: the series. Of dates and timestamps a step that is left out is one day; days of moments are those of clocks in the session's zone.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col};

use crate::function::is_text;
use crate::zones::is_utc;

/// The one column of a series.
const VALUE: &str = "value";

/// Has the functions of `state` take timestamps of any unit, and steps by the clocks of the session's zone.
pub fn register_series(state: &mut SessionState) {
    for name in ["generate_series", "range"] {
        if let Some(function) = state.table_functions().get(name) {
            let inner = Arc::clone(function.function());
            state.register_udtf(name, Arc::new(Series { inner }));
        }
    }
}

#[derive(Debug)]
struct Series {
    inner: Arc<dyn TableFunctionImpl>,
}

impl TableFunctionImpl for Series {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let mut given = converted(args.exprs())?;
        let zone = args.session().config_options().execution.time_zone.as_deref();
        let label = match (given.first_mut(), zone.filter(|zone| !is_utc(zone))) {
            (Some(start), Some(zone)) => begun_in(start, zone),
            _ => None,
        };
        let series = self.inner.call_with_args(TableFunctionArgs::new(&given, args.session()))?;
        match label {
            Some(label) => labelled(series, label),
            None => Ok(series),
        }
    }
}

/// Has a series that starts at the moment `start` take its steps by clocks of `zone`; the label that its type had, if it is one.
fn begun_in(start: &mut Expr, zone: &str) -> Option<Arc<str>> {
    let Expr::Literal(ScalarValue::TimestampNanosecond(_, label), _) = start else { return None };
    let of_type = label.as_ref().filter(|label| is_utc(label)).map(Arc::clone)?;
    *label = Some(zone.into());
    Some(of_type)
}

/// `series` with types that say `label` for their zone, as those of the session do: the moments are the same.
fn labelled(series: Arc<dyn TableProvider>, label: Arc<str>) -> Result<Arc<dyn TableProvider>> {
    let moment = DataType::Timestamp(TimeUnit::Nanosecond, Some(label));
    let value = cast(col(VALUE), moment).alias(VALUE);
    let plan = LogicalPlanBuilder::scan("series", provider_as_source(series), None)?.project([value])?;
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

/// `exprs` as DataFusion takes them; what is no series of times stays as it is.
fn converted(exprs: &[Expr]) -> Result<Vec<Expr>> {
    let of_times = match exprs.first() {
        Some(Expr::Literal(start, _)) => {
            matches!(start.data_type(), DataType::Timestamp(..) | DataType::Date32)
        }
        _ => false,
    };
    if !of_times {
        return Ok(exprs.to_vec());
    }
    let mut converted = exprs.iter().enumerate().map(argument).collect::<Result<Vec<Expr>>>()?;
    if converted.len() == 2 {
        let day = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 1, 0)));
        converted.push(Expr::Literal(day, None));
    }
    Ok(converted)
}

fn argument((at, expr): (usize, &Expr)) -> Result<Expr> {
    let Expr::Literal(value, metadata) = expr else { return Ok(expr.clone()) };
    let data_type = match value.data_type() {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone),
        of if at == 2 && (is_text(&of) || matches!(of, DataType::Interval(_))) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        _ => return Ok(expr.clone()),
    };
    Ok(Expr::Literal(value.cast_to(&data_type)?, metadata.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn literal(value: ScalarValue) -> Expr {
        Expr::Literal(value, None)
    }

    #[test]
    fn times_become_nanoseconds() {
        let micros = |micros| literal(ScalarValue::TimestampMicrosecond(Some(micros), None));
        let nanos = |nanos| literal(ScalarValue::TimestampNanosecond(Some(nanos), None));
        let day = literal(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 1, 0))));
        let wanted = [nanos(1_000), nanos(2_000), day.clone()];
        assert_eq!(converted(&[micros(1), micros(2)]).unwrap(), wanted);
        let text = literal(ScalarValue::Utf8(Some("1 day".to_owned())));
        assert_eq!(converted(&[micros(1), micros(2), text]).unwrap(), wanted);
        assert!(converted(&[micros(i64::MAX), micros(2), day]).is_err());
    }

    #[test]
    fn moments_take_steps_in_the_zone() {
        let moment =
            |label: Option<&str>| literal(ScalarValue::TimestampNanosecond(Some(1), label.map(Into::into)));
        let mut start = moment(Some("UTC"));
        assert_eq!(begun_in(&mut start, "Europe/Zurich").as_deref(), Some("UTC"));
        assert_eq!(start, moment(Some("Europe/Zurich")));
        for mut other in [moment(None), moment(Some("+02:00")), literal(ScalarValue::Int64(Some(1)))] {
            let before = other.clone();
            assert_eq!(begun_in(&mut other, "Europe/Zurich"), None);
            assert_eq!(other, before);
        }
    }

    #[test]
    fn numbers_stay() {
        let numbers = [literal(ScalarValue::Int64(Some(1))), literal(ScalarValue::Int64(Some(9)))];
        assert_eq!(converted(&numbers).unwrap(), numbers);
    }
}
