//! Statements that were parsed lately, by their text.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use datafusion::common::ParamValues;

use super::direct::Direct;
use crate::error::Result;
use crate::statement::{Parameters, Statement};

/// Statements kept.
const KEPT_MAX: usize = 32;
/// Longer ones hold their values themselves, and seldom come again.
const TEXT_BYTES_MAX: usize = 4096;

/// A parsed statement and what is known of it before names are looked up.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) statement: Statement,
    /// What the plan of a query is kept under; None: of something else, or of one that seldom comes again.
    pub(super) text: Option<Arc<str>>,
    /// How it is answered without a planner, if it may be.
    pub(super) direct: Option<Direct>,
    /// Looked for when values come.
    parameters: OnceLock<Parameters>,
}

impl Prepared {
    /// The statement that was parsed from `text`.
    pub(super) fn new(statement: Statement, text: &str) -> Self {
        let is_kept = matches!(statement, Statement::Query(_)) && text.len() <= TEXT_BYTES_MAX;
        let (direct, text) = (Direct::recognise(&statement), is_kept.then(|| Arc::from(text)));
        Self { direct, text, statement, parameters: OnceLock::new() }
    }

    /// That every one of `params` belongs to a parameter of the statement.
    ///
    /// # Errors
    /// 07001 for one too many.
    pub(super) fn take(&self, params: &ParamValues) -> Result<()> {
        self.parameters.get_or_init(|| Parameters::of_statement(&self.statement)).take(params)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements {
    /// The least recently used first.
    kept: VecDeque<(String, Arc<Prepared>)>,
}

impl PreparedStatements {
    pub(super) fn get(&mut self, sql: &str) -> Option<Arc<Prepared>> {
        let at = self.kept.iter().rposition(|(text, _)| text == sql)?;
        if at + 1 < self.kept.len() {
            let found = self.kept.remove(at)?;
            self.kept.push_back(found);
        }
        self.kept.back().map(|(_, prepared)| Arc::clone(prepared))
    }

    pub(super) fn put(&mut self, sql: &str, prepared: &Arc<Prepared>) {
        if sql.len() > TEXT_BYTES_MAX
            || !matches!(prepared.statement, Statement::Query(_) | Statement::Dml(_))
        {
            return;
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((sql.to_owned(), Arc::clone(prepared)));
    }
}
