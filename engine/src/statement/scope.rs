//! Tables of one name in two schemas, told apart before the planner sees them.
//!
//! Owns: which table a name with a table before it (`t.id`, `s.t.id`, `t.*`) means, as PostgreSQL has it: the nearest FROM that has
//! the table, and an error where one FROM has two of that name. Does not own: whether tables and columns exist (the planner).
//!
//! The planner takes `t` and `s.t` for the same table and the first column that fits, so that a condition over both would be one over
//! one of them, true for every row. Therefore every table whose name is met by another meaning of the name in a query around it or
//! within it, or beside it, gets an alias of its own, and what names it is written with that. Statements without such names stay as they are.

use std::collections::hash_map::Entry as Known;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias,
    TableFactor, VisitorMut,
};

use super::place::{ident_position, name_of, object_position, schema_and_name};
use super::walk;
use crate::catalog::CATALOG;
use crate::dml::MERGED;
use crate::error::{Error, Position, Result};
use crate::search::{FUNCTION, is_search};

/// Gives tables of one name names of their own in a query that is planned with `search_path`.
///
/// # Errors
/// 42712 for a FROM with one name twice, 42P09 for a name that could be either of two tables, 42P01 for a schema before the name
/// of another schema's table.
pub(crate) fn tell_tables_apart(statement: &mut ast::Statement, search_path: &str) -> Result<()> {
    let mut scopes = Scopes::new(search_path);
    scopes.visit(statement)?;
    // Nothing of a statement without FROM can name a table.
    if scopes.names.is_empty() {
        return Ok(());
    }
    scopes.rewrites = true;
    scopes.visit(statement)
}

/// Refuses a query with two tables of one name in its FROM, whatever their schemas.
///
/// # Errors
/// 42712.
pub(crate) fn refuse_one_name_twice(query: &Query, search_path: &str) -> Result<()> {
    let Some(select) = from(query) else { return Ok(()) };
    let entries = Scopes::new(search_path).entries(select);
    let mut names = HashSet::new();
    match entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
        Some(entry) => Err(twice(entry)),
        None => Ok(()),
    }
}

/// Schema and name of what stands in the FROM of a query without an alias.
pub(crate) fn tables_in_from(query: &Query, search_path: &str) -> Vec<(String, String)> {
    let entries = from(query).map(|select| Scopes::new(search_path).entries(select)).unwrap_or_default();
    let tables = entries.into_iter().filter_map(|entry| match entry.meaning {
        Meaning::Relation(schema) => Some((schema, entry.name)),
        Meaning::Merged(_) | Meaning::Named => None,
    });
    tables.collect()
}

