//! A script, run by the database and by the model side by side.
//!
//! Owns: the comparison after every statement, and making a script that fails short. After a statement, both sessions read
//! the table it is about; after one that is about all of them, all. Does not own: the model, or where the database is.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::model::{Expected, Model, Nearest, Row};
use super::place::{Place, Placed};
use super::schema::{self, Table};
use super::statement::{self, SESSIONS, Statement, Step};
use super::value::{SqlType, Value};
use crate::answer::{Answer, SqlError};

/// Most runs of a script while it is made short.
const SHRINK_RUNS: usize = 250;
/// Relative difference of two distances that are the same: a REAL has 24 bits.
const DISTANCE: f64 = 1e-5;

/// Where a script failed, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Position of the statement.
    pub step: usize,
    /// What was wrong.
    pub what: String,
}

/// The tables and statements of a seed.
#[must_use]
pub fn of_seed(seed: u64, length: usize) -> (Vec<Table>, Vec<Step>) {
    let mut random = StdRng::seed_from_u64(seed);
    let tables = schema::tables(&mut random);
    let steps = statement::script(&mut random, &tables, length);
    (tables, steps)
}

/// Runs a script; a failure is made short and told with all that repeats it.
///
/// # Errors
/// The report.
pub fn check(place: Place, seed: u64, length: usize) -> Result<(), String> {
    let (tables, steps) = of_seed(seed, length);
    let Err(failure) = run(place, &tables, &steps) else { return Ok(()) };
    let (short, failure) = shrink(place, &tables, &steps, failure);
    let mut report = format!(
        "CAIRN_MODEL_SEED={seed}, {place}: {}\n{} of {} statements fail like this:\n",
        failure.what,
        short.len(),
        steps.len()
    );
    for step in &short {
        let _ = writeln!(report, "/* session {} */ {}", step.session, text(&tables, &step.statement));
    }
    Err(report)
}

fn text(tables: &[Table], statement: &Statement) -> String {
    match (statement.sql(tables), statement) {
        (Some(sql), _) => format!("{sql};"),
        (None, Statement::Reopen { abandon: true }) => "-- dropped without closing, and opened again".into(),
        (None, _) => "-- closed, and opened again".into(),
    }
}

/// Runs a script from the beginning, in a database of its own.
///
/// # Errors
/// The first thing that is wrong; a panic is one.
pub fn run(place: Place, tables: &[Table], steps: &[Step]) -> Result<(), Failure> {
    let at = std::cell::Cell::new(0);
    let ran = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        let mut database = Placed::new(place, SESSIONS).map_err(|error| error.to_string())?;
        let mut model = Model::new(tables.to_vec());
        for (number, step) in steps.iter().enumerate() {
            at.set(number);
            run_step(&mut database, &mut model, tables, step)
                .map_err(|what| format!("{}\n{what}", text(tables, &step.statement)))?;
        }
        Ok(())
    }));
    let result = ran.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", said.unwrap_or_default()))
    });
    result.map_err(|what| Failure { step: at.get(), what })
}

fn run_step(database: &mut Placed, model: &mut Model, tables: &[Table], step: &Step) -> Result<(), String> {
    let expected = model.run(step);
    match step.statement.sql(tables) {
        Some(sql) => {
            let answer = database.run(step.session, &sql);
            if let Expected::Commit { must_fail, may_fail } = expected {
                model.ended(step.session, committed(answer, must_fail, may_fail)?);
            } else {
                compare(&expected, answer)?;
            }
        }
        None => {
            let abandon = matches!(step.statement, Statement::Reopen { abandon: true });
            database.reopen(abandon).map_err(|error| format!("it does not open again: {error}"))?;
        }
    }
    let about = match &step.statement {
        Statement::Insert { table, .. }
        | Statement::InsertSelect { table, .. }
        | Statement::Update { table, .. }
        | Statement::Delete { table, .. }
        | Statement::DeleteIn { table, .. }
        | Statement::Truncate { table }
        | Statement::CreateTable { table, .. }
        | Statement::DropTable { table, .. }
        | Statement::CreateIndex { table }
        | Statement::DropIndex { table } => vec![*table],
        Statement::Commit
        | Statement::Rollback
        | Statement::RollbackTo(_)
        | Statement::Checkpoint
        | Statement::Compact(_)
        | Statement::Reopen { .. } => (0..tables.len()).collect(),
        Statement::Begin
        | Statement::Savepoint(_)
        | Statement::Release(_)
        | Statement::CreateView { .. }
        | Statement::DropView { .. }
        | Statement::Read(_) => Vec::new(),
    };
    for table in about {
        for session in 0..SESSIONS {
            compare_table(database, model, tables, session, table)?;
        }
    }
    Ok(())
}

