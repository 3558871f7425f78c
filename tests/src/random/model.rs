//! What a database must answer.
//!
//! Owns: tables, keys, views and indexes in ordered maps; transactions with savepoints under snapshot isolation, of which the
//! first to commit wins. Every row version has a number of its own, so that a row that was changed and changed back is another.
//! Does not own: how answers are compared (`script`).
//!
//! A commit is lost when somebody else changed a row it changed, wrote a key it wrote, or changed the catalog, all since BEGIN; and only then, whatever
//! checkpoints, compactions and index builds have moved meanwhile. Where the catalog is changed by what the model does not know of (the table of
//! jobs is made, an index that the commit takes away is built), the model says that it may be lost.

use std::collections::{BTreeMap, BTreeSet};

use super::expression::{Expression, Scope};
use super::schema::{Column, Table};
use super::statement::{Aggregate, OnConflict, Read, SESSIONS, Statement, Step};
use super::value::{SqlType, Value};

/// Values in the order of columns.
pub type Row = Vec<Value>;

/// What a statement must answer.
#[derive(Clone, Debug)]
pub enum Expected {
    /// These rows.
    Rows {
        /// Of the columns.
        types: Vec<SqlType>,
        /// In order, where that is asked for.
        rows: Vec<Row>,
        /// Whether their order counts.
        ordered: bool,
    },
    /// The rows nearest to a vector.
    Nearest(Nearest),
    /// So many rows.
    Affected(u64),
    /// Nothing to count.
    Done,
    /// Rows that say what upkeep did.
    Receipt,
    /// An error of one of these classes of SQLSTATE.
    Fails(Vec<&'static str>),
    /// COMMIT.
    Commit {
        /// It fails with 40001.
        must_fail: bool,
        /// It may.
        may_fail: bool,
    },
}

/// Rows that `vector_search` chooses from.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// Of the columns but the vector.
    pub types: Vec<SqlType>,
    /// With the square of their distances.
    pub candidates: Vec<(Row, i64)>,
    /// How many are asked for.
    pub k: usize,
    /// Whether they must be the nearest; else each must only be there, at its distance.
    pub exact: bool,
}

/// A table with its rows.
#[derive(Clone, Debug)]
struct Held {
    /// Of this making of the table.
    id: u64,
    /// By the number of the row version.
    rows: BTreeMap<u64, Row>,
    index: Option<u64>,
    /// Commit that added rows last.
    appended: u64,
    /// Commit that removed rows last.
    deleted: u64,
}

#[derive(Clone, Debug)]
struct View {
    table: usize,
    columns: Vec<usize>,
    filter: Expression,
}

/// What somebody sees.
#[derive(Clone, Debug, Default)]
struct State {
    tables: BTreeMap<usize, Held>,
    views: BTreeMap<usize, View>,
}

/// What a transaction has done so far.
#[derive(Clone, Debug, Default)]
struct Own {
    state: State,
    /// Definitions were changed.
    edits: bool,
    /// Tables, by their ids, of which rows were changed.
    touched: BTreeSet<u64>,
    truncated: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Open {
    base: State,
    commit: u64,
    upkeep: u64,
    own: Own,
    savepoints: Vec<(&'static str, Own)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Model {
    definitions: Vec<Table>,
    head: State,
    commit: u64,
    catalog_changed: u64,
    /// Counts what may have written rows of jobs, into a table that is made for the first.
    upkeep: u64,
    next: u64,
    open: Vec<Option<Open>>,
}

/// What a statement that succeeded did beside its rows.
#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    edits: bool,
    touched: Option<u64>,
    truncated: bool,
}

type Outcome = Result<(Expected, Effect), Vec<&'static str>>;

/// Class of SQLSTATE: a name, a value, a constraint.
const NAME: &str = "42";
const DATA: &str = "22";
const CONSTRAINT: &str = "23";
const CARDINALITY: &str = "21";
const DEPENDENT: &str = "2B";
const TRANSACTION: &str = "25";
const SAVEPOINT: &str = "3B";

impl Model {
    /// An empty database, and the tables it may have.
    #[must_use]
    pub fn new(definitions: Vec<Table>) -> Self {
        Self {
            definitions,
            head: State::default(),
            commit: 0,
            catalog_changed: 0,
            upkeep: 0,
            next: 1,
            open: (0..SESSIONS).map(|_| None).collect(),
        }
    }

