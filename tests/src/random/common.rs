//! Queries that Cairn and DuckDB understand in the same way.
//!
//! Owns: random tables, queries of the dialect that both have, what of it is left aside and why ([`DIFFERENCES`]), and when two cells
//! say the same. Does not own: asking either of them (`tests/random/duck.rs`).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{one_of, weighted};
use crate::answer::Kind;

/// Something that the two do not mean in the same way, or that has no one answer.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// What no generated query contains, in lower case.
    pub fragment: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// What is left aside.
pub const DIFFERENCES: [Difference; 14] = [
    Difference {
        fragment: " / ",
        reason: "of integers it is an integer here, as in PostgreSQL, and a DOUBLE in DuckDB",
    },
    Difference { fragment: "% 0", reason: "a remainder by 0 is an error here and NULL in DuckDB" },
    Difference { fragment: "sign(", reason: "a DOUBLE here, a TINYINT in DuckDB" },
    Difference { fragment: "avg(d)", reason: "of a DECIMAL it is a DECIMAL here, a DOUBLE in DuckDB" },
    Difference { fragment: "round(", reason: "halves of DOUBLEs that have no exact form may go either way" },
    Difference {
        fragment: "cast(x as",
        reason: "a DOUBLE has other digits as TEXT, and is cut off or rounded as an integer",
    },
    Difference {
        fragment: "cast(moment as",
        reason: "a TIMESTAMP as TEXT has a T here, and a space in DuckDB",
    },
    Difference { fragment: "greatest(", reason: "whether NULL counts is a matter of taste" },
    Difference { fragment: "least(", reason: "whether NULL counts is a matter of taste" },
    Difference { fragment: "substr(s, 0", reason: "places before the first count differently" },
    Difference {
        fragment: "ceil(",
        reason: "of -0.5 it is minus zero, which DISTINCT and GROUP BY may tell from zero",
    },
    Difference { fragment: "ascii(", reason: "of an empty text" },
    Difference { fragment: "first(", reason: "of rows in no order" },
    Difference {
        fragment: "order by s limit",
        reason: "rows that are equal by it may be cut off either way; the key comes last",
    },
];

/// A query.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its text, for both.
    pub sql: String,
    /// Whether the order of rows counts.
    pub ordered: bool,
}

/// Tables and queries of a seed.
#[derive(Clone, Debug)]
pub struct Case {
    /// Makes and fills the tables, in both.
    pub setup: Vec<String>,
    /// What both are asked.
    pub questions: Vec<Question>,
}

/// Relative difference of two floats that are the same: the order of a sum is nobody's promise.
const TOLERANCE: f64 = 1e-9;

/// Forms of a query.
#[derive(Clone, Copy, Debug)]
enum Form {
    Rows,
    Groups,
    Whole,
    Join,
    Window,
    Set,
    Ordered,
    Subquery,
    GroupingSets,
    With,
}

/// How often each form is asked. 0 switches one off.
const FORMS: [(u32, Form); 10] = [
    (20, Form::Rows),
    (14, Form::Groups),
    (8, Form::Whole),
    (14, Form::Join),
    (10, Form::Window),
    (7, Form::Set),
    (8, Form::Ordered),
    (8, Form::Subquery),
    (4, Form::GroupingSets),
    (5, Form::With),
];

const TEXTS: [&str; 9] =
    ["''", "'a'", "'b'", "'ab'", "'Ab'", "' a '", "'äb'", "'it''s'", "'a longer text than twelve'"];
const DATES: [&str; 5] =
    ["DATE '1969-12-31'", "DATE '1970-01-01'", "DATE '2023-12-31'", "DATE '2024-02-29'", "DATE '2024-03-01'"];
const MOMENTS: [&str; 4] = [
    "TIMESTAMP '1969-12-31 23:59:59'",
    "TIMESTAMP '2024-02-29 12:34:56'",
    "TIMESTAMP '2024-02-29 12:34:56.789'",
    "TIMESTAMP '2024-03-01 00:00:00'",
];

