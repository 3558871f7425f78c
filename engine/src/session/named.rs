//! Statements that a session has prepared by name: PREPARE, EXECUTE, DEALLOCATE, `system.prepared_statements`.
//!
//! Owns: the names, the values of EXECUTE in the types of the parameters. They live as long as their session and are part of no
//! transaction. Nothing of a plan is kept here: a statement is executed as its text would be (`template`), against the tables as they are then.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cairn_storage::ErrorKind;
use cairn_storage::schema::ColumnType;
use cairn_udfs::zones;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::{self, ExprWithAlias, Ident};
use futures::FutureExt;

use super::prepared::Prepared;
use super::{Session, done};
use crate::config::Settings;
use crate::dml;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::running::RunningStatement;
use crate::statement::walk;
use crate::statement::{
    ExecuteStatement, Parameter, Parameters, PrepareStatement, Statement, ident_position, name_of,
    settle_nested, wrong_count,
};

/// Statements that a session may have prepared at the same time.
const NAMED_MAX: usize = 256;
/// Longest text of one, in bytes: what is made of it takes many times as much memory.
const NAMED_TEXT_BYTES_MAX: usize = 64 << 10;
/// The same of all texts of a session together.
const NAMED_BYTES_MAX: usize = 1 << 20;

/// Those of one session.
#[derive(Debug, Default)]
pub(crate) struct NamedStatements(Mutex<BTreeMap<String, Arc<NamedStatement>>>);

/// One prepared statement.
#[derive(Debug)]
pub(crate) struct NamedStatement {
    /// As PREPARE had it.
    pub(crate) text: String,
    /// When it was prepared.
    pub(crate) prepared: SystemTime,
    /// Of each parameter what its values become.
    parameters: Vec<Wanted>,
    statement: Statement,
}

/// What the value of a parameter becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// It stays as it is.
    Any,
    /// Its place asks for this type: texts and NULL are taken as such, what has a type of its own is converted there.
    Inferred(DataType),
    /// PREPARE says so.
    Declared(DataType),
}

impl NamedStatement {
    /// The types of its parameters; None: any.
    pub(crate) fn types(&self) -> impl Iterator<Item = Option<&DataType>> {
        self.parameters.iter().map(|wanted| match wanted {
            Wanted::Any => None,
            Wanted::Inferred(data_type) | Wanted::Declared(data_type) => Some(data_type),
        })
    }
}

impl NamedStatements {
    /// All of them by name.
    pub(crate) fn all(&self) -> Vec<(String, Arc<NamedStatement>)> {
        self.held().iter().map(|(name, statement)| (name.clone(), Arc::clone(statement))).collect()
    }