    fn state(&self, session: usize) -> &State {
        self.open[session].as_ref().map_or(&self.head, |open| &open.own.state)
    }

    /// Whether the session has a transaction.
    #[must_use]
    pub fn in_transaction(&self, session: usize) -> bool {
        self.open[session].is_some()
    }

    /// The rows of a table as a session sees them; None: there is no such table.
    #[must_use]
    pub fn rows(&self, session: usize, table: usize) -> Option<Vec<Row>> {
        self.state(session).tables.get(&table).map(|held| held.rows.values().cloned().collect())
    }

    /// Runs a statement; what the database must answer. COMMIT waits for [`Self::ended`].
    pub fn run(&mut self, step: &Step) -> Expected {
        self.try_run(step).unwrap_or_else(Expected::Fails)
    }

    fn try_run(&mut self, step: &Step) -> Result<Expected, Vec<&'static str>> {
        let session = step.session;
        let none_open = || vec![TRANSACTION];
        match &step.statement {
            Statement::Begin => {
                if self.in_transaction(session) {
                    return Err(vec![TRANSACTION]);
                }
                self.open[session] = Some(Open {
                    base: self.head.clone(),
                    commit: self.commit,
                    upkeep: self.upkeep,
                    own: Own { state: self.head.clone(), ..Own::default() },
                    savepoints: Vec::new(),
                });
                Ok(Expected::Done)
            }
            Statement::Commit => {
                let open = self.open[session].as_ref().ok_or_else(none_open)?;
                Ok(self.expected_of_commit(open))
            }
            Statement::Rollback => {
                self.open[session].take().ok_or_else(none_open)?;
                Ok(Expected::Done)
            }
            Statement::Savepoint(name) => {
                let open = self.open[session].as_mut().ok_or_else(none_open)?;
                let own = open.own.clone();
                open.savepoints.push((*name, own));
                Ok(Expected::Done)
            }
            Statement::RollbackTo(name) | Statement::Release(name) => {
                let open = self.open[session].as_mut().ok_or_else(none_open)?;
                let at = open.savepoints.iter().rposition(|(known, _)| known == name);
                let at = at.ok_or_else(|| vec![SAVEPOINT])?;
                if matches!(step.statement, Statement::Release(_)) {
                    open.savepoints.truncate(at);
                } else {
                    open.savepoints.truncate(at + 1);
                    open.own = open.savepoints[at].1.clone();
                }
                Ok(Expected::Done)
            }
            Statement::Checkpoint => {
                self.upkeep += 1;
                Ok(Expected::Receipt)
            }
            Statement::Compact(table) => {
                if self.in_transaction(session) {
                    return Err(vec![TRANSACTION]);
                }
                if table.is_some_and(|table| !self.head.tables.contains_key(&table)) {
                    return Err(vec![NAME]);
                }
                self.upkeep += 1;
                Ok(Expected::Receipt)
            }
            Statement::Reopen { .. } => {
                self.open = (0..SESSIONS).map(|_| None).collect();
                self.upkeep += 1;
                Ok(Expected::Done)
            }
            Statement::Read(read) => self.state(session).read(&self.definitions, read),
            statement => self.change(session, statement),
        }
    }

