//! TPC-H's 22 queries at scale 0.01 give the known answers, wherever the rows are.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

use std::path::Path;
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::{Answer, Connection, Follower, SqlError, tpch};

/// Runs the 22 queries; `run` answers one statement.
fn all_queries(place: &str, mut run: impl FnMut(&str) -> Result<Answer, SqlError>) {
    let started = Instant::now();
    let mut wrong = Vec::new();
    for number in 1..=22 {
        let mut rows = Vec::new();
        for statement in tpch::query(number) {
            match run(&statement) {
                Ok(answer @ Answer::Rows { .. }) => rows = answer.rows(),
                Ok(Answer::Affected(_) | Answer::Done) => {}
                Err(error) => wrong.push(format!("q{number}: {error}")),
            }
        }
        wrong.extend(tpch::compare(number, &rows).err());
    }
    println!("{place}: {:.1} s", started.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{place}:\n{}", wrong.join("\n"));
}

#[test]
fn the_22_queries_give_the_known_answers() {
    let home = tempfile::tempdir().unwrap();
    tpch::write_parquet(home.path(), 0.01).unwrap();
    // Two databases beside each other: planning keeps one core busy.
    std::thread::scope(|scope| {
        scope.spawn(|| as_loaded(home.path(), &home.path().join("loaded")));
        changed(home.path(), &home.path().join("changed"));
    });
}

fn options() -> OpenOptions {
    OpenOptions { checkpoint_wal_bytes: u64::MAX, ..OpenOptions::default() }
}

/// A database with the rows of the files in `data`.
fn load(data: &Path, root: &Path) -> Connection {
    let db = Connection::open_dir(root, &options()).unwrap();
    for table in &tpch::TABLES {
        db.exec(&table.create(true));
        db.exec(&table.copy_from(data));
    }
    db
}

/// Rows that nobody has changed: in memory, in memory again, in segments.
fn as_loaded(data: &Path, root: &Path) {
    let db = load(data, root);
    all_queries("after COPY", |sql| db.run(sql));
    db.abandon();
    let db = Connection::open_dir(root, &options()).unwrap();
    all_queries("reopened, from the WAL", |sql| db.run(sql));
    db.exec("CHECKPOINT");
    all_queries("checkpointed", |sql| db.run(sql));
}

/// Rows deleted from segments, rows in memory and rows moved by UPDATE, all in one table.
fn changed(data: &Path, root: &Path) {
    let db = load(data, root);
    db.exec("CHECKPOINT");
    for table in ["orders", "lineitem"] {
        let key = if table == "orders" { "o_orderkey" } else { "l_orderkey" };
        db.exec(&format!("CREATE TABLE kept AS SELECT * FROM {table} WHERE {key} % 7 = 0"));
        db.exec(&format!("DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM kept)"));
        db.exec(&format!("INSERT INTO {table} SELECT * FROM kept"));
        db.exec("DROP TABLE kept");
    }
    db.exec("UPDATE lineitem SET l_tax = l_tax WHERE l_orderkey % 11 = 0");
    all_queries("with deletes, hot rows and updates", |sql| db.run(sql));

    follow(&db, root);
    db.exec("CHECKPOINT");
    db.close().unwrap();
    let db = Connection::open_dir(root, &options()).unwrap();
    all_queries("closed and reopened", |sql| db.run(sql));
    // What a merge has replaced, or is being made by one, is named by nothing.
    let unsound = db.rows("VERIFY").into_iter().filter(|finding| !["ok", "warning"].contains(&&*finding[2]));
    assert_eq!(unsound.collect::<Vec<_>>(), Vec::<Vec<String>>::new());
}

/// A read-only process gives the same answers. It makes no view, so the writer makes q15's for it.
fn follow(db: &Connection, root: &Path) {
    let mut follower = Follower::start(Path::new(env!("CARGO_BIN_EXE_cairn-test-process")), root).unwrap();
    all_queries("read-only process", |sql| {
        if sql.starts_with("create view") || sql.starts_with("drop view") {
            db.run(sql)
        } else {
            follower.run(sql, db.version())
        }
    });
}
