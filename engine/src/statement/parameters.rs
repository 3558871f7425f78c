//! The parameters of a statement, before they have values.
//!
//! Owns: which there are, in order, and the type each is known to have. Does not own: their values (`dml::params`, the planner).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, Statement, Value, visit_expressions};

use super::placeholder::number_of;

/// One parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `1` for `$1`, `name` for `$name`.
    pub name: String,
    /// The type its place asks for; None: any.
    pub data_type: Option<DataType>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// As first seen, without the `$`.
    names: Vec<String>,
    types: HashMap<String, DataType>,
}

impl Parameters {
    /// Those of `statement`, of no known type.
    pub(crate) fn of(statement: &Statement) -> Self {
        let (mut names, mut seen) = (Vec::new(), HashSet::<String>::new());
        let _ = visit_expressions(statement, |expr| {
            if let Some(name) = placeholder(expr)
                && !seen.contains(name)
            {
                seen.insert(name.to_owned());
                names.push(name.to_owned());
            }
            ControlFlow::<()>::Continue(())
        });
        Self { names, types: HashMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether they are `$1`, `$2`, … rather than named.
    pub(crate) fn are_numbered(&self) -> bool {
        self.names.iter().all(|name| number_of(name).is_some())
    }

    /// The largest number among the names; 0 when none has one.
    fn largest(&self) -> usize {
        self.names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0)
    }

    /// That `expr` gets a value of `data_type`, when it is a parameter.
    pub(crate) fn assign(&mut self, expr: &Expr, data_type: &DataType) {
        if let Some(name) = placeholder(expr) {
            self.types.entry(name.to_owned()).or_insert_with(|| data_type.clone());
        }
    }

    /// Takes the types the planner found.
    pub(crate) fn take_types(&mut self, plan: &LogicalPlan) {
        // It refuses one that stands in places of different types; such a parameter is of any type.
        let Ok(types) = plan.get_parameter_types() else { return };
        for (name, data_type) in types {
            if let Some(data_type) = data_type {
                self.types.entry(bare(&name).to_owned()).or_insert(data_type);
            }
        }
    }

    /// One of each: `$1` up to the largest number, or the named ones by their first place.
    pub(crate) fn list(&self) -> Vec<Parameter> {
        let names: Vec<String> = match self.are_numbered() {
            true => (1..=self.largest()).map(|n| n.to_string()).collect(),
            false => self.names.clone(),
        };
        names.into_iter().map(|name| Parameter { data_type: self.types.get(&name).cloned(), name }).collect()
    }
}

fn placeholder(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => Some(bare(name)),
            _ => None,
        },
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches(['$', ':', '@'])
}