    /// A statement that changes something, within the session's transaction or as one of its own.
    fn change(&mut self, session: usize, statement: &Statement) -> Result<Expected, Vec<&'static str>> {
        let mut state = self.state(session).clone();
        let (expected, effect) = state.change(&self.definitions, &mut self.next, statement)?;
        match &mut self.open[session] {
            Some(open) => {
                open.own.state = state;
                open.own.edits |= effect.edits;
                open.own.touched.extend(effect.touched);
                if effect.truncated {
                    open.own.truncated.extend(effect.touched);
                }
            }
            None => {
                let own = Own {
                    state,
                    edits: effect.edits,
                    touched: effect.touched.into_iter().collect(),
                    truncated: effect.touched.filter(|_| effect.truncated).into_iter().collect(),
                };
                let base = self.head.clone();
                self.apply(&base, own);
                if matches!(statement, Statement::CreateIndex { .. }) {
                    // It writes a checkpoint.
                    self.upkeep += 1;
                }
            }
        }
        Ok(expected)
    }

    /// What COMMIT of a transaction answers.
    fn expected_of_commit(&self, open: &Open) -> Expected {
        let own = &open.own;
        if !own.edits && own.touched.is_empty() {
            return Expected::Commit { must_fail: false, may_fail: false };
        }
        let mut must_fail = own.edits && self.catalog_changed > open.commit;
        // The first job that ends makes the table of jobs, also one that builds an index in the background.
        let indexed = |state: &State| state.tables.values().any(|held: &Held| held.index.is_some());
        let jobs = self.upkeep > open.upkeep || indexed(&self.head) || indexed(&open.base);
        let mut may_fail = own.edits && jobs;
        for (number, before) in &open.base.tables {
            let same = |state: &State| state.tables.get(number).filter(|held| held.id == before.id).cloned();
            let (now, ours) = (same(&self.head), same(&own.state));
            let (touched, truncated) = (own.touched.contains(&before.id), own.truncated.contains(&before.id));
            // It may have been built meanwhile.
            may_fail |= before.index.is_some() && ours.as_ref().is_none_or(|ours| ours.index != before.index);
            let Some(ours) = ours else {
                // Dropped here: only what was read may be thrown away.
                must_fail |= now.is_none_or(|now| now.appended > open.commit || now.deleted > open.commit);
                continue;
            };
            if !touched && ours.index == before.index {
                continue;
            }
            let Some(now) = now else {
                let changed = ours.rows.keys().ne(before.rows.keys());
                must_fail |= changed;
                may_fail = true;
                continue;
            };
            let gone: BTreeSet<u64> =
                before.rows.keys().filter(|row| !ours.rows.contains_key(*row)).copied().collect();
            let added: Vec<&Row> = ours
                .rows
                .iter()
                .filter(|(row, _)| !before.rows.contains_key(*row))
                .map(|(_, values)| values)
                .collect();
            must_fail |= gone.iter().any(|row| !now.rows.contains_key(row));
            must_fail |= truncated && (now.appended > open.commit || now.deleted > open.commit);
            must_fail |= !added.is_empty() && now.index != before.index;
            must_fail |= ours.index.is_some() && ours.index != before.index && now.appended > open.commit;
            let key = &self.definitions[*number].key;
            let key_of = |row: &Row| key.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
            if !key.is_empty() {
                let there: BTreeSet<Vec<Value>> = now
                    .rows
                    .iter()
                    .filter(|(row, _)| !gone.contains(*row))
                    .map(|(_, row)| key_of(row))
                    .collect();
                must_fail |= added.iter().any(|row| there.contains(&key_of(row)));
            }
        }
        Expected::Commit { must_fail, may_fail: may_fail || must_fail }
    }

    /// The session's transaction has ended.
    pub fn ended(&mut self, session: usize, committed: bool) {
        let Some(open) = self.open[session].take() else { return };
        if committed {
            self.apply(&open.base, open.own);
        }
    }

    /// Puts what `own` changed of `base` into what everybody sees.
    fn apply(&mut self, base: &State, own: Own) {
        if !own.edits && own.touched.is_empty() {
            return;
        }
        self.commit += 1;
        let commit = self.commit;
        if own.edits {
            self.catalog_changed = commit;
            let kept = |number: &usize, held: &Held| {
                let ours = own.state.tables.get(number);
                let known = base.tables.get(number).is_some_and(|before| before.id == held.id);
                !known || ours.is_some_and(|ours| ours.id == held.id)
            };
            self.head.tables.retain(|number, held| kept(number, held));
            self.head.views = own.state.views;
        }
        for (number, mut ours) in own.state.tables {
            let before = base.tables.get(&number).filter(|before| before.id == ours.id);
            let Some(before) = before else {
                (ours.appended, ours.deleted) = (commit, commit);
                self.head.tables.insert(number, ours);
                continue;
            };
            let Some(now) = self.head.tables.get_mut(&number).filter(|now| now.id == ours.id) else {
                continue;
            };
            if ours.index != before.index {
                now.index = ours.index;
            }
            for row in before.rows.keys().filter(|row| !ours.rows.contains_key(*row)) {
                now.rows.remove(row);
                now.deleted = commit;
            }
            for (row, values) in ours.rows {
                if !before.rows.contains_key(&row) {
                    now.rows.insert(row, values);
                    now.appended = commit;
                }
            }
            if own.truncated.contains(&ours.id) {
                now.deleted = commit;
            }
        }
    }
}