/// The case of a seed.
#[must_use]
pub fn of_seed(seed: u64, questions: usize) -> Case {
    let mut random = StdRng::seed_from_u64(seed);
    let setup = setup(&mut random);
    let questions = (0..questions).map(|_| Writer { random: &mut random, prefix: "" }.question()).collect();
    Case { setup, questions }
}

fn setup(random: &mut StdRng) -> Vec<String> {
    let mut statements = vec![
        "CREATE TABLE a (id BIGINT PRIMARY KEY, n BIGINT, m INTEGER, x DOUBLE, d DECIMAL(10,2), s TEXT, born DATE, moment TIMESTAMP, \
         ok BOOLEAN)"
            .to_owned(),
        "CREATE TABLE b (id BIGINT, n BIGINT, s TEXT, born DATE)".to_owned(),
    ];
    let mut rows = Vec::new();
    for id in 0..60 {
        let cells = [
            integer(random, -5, 15),
            integer(random, -100, 1000),
            // Eighths: exact in binary, and few enough to meet.
            format!("{:?}e0", f64::from(random.random_range(-40..80)) / 8.0),
            format!("{}.{:02}", random.random_range(-50..900), random.random_range(0..100)),
            (*one_of(random, &TEXTS)).to_owned(),
            (*one_of(random, &DATES)).to_owned(),
            (*one_of(random, &MOMENTS)).to_owned(),
            random.random_bool(0.5).to_string(),
        ];
        let cells = cells.map(|cell| if random.random_bool(0.15) { "NULL".to_owned() } else { cell });
        rows.push(format!("({id}, {})", cells.join(", ")));
    }
    statements.extend(rows.chunks(15).map(|rows| format!("INSERT INTO a VALUES {}", rows.join(", "))));
    let mut rows = Vec::new();
    for id in 0..25 {
        let cells = [
            integer(random, -5, 15),
            (*one_of(random, &TEXTS)).to_owned(),
            (*one_of(random, &DATES)).to_owned(),
        ];
        let cells = cells.map(|cell| if random.random_bool(0.15) { "NULL".to_owned() } else { cell });
        rows.push(format!("({id}, {})", cells.join(", ")));
    }
    statements.push(format!("INSERT INTO b VALUES {}", rows.join(", ")));
    statements.push("DELETE FROM a WHERE id % 11 = 4".to_owned());
    statements.push("UPDATE a SET n = n + 1, s = 'changed' WHERE id % 13 = 5".to_owned());
    statements
}

fn integer(random: &mut StdRng, low: i32, high: i32) -> String {
    random.random_range(low..high).to_string()
}

/// Writes expressions over table `a`, whose columns have `prefix` before them.
struct Writer<'a> {
    random: &'a mut StdRng,
    prefix: &'static str,
}

