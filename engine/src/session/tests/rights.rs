//! What users may do, and what they may not: two users, every statement, whatever way it takes.

use std::sync::Arc;
use std::time::Duration;

use cairn_storage::{ErrorKind, OpenOptions, Root};

use super::{all, answer, run, session};
use crate::{Engine, EngineOptions, Identity, Session, SessionLimits};

async fn denied(session: &Session, sql: &str, what: &str) {
    let got = answer(session, sql).await;
    assert!(got.starts_with("42501 ") && got.contains(what), "{sql}: {got}");
}

pub(super) async fn user(owner: &Session, name: &str) -> Session {
    all(owner, &[&format!("CREATE USER {name} PASSWORD 'pw of {name}'")]).await;
    login(owner, name).await
}

async fn login(owner: &Session, name: &str) -> Session {
    let identity = owner.engine().authenticate(name, &format!("pw of {name}")).await.unwrap();
    owner.engine().session_as(identity, SessionLimits::default())
}

#[tokio::test]
async fn users_come_and_go() {
    let owner = session().await;
    let engine = Arc::clone(owner.engine());
    assert!(!engine.has_users().await.unwrap());
    run(&owner, "SELECT * FROM system.users", "").await;
    run(&owner, "CREATE ROLE readers", "CREATE ROLE").await;
    assert!(!engine.has_users().await.unwrap(), "a role is no user");
    run(&owner, "CREATE USER Bob PASSWORD 'secret 1'", "CREATE USER").await;
    assert!(engine.has_users().await.unwrap());
    run(&owner, "CREATE USER bob PASSWORD 'x'", "42710 1:13 user bob already exists").await;
    run(&owner, "CREATE USER IF NOT EXISTS bob PASSWORD 'x'", "CREATE USER user bob already exists, skipped")
        .await;
    run(&owner, "CREATE ROLE bob", "42710 1:13 user bob already exists").await;
    run(&owner, "CREATE USER public PASSWORD 'x'", "42939 1:13 name public is reserved").await;
    run(&owner, "CREATE USER carol PASSWORD ''", "22023 the password is empty").await;
    run(&owner, "CREATE USER carol WITH PASSWORD $$it's$$ SUPERUSER", "CREATE USER").await;

    let wrong = engine.authenticate("bob", "secret 2").await.unwrap_err();
    let unknown = engine.authenticate("dave", "secret 1").await.unwrap_err();
    assert_eq!((wrong.kind(), wrong.sqlstate()), (ErrorKind::Unauthenticated, "28P01"));
    assert_eq!(wrong.message(), unknown.message());
    assert!(engine.authenticate("readers", "").await.is_err(), "a role has no password");
    assert!(engine.authenticate("", "").await.is_err());
    let bob = engine.authenticate("bob", "secret 1").await.unwrap();
    assert_eq!((bob.name(), bob.is_owner()), ("bob", false));
    assert!(engine.authenticate("carol", "it's").await.is_ok());
    let bob = engine.session_as(bob, SessionLimits::default());
    assert_eq!(bob.identity().name(), "bob");
    run(&bob, "SELECT current_user", "bob").await;

    run(&owner, "GRANT readers TO bob, carol", "GRANT").await;
    run(&owner, "GRANT readers TO bob", "GRANT bob is in role readers already").await;
    run(&owner, "GRANT bob TO carol", "42809 1:7 bob is a user, not a role").await;
    run(&owner, "SELECT * FROM system.users ORDER BY name", "bob,false,readers,,,,;carol,true,readers,,,,")
        .await;
    run(&owner, "SELECT * FROM system.roles", "readers,bob, carol").await;
    run(&bob, "SELECT name FROM system.users", "bob").await;
    run(&bob, "SELECT * FROM system.roles", "readers,").await;
    run(&owner, "CREATE ROLE inner_readers", "CREATE ROLE").await;
    run(&owner, "GRANT readers TO inner_readers", "GRANT").await;
    run(&owner, "GRANT inner_readers TO readers", "0LP01 role inner_readers would be in itself").await;
    run(&owner, "REVOKE readers FROM carol", "REVOKE").await;
    run(&owner, "REVOKE readers FROM carol", "REVOKE carol was not in role readers").await;

    // One's own password, and nothing else.
    run(&bob, "ALTER USER bob PASSWORD 'secret 3'", "ALTER USER").await;
    assert!(engine.authenticate("bob", "secret 1").await.is_err());
    let login = engine.authenticate("bob", "secret 3").await.unwrap();
    assert!(login.is_same_user_as(bob.identity()) && login != *bob.identity());
    engine.check_login(&login).await.unwrap();
    engine.check_login(&Identity::owner()).await.unwrap();
    let old = engine.check_login(bob.identity()).await.unwrap_err();
    assert_eq!((old.kind(), old.sqlstate()), (ErrorKind::Unauthenticated, "28000"));
    assert_eq!(old.message(), "the password of user bob was changed since the login");
    denied(&bob, "ALTER USER bob SUPERUSER", "user bob may not alter other users").await;
    denied(&bob, "ALTER USER carol PASSWORD 'x'", "user bob may not alter other users").await;
    denied(&bob, "CREATE USER eve PASSWORD 'x'", "user bob may not create users").await;
    denied(&bob, "CREATE ROLE eve", "may not create roles").await;
    denied(&bob, "DROP USER carol", "may not drop users").await;
    denied(&bob, "GRANT readers TO bob", "may not grant roles").await;
    denied(&bob, "REVOKE readers FROM bob", "may not revoke roles").await;
    denied(&bob, "GRANT ALL ON DATABASE TO bob", "may not grant").await;
    run(&owner, "ALTER USER bob SUPERUSER", "ALTER USER").await;
    run(&bob, "CREATE USER eve PASSWORD 'x'", "CREATE USER").await;
    run(&owner, "ALTER USER bob NOSUPERUSER", "ALTER USER").await;
    denied(&bob, "CREATE USER eve2 PASSWORD 'x'", "may not create users").await;
    engine.check_login(&login).await.unwrap();

    run(&owner, "DROP USER readers", "42809 1:11 readers is a role [use DROP ROLE]").await;
    run(&owner, "DROP ROLE readers, inner_readers", "DROP ROLE").await;
    run(&owner, "DROP USER IF EXISTS nobody, bob", "DROP USER there is no user or role nobody, skipped")
        .await;
    run(&owner, "DROP USER bob", "42704 1:11 there is no user or role bob").await;
    run(&bob, "SELECT 1", "28000 user bob does not exist any more").await;
    let gone = engine.check_login(&login).await.unwrap_err();
    assert_eq!((gone.sqlstate(), gone.message()), ("28000", "user bob does not exist any more"));
    // Another of the same name.
    run(&owner, "CREATE USER bob PASSWORD 'secret 4'", "CREATE USER").await;
    run(&bob, "SELECT 1", "28000 user bob does not exist any more").await;
    run(&owner, "SELECT name, superuser, roles FROM system.users WHERE name = 'bob'", "bob,false,").await;
}

