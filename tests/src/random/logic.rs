//! Queries whose answers must agree with each other, over tables of all types.
//!
//! Owns: random tables with the ends of every type, conditions on them, and three ways to see that an answer is wrong without
//! knowing the right one:
//!
//! * TLP (ternary logic partitioning, Rigger and Su 2020): a condition is true, false or NULL of each row, so the three parts of
//!   a query's rows make the whole;
//! * NoREC (the same, 2020): as many rows pass a WHERE as have the condition true in a select list, where nothing is pruned or
//!   pushed down;
//! * states: wherever rows are (memory, segments, both, merged, read back from the log), with and without an index, by one task or
//!   by four, a query has the same rows.
//!
//! Two zeros of floats are told apart by their text and not by everything that compares them, so floats are in conditions and select
//! lists, not in DISTINCT, GROUP BY, min and max. Their sums depend on the order of rows and are compared with a tolerance.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::place::{Place, Placed};
use super::{one_of, weighted};
use crate::answer::{Answer, SqlError};

/// What can be done with values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Boolean,
    Integer,
    Float,
    Text,
    /// Compared and grouped, nothing else.
    Ordered,
    /// Shown and asked for NULL, nothing else.
    Opaque,
}

/// A column type and some of its values, the least and the greatest among them.
#[derive(Debug)]
struct Kind {
    sql: &'static str,
    form: Form,
    values: &'static [&'static str],
}

static KINDS: [Kind; 20] = [
    Kind { sql: "BOOLEAN", form: Form::Boolean, values: &["true", "false"] },
    Kind { sql: "TINYINT", form: Form::Integer, values: &["-128", "0", "7", "127"] },
    Kind { sql: "SMALLINT", form: Form::Integer, values: &["-32768", "-1", "7", "32767"] },
    Kind { sql: "INTEGER", form: Form::Integer, values: &["-2147483648", "0", "7", "2147483647"] },
    Kind {
        sql: "BIGINT",
        form: Form::Integer,
        values: &["-9223372036854775808", "0", "7", "8", "9223372036854775807"],
    },
    Kind { sql: "TINYINT UNSIGNED", form: Form::Integer, values: &["0", "7", "255"] },
    Kind { sql: "BIGINT UNSIGNED", form: Form::Ordered, values: &["0", "7", "18446744073709551615"] },
    Kind {
        sql: "REAL",
        form: Form::Float,
        values: &[
            "CAST('NaN' AS REAL)",
            "CAST('inf' AS REAL)",
            "CAST('-0.0' AS REAL)",
            "0.0",
            "1.5",
            "-0.25",
        ],
    },
    Kind {
        sql: "DOUBLE",
        form: Form::Float,
        values: &[
            "CAST('NaN' AS DOUBLE)",
            "CAST('-inf' AS DOUBLE)",
            "CAST('-0.0' AS DOUBLE)",
            "0.0",
            "1.5",
            "-2.5e300",
            "1e-300",
        ],
    },
    Kind {
        sql: "DECIMAL(12,2)",
        form: Form::Ordered,
        values: &["9999999999.99", "-9999999999.99", "0.00", "-0.01", "1.50"],
    },
    Kind {
        sql: "DECIMAL(38,10)",
        form: Form::Ordered,
        values: &[
            "CAST('9999999999999999999999999999.9999999999' AS DECIMAL(38,10))",
            "CAST('-0.0000000001' AS DECIMAL(38,10))",
            "CAST('0' AS DECIMAL(38,10))",
        ],
    },
    Kind {
        sql: "TEXT",
        form: Form::Text,
        values: &[
            "''",
            "'a'",
            "'A'",
            "'ab'",
            "'äb'",
            "'it''s'",
            "'%'",
            "'a text that is longer than twelve bytes'",
        ],
    },
    Kind { sql: "BYTEA", form: Form::Ordered, values: &["X''", "X'00'", "X'00ff10'", "X'ff'"] },
    Kind {
        sql: "DATE",
        form: Form::Ordered,
        values: &["DATE '0001-01-01'", "DATE '1969-12-31'", "DATE '2024-02-29'", "DATE '9999-12-31'"],
    },
    Kind {
        sql: "TIME",
        form: Form::Ordered,
        values: &["CAST('00:00:00' AS TIME)", "CAST('12:34:56' AS TIME)", "CAST('23:59:59.999999' AS TIME)"],
    },
    Kind {
        sql: "TIMESTAMP",
        form: Form::Ordered,
        values: &[
            "TIMESTAMP '1900-01-01 00:00:00'",
            "TIMESTAMP '1969-12-31 23:59:59.999999'",
            "TIMESTAMP '2024-02-29 12:34:56.123456'",
            "TIMESTAMP '2200-01-01 00:00:00'",
        ],
    },
    Kind {
        sql: "TIMESTAMPTZ",
        form: Form::Ordered,
        values: &[
            "TIMESTAMPTZ '1969-12-31 23:59:59.999999Z'",
            "TIMESTAMPTZ '2024-02-29 12:34:56Z'",
            "TIMESTAMPTZ '2024-02-29 12:34:56+02:00'",
        ],
    },
    Kind { sql: "JSON", form: Form::Opaque, values: &["'{\"a\": [1, 2]}'", "'[]'", "'\"text\"'"] },
    Kind { sql: "TEXT[]", form: Form::Opaque, values: &["ARRAY['a', 'b']", "ARRAY['only', NULL]"] },
    Kind {
        sql: "STRUCT(name TEXT, age INT)",
        form: Form::Opaque,
        values: &["named_struct('name', 'Ada', 'age', 36)", "named_struct('name', '', 'age', 0)"],
    },
];

