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
            let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(*expr))];
            let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
            Expr::Function(Function {
                name: ObjectName::from(vec![Ident::new("vector")]),
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