/// The SELECT that a query is.
fn from(query: &Query) -> Option<&Select> {
    let mut body = query.body.as_ref();
    while let SetExpr::Query(inner) = body {
        body = inner.body.as_ref();
    }
    match body {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// One thing in FROM that columns can be asked of by name.
#[derive(Debug)]
struct Entry {
    name: String,
    meaning: Meaning,
    /// As it stands in FROM.
    written: Vec<ObjectNamePart>,
    position: Option<Position>,
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// The table or view of that name in this schema, without an alias.
    Relation(String),
    /// The same as the source of MERGE, which has its name as an alias.
    Merged(String),
    /// An alias, a query of WITH, a file, a search.
    Named,
}

impl Entry {
    fn is_in(&self, schema: &str) -> bool {
        match &self.meaning {
            Meaning::Relation(own) | Meaning::Merged(own) => own == schema,
            Meaning::Named => false,
        }
    }
}

/// What stands around the place that is looked at.
enum Frame {
    Query {
        /// Queries of its WITH.
        with: Vec<String>,
        /// How many of them can be named by now.
        known: usize,
        /// Whether ORDER BY sees the FROM of its SELECT.
        keeps_level: bool,
    },
    /// FROM of a SELECT.
    Level {
        entries: Vec<Entry>,
        /// Subqueries without an alias.
        loose: usize,
    },
    /// The next level further out is that of siblings, which a subquery in FROM does not see.
    Hidden,
}

/// See the module. Looks through a statement first, and changes it then.
struct Scopes<'a> {
    search_path: &'a str,
    frames: Vec<Frame>,
    /// Names of everything in FROM.
    names: HashSet<String>,
    /// Names that mean several things where they see each other. A table of the schema keeps its name.
    contested: HashMap<String, Option<String>>,
    rewrites: bool,
}

impl<'a> Scopes<'a> {
    fn new(search_path: &'a str) -> Self {
        Self {
            search_path,
            frames: Vec::new(),
            names: HashSet::new(),
            contested: HashMap::new(),
            rewrites: false,
        }
    }

    fn visit(&mut self, statement: &mut ast::Statement) -> Result<()> {
        match walk::visit_mut(statement, self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// The levels that are seen from here, the nearest first.
    fn visible(&self) -> impl Iterator<Item = &[Entry]> {
        let mut hidden = 0_usize;
        self.frames.iter().rev().filter_map(move |frame| match frame {
            Frame::Query { .. } => None,
            Frame::Hidden => {
                hidden += 1;
                None
            }
            Frame::Level { entries, .. } if hidden == 0 => Some(entries.as_slice()),
            Frame::Level { .. } => {
                hidden -= 1;
                None
            }
        })
    }

    fn is_with(&self, name: &str) -> bool {
        self.frames.iter().any(|frame| match frame {
            Frame::Query { with, known, .. } => with.iter().take(*known).any(|with| with == name),
            Frame::Level { .. } | Frame::Hidden => false,
        })
    }

    fn entries(&self, select: &Select) -> Vec<Entry> {
        let mut entries = Vec::new();
        for table in &select.from {
            self.add(&table.relation, &mut entries);
            table.joins.iter().for_each(|join| self.add(&join.relation, &mut entries));
        }
        entries
    }

    fn add(&self, factor: &TableFactor, entries: &mut Vec<Entry>) {
        let alias = match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.add(&table_with_joins.relation, entries);
                table_with_joins.joins.iter().for_each(|join| self.add(&join.relation, entries));
                return;
            }
            TableFactor::Table { name, alias: None, args: None, .. } => {
                entries.extend(self.relation(name));
                return;
            }
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
            // The planner has no others.
            _ => None,
        };
        let Some(alias) = alias else {
            if is_search(factor) {
                let (name, position) = (FUNCTION.to_owned(), None);
                entries.push(Entry { name, meaning: Meaning::Named, written: Vec::new(), position });
            }
            return;
        };
        let merged = match factor {
            TableFactor::Derived { subquery, .. } => merged(subquery),
            _ => None,
        };
        let schema = merged.and_then(|name| schema_and_name(name, self.search_path).ok());
        let meaning = schema.map_or(Meaning::Named, |(schema, _)| Meaning::Merged(schema));
        let (name, position) = (name_of(&alias.name), ident_position(&alias.name));
        entries.push(Entry { name, meaning, written: Vec::new(), position });
    }

    /// A name without an alias in FROM; None: it is none.
    fn relation(&self, name: &ObjectName) -> Option<Entry> {
        let position = object_position(name);
        if let [only] = name.0.as_slice()
            && let Some(only) = only.as_ident()
            && (only.quote_style == Some('\'') || self.is_with(&name_of(only)))
        {
            let (name, written) = (name_of(only), Vec::new());
            return Some(Entry { name, meaning: Meaning::Named, written, position });
        }
        let (schema, table) = schema_and_name(name, self.search_path).ok()?;
        let (meaning, written) = (Meaning::Relation(schema), name.0.clone());
        Some(Entry { name: table, meaning, written, position })
    }

    /// Looks for names of `entries` that mean something else here, or further out.
    fn compare(&mut self, entries: &[Entry]) -> Result<()> {
        let mut contests = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            for other in entries[..i].iter().filter(|other| other.name == entry.name) {
                match (&other.meaning, &entry.meaning) {
                    (Meaning::Relation(one), Meaning::Relation(two)) if one != two => {
                        contests.push((entry.name.clone(), Some(one.clone())));
                    }
                    _ => return Err(twice(entry)),
                }
            }
            let around = self.visible().flatten().filter(|other| other.name == entry.name);
            for other in around.filter(|other| other.meaning != entry.meaning) {
                let kept = match (&other.meaning, &entry.meaning) {
                    (Meaning::Relation(kept), Meaning::Relation(_)) => Some(kept.clone()),
                    // An alias stays, and would be taken for the table.
                    _ => None,
                };
                contests.push((entry.name.clone(), kept));
            }
        }
        for (name, kept) in contests {
            match self.contested.entry(name) {
                Known::Vacant(place) => {
                    place.insert(kept);
                }
                Known::Occupied(mut known) if kept.is_none() => {
                    known.insert(None);
                }
                Known::Occupied(_) => {}
            }
        }
        self.names.extend(entries.iter().map(|entry| entry.name.clone()));
        Ok(())
    }

    /// The name of its own that a table gets; None: it keeps what it has.
    fn own_name(&self, entry: &Entry) -> Option<Ident> {
        let Meaning::Relation(schema) = &entry.meaning else { return None };
        let kept = self.contested.get(&entry.name)?;
        if kept.as_ref() == Some(schema) {
            return None;
        }
        // Without a dot: with one, the planner would take it for the name of the table itself.
        Some(self.free_name(format!("{schema}:{}", entry.name)))
    }

    /// A name that nothing in the statement has.
    fn free_name(&self, mut name: String) -> Ident {
        while self.names.contains(&name) {
            name.push('_');
        }
        Ident::with_quote('"', name)
    }

    /// What the first of `parts` name, and how many; the last `columns` name something of it. None: the planner knows, or nobody.
    fn meant(
        &self,
        parts: &[String],
        columns: usize,
        position: Option<Position>,
    ) -> Result<Option<(usize, &Entry)>> {
        let most = parts.len().saturating_sub(columns);
        // From most to least, as the planner reads it.
        let mut qualified = Vec::new();
        if most >= 3 && parts[0] == CATALOG {
            qualified.push((3, &parts[1], &parts[2]));
        }
        if most >= 2 {
            qualified.push((2, &parts[0], &parts[1]));
        }
        let mut is_shadowed = false;
        for level in self.visible() {
            for (used, schema, table) in &qualified {
                let found = level.iter().find(|entry| entry.name == **table && entry.is_in(schema));
                match found {
                    Some(entry) if is_shadowed && matches!(entry.meaning, Meaning::Merged(_)) => {
                        return Err(not_here(schema, table, position));
                    }
                    Some(entry) => return Ok(Some((*used, entry))),
                    None => {}
                }
                is_shadowed |= level.iter().any(|entry| entry.name == **table);
            }
            if most >= 1 {
                let mut found = level.iter().filter(|entry| entry.name == parts[0]);
                match (found.next(), found.next()) {
                    (Some(_), Some(_)) => return Err(ambiguous(&parts[0], position)),
                    (Some(entry), None) => return Ok(Some((1, entry))),
                    (None, _) => {}
                }
            }
        }
        match qualified.first() {
            // The planner would take that one.
            Some((_, schema, table)) if is_shadowed => Err(not_here(schema, table, position)),
            _ => Ok(None),
        }
    }

    /// How many of `idents` are to be replaced by a name.
    fn replaced<'n>(
        &self,
        idents: impl Iterator<Item = &'n Ident>,
        columns: usize,
    ) -> Result<Option<(usize, Ident)>> {
        let mut position = None;
        let parts: Vec<String> =
            idents.inspect(|ident| position = position.or(ident_position(ident))).map(name_of).collect();
        let meant = self.meant(&parts, columns, position)?;
        Ok(meant.and_then(|(used, entry)| Some((used, self.own_name(entry)?))))
    }

    /// `t.*`: the planner wants the name as FROM has it.
    fn wildcard(&self, name: &mut ObjectName) -> Result<()> {
        let idents: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
        let Some(idents) = idents else { return Ok(()) };
        let parts: Vec<String> = idents.into_iter().map(name_of).collect();
        let Some((used, entry)) = self.meant(&parts, 0, object_position(name))? else { return Ok(()) };
        let by = match self.own_name(entry) {
            Some(own) => vec![ObjectNamePart::Identifier(own)],
            None if entry.written.is_empty() => return Ok(()),
            None => entry.written.clone(),
        };
        name.0.splice(..used, by);
        Ok(())
    }

    fn expression(&self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let Some((used, name)) = self.replaced(parts.iter(), 1)? {
                    parts.splice(..used, [name]);
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let Expr::Identifier(first) = root.as_ref() else { return Ok(()) };
                let rest = access_chain.iter().map_while(|access| match access {
                    AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident),
                    _ => None,
                });
                if let Some((used, name)) = self.replaced(std::iter::once(first).chain(rest), 1)? {
                    **root = Expr::Identifier(name);
                    access_chain.drain(..used - 1);
                }
            }
            Expr::QualifiedWildcard(name, _) => self.wildcard(name)?,
            Expr::Function(function) => {
                let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
                for arg in &mut list.args {
                    let (FunctionArg::Unnamed(arg)
                    | FunctionArg::Named { arg, .. }
                    | FunctionArg::ExprNamed { arg, .. }) = arg;
                    if let FunctionArgExpr::QualifiedWildcard(name) = arg {
                        self.wildcard(name)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
        let entries = self.entries(select);
        if !self.rewrites {
            self.compare(&entries)?;
        }
        let tables = select
            .from
            .iter()
            .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|join| &join.relation)));
        let loose = tables.filter(|t| matches!(t, TableFactor::Derived { alias: None, .. })).count();
        self.frames.push(Frame::Level { entries, loose });
        if self.rewrites {
            for item in &mut select.projection {
                if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) =
                    item
                {
                    self.wildcard(name)?;
                }
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) {
        match factor {
            TableFactor::Table { name, alias: alias @ None, args: None, .. } if self.rewrites => {
                let own = self.relation(name).and_then(|entry| self.own_name(&entry));
                *alias = own.map(named);
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                if self.rewrites && alias.is_none() && self.is_mistaken(subquery) {
                    let name = self.free_name("_query".to_owned());
                    self.names.insert(name.value.clone());
                    *alias = Some(named(name));
                }
                if !*lateral {
                    self.frames.push(Frame::Hidden);
                }
            }
            _ => {}
        }
    }

    /// Whether columns of a subquery without an alias could be taken for those of a table: to the planner they are still called as
    /// they are within it.
    fn is_mistaken(&self, subquery: &Query) -> bool {
        let mut names = HashSet::new();
        self.leaked(&subquery.body, &mut names);
        let has_siblings = self.frames.iter().rev().find_map(|frame| match frame {
            Frame::Level { loose, .. } => Some(*loose > 1),
            Frame::Query { .. } | Frame::Hidden => None,
        });
        !names.is_empty()
            && (has_siblings == Some(true)
                || self.visible().flatten().any(|entry| names.contains(&entry.name)))
    }

    /// Names in the FROM of a query without an alias.
    fn leaked(&self, body: &SetExpr, names: &mut HashSet<String>) {
        match body {
            SetExpr::Select(select) => {
                names.extend(self.entries(select).into_iter().map(|entry| entry.name));
                for table in &select.from {
                    for factor in
                        std::iter::once(&table.relation).chain(table.joins.iter().map(|j| &j.relation))
                    {
                        if let TableFactor::Derived { subquery, alias: None, .. } = factor {
                            self.leaked(&subquery.body, names);
                        }
                    }
                }
            }
            SetExpr::Query(query) => self.leaked(&query.body, names),
            SetExpr::SetOperation { left, right, .. } => {
                self.leaked(left, names);
                self.leaked(right, names);
            }
            _ => {}
        }
    }
}

