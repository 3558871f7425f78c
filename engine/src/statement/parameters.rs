//! The parameters of a statement, before they have values.
//!
//! Owns: which there are, in order, the type each is known to have, and that no value is given to none of them. Does not own: their
//! values (`dml::params`, the planner).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, Value, Visit};

use super::Statement;
use super::placeholder::number_of;
use super::walk;
use crate::copy::CopySubject;
use crate::error::{Error, Result};

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
    /// Those of a whole statement, wherever it may hold a query.
    pub(crate) fn of_statement(statement: &Statement) -> Self {
        match statement {
            Statement::Query(query) => Self::of(query.as_ref()),
            Statement::Dml(change) => Self::of(change.as_ref()),
            Statement::CreateTable(table) => Self::of(table.as_ref()),
            Statement::AlterTable(alter) => Self::of(alter.as_ref()),
            Statement::CreateView(view) => Self::of(view.as_ref()),
            Statement::CreateIndex(index) => Self::of(index.as_ref()),
            Statement::Explain(explain) => Self::of_statement(&explain.statement),
            Statement::Execute(execute) => Self::of(&execute.values),
            Statement::Copy(copy) => match &copy.subject {
                CopySubject::Query(query) => Self::of(query.as_ref()),
                CopySubject::Table { .. } => Self::default(),
            },
            Statement::Reindex(_)
            | Statement::CreateSchema { .. }
            | Statement::Drop(_)
            | Statement::Truncate { .. }
            | Statement::Describe(_)
            | Statement::Show(_)
            | Statement::Set { .. }
            | Statement::Reset(_)
            | Statement::Use(_)
            | Statement::Checkpoint(_)
            | Statement::Compact(_)
            | Statement::Vacuum(_)
            | Statement::Jobs(_)
            | Statement::Verify { .. }
            | Statement::Warm(_)
            | Statement::Transaction(_)
            | Statement::Account(_)
            | Statement::SetForDatabase { .. }
            | Statement::Secret(_)
            // Those of its statement are EXECUTE's.
            | Statement::Prepare(_)
            | Statement::Deallocate(_)
            | Statement::KillQuery(_)
            | Statement::WaitForVersion { .. } => Self::default(),
        }
    }

    /// Those of a part of a statement, of no known type.
    pub(crate) fn of<V: Visit>(statement: &V) -> Self {
        let (mut names, mut seen) = (Vec::new(), HashSet::<String>::new());
        let _ = walk::expressions(statement, |expr| {
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

    /// As first seen, without the `$`.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether each has a type.
    pub(crate) fn are_typed(&self) -> bool {
        self.names.iter().all(|name| self.types.contains_key(name))
    }

    /// That every one of `values` belongs to a parameter; those that are missing are told where they are looked up.
    ///
    /// # Errors
    /// 07001 for one too many.
    pub(crate) fn take(&self, values: &ParamValues) -> Result<()> {
        match values {
            ParamValues::List(values) if self.are_numbered() && values.len() > self.largest() => {
                Err(wrong_count(self.largest(), values.len()))
            }
            ParamValues::List(_) => Ok(()),
            ParamValues::Map(values) => {
                let known: HashSet<&str> = self.names.iter().map(String::as_str).collect();
                match values.keys().filter(|name| !known.contains(name.as_str())).min() {
                    Some(name) => Err(wrong(format!("the statement has no parameter ${name}"))),
                    None => Ok(()),
                }
            }
        }
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

/// The error for a statement of `wanted` parameters that is `given` another number of values.
pub(crate) fn wrong_count(wanted: usize, given: usize) -> Error {
    let parameters = if wanted == 1 { "parameter" } else { "parameters" };
    let were = match given {
        0 => "none were".to_owned(),
        1 => "1 was".to_owned(),
        _ => format!("{given} were"),
    };
    wrong(format!("the statement has {wanted} {parameters}, {were} given"))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("07001"))
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
