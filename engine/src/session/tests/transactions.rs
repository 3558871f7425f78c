//! Transactions of several sessions on one database: what each sees, and who wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{answer, run, session};
use crate::Session;

#[tokio::test]
async fn the_first_to_commit_wins() {
    let a = session().await;
    let b = a.engine().session();
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE").await;
    run(&a, "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)", "INSERT 3").await;

    // The same row.
    run(&a, "BEGIN", "BEGIN").await;
    run(&b, "BEGIN", "BEGIN").await;
    run(&a, "UPDATE t SET n = n + 1 WHERE id = 1", "UPDATE 1").await;
    run(&b, "UPDATE t SET n = n + 5 WHERE id = 1", "UPDATE 1").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT n FROM t WHERE id = 1", "15").await;
    let lost = answer(&b, "COMMIT").await;
    assert!(lost.starts_with("40001 another session changed the same rows of public.t"), "{lost}");
    assert!(lost.ends_with("[the transaction was rolled back; run it again]"), "{lost}");
    run(&b, "SELECT n FROM t WHERE id = 1", "11").await;
    let ended = answer(&b, "COMMIT").await;
    assert!(ended.starts_with("25P01"), "{ended}");

    // The same new key.
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "INSERT INTO t VALUES (4, 40)", "INSERT 1").await;
    run(&b, "INSERT INTO t VALUES (4, 44)", "INSERT 1").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session wrote the same key of public.t"), "{lost}");

    // Other rows and keys: both commit, and neither sees the other before.
    run(&a, "BEGIN", "BEGIN").await;
    run(&b, "BEGIN", "BEGIN").await;
    run(&a, "UPDATE t SET n = 0 WHERE id = 2", "UPDATE 1").await;
    run(&a, "INSERT INTO t VALUES (5, 50)", "INSERT 1").await;
    run(&b, "DELETE FROM t WHERE id = 3", "DELETE 1").await;
    run(&b, "INSERT INTO t VALUES (6, 60)", "INSERT 1").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT count(*), sum(n) FROM t", "4,135").await;
    run(&b, "COMMIT", "COMMIT").await;
    run(&b, "SELECT count(*), sum(n) FROM t", "5,165").await;

    // A definition.
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "CREATE TABLE u (x INT)", "CREATE TABLE").await;
    run(&b, "CREATE TABLE u (y INT)", "CREATE TABLE").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session changed the catalog"), "{lost}");
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "INSERT INTO u VALUES (1)", "INSERT 1").await;
    run(&b, "DROP TABLE u", "DROP TABLE").await;
    run(&a, "SELECT * FROM u", "1").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session changed the definition of public.u"), "{lost}");
}

/// What a transaction has read of a table is what it may throw away.
#[tokio::test]
async fn rows_nobody_has_read_are_not_thrown_away() {
    let a = session().await;
    let b = a.engine().session();
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE").await;
    run(&a, "INSERT INTO t VALUES (1)", "INSERT 1").await;
    for (sql, done) in [("TRUNCATE t", "TRUNCATE 1"), ("DROP TABLE t", "DROP TABLE")] {
        run(&a, "BEGIN", "BEGIN").await;
        run(&a, "CREATE TABLE archive AS SELECT * FROM t", "CREATE TABLE 1").await;
        run(&a, sql, done).await;
        run(&b, "INSERT INTO t VALUES (2)", "INSERT 1").await;
        let lost = answer(&a, "COMMIT").await;
        assert!(lost.starts_with("40001 another session changed rows of public.t"), "{sql}: {lost}");
        run(&a, "SELECT count(*) FROM t", "2").await;
        run(&a, "DELETE FROM t WHERE id = 2", "DELETE 1").await;
    }
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "CREATE TABLE archive AS SELECT * FROM t", "CREATE TABLE 1").await;
    run(&a, "DROP TABLE t", "DROP TABLE").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT * FROM archive", "1").await;
    let gone = answer(&b, "SELECT * FROM t").await;
    assert!(gone.starts_with("42P01"), "{gone}");
}

