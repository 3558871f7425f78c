//! `WITH … INSERT | UPDATE | DELETE | MERGE`: the named queries go to the SELECT that the change reads its rows from.
//!
//! Owns: taking the parsed form apart. The parser gives a query whose body is the change; until planning it stays one, so
//! that everything that looks through a statement for names knows the ones WITH brings. Does not own: changes inside WITH,
//! which the guard of `statement` refuses.

use datafusion::sql::sqlparser::ast::{Ident, ObjectNamePart, Query, SetExpr, Statement, TableFactor, With};

use super::target::ident_text;

/// The change and the WITH before it.
pub(super) fn take_apart(statement: Statement) -> (Option<With>, Statement) {
    match statement {
        Statement::Query(query) => match *query.body {
            SetExpr::Insert(change)
            | SetExpr::Update(change)
            | SetExpr::Delete(change)
            | SetExpr::Merge(change) => (query.with, change),
            body => (None, Statement::Query(Box::new(Query { body: Box::new(body), ..*query }))),
        },
        other => (None, other),
    }
}

/// `query` below `with`; a WITH of its own stays inside.
pub(crate) fn put_before(with: Option<With>, mut query: Query) -> Query {
    if with.is_none() || query.with.is_none() {
        query.with = query.with.or(with);
        return query;
    }
    Query {
        with,
        body: Box::new(SetExpr::Query(Box::new(query))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// Names the changed table with its schema where a query of WITH has its name: what is changed is never that query.
pub(super) fn keep_apart(with: Option<&With>, target: &mut TableFactor, schema: &str) {
    let TableFactor::Table { name, .. } = target else { return };
    let [only] = name.0.as_slice() else { return };
    let Some(only) = only.as_ident().map(ident_text) else { return };
    if with.is_some_and(|w| w.cte_tables.iter().any(|cte| ident_text(&cte.alias.name) == only)) {
        let schema = Ident::with_quote('"', schema);
        name.0.insert(0, ObjectNamePart::Identifier(schema));
    }
}