/// Numbers that two tables are joined by.
static SMALL: Kind = Kind { sql: "INTEGER", form: Form::Integer, values: &["0", "1", "2", "3", "4"] };
/// Floats whose sum keeps its digits.
static MODERATE: Kind =
    Kind { sql: "DOUBLE", form: Form::Opaque, values: &["0.1", "1.5", "-2.25", "1e3", "3.14"] };
static VECTOR: Kind =
    Kind { sql: "VECTOR(3)", form: Form::Opaque, values: &["'[1,2,3]'", "'[0,0,0]'", "'[-1,0.5,2]'"] };

#[derive(Clone, Debug)]
struct Field {
    name: String,
    kind: &'static Kind,
}

/// `t`, which has a key, or `u`, which has none.
#[derive(Debug)]
struct Relation {
    name: &'static str,
    fields: Vec<Field>,
}

/// Parts of conditions.
#[derive(Clone, Copy, Debug)]
enum Part {
    Compare,
    Columns,
    IsNull,
    In,
    Between,
    Distinct,
    Like,
    Remainder,
    Coalesce,
    Truth,
    And,
    Or,
    Not,
    Case,
}

/// How often each part of a condition is made. 0 switches one off.
const PARTS: [(u32, Part); 14] = [
    (20, Part::Compare),
    (6, Part::Columns),
    (8, Part::IsNull),
    (8, Part::In),
    (6, Part::Between),
    (5, Part::Distinct),
    (6, Part::Like),
    (4, Part::Remainder),
    (4, Part::Coalesce),
    (4, Part::Truth),
    (12, Part::And),
    (10, Part::Or),
    (7, Part::Not),
    (3, Part::Case),
];

/// A query of the states.
#[derive(Clone, Debug)]
struct Query {
    sql: String,
    /// Whether the order of rows counts.
    ordered: bool,
    /// Floats in it depend on the order of rows.
    tolerance: bool,
}

/// Relative difference of two sums of the same floats in another order.
const TOLERANCE: f64 = 1e-9;
/// Conditions that each seed tries.
const CONDITIONS: usize = 14;
/// Queries that each seed asks in every state.
const QUERIES: usize = 14;

/// What was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Comparisons made.
    pub compared: usize,
    /// Queries that are not supported (0A000), and are left aside.
    pub unsupported: usize,
}

/// Runs a seed.
///
/// # Errors
/// The report: what differs, and the statements that repeat it.
pub fn check(seed: u64) -> Result<Tally, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let relations = relations(&mut random);
    let setup = setup(&mut random, &relations);
    let mut asking = Asking { database: None, seed, said: Vec::new(), tally: Tally::default() };
    asking.database =
        Some(Placed::new(Place::Directory, 1).map_err(|error| asking.report(&error.to_string()))?);
    for statement in &setup {
        asking.run(statement)?;
    }
    let conditions: Vec<String> =
        (0..CONDITIONS).map(|_| condition(&mut random, &relations[0], "", 2)).collect();
    let queries: Vec<Query> = (0..QUERIES).map(|at| query(&mut random, &relations, at)).collect();
    // Before anything is written, and when all of it is.
    asking.partitions(&relations, &conditions)?;
    asking.states(&queries)?;
    asking.partitions(&relations, &conditions)?;
    Ok(asking.tally)
}

