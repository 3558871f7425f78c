//! The statements of a script.
//!
//! Owns: their form, their SQL, and how often each is made (`WEIGHTS`). Does not own: what they do (`model`).

use rand::Rng;
use rand::rngs::StdRng;

use super::expression::{Expression, Maker};
use super::schema::{Table, VIEWS};
use super::value::{SqlType, Value, quoted};
use super::{one_of, weighted};

/// A statement of one of the sessions.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which session runs it.
    pub session: usize,
    /// What it runs.
    pub statement: Statement,
}

/// Sessions of a script.
pub const SESSIONS: usize = 2;

/// What INSERT does with a key that is there.
#[derive(Clone, Debug)]
pub enum OnConflict {
    /// It fails.
    Fails,
    /// ON CONFLICT DO NOTHING
    Nothing,
    /// ON CONFLICT (key) DO UPDATE SET column = value [WHERE condition]
    Update {
        /// Columns and values; `t0.c1` is of the row there, `excluded.c1` of the one to insert.
        set: Vec<(usize, Expression)>,
        /// Which rows are changed.
        filter: Option<Expression>,
    },
}

/// A statement. Tables are positions in the seed's tables.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Statement {
    /// CREATE TABLE
    CreateTable { table: usize, if_not_exists: bool },
    /// DROP TABLE
    DropTable { table: usize, if_exists: bool, cascade: bool },
    /// TRUNCATE
    Truncate { table: usize },
    /// INSERT … VALUES into some of the columns.
    Insert { table: usize, columns: Vec<usize>, rows: Vec<Vec<Value>>, conflict: OnConflict },
    /// INSERT … SELECT of the table's own rows, `shift` added to the first column where it is a BIGINT.
    InsertSelect { table: usize, shift: i64, filter: Expression },
    /// UPDATE
    Update { table: usize, set: Vec<(usize, Expression)>, filter: Expression },
    /// DELETE
    Delete { table: usize, filter: Expression },
    /// DELETE … WHERE column IN (SELECT other FROM from WHERE …)
    DeleteIn { table: usize, column: usize, from: usize, other: usize, filter: Expression },
    /// BEGIN
    Begin,
    /// COMMIT
    Commit,
    /// ROLLBACK
    Rollback,
    /// SAVEPOINT
    Savepoint(&'static str),
    /// ROLLBACK TO
    RollbackTo(&'static str),
    /// RELEASE
    Release(&'static str),
    /// CHECKPOINT
    Checkpoint,
    /// COMPACT, or COMPACT TABLE
    Compact(Option<usize>),
    /// Closes and opens the database; `abandon`: drops it without closing.
    Reopen { abandon: bool },
    /// CREATE INDEX … USING hnsw
    CreateIndex { table: usize },
    /// DROP INDEX
    DropIndex { table: usize },
    /// CREATE [OR REPLACE] VIEW of some columns.
    CreateView { view: usize, replace: bool, table: usize, columns: Vec<usize>, filter: Expression },
    /// DROP VIEW
    DropView { view: usize },
    /// A query.
    Read(Read),
}

/// An aggregate function.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Aggregate {
    /// count(*)
    Rows,
    /// count(x)
    Count(Expression),
    /// count(DISTINCT x)
    CountDistinct(Expression),
    /// sum(x)
    Sum(Expression),
    /// min(x), or max(x)
    Extreme { greatest: bool, of: Expression },
}

/// A query.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Read {
    /// `SELECT [DISTINCT] … FROM t WHERE …`, in any order.
    Rows { table: usize, output: Vec<Expression>, filter: Option<Expression>, distinct: bool },
    /// SELECT … ORDER BY all of its columns, which are DESC where `descending` says so, NULLS FIRST or LAST. LIMIT … OFFSET.
    Ordered {
        table: usize,
        output: Vec<Expression>,
        filter: Option<Expression>,
        descending: Vec<bool>,
        nulls_first: bool,
        limit: usize,
        offset: usize,
    },
    /// The row of a key.
    Lookup { table: usize, key: Vec<Value> },
    /// SELECT key, aggregates FROM t WHERE … GROUP BY key HAVING count(*) > least; without a key one row of all.
    Group {
        table: usize,
        key: Option<Expression>,
        aggregates: Vec<Aggregate>,
        filter: Option<Expression>,
        least: i64,
    },
    /// A join by two BIGINT columns.
    Join { left: usize, right: usize, on: (usize, usize), outer: bool, filter: Option<Expression> },
    /// SELECT * FROM a view.
    View { view: usize },
    /// vector_search
    Search { table: usize, vector: Vec<i32>, k: usize, filter: Option<Expression>, exact: bool },
}