#[tokio::test]
async fn the_last_superuser_stays_while_there_are_other_users() {
    let owner = session().await;
    let (ada, _) = (user(&owner, "ada").await, user(&owner, "bob").await);
    all(&owner, &["CREATE ROLE readers", "ALTER USER ada SUPERUSER"]).await;
    let refused = "2BP01 no superuser would be left, so nobody could look after the other users";
    for sql in ["DROP USER ada", "ALTER USER ada NOSUPERUSER"] {
        let got = answer(&ada, sql).await;
        assert!(got.starts_with(refused), "{sql}: {got}");
    }
    all(&ada, &["ALTER USER bob SUPERUSER", "ALTER USER bob NOSUPERUSER", "ALTER USER ada SUPERUSER"]).await;
    // Another one is left; whoever opened the database needs none.
    all(&ada, &["ALTER USER bob SUPERUSER", "ALTER USER ada NOSUPERUSER"]).await;
    all(&owner, &["ALTER USER bob NOSUPERUSER", "DROP USER bob", "ALTER USER ada SUPERUSER"]).await;
    let got = answer(&ada, "ALTER USER ada NOSUPERUSER").await;
    assert!(got.starts_with(refused), "{got}");
    run(&ada, "DROP USER ada", "DROP USER").await;
    assert!(!owner.engine().has_users().await.unwrap(), "the last one may go: everybody is let in then");
}

#[tokio::test]
async fn every_statement_asks_for_its_right() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(
        &owner,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT, e VECTOR(2))",
            "INSERT INTO t VALUES (1, 10, '[1,0]'), (2, 20, '[0,1]')",
            "CREATE TABLE other (id INT PRIMARY KEY)",
            "CREATE INDEX nearest ON t USING hnsw (e)",
            "CREATE SCHEMA app",
            "CREATE VIEW v AS SELECT id FROM t",
        ],
    )
    .await;
    let select = "user bob has no SELECT right on public.t";
    for sql in [
        "SELECT * FROM t",
        "SELECT 1 FROM t",
        "SELECT count(*) FROM public.t",
        "SELECT count(*) FROM cairn.public.t",
        // Without the planner.
        "SELECT * FROM t WHERE id = 1",
        "SELECT id FROM t ORDER BY e <-> '[1,0]' LIMIT 1",
        "SELECT id FROM t WHERE n > 5 ORDER BY e <-> '[1,0]' LIMIT 1",
        "SELECT * FROM vector_search(t, e, '[1,0]')",
        "SELECT * FROM vector_search('public.t', 'e', '[1,0]', filter => 'n > 5')",
        "SELECT * FROM (VALUES ('[1,0]')) q(v), LATERAL vector_search(t, e, q.v) s",
        "SELECT [1.0,0.0]::VECTOR(2) <-> (SELECT e FROM t LIMIT 1)",
        "SELECT (SELECT max(n) FROM t)",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM t)",
        "SELECT 1 WHERE 1 IN (SELECT id FROM t)",
        "WITH x AS (SELECT * FROM t) SELECT 1 FROM x",
        "WITH x AS (SELECT * FROM t) SELECT 1",
        "WITH RECURSIVE x AS (SELECT id FROM t UNION ALL SELECT id + 1 FROM x WHERE id < 1) SELECT * FROM x",
        "SELECT * FROM (WITH t AS (SELECT 1 AS a) SELECT * FROM t) x, t",
        "SELECT * FROM (VALUES (1)) a(x) JOIN t ON true",
        "SELECT 1 UNION ALL SELECT id FROM t",
        "SELECT _row_id FROM t",
        "EXPLAIN SELECT * FROM t",
        "EXPLAIN ANALYZE SELECT * FROM t",
        "EXPLAIN VERBOSE SELECT * FROM t WHERE id = 1",
        "DESCRIBE SELECT * FROM t",
    ] {
        denied(&bob, sql, select).await;
    }
    for sql in ["DESCRIBE t", "SHOW CREATE TABLE t", "SHOW COLUMNS FROM t"] {
        denied(&bob, sql, "user bob has no right on public.t").await;
    }
    denied(&bob, "SELECT * FROM v", "no SELECT right on public.v").await;
    denied(&bob, "SHOW CREATE VIEW v", "no right on public.v").await;
    denied(&bob, "DESCRIBE v", "no SELECT right on public.v").await;
    for (sql, right) in [
        ("INSERT INTO t VALUES (3, 30, NULL)", "INSERT"),
        ("INSERT INTO t (id) SELECT 3", "INSERT"),
        ("INSERT INTO t (id) VALUES (3) RETURNING id", "INSERT"),
        ("EXPLAIN INSERT INTO t (id) VALUES (3)", "INSERT"),
        ("COPY t FROM '/nowhere.csv'", "INSERT"),
        ("COPY t TO '/nowhere.csv'", "SELECT"),
        ("UPDATE t SET n = 0", "UPDATE"),
        ("UPDATE t SET n = 0 WHERE id = 1", "UPDATE"),
        ("DELETE FROM t", "DELETE"),
        ("DELETE FROM t WHERE id = 1", "DELETE"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE"),
        ("TRUNCATE t", "TRUNCATE"),
        ("WARM TABLE t", "SELECT"),
    ] {
        let got = answer(&bob, sql).await;
        let files = sql.starts_with("COPY t TO") && got.contains("files of the server");
        assert!(files || got.contains(&format!("no {right} right on public.t")), "{sql}: {got}");
    }
    for sql in [
        "DROP TABLE t",
        "DROP TABLE other, t",
        "CREATE INDEX mine ON t USING hnsw (e)",
        "EXPLAIN CREATE INDEX mine ON t USING hnsw (e)",
        "DROP INDEX nearest",
        "REINDEX TABLE t",
        "REINDEX INDEX nearest",
        "COMPACT TABLE t",
        "VACUUM TABLE t",
        "RUN JOBS FOR TABLE t",
        "RUN JOB compact ON t",
        "RETRY JOBS FOR TABLE t",
        "VERIFY TABLE t",
        "GRANT SELECT ON t TO bob",
        "REVOKE SELECT ON t FROM bob",
        "DROP VIEW v",
    ] {
        denied(&bob, sql, "user bob is not the owner of public.").await;
    }
    for sql in [
        "CREATE TABLE mine (x INT)",
        "CREATE TABLE mine AS SELECT 1 AS x",
        "CREATE VIEW mine AS SELECT 1 AS x",
    ] {
        denied(&bob, sql, "user bob has no CREATE right in schema public").await;
    }
    for sql in ["CREATE SCHEMA mine", "DROP SCHEMA app"] {
        denied(&bob, sql, "user bob has no CREATE right on the database").await;
    }
    for sql in [
        "CHECKPOINT",
        "COMPACT",
        "VACUUM",
        "RUN JOBS",
        "RUN JOB checkpoint",
        "RETRY JOB 1",
        "RETRY JOBS",
        "CANCEL JOB 1",
        "PAUSE JOB 1",
        "PAUSE JOBS compact",
        "RESUME JOBS",
        "VERIFY",
        "SHOW VERSIONS",
        "SHOW JOBS",
        "SET timezone = 'UTC' FOR DATABASE",
        "RESET ALL FOR DATABASE",
        "SELECT * FROM system.wal",
        "SELECT * FROM system.metrics",
        "SELECT * FROM sys.versions",
    ] {
        denied(&bob, sql, "user bob may not").await;
    }
    run(&owner, "SELECT count(*) FROM t", "2").await;
    // What is anybody's.
    all(
        &bob,
        &["SELECT 1", "SHOW ALL", "SHOW FUNCTIONS", "SET timezone = 'UTC'", "BEGIN", "COMMIT", "USE app"],
    )
    .await;
}