/// Whether COMMIT did.
fn committed(answer: Result<Answer, SqlError>, must_fail: bool, may_fail: bool) -> Result<bool, String> {
    match answer {
        Ok(Answer::Done) if must_fail => {
            Err("it committed, though another session changed the same before".into())
        }
        Ok(Answer::Done) => Ok(true),
        Err(error) if error.sqlstate == "40001" && may_fail => Ok(false),
        Err(error) => Err(format!("COMMIT failed for nothing: {error}")),
        Ok(other) => Err(format!("COMMIT answered {other:?}")),
    }
}

/// The rows of a table as a session sees them.
fn compare_table(
    database: &Placed,
    model: &Model,
    tables: &[Table],
    session: usize,
    table: usize,
) -> Result<(), String> {
    let definition = &tables[table];
    let all = definition.all();
    let sql = format!("SELECT {} FROM {}", definition.select_list(&all), definition.name);
    let expected = match model.rows(session, table) {
        Some(rows) => Expected::Rows {
            types: definition.columns.iter().map(|column| column.sql_type).collect(),
            rows,
            ordered: false,
        },
        None => Expected::Fails(vec!["42"]),
    };
    compare(&expected, database.run(session, &sql))
        .map_err(|what| format!("then session {session} reads {}: {what}", definition.name))
}

fn compare(expected: &Expected, answer: Result<Answer, SqlError>) -> Result<(), String> {
    match (expected, answer) {
        (Expected::Fails(classes), Err(error)) => {
            if classes.iter().any(|class| error.sqlstate.starts_with(class)) {
                Ok(())
            } else {
                Err(format!("it must fail with class {}, and failed with {error}", classes.join(" or ")))
            }
        }
        (Expected::Fails(classes), Ok(answer)) => {
            Err(format!("it must fail with class {}, and answered {answer:?}", classes.join(" or ")))
        }
        (expected, Err(error)) => Err(format!("it failed: {error}; expected: {}", summary(expected))),
        (Expected::Rows { types, rows, ordered }, Ok(Answer::Rows { rows: cells, .. })) => {
            compare_rows(types, rows, *ordered, &cells)
        }
        (Expected::Nearest(nearest), Ok(Answer::Rows { rows: cells, .. })) => {
            compare_nearest(nearest, &cells)
        }
        (Expected::Receipt, Ok(Answer::Rows { .. })) | (Expected::Done, Ok(Answer::Done)) => Ok(()),
        (Expected::Affected(count), Ok(Answer::Affected(found))) if *count == found => Ok(()),
        (expected, Ok(answer)) => Err(format!("it answered {answer:?}; expected: {}", summary(expected))),
    }
}

fn summary(expected: &Expected) -> String {
    match expected {
        Expected::Rows { rows, .. } => format!("{} rows", rows.len()),
        Expected::Nearest(nearest) => format!("{} of {} rows", nearest.k, nearest.candidates.len()),
        other => format!("{other:?}"),
    }
}

fn read_row(types: &[SqlType], cells: &[String]) -> Result<Row, String> {
    if types.len() != cells.len() {
        return Err(format!("{} columns, expected {}: {cells:?}", cells.len(), types.len()));
    }
    types.iter().zip(cells).map(|(sql_type, cell)| sql_type.read(cell)).collect()
}

fn compare_rows(types: &[SqlType], rows: &[Row], ordered: bool, cells: &[Vec<String>]) -> Result<(), String> {
    let mut found: Vec<Row> = cells.iter().map(|row| read_row(types, row)).collect::<Result<_, _>>()?;
    let mut rows = rows.to_vec();
    if !ordered {
        found.sort();
        rows.sort();
    }
    if found == rows {
        return Ok(());
    }
    let shown = |rows: &[Row], others: &[Row]| {
        let mut others = others.to_vec();
        let mut left = Vec::new();
        for row in rows {
            match others.iter().position(|other| other == row) {
                Some(at) => drop(others.remove(at)),
                None => left.push(row.iter().map(Value::literal).collect::<Vec<_>>().join(", ")),
            }
        }
        left.truncate(5);
        left
    };
    let (too_many, missing) = (shown(&found, &rows), shown(&rows, &found));
    if too_many.is_empty() && missing.is_empty() {
        return Err(format!(
            "the {} rows are right, their order is not: {found:?}, not {rows:?}",
            rows.len()
        ));
    }
    Err(format!("{} rows, expected {}; wrong: {too_many:?}; missing: {missing:?}", found.len(), rows.len()))
}

fn is_near(found: f64, distance: f64) -> bool {
    (found - distance).abs() <= DISTANCE * distance.max(1.0)
}

