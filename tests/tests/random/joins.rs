//! Joins have the same rows in the order that the planner chooses and in the written one, and with aggregates over the keys that are looked
//! for as over all of them.

use std::sync::Mutex;

use cairn_engine::{OpenOptions, Root};
use cairn_tests::Connection;
use cairn_tests::loss::in_parallel;
use cairn_tests::random::seeds;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Queries of a seed.
const QUERIES: usize = 30;
/// Tables with their rows.
const TABLES: [(&str, usize); 5] = [("tiny", 3), ("small", 6), ("middle", 12), ("large", 20), ("huge", 40)];
/// Rows of the table that only aggregates read: enough for looking for some of its keys to be cheaper than computing all.
const MANY: usize = 4000;
const COLUMNS: [&str; 3] = ["x", "y", "z"];

#[test]
fn the_order_of_joins_changes_no_answer() {
    let seeds = seeds("CAIRN_JOINS_SEED", "CAIRN_JOINS_SEEDS", 3);
    let tally = Mutex::new((0_usize, 0_usize, 0_usize));
    // Side by side: the longest of these tests, and the others would be done long before it.
    let failures = in_parallel(&seeds, |seed| {
        let (other, fewer) = check(*seed)?;
        let mut tally = tally.lock().unwrap();
        tally.0 += QUERIES;
        tally.1 += other;
        tally.2 += fewer;
        Ok(())
    });
    let (asked, moved, narrowed) = tally.into_inner().unwrap();
    println!(
        "{asked} queries, {moved} of them in another order than the written one, {narrowed} with fewer groups"
    );
    super::report("joins in another order", &seeds, &failures);
    assert!(moved * 4 > asked, "most joins stay as they were written: little was tested");
    assert!(narrowed > 0, "every aggregate is over all keys: nothing was tested");
}

/// How many queries ran in another order, and how many with an aggregate over some keys only.
fn check(seed: u64) -> Result<(usize, usize), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let db = Connection::open(Root::Memory, OpenOptions::default()).unwrap();
    let mut script = Vec::new();
    for (name, rows) in TABLES {
        let key = if rng.random_bool(0.5) { " PRIMARY KEY" } else { "" };
        script.push(format!("CREATE TABLE {name} (id BIGINT{key}, x INTEGER, y INTEGER, z INTEGER, w TEXT)"));
        let rows: Vec<String> = (0..rows).map(|id| row(id, &mut rng)).collect();
        script.push(format!("INSERT INTO {name} VALUES {}", rows.join(", ")));
    }
    script.push("CREATE TABLE many (id BIGINT, x INTEGER, y INTEGER, z INTEGER, w TEXT)".to_owned());
    script.push(format!(
        "INSERT INTO many SELECT i, CASE WHEN i % 9 > 0 THEN i % 4 END, i % 12, CASE WHEN i % 7 > 0 THEN i % 400 END, 'w' || (i % 9) \
         FROM generate_series(1, {MANY}) g(i)"
    ));
    // Only segments tell how many distinct values there are.
    script.push("CHECKPOINT".to_owned());
    script.push(format!("DELETE FROM huge WHERE id % 5 = {}", rng.random_range(0..5)));
    script.push("INSERT INTO middle SELECT id + 1000, y, x, z, w FROM small".to_owned());
    for statement in &script {
        db.run(statement).map_err(|error| format!("CAIRN_JOINS_SEED={seed}: {statement}: {error}"))?;
    }
    let (mut moved, mut narrowed) = (0, 0);
    for _ in 0..QUERIES {
        let query = query(&mut rng);
        let ask = |sql: &str| {
            db.run(sql)
                .map_err(|error| format!("CAIRN_JOINS_SEED={seed}: {sql}\n{error}\n{};", script.join(";\n")))
        };
        let mut answers = Vec::new();
        for reordering in ["false", "true"] {
            db.exec(&format!("SET datafusion.optimizer.join_reordering = {reordering}"));
            answers.push((ask(&query)?.rows(), ask(&format!("EXPLAIN FORMAT indent {query}"))?.rows()));
        }
        let (written, chosen) = (&answers[0], &answers[1]);
        if written.0 != chosen.0 {
            return Err(format!(
                "CAIRN_JOINS_SEED={seed}: {query}\nas written: {:?}\nreordered:  {:?}\nafter:\n{};",
                written.0,
                chosen.0,
                script.join(";\n")
            ));
        }
        moved += usize::from(tables(&written.1) != tables(&chosen.1));
        narrowed += usize::from(chosen.1.iter().flatten().any(|cell| cell.contains("__keys")));
    }
    Ok((moved, narrowed))
}

/// The tables of a plan, in its order.
fn tables(plan: &[Vec<String>]) -> Vec<String> {
    let lines = plan.iter().flatten().flat_map(|cell| cell.lines());
    lines.filter(|line| line.contains("Scan")).map(|line| line.trim().to_owned()).collect()
}

fn row(id: usize, rng: &mut StdRng) -> String {
    let mut number = |most: i32| match rng.random_bool(0.1) {
        true => "NULL".to_owned(),
        false => rng.random_range(0..most).to_string(),
    };
    let (x, y, z) = (number(4), number(12), number(40));
    format!("({id}, {x}, {y}, {z}, 'w{}')", rng.random_range(0..9))
}

