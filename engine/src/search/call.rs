//! A call of `vector_search` as it is written: `vector_search('table', 'column', vector, k => 10, filter => '…', metric => '…', mode => '…', ef => …)`.
//!
//! Owns: knowing one in FROM, which table it searches, its arguments and their errors. Does not own: what the names stand for, and the
//! vector (`relation`).

use std::collections::HashSet;
use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use cairn_vector::Metric;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, TableAlias, TableFactor, Value,
    Visitor,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::dialect::CairnDialect;
use crate::error::{Error, Result};
use crate::statement::name_of;
use crate::statement::walk;

/// The function's name.
pub(crate) const FUNCTION: &str = "vector_search";
/// Its named arguments, with the values of those that have a list of them.
pub(crate) const ARGUMENTS: &[(&str, &[&str])] = &[
    ("k", &[]),
    ("filter", &[]),
    ("metric", &["l2", "cosine", "ip", "l1"]),
    ("mode", &["auto", "ann", "exact"]),
    ("ef", &[]),
];
/// Rows when k is not said.
const K_DEFAULT: usize = 10;
/// Most rows of one search: they are held in memory.
const K_MAX: usize = 1_000_000;
/// What may stand for an argument.
const CONSTANT: &str = "an argument is a value, a parameter, or an expression of them, the same for all rows; only the vector may be made of columns";
/// Widest walk.
const EF_MAX: usize = 1_000_000;

/// Name, arguments and alias of a call of this function.
pub(super) fn call_of(relation: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], Option<&TableAlias>)> {
    let (name, args, alias) = match relation {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return None,
    };
    let is_search =
        matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|i| name_of(i) == FUNCTION));
    is_search.then_some((name, args, alias.as_ref()))
}

/// The arguments of a call; none of what is no function.
pub(super) fn arguments_mut(relation: &mut TableFactor) -> &mut [FunctionArg] {
    match relation {
        TableFactor::Table { args: Some(args), .. } => args.args.as_mut_slice(),
        TableFactor::Function { args, .. } => args.as_mut_slice(),
        _ => &mut [],
    }
}

/// Whether a relation is a call of this function.
pub(crate) fn is_search(factor: &TableFactor) -> bool {
    call_of(factor).is_some()
}

/// The table that a call searches; None: no call, or one that names none.
pub(crate) fn searched(factor: &TableFactor) -> Option<ObjectName> {
    let (_, args, _) = call_of(factor)?;
    let table = args.iter().find_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(table)) => Some(table),
        _ => None,
    })?;
    object(table).ok()
}

/// The text of a call's filter; None: no call, or it has none that can be read.
pub(super) fn filter_of(factor: &TableFactor) -> Option<&str> {
    let (_, args, _) = call_of(factor)?;
    args.iter().find_map(|arg| match arg {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(SqlExpr::Value(value)), .. }
            if name_of(name) == "filter" =>
        {
            match &value.value {
                Value::SingleQuotedString(text) => Some(text.as_str()),
                _ => None,
            }
        }
        _ => None,
    })
}

/// The tables that calls in a query search, where the call says so in a way that can be read.
pub(crate) fn searched_in(query: &Query) -> Vec<ObjectName> {
    struct Tables(Vec<ObjectName>);

    impl Visitor for Tables {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            self.0.extend(searched(factor));
            ControlFlow::Continue(())
        }
    }

    let mut tables = Tables(Vec::new());
    let _ = walk::visit(query, &mut tables);
    tables.0
}

/// What a call says.
pub(super) struct Arguments {
    pub(super) table: ObjectName,
    pub(super) column: String,
    pub(super) query: SqlExpr,
    pub(super) k: usize,
    pub(super) filter: Option<String>,
    pub(super) metric: Option<Metric>,
    pub(super) exact: bool,
    pub(super) width: Option<usize>,
}

