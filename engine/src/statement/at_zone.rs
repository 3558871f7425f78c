//! `timestamp AT TIME ZONE zone` as the call `timezone(zone, timestamp)`, as PostgreSQL reads it.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, TimezoneInfo, Value,
};

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
            let args = [*time_zone, timestamp].map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
            let args =
                FunctionArgumentList { duplicate_treatment: None, args: args.into(), clauses: Vec::new() };
            Expr::Function(Function {
                name: ObjectName::from(vec![Ident::new("timezone")]),
                uses_odbc_syntax: false,
                parameters: FunctionArguments::None,
                args: FunctionArguments::List(args),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            })
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
