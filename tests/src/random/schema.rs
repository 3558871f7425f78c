//! The tables of a seed.
//!
//! Owns: names, columns, keys and defaults. A name means the same columns throughout a script, however often the table is
//! dropped and made again: so a script stays meaningful whatever statements are left out of it.

use rand::Rng;
use rand::rngs::StdRng;

use super::one_of;
use super::value::{SqlType, Value};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// `c0`, `c1`, …
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether it refuses NULL; those of a key do.
    pub not_null: bool,
    /// What INSERT writes that does not name it.
    pub default: Value,
}

/// A table as CREATE TABLE makes it.
#[derive(Clone, Debug)]
pub struct Table {
    /// `t0`, `t1`, …
    pub name: String,
    /// In order.
    pub columns: Vec<Column>,
    /// Columns of the primary key; none: it has no key.
    pub key: Vec<usize>,
}

/// How many views a script may have.
pub const VIEWS: usize = 2;

const TYPES: [SqlType; 9] = [
    SqlType::BigInt,
    SqlType::Text,
    SqlType::Boolean,
    SqlType::Double,
    SqlType::SmallInt,
    SqlType::Decimal,
    SqlType::Date,
    SqlType::Timestamp,
    SqlType::Bytes,
];

/// The tables of a seed: one with a single key, one with vectors, one of two key columns, one without a key.
pub fn tables(random: &mut StdRng) -> Vec<Table> {
    let kinds = [&[SqlType::BigInt][..], &[SqlType::BigInt], &[SqlType::Text, SqlType::Integer], &[]];
    let mut tables = Vec::new();
    for (number, key) in kinds.into_iter().enumerate() {
        let mut types = key.to_vec();
        types.extend([SqlType::BigInt, SqlType::Text]);
        for _ in 0..random.random_range(1..4) {
            types.push(*one_of(random, &TYPES));
        }
        if number == 1 {
            types.push(SqlType::Vector);
        }
        let columns = types.into_iter().enumerate().map(|(at, sql_type)| {
            let in_key = at < key.len();
            let plain = !in_key && sql_type != SqlType::Vector;
            let default = plain && random.random_bool(0.3);
            Column {
                name: format!("c{at}"),
                sql_type,
                not_null: in_key || (plain && random.random_bool(0.2)),
                default: if default { sql_type.any(random) } else { Value::Null },
            }
        });
        tables.push(Table {
            name: format!("t{number}"),
            columns: columns.collect(),
            key: (0..key.len()).collect(),
        });
    }
    tables
}

impl Table {
    /// CREATE TABLE.
    #[must_use]
    pub fn create(&self, if_not_exists: bool) -> String {
        let mut parts: Vec<String> = Vec::new();
        for column in &self.columns {
            let mut part = format!("{} {}", column.name, column.sql_type.sql());
            if column.not_null {
                part.push_str(" NOT NULL");
            }
            if !column.default.is_null() {
                part.push_str(&format!(" DEFAULT {}", column.default.literal()));
            }
            parts.push(part);
        }
        if !self.key.is_empty() {
            let key: Vec<&str> = self.key.iter().map(|at| self.columns[*at].name.as_str()).collect();
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        let condition = if if_not_exists { "IF NOT EXISTS " } else { "" };
        format!("CREATE TABLE {condition}{} ({})", self.name, parts.join(", "))
    }

    /// Which column that is; None: there is none of that name.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The column of vectors.
    #[must_use]
    pub fn vector(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.sql_type == SqlType::Vector)
    }

    /// The columns as a select list that [`SqlType::read`] can read: vectors as text.
    #[must_use]
    pub fn select_list(&self, columns: &[usize]) -> String {
        let shown = columns.iter().map(|at| {
            let column = &self.columns[*at];
            match column.sql_type {
                SqlType::Vector => format!("{}::TEXT", column.name),
                _ => column.name.clone(),
            }
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// All columns.
    #[must_use]
    pub fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// Names and types, with something before each name.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<(String, SqlType)> {
        self.columns.iter().map(|column| (format!("{prefix}{}", column.name), column.sql_type)).collect()
    }

    /// Columns of a type.
    #[must_use]
    pub fn of_type(&self, sql_type: SqlType) -> Vec<usize> {
        self.all().into_iter().filter(|at| self.columns[*at].sql_type == sql_type).collect()
    }
}
