//! What names a statement mentions, found before it is planned.
//!
//! Owns: relations with their places (for "does not exist" errors), files in FROM, whether a pseudo-column is named, and keeping
//! pseudo-columns out of `*` in the statements that do name one. Does not own: resolving them (`catalog`).

use std::collections::HashSet;
use std::ops::ControlFlow;

use cairn_storage::Snapshot;
use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use datafusion::sql::sqlparser::ast::{
    self, ExcludeSelectItem, Expr, FunctionArg, FunctionArgExpr, Ident, JoinConstraint, JoinOperator,
    ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor, Value, VisitMut,
    Visitor, VisitorMut, WildcardAdditionalOptions,
};

use super::listed::is_listed;
use super::nested::is_nested;
use super::place::{name_of, schema_and_name};
use super::walk;
use crate::error::{Error, Result};
use crate::search::{FUNCTION, is_search};

/// Names in a statement.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Every relation named, CTE names and table functions left out.
    pub(crate) relations: Vec<ObjectName>,
    /// Files in FROM (`'…'`).
    pub(crate) files: Vec<String>,
    /// Functions in FROM whose one argument is a text, with it.
    pub(crate) calls: Vec<(String, String)>,
    /// Whether `_row_id` or `_version` is named.
    pub(crate) pseudo_columns: bool,
    /// Whether `current_schema` stands without parentheses.
    pub(crate) session_words: bool,
    /// Whether [`settle_nested`](super::settle_nested) may have something to do.
    pub(crate) nested: bool,
    /// Whether a function that gives a list stands in FROM, for [`query_lists`](super::query_lists).
    pub(crate) lists: bool,
    /// Whether what its reads cost is asked for.
    pub(crate) is_measured: bool,
    ctes: HashSet<String>,
    functions: HashSet<ObjectName>,
}

/// Looks through a statement.
pub(crate) fn inspect(statement: &ast::Statement) -> Shape {
    let mut shape = Shape::default();
    let _ = walk::visit(statement, &mut shape);
    let Shape { relations, ctes, functions, .. } = &mut shape;
    relations.retain(|name| {
        let cte = matches!(name.0.as_slice(), [only] if only.as_ident().is_some_and(|i| ctes.contains(&name_of(i))));
        !cte && !functions.contains(name)
    });
    shape
}

impl Visitor for Shape {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| name_of(&cte.alias.name)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            self.functions.insert(name.clone());
        }
        self.lists |= is_listed(factor);
        self.calls.extend(call_of_text(factor));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        match name.0.as_slice() {
            [only] if only.as_ident().is_some_and(|i| i.quote_style == Some('\'')) => {
                self.files.extend(only.as_ident().map(|i| i.value.clone()));
            }
            _ => self.relations.push(name.clone()),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let last = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(idents) => idents.last(),
            _ => None,
        };
        if last.is_some_and(is_pseudo) {
            self.pseudo_columns = true;
        }
        self.session_words |= is_session_word(expr);
        self.nested |= is_nested(expr);
        ControlFlow::Continue(())
    }
}

/// `f('text')` in FROM.
fn call_of_text(factor: &TableFactor) -> Option<(String, String)> {
    let (name, args) = match factor {
        TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
        TableFactor::Function { name, args, .. } => (name, args),
        _ => return None,
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = args.as_slice() else {
        return None;
    };
    let text = match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => text.clone(),
        Value::DollarQuotedString(text) => text.value.clone(),
        _ => return None,
    };
    Some((name_of(name.0.last()?.as_ident()?), text))
}

fn is_session_word(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("current_schema"))
}

/// Makes `current_schema` a call in a statement or an expression, as PostgreSQL reads it; `current_user` and its kin the parser
/// already reads so.
pub(crate) fn call_session_words(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = walk::expressions_mut(tree, |expr| {
        if is_session_word(expr) {
            *expr = Expr::Function(ast::Function {
                name: ObjectName::from(vec![Ident::new("current_schema")]),
                uses_odbc_syntax: false,
                parameters: ast::FunctionArguments::None,
                args: ast::FunctionArguments::None,
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            });
        }
        ControlFlow::Continue(())
    });
}

fn is_pseudo(ident: &Ident) -> bool {
    [ROW_ID_COLUMN, VERSION_COLUMN].contains(&name_of(ident).as_str())
}