/// A query whose one row depends on every row it joins.
fn query(rng: &mut StdRng) -> String {
    let count = rng.random_range(2..=5);
    let mut relations: Vec<(String, String)> = Vec::new();
    let mut conditions = Vec::new();
    for i in 0..count {
        let alias = format!("r{i}");
        let table = TABLES.choose(rng).unwrap().0;
        let relation = match rng.random_range(0..8) {
            0 => format!(
                "(SELECT x, max(y) AS y, count(z) AS z, min(id) AS id, min(w) AS w FROM {table} GROUP BY x)"
            ),
            1 => format!("(SELECT * FROM {table} WHERE z > {})", rng.random_range(0..30)),
            _ => table.to_owned(),
        };
        if i > 0 {
            let other = format!("r{}", rng.random_range(0..i));
            conditions.push(equality(&alias, &other, rng));
            if rng.random_bool(0.25) {
                let other = format!("r{}", rng.random_range(0..i));
                let extra = match rng.random_bool(0.5) {
                    true => equality(&alias, &other, rng),
                    false => format!("{} < {}", of(&alias, rng), of(&other, rng)),
                };
                conditions.push(extra);
            }
        }
        relations.push((relation, alias));
    }
    let any = |rng: &mut StdRng| relations.choose(rng).unwrap().1.clone();
    for _ in 0..rng.random_range(0..3) {
        let alias = any(rng);
        conditions.push(own(&alias, rng));
    }
    for _ in 0..rng.random_range(0..3) {
        let (alias, other) = (any(rng), any(rng));
        conditions.push(subquery(&alias, &other, rng));
    }
    let sum: Vec<String> =
        relations.iter().enumerate().map(|(i, (_, alias))| format!("{alias}.id * {}", 7 * i + 1)).collect();
    let from: Vec<String> = relations.iter().map(|(relation, alias)| format!("{relation} {alias}")).collect();
    let texts: Vec<String> = relations.iter().map(|(_, alias)| format!("max({alias}.w)")).collect();
    format!(
        "SELECT count(*), sum({}), {} FROM {} WHERE {}",
        sum.join(" + "),
        texts.join(", "),
        from.join(", "),
        conditions.join(" AND ")
    )
}

fn of(alias: &str, rng: &mut StdRng) -> String {
    format!("{alias}.{}", COLUMNS.choose(rng).unwrap())
}

fn equality(a: &str, b: &str, rng: &mut StdRng) -> String {
    match rng.random_range(0..6) {
        0 => format!("{a}.y = {b}.y AND {a}.x = {b}.x"),
        1 => format!("{} + 1 = {}", of(a, rng), of(b, rng)),
        2 => format!("{a}.id = {}", of(b, rng)),
        3 => format!("{a}.w = {b}.w AND {a}.z = {b}.y"),
        _ => format!("{} = {}", of(a, rng), of(b, rng)),
    }
}

fn own(alias: &str, rng: &mut StdRng) -> String {
    let column = of(alias, rng);
    let value = rng.random_range(0..12);
    match rng.random_range(0..6) {
        0 => format!("{column} = {value}"),
        1 => format!("{column} BETWEEN {value} AND {}", value + 5),
        2 => format!("{column} IN ({value}, 1, 2)"),
        3 => format!("({column} IS NULL OR {column} > {value})"),
        4 => format!("{alias}.w LIKE 'w{}%'", value % 9),
        _ => format!("{column} <> {value}"),
    }
}

fn subquery(a: &str, b: &str, rng: &mut StdRng) -> String {
    let table = TABLES.choose(rng).unwrap().0;
    let not = if rng.random_bool(0.4) { "NOT " } else { "" };
    let (left, inner) = (of(a, rng), COLUMNS.choose(rng).unwrap());
    match rng.random_range(0..9) {
        0 => format!("{not}EXISTS (SELECT 1 FROM {table} s WHERE s.{inner} = {left})"),
        1 => format!("{not}EXISTS (SELECT 1 FROM {table} s WHERE s.{inner} = {left} AND s.id <> {b}.id)"),
        2 => format!("{left} {not}IN (SELECT {inner} FROM {table} WHERE {inner} IS NOT NULL AND z > 5)"),
        3 => format!("{left} {not}IN (SELECT {inner} FROM {table})"),
        4 => format!("{left} <= (SELECT avg(s.{inner}) FROM many s WHERE s.z = {a}.z)"),
        5 => format!("{left} < (SELECT count(*) FROM many s WHERE s.z = {a}.z AND s.y = {b}.y)"),
        6 => format!("{left} {not}IN (SELECT s.z FROM many s GROUP BY s.z HAVING max(s.id) > 3700)"),
        7 => format!(
            "{not}EXISTS (SELECT 1 FROM (SELECT z, min({inner}) AS m FROM many GROUP BY z) s WHERE s.z = {left} AND s.m <= {b}.y)"
        ),
        _ => format!("{left} <= (SELECT avg(s.{inner}) FROM {table} s WHERE s.x = {a}.x)"),
    }
}