/// A vector without a distance and an index that needs one do not both come to be.
#[tokio::test]
async fn vectors_and_indexes_agree_whoever_commits_first() {
    let a = session().await;
    let b = a.engine().session();
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY, e VECTOR(2))", "CREATE TABLE").await;
    run(&a, "INSERT INTO t VALUES (1, '[1,0]')", "INSERT 1").await;
    let create = "CREATE INDEX i ON t USING hnsw (e) WITH (metric = 'cosine')";
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, create, "CREATE INDEX the index is built after COMMIT, in the background").await;
    run(&b, "INSERT INTO t VALUES (2, '[0,0]')", "INSERT 1").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session added rows to public.t"), "{lost}");
    run(&b, "DELETE FROM t WHERE id = 2", "DELETE 1").await;
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "INSERT INTO t VALUES (2, '[0,0]')", "INSERT 1").await;
    run(&b, create, "CREATE INDEX").await;
    let lost = answer(&a, "COMMIT").await;
    assert!(lost.starts_with("40001 another session changed the indexes of public.t"), "{lost}");
    // Without the index in the same transaction it may be there.
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "DROP INDEX i", "DROP INDEX").await;
    run(&a, "INSERT INTO t VALUES (2, '[0,0]')", "INSERT 1").await;
    run(&a, "COMMIT", "COMMIT").await;
    run(&b, "SELECT count(*) FROM t", "2").await;
}

#[tokio::test]
async fn a_session_that_ends_takes_its_transaction_along() {
    let a = session().await;
    let b = a.engine().session();
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE").await;
    run(&b, "BEGIN", "BEGIN").await;
    run(&b, "INSERT INTO t VALUES (1)", "INSERT 1").await;
    assert!(b.in_transaction() && !a.in_transaction());
    run(&b, "SELECT name, rows FROM system.tables", "t,1").await;
    drop(b);
    run(&a, "SELECT count(*) FROM t", "0").await;
    run(&a, "INSERT INTO t VALUES (1)", "INSERT 1").await;
}

#[tokio::test]
async fn an_index_made_in_a_transaction_answers_after_it() {
    let a = session().await;
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY, e VECTOR(2))", "CREATE TABLE").await;
    run(&a, "INSERT INTO t VALUES (1, '[1,0]'), (2, '[5,5]')", "INSERT 2").await;
    answer(&a, "CHECKPOINT").await;
    run(&a, "BEGIN", "BEGIN").await;
    run(
        &a,
        "CREATE INDEX nearest ON t USING hnsw (e)",
        "CREATE INDEX the index is built after COMMIT, in the background",
    )
    .await;
    run(&a, "INSERT INTO t VALUES (3, '[9,9]')", "INSERT 1").await;
    run(&a, "DELETE FROM t WHERE id = 2", "DELETE 1").await;
    run(&a, "SELECT id FROM t ORDER BY e <-> '[6,6]' LIMIT 2", "3;1").await;
    let refused = answer(&a, "REINDEX TABLE t").await;
    assert!(refused.starts_with("25001"), "{refused}");
    run(&a, "COMMIT", "COMMIT").await;
    run(&a, "SELECT id FROM t ORDER BY e <-> '[6,6]' LIMIT 2", "3;1").await;
    run(&a, "REINDEX TABLE t", "REINDEX").await;
    run(&a, "SELECT rows_covered FROM system.indexes", "2").await;
    run(&a, "SELECT id FROM t ORDER BY e <-> '[6,6]' LIMIT 2", "3;1").await;
    run(&a, "BEGIN", "BEGIN").await;
    run(&a, "DROP INDEX nearest", "DROP INDEX").await;
    run(&a, "ROLLBACK", "ROLLBACK").await;
    run(&a, "SELECT rows_covered FROM system.indexes", "2").await;
}