#[tokio::test]
async fn a_right_is_just_what_it_says() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(
        &owner,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
            "INSERT INTO t VALUES (1, 10)",
            "CREATE SCHEMA app",
            "CREATE TABLE app.u (id INT PRIMARY KEY)",
            "GRANT INSERT ON t TO bob",
        ],
    )
    .await;
    run(&bob, "INSERT INTO t VALUES (2, 20)", "INSERT 1").await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    denied(&bob, "INSERT INTO t VALUES (3, 30) RETURNING n", "no SELECT right").await;
    denied(&bob, "INSERT INTO t VALUES (3, 30) ON CONFLICT DO NOTHING", "no SELECT right").await;
    run(&owner, "GRANT SELECT ON t TO bob", "GRANT").await;
    run(&bob, "INSERT INTO t VALUES (2, 0) ON CONFLICT DO NOTHING", "INSERT 0").await;
    denied(&bob, "INSERT INTO t VALUES (2, 0) ON CONFLICT (id) DO UPDATE SET n = 0", "no UPDATE right").await;
    denied(&bob, "UPDATE t SET n = 0", "no UPDATE right").await;
    run(&owner, "GRANT UPDATE ON TABLE t TO bob", "GRANT").await;
    run(&bob, "INSERT INTO t VALUES (2, 0) ON CONFLICT (id) DO UPDATE SET n = 21", "INSERT 1").await;
    run(&bob, "UPDATE t SET n = n + 1 WHERE id = 2 RETURNING n", "22").await;
    denied(&bob, "UPDATE t SET n = u.id FROM app.u WHERE t.id = u.id", "no SELECT right on app.u").await;
    denied(&bob, "INSERT INTO t SELECT id, 0 FROM app.u", "no SELECT right on app.u").await;
    denied(&bob, "DELETE FROM t WHERE id = 2", "no DELETE right").await;
    // Each clause of MERGE asks for its own, and its source for SELECT.
    let merge = "MERGE INTO t USING (SELECT 2 AS id) AS s ON t.id = s.id WHEN MATCHED";
    denied(&bob, &format!("{merge} THEN DELETE"), "no DELETE right").await;
    denied(
        &bob,
        &format!("{merge} AND false THEN UPDATE SET n = 0 WHEN MATCHED THEN DELETE"),
        "no DELETE right",
    )
    .await;
    run(
        &bob,
        &format!("{merge} THEN UPDATE SET n = n + 1 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0)"),
        "MERGE 1",
    )
    .await;
    denied(
        &bob,
        "MERGE INTO t USING app.u ON t.id = u.id WHEN MATCHED THEN DO NOTHING",
        "no SELECT right on app.u",
    )
    .await;
    denied(
        &bob,
        "MERGE INTO app.u USING t ON t.id = u.id WHEN MATCHED THEN DO NOTHING",
        "no SELECT right on app.u",
    )
    .await;
    // Deleting some rows tells which there were.
    run(&owner, "GRANT DELETE ON t TO bob", "GRANT").await;
    run(&owner, "REVOKE SELECT, INSERT ON t FROM bob", "REVOKE").await;
    denied(&bob, "DELETE FROM t WHERE id = 2", "no SELECT right").await;
    denied(&bob, "INSERT INTO t VALUES (5, 5)", "no INSERT right").await;
    run(&owner, "GRANT ALL PRIVILEGES ON t TO bob", "GRANT").await;
    run(&bob, "DELETE FROM t WHERE id = 2", "DELETE 1").await;
    run(&bob, "TRUNCATE t", "TRUNCATE 1").await;
    denied(&bob, "DROP TABLE t", "not the owner").await;
    run(&owner, "REVOKE ALL ON t FROM bob", "REVOKE").await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    run(&owner, "REVOKE ALL ON t FROM bob", "REVOKE bob had no such grant on public.t").await;

    // A schema has its tables, those to come too; the database has its schemas.
    run(&owner, "GRANT SELECT ON SCHEMA app TO bob", "GRANT").await;
    run(&bob, "SELECT * FROM app.u", "").await;
    run(&owner, "CREATE TABLE app.later (id INT)", "CREATE TABLE").await;
    run(&bob, "SELECT * FROM app.later", "").await;
    denied(&bob, "INSERT INTO app.later VALUES (1)", "no INSERT right on app.later").await;
    run(&owner, "GRANT INSERT ON DATABASE cairn TO bob", "GRANT").await;
    run(&bob, "INSERT INTO app.later VALUES (1)", "INSERT 1").await;
    run(&owner, "REVOKE INSERT ON DATABASE FROM bob", "REVOKE").await;
    denied(&bob, "INSERT INTO app.later VALUES (1)", "no INSERT right").await;
    run(&owner, "REVOKE SELECT ON SCHEMA app FROM bob", "REVOKE").await;
    denied(&bob, "SELECT * FROM app.later", "no SELECT right").await;

    // Roles, roles in roles, everybody.
    all(&owner, &["CREATE ROLE a", "CREATE ROLE b", "GRANT a TO b", "GRANT SELECT ON t TO a"]).await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    run(&owner, "GRANT b TO bob", "GRANT").await;
    run(&bob, "SELECT * FROM t", "").await;
    run(&bob, "SELECT grantee, \"right\", kind, schema, name FROM system.grants", "a,SELECT,table,public,t")
        .await;
    run(&owner, "REVOKE a FROM b", "REVOKE").await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    run(&owner, "GRANT SELECT ON t TO PUBLIC", "GRANT").await;
    run(&bob, "SELECT * FROM t", "").await;
    run(&owner, "DROP ROLE a", "DROP ROLE").await;
    run(&owner, "SELECT grantee, name FROM system.grants", "public,t").await;

    for (sql, expected) in [
        ("GRANT CREATE ON t TO bob", "0LP01 a table has no CREATE right"),
        ("GRANT SELECT ON nothing TO bob", "42P01 1:17 table public.nothing does not exist"),
        ("GRANT SELECT ON SCHEMA nothing TO bob", "3F000 1:24 schema nothing does not exist"),
        ("GRANT SELECT ON t TO nobody", "42704 1:22 there is no user or role nobody"),
        ("GRANT nothing ON t TO bob", "42601 1:7 syntax error: there is no right nothing"),
        ("GRANT SELECT (id) ON t TO bob", "0A000 a right on single columns is not supported yet"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA app TO bob", "0A000 GRANT ON ALL"),
        ("GRANT SELECT ON DATABASE elsewhere TO bob", "3D000 syntax error: this database is named cairn"),
        ("GRANT SELECT ON t TO bob WITH GRANT OPTION", "0A000 WITH GRANT OPTION"),
        ("GRANT SELECT t", "42601 1:14 syntax error: expected ON or TO"),
        ("SELECT * FROM cairn.users", "3F000 1:15 schema cairn does not exist"),
        ("INSERT INTO cairn.users VALUES (1)", "3F000 1:13 schema cairn does not exist"),
        ("DELETE FROM cairn.grants", "3F000"),
        ("SELECT * FROM vector_search(cairn.users, id, '[1]')", "3F000"),
        ("TRUNCATE cairn.users", "42501"),
        ("DROP TABLE cairn.users", "42501"),
        ("CREATE TABLE cairn.mine (x INT)", "42501"),
        ("DROP SCHEMA cairn CASCADE", "42501"),
        ("GRANT SELECT ON cairn.users TO bob", "3F000"),
        ("SHOW CREATE TABLE cairn.users", "3F000"),
    ] {
        let got = answer(&owner, sql).await;
        assert!(got.starts_with(expected), "{sql}: {got}");
    }
    for list in [
        "SHOW SCHEMAS",
        "SELECT schema FROM system.tables",
        "SELECT schema FROM system.segments",
        "SELECT schema_name FROM information_schema.schemata",
        "SELECT table_schema FROM information_schema.tables",
    ] {
        let got = answer(&owner, list).await;
        assert!(!got.split([';', ',']).any(|name| name == "cairn"), "{list}: {got}");
    }
}

