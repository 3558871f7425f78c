//! What parses but must be refused, because the planner would drop it without a word.
//!
//! Owns: every field of tables and queries in the syntax tree that DataFusion doesn't read. Reads at older versions,
//! samples, locks and the like are answered "not supported yet", never with other rows than asked for.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, ObjectName, Query, Select, SetExpr, TableFactor, TableVersion, Visitor, With,
};

use super::grouping;
use super::known;
use super::place::{name_of, object_position};
use super::walk;
use crate::error::{Error, Result};

/// Table functions that later versions bring.
const LATER_FUNCTIONS: &[&str] = &["text_search", "hybrid_search", "changes", "history"];

/// What a statement has that must be made something else before it is planned.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A query has FETCH.
    pub(super) fetches: bool,
}

/// Refuses what would be ignored anywhere in `statement`.
///
/// # Errors
/// `Unsupported` naming the clause; 54001 for too many grouping sets.
pub(super) fn check(statement: &ast::Statement) -> Result<Seen> {
    let mut guard = Guard(Seen::default());
    // WITH before a change is parsed as a query around it. Its parts are looked at one by one: a change in any other
    // query is refused.
    let flow = match change_below_with(statement) {
        Some((with, change)) => match walk::visit(with, &mut guard) {
            ControlFlow::Continue(()) => walk::visit(change, &mut guard),
            refused => refused,
        },
        None => walk::visit(statement, &mut guard),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(guard.0),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The parts of `WITH … INSERT | UPDATE | DELETE | MERGE`.
pub(super) fn change_below_with(statement: &ast::Statement) -> Option<(&Option<With>, &ast::Statement)> {
    let ast::Statement::Query(query) = statement else { return None };
    match query.body.as_ref() {
        SetExpr::Insert(change)
        | SetExpr::Update(change)
        | SetExpr::Delete(change)
        | SetExpr::Merge(change) => Some((&query.with, change)),
        _ => None,
    }
}

struct Guard(Seen);

fn refuse(what: &str, name: Option<&ObjectName>) -> ControlFlow<Box<Error>> {
    let error = Error::not_supported_yet(what);
    ControlFlow::Break(Box::new(match name.and_then(object_position) {
        Some(position) => error.at(position),
        None => error,
    }))
}

/// Whether the body of a lambda reads tables: no row of a subquery would know of which element it is.
fn holds_query(body: &Expr) -> bool {
    let flow = walk::expressions(body, |expr| match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

impl Visitor for Guard {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Lambda(lambda) if holds_query(&lambda.body) => refuse("a subquery in a lambda", None),
            Expr::Function(function) => match known::misnamed(function) {
                Some(error) => ControlFlow::Break(Box::new(match object_position(&function.name) {
                    Some(position) => error.at(position),
                    None => error,
                })),
                None => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table {
                name,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                alias: _,
            } => {
                let unread = [
                    (!with_hints.is_empty(), "WITH (hint)"),
                    (*with_ordinality, "WITH ORDINALITY"),
                    (!partitions.is_empty(), "PARTITION (…)"),
                    (json_path.is_some(), "a path behind a table's name"),
                    (sample.is_some(), "TABLESAMPLE"),
                    (!index_hints.is_empty(), "an index hint"),
                ];
                if let Some((_, what)) = unread.iter().find(|(present, _)| *present) {
                    return refuse(what, Some(name));
                }
                if let Some(version) = version {
                    let what = match version {
                        TableVersion::ForSystemTimeAsOf(_) => "FOR SYSTEM_TIME AS OF",
                        TableVersion::TimestampAsOf(_) => "TIMESTAMP AS OF",
                        TableVersion::VersionAsOf(_) => "VERSION AS OF",
                        TableVersion::Function(_) => "AT (…)",
                        TableVersion::Changes { .. } => "CHANGES (…)",
                    };
                    return refuse(what, Some(name));
                }
                if let (Some(args), Some(function)) =
                    (args, name.0.last().and_then(|p| p.as_ident()).map(name_of))
                {
                    if LATER_FUNCTIONS.contains(&function.as_str()) {
                        return refuse(&format!("{function}(…)"), Some(name));
                    }
                    if args.settings.is_some() {
                        return refuse("SETTINGS", Some(name));
                    }
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { sample: Some(_), .. } => refuse("TABLESAMPLE", None),
            TableFactor::Function { with_ordinality: true, .. }
            | TableFactor::UNNEST { with_ordinality: true, .. } => refuse("WITH ORDINALITY", None),
            TableFactor::UNNEST { with_offset: true, .. } => refuse("WITH OFFSET", None),
            TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => refuse("JSON_TABLE", None),
            TableFactor::Pivot { .. } => refuse("PIVOT", None),
            TableFactor::Unpivot { .. } => refuse("UNPIVOT", None),
            TableFactor::MatchRecognize { .. } => refuse("MATCH_RECOGNIZE", None),
            TableFactor::XmlTable { .. } => refuse("XMLTABLE", None),
            TableFactor::SemanticView { .. } => refuse("SEMANTIC_VIEW", None),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.0.fetches |= query.fetch.is_some();
        if let Some(lock) = query.locks.first() {
            return refuse(&lock.to_string(), None);
        }
        if query.for_clause.is_some() {
            return refuse("FOR XML, FOR JSON and FOR BROWSE", None);
        }
        if query.settings.is_some() || query.format_clause.is_some() {
            return refuse("SETTINGS and FORMAT behind a query", None);
        }
        match query.body.as_ref() {
            SetExpr::Merge(_) => return refuse("MERGE inside a query", None),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => {
                return refuse("INSERT, UPDATE or DELETE inside a query", None);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if let Err(error) = grouping::check(select) {
            return ControlFlow::Break(Box::new(error));
        }
        let unread = [
            (select.into.is_some(), "SELECT … INTO"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.top.is_some(), "TOP"),
            (select.value_table_mode.is_some(), "SELECT AS VALUE and AS STRUCT"),
            (
                !select.cluster_by.is_empty()
                    || !select.distribute_by.is_empty()
                    || !select.sort_by.is_empty(),
                "CLUSTER BY, DISTRIBUTE BY and SORT BY",
            ),
            (select.exclude.is_some(), "EXCLUDE behind the select list"),
        ];
        match unread.iter().find(|(present, _)| *present) {
            Some((_, what)) => refuse(what, None),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        match statement {
            ast::Statement::Insert(insert) => {
                let unread = [
                    (insert.overwrite, "INSERT OVERWRITE"),
                    (insert.replace_into, "REPLACE INTO"),
                    (insert.or.is_some(), "INSERT OR …"),
                    (insert.ignore, "INSERT IGNORE"),
                    (insert.output.is_some(), "OUTPUT"),
                    (insert.priority.is_some(), "INSERT … PRIORITY"),
                    (
                        !insert.after_columns.is_empty() || insert.multi_table_insert_type.is_some(),
                        "this form of INSERT",
                    ),
                    (insert.partitioned.is_some(), "INSERT … PARTITION"),
                    (!insert.assignments.is_empty(), "INSERT … SET"),
                    (
                        insert.settings.is_some() || insert.format_clause.is_some(),
                        "SETTINGS and FORMAT behind INSERT",
                    ),
                ];
                match unread.iter().find(|(present, _)| *present) {
                    Some((_, what)) => refuse(what, None),
                    None => ControlFlow::Continue(()),
                }
            }
            ast::Statement::Delete(ast::Delete { output: Some(_), .. })
            | ast::Statement::Update(ast::Update { output: Some(_), .. }) => refuse("OUTPUT", None),
            ast::Statement::Delete(delete) if !delete.tables.is_empty() => {
                refuse("DELETE from several tables", None)
            }
            ast::Statement::Update(update) if update.or.is_some() => refuse("UPDATE OR …", None),
            _ => ControlFlow::Continue(()),
        }
    }
}