/// Takes the pseudo-columns out of every `*` of a statement whose tables have them.
///
/// # Errors
/// `Unsupported` where `*` stands over a join that merges columns: they must be named there.
pub(crate) fn keep_pseudo_columns_out(
    statement: &mut ast::Statement,
    snapshot: &Snapshot,
    search_path: &str,
) -> Result<()> {
    let ctes = inspect(statement).ctes;
    match walk::visit_mut(statement, &mut Wildcards { snapshot, search_path, ctes }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Wildcards<'a> {
    snapshot: &'a Snapshot,
    search_path: &'a str,
    ctes: HashSet<String>,
}

/// One thing in FROM: what it is called in the query, and whether it is a table of ours, or a search among its rows.
struct Source {
    qualifier: Option<ObjectName>,
    table: bool,
}

impl VisitorMut for Wildcards<'_> {
    type Break = Box<Error>;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        match self.rewrite(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Wildcards<'_> {
    fn rewrite(&self, select: &mut Select) -> Result<()> {
        let sources: Vec<Source> = select
            .from
            .iter()
            .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
            .map(|factor| self.source(factor))
            .collect();
        if !sources.iter().any(|s| s.table) {
            return Ok(());
        }
        let merging = select.from.iter().flat_map(|t| &t.joins).any(|j| merges(&j.join_operator));
        let natural = select.from.iter().flat_map(|t| &t.joins).any(|j| is_natural(&j.join_operator));
        if natural {
            return Err(Error::not_supported_yet("NATURAL JOIN in a statement that names a pseudo-column"));
        }
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) if sources.len() == 1 => {
                    projection.push(SelectItem::Wildcard(excluding(options)))
                }
                SelectItem::Wildcard(options) => {
                    if merging
                        || options.opt_exclude.is_some()
                        || options.opt_except.is_some()
                        || options.opt_replace.is_some()
                        || options.opt_rename.is_some()
                        || sources.iter().any(|s| s.qualifier.is_none())
                    {
                        return Err(Error::not_supported_yet(
                            "* over this join in a statement that names a pseudo-column",
                        )
                        .map(|e| e.with_hint("name the columns instead of *")));
                    }
                    for source in &sources {
                        let Some(qualifier) = &source.qualifier else { continue };
                        let plain = WildcardAdditionalOptions {
                            wildcard_token: options.wildcard_token.clone(),
                            ..Default::default()
                        };
                        projection.push(SelectItem::QualifiedWildcard(
                            SelectItemQualifiedWildcardKind::ObjectName(qualifier.clone()),
                            if source.table { excluding(plain) } else { plain },
                        ));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let table = sources
                        .iter()
                        .any(|s| s.table && s.qualifier.as_ref().is_some_and(|q| same_table(q, &name)));
                    let options = if table { excluding(options) } else { options };
                    projection.push(SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    ));
                }
                other => projection.push(other),
            }
        }
        select.projection = projection;
        Ok(())
    }

    fn source(&self, factor: &TableFactor) -> Source {
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => alias.as_ref(),
            _ => None,
        };
        let alias = alias.map(|a| ObjectName::from(vec![a.name.clone()]));
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                let cte = matches!(name.0.as_slice(), [only] if only.as_ident().is_some_and(|i| self.ctes.contains(&name_of(i))));
                let table = !cte
                    && schema_and_name(name, self.search_path).is_ok_and(|(schema, table)| {
                        self.snapshot.catalog().table(&schema, &table).is_some()
                    });
                Source { qualifier: Some(alias.unwrap_or_else(|| name.clone())), table }
            }
            search if is_search(search) => {
                let function = || ObjectName::from(vec![Ident::new(FUNCTION)]);
                Source { qualifier: Some(alias.unwrap_or_else(function)), table: true }
            }
            _ => Source { qualifier: alias, table: false },
        }
    }
}

fn same_table(a: &ObjectName, b: &ObjectName) -> bool {
    let last = |n: &ObjectName| n.0.last().and_then(|p| p.as_ident()).map(name_of);
    last(a) == last(b)
}

fn excluding(mut options: WildcardAdditionalOptions) -> WildcardAdditionalOptions {
    let mut names: Vec<ObjectName> = match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    names.extend([ROW_ID_COLUMN, VERSION_COLUMN].map(|name| ObjectName::from(vec![Ident::new(name)])));
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
    options
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(c)
        | J::Inner(c)
        | J::Left(c)
        | J::LeftOuter(c)
        | J::Right(c)
        | J::RightOuter(c)
        | J::FullOuter(c)
        | J::CrossJoin(c)
        | J::Semi(c)
        | J::LeftSemi(c)
        | J::RightSemi(c)
        | J::Anti(c)
        | J::LeftAnti(c)
        | J::RightAnti(c) => Some(c),
        _ => None,
    }
}

fn merges(operator: &JoinOperator) -> bool {
    matches!(constraint(operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

fn is_natural(operator: &JoinOperator) -> bool {
    matches!(constraint(operator), Some(JoinConstraint::Natural))
}
