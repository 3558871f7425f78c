//! SET and RESET … FOR DATABASE: what sessions begin with, and who says so.

use std::sync::Arc;

use cairn_storage::schema::TableDef;
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{CommitOptions, OpenOptions, Root};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringViewArray};

use super::rights::user;
use super::{all, answer, run, session};
use crate::{Engine, EngineOptions, Output, SessionLimits};

const GIVEN: &str = "SELECT value, source FROM system.settings WHERE name = 'statement_timeout'";

#[tokio::test]
async fn sessions_begin_with_what_the_database_keeps() {
    let owner = session().await;
    let engine = Arc::clone(owner.engine());
    let told = "SET sessions that begin from now on have it";
    run(&owner, "SET statement_timeout = '7 s' FOR DATABASE", told).await;
    run(&owner, "SET TIME ZONE '+02:00' FOR DATABASE", told).await;
    run(&owner, "SET datafusion.execution.batch_size = 100 FOR DATABASE", told).await;
    // It has begun before.
    run(&owner, GIVEN, "0,default").await;
    let next = engine.session();
    run(&next, GIVEN, "7 s,database").await;
    run(&next, "SHOW timezone", "+02:00").await;
    run(&next, "SHOW datafusion.execution.batch_size", "100").await;
    all(&next, &["SET statement_timeout = '9 s'"]).await;
    run(&next, GIVEN, "9 s,session").await;
    run(&next.fork(), GIVEN, "9 s,session").await;
    all(&next, &["RESET statement_timeout"]).await;
    run(&next, GIVEN, "7 s,database").await;
    all(&next, &["SET timezone = 'UTC'", "RESET ALL"]).await;
    run(&next, "SHOW timezone", "+02:00").await;
    // What is set before the first statement stays.
    let configured = engine.session();
    configured.configure("statement_timeout", "1 s").unwrap();
    run(&configured, GIVEN, "1 s,session").await;

    run(&owner, "SET statement_timeout = '8 s' FOR DATABASE", told).await;
    run(&engine.session(), GIVEN, "8 s,database").await;
    run(&owner, "RESET statement_timeout FOR DATABASE", "RESET").await;
    run(&engine.session(), GIVEN, "0,default").await;
    let again = "RESET statement_timeout was not set for the database";
    run(&owner, "SET statement_timeout = DEFAULT FOR DATABASE", again).await;
    run(&owner, "RESET ALL FOR DATABASE", "RESET").await;
    run(&owner, "RESET ALL FOR DATABASE", "RESET nothing was set for the database").await;
    run(&engine.session(), "SHOW timezone", "UTC").await;
}

#[tokio::test]
async fn what_no_session_may_set_no_database_gives() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    for sql in
        ["SET timezone = '+01:00' FOR DATABASE", "RESET timezone FOR DATABASE", "RESET ALL FOR DATABASE"]
    {
        let got = answer(&bob, sql).await;
        assert!(
            got.starts_with("42501 ") && got.contains("user bob may not change the settings"),
            "{sql}: {got}"
        );
    }
    for (sql, state) in [
        ("SET no_such = 1 FOR DATABASE", "42704"),
        ("RESET no_such FOR DATABASE", "42704"),
        ("SET memory_limit = '1 GB' FOR DATABASE", "55P02"),
        ("SET commit_message = 'x' FOR DATABASE", "55P02"),
        ("SET partitions = 0 FOR DATABASE", "22023"),
        ("SET datafusion.runtime.memory_limit = '1G' FOR DATABASE", "42501"),
        ("SET search_path = nowhere FOR DATABASE", "3F000"),
        ("SET timezone = 'UTC' FOR ALL", "42601"),
        ("SET SESSION timezone = 'UTC' FOR DATABASE", "42601"),
    ] {
        let got = answer(&owner, sql).await;
        assert!(got.starts_with(state), "{sql}: {got}");
    }
    // Sessions of users begin with them too; a schema that went takes its value along.
    all(
        &owner,
        &["CREATE SCHEMA app", "SET search_path = app FOR DATABASE", "GRANT SELECT ON SCHEMA app TO bob"],
    )
    .await;
    let identity = owner.engine().authenticate("bob", "pw of bob").await.unwrap();
    let begin = || owner.engine().session_as(identity.clone(), SessionLimits::default());
    run(&begin(), "SELECT current_schema()", "app").await;
    let note = "search_path is app FOR DATABASE; sessions begin in public until there is such a schema again";
    run(&owner, "DROP SCHEMA app", &format!("DROP SCHEMA {note}")).await;
    run(&begin(), "SELECT current_schema()", "public").await;
    // It is part of its transaction.
    all(&owner, &["BEGIN", "SET timezone = '+01:00' FOR DATABASE", "ROLLBACK"]).await;
    run(&begin(), "SHOW timezone", "UTC").await;
}