/// What a column of a row is, by its name in the table.
fn scope<'a>(definition: &'a Table, row: &'a Row) -> impl Fn(&str) -> Value + 'a {
    move |name| match definition.position(name) {
        Some(at) => row[at].clone(),
        None => panic!("{} has no column {name}", definition.name),
    }
}

impl State {
    fn held(&self, table: usize) -> Result<&Held, Vec<&'static str>> {
        self.tables.get(&table).ok_or_else(|| vec![NAME])
    }

    fn held_mut(&mut self, table: usize) -> Result<&mut Held, Vec<&'static str>> {
        self.tables.get_mut(&table).ok_or_else(|| vec![NAME])
    }

    fn change(&mut self, definitions: &[Table], next: &mut u64, statement: &Statement) -> Outcome {
        let edits = Effect { edits: true, ..Effect::default() };
        let nothing = Effect::default();
        match statement {
            Statement::CreateTable { table, if_not_exists } => {
                if self.tables.contains_key(table) {
                    return if *if_not_exists { Ok((Expected::Done, nothing)) } else { Err(vec![NAME]) };
                }
                let held =
                    Held { id: take(next), rows: BTreeMap::new(), index: None, appended: 0, deleted: 0 };
                self.tables.insert(*table, held);
                Ok((Expected::Done, edits))
            }
            Statement::DropTable { table, if_exists, cascade } => {
                if !self.tables.contains_key(table) {
                    return if *if_exists { Ok((Expected::Done, nothing)) } else { Err(vec![NAME]) };
                }
                if !cascade && self.views.values().any(|view| view.table == *table) {
                    return Err(vec![DEPENDENT]);
                }
                self.views.retain(|_, view| view.table != *table);
                self.tables.remove(table);
                Ok((Expected::Done, edits))
            }
            Statement::CreateIndex { table } => {
                let held = self.held_mut(*table)?;
                if held.index.is_some() {
                    return Err(vec![NAME]);
                }
                held.index = Some(take(next));
                Ok((Expected::Done, edits))
            }
            Statement::DropIndex { table } => {
                self.held_mut(*table)?.index.take().ok_or_else(|| vec![NAME])?;
                Ok((Expected::Done, edits))
            }
            Statement::CreateView { view, replace, table, columns, filter } => {
                self.held(*table)?;
                if self.views.contains_key(view) && !replace {
                    return Err(vec![NAME]);
                }
                let made = View { table: *table, columns: columns.clone(), filter: filter.clone() };
                self.views.insert(*view, made);
                Ok((Expected::Done, edits))
            }
            Statement::DropView { view } => {
                self.views.remove(view).ok_or_else(|| vec![NAME])?;
                Ok((Expected::Done, edits))
            }
            Statement::Truncate { table } => {
                let held = self.held_mut(*table)?;
                let count = held.rows.len() as u64;
                held.rows.clear();
                let effect = Effect { touched: Some(held.id), truncated: true, edits: false };
                Ok((Expected::Affected(count), effect))
            }
            statement => {
                let (table, count) = self.change_rows(definitions, next, statement)?;
                let touched = (count > 0).then(|| self.tables[&table].id);
                Ok((Expected::Affected(count), Effect { touched, ..nothing }))
            }
        }
    }

    /// Changes rows of a table; how many.
    fn change_rows(
        &mut self,
        definitions: &[Table],
        next: &mut u64,
        statement: &Statement,
    ) -> Result<(usize, u64), Vec<&'static str>> {
        match statement {
            Statement::Insert { table, columns, rows, conflict } => {
                let definition = &definitions[*table];
                let rows = rows.iter().map(|row| whole_row(definition, columns, row)).collect();
                let count = self.held_mut(*table)?.insert(definition, rows, conflict, next)?;
                Ok((*table, count))
            }
            Statement::InsertSelect { table, shift, filter } => {
                let definition = &definitions[*table];
                let held = self.held_mut(*table)?;
                let mut rows: Vec<Row> =
                    held.rows.values().filter(|row| filter.holds(&scope(definition, row))).cloned().collect();
                if definition.columns[0].sql_type == SqlType::BigInt {
                    for row in &mut rows {
                        if let Value::Integer(value) = &mut row[0] {
                            *value += shift;
                        }
                    }
                }
                Ok((*table, held.insert(definition, rows, &OnConflict::Fails, next)?))
            }
            Statement::Update { table, set, filter } => {
                let definition = &definitions[*table];
                Ok((*table, self.held_mut(*table)?.update(definition, set, filter, next)?))
            }
            Statement::Delete { table, filter } => {
                let definition = &definitions[*table];
                let count = self.held_mut(*table)?.delete(|row| filter.holds(&scope(definition, row)));
                Ok((*table, count))
            }
            Statement::DeleteIn { table, column, from, other, filter } => {
                let definition = &definitions[*from];
                self.held(*table)?;
                let listed: BTreeSet<Value> = self
                    .held(*from)?
                    .rows
                    .values()
                    .filter(|row| filter.holds(&scope(definition, row)))
                    .map(|row| row[*other].clone())
                    .filter(|value| !value.is_null())
                    .collect();
                Ok((*table, self.held_mut(*table)?.delete(|row| listed.contains(&row[*column]))))
            }
            other => panic!("{other:?} changes no rows"),
        }
    }

    fn read(&self, definitions: &[Table], read: &Read) -> Result<Expected, Vec<&'static str>> {
        let matching = |table: usize, filter: &Option<Expression>| -> Result<Vec<&Row>, Vec<&'static str>> {
            let definition = &definitions[table];
            let is_wanted =
                |row: &&Row| filter.as_ref().is_none_or(|filter| filter.holds(&scope(definition, row)));
            Ok(self.held(table)?.rows.values().filter(is_wanted).collect())
        };
        let shown = |table: usize, output: &[Expression], rows: Vec<&Row>| -> Vec<Row> {
            let definition = &definitions[table];
            let values = |row: &Row| -> Row {
                output.iter().map(|part| part.evaluate(&scope(definition, row))).collect()
            };
            rows.into_iter().map(values).collect()
        };
        let types = |output: &[Expression]| output.iter().map(Expression::sql_type).collect::<Vec<_>>();
        let all = |table: usize| definitions[table].columns.iter().map(|c| c.sql_type).collect::<Vec<_>>();
        let unordered = |types, rows| Expected::Rows { types, rows, ordered: false };
        Ok(match read {
            Read::Rows { table, output, filter, distinct } => {
                let mut rows = shown(*table, output, matching(*table, filter)?);
                if *distinct {
                    rows.sort();
                    rows.dedup();
                }
                unordered(types(output), rows)
            }
            Read::Ordered { table, output, filter, descending, nulls_first, limit, offset } => {
                let mut rows = shown(*table, output, matching(*table, filter)?);
                rows.sort_by(|a, b| {
                    let mut order = std::cmp::Ordering::Equal;
                    for (at, descending) in descending.iter().enumerate() {
                        order = order.then_with(|| ordered(&a[at], &b[at], *descending, *nulls_first));
                    }
                    order
                });
                let rows = rows.into_iter().skip(*offset).take(*limit).collect();
                Expected::Rows { types: types(output), rows, ordered: true }
            }
            Read::Lookup { table, key } => {
                let rows = matching(*table, &None)?;
                let columns = &definitions[*table].key;
                let is_there = |row: &&&Row| columns.iter().zip(key).all(|(at, value)| row[*at] == *value);
                unordered(all(*table), rows.iter().filter(is_there).map(|row| (*row).clone()).collect())
            }
            Read::Group { table, key, aggregates, filter, least } => {
                let rows = matching(*table, filter)?;
                let mut output: Vec<SqlType> = key.iter().map(Expression::sql_type).collect();
                output.extend(aggregates.iter().map(Aggregate::sql_type));
                unordered(output, groups(&definitions[*table], rows, key.as_ref(), aggregates, *least))
            }
            Read::Join { left, right, on, outer, filter } => {
                let tables = (&definitions[*left], &definitions[*right]);
                let (lefts, rights) = (matching(*left, &None)?, matching(*right, &None)?);
                let rows =
                    joined(tables, (lefts.as_slice(), rights.as_slice()), *on, *outer, filter.as_ref());
                let output = [(tables.0, 0), (tables.0, on.0), (tables.1, on.1), (tables.1, 1)];
                let types = output.iter().map(|(table, at)| table.columns[*at].sql_type).collect();
                unordered(types, rows)
            }
            Read::View { view } => {
                let view = self.views.get(view).ok_or_else(|| vec![NAME])?;
                let definition = &definitions[view.table];
                let columns: Vec<&Column> = view.columns.iter().map(|at| &definition.columns[*at]).collect();
                let rows = matching(view.table, &Some(view.filter.clone()))?;
                let rows = rows.iter().map(|row| view.columns.iter().map(|at| row[*at].clone()).collect());
                unordered(columns.iter().map(|column| column.sql_type).collect(), rows.collect())
            }
            Read::Search { table, vector, k, filter, exact } => {
                let definition = &definitions[*table];
                let held = self.held(*table)?;
                let at = definition.vector().unwrap();
                let mut candidates = Vec::new();
                for row in matching(*table, filter)? {
                    if let Value::Vector(components) = &row[at] {
                        let difference = |(a, b): (&i32, &i32)| i64::from(a - b);
                        let square: i64 =
                            components.iter().zip(vector).map(difference).map(|part| part * part).sum();
                        let mut shown = row.clone();
                        shown.remove(at);
                        candidates.push((shown, square));
                    }
                }
                let mut types = all(*table);
                types.remove(at);
                Expected::Nearest(Nearest { types, candidates, k: *k, exact: *exact || held.index.is_none() })
            }
        })
    }
}