fn compare_nearest(nearest: &Nearest, cells: &[Vec<String>]) -> Result<(), String> {
    let wanted = nearest.k.min(nearest.candidates.len());
    if cells.len() != wanted {
        return Err(format!("{} rows, expected {wanted}", cells.len()));
    }
    let mut left: Vec<(&Row, f64)> =
        nearest.candidates.iter().map(|(row, square)| (row, (*square as f64).sqrt())).collect();
    let mut distances: Vec<f64> = left.iter().map(|(_, distance)| *distance).collect();
    distances.sort_by(f64::total_cmp);
    let mut before = 0.0;
    for (cells, nearest_left) in cells.iter().zip(distances) {
        let (distance, columns) = cells.split_last().ok_or("a row without columns")?;
        let distance: f64 = distance.parse().map_err(|_| format!("{distance} is no distance"))?;
        let row = read_row(&nearest.types, columns)?;
        let at = left.iter().position(|(known, square)| **known == row && is_near(distance, *square));
        let at = at.ok_or_else(|| format!("no row {row:?} has the distance {distance}"))?;
        left.remove(at);
        if distance < before && !is_near(distance, before) {
            return Err(format!("distance {distance} comes behind {before}"));
        }
        before = distance;
        if nearest.exact && !is_near(distance, nearest_left) {
            return Err(format!("distance {distance}, where {nearest_left} is there"));
        }
    }
    Ok(())
}

/// Makes a script that fails shorter.
struct Shrinking<'a> {
    place: Place,
    tables: &'a [Table],
    best: Vec<Step>,
    failure: Failure,
    runs_left: usize,
}

impl Shrinking<'_> {
    /// Takes these statements if they fail, too.
    fn take(&mut self, steps: &[Step]) -> bool {
        if steps.is_empty() || self.runs_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        let Err(failure) = run(self.place, self.tables, steps) else { return false };
        self.best = steps[..=failure.step].to_vec();
        self.failure = failure;
        true
    }

    /// Leaves out `size` statements at a time, wherever it still fails then; whether anything was left out. From the end: what
    /// a statement needs stands before it.
    fn leave_out(&mut self, size: usize) -> bool {
        let mut shortened = false;
        let mut end = self.best.len();
        while end > 0 {
            let start = end.saturating_sub(size);
            let mut fewer = self.best[..start].to_vec();
            fewer.extend_from_slice(&self.best[end..]);
            shortened |= self.take(&fewer);
            end = start.min(self.best.len());
        }
        shortened
    }

    /// Makes one statement smaller; whether that was possible.
    fn reduce(&mut self, at: usize) -> bool {
        let Some(step) = self.best.get(at).cloned() else { return false };
        step.statement.smaller().into_iter().any(|statement| {
            let mut steps = self.best.clone();
            steps[at] = Step { session: step.session, statement };
            self.take(&steps)
        })
    }
}

fn shrink(place: Place, tables: &[Table], steps: &[Step], failure: Failure) -> (Vec<Step>, Failure) {
    let best = steps[..=failure.step].to_vec();
    let mut shrinking = Shrinking { place, tables, best, failure, runs_left: SHRINK_RUNS };
    let mut size = shrinking.best.len() / 2;
    while size > 0 {
        let shortened = shrinking.leave_out(size);
        if !shortened || size > 1 {
            size /= 2;
        }
    }
    for at in 0..shrinking.best.len() {
        while shrinking.reduce(at) {}
    }
    (shrinking.best, shrinking.failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let text = |seed| {
            let (tables, steps) = of_seed(seed, 60);
            steps.iter().map(|step| text(&tables, &step.statement)).collect::<Vec<_>>()
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    /// The model runs whatever is generated, and of its statements enough succeed.
    #[test]
    fn the_model_runs_every_script() {
        let (mut done, mut failed) = (0, 0);
        for seed in 0..40 {
            let (tables, steps) = of_seed(seed, 200);
            let mut model = Model::new(tables);
            for step in &steps {
                match model.run(step) {
                    Expected::Commit { must_fail, .. } => model.ended(step.session, !must_fail),
                    Expected::Fails(_) => failed += 1,
                    _ => done += 1,
                }
            }
        }
        assert!(done > 2 * failed, "{done} statements succeed, {failed} fail");
    }

    #[test]
    fn wrong_answers_are_seen() {
        let rows = vec![vec![Value::Integer(1)], vec![Value::Integer(2)]];
        let cells = |numbers: &[&str]| numbers.iter().map(|n| vec![(*n).to_owned()]).collect::<Vec<_>>();
        let types = [SqlType::BigInt];
        assert!(compare_rows(&types, &rows, false, &cells(&["2", "1"])).is_ok());
        assert!(compare_rows(&types, &rows, true, &cells(&["2", "1"])).is_err());
        assert!(compare_rows(&types, &rows, false, &cells(&["2", "2"])).is_err());
        assert!(compare_rows(&types, &rows, false, &cells(&["2"])).is_err());
        let nearest =
            Nearest { types: types.to_vec(), candidates: vec![(rows[0].clone(), 4)], k: 3, exact: true };
        let cells = |distance: &str| vec![vec!["1".to_owned(), distance.to_owned()]];
        assert!(compare_nearest(&nearest, &cells("2.0")).is_ok());
        assert!(compare_nearest(&nearest, &cells("2.1")).is_err());
    }
}