#[tokio::test]
async fn grants_end_with_what_they_are_on() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(
        &owner,
        &[
            "CREATE SCHEMA app",
            "CREATE TABLE app.t (id INT)",
            "CREATE VIEW app.v AS SELECT 1 AS x",
            "GRANT ALL ON app.t TO bob",
            "GRANT SELECT ON VIEW app.v TO bob",
        ],
    )
    .await;
    run(&bob, "SELECT * FROM app.v", "1").await;
    run(&owner, "CREATE OR REPLACE VIEW app.v AS SELECT 2 AS x", "CREATE VIEW").await;
    run(&bob, "SELECT * FROM app.v", "2").await;
    all(&owner, &["DROP TABLE app.t", "CREATE TABLE app.t (id INT)"]).await;
    denied(&bob, "SELECT * FROM app.t", "no SELECT right").await;
    all(&owner, &["DROP VIEW app.v", "CREATE VIEW app.v AS SELECT 3 AS x"]).await;
    denied(&bob, "SELECT * FROM app.v", "no SELECT right").await;
    all(&owner, &["GRANT SELECT ON SCHEMA app TO bob"]).await;
    run(&bob, "SELECT * FROM app.t", "").await;
    all(&owner, &["DROP SCHEMA app CASCADE", "CREATE SCHEMA app", "CREATE TABLE app.t (id INT)"]).await;
    denied(&bob, "SELECT * FROM app.t", "no SELECT right").await;
    run(&owner, "SELECT count(*) FROM system.grants", "0").await;

    // In a transaction, and when it is rolled back.
    all(
        &owner,
        &["GRANT SELECT ON app.t TO bob", "BEGIN", "DROP TABLE app.t", "CREATE TABLE app.t (id INT)"],
    )
    .await;
    run(&owner, "SELECT count(*) FROM system.grants", "0").await;
    run(&bob, "SELECT * FROM app.t", "").await;
    all(&owner, &["ROLLBACK"]).await;
    run(&bob, "SELECT * FROM app.t", "").await;
    all(&owner, &["BEGIN", "DROP TABLE app.t", "CREATE TABLE app.t (id INT)", "COMMIT"]).await;
    denied(&bob, "SELECT * FROM app.t", "no SELECT right").await;

    // Whoever grants while it is being dropped grants on nothing else.
    let other = owner.engine().session();
    all(&owner, &["BEGIN", "DROP TABLE app.t", "CREATE TABLE app.t (id INT)"]).await;
    all(&other, &["GRANT SELECT ON app.t TO bob"]).await;
    let lost = answer(&owner, "COMMIT").await;
    assert!(lost.starts_with("40001"), "{lost}");
    // Users and grants in a transaction are there after it.
    all(&owner, &["BEGIN", "CREATE USER carol PASSWORD 'pw of carol'", "GRANT SELECT ON app.t TO carol"])
        .await;
    assert!(owner.engine().authenticate("carol", "pw of carol").await.is_err());
    all(&owner, &["COMMIT"]).await;
    let carol = login(&owner, "carol").await;
    run(&carol, "SELECT * FROM app.t", "").await;
}