fn ordered(a: &Value, b: &Value, descending: bool, nulls_first: bool) -> std::cmp::Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => std::cmp::Ordering::Equal,
        (false, false) if descending => b.cmp(a),
        (false, false) => a.cmp(b),
        (a_is_null, _) if a_is_null == nulls_first => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Greater,
    }
}

fn take(next: &mut u64) -> u64 {
    *next += 1;
    *next
}

/// The row of an INSERT, with the defaults of columns that it does not name.
fn whole_row(definition: &Table, columns: &[usize], values: &Row) -> Row {
    let mut row: Row = definition.columns.iter().map(|column| column.default.clone()).collect();
    for (at, value) in columns.iter().zip(values) {
        row[*at] = value.clone();
    }
    row
}

/// What is wrong with a row by itself.
fn wrongs(definition: &Table, row: &Row) -> Vec<&'static str> {
    let mut classes = Vec::new();
    for (column, value) in definition.columns.iter().zip(row) {
        if column.not_null && value.is_null() {
            classes.push(CONSTRAINT);
        }
        if column.sql_type == SqlType::SmallInt
            && matches!(value, Value::Integer(value) if i16::try_from(*value).is_err())
        {
            classes.push(DATA);
        }
    }
    classes
}

impl Held {
    fn keys(&self, definition: &Table) -> BTreeMap<Vec<Value>, u64> {
        self.rows.iter().map(|(number, row)| (key_of(definition, row), *number)).collect()
    }