/// What upkeep moves while a transaction is open takes no commit away, and hides nothing that does.
#[tokio::test]
async fn upkeep_takes_no_commit_away() {
    let a = session().await;
    let b = a.engine().session();
    run(&a, "CREATE TABLE t (id INT PRIMARY KEY, n INT, e VECTOR(2))", "CREATE TABLE").await;
    run(&a, "INSERT INTO t VALUES (1, 0, '[1,0]'), (2, 0, '[2,0]'), (3, 0, '[3,0]')", "INSERT 3").await;
    run(&a, "CREATE INDEX i ON t USING hnsw (e)", "CREATE INDEX").await;
    // The table of jobs is made by now.
    answer(&a, "CHECKPOINT").await;
    let upkeep = ["CHECKPOINT", "COMPACT", "REINDEX TABLE t"];
    for (round, sql) in upkeep.into_iter().enumerate() {
        let own = 100 + round;
        run(&a, "BEGIN", "BEGIN").await;
        run(&a, "UPDATE t SET n = n + 1 WHERE id = 1", "UPDATE 1").await;
        run(&a, &format!("INSERT INTO t VALUES ({own}, 0, '[9,9]')"), "INSERT 1").await;
        run(&a, &format!("CREATE TABLE made_{round} (id INT)"), "CREATE TABLE").await;
        run(&b, "UPDATE t SET n = n + 1 WHERE id = 2", "UPDATE 1").await;
        run(&b, &format!("INSERT INTO t VALUES ({}, 0, '[8,8]')", 200 + round), "INSERT 1").await;
        let done = answer(&b, sql).await;
        assert!(!done.starts_with("40001"), "{sql}: {done}");
        run(&b, "DELETE FROM t WHERE id = 3", if round == 0 { "DELETE 1" } else { "DELETE 0" }).await;
        run(&a, "COMMIT", "COMMIT").await;
        run(&b, "SELECT n FROM t WHERE id IN (1, 2) ORDER BY id", &format!("{0};{0}", round + 1)).await;
    }
    for (round, sql) in upkeep.into_iter().enumerate() {
        let key = 300 + round;
        let changes = [
            ("UPDATE t SET n = n + 1 WHERE id = 1".to_owned(), "UPDATE 1", "the same rows of public.t"),
            (format!("INSERT INTO t VALUES ({key}, 0, '[7,7]')"), "INSERT 1", "the same key of public.t"),
        ];
        for (change, done, why) in changes {
            run(&a, "BEGIN", "BEGIN").await;
            run(&a, &change, done).await;
            run(&b, &change, done).await;
            answer(&b, sql).await;
            let lost = answer(&a, "COMMIT").await;
            assert!(lost.starts_with("40001") && lost.contains(why), "{change}, {sql}: {lost}");
        }
    }
}

type Rows = BTreeMap<i64, i64>;

/// One session and what it should see.
struct Client {
    session: Session,
    open: Option<Open>,
}

struct Open {
    begun: u64,
    rows: Rows,
    written: BTreeSet<i64>,
    savepoint: Option<(Rows, BTreeSet<i64>)>,
}

/// What everybody sees, and for each key the commit that changed it last.
#[derive(Default)]
struct Model {
    commit: u64,
    rows: Rows,
    changed: BTreeMap<i64, u64>,
}

impl Model {
    fn apply(&mut self, rows: &Rows, keys: &BTreeSet<i64>) {
        self.commit += 1;
        for key in keys {
            match rows.get(key) {
                Some(n) => self.rows.insert(*key, *n),
                None => self.rows.remove(key),
            };
            self.changed.insert(*key, self.commit);
        }
    }
}

fn shown(rows: &Rows) -> String {
    rows.iter().map(|(k, v)| format!("{k},{v}")).collect::<Vec<_>>().join(";")
}