impl VisitorMut for Scopes<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let (with, recursive): (Vec<String>, bool) = match &query.with {
            Some(with) => {
                (with.cte_tables.iter().map(|cte| name_of(&cte.alias.name)).collect(), with.recursive)
            }
            None => (Vec::new(), false),
        };
        let known = if recursive { with.len() } else { 0 };
        let keeps_level = matches!(query.body.as_ref(), SetExpr::Select(_));
        self.frames.push(Frame::Query { with, known, keeps_level });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Self::Break> {
        while let Some(Frame::Level { .. }) = self.frames.pop() {}
        // The queries of WITH come before everything else of the query that has it, each named behind it only.
        if let Some(Frame::Query { with, known, .. }) = self.frames.last_mut() {
            *known = (*known + 1).min(with.len());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        broken(self.select(select))
    }

    fn post_visit_select(&mut self, _select: &mut Select) -> ControlFlow<Self::Break> {
        let below = self.frames.iter().rev().nth(1);
        if !matches!(below, Some(Frame::Query { keeps_level: true, .. })) {
            self.frames.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        self.factor(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Derived { lateral: false, .. } = factor {
            self.frames.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.rewrites { broken(self.expression(expr)) } else { ControlFlow::Continue(()) }
    }
}

fn broken(done: Result<()>) -> ControlFlow<Box<Error>> {
    match done {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn named(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// The table that the source of a MERGE is, when `query` is what it was put into.
fn merged(query: &Query) -> Option<&ObjectName> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let Some(SelectItem::ExprWithAlias { alias, .. }) = select.projection.last() else { return None };
    match select.from.as_slice() {
        [from] if alias.value == MERGED && from.joins.is_empty() => match &from.relation {
            TableFactor::Table { name, alias: None, args: None, .. } => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn twice(entry: &Entry) -> Error {
    let message = format!("the name \"{}\" stands for more than one table", entry.name);
    let error = Error::new(ErrorKind::InvalidInput, message)
        .map(|e| e.with_sqlstate("42712").with_hint("give one of them another name with AS"));
    placed(error, entry.position)
}

fn ambiguous(name: &str, position: Option<Position>) -> Error {
    let message = format!("\"{name}\" could be either of two tables in FROM");
    let hint = "write the schema before it, or give the tables other names with AS";
    placed(
        Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42P09").with_hint(hint)),
        position,
    )
}

fn not_here(schema: &str, table: &str, position: Option<Position>) -> Error {
    let message = format!("{schema}.{table} is not in FROM, where \"{table}\" is another table");
    let hint = "a table that has an alias is called by that alone";
    placed(
        Error::new(ErrorKind::NotFound, message).map(|e| e.with_sqlstate("42P01").with_hint(hint)),
        position,
    )
}

fn placed(error: Error, position: Option<Position>) -> Error {
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::parse_query;

    fn apart(sql: &str) -> String {
        let mut statement = ast::Statement::Query(parse_query(sql).unwrap());
        match tell_tables_apart(&mut statement, "public") {
            Ok(()) => statement.to_string(),
            Err(error) => error.sqlstate().to_owned(),
        }
    }

    #[test]
    fn tables_of_one_name_get_names_of_their_own() {
        for (sql, apart_now) in [
            (
                "SELECT public.t.id, s.t.* FROM t, s.t WHERE public.t.id = s.t.id ORDER BY s.t.id",
                "SELECT public.t.id, \"s:t\".* FROM t, s.t AS \"s:t\" WHERE public.t.id = \"s:t\".id ORDER BY \"s:t\".id",
            ),
            (
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM s.t WHERE t.id = public.t.id)",
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM s.t AS \"s:t\" WHERE \"s:t\".id = public.t.id)",
            ),
            // An alias hides the table of that name, not one with its schema.
            (
                "SELECT id FROM s.t WHERE EXISTS (SELECT 1 FROM u AS t WHERE t.id = s.t.id)",
                "SELECT id FROM s.t AS \"s:t\" WHERE EXISTS (SELECT 1 FROM u AS t WHERE t.id = \"s:t\".id)",
            ),
            // A query of WITH is called by its name alone, and its own query does not know it yet.
            (
                "WITH t AS (SELECT t.id FROM t) SELECT t.id FROM t, s.u WHERE s.u.id IN (SELECT s.t.id FROM s.t)",
                "WITH t AS (SELECT \"public:t\".id FROM t AS \"public:t\") SELECT t.id FROM t, s.u WHERE s.u.id IN (SELECT \"s:t\".id FROM s.t AS \"s:t\")",
            ),
            // Those that do not see each other stay.
            (
                "SELECT t.id FROM t UNION SELECT t.id FROM s.t",
                "SELECT t.id FROM t UNION SELECT t.id FROM s.t",
            ),
            (
                "SELECT x.id FROM (SELECT t.id FROM s.t) AS x, t",
                "SELECT x.id FROM (SELECT t.id FROM s.t) AS x, t",
            ),
            (
                "SELECT t.id FROM (SELECT s.t.id FROM s.t), t",
                "SELECT t.id FROM (SELECT s.t.id FROM s.t) AS \"_query\", t",
            ),
            ("SELECT t.* FROM s.t", "SELECT s.t.* FROM s.t"),
            ("SELECT t.id, t.a[1] AS a FROM t", "SELECT t.id, t.a[1] AS a FROM t"),
            ("SELECT s.t.a[1] AS a FROM t, s.t", "SELECT \"s:t\".a[1] AS a FROM t, s.t AS \"s:t\""),
            ("SELECT 1 AS one", "SELECT 1 AS one"),
        ] {
            assert_eq!(apart(sql), apart_now, "{sql}");
        }
    }

    #[test]
    fn what_could_be_either_table_is_refused() {
        for (sql, sqlstate) in [
            ("SELECT t.id FROM t, s.t", "42P09"),
            ("SELECT t.* FROM t, s.t", "42P09"),
            ("SELECT * FROM t JOIN s.t ON t.id = s.t.id", "42P09"),
            ("SELECT * FROM t, public.t", "42712"),
            ("SELECT * FROM t, u AS t", "42712"),
            ("SELECT * FROM s.t, (u CROSS JOIN (SELECT 1) AS t)", "42712"),
            ("WITH t AS (SELECT 1) SELECT * FROM t, s.t", "42712"),
            ("SELECT s.t.id FROM t", "42P01"),
            ("SELECT s.t.id FROM s.t AS u, t", "42P01"),
            ("SELECT public.t.id FROM u AS t", "42P01"),
            ("SELECT s.t.* FROM t", "42P01"),
        ] {
            assert_eq!(apart(sql), sqlstate, "{sql}");
        }
    }
}