    fn find(&self, name: &Ident) -> Result<Arc<NamedStatement>> {
        self.held().get(&name_of(name)).cloned().ok_or_else(|| missing(name))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Arc<NamedStatement>>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// PREPARE: what is wrong with the statement is told now.
    pub(super) async fn prepare_named(
        &self,
        statement: &PrepareStatement,
        settings: &Settings,
    ) -> Result<Output> {
        let PrepareStatement { name, types, statement, text, .. } = statement;
        check_new(&self.named.held(), name, text)?;
        if text.len() > NAMED_TEXT_BYTES_MAX {
            let message = format!(
                "the statement has {} bytes; at most {NAMED_TEXT_BYTES_MAX} can be prepared by name",
                text.len()
            );
            return Err(Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
                e.with_sqlstate("54000").with_hint("give long texts and lists as values of EXECUTE")
            }));
        }
        let description = self.described_again(statement, settings).await?;
        let mut parameters = Vec::new();
        for (i, parameter) in description.parameters.into_iter().enumerate() {
            if parameter.name.parse::<usize>().ok() != Some(i + 1) {
                return Err(Error::not_supported_yet("PREPARE of a statement with named parameters")
                    .map(|e| e.with_hint("call them $1, $2, …")));
            }
            parameters.push(parameter.data_type.map_or(Wanted::Any, Wanted::Inferred));
        }
        for (i, declared) in types.iter().enumerate() {
            let declared = Wanted::Declared(declared.clone());
            match parameters.get_mut(i) {
                Some(parameter) => *parameter = declared,
                None => parameters.push(declared),
            }
        }
        let named = NamedStatement {
            text: text.clone(),
            prepared: SystemTime::now(),
            parameters,
            statement: Statement::clone(statement),
        };
        let mut held = self.named.held();
        // Another call may have been first.
        check_new(&held, name, text)?;
        held.insert(name_of(name), Arc::new(named));
        Ok(done("PREPARE"))
    }

    /// DEALLOCATE.
    pub(super) fn deallocate(&self, name: Option<&Ident>) -> Result<Output> {
        let mut held = self.named.held();
        match name {
            Some(name) => {
                held.remove(&name_of(name)).ok_or_else(|| missing(name))?;
            }
            None => held.clear(),
        }
        Ok(done("DEALLOCATE"))
    }

    /// What is run for `prepared`: for EXECUTE the statement it names, with its values. These are computed within the time of the
    /// statement and on its threads, as what is made of them is: functions in them may take long.
    ///
    /// # Errors
    /// 26000 when there is none of that name; a value that does not fit its parameter.
    pub(super) async fn executed(
        &self,
        prepared: Arc<Prepared>,
        params: Option<ParamValues>,
        running: &Arc<RunningStatement>,
    ) -> Result<(Arc<Prepared>, Option<ParamValues>)> {
        let Statement::Execute(execute) = &prepared.statement else { return Ok((prepared, params)) };
        if let Some(params) = &params {
            prepared.take(params)?;
        }
        let named = self.named.find(&execute.name)?;
        let executed = self.prepared_of(&named);
        self.take_defaults().await?;
        let limits = self.limits.of_statement(self.own_limits().await?, None, Some(running));
        let (session, timeout) = (self.handle(), self.lock().settings.statement_timeout);
        let values = async move {
            match &prepared.statement {
                Statement::Execute(execute) => session.values(&named, execute, params.as_ref()),
                _ => Ok(Vec::new()),
            }
        };
        let values = limits.run_in_time(timeout, values.boxed()).await?;
        Ok((executed, Some(ParamValues::from(values))))
    }

    /// The statement that EXECUTE names, for who asks what it answers.
    pub(super) fn executed_statement(&self, prepared: &Arc<Prepared>) -> Result<Arc<Prepared>> {
        match &prepared.statement {
            Statement::Execute(execute) => {
                let named = self.named.find(&execute.name)?;
                Ok(self.prepared_of(&named))
            }
            _ => Ok(Arc::clone(prepared)),
        }
    }

    /// The statement of a name, with what is known of its text in this session.
    fn prepared_of(&self, named: &NamedStatement) -> Arc<Prepared> {
        if let Some(prepared) = self.lock().prepared.get(&named.text) {
            return prepared;
        }
        let prepared = Arc::new(Prepared::new(named.statement.clone(), &named.text));
        self.lock().prepared.put(&named.text, &prepared);
        prepared
    }

    /// The parameters of EXECUTE itself; one that is a value as it stands has the type which that is to have.
    pub(super) fn parameters_of(&self, execute: &ExecuteStatement) -> Result<Vec<Parameter>> {
        let named = self.named.find(&execute.name)?;
        let mut parameters = Parameters::of(&execute.values);
        for (value, data_type) in execute.values.iter().zip(named.types()) {
            if let Some(data_type) = data_type {
                parameters.assign(value, data_type);
            }
        }
        Ok(parameters.list())
    }

    fn values(
        &self,
        named: &NamedStatement,
        execute: &ExecuteStatement,
        params: Option<&ParamValues>,
    ) -> Result<Vec<ScalarValue>> {
        let given = execute.values.len();
        if given != named.parameters.len() {
            return Err(placed(wrong_count(named.parameters.len(), given), &execute.name));
        }
        if given == 0 {
            return Ok(Vec::new());
        }
        // Its own, as now() is that of this statement; plain values need none.
        let mut state: Option<SessionState> = None;
        let new_state = || {
            let mut state = SessionState::clone(&self.state());
            state.mark_start_execution();
            state
        };
        let zone = self.lock().settings.zone();
        let values = execute.values.iter().zip(&named.parameters).enumerate();
        values
            .map(|(i, (value, wanted))| {
                let value = match plain(value) {
                    Some(value) => value,
                    None => constant(state.get_or_insert_with(new_state), value, params)?,
                };
                converted(value, wanted, zone.as_ref()).map_err(|wanted| {
                    let message = format!(
                        "value {} of EXECUTE {} is no {}",
                        i + 1,
                        name_of(&execute.name),
                        type_name(&wanted)
                    );
                    placed(
                        Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("22P02")),
                        &execute.name,
                    )
                })
            })
            .collect()
    }
}

/// That a statement of that name and text can be prepared.
fn check_new(held: &BTreeMap<String, Arc<NamedStatement>>, name: &Ident, text: &str) -> Result<()> {
    if held.contains_key(&name_of(name)) {
        let error = Error::new(
            ErrorKind::AlreadyExists,
            format!("prepared statement \"{}\" exists already", name_of(name)),
        )
        .map(|e| e.with_sqlstate("42P05").with_hint("DEALLOCATE it first"));
        return Err(placed(error, name));
    }
    if held.len() >= NAMED_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the session has {NAMED_MAX} prepared statements, as many as may be"),
        )
        .map(|e| e.with_sqlstate("54000").with_hint("DEALLOCATE those that are done")));
    }
    let bytes = held.values().map(|statement| statement.text.len()).sum::<usize>() + text.len();
    if bytes > NAMED_BYTES_MAX {
        let message =
            format!("the session's prepared statements would have {bytes} bytes; {NAMED_BYTES_MAX} may be");
        return Err(Error::new(ErrorKind::ResourceExhausted, message)
            .map(|e| e.with_sqlstate("54000").with_hint("DEALLOCATE those that are done")));
    }
    Ok(())
}