#[tokio::test]
async fn what_one_makes_is_ones_own() {
    let owner = session().await;
    let (bob, carol) = (user(&owner, "bob").await, user(&owner, "carol").await);
    all(
        &owner,
        &[
            "CREATE TABLE secret (id INT)",
            "INSERT INTO secret VALUES (7)",
            "GRANT CREATE ON SCHEMA public TO bob",
        ],
    )
    .await;
    all(
        &bob,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, e VECTOR(2))",
            "INSERT INTO t VALUES (1, '[1,0]')",
            "UPDATE t SET id = 2",
            "CREATE INDEX i ON t USING hnsw (e)",
            "REINDEX TABLE t",
            "COMPACT TABLE t",
            "VACUUM t",
            "RUN JOBS FOR TABLE t STRICT",
            "RETRY JOBS FOR TABLE t",
            "VERIFY TABLE t",
            "DROP INDEX i",
            "GRANT SELECT ON t TO carol",
            "CREATE VIEW mine AS SELECT id FROM t",
            "CREATE OR REPLACE VIEW mine AS SELECT id + 1 AS id FROM t",
        ],
    )
    .await;
    run(&carol, "SELECT id FROM t", "2").await;
    denied(&carol, "GRANT SELECT ON t TO PUBLIC", "not the owner").await;
    denied(&carol, "DROP TABLE t", "not the owner").await;
    run(&bob, "REVOKE SELECT ON t FROM carol", "REVOKE").await;
    denied(&carol, "SELECT id FROM t WHERE id = 2", "no SELECT right").await;
    // In a transaction, at once.
    all(
        &bob,
        &[
            "BEGIN",
            "CREATE TABLE u (id INT)",
            "INSERT INTO u VALUES (1)",
            "COMMIT",
            "TRUNCATE u",
            "DROP TABLE u",
        ],
    )
    .await;

    // A view reads with the rights of who wrote it, as they are.
    denied(&bob, "CREATE VIEW spy AS SELECT * FROM secret", "no SELECT right on public.secret").await;
    all(&owner, &["GRANT SELECT ON secret TO bob"]).await;
    all(&bob, &["CREATE VIEW spy AS SELECT * FROM secret", "GRANT SELECT ON spy TO carol"]).await;
    run(&carol, "SELECT * FROM spy", "7").await;
    denied(&carol, "SELECT * FROM secret", "no SELECT right").await;
    denied(&carol, "SELECT * FROM spy, secret", "no SELECT right on public.secret").await;
    all(&owner, &["REVOKE SELECT ON secret FROM bob"]).await;
    let got = answer(&carol, "SELECT * FROM spy").await;
    assert!(got.starts_with("42501 view public.spy cannot be used: permission denied: user bob"), "{got}");
    run(&owner, "SELECT * FROM spy", "7").await;
    all(&owner, &["CREATE VIEW shared AS SELECT * FROM secret", "GRANT SELECT ON shared TO carol"]).await;
    run(&carol, "SELECT * FROM shared", "7").await;
    // The columns of what one sees, and of nothing else.
    run(&carol, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
        "shared,id;spy,id").await;
    run(&carol, "SELECT name FROM system.tables ORDER BY name", "shared;spy").await;
    run(
        &carol,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
        "shared;spy",
    )
    .await;
    run(&carol, "SELECT count(*) FROM system.columns", "0").await;
    assert_eq!(carol.relations().iter().filter(|relation| relation.schema == "public").count(), 2);
    assert!(carol.columns("public", "secret").is_none());
    let got = answer(&carol, "SELECT * FROM secre").await;
    assert!(
        got.starts_with("42P01") && !got.contains("secret"),
        "names that do not show are no hints: {got}"
    );

    all(&owner, &["GRANT CREATE ON SCHEMA public TO carol"]).await;
    denied(&carol, "CREATE OR REPLACE VIEW mine AS SELECT 1 AS id", "not the owner of public.mine").await;
    all(&owner, &["REVOKE CREATE ON SCHEMA public FROM carol"]).await;

    // Who is gone owns nothing, and nobody of the same name does.
    all(&owner, &["GRANT SELECT ON secret TO bob", "DROP USER bob"]).await;
    let again = user(&owner, "bob").await;
    denied(&again, "DROP TABLE t", "not the owner").await;
    denied(&again, "SELECT * FROM t", "no SELECT right").await;
    denied(&carol, "SELECT * FROM spy", "no SELECT right on public.secret").await;
    run(&owner, "DROP TABLE t CASCADE", "DROP TABLE view public.mine is dropped too").await;
}

#[tokio::test]
async fn what_others_made_of_it_does_not_fall_with_it() {
    let owner = session().await;
    let (bob, carol) = (user(&owner, "bob").await, user(&owner, "carol").await);
    all(&owner, &["GRANT CREATE ON SCHEMA public TO carol", "GRANT CREATE ON DATABASE TO bob"]).await;
    all(
        &bob,
        &[
            "CREATE TABLE t (id INT)",
            "GRANT SELECT ON t TO carol",
            "CREATE VIEW own AS SELECT id FROM t",
            "CREATE VIEW base AS SELECT id + 1 AS id FROM t",
            "GRANT SELECT ON base TO carol",
        ],
    )
    .await;
    all(
        &carol,
        &[
            "CREATE VIEW hers AS SELECT id FROM t",
            "CREATE VIEW secret AS SELECT id FROM base",
            "GRANT SELECT ON hers TO bob",
        ],
    )
    .await;
    let stand = "2BP01 views stand on it: public.base, public.hers, public.own [CASCADE drops them too]";
    run(&bob, "DROP TABLE t", stand).await;
    denied(&bob, "DROP TABLE t CASCADE", "user bob is not the owner of public.hers").await;
    run(&bob, "DROP VIEW base", "2BP01 views stand on it: other objects [CASCADE drops them too]").await;
    denied(&bob, "DROP VIEW base CASCADE", "user bob is not the owner of other objects").await;
    let broken = answer(&bob, "CREATE OR REPLACE VIEW base AS SELECT 1 AS other").await;
    assert!(broken.starts_with("2BP01") && broken.contains("would break: other objects"), "{broken}");
    all(&carol, &["DROP VIEW hers"]).await;
    denied(&bob, "DROP TABLE t CASCADE", "user bob is not the owner of other objects").await;
    run(&bob, "SELECT * FROM own", "").await;
    all(&carol, &["DROP VIEW secret"]).await;
    let dropped = "DROP TABLE view public.base is dropped too; view public.own is dropped too";
    run(&bob, "DROP TABLE t CASCADE", dropped).await;

    all(&bob, &["CREATE SCHEMA app", "CREATE TABLE app.t (id INT)"]).await;
    all(&owner, &["CREATE TABLE app.secret (id INT)"]).await;
    denied(&bob, "DROP SCHEMA app CASCADE", "user bob is not the owner of other objects").await;
    run(&owner, "DROP SCHEMA app CASCADE", "DROP SCHEMA").await;
}