fn relations(random: &mut StdRng) -> [Relation; 2] {
    let mut made = ["t", "u"].map(|name| Relation {
        name,
        fields: [("k", &SMALL), ("f", &MODERATE)]
            .map(|(name, kind)| Field { name: name.to_owned(), kind })
            .to_vec(),
    });
    for relation in &mut made {
        for number in 0..5 {
            relation.fields.push(Field { name: format!("a{number}"), kind: one_of(random, &KINDS) });
        }
    }
    made[0].fields.push(Field { name: "v".into(), kind: &VECTOR });
    made
}

/// Makes and fills the tables: rows are written, changed and deleted.
fn setup(random: &mut StdRng, relations: &[Relation]) -> Vec<String> {
    let mut statements = Vec::new();
    let mut next = 0;
    for relation in relations {
        let keyed = relation.name == "t";
        let mut columns: Vec<String> =
            keyed.then(|| "id BIGINT PRIMARY KEY".to_owned()).into_iter().collect();
        columns.extend(relation.fields.iter().map(|field| format!("{} {}", field.name, field.kind.sql)));
        statements.push(format!("CREATE TABLE {} ({})", relation.name, columns.join(", ")));
        for _ in 0..random.random_range(4..9) {
            let mut rows = Vec::new();
            for _ in 0..6 {
                let mut row: Vec<String> = Vec::new();
                if keyed {
                    next += 1;
                    row.push(next.to_string());
                }
                row.extend(relation.fields.iter().map(|field| value(random, field.kind)));
                rows.push(format!("({})", row.join(", ")));
            }
            statements.push(format!("INSERT INTO {} VALUES {}", relation.name, rows.join(", ")));
        }
        let filter = condition(random, relation, "", 1);
        statements.push(format!(
            "DELETE FROM {} WHERE k = {} AND {filter}",
            relation.name,
            value_of(random, &SMALL)
        ));
        let field = one_of(random, &relation.fields);
        let (name, set) = (&field.name, value(random, field.kind));
        statements.push(format!("UPDATE {} SET {name} = {set} WHERE k = 2", relation.name));
    }
    statements
}

fn value_of(random: &mut StdRng, kind: &Kind) -> String {
    (*one_of(random, kind.values)).to_owned()
}

fn value(random: &mut StdRng, kind: &Kind) -> String {
    if random.random_bool(0.2) { "NULL".into() } else { value_of(random, kind) }
}

/// The value as an operand: nothing binds tighter than its sign.
fn operand(random: &mut StdRng, kind: &Kind) -> String {
    let value = value_of(random, kind);
    if value.starts_with('-') { format!("({value})") } else { value }
}

fn condition(random: &mut StdRng, relation: &Relation, prefix: &str, depth: u32) -> String {
    let part = weighted(random, &PARTS);
    let not = if random.random_bool(0.3) { "NOT " } else { "" };
    let comparable: Vec<&Field> =
        relation.fields.iter().filter(|field| field.kind.form != Form::Opaque).collect();
    let of = |form: Form| comparable.iter().copied().find(|field| field.kind.form == form);
    let field = *one_of(random, &comparable);
    let (name, kind) = (format!("{prefix}{}", field.name), field.kind);
    let sign = *one_of(random, &["=", "<>", "<", "<=", ">", ">="]);
    let inner = depth.saturating_sub(1);
    let nested = |random: &mut StdRng| condition(random, relation, prefix, inner);
    match part {
        Part::And if depth > 0 => format!("({} AND {})", nested(random), nested(random)),
        Part::Or if depth > 0 => format!("({} OR {})", nested(random), nested(random)),
        Part::Not if depth > 0 => format!("(NOT {})", nested(random)),
        Part::Case if depth > 0 => {
            format!("(CASE WHEN {} THEN {} ELSE {} END)", nested(random), nested(random), nested(random))
        }
        Part::Truth if depth > 0 => {
            let truth = *one_of(random, &["TRUE", "FALSE", "UNKNOWN"]);
            format!("({} IS {not}{truth})", nested(random))
        }
        Part::IsNull => {
            let field = one_of(random, &relation.fields);
            format!("({prefix}{} IS {not}NULL)", field.name)
        }
        Part::Columns => {
            let same: Vec<&&Field> = comparable.iter().filter(|other| other.kind.sql == kind.sql).collect();
            let other = one_of(random, &same);
            format!("({name} {sign} {prefix}{})", other.name)
        }
        Part::In => {
            let mut values: Vec<String> =
                (0..random.random_range(1..4)).map(|_| value_of(random, kind)).collect();
            if random.random_bool(0.15) {
                values.push("NULL".into());
            }
            format!("({name} {not}IN ({}))", values.join(", "))
        }
        Part::Between => {
            let (low, high) = (operand(random, kind), operand(random, kind));
            format!("({name} {not}BETWEEN {low} AND {high})")
        }
        Part::Distinct => format!("({name} IS {not}DISTINCT FROM {})", operand(random, kind)),
        Part::Like => match of(Form::Text) {
            Some(text) => {
                let pattern = *one_of(random, &["a%", "%b%", "_", "%", "", "A_%"]);
                format!("({prefix}{} {not}LIKE '{pattern}')", text.name)
            }
            None => format!("({name} IS {not}NULL)"),
        },
        Part::Remainder => match of(Form::Integer) {
            Some(number) => format!("({prefix}{} % 3 {sign} {})", number.name, random.random_range(0..3)),
            None => format!("({name} IS {not}NULL)"),
        },
        Part::Coalesce => {
            let (otherwise, with) = (operand(random, kind), operand(random, kind));
            format!("(coalesce({name}, {otherwise}) {sign} {with})")
        }
        Part::Compare | Part::And | Part::Or | Part::Not | Part::Case | Part::Truth => {
            match of(Form::Boolean) {
                Some(column) if random.random_bool(0.2) => format!("{prefix}{}", column.name),
                _ => format!("({name} {sign} {})", operand(random, kind)),
            }
        }
    }
}