/// Kinds of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CreateTable,
    DropTable,
    Truncate,
    Insert,
    Upsert,
    InsertSelect,
    Update,
    Delete,
    DeleteIn,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    RollbackTo,
    Release,
    Checkpoint,
    Compact,
    Reopen,
    CreateIndex,
    DropIndex,
    CreateView,
    DropView,
    Rows,
    Ordered,
    Lookup,
    Group,
    Join,
    View,
    Search,
}

/// How often each kind of statement is made. 0 switches one off.
const WEIGHTS: [(u32, Kind); 29] = [
    (6, Kind::CreateTable),
    (1, Kind::DropTable),
    (2, Kind::Truncate),
    (22, Kind::Insert),
    (10, Kind::Upsert),
    (4, Kind::InsertSelect),
    (14, Kind::Update),
    (9, Kind::Delete),
    (3, Kind::DeleteIn),
    (9, Kind::Begin),
    (9, Kind::Commit),
    (3, Kind::Rollback),
    (4, Kind::Savepoint),
    (3, Kind::RollbackTo),
    (1, Kind::Release),
    (5, Kind::Checkpoint),
    (3, Kind::Compact),
    (2, Kind::Reopen),
    (2, Kind::CreateIndex),
    (1, Kind::DropIndex),
    (2, Kind::CreateView),
    (1, Kind::DropView),
    (8, Kind::Rows),
    (6, Kind::Ordered),
    (5, Kind::Lookup),
    (7, Kind::Group),
    (4, Kind::Join),
    (3, Kind::View),
    (5, Kind::Search),
];

/// How many of the values that INSERT writes are NULL, or out of range, whatever the column takes.
const WRONG_ROW: f64 = 0.01;
/// Depth of conditions.
const DEPTH: u32 = 2;
const SAVEPOINTS: [&str; 2] = ["sa", "sb"];

/// The script of a seed: all tables first, then `length` statements.
pub fn script(random: &mut StdRng, tables: &[Table], length: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..tables.len())
        .map(|table| Step { session: 0, statement: Statement::CreateTable { table, if_not_exists: false } })
        .collect();
    let mut open = [false; SESSIONS];
    while steps.len() < tables.len() + length {
        let session = random.random_range(0..SESSIONS);
        let kind = weighted(random, &WEIGHTS);
        // Statements of a transaction where none is open, and the other way round, are there to fail, and rarely.
        let fits = match kind {
            Kind::Begin => !open[session],
            Kind::Commit | Kind::Rollback | Kind::Savepoint | Kind::RollbackTo | Kind::Release => {
                open[session]
            }
            Kind::Compact => !open[session],
            _ => true,
        };
        if !fits && random.random_bool(0.97) {
            continue;
        }
        match kind {
            Kind::Begin => open[session] = true,
            Kind::Commit | Kind::Rollback => open[session] = false,
            Kind::Reopen => open = [false; SESSIONS],
            _ => {}
        }
        let statement = Generator { random: &mut *random, tables }.statement(kind);
        steps.push(Step { session, statement });
    }
    steps
}

struct Generator<'a> {
    random: &'a mut StdRng,
    tables: &'a [Table],
}