#[tokio::test]
async fn hints_name_no_schema_that_does_not_show() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(&owner, &["CREATE SCHEMA hidden"]).await;
    let anybody = [
        "SELECT * FROM hiden.t",
        "SHOW TABLES FROM hiden",
        "SET search_path = 'hiden'",
        "DROP SCHEMA hiden",
        "DROP TABLE hiden.t",
        "CREATE TABLE hiden.t (id INT)",
        "GRANT SELECT ON hiden.t TO bob",
    ];
    for sql in anybody {
        let got = answer(&bob, sql).await;
        assert!(got.starts_with("3F000") && got.contains("SHOW SCHEMAS lists them"), "{sql}: {got}");
        let got = answer(&owner, sql).await;
        assert!(got.starts_with("3F000") && got.contains("did you mean hidden?"), "{sql}: {got}");
    }
    let search = "SELECT * FROM vector_search(hiden.t, e, '[1]')";
    assert!(!answer(&bob, search).await.contains("hidden"));
    all(&owner, &["GRANT SELECT ON SCHEMA hidden TO bob"]).await;
    for sql in anybody {
        let got = answer(&bob, sql).await;
        assert!(got.contains("did you mean hidden?"), "{sql}: {got}");
    }
}

/// REVOKE counts from the next statement on: for statements that were run before, in transactions, for streams begun later.
#[tokio::test]
async fn revoking_is_at_once() {
    let owner = session().await;
    let bob = user(&owner, "bob").await;
    all(
        &owner,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, e VECTOR(1))",
            "INSERT INTO t VALUES (1, '[1]')",
            "CREATE INDEX i ON t USING hnsw (e)",
            "CREATE TABLE new_one (id INT)",
        ],
    )
    .await;
    let reads = [
        "SELECT id FROM t WHERE id = 1",
        "SELECT id FROM t ORDER BY e <-> '[1]' LIMIT 1",
        "SELECT id FROM t WHERE id > 0 ORDER BY e <-> '[1]' LIMIT 1",
        "SELECT count(*) FROM t",
        "SELECT id FROM vector_search(t, e, '[1]')",
    ];
    for _ in 0..2 {
        all(&owner, &["GRANT SELECT, INSERT ON t TO bob"]).await;
        for sql in reads {
            run(&bob, sql, "1").await;
            run(&bob, sql, "1").await;
        }
        all(&owner, &["REVOKE SELECT ON t FROM bob"]).await;
        for sql in reads {
            denied(&bob, sql, "no SELECT right").await;
        }
    }
    all(&owner, &["GRANT SELECT ON t TO bob"]).await;
    all(&bob, &["BEGIN", "SELECT * FROM t", "INSERT INTO t VALUES (2, NULL)"]).await;
    all(&owner, &["REVOKE ALL ON t FROM bob", "GRANT SELECT ON new_one TO bob"]).await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    denied(&bob, "INSERT INTO t VALUES (3, NULL)", "no INSERT right").await;
    // What is granted meanwhile counts for what it was granted on, which the transaction may not see.
    denied(&bob, "SELECT * FROM new_one", "no SELECT right").await;
    // And what it wrote with rights it has no more takes no effect.
    let changed = "40001 the rights of user bob were changed since BEGIN";
    run(&bob, "COMMIT", &format!("{changed} [the transaction was rolled back: run it again]")).await;
    run(&owner, "SELECT count(*) FROM t WHERE id = 2", "0").await;
    run(&bob, "SELECT * FROM new_one", "").await;
    all(&bob, &["BEGIN"]).await;
    all(&owner, &["DROP USER bob"]).await;
    run(&bob, "SELECT 1 FROM new_one", "28000 user bob does not exist any more").await;
}

#[tokio::test]
async fn users_are_durable_and_readers_know_them() {
    let dir = tempfile::tempdir().unwrap();
    let open = |read_only: bool| {
        let storage = OpenOptions { create: !read_only, read_only, ..OpenOptions::default() };
        let options = EngineOptions { storage, partitions: Some(2), ..EngineOptions::default() };
        Engine::open(Root::Path(dir.path().to_owned()), options)
    };
    let writer = open(false).await.unwrap();
    let owner = writer.session();
    all(
        &owner,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY)",
            "INSERT INTO t VALUES (1)",
            "CREATE USER bob PASSWORD 'pw of bob'",
            "CHECKPOINT",
            "GRANT SELECT ON t TO bob",
        ],
    )
    .await;
    let reader = open(true).await.unwrap();
    let bob = reader.authenticate("bob", "pw of bob").await.unwrap();
    let bob = reader.session_as(bob, SessionLimits::default());
    run(&bob, "SELECT * FROM t WHERE id = 1", "1").await;
    let got = answer(&reader.session(), "CREATE USER eve PASSWORD 'x'").await;
    assert!(got.starts_with("25006"), "{got}");
    all(&owner, &["REVOKE SELECT ON t FROM bob"]).await;
    denied(&bob, "SELECT * FROM t WHERE id = 1", "no SELECT right").await;
    denied(&bob, "SELECT * FROM t", "no SELECT right").await;
    all(&owner, &["GRANT SELECT ON t TO bob", "CHECKPOINT", "ALTER USER bob PASSWORD 'pw 2'"]).await;
    assert!(reader.authenticate("bob", "pw of bob").await.is_err());
    let findings = answer(&owner, "VERIFY").await;
    assert!(findings.contains("cairn.users") || findings.contains(",ok,"), "{findings}");
    reader.close().await.unwrap();
    drop(owner);
    writer.close().await.unwrap();
    drop((writer, reader));

    let again = open(false).await.unwrap();
    assert!(again.has_users().await.unwrap());
    let bob = again.authenticate("bob", "pw 2").await.unwrap();
    let bob = again.session_as(bob, SessionLimits::default());
    run(&bob, "SELECT * FROM t", "1").await;
    denied(&bob, "DELETE FROM t", "no DELETE right").await;
    // No file holds the password as it was typed.
    let mut waiting = vec![dir.path().to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                for password in [&b"pw of bob"[..], b"pw 2"] {
                    assert!(!bytes.windows(password.len()).any(|w| w == password), "{}", path.display());
                }
            }
        }
    }
}