/// Columns that rows can be grouped by.
fn groupable(relation: &Relation) -> Vec<&Field> {
    let is = |field: &&Field| !matches!(field.kind.form, Form::Float | Form::Opaque);
    relation.fields.iter().filter(is).collect()
}

/// Columns that have a least and a greatest value.
fn extreme(relation: &Relation) -> Vec<&Field> {
    let is = |field: &&Field| matches!(field.kind.form, Form::Integer | Form::Text);
    relation.fields.iter().filter(is).collect()
}

fn query(random: &mut StdRng, relations: &[Relation; 2], number: usize) -> Query {
    let [t, u] = relations;
    let filter = condition(random, t, "", 2);
    let group = one_of(random, &groupable(t)).name.clone();
    let of = one_of(random, &extreme(t)).name.clone();
    let (mut ordered, mut tolerance) = (false, false);
    // Each kind in turn, so that no seed leaves one out.
    let sql = match number % 12 {
        0 => format!("SELECT * FROM t WHERE {filter}"),
        1 => format!("SELECT count(*), count({of}), min({of}), max({of}) FROM t WHERE {filter}"),
        2 => format!("SELECT {group}, count(*), min({of}), max(id) FROM t WHERE {filter} GROUP BY {group}"),
        3 => {
            let filter = condition(random, u, "u.", 1);
            format!("SELECT t.id, t.{group}, u.k, u.f FROM t JOIN u ON t.k = u.k WHERE {filter}")
        }
        4 => {
            let filter = condition(random, t, "t.", 1);
            format!("SELECT t.id, u.k FROM t LEFT JOIN u ON t.k = u.k AND u.f > 1 WHERE {filter}")
        }
        5 => {
            ordered = true;
            let (limit, offset) = (random.random_range(1..12), random.random_range(0..6));
            format!("SELECT * FROM t WHERE {filter} ORDER BY id LIMIT {limit} OFFSET {offset}")
        }
        6 => format!("SELECT DISTINCT {group} AS g, k FROM t WHERE {filter}"),
        7 => {
            tolerance = true;
            format!("SELECT sum(f), avg(f), stddev(f) FROM t WHERE {filter}")
        }
        8 => format!("SELECT * FROM t WHERE id = {}", random.random_range(1..40)),
        9 => format!(
            "SELECT id, row_number() OVER (PARTITION BY {group} ORDER BY id), lag({of}) OVER (ORDER BY id) FROM t \
             WHERE {filter}"
        ),
        10 => {
            let k = random.random_range(1..9);
            format!("SELECT _distance FROM vector_search('t', 'v', '[1,0,2]', k => {k}, mode => 'exact')")
        }
        _ => {
            let word = *one_of(random, &["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
            format!("SELECT k FROM t WHERE {filter} {word} SELECT k FROM u")
        }
    };
    Query { sql, ordered, tolerance }
}

type Rows = Vec<Vec<String>>;

struct Asking {
    database: Option<Placed>,
    seed: u64,
    /// Everything that changed something.
    said: Vec<String>,
    tally: Tally,
}

impl Asking {
    fn report(&self, what: &str) -> String {
        let mut text = format!("CAIRN_LOGIC_SEED={}: {what}\nafter:\n", self.seed);
        for statement in &self.said {
            let _ = writeln!(text, "{statement};");
        }
        text
    }

    fn ask(&self, sql: &str) -> Result<Answer, SqlError> {
        match &self.database {
            Some(database) => database.run(0, sql),
            None => Err(SqlError::of_test("the database is not open")),
        }
    }

    /// A statement that must succeed.
    fn run(&mut self, sql: &str) -> Result<(), String> {
        self.said.push(sql.to_owned());
        self.ask(sql).map(drop).map_err(|error| self.report(&format!("{sql}: {error}")))
    }

    /// The rows of a query; None: it is not supported.
    fn rows(&mut self, sql: &str) -> Result<Option<Rows>, String> {
        match self.ask(sql) {
            Ok(answer) => Ok(Some(answer.rows())),
            Err(error) if error.sqlstate == "0A000" => {
                self.tally.unsupported += 1;
                Ok(None)
            }
            Err(error) => Err(self.report(&format!("{sql}\n{error}"))),
        }
    }

    /// Two ways to the same rows.
    fn same(&mut self, what: &str, whole: &str, parts: &[String], distinct: bool) -> Result<(), String> {
        let Some(mut expected) = self.rows(whole)? else { return Ok(()) };
        let mut found = Rows::new();
        for part in parts {
            let Some(rows) = self.rows(part)? else { return Ok(()) };
            found.extend(rows);
        }
        expected.sort();
        found.sort();
        if distinct {
            found.dedup();
        }
        self.tally.compared += 1;
        if expected == found {
            return Ok(());
        }
        let parts = parts.join(";\n");
        Err(self.report(&format!(
            "{what}: {whole}\nhas {}\n{parts}\nhave {}",
            shown(&expected),
            shown(&found)
        )))
    }

    /// TLP and NoREC of each condition.
    fn partitions(&mut self, relations: &[Relation; 2], conditions: &[String]) -> Result<(), String> {
        let t = &relations[0];
        for (number, p) in conditions.iter().enumerate() {
            let three = |query: &dyn Fn(&str) -> String| -> Vec<String> {
                [p.clone(), format!("NOT {p}"), format!("{p} IS NULL")]
                    .iter()
                    .map(|part| query(part.as_str()))
                    .collect()
            };
            let groups = groupable(t);
            let group = &groups[number % groups.len()].name;
            let extremes = extreme(t);
            let of = &extremes[number % extremes.len()].name;
            let rows = three(&|part| format!("SELECT * FROM t WHERE {part}"));
            self.same("rows", "SELECT * FROM t", &rows, false)?;
            match number % 5 {
                0 => {
                    let parts = three(&|part| format!("SELECT DISTINCT {group} FROM t WHERE {part}"));
                    self.same("DISTINCT", &format!("SELECT DISTINCT {group} FROM t"), &parts, true)?;
                }
                1 => {
                    let parts = three(&|part| {
                        format!("SELECT count(*) AS n, min({of}) AS a, max({of}) AS b FROM t WHERE {part}")
                    });
                    let whole = format!("SELECT count(*), min({of}), max({of}) FROM t");
                    let merged =
                        format!("SELECT sum(n), min(a), max(b) FROM ({})", parts.join(" UNION ALL "));
                    self.same("aggregates", &whole, &[merged], false)?;
                }
                2 => {
                    let parts = three(&|part| {
                        format!("SELECT {group} AS g, count(*) AS n FROM t WHERE {part} GROUP BY {group}")
                    });
                    let whole = format!("SELECT {group}, count(*) FROM t GROUP BY {group}");
                    let merged = format!("SELECT g, sum(n) FROM ({}) GROUP BY g", parts.join(" UNION ALL "));
                    self.same("groups", &whole, &[merged], false)?;
                }
                3 => {
                    // Where columns have one name in both, `t`'s is meant: the condition is inside.
                    let join = |part: &str| {
                        format!(
                            "SELECT s.*, u.f AS other FROM (SELECT * FROM t WHERE {part}) s JOIN u ON s.k = u.k"
                        )
                    };
                    let parts = three(&join);
                    self.same("a join", &join("true"), &parts, false)?;
                }
                _ => {
                    let parts = three(&|part| format!("SELECT id, {group} FROM t WHERE {part}"));
                    let union = parts.join(" UNION ALL ");
                    self.same("a union", &format!("SELECT id, {group} FROM t"), &[union], false)?;
                }
            }
            self.as_in_a_select_list(p)?;
        }
        Ok(())
    }

    /// NoREC.
    fn as_in_a_select_list(&mut self, p: &str) -> Result<(), String> {
        let (filtered, shown) =
            (format!("SELECT count(*) FROM t WHERE {p}"), format!("SELECT {p} IS TRUE AS x FROM t"));
        let (Some(count), Some(truths)) = (self.rows(&filtered)?, self.rows(&shown)?) else { return Ok(()) };
        let expected = truths.iter().filter(|row| row[0] == "true").count();
        self.tally.compared += 1;
        if count == [[expected.to_string()]] {
            return Ok(());
        }
        Err(self.report(&format!("{filtered}\nhas {count:?}, but\n{shown}\nis true {expected} times")))
    }

    /// The same queries wherever the rows are.
    fn states(&mut self, queries: &[Query]) -> Result<(), String> {
        let mut first = Vec::new();
        for query in queries {
            let rows = self.rows(&query.sql)?;
            first.push(rows);
        }
        let moved = "UPDATE t SET k = k WHERE id % 3 = 0";
        let states: [(&str, &[&str]); 9] = [
            ("after a checkpoint", &["CHECKPOINT"]),
            ("with rows in memory and deleted ones in segments", &[moved, "UPDATE u SET k = k WHERE k = 1"]),
            ("after a second checkpoint", &["CHECKPOINT"]),
            ("compacted", &["COMPACT"]),
            ("closed and opened", &[]),
            ("with an index", &["CREATE INDEX ON t USING hnsw (v) WITH (metric = 'l2')"]),
            ("with rows that the index does not cover", &[moved]),
            ("dropped and opened", &[]),
            (
                "by four tasks, in small batches",
                &["SET partitions = 4", "SET datafusion.execution.batch_size = 7"],
            ),
        ];
        for (state, statements) in states {
            for statement in statements {
                self.run(statement)?;
            }
            if state.ends_with("opened") {
                self.reopen(state.starts_with("dropped"))?;
            }
            for (query, before) in queries.iter().zip(&first) {
                let (Some(before), Some(now)) = (before, self.rows(&query.sql)?) else { continue };
                self.tally.compared += 1;
                if !is_same(query, before, &now) {
                    let (before, now) = (shown(before), shown(&now));
                    return Err(
                        self.report(&format!("{}\n{state} has {now}\nat first it had {before}", query.sql))
                    );
                }
            }
        }
        self.run("SET partitions = 1")
    }

    fn reopen(&mut self, abandon: bool) -> Result<(), String> {
        self.said.push(format!("-- {} and opened again", if abandon { "dropped" } else { "closed" }));
        let opened = match &mut self.database {
            Some(database) => database.reopen(abandon),
            None => Ok(()),
        };
        opened.map_err(|error| self.report(&format!("it does not open again: {error}")))
    }
}

fn is_same(query: &Query, before: &Rows, now: &Rows) -> bool {
    let (mut before, mut now) = (before.clone(), now.clone());
    if !query.ordered {
        before.sort();
        now.sort();
    }
    if !query.tolerance {
        return before == now;
    }
    let near = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(1.0),
        _ => a == b,
    };
    before.len() == now.len()
        && before.iter().zip(&now).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(near))
}

fn shown(rows: &Rows) -> String {
    format!("{} rows: {:?}", rows.len(), &rows[..rows.len().min(8)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let made = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let relations = relations(&mut random);
            let mut statements = setup(&mut random, &relations);
            statements.extend((0..20).map(|at| query(&mut random, &relations, at).sql));
            statements
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
    }

    #[test]
    fn sums_of_floats_may_differ_in_their_last_digits_only() {
        let query = |tolerance| Query { sql: String::new(), ordered: false, tolerance };
        let rows = |text: &str| vec![vec![text.to_owned()]];
        assert!(is_same(&query(true), &rows("0.30000000000000004"), &rows("0.3")));
        assert!(!is_same(&query(false), &rows("0.30000000000000004"), &rows("0.3")));
        assert!(!is_same(&query(true), &rows("0.31"), &rows("0.3")));
        assert!(!is_same(&query(true), &rows("NULL"), &rows("0.0")));
    }
}