/// What SQL calls a type.
pub(crate) fn type_name(data_type: &DataType) -> String {
    ColumnType::from_arrow(data_type)
        .map_or_else(|| data_type.to_string(), |column_type| column_type.to_string())
}

/// The value of a literal, as the planner reads it; None: it is to be asked.
fn plain(value: &ast::Expr) -> Option<ScalarValue> {
    let ast::Expr::Value(literal) = value else { return None };
    match &literal.value {
        ast::Value::Null => Some(ScalarValue::Null),
        ast::Value::Boolean(value) => Some(ScalarValue::Boolean(Some(*value))),
        ast::Value::Number(digits, false) => digits.parse().ok().map(|n| ScalarValue::Int64(Some(n))),
        ast::Value::SingleQuotedString(text) => Some(ScalarValue::Utf8(Some(text.clone()))),
        _ => None,
    }
}

/// The value of an expression that reads no row.
fn constant(state: &SessionState, value: &ast::Expr, params: Option<&ParamValues>) -> Result<ScalarValue> {
    let mut value = value.clone();
    let bound = walk::expressions_mut(&mut value, |expr| {
        let ast::Expr::Value(literal) = &*expr else { return ControlFlow::Continue(()) };
        let ast::Value::Placeholder(name) = &literal.value else { return ControlFlow::Continue(()) };
        match dml::parameter(name, params).and_then(dml::literal) {
            Ok(literal) => {
                *expr = literal;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    });
    if let ControlFlow::Break(error) = bound {
        return Err(error);
    }
    let (text, schema) = (value.to_string(), DFSchema::empty());
    settle_nested(&mut value);
    let expr =
        state.create_logical_expr_from_sql_expr(ExprWithAlias { expr: value, alias: None }, &schema)?;
    match dml::simplified(state, expr, &schema)? {
        Expr::Literal(value, _) => Ok(value),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{text} is no constant, as the values of EXECUTE must be"),
        )
        .map(|e| e.with_sqlstate("42601"))),
    }
}

/// `value` as its parameter wants it, times read in `zone` (None: UTC); the type, when it cannot be that.
fn converted(
    value: ScalarValue,
    wanted: &Wanted,
    zone: Option<&Arc<str>>,
) -> std::result::Result<ScalarValue, DataType> {
    let is_text =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match wanted {
        Wanted::Any => Ok(value),
        Wanted::Inferred(data_type) | Wanted::Declared(data_type) if value.is_null() => {
            ScalarValue::try_from(data_type).map_err(|_| data_type.clone())
        }
        // Vectors and others that no cast makes of a text are read where they are used.
        Wanted::Inferred(data_type) if is_text(&value.data_type()) && !is_text(data_type) => {
            Ok(cast_in(&value, data_type, zone).unwrap_or(value))
        }
        Wanted::Inferred(_) => Ok(value),
        // As where it would be stored: read there.
        Wanted::Declared(data_type) if data_type.is_nested() => Ok(value),
        Wanted::Declared(data_type) => {
            cast_in(&rounded(value, data_type), data_type, zone).ok_or_else(|| data_type.clone())
        }
    }
}

/// `value` as a value of that type; None: it is none.
fn cast_in(value: &ScalarValue, to: &DataType, zone: Option<&Arc<str>>) -> Option<ScalarValue> {
    if let Some(zone) = zone
        && let Some(read) = zones::assigned(&value.to_array().ok()?, to, zone).ok()?
    {
        // What reads as no time is NULL there.
        return if read.is_null(0) { None } else { ScalarValue::try_from_array(&read, 0).ok() };
    }
    value.cast_to(to).ok()
}

/// A double that becomes an integer is rounded, not cut off.
fn rounded(value: ScalarValue, to: &DataType) -> ScalarValue {
    match value {
        ScalarValue::Float64(Some(number)) if to.is_integer() => {
            ScalarValue::Float64(Some(number.round_ties_even()))
        }
        other => other,
    }
}

fn missing(name: &Ident) -> Error {
    let error =
        Error::new(ErrorKind::NotFound, format!("prepared statement \"{}\" does not exist", name_of(name)))
            .map(|e| e.with_sqlstate("26000").with_hint("SELECT name FROM system.prepared_statements"));
    placed(error, name)
}

fn placed(error: Error, name: &Ident) -> Error {
    match ident_position(name) {
        Some(position) => error.at(position),
        None => error,
    }
}