#[tokio::test]
async fn passwords_never_show() {
    let owner = session().await;
    const SECRET: &str = "hunter2";
    for sql in [
        "CREATE USER bob PASSWORD 'hunter2' 'hunter2'",
        "CREATE USER bob PASSWORD 'x' hunter2",
        "CREATE USER bob PASSWORD hunter2",
        "CREATE USER bob PASSWORD \"hunter2\"",
        "CREATE USER bob 'hunter2'",
        "CREATE USER bob hunter2",
        "CREATE USER 'hunter2' PASSWORD 'x'",
        "CREATE USER bob PASSWORD = 'hunter2'",
        "CREATE USER bob IDENTIFIED BY 'hunter2'",
        "CREATE USER bob PASSWORD 'x'; 'hunter2'",
        "CREATE USER bob PASSWORD 'hunter2",
        "CREATE ROLE bob PASSWORD 'hunter2'",
        "ALTER USER bob 'hunter2'",
        "ALTER USER bob PASSWORD hunter2",
        "ALTER ROLE bob PASSWORD 'hunter2'",
        "ALTER USER nobody PASSWORD 'hunter2'",
        "EXPLAIN CREATE USER bob PASSWORD 'hunter2'",
        "CREATE OR REPLACE USER bob PASSWORD 'hunter2'",
        "GRANT SELECT ON t TO 'hunter2'",
        "CREATE USER bob PASSWORD 'hunter2'",
        "CREATE USER bob PASSWORD 'hunter2'",
        "ALTER USER bob PASSWORD 'hunter2' SUPERUSER",
    ] {
        let got = answer(&owner, sql).await;
        assert!(!got.contains(SECRET), "{sql}: {got}");
        if let Err(error) = owner.execute(sql, None).await {
            assert!(!format!("{error:?}").contains(SECRET), "{sql}");
        }
        assert!(Session::holds_secret(sql) || sql.starts_with("GRANT"), "{sql}");
    }
    for sql in [
        "SELECT * FROM system.users",
        "SHOW ALL",
        "SELECT * FROM system.versions",
        "SELECT * FROM system.grants",
        "SHOW JOBS",
    ] {
        let got = answer(&owner, sql).await;
        assert!(!got.contains(SECRET) && !got.contains("argon2"), "{sql}: {got}");
    }
    for sql in [
        "SELECT password FROM t",
        "SELECT 'PASSWORD'",
        "CREATE TABLE user_passwords (x INT)",
        "DROP USER bob",
    ] {
        assert!(!Session::holds_secret(sql), "{sql}");
    }
}

