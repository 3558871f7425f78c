//! `generate_series` and `range` in FROM, between moments that the session's zone has a say in.
//!
//! The planner computes the arguments of functions in FROM by itself, as if the session were in UTC. Owns: computing those that are moments before
//! it does. Does not own: the series (`cairn_udfs`); arguments that read parameters or columns stay as they are.

use std::ops::ControlFlow;

use cairn_udfs::zones::is_utc;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::DFSchema;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr as PlannedExpr;
use datafusion::sql::sqlparser::ast::{
    self, CastKind, Expr, ExprWithAlias, FunctionArg, FunctionArgExpr, TableFactor, TimezoneInfo, Value,
    VisitorMut,
};

use super::walk;
use crate::config::zone_of;
use crate::dml;

const SERIES: [&str; 2] = ["generate_series", "range"];

/// Has the series in FROM begin and end at moments that say their offset. In UTC nothing is to be done.
pub(crate) fn series_in_zone(statement: &mut ast::Statement, state: &SessionState) {
    if zone_of(state.config_options()).is_some() {
        let _ = walk::visit_mut(statement, &mut Arguments { state });
    }
}

struct Arguments<'a> {
    state: &'a SessionState,
}

impl VisitorMut for Arguments<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let (name, args) = match factor {
            TableFactor::Table { name, args: Some(args), .. } => (name.to_string(), &mut args.args),
            TableFactor::Function { name, args, .. } => (name.to_string(), args),
            _ => return ControlFlow::Continue(()),
        };
        if !SERIES.iter().any(|series| name.eq_ignore_ascii_case(series)) {
            return ControlFlow::Continue(());
        }
        for arg in args.iter_mut() {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg
                && let Some(moment) = self.moment(expr)
            {
                *expr = moment;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Arguments<'_> {
    /// The moment that an argument is, with its offset; None: it is something else, or not known yet.
    fn moment(&self, expr: &Expr) -> Option<Expr> {
        let (schema, written) = (DFSchema::empty(), ExprWithAlias { expr: expr.clone(), alias: None });
        // What is wrong with it, the planner says.
        let planned = self.state.create_logical_expr_from_sql_expr(written, &schema).ok()?;
        let PlannedExpr::Literal(value, _) = dml::simplified(self.state, planned, &schema).ok()? else {
            return None;
        };
        match value.data_type() {
            DataType::Timestamp(_, Some(label)) if is_utc(&label) && !value.is_null() => {}
            _ => return None,
        }
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let text = array_value_to_string(&value.cast_to(&nanos).ok()?.to_array().ok()?, 0).ok()?;
        Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::value(Value::SingleQuotedString(text))),
            data_type: ast::DataType::Timestamp(Some(9), TimezoneInfo::Tz),
            array: false,
            format: None,
        })
    }
}