impl Writer<'_> {
    fn pick(&mut self, below: u32) -> u32 {
        self.random.random_range(0..below)
    }

    fn constant(&mut self) -> String {
        let number = self.random.random_range(-5..15);
        if number < 0 { format!("({number})") } else { number.to_string() }
    }

    fn integer(&mut self, depth: u32) -> String {
        let p = self.prefix;
        let below = if depth == 0 { 4 } else { 22 };
        let inner = depth.saturating_sub(1);
        match self.pick(below) {
            0 | 1 => format!("{p}n"),
            2 => format!("{p}m"),
            3 => self.constant(),
            4 => format!("({} + {})", self.integer(inner), self.integer(inner)),
            5 => format!("({} - {})", self.integer(inner), self.integer(inner)),
            6 => format!("({} * 3)", self.integer(inner)),
            7 => format!("({} % {})", self.integer(inner), self.random.random_range(2..9)),
            8 => format!("length({})", self.text(inner)),
            9 => format!("abs({})", self.integer(inner)),
            10 => {
                let condition = self.condition(inner);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", self.integer(inner), self.integer(inner))
            }
            11 => format!("coalesce({}, {})", self.integer(inner), self.integer(inner)),
            12 => format!("nullif({}, {})", self.integer(inner), self.constant()),
            13 => format!("CAST({p}ok AS INTEGER)"),
            14 => format!("date_diff('day', {}, {})", self.date(inner), self.date(inner)),
            15 => format!("strpos({}, 'b')", self.text(inner)),
            16 => format!("date_diff('month', {p}born, {})", self.date(inner)),
            17 => format!("{}({p}moment)", one_of(self.random, &["hour", "minute", "second"])),
            _ => {
                let part = *one_of(
                    self.random,
                    &["year", "month", "day", "quarter", "week", "dayofyear", "isodow", "dayofweek"],
                );
                format!("{part}({})", self.date(inner))
            }
        }
    }

    fn float(&mut self, depth: u32) -> String {
        let p = self.prefix;
        let below = if depth == 0 { 3 } else { 10 };
        let inner = depth.saturating_sub(1);
        match self.pick(below) {
            0 | 1 => format!("{p}x"),
            2 => "2.5e0".into(),
            3 => format!("({} + {})", self.float(inner), self.float(inner)),
            4 => format!("({} - {})", self.float(inner), self.float(inner)),
            5 => format!("({} * 0.5e0)", self.float(inner)),
            6 => format!("abs({})", self.float(inner)),
            7 => format!("floor({})", self.float(inner)),
            9 => format!("sqrt(abs({}))", self.float(inner)),
            _ => format!("CAST({} AS DOUBLE)", self.integer(inner)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        let p = self.prefix;
        let below = if depth == 0 { 3 } else { 19 };
        let inner = depth.saturating_sub(1);
        let count = self.random.random_range(1..4);
        match self.pick(below) {
            0 | 1 => format!("{p}s"),
            2 => (*one_of(self.random, &TEXTS)).to_owned(),
            3 => format!("upper({})", self.text(inner)),
            4 => format!("lower({})", self.text(inner)),
            5 => format!("({} || {})", self.text(inner), self.text(inner)),
            6 => format!("substr({}, {count}, 2)", self.text(inner)),
            7 => format!("left({}, {count})", self.text(inner)),
            8 => format!("right({}, {count})", self.text(inner)),
            9 => format!("trim({})", self.text(inner)),
            10 => format!("replace({}, 'a', 'xy')", self.text(inner)),
            11 => format!("repeat({}, {count})", self.text(inner)),
            12 => format!("lpad({}, 5, '*')", self.text(inner)),
            13 => format!("CAST({p}n AS TEXT)"),
            14 => {
                let condition = self.condition(inner);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", self.text(inner), self.text(inner))
            }
            15 => format!("coalesce({}, {})", self.text(inner), self.text(inner)),
            16 => format!("dayname({})", self.date(inner)),
            17 => format!("monthname({})", self.date(inner)),
            _ => format!("strftime({}, '%d.%m.%Y')", self.date(inner)),
        }
    }

    fn date(&mut self, depth: u32) -> String {
        let p = self.prefix;
        let below = if depth == 0 { 3 } else { 7 };
        match self.pick(below) {
            0 | 1 => format!("{p}born"),
            2 => (*one_of(self.random, &DATES)).to_owned(),
            3 => format!("last_day({p}born)"),
            4 => format!("CAST(date_trunc('month', {p}born) AS DATE)"),
            5 => format!("CAST({p}born + INTERVAL '1 month' AS DATE)"),
            _ => format!("coalesce({p}born, {})", one_of(self.random, &DATES)),
        }
    }

    /// An expression of any type.
    fn expression(&mut self, depth: u32) -> String {
        let p = self.prefix;
        match self.pick(9) {
            0..=2 => self.integer(depth),
            3 => self.float(depth),
            4 | 5 => self.text(depth),
            6 => self.date(depth),
            7 => format!("{p}{}", one_of(self.random, &["d", "moment", "ok"])),
            _ => self.condition(depth),
        }
    }

    fn condition(&mut self, depth: u32) -> String {
        let p = self.prefix;
        let not = if self.random.random_bool(0.3) { "NOT " } else { "" };
        let sign = *one_of(self.random, &["=", "<>", "<", "<=", ">", ">="]);
        let inner = depth.saturating_sub(1);
        let below = if depth == 0 { 11 } else { 15 };
        match self.pick(below) {
            0 | 1 => format!("({} {sign} {})", self.integer(inner), self.integer(0)),
            2 => format!("({} {sign} {})", self.text(inner), self.text(0)),
            3 => format!("({} {sign} {})", self.date(inner), self.date(0)),
            4 => format!("({} {sign} {})", self.float(inner), self.float(0)),
            5 => format!("({p}d {sign} CAST('12.50' AS DECIMAL(10,2)))"),
            6 => format!("({p}moment {sign} {})", one_of(self.random, &MOMENTS)),
            7 => {
                format!(
                    "({p}{} IS {not}NULL)",
                    one_of(self.random, &["n", "x", "d", "s", "born", "moment", "ok"])
                )
            }
            8 => {
                let null = if self.random.random_bool(0.2) { ", NULL" } else { "" };
                format!("({} {not}IN ({}, {}{null}))", self.integer(inner), self.constant(), self.constant())
            }
            9 => format!(
                "({} {not}LIKE '{}')",
                self.text(inner),
                one_of(self.random, &["a%", "%b%", "_", "%"])
            ),
            10 => format!("{p}ok"),
            11 => format!("({} AND {})", self.condition(inner), self.condition(inner)),
            12 => format!("({} OR {})", self.condition(inner), self.condition(inner)),
            13 => format!("(NOT {})", self.condition(inner)),
            _ => format!("({} IS {not}DISTINCT FROM {})", self.integer(inner), self.integer(0)),
        }
    }

    fn aggregate(&mut self) -> String {
        let filter = match self.pick(5) {
            0 => format!(" FILTER (WHERE {})", self.condition(1)),
            _ => String::new(),
        };
        let call = match self.pick(12) {
            0 => "count(*)".into(),
            1 => format!("count({})", self.text(1)),
            2 => format!("count(DISTINCT {})", self.integer(1)),
            3 => format!("sum({})", self.integer(1)),
            4 => format!("sum({})", self.float(1)),
            5 => format!("sum({}d)", self.prefix),
            6 => format!("avg({})", self.float(1)),
            7 => format!("min({})", self.text(1)),
            8 => format!("max({})", self.date(1)),
            9 => format!("min({})", self.integer(1)),
            10 => format!("bool_and({})", self.condition(1)),
            _ => format!("stddev({})", self.float(1)),
        };
        format!("{call}{filter}")
    }

    /// A select list, whose names are distinct.
    fn list(&mut self, count: u32, mut one: impl FnMut(&mut Self) -> String) -> String {
        let named: Vec<String> = (0..count).map(|at| format!("{} AS o{at}", one(&mut *self))).collect();
        named.join(", ")
    }

    fn filter(&mut self) -> String {
        if self.random.random_bool(0.7) { format!(" WHERE {}", self.condition(2)) } else { String::new() }
    }

    fn with_prefix(&mut self, prefix: &'static str) -> Writer<'_> {
        Writer { random: &mut *self.random, prefix }
    }

    fn question(&mut self) -> Question {
        let mut ordered = false;
        let count = 1 + self.pick(3);
        let sql = match weighted(self.random, &FORMS) {
            Form::Rows => {
                let distinct = if self.random.random_bool(0.2) { "DISTINCT " } else { "" };
                format!("SELECT {distinct}{} FROM a{}", self.list(count, |w| w.expression(2)), self.filter())
            }
            Form::Groups => {
                let key = if self.random.random_bool(0.6) { self.integer(1) } else { self.text(1) };
                let aggregates = self.list(count, Self::aggregate);
                let having = if self.random.random_bool(0.3) { " HAVING count(*) > 1" } else { "" };
                // A bare number in GROUP BY is the position of a column.
                let key = format!("coalesce({key}, NULL)");
                format!("SELECT {key} AS g, {aggregates} FROM a{} GROUP BY {key}{having}", self.filter())
            }
            Form::Whole => format!("SELECT {} FROM a{}", self.list(count, Self::aggregate), self.filter()),
            Form::Join => {
                let kind = *one_of(self.random, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let on = *one_of(self.random, &["a.n = b.n", "a.s = b.s", "a.n = b.n AND a.born < b.born"]);
                let on = if kind == "JOIN" || kind == "LEFT JOIN" { on } else { "a.n = b.n" };
                let mut writer = self.with_prefix("a.");
                let (output, filter) = (writer.list(count, |w| w.expression(1)), writer.filter());
                format!("SELECT a.id AS left_id, b.id AS right_id, {output} FROM a {kind} b ON {on}{filter}")
            }
            Form::Window => {
                let function = match self.pick(8) {
                    0 => "row_number()".into(),
                    1 => format!("lag({}, 2)", self.integer(1)),
                    2 => format!("lead({})", self.text(1)),
                    3 => format!("sum({})", self.integer(1)),
                    4 => "count(*)".into(),
                    5 => format!("min({})", self.date(1)),
                    6 => format!("first_value({})", self.text(1)),
                    _ => format!("max({})", self.integer(1)),
                };
                let partition =
                    *one_of(self.random, &["", "PARTITION BY s ", "PARTITION BY n % 3 ", "PARTITION BY ok "]);
                let direction = *one_of(self.random, &["", " DESC"]);
                let has_frame = !function.starts_with("row") && !function.starts_with('l');
                let frame = if has_frame {
                    *one_of(
                        self.random,
                        &[
                            "",
                            " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
                            " ROWS BETWEEN 1 PRECEDING AND 3 FOLLOWING",
                        ],
                    )
                } else {
                    ""
                };
                let ranks = format!("rank() OVER ({partition}ORDER BY born NULLS LAST) AS r");
                format!(
                    "SELECT id, {function} OVER ({partition}ORDER BY id{direction}{frame}) AS w, {ranks} FROM a{}",
                    self.filter()
                )
            }
            Form::Set => {
                let word = *one_of(self.random, &["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]);
                format!(
                    "SELECT n, s FROM a{} {word} SELECT n, s FROM b WHERE id > {}",
                    self.filter(),
                    self.pick(10)
                )
            }
            Form::Ordered => {
                ordered = true;
                let (direction, nulls) =
                    (*one_of(self.random, &["ASC", "DESC"]), *one_of(self.random, &["FIRST", "LAST"]));
                let (limit, offset) = (self.pick(20), self.pick(5));
                let key = if self.random.random_bool(0.5) { self.integer(1) } else { self.text(1) };
                format!(
                    "SELECT id, {key} AS g FROM a{} ORDER BY 2 {direction} NULLS {nulls}, id LIMIT {limit} OFFSET {offset}",
                    self.filter()
                )
            }
            Form::Subquery => {
                let filter = *one_of(
                    self.random,
                    &[
                        "n IN (SELECT n FROM b WHERE id > 5)",
                        "n NOT IN (SELECT n FROM b WHERE n IS NOT NULL AND id > 15)",
                        "n NOT IN (SELECT n FROM b WHERE id > 20)",
                        "EXISTS (SELECT 1 FROM b WHERE b.n = a.n AND b.id > 3)",
                        "NOT EXISTS (SELECT 1 FROM b WHERE b.s = a.s)",
                        "n > (SELECT avg(n) FROM b)",
                        "m > (SELECT max(b.n) FROM b WHERE b.n = a.n)",
                    ],
                );
                format!("SELECT id, {} FROM a WHERE {filter}", self.list(count, |w| w.expression(1)))
            }
            Form::GroupingSets => {
                let sets = *one_of(
                    self.random,
                    &["ROLLUP (ok, s)", "CUBE (ok, s)", "GROUPING SETS ((ok), (s), ())"],
                );
                format!("SELECT ok, s, {} FROM a GROUP BY {sets}", self.list(count, Self::aggregate))
            }
            Form::With => {
                let (output, filter) = (self.expression(1), self.filter());
                format!(
                    "WITH part AS (SELECT id, n, {output} AS value FROM a{filter}) SELECT p.id, p.value, q.value AS other FROM part p \
                     JOIN part q ON p.id = q.id + 1"
                )
            }
        };
        Question { sql, ordered }
    }
}

/// Whether two answers are the same: of Cairn with the kinds of its columns, and of DuckDB.
///
/// # Errors
/// What differs.
pub fn compare(
    kinds: &[Kind],
    ours: &[Vec<String>],
    theirs: &[Vec<String>],
    ordered: bool,
) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} rows, {} in DuckDB", ours.len(), theirs.len()));
    }
    let canonical = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
        let row = |row: &Vec<String>| -> Vec<String> {
            row.iter().zip(kinds).map(|(cell, kind)| plain(cell, *kind)).collect()
        };
        rows.iter().map(row).collect()
    };
    let (mut ours, mut theirs) = (canonical(ours), canonical(theirs));
    if !ordered {
        ours.sort();
        theirs.sort();
    }
    for (a, b) in ours.iter().zip(&theirs) {
        if a.len() != b.len() || !a.iter().zip(b).zip(kinds).all(|((a, b), kind)| is_same(a, b, *kind)) {
            return Err(format!("{a:?}, in DuckDB {b:?}"));
        }
    }
    Ok(())
}

/// A form that sorts alike whoever wrote it: floats with the digits both are sure of.
fn plain(cell: &str, kind: Kind) -> String {
    match (kind, cell.parse::<f64>()) {
        (Kind::Real, Ok(number)) if number.is_finite() => {
            // Minus zero is zero.
            let rounded = format!("{:.6e}", number + 0.0);
            if number == 0.0 { "0".into() } else { rounded }
        }
        (Kind::Timestamp, _) => {
            let text = cell.replace('T', " ");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            }
        }
        _ => cell.to_owned(),
    }
}