#[tokio::test]
async fn files_of_the_server_are_not_for_users() {
    let owner = session().await;
    let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret.csv");
    std::fs::write(&secret, "id\n42\n").unwrap();
    std::fs::write(root.path().join("fine.csv"), "id\n1\n").unwrap();
    std::fs::create_dir(root.path().join("sub")).unwrap();
    std::fs::write(root.path().join("sub/more.csv"), "id\n2\n").unwrap();
    let link =
        |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
    link(&secret, "link.csv");
    link(outside.path(), "linked");
    link(&outside.path().join("none.csv"), "dangling.csv");
    link(&root.path().join("fine.csv"), "inner.csv");
    all(&owner, &["CREATE TABLE t (id INT)", "CREATE USER bob PASSWORD 'pw of bob' SUPERUSER"]).await;
    std::fs::write(root.path().join("wrong.csv"), "id\n3\nx\n").unwrap();
    std::fs::write(root.path().join("unknown.format"), "id\n").unwrap();
    let real_root = root.path().canonicalize().unwrap().display().to_string();
    let (secret, root_text) = (secret.display().to_string(), root.path().display().to_string());
    all(&owner, &[&format!("COPY t FROM '{secret}'"), &format!("SELECT * FROM '{secret}'"), "TRUNCATE t"])
        .await;

    let bob = owner.engine().authenticate("bob", "pw of bob").await.unwrap();
    let nothing = owner.engine().session_as(bob.clone(), SessionLimits::default());
    let limits = SessionLimits { copy_root: Some(root.path().to_owned()), ..SessionLimits::default() };
    let some = owner.engine().session_as(bob, limits.clone());
    let owner_remote = owner.engine().session_as(Identity::owner(), limits);
    let escapes = [
        secret.clone(),
        format!("file://{secret}"),
        format!("file://localhost{secret}"),
        format!("{root_text}/link.csv"),
        "link.csv".to_owned(),
        "./link.csv".to_owned(),
        "linked/secret.csv".to_owned(),
        "linked/*.csv".to_owned(),
        "linked/none.csv".to_owned(),
        "*/secret.csv".to_owned(),
        "l*.csv".to_owned(),
        "dangling.csv".to_owned(),
        "../secret.csv".to_owned(),
        "sub/../../secret.csv".to_owned(),
        "sub/../fine.csv".to_owned(),
        format!("{root_text}/../x.csv"),
        "/dev/stdin".to_owned(),
        "/dev/null".to_owned(),
        "/proc/self/environ".to_owned(),
        "/etc/passwd".to_owned(),
        "/etc/pass*".to_owned(),
        "/nowhere/none.csv".to_owned(),
    ];
    for session in [&nothing, &some, &owner_remote] {
        for path in &escapes {
            for sql in [
                format!("COPY t FROM '{path}' WITH (format csv)"),
                format!("SELECT * FROM '{path}'"),
                format!("SELECT * FROM read_csv('{path}')"),
                format!("SELECT * FROM read_parquet('{path}')"),
                format!("CREATE VIEW v AS SELECT * FROM '{path}'"),
                format!("INSERT INTO t SELECT id FROM read_csv('{path}')"),
            ] {
                denied(session, &sql, "permission denied").await;
            }
            if !path.contains('*') {
                denied(session, &format!("COPY t TO '{path}' WITH (format csv)"), "permission denied").await;
            }
        }
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "id\n42\n");
    for path in ["fine.csv", "sub/more.csv", "x"] {
        denied(&nothing, &format!("SELECT * FROM '{path}'"), "files of the server").await;
    }
    for session in [&some, &owner_remote] {
        run(session, "SELECT * FROM 'fine.csv'", "1").await;
        run(session, "SELECT * FROM 'inner.csv'", "1").await;
        run(session, &format!("SELECT * FROM read_csv('{root_text}/fine.csv')"), "1").await;
        run(session, "COPY t FROM 'sub/mor*.csv'", "COPY 1").await;
        run(session, "COPY t TO 'sub/out.csv'", "COPY 1").await;
        run(session, "SELECT * FROM 'sub/out.csv'", "2").await;
        run(session, "COPY (SELECT 5 AS id) TO 'new.parquet'", "COPY 1").await;
        run(session, "TRUNCATE t", "TRUNCATE 1").await;
        // Messages name files as the session does, not by where they are on this machine.
        for (sql, state) in [
            ("SELECT * FROM 'none.csv'", "58P01"),
            ("SELECT * FROM read_parquet('fine.csv')", "22000"),
            ("COPY t FROM 'fine.csv' WITH (format parquet)", ""),
            ("COPY t FROM 'wrong.csv'", ""),
            ("COPY t TO 'sub' WITH (format csv)", ""),
            ("COPY t TO 'nowhere/x.csv'", ""),
            ("SELECT * FROM 'unknown.format'", "58P01"),
            (&format!("COPY t FROM '{root_text}/wrong.csv' WITH (on_error 'skip')"), "COPY 1"),
        ] {
            let got = answer(session, sql).await;
            assert!(got.starts_with(state), "{sql}: {got}");
            assert!(!got.contains(&root_text) && !got.contains(&real_root), "{sql}: {got}");
            let names = ["csv", "sub", "nowhere", "unknown"];
            assert!(names.iter().any(|name| got.contains(name)), "{sql}: {got}");
        }
        run(session, "TRUNCATE t", "TRUNCATE 1").await;
        // So do plans, which leave out the first slash.
        for file in ["'fine.csv'", "read_csv('sub/more.csv')", "'new.parquet'"] {
            for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE", "EXPLAIN ANALYZE VERBOSE"] {
                let got = answer(session, &format!("{explain} SELECT * FROM {file}")).await;
                assert!(got.contains("DataSourceExec"), "{got}");
                assert!(!got.contains(real_root.trim_start_matches('/')), "{got}");
            }
        }
    }
    assert!(root.path().join("new.parquet").exists());
    // A file's name is no pattern.
    denied(&some, "COPY t TO 'l*.csv'", "permission denied").await;
    std::fs::write(root.path().join("l*.csv"), "id\n9\n").unwrap();
    denied(&some, "SELECT * FROM 'l*.csv'", "permission denied").await;
    // A view over a file does not open it for those who may not.
    all(&owner, &[&format!("CREATE VIEW w AS SELECT * FROM '{secret}'"), "CREATE VIEW z AS SELECT 1 AS one"])
        .await;
    denied(&some, "SELECT * FROM w", "permission denied").await;
    run(
        &some,
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
        "t;z",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_end_one_statement_and_no_other() {
    let owner = session().await;
    all(&owner, &["CREATE USER bob PASSWORD 'pw of bob' SUPERUSER"]).await;
    let bob = owner.engine().authenticate("bob", "pw of bob").await.unwrap();
    let within = |limits| owner.engine().session_as(bob.clone(), limits);
    let endless = "SELECT count(*) FROM range(1, 100000000000) a(x) WHERE x % 7 = 3";

    let short =
        within(SessionLimits { statement_timeout: Some(Duration::from_secs(1)), ..SessionLimits::default() });
    for setting in ["1h", "0"] {
        all(&short, &[&format!("SET statement_timeout = '{setting}'")]).await;
        let error = short.execute(endless, None).await;
        let error = match error {
            Err(error) => error,
            Ok(crate::Output::Rows(rows)) => {
                use futures::TryStreamExt;
                crate::Error::from(rows.stream.try_collect::<Vec<_>>().await.unwrap_err())
            }
            Ok(_) => unreachable!(),
        };
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::ResourceExhausted, "57014"), "{error}");
    }
    all(&short, &["SET statement_timeout = '20ms'"]).await;
    let got = answer(&short, endless).await;
    assert!(got.starts_with("57014 the statement ran longer than statement_timeout"), "{got}");
    all(&short, &["RESET statement_timeout"]).await;
    run(&short, "SELECT 1", "1").await;

    let few = within(SessionLimits { rows: Some(3), ..SessionLimits::default() });
    run(&few, "SELECT * FROM range(1, 4)", "1;2;3").await;
    let got = answer(&few, "SELECT * FROM range(1, 5)").await;
    assert!(got.starts_with("54000 the result has more than 3 rows"), "{got}");

    let narrow = within(SessionLimits { memory: Some(1 << 20), ..SessionLimits::default() });
    let wide = "SELECT count(*) FROM (SELECT value, count(*) FROM range(1, 400000) t(value) GROUP BY value HAVING count(*) > 0)";
    let hungry = "SELECT cardinality(array_agg(x)) FROM range(1, 400000) a(x)";
    let got = answer(&narrow, hungry).await;
    assert!(got.starts_with("53200"), "{got}");
    for sql in ["SET datafusion.runtime.memory_limit = '10G'", "SET memory_limit = '10G'"] {
        let got = answer(&narrow, sql).await;
        assert!(got.starts_with("42501") || got.starts_with("55P02"), "{sql}: {got}");
    }
    run(&narrow, "SELECT 1", "1").await;
    let free = within(SessionLimits::default());
    run(&free, hungry, "399999").await;
    run(&free, wide, "399999").await;
}