impl Generator<'_> {
    fn table(&mut self) -> usize {
        self.random.random_range(0..self.tables.len())
    }

    fn condition(&mut self, table: usize) -> Expression {
        let columns = self.tables[table].names("");
        Maker { random: &mut *self.random, columns }.condition(DEPTH)
    }

    fn maybe_condition(&mut self, table: usize) -> Option<Expression> {
        if self.random.random_bool(0.6) { Some(self.condition(table)) } else { None }
    }

    fn expression(&mut self, table: usize, sql_type: SqlType, depth: u32) -> Expression {
        let columns = self.tables[table].names("");
        Maker { random: &mut *self.random, columns }.of(sql_type, depth)
    }

    fn statement(&mut self, kind: Kind) -> Statement {
        let table = self.table();
        let savepoint = *one_of(self.random, &SAVEPOINTS);
        match kind {
            Kind::CreateTable => {
                Statement::CreateTable { table, if_not_exists: self.random.random_bool(0.3) }
            }
            Kind::DropTable => Statement::DropTable {
                table,
                if_exists: self.random.random_bool(0.3),
                cascade: self.random.random_bool(0.4),
            },
            Kind::Truncate => Statement::Truncate { table },
            Kind::Insert => self.insert(table),
            Kind::Upsert => self.upsert(table),
            Kind::InsertSelect => {
                let shift = self.random.random_range(1..60);
                Statement::InsertSelect { table, shift, filter: self.condition(table) }
            }
            Kind::Update => self.update(table),
            Kind::Delete => Statement::Delete { table, filter: self.condition(table) },
            Kind::DeleteIn => {
                let from = self.table();
                let column = *one_of(self.random, &self.tables[table].of_type(SqlType::BigInt));
                let other = *one_of(self.random, &self.tables[from].of_type(SqlType::BigInt));
                Statement::DeleteIn { table, column, from, other, filter: self.condition(from) }
            }
            Kind::Begin => Statement::Begin,
            Kind::Commit => Statement::Commit,
            Kind::Rollback => Statement::Rollback,
            Kind::Savepoint => Statement::Savepoint(savepoint),
            Kind::RollbackTo => Statement::RollbackTo(savepoint),
            Kind::Release => Statement::Release(savepoint),
            Kind::Checkpoint => Statement::Checkpoint,
            Kind::Compact => Statement::Compact(self.random.random_bool(0.5).then_some(table)),
            Kind::Reopen => Statement::Reopen { abandon: self.random.random_bool(0.5) },
            Kind::CreateIndex => Statement::CreateIndex { table: self.with_vectors() },
            Kind::DropIndex => Statement::DropIndex { table: self.with_vectors() },
            Kind::CreateView => {
                let columns: Vec<usize> =
                    self.plain_columns(table).into_iter().filter(|_| self.random.random_bool(0.7)).collect();
                let columns = if columns.is_empty() { vec![0] } else { columns };
                let view = self.random.random_range(0..VIEWS);
                let replace = self.random.random_bool(0.5);
                Statement::CreateView { view, replace, table, columns, filter: self.condition(table) }
            }
            Kind::DropView => Statement::DropView { view: self.random.random_range(0..VIEWS) },
            Kind::View => Statement::Read(Read::View { view: self.random.random_range(0..VIEWS) }),
            Kind::Rows | Kind::Ordered | Kind::Lookup | Kind::Group | Kind::Join | Kind::Search => {
                Statement::Read(self.read(kind, table))
            }
        }
    }

    fn with_vectors(&self) -> usize {
        self.tables.iter().position(|table| table.vector().is_some()).unwrap()
    }

    /// All but vectors.
    fn plain_columns(&self, table: usize) -> Vec<usize> {
        let table = &self.tables[table];
        table.all().into_iter().filter(|at| table.columns[*at].sql_type != SqlType::Vector).collect()
    }

    fn value(&mut self, table: usize, column: usize, may_be_wrong: bool) -> Value {
        let in_key = self.tables[table].key.contains(&column);
        let column = &self.tables[table].columns[column];
        // Most keys of a plain INSERT are new.
        if may_be_wrong && in_key && column.sql_type != SqlType::Text && self.random.random_bool(0.85) {
            return Value::Integer(self.random.random_range(0..2000));
        }
        let wrong = may_be_wrong && self.random.random_bool(WRONG_ROW);
        match (wrong, column.sql_type) {
            (true, SqlType::SmallInt) => Value::Integer(40_000),
            (true, _) => Value::Null,
            (false, sql_type) if !column.not_null && self.random.random_bool(0.15) => {
                // A NULL vector is as good as any other.
                if sql_type == SqlType::Vector && self.random.random_bool(0.5) {
                    sql_type.any(self.random)
                } else {
                    Value::Null
                }
            }
            (false, sql_type) => sql_type.any(self.random),
        }
    }

    fn rows(&mut self, table: usize, columns: &[usize], may_be_wrong: bool) -> Vec<Vec<Value>> {
        let count = if self.random.random_bool(0.2) { 12 } else { self.random.random_range(1..5) };
        (0..count)
            .map(|_| columns.iter().map(|column| self.value(table, *column, may_be_wrong)).collect())
            .collect()
    }

    fn insert(&mut self, table: usize) -> Statement {
        let definition = &self.tables[table];
        let all = definition.all();
        // Columns without a default that refuse NULL are named always.
        let columns: Vec<usize> = if self.random.random_bool(0.3) {
            all.into_iter()
                .filter(|at| {
                    let column = &definition.columns[*at];
                    (column.not_null && column.default.is_null()) || self.random.random_bool(0.6)
                })
                .collect()
        } else {
            all
        };
        let columns = if columns.is_empty() { vec![0] } else { columns };
        let rows = self.rows(table, &columns, true);
        Statement::Insert { table, columns, rows, conflict: OnConflict::Fails }
    }

    fn upsert(&mut self, table: usize) -> Statement {
        let definition = &self.tables[table];
        let columns = definition.all();
        // ON CONFLICT without a key is refused; a plain INSERT takes its place.
        if definition.key.is_empty() {
            return self.insert(table);
        }
        let mut rows = self.rows(table, &columns, false);
        if self.random.random_bool(0.4) {
            return Statement::Insert { table, columns, rows, conflict: OnConflict::Nothing };
        }
        let others: Vec<usize> = columns.iter().copied().filter(|at| !definition.key.contains(at)).collect();
        let mut set = Vec::new();
        for at in others {
            if self.random.random_bool(0.4) {
                continue;
            }
            let column = &definition.columns[at];
            let excluded = Expression::Column(format!("excluded.{}", column.name), column.sql_type);
            let there = Expression::Column(format!("{}.{}", definition.name, column.name), column.sql_type);
            let value = match column.sql_type {
                SqlType::BigInt if self.random.random_bool(0.5) => {
                    let sum = Expression::Arithmetic('+', Box::new(there), Box::new(excluded));
                    Expression::Remainder(Box::new(sum), 1000)
                }
                _ => excluded,
            };
            set.push((at, value));
        }
        if set.is_empty() {
            return Statement::Insert { table, columns, rows, conflict: OnConflict::Nothing };
        }
        let filter = self.random.random_bool(0.3).then(|| {
            let mut names = definition.names(&format!("{}.", definition.name));
            names.extend(definition.names("excluded."));
            Maker { random: &mut *self.random, columns: names }.condition(1)
        });
        if filter.is_some() {
            // What a key twice means under a condition is no matter of this model.
            let mut seen = std::collections::BTreeSet::new();
            rows.retain(|row| {
                seen.insert(definition.key.iter().map(|at| row[*at].clone()).collect::<Vec<_>>())
            });
        }
        Statement::Insert { table, columns, rows, conflict: OnConflict::Update { set, filter } }
    }

    fn update(&mut self, table: usize) -> Statement {
        let definition = &self.tables[table];
        let columns = definition.all();
        let count = self.random.random_range(1..3);
        let mut set: Vec<(usize, Expression)> = Vec::new();
        for _ in 0..count {
            let at = *one_of(self.random, &columns);
            let in_key = definition.key.contains(&at);
            if set.iter().any(|(known, _)| *known == at) || (in_key && self.random.random_bool(0.6)) {
                continue;
            }
            let sql_type = definition.columns[at].sql_type;
            // Bounded, however often it is run again.
            let value = match sql_type {
                SqlType::BigInt => Expression::Remainder(Box::new(self.expression(table, sql_type, 2)), 1000),
                SqlType::Vector => Expression::Literal(sql_type.any(self.random), sql_type),
                _ => self.expression(table, sql_type, 0),
            };
            set.push((at, value));
        }
        if set.is_empty() {
            let at = *one_of(self.random, &columns);
            set.push((
                at,
                Expression::Column(definition.columns[at].name.clone(), definition.columns[at].sql_type),
            ));
        }
        Statement::Update { table, set, filter: self.condition(table) }
    }

    fn outputs(&mut self, table: usize) -> Vec<Expression> {
        let definition = &self.tables[table];
        let mut outputs: Vec<Expression> = Vec::new();
        for at in self.plain_columns(table) {
            if self.random.random_bool(0.6) {
                let column = &definition.columns[at];
                outputs.push(Expression::Column(column.name.clone(), column.sql_type));
            }
        }
        for sql_type in [SqlType::BigInt, SqlType::Text] {
            if outputs.is_empty() || self.random.random_bool(0.3) {
                outputs.push(self.expression(table, sql_type, DEPTH));
            }
        }
        outputs
    }

    fn read(&mut self, kind: Kind, table: usize) -> Read {
        match kind {
            Kind::Rows => Read::Rows {
                table,
                output: self.outputs(table),
                filter: self.maybe_condition(table),
                distinct: self.random.random_bool(0.2),
            },
            Kind::Ordered => {
                let output = self.outputs(table);
                Read::Ordered {
                    table,
                    descending: output.iter().map(|_| self.random.random_bool(0.5)).collect(),
                    output,
                    filter: self.maybe_condition(table),
                    nulls_first: self.random.random_bool(0.5),
                    limit: self.random.random_range(0..15),
                    offset: if self.random.random_bool(0.5) { 0 } else { self.random.random_range(1..10) },
                }
            }
            Kind::Lookup => {
                let definition = &self.tables[table];
                if definition.key.is_empty() {
                    return self.read(Kind::Rows, table);
                }
                let key = definition
                    .key
                    .iter()
                    .map(|at| definition.columns[*at].sql_type.any(self.random))
                    .collect();
                Read::Lookup { table, key }
            }
            Kind::Group => self.group(table),
            Kind::Join => {
                let right = self.table();
                let columns = |table: usize| self.tables[table].of_type(SqlType::BigInt);
                let (lefts, rights) = (columns(table), columns(right));
                let on = (*one_of(self.random, &lefts), *one_of(self.random, &rights));
                let mut names = self.tables[table].names("a.");
                names.extend(self.tables[right].names("b."));
                let filter = self
                    .random
                    .random_bool(0.5)
                    .then(|| Maker { random: &mut *self.random, columns: names }.condition(1));
                Read::Join { left: table, right, on, outer: self.random.random_bool(0.4), filter }
            }
            _ => {
                let table = self.with_vectors();
                let vector = match SqlType::Vector.any(self.random) {
                    Value::Vector(components) => components,
                    _ => vec![0, 0],
                };
                Read::Search {
                    table,
                    vector,
                    k: self.random.random_range(1..12),
                    filter: self.random.random_bool(0.5).then(|| self.condition(table)),
                    exact: self.random.random_bool(0.6),
                }
            }
        }
    }

    fn group(&mut self, table: usize) -> Read {
        let definition = &self.tables[table];
        let plain = self.plain_columns(table);
        let column = |at: usize| {
            let column = &definition.columns[at];
            Expression::Column(column.name.clone(), column.sql_type)
        };
        let key = match self.random.random_range(0..4) {
            0 => None,
            1 => {
                let of = column(*one_of(self.random, &definition.of_type(SqlType::BigInt)));
                Some(Expression::Remainder(Box::new(of), 3))
            }
            _ => Some(column(*one_of(self.random, &plain))),
        };
        let mut aggregates = vec![Aggregate::Rows];
        for at in plain {
            let sql_type = definition.columns[at].sql_type;
            match self.random.random_range(0..6) {
                0 => aggregates.push(Aggregate::Count(column(at))),
                1 => aggregates.push(Aggregate::CountDistinct(column(at))),
                2 if matches!(sql_type, SqlType::BigInt | SqlType::Double | SqlType::Decimal) => {
                    aggregates.push(Aggregate::Sum(column(at)));
                }
                2 | 3 if sql_type.has_extremes() => {
                    let greatest = self.random.random_bool(0.5);
                    aggregates.push(Aggregate::Extreme { greatest, of: column(at) });
                }
                _ => {}
            }
        }
        let filter = self.maybe_condition(table);
        let least = if key.is_some() && self.random.random_bool(0.3) { 1 } else { 0 };
        Read::Group { table, key, aggregates, filter, least }
    }
}

