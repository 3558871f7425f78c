//! Random changes of a small database, and what it must hold after each.
//!
//! Owns: the statements, each with its SQL and its effect on a [`Model`], and which of them a seed makes. A change is made for the model
//! it meets, so that each succeeds unless the disk fails. Does not own: running them (`database`).

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// Ids of `k` that are written again and again; those of new rows are larger.
const SHARED_IDS: i64 = 40;
/// Rows of one large INSERT: more than the log takes, so that they become a segment by themselves.
const MANY_ROWS: i64 = 400;
/// Beyond so many rows a table is thinned, so that rounds stay short.
const ROWS_MAX: usize = 1200;
/// Columns that ALTER adds, at most.
const EXTRA_COLUMNS_MAX: usize = 3;

/// Types of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BIGINT
    Number,
    /// TEXT
    Text,
    /// VECTOR(4)
    Vector,
}

/// A column behind `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// What rows have that are written without it.
    pub default: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// In order, behind `id`.
    pub columns: Vec<Column>,
    /// Whether its vectors have an index.
    pub indexed: bool,
    /// By id, as text.
    pub rows: BTreeMap<i64, Vec<String>>,
}

/// What the database must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// By name.
    pub tables: BTreeMap<String, Table>,
}

/// One statement that changes something.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Change {
    /// CREATE TABLE of one of the three tables every script begins with.
    Create { table: &'static str },
    /// INSERT … VALUES of new rows.
    Insert { table: &'static str, first: i64, rows: i64 },
    /// INSERT … SELECT of very many new rows.
    InsertMany { table: &'static str, first: i64 },
    /// INSERT … ON CONFLICT DO UPDATE of every `step`th shared id of `k`.
    Upsert { step: usize, value: i64 },
    /// UPDATE of the ids with this remainder.
    Update { table: &'static str, modulus: i64, remainder: i64, add: i64 },
    /// DELETE of the ids with this remainder.
    Delete { table: &'static str, modulus: i64, remainder: i64 },
    /// TRUNCATE
    Truncate { table: &'static str },
    /// ALTER TABLE … ADD COLUMN
    AddColumn { table: &'static str, name: String, default: i64 },
    /// ALTER TABLE … DROP COLUMN
    DropColumn { table: &'static str, name: String },
    /// ALTER TABLE … RENAME COLUMN
    RenameColumn { table: &'static str, from: String, to: String },
    /// CREATE TABLE side AS SELECT of part of `k`.
    CreateSide { modulus: i64 },
    /// DROP TABLE side
    DropSide,
    /// CREATE INDEX on the vectors of `v`.
    CreateIndex,
    /// DROP INDEX
    DropIndex,
}

/// What a session does at once.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Operation {
    /// One statement.
    Change(Change),
    /// BEGIN, some statements, then COMMIT, else ROLLBACK.
    Transaction { changes: Vec<Change>, commits: bool },
    /// CHECKPOINT
    Checkpoint,
    /// COMPACT
    Compact,
    /// The database is closed and opened.
    Reopen,
}

/// The tables every script begins with: with a key, without one, with vectors.
pub const TABLES: [&str; 3] = ["k", "p", "v"];

fn row(table: &str, id: i64) -> Vec<String> {
    let last = match table {
        "v" => format!("[{},{},{},1]", id % 7, id % 11, id % 13),
        _ if id % 5 == 0 => "NULL".into(),
        _ => format!("row {id}"),
    };
    vec![(id % 97).to_string(), last]
}

fn literal(cell: &str, kind: Kind) -> String {
    match kind {
        Kind::Number => cell.to_owned(),
        Kind::Text | Kind::Vector if cell == "NULL" => cell.to_owned(),
        Kind::Text | Kind::Vector => format!("'{cell}'"),
    }
}

fn last_column(table: &str) -> (&'static str, Kind) {
    if table == "v" { ("e", Kind::Vector) } else { ("b", Kind::Text) }
}

fn shared(step: usize) -> impl Iterator<Item = i64> {
    (0..SHARED_IDS).step_by(step)
}

impl Change {
    /// The statement.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Self::Create { table } => {
                let key = if *table == "p" { "" } else { " PRIMARY KEY" };
                let last = if *table == "v" { "e VECTOR(4)" } else { "b TEXT" };
                format!("CREATE TABLE {table} (id BIGINT{key}, a BIGINT, {last})")
            }
            Self::Insert { table, first, rows } => {
                let (last, kind) = last_column(table);
                let values: Vec<String> = (*first..first + rows)
                    .map(|id| {
                        let cells = row(table, id);
                        format!("({id}, {}, {})", cells[0], literal(&cells[1], kind))
                    })
                    .collect();
                format!("INSERT INTO {table} (id, a, {last}) VALUES {}", values.join(", "))
            }
            Self::InsertMany { table, first } => format!(
                "INSERT INTO {table} (id, a, b) SELECT value, value % 97, \
                 CASE WHEN value % 5 = 0 THEN NULL ELSE 'row ' || value END \
                 FROM generate_series({first}, {}) AS g(value)",
                first + MANY_ROWS - 1
            ),
            Self::Upsert { step, value } => {
                let values: Vec<String> = shared(*step)
                    .map(|id| format!("({id}, {value}, {})", literal(&row("k", id)[1], Kind::Text)))
                    .collect();
                format!(
                    "INSERT INTO k (id, a, b) VALUES {} ON CONFLICT (id) DO UPDATE SET a = excluded.a",
                    values.join(", ")
                )
            }
            Self::Update { table, modulus, remainder, add } => {
                format!("UPDATE {table} SET a = a + {add} WHERE id % {modulus} = {remainder}")
            }
            Self::Delete { table, modulus, remainder } => {
                format!("DELETE FROM {table} WHERE id % {modulus} = {remainder}")
            }
            Self::Truncate { table } => format!("TRUNCATE {table}"),
            Self::AddColumn { table, name, default } => {
                format!("ALTER TABLE {table} ADD COLUMN {name} BIGINT DEFAULT {default}")
            }
            Self::DropColumn { table, name } => format!("ALTER TABLE {table} DROP COLUMN {name}"),
            Self::RenameColumn { table, from, to } => {
                format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}")
            }
            Self::CreateSide { modulus } => {
                format!("CREATE TABLE side AS SELECT id, a FROM k WHERE id % {modulus} = 0")
            }
            Self::DropSide => "DROP TABLE side".into(),
            Self::CreateIndex => "CREATE INDEX v_e ON v USING hnsw (e) WITH (metric = 'l2')".into(),
            Self::DropIndex => "DROP INDEX v_e".into(),
        }
    }

    /// Does to `model` what the statement does to the database.
    ///
    /// # Panics
    /// When the model has not what the change is about.
    pub fn apply(&self, model: &mut Model) {
        let tables = &mut model.tables;
        match self {
            Self::Create { table } => {
                let (last, kind) = last_column(table);
                let column = |name: &str, kind| Column { name: name.into(), kind, default: "NULL".into() };
                let columns = vec![column("a", Kind::Number), column(last, kind)];
                tables.insert((*table).into(), Table { columns, indexed: false, rows: BTreeMap::new() });
            }
            Self::Insert { table, first, rows } => insert(tables, table, *first, *rows),
            Self::InsertMany { table, first } => insert(tables, table, *first, MANY_ROWS),
            Self::Upsert { step, value } => {
                let k = tables.get_mut("k").unwrap();
                for id in shared(*step) {
                    let fresh = k.fresh_row("k", id);
                    k.rows.entry(id).or_insert(fresh)[0] = value.to_string();
                }
            }
            Self::Update { table, modulus, remainder, add } => {
                let rows = &mut tables.get_mut(*table).unwrap().rows;
                for (_, cells) in rows.iter_mut().filter(|(id, _)| *id % modulus == *remainder) {
                    cells[0] = (cells[0].parse::<i64>().unwrap() + add).to_string();
                }
            }
            Self::Delete { table, modulus, remainder } => {
                tables.get_mut(*table).unwrap().rows.retain(|id, _| id % modulus != *remainder);
            }
            Self::Truncate { table } => tables.get_mut(*table).unwrap().rows.clear(),
            Self::AddColumn { table, name, default } => {
                let table = tables.get_mut(*table).unwrap();
                let column = Column { name: name.clone(), kind: Kind::Number, default: default.to_string() };
                for cells in table.rows.values_mut() {
                    cells.push(column.default.clone());
                }
                table.columns.push(column);
            }
            Self::DropColumn { table, name } => {
                let table = tables.get_mut(*table).unwrap();
                let at = table.columns.iter().position(|column| column.name == *name).unwrap();
                table.columns.remove(at);
                for cells in table.rows.values_mut() {
                    cells.remove(at);
                }
            }
            Self::RenameColumn { table, from, to } => {
                let columns = &mut tables.get_mut(*table).unwrap().columns;
                columns.iter_mut().find(|column| column.name == *from).unwrap().name.clone_from(to);
            }
            Self::CreateSide { modulus } => {
                let rows = tables["k"].rows.iter().filter(|(id, _)| *id % modulus == 0);
                let rows = rows.map(|(id, cells)| (*id, vec![cells[0].clone()])).collect();
                let column = Column { name: "a".into(), kind: Kind::Number, default: "NULL".into() };
                tables.insert("side".into(), Table { columns: vec![column], indexed: false, rows });
            }
            Self::DropSide => {
                tables.remove("side");
            }
            Self::CreateIndex => tables.get_mut("v").unwrap().indexed = true,
            Self::DropIndex => tables.get_mut("v").unwrap().indexed = false,
        }
    }
}

fn insert(tables: &mut BTreeMap<String, Table>, name: &str, first: i64, rows: i64) {
    let table = tables.get_mut(name).unwrap();
    for id in first..first + rows {
        let row = table.fresh_row(name, id);
        table.rows.insert(id, row);
    }
}

impl Table {
    /// What INSERT of `id`, `a` and the last column makes: those that were added later have their defaults.
    fn fresh_row(&self, name: &str, id: i64) -> Vec<String> {
        let mut cells = row(name, id);
        cells.extend(self.columns.iter().skip(cells.len()).map(|column| column.default.clone()));
        cells
    }

    /// Columns that ALTER added.
    fn extra(&self) -> &[Column] {
        self.columns.get(2..).unwrap_or_default()
    }

    /// What a query of all columns lists.
    #[must_use]
    pub fn select_list(&self) -> String {
        let shown = self.columns.iter().map(|column| match column.kind {
            Kind::Vector => format!("{}::TEXT", column.name),
            Kind::Number | Kind::Text => column.name.clone(),
        });
        ["id".to_owned()].into_iter().chain(shown).collect::<Vec<_>>().join(", ")
    }
}

impl Operation {
    /// Does to `model` what the operation does to the database.
    pub fn apply(&self, model: &mut Model) {
        match self {
            Self::Change(change) => change.apply(model),
            Self::Transaction { changes, commits: true } => {
                changes.iter().for_each(|change| change.apply(model));
            }
            Self::Transaction { commits: false, .. } | Self::Checkpoint | Self::Compact | Self::Reopen => {}
        }
    }
}

/// Makes operations for the model they meet.
#[derive(Debug)]
pub struct Generator {
    random: StdRng,
    next_id: i64,
    next_column: u64,
}

impl Generator {
    /// Operations as `random` has it.
    #[must_use]
    pub fn new(random: StdRng) -> Self {
        Self { random, next_id: 1000, next_column: 0 }
    }

    /// The dice, for whoever runs the operations.
    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// The next operation.
    pub fn operation(&mut self, model: &Model) -> Operation {
        // What a crash has left of the beginning.
        if let Some(table) = TABLES.into_iter().find(|table| !model.tables.contains_key(*table)) {
            return Operation::Change(Change::Create { table });
        }
        match self.random.random_range(0..100) {
            0..60 => Operation::Change(self.rows(model)),
            60..71 => Operation::Change(self.definition(model)),
            71..82 => {
                let (mut inside, mut changes) = (model.clone(), Vec::new());
                for _ in 0..self.random.random_range(2..5) {
                    let change = self.rows(&inside);
                    change.apply(&mut inside);
                    changes.push(change);
                }
                Operation::Transaction { changes, commits: self.random.random_bool(0.8) }
            }
            82..91 => Operation::Checkpoint,
            91..97 => Operation::Compact,
            _ => Operation::Reopen,
        }
    }

    /// A change of rows.
    fn rows(&mut self, model: &Model) -> Change {
        let table = TABLES[self.random.random_range(0..TABLES.len())];
        let modulus = self.random.random_range(2..8);
        let remainder = self.random.random_range(0..modulus);
        if model.tables[table].rows.len() > ROWS_MAX {
            return Change::Delete { table, modulus: 2, remainder: 0 };
        }
        match self.random.random_range(0..100) {
            0..40 => {
                let rows = if self.random.random_bool(0.1) { 60 } else { self.random.random_range(1..5) };
                let first = self.next_id;
                self.next_id += rows;
                Change::Insert { table, first, rows }
            }
            40..48 => {
                let first = self.next_id;
                self.next_id += MANY_ROWS;
                Change::InsertMany { table: if table == "v" { "p" } else { table }, first }
            }
            48..62 => Change::Upsert {
                step: self.random.random_range(1..20),
                value: self.random.random_range(-99..99),
            },
            62..80 => Change::Update { table, modulus, remainder, add: self.random.random_range(1..9) },
            80..95 => Change::Delete { table, modulus, remainder },
            95..97 => Change::Delete { table, modulus: 1, remainder: 0 },
            _ => Change::Truncate { table },
        }
    }

    /// A change of definitions.
    fn definition(&mut self, model: &Model) -> Change {
        let table = TABLES[self.random.random_range(0..TABLES.len())];
        let extra = model.tables[table].extra();
        match self.random.random_range(0..100) {
            0..60 if extra.len() < EXTRA_COLUMNS_MAX && self.random.random_bool(0.6) => {
                Change::AddColumn { table, name: self.column(), default: self.random.random_range(0..9) }
            }
            0..60 if !extra.is_empty() => {
                let name = extra[self.random.random_range(0..extra.len())].name.clone();
                if self.random.random_bool(0.5) {
                    Change::DropColumn { table, name }
                } else {
                    Change::RenameColumn { table, from: name, to: self.column() }
                }
            }
            0..80 if model.tables.contains_key("side") => Change::DropSide,
            0..80 => Change::CreateSide { modulus: self.random.random_range(1..5) },
            _ if model.tables["v"].indexed => Change::DropIndex,
            _ => Change::CreateIndex,
        }
    }

    fn column(&mut self) -> String {
        self.next_column += 1;
        format!("x{}", self.next_column)
    }
}