    fn insert(
        &mut self,
        definition: &Table,
        rows: Vec<Row>,
        conflict: &OnConflict,
        next: &mut u64,
    ) -> Result<u64, Vec<&'static str>> {
        let mut classes: Vec<&'static str> = rows.iter().flat_map(|row| wrongs(definition, row)).collect();
        let mut keys = self.keys(definition);
        // Rows of this statement, which ON CONFLICT DO UPDATE must not change again.
        let mut fresh = BTreeSet::new();
        let mut after = self.rows.clone();
        let mut count = 0;
        for row in rows {
            let key = key_of(definition, &row);
            let there = if definition.key.is_empty() { None } else { keys.get(&key).copied() };
            let Some(there) = there else {
                let number = take(next);
                keys.insert(key, number);
                fresh.insert(number);
                after.insert(number, row);
                count += 1;
                continue;
            };
            match conflict {
                OnConflict::Fails => classes.push(CONSTRAINT),
                OnConflict::Nothing => {}
                OnConflict::Update { .. } if fresh.contains(&there) => classes.push(CARDINALITY),
                OnConflict::Update { set, filter } => {
                    let old = after[&there].clone();
                    let changed = {
                        let scope: Scope<'_> = &|name| {
                            let (side, column) = name.split_once('.').unwrap();
                            let at = definition.position(column).unwrap();
                            if side == "excluded" { row[at].clone() } else { old[at].clone() }
                        };
                        filter.as_ref().is_none_or(|filter| filter.holds(scope)).then(|| {
                            let mut changed = old.clone();
                            for (at, value) in set {
                                changed[*at] = value.evaluate(scope);
                            }
                            changed
                        })
                    };
                    let Some(changed) = changed else { continue };
                    classes.extend(wrongs(definition, &changed));
                    let number = take(next);
                    after.remove(&there);
                    after.insert(number, changed);
                    keys.insert(key, number);
                    fresh.insert(number);
                    count += 1;
                }
            }
        }
        if !classes.is_empty() {
            return Err(classes);
        }
        self.rows = after;
        Ok(count)
    }

    fn update(
        &mut self,
        definition: &Table,
        set: &[(usize, Expression)],
        filter: &Expression,
        next: &mut u64,
    ) -> Result<u64, Vec<&'static str>> {
        let mut after = BTreeMap::new();
        let mut classes = Vec::new();
        let mut count = 0;
        for (number, row) in &self.rows {
            if !filter.holds(&scope(definition, row)) {
                after.insert(*number, row.clone());
                continue;
            }
            let mut changed = row.clone();
            for (at, value) in set {
                changed[*at] = value.evaluate(&scope(definition, row));
            }
            classes.extend(wrongs(definition, &changed));
            after.insert(take(next), changed);
            count += 1;
        }
        if !definition.key.is_empty() {
            let keys: BTreeSet<Vec<Value>> = after.values().map(|row| key_of(definition, row)).collect();
            if keys.len() < after.len() {
                classes.push(CONSTRAINT);
            }
        }
        if !classes.is_empty() {
            return Err(classes);
        }
        self.rows = after;
        Ok(count)
    }

    fn delete(&mut self, is_gone: impl Fn(&Row) -> bool) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|_, row| !is_gone(row));
        (before - self.rows.len()) as u64
    }
}