/// A select list, whose names are distinct.
fn list(expressions: &[Expression]) -> String {
    let named = expressions.iter().enumerate().map(|(at, part)| format!("{} AS o{at}", part.sql()));
    named.collect::<Vec<_>>().join(", ")
}

fn condition(filter: Option<&Expression>) -> String {
    filter.map_or_else(String::new, |filter| format!(" WHERE {}", filter.sql()))
}

impl Aggregate {
    /// As SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Self::Rows => "count(*)".into(),
            Self::Count(of) => format!("count({})", of.sql()),
            Self::CountDistinct(of) => format!("count(DISTINCT {})", of.sql()),
            Self::Sum(of) => format!("sum({})", of.sql()),
            Self::Extreme { greatest: true, of } => format!("max({})", of.sql()),
            Self::Extreme { greatest: false, of } => format!("min({})", of.sql()),
        }
    }

    /// The type of its values.
    #[must_use]
    pub fn sql_type(&self) -> SqlType {
        match self {
            Self::Rows | Self::Count(_) | Self::CountDistinct(_) => SqlType::BigInt,
            Self::Sum(of) | Self::Extreme { of, .. } => of.sql_type(),
        }
    }
}

impl Read {
    /// As SQL.
    #[must_use]
    pub fn sql(&self, tables: &[Table]) -> String {
        match self {
            Self::Rows { table, output, filter, distinct } => {
                let distinct = if *distinct { "DISTINCT " } else { "" };
                let (output, name) = (list(output), &tables[*table].name);
                format!("SELECT {distinct}{output} FROM {name}{}", condition(filter.as_ref()))
            }
            Self::Ordered { table, output, filter, descending, nulls_first, limit, offset } => {
                let nulls = if *nulls_first { "FIRST" } else { "LAST" };
                let order: Vec<String> = descending
                    .iter()
                    .enumerate()
                    .map(|(at, descending)| {
                        let direction = if *descending { "DESC" } else { "ASC" };
                        format!("{} {direction} NULLS {nulls}", at + 1)
                    })
                    .collect();
                let offset = if *offset == 0 { String::new() } else { format!(" OFFSET {offset}") };
                format!(
                    "SELECT {} FROM {}{} ORDER BY {} LIMIT {limit}{offset}",
                    list(output),
                    tables[*table].name,
                    condition(filter.as_ref()),
                    order.join(", ")
                )
            }
            Self::Lookup { table, key } => {
                let table = &tables[*table];
                let parts: Vec<String> = table
                    .key
                    .iter()
                    .zip(key)
                    .map(|(at, value)| format!("{} = {}", table.columns[*at].name, value.literal()))
                    .collect();
                let columns = table.select_list(&table.all());
                format!("SELECT {columns} FROM {} WHERE {}", table.name, parts.join(" AND "))
            }
            Self::Group { table, key, aggregates, filter, least } => {
                let mut output: Vec<String> = key.iter().map(Expression::sql).collect();
                output.extend(aggregates.iter().map(Aggregate::sql));
                let group = match (key, least) {
                    (None, _) => String::new(),
                    (Some(key), 0) => format!(" GROUP BY {}", key.sql()),
                    (Some(key), least) => format!(" GROUP BY {} HAVING count(*) > {least}", key.sql()),
                };
                let (output, name) = (output.join(", "), &tables[*table].name);
                format!("SELECT {output} FROM {name}{}{group}", condition(filter.as_ref()))
            }
            Self::Join { left, right, on, outer, filter } => {
                let kind = if *outer { "LEFT JOIN" } else { "JOIN" };
                let (left, right) = (&tables[*left], &tables[*right]);
                let (on_left, on_right) = (&left.columns[on.0].name, &right.columns[on.1].name);
                format!(
                    "SELECT a.c0 AS o0, a.{on_left} AS o1, b.{on_right} AS o2, b.c1 AS o3 FROM {} a {kind} {} b \
                     ON a.{on_left} = b.{on_right}{}",
                    left.name,
                    right.name,
                    condition(filter.as_ref())
                )
            }
            Self::View { view } => format!("SELECT * FROM w{view}"),
            Self::Search { table, vector, k, filter, exact } => {
                let table = &tables[*table];
                let at = table.vector().unwrap();
                let columns: Vec<usize> = table.all().into_iter().filter(|column| *column != at).collect();
                let mode = if *exact { ", mode => 'exact'" } else { "" };
                let filter = filter
                    .as_ref()
                    .map_or_else(String::new, |filter| format!(", filter => {}", quoted(&filter.sql())));
                format!(
                    "SELECT {}, _distance FROM vector_search('{}', '{}', {}, k => {k}{filter}{mode}) ORDER BY _rank",
                    table.select_list(&columns),
                    table.name,
                    table.columns[at].name,
                    Value::Vector(vector.clone()).literal()
                )
            }
        }
    }
}