/// Puts a table whose rows are not of its form in the place of the one with the settings.
async fn damage(engine: &Engine) {
    let db = engine.database();
    let snapshot = db.snapshot();
    let table = snapshot.catalog().own_table("settings").unwrap();
    let transaction = db.begin(&snapshot).await.unwrap();
    transaction.edit(CatalogEdit::DropTable { table: table.id }).unwrap();
    let mut other = TableDef::clone(table);
    other.id = transaction.next_table_id();
    other.columns[1].name = "worth".to_owned();
    let other = Arc::new(other);
    transaction.edit(CatalogEdit::PutTable(Arc::clone(&other))).unwrap();
    let text = |text: &str| -> ArrayRef { Arc::new(StringViewArray::from_iter_values([text])) };
    let row = RecordBatch::try_new(other.arrow_schema(), vec![text("timezone"), text("UTC")]).unwrap();
    let mut writer = transaction.writer(other.id).unwrap();
    writer.write(row).await.unwrap();
    writer.finish().await.unwrap();
    transaction.commit(CommitOptions::default()).await.unwrap();
}

#[tokio::test]
async fn damaged_settings_hold_nobody_up() {
    let owner = session().await;
    let engine = Arc::clone(owner.engine());
    all(&owner, &["SET statement_timeout = '7 s' FOR DATABASE"]).await;
    assert_eq!(engine.damaged_settings().await, None);
    damage(&engine).await;
    assert!(engine.damaged_settings().await.unwrap().contains("RESET ALL FOR DATABASE gives up"));
    let begun = engine.session();
    run(&begun, GIVEN, "0,default").await;
    // The first answer tells, whatever it is, and no other.
    run(&begun, "SET timezone = 'UTC'", "SET").await;
    let told = answer(&engine.session(), "CREATE SCHEMA s").await;
    assert!(told.starts_with("CREATE SCHEMA the settings of the database cannot be read"), "{told}");
    let begun = engine.session();
    for told in [1, 0] {
        let Output::Rows(rows) = begun.execute("SELECT 1", None).await.unwrap() else { panic!("no rows") };
        assert_eq!(rows.notes.len(), told, "{:?}", rows.notes);
    }
    let refused = answer(&owner, "RESET timezone FOR DATABASE").await;
    assert!(refused.contains("is damaged") && refused.contains("RESET ALL FOR DATABASE"), "{refused}");
    let given_up = "what the database kept could not be read, and is given up";
    let set = format!("SET {given_up}; sessions that begin from now on have it");
    run(&owner, "SET statement_timeout = '8 s' FOR DATABASE", &set).await;
    run(&engine.session(), GIVEN, "8 s,database").await;
    damage(&engine).await;
    run(&owner, "RESET ALL FOR DATABASE", &format!("RESET {given_up}")).await;
    run(&engine.session(), GIVEN, "0,default").await;
    assert_eq!(engine.damaged_settings().await, None);
}

#[tokio::test]
async fn the_database_keeps_its_settings_over_openings() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async {
        let options = EngineOptions {
            storage: OpenOptions { create: true, ..OpenOptions::default() },
            ..EngineOptions::default()
        };
        Engine::open(Root::Path(dir.path().join("db")), options).await.unwrap()
    };
    let engine = open().await;
    all(&engine.session(), &["SET statement_timeout = '7 s' FOR DATABASE"]).await;
    engine.close().await.unwrap();
    drop(engine);
    run(&open().await.session(), GIVEN, "7 s,database").await;
}
