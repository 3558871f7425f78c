//! `value::vector`, as pgvector's clients write it: a cast to a type whose length the value has.

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName,
};

/// A cast to `vector` without a number of dimensions as a call of the function of that name; anything else as it is.
pub(super) fn sized(expr: Expr) -> Expr {
    match expr {
        Expr::Cast { expr, data_type: DataType::Custom(name, modifiers), .. }
            if modifiers.is_empty() && name.to_string().eq_ignore_ascii_case("vector") =>
        {
            call("vector", vec![*expr])
        }
        other => other,
    }
}

/// A call of the function of that name.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use crate::statement::{Statement, parse};

    #[test]
    fn a_vector_is_as_long_as_its_value() {
        let query = |sql| match parse(sql) {
            Ok(Statement::Query(query)) => query.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            query("SELECT a FROM t ORDER BY e <-> '[1,2]'::vector LIMIT 3"),
            "SELECT a FROM t ORDER BY e <-> vector('[1,2]') LIMIT 3"
        );
        assert_eq!(
            query("SELECT CAST($1 AS VECTOR) AS a, b::VECTOR(2) AS b"),
            "SELECT vector($1) AS a, b::VECTOR(2) AS b"
        );
    }
}