fn key_of(definition: &Table, row: &Row) -> Vec<Value> {
    definition.key.iter().map(|at| row[*at].clone()).collect()
}

fn groups(
    definition: &Table,
    rows: Vec<&Row>,
    key: Option<&Expression>,
    aggregates: &[Aggregate],
    least: i64,
) -> Vec<Row> {
    let mut groups: BTreeMap<Option<Value>, Vec<&Row>> = BTreeMap::new();
    if key.is_none() {
        groups.insert(None, Vec::new());
    }
    for row in rows {
        groups.entry(key.map(|key| key.evaluate(&scope(definition, row)))).or_default().push(row);
    }
    groups.retain(|key, rows| key.is_none() || rows.len() as i64 > least);
    groups
        .into_iter()
        .map(|(key, rows)| {
            let mut output: Row = key.into_iter().collect();
            output.extend(aggregates.iter().map(|aggregate| aggregated(definition, &rows, aggregate)));
            output
        })
        .collect()
}

fn aggregated(definition: &Table, rows: &[&Row], aggregate: &Aggregate) -> Value {
    let values = |of: &Expression| -> Vec<Value> {
        rows.iter().map(|row| of.evaluate(&scope(definition, row))).filter(|value| !value.is_null()).collect()
    };
    match aggregate {
        Aggregate::Rows => Value::Integer(rows.len() as i64),
        Aggregate::Count(of) => Value::Integer(values(of).len() as i64),
        Aggregate::CountDistinct(of) => {
            Value::Integer(values(of).into_iter().collect::<BTreeSet<_>>().len() as i64)
        }
        Aggregate::Extreme { greatest, of } => {
            let values = values(of).into_iter();
            let extreme = if *greatest { values.max() } else { values.min() };
            extreme.unwrap_or(Value::Null)
        }
        Aggregate::Sum(of) => values(of)
            .into_iter()
            .reduce(|sum, value| match (sum, value) {
                (Value::Integer(a), Value::Integer(b)) => Value::Integer(a + b),
                (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
                (Value::Decimal(a), Value::Decimal(b)) => Value::Decimal(a + b),
                (a, b) => panic!("sum of {a:?} and {b:?}"),
            })
            .unwrap_or(Value::Null),
    }
}

fn joined(
    (left, right): (&Table, &Table),
    (left_rows, right_rows): (&[&Row], &[&Row]),
    on: (usize, usize),
    outer: bool,
    filter: Option<&Expression>,
) -> Vec<Row> {
    let nobody: Row = right.columns.iter().map(|_| Value::Null).collect();
    let mut output = Vec::new();
    for a in left_rows {
        let is_match = |b: &&&Row| !a[on.0].is_null() && a[on.0] == b[on.1];
        let mut matches: Vec<&Row> = right_rows.iter().filter(is_match).copied().collect();
        if matches.is_empty() && outer {
            matches.push(&nobody);
        }
        for b in matches {
            let scope: Scope<'_> = &|name| {
                let (side, column) = name.split_once('.').unwrap();
                if side == "a" {
                    a[left.position(column).unwrap()].clone()
                } else {
                    b[right.position(column).unwrap()].clone()
                }
            };
            if filter.is_none_or(|filter| filter.holds(scope)) {
                output.push(vec![a[0].clone(), a[on.0].clone(), b[on.1].clone(), b[1].clone()]);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let column = |name: &str, not_null| Column {
            name: name.into(),
            sql_type: SqlType::BigInt,
            not_null,
            default: Value::Null,
        };
        let table =
            Table { name: "t0".into(), columns: vec![column("c0", true), column("c1", false)], key: vec![0] };
        let mut model = Model::new(vec![table]);
        run(&mut model, 0, Statement::CreateTable { table: 0, if_not_exists: false });
        model
    }

    fn run(model: &mut Model, session: usize, statement: Statement) -> Expected {
        model.run(&Step { session, statement })
    }

    fn insert(key: i64) -> Statement {
        let rows = vec![vec![Value::Integer(key), Value::Null]];
        Statement::Insert { table: 0, columns: vec![0, 1], rows, conflict: OnConflict::Fails }
    }

    fn must_fail(expected: &Expected) -> bool {
        matches!(expected, Expected::Commit { must_fail: true, .. })
    }

    #[test]
    fn the_first_to_commit_wins() {
        let mut model = model();
        for (mine, theirs, is_lost) in [(1, 1, true), (2, 3, false)] {
            run(&mut model, 0, Statement::Begin);
            run(&mut model, 0, insert(mine));
            assert!(matches!(run(&mut model, 1, insert(theirs)), Expected::Affected(1)));
            let commit = run(&mut model, 0, Statement::Commit);
            assert_eq!(must_fail(&commit), is_lost);
            model.ended(0, !is_lost);
        }
        assert_eq!(model.rows(1, 0).map(|rows| rows.len()), Some(3));
    }

    #[test]
    fn a_savepoint_takes_back_what_came_after_it() {
        let mut model = model();
        run(&mut model, 0, Statement::Begin);
        run(&mut model, 0, insert(1));
        run(&mut model, 0, Statement::Savepoint("sa"));
        run(&mut model, 0, insert(2));
        assert!(matches!(run(&mut model, 0, insert(2)), Expected::Fails(_)));
        run(&mut model, 0, Statement::RollbackTo("sa"));
        assert_eq!(model.rows(0, 0).map(|rows| rows.len()), Some(1));
        assert_eq!(model.rows(1, 0).map(|rows| rows.len()), Some(0));
        assert!(matches!(run(&mut model, 0, Statement::Release("sb")), Expected::Fails(_)));
    }
}