impl Statement {
    /// As SQL; None: it is none.
    #[must_use]
    pub fn sql(&self, tables: &[Table]) -> Option<String> {
        let name = |table: &usize| tables[*table].name.clone();
        let column = |table: &usize, at: usize| tables[*table].columns[at].name.clone();
        let assignments = |table: &usize, set: &[(usize, Expression)]| {
            let parts = set.iter().map(|(at, value)| {
                let value = match value {
                    // A vector is a text that its column takes.
                    Expression::Literal(value, SqlType::Vector) => value.literal(),
                    value => value.sql(),
                };
                format!("{} = {value}", column(table, *at))
            });
            parts.collect::<Vec<_>>().join(", ")
        };
        Some(match self {
            Self::CreateTable { table, if_not_exists } => tables[*table].create(*if_not_exists),
            Self::DropTable { table, if_exists, cascade } => {
                let (before, after) =
                    (if *if_exists { "IF EXISTS " } else { "" }, if *cascade { " CASCADE" } else { "" });
                format!("DROP TABLE {before}{}{after}", name(table))
            }
            Self::Truncate { table } => format!("TRUNCATE {}", name(table)),
            Self::Insert { table, columns, rows, conflict } => {
                let names: Vec<String> = columns.iter().map(|at| column(table, *at)).collect();
                let rows: Vec<String> = rows
                    .iter()
                    .map(|row| {
                        let values: Vec<String> = row.iter().map(Value::literal).collect();
                        format!("({})", values.join(", "))
                    })
                    .collect();
                let conflict = match conflict {
                    OnConflict::Fails => String::new(),
                    OnConflict::Nothing => " ON CONFLICT DO NOTHING".into(),
                    OnConflict::Update { set, filter } => {
                        let key: Vec<String> =
                            tables[*table].key.iter().map(|at| column(table, *at)).collect();
                        let set = assignments(table, set);
                        let filter = condition(filter.as_ref());
                        format!(" ON CONFLICT ({}) DO UPDATE SET {set}{filter}", key.join(", "))
                    }
                };
                let (name, names, rows) = (name(table), names.join(", "), rows.join(", "));
                format!("INSERT INTO {name} ({names}) VALUES {rows}{conflict}")
            }
            Self::InsertSelect { table, shift, filter } => {
                let definition = &tables[*table];
                let mut output: Vec<String> =
                    definition.columns.iter().map(|column| column.name.clone()).collect();
                if definition.columns[0].sql_type == SqlType::BigInt {
                    output[0] = format!("{} + {shift}", output[0]);
                }
                let (name, output) = (name(table), output.join(", "));
                format!("INSERT INTO {name} SELECT {output} FROM {name} WHERE {}", filter.sql())
            }
            Self::Update { table, set, filter } => {
                format!("UPDATE {} SET {} WHERE {}", name(table), assignments(table, set), filter.sql())
            }
            Self::Delete { table, filter } => format!("DELETE FROM {} WHERE {}", name(table), filter.sql()),
            Self::DeleteIn { table, column: at, from, other, filter } => format!(
                "DELETE FROM {} WHERE {} IN (SELECT {} FROM {} WHERE {})",
                name(table),
                column(table, *at),
                column(from, *other),
                name(from),
                filter.sql()
            ),
            Self::Begin => "BEGIN".into(),
            Self::Commit => "COMMIT".into(),
            Self::Rollback => "ROLLBACK".into(),
            Self::Savepoint(point) => format!("SAVEPOINT {point}"),
            Self::RollbackTo(point) => format!("ROLLBACK TO {point}"),
            Self::Release(point) => format!("RELEASE {point}"),
            Self::Checkpoint => "CHECKPOINT".into(),
            Self::Compact(None) => "COMPACT".into(),
            Self::Compact(Some(table)) => format!("COMPACT TABLE {}", name(table)),
            Self::Reopen { .. } => return None,
            Self::CreateIndex { table } => {
                let at = tables[*table].vector()?;
                let (name, column) = (name(table), column(table, at));
                format!("CREATE INDEX {name}_idx ON {name} USING hnsw ({column}) WITH (metric = 'l2')")
            }
            Self::DropIndex { table } => format!("DROP INDEX {}_idx", name(table)),
            Self::CreateView { view, replace, table, columns, filter } => {
                let replace = if *replace { "OR REPLACE " } else { "" };
                let columns = tables[*table].select_list(columns);
                format!(
                    "CREATE {replace}VIEW w{view} AS SELECT {columns} FROM {} WHERE {}",
                    name(table),
                    filter.sql()
                )
            }
            Self::DropView { view } => format!("DROP VIEW w{view}"),
            Self::Read(read) => read.sql(tables),
        })
    }

    /// Statements that do less, to put in its place while a script is made short.
    #[must_use]
    pub fn smaller(&self) -> Vec<Self> {
        match self {
            Self::Insert { table, columns, rows, conflict } if rows.len() > 1 => (0..rows.len())
                .map(|left_out| {
                    let mut rows = rows.clone();
                    rows.remove(left_out);
                    let (columns, conflict) = (columns.clone(), conflict.clone());
                    Self::Insert { table: *table, columns, rows, conflict }
                })
                .collect(),
            Self::Update { table, set, filter } if set.len() > 1 => (0..set.len())
                .map(|left_out| {
                    let mut set = set.clone();
                    set.remove(left_out);
                    Self::Update { table: *table, set, filter: filter.clone() }
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
