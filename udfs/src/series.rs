//! `generate_series` and `range` as tables, of timestamps as Cairn has them.
//!
//! Owns: their arguments in the one form that DataFusion's functions take: nanoseconds, and intervals of months, days and nanoseconds. Does not
//! own: the series. Of dates and timestamps a step that is left out is one day.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::function::is_text;

/// Has the functions of `state` take timestamps of any unit.
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
        let given = converted(args.exprs())?;
        self.inner.call_with_args(TableFunctionArgs::new(&given, args.session()))
    }
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
    fn numbers_stay() {
        let numbers = [literal(ScalarValue::Int64(Some(1))), literal(ScalarValue::Int64(Some(9)))];
        assert_eq!(converted(&numbers).unwrap(), numbers);
    }
}