// Seeds of a test each: together they would be the longest test of all, and the last to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_transactions_against_a_model() {
    interleave(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_transactions_against_a_model_once_more() {
    interleave(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_transactions_against_a_model_thrice() {
    interleave(2).await;
}

/// Four sessions at random: each always reads its own snapshot and changes; a commit is lost only when another changed one of its keys
/// since, whatever checkpoints and compactions there were.
async fn interleave(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let first = session().await;
    run(&first, "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)", "CREATE TABLE").await;
    let engine = Arc::clone(first.engine());
    let mut clients: Vec<Client> = (0..4).map(|_| Client { session: engine.session(), open: None }).collect();
    let mut model = Model::default();
    let (mut committed, mut lost) = (0, 0);
    for step in 0..400 {
        let client = &mut clients[random.random_range(0..4)];
        let key: i64 = random.random_range(0..30);
        let value: i64 = random.random_range(0..1000);
        let Some(open) = &mut client.open else {
            match random.random_range(0..8) {
                0 => {
                    let upkeep = if random.random_bool(0.3) { "COMPACT" } else { "CHECKPOINT" };
                    let got = answer(&client.session, upkeep).await;
                    assert!(!got.starts_with("40001"), "seed {seed}, step {step}: {got}");
                }
                1 | 2 => {
                    let sql = format!(
                        "INSERT INTO t VALUES ({key}, {value}) ON CONFLICT (k) DO UPDATE SET v = {value}"
                    );
                    run(&client.session, &sql, "INSERT 1").await;
                    model.apply(&Rows::from([(key, value)]), &BTreeSet::from([key]));
                }
                _ => {
                    run(&client.session, "BEGIN", "BEGIN").await;
                    client.open = Some(Open {
                        begun: model.commit,
                        rows: model.rows.clone(),
                        written: BTreeSet::new(),
                        savepoint: None,
                    });
                }
            }
            continue;
        };
        let session = &client.session;
        match random.random_range(0..12) {
            0..=2 => {
                let sql = format!("INSERT INTO t VALUES ({key}, {value})");
                let there = open.rows.get(&key).copied();
                let got = answer(session, &sql).await;
                if there.is_some() {
                    assert!(got.starts_with("23505"), "seed {seed}, step {step}: {got}");
                } else {
                    assert_eq!(got, "INSERT 1", "seed {seed}, step {step}");
                    open.rows.insert(key, value);
                    open.written.insert(key);
                }
            }
            3 | 4 => {
                let keys: Vec<i64> = open.rows.range(key..key + 3).map(|(k, _)| *k).collect();
                let sql = format!("UPDATE t SET v = v + 1000 WHERE k >= {key} AND k < {}", key + 3);
                run(session, &sql, &format!("UPDATE {}", keys.len())).await;
                for key in keys {
                    *open.rows.entry(key).or_default() += 1000;
                    open.written.insert(key);
                }
            }
            5 | 6 => {
                let there = open.rows.remove(&key).is_some();
                run(
                    session,
                    &format!("DELETE FROM t WHERE k = {key}"),
                    &format!("DELETE {}", u8::from(there)),
                )
                .await;
                if there {
                    open.written.insert(key);
                }
            }
            7 => {
                run(session, "SAVEPOINT s", "SAVEPOINT").await;
                open.savepoint = Some((open.rows.clone(), open.written.clone()));
            }
            8 => {
                if let Some((rows, written)) = open.savepoint.clone() {
                    run(session, "ROLLBACK TO s", "ROLLBACK").await;
                    (open.rows, open.written) = (rows, written);
                }
            }
            9 => {
                run(session, "ROLLBACK", "ROLLBACK").await;
                client.open = None;
            }
            _ => {
                let since = |key: &i64| model.changed.get(key).is_some_and(|commit| *commit > open.begun);
                let touched = open.written.iter().any(since);
                let got = answer(session, "COMMIT").await;
                if got == "COMMIT" {
                    // What others wrote and took away again, or what was written and taken away here, harms nobody.
                    let clash = open.written.iter().any(|key| {
                        since(key) && (model.rows.contains_key(key) && open.rows.contains_key(key))
                    });
                    assert!(!clash, "seed {seed}, step {step}: a change was overwritten");
                    model.apply(&open.rows, &open.written);
                    committed += 1;
                } else {
                    assert!(got.starts_with("40001"), "seed {seed}, step {step}: {got}");
                    assert!(touched, "seed {seed}, step {step}: lost for nothing: {got}");
                    lost += 1;
                }
                client.open = None;
            }
        }
        let expected = shown(client.open.as_ref().map_or(&model.rows, |open| &open.rows));
        let got = answer(&client.session, "SELECT k, v FROM t ORDER BY k").await;
        assert_eq!(got, expected, "seed {seed}, step {step}");
        let by_key = answer(&client.session, &format!("SELECT v FROM t WHERE k = {key}")).await;
        let rows = client.open.as_ref().map_or(&model.rows, |open| &open.rows);
        assert_eq!(by_key, rows.get(&key).map_or(String::new(), i64::to_string), "seed {seed}, step {step}");
    }
    assert!(committed > 15 && lost > 0, "seed {seed}: {committed} committed, {lost} lost");
}
