//! `timestamp AT TIME ZONE zone` as the call `timezone(zone, timestamp)`, as PostgreSQL reads it.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, TimezoneInfo, Value};

use super::cast::call;

/// AT TIME ZONE as a call; anything else as it is. A text in quotes is a TIMESTAMPTZ.
pub(super) fn called(expr: Expr) -> Expr {
    match expr {
        Expr::AtTimeZone { timestamp, time_zone } => {
            let timestamp = match *timestamp {
                Expr::Value(text) if matches!(text.value, Value::SingleQuotedString(_)) => Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(Expr::Value(text)),
                    data_type: DataType::Timestamp(None, TimezoneInfo::Tz),
                    array: false,
                    format: None,
                },
                other => other,
            };
            call("timezone", vec![*time_zone, timestamp])
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::{Statement, parse};

    #[test]
    fn the_zone_comes_first() {
        let query = |sql| match parse(sql) {
            Ok(Statement::Query(query)) => query.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            query("SELECT a AT TIME ZONE 'UTC' AT TIME ZONE z AS a FROM t"),
            "SELECT timezone(z, timezone('UTC', a)) AS a FROM t"
        );
        assert_eq!(
            query("SELECT '2024-07-01' AT TIME ZONE 'UTC' AS a"),
            "SELECT timezone('UTC', CAST('2024-07-01' AS TIMESTAMPTZ)) AS a"
        );
    }
}