fn is_same(a: &str, b: &str, kind: Kind) -> bool {
    if a == b {
        return true;
    }
    match (kind, a.parse::<f64>(), b.parse::<f64>()) {
        // The last digit that is written may be rounded either way.
        (Kind::Real, Ok(a), Ok(b)) => (a - b).abs() <= TOLERANCE.max(2e-6 * a.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_left_aside() {
        for seed in 0..20 {
            for question in of_seed(seed, 60).questions {
                let sql = question.sql.to_lowercase();
                for difference in DIFFERENCES {
                    let fragment = difference.fragment;
                    assert!(!sql.contains(fragment), "{sql}\nhas {fragment}: {}", difference.reason);
                }
            }
        }
    }

    #[test]
    fn cells_are_compared_by_what_they_say() {
        let row = |cell: &str| vec![vec![cell.to_owned()]];
        let same = |kind, a, b| compare(&[kind], &row(a), &row(b), false).is_ok();
        assert!(same(Kind::Real, "0.30000000000000004", "0.3"));
        assert!(same(Kind::Real, "-0.0", "0.0"));
        assert!(same(Kind::Timestamp, "2024-01-01T00:00:00.500", "2024-01-01 00:00:00.5"));
        assert!(!same(Kind::Real, "0.31", "0.3"));
        assert!(!same(Kind::Text, "1.0", "1"));
        assert!(!same(Kind::Integer, "NULL", "0"));
    }
}