impl Arguments {
    /// Those of a call.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(args: Vec<FunctionArg>) -> Result<Self> {
        let mut positional = Vec::new();
        let (mut k, mut filter, mut metric, mut mode, mut ef) =
            (K_DEFAULT, None, None, "auto".to_owned(), None);
        let mut said = HashSet::new();
        for arg in args {
            let (name, value) = named(arg)?;
            if let Some(name) = &name
                && !said.insert(name.clone())
            {
                return Err(invalid("42601", format!("vector_search is told {name} more than once")));
            }
            match name.as_deref() {
                None => positional.push(value),
                Some("k") => k = number("k", &value, K_MAX)?,
                Some("ef") => ef = Some(number("ef", &value, EF_MAX)?),
                Some("filter") => filter = Some(text("filter", &value)?),
                Some("mode") => mode = text("mode", &value)?.to_ascii_lowercase(),
                Some("metric") => metric = Some(metric_of(&text("metric", &value)?)?),
                Some("as_of") => return Err(Error::not_supported_yet("vector_search(… as_of => …)")),
                Some(other) => {
                    return Err(invalid("42883", format!("vector_search has no argument {other}")).map(|e| {
                        e.with_hint("vector_search(table, column, vector, k => 10, filter => '…', metric => '…', mode => 'auto', ef => …)")
                    }));
                }
            }
        }
        let count = positional.len();
        let [table, column, query] = <[SqlExpr; 3]>::try_from(positional).map_err(|_| {
            invalid(
                "42883",
                format!("vector_search takes a table, a column and a vector, not {count} arguments"),
            )
        })?;
        let exact = match mode.as_str() {
            "exact" if ef.is_some() => return Err(invalid("22023", "an exact search has no ef")),
            "exact" => true,
            "auto" | "ann" => false,
            other => {
                return Err(invalid("22023", format!("there is no mode {other}"))
                    .map(|e| e.with_hint("modes: auto, ann, exact")));
            }
        };
        Ok(Self {
            table: object(&table)?,
            column: column_name(&column)?,
            query,
            k,
            filter,
            metric,
            exact,
            width: ef,
        })
    }
}

fn named(arg: FunctionArg) -> Result<(Option<String>, SqlExpr)> {
    let (name, arg) = match arg {
        FunctionArg::Unnamed(arg) => (None, arg),
        FunctionArg::Named { name, arg, .. } => (Some(name_of(&name)), arg),
        FunctionArg::ExprNamed { name, .. } => {
            return Err(invalid("42601", format!("{name} is no name of an argument")));
        }
    };
    match arg {
        FunctionArgExpr::Expr(value) => Ok((name, value)),
        _ => Err(invalid("42601", "vector_search takes no * as an argument")),
    }
}

fn text(name: &str, value: &SqlExpr) -> Result<String> {
    match value {
        SqlExpr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            _ => Err(invalid("22023", format!("{name} of vector_search must be a text, not {value}"))),
        },
        _ => Err(invalid("22023", format!("{name} of vector_search must be a text, not {value}"))
            .map(|e| e.with_hint(CONSTANT))),
    }
}

fn number(name: &str, value: &SqlExpr, max: usize) -> Result<usize> {
    let number = match value {
        SqlExpr::Value(v) => match &v.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        // As the value of a parameter is written.
        SqlExpr::Cast { expr, .. } => match expr.as_ref() {
            SqlExpr::Value(v) => match &v.value {
                Value::SingleQuotedString(digits) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    number.filter(|n| (1..=max).contains(n)).ok_or_else(|| {
        let (shown, is_value) = match value {
            SqlExpr::Cast { expr, .. } => (expr.to_string().trim_matches('\'').to_owned(), true),
            value => (value.to_string(), matches!(value, SqlExpr::Value(_))),
        };
        let error = invalid(
            "22023",
            format!("{name} of vector_search must be a number from 1 to {max}, not {shown}"),
        );
        if is_value { error } else { error.map(|e| e.with_hint(CONSTANT)) }
    })
}

fn metric_of(name: &str) -> Result<Metric> {
    let lower = name.to_ascii_lowercase();
    let name = if lower == "ip" { "inner_product" } else { &lower };
    Metric::from_name(name).ok_or_else(|| {
        invalid("22023", format!("there is no metric {lower}"))
            .map(|e| e.with_hint("metrics: l2, cosine, ip (inner_product), l1"))
    })
}

/// A table as text ('t', 'schema.t') or as a name.
pub(super) fn object(value: &SqlExpr) -> Result<ObjectName> {
    let name = match value {
        SqlExpr::Identifier(ident) => return Ok(ObjectName::from(vec![ident.clone()])),
        SqlExpr::CompoundIdentifier(parts) => return Ok(ObjectName::from(parts.clone())),
        value => text("table", value)?,
    };
    let parsed = Parser::new(&CairnDialect).try_with_sql(&name).and_then(|mut p| {
        let parsed = p.parse_object_name(false)?;
        p.expect_token(&Token::EOF)?;
        Ok(parsed)
    });
    parsed.map_err(|_| {
        invalid("42602", format!("'{name}' is not the name of a table"))
            .map(|e| e.with_hint("quote what is no plain name: 'schema.\"My Table\"'"))
    })
}

/// A column, as text or as a name.
pub(super) fn column_name(value: &SqlExpr) -> Result<String> {
    match value {
        SqlExpr::Identifier(ident) => Ok(name_of(ident)),
        value => {
            let name = text("column", value)?;
            // As an identifier would be, so that 'Embedding' finds what CREATE TABLE made of Embedding.
            Ok(name_of(&match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
                Some(quoted) => Ident::with_quote('"', quoted),
                None => Ident::new(name),
            }))
        }
    }
}

pub(super) fn invalid(sqlstate: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}
