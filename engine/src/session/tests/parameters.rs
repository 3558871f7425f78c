//! Parameters wherever a statement may hold a query: asked for and given alike.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};

use super::{all, answer, session};
use crate::{Output, Session};

/// What a statement with values comes to: rows changed, or SQLSTATE and message.
async fn changed(session: &Session, sql: &str, params: impl Into<ParamValues>) -> String {
    match session.execute(sql, Some(params.into())).await {
        Ok(Output::Affected { verb, rows, .. }) => format!("{verb} {rows}"),
        Ok(Output::Rows(_)) => "rows".to_owned(),
        Ok(Output::Done { verb, .. }) => verb.to_owned(),
        Err(error) => format!("{} {}", error.sqlstate(), error.message()),
    }
}

fn int(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_is_described_with_the_parameters_it_takes() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY, s TEXT)"]).await;
    let (number, text) = (Some(DataType::Int64), Some(DataType::Utf8View));
    for (sql, types, columns) in [
        ("EXPLAIN SELECT s FROM t WHERE id=?", vec![number.clone()], Some(2)),
        ("EXPLAIN ANALYZE SELECT ?", vec![None], Some(2)),
        ("EXPLAIN UPDATE t SET s=? WHERE id=?", vec![text.clone(), number.clone()], Some(2)),
        ("EXPLAIN CREATE TABLE u AS SELECT s FROM t WHERE id=?", vec![number.clone()], Some(2)),
        ("COPY (SELECT s FROM t WHERE id=?) TO 'p.csv'", vec![number.clone()], None),
        ("COPY t TO 'p.csv'", vec![], None),
        ("CREATE TABLE u AS SELECT s FROM t WHERE id=?", vec![number.clone()], None),
        ("SELECT id FROM t WHERE id = ANY(?)", vec![None], Some(1)),
        ("SELECT 1^?, -?", vec![None, None], Some(2)),
        ("SELECT s FROM t LIMIT 1", vec![], Some(1)),
    ] {
        let description = session.describe(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let described: Vec<_> = description.parameters.into_iter().map(|p| p.data_type).collect();
        assert_eq!(described, types, "{sql}");
        assert_eq!(description.columns.map(|columns| columns.fields().len()), columns, "{sql}");
    }
    let view = session.describe("CREATE VIEW v AS SELECT ?").await.unwrap_err();
    assert_eq!((view.sqlstate(), view.message()), ("42P02", "a view cannot have the parameter $1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_no_parameter_takes_is_refused() {
    let session = session().await;
    all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY)"]).await;
    let insert = "INSERT INTO t VALUES ($1)";
    assert_eq!(changed(&session, insert, vec![int(1)]).await, "INSERT 1");
    assert_eq!(
        changed(&session, insert, vec![int(2), int(3)]).await,
        "07001 the statement has 1 parameter, 2 were given"
    );
    assert_eq!(
        changed(&session, "CHECKPOINT", vec![int(2)]).await,
        "07001 the statement has 0 parameters, 1 was given"
    );
    assert_eq!(
        changed(&session, "SELECT $a", vec![("a", int(1)), ("c", int(2))]).await,
        "07001 the statement has no parameter $c"
    );
    assert_eq!(changed(&session, "SELECT $a", vec![("a", int(1))]).await, "rows");
    // A number may be left out, its value may not.
    assert_eq!(changed(&session, "SELECT $2", vec![int(1), int(2)]).await, "rows");
    assert_eq!(changed(&session, "CHECKPOINT", Vec::<ScalarValue>::new()).await, "rows");
    let each = session.execute_each(insert, vec![vec![int(4)].into(), vec![int(5), int(6)].into()]).await;
    assert_eq!(each.err().unwrap().sqlstate(), "07001");
    assert_eq!(answer(&session, "SELECT count(*) FROM t").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_columns_take_values_as_they_take_literals() {
    let session = session().await;
    let directory = tempfile::tempdir().unwrap();
    all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY)", "INSERT INTO t VALUES (1.5), (4), (5)"]).await;
    assert_eq!(
        changed(&session, "INSERT INTO t VALUES ($1)", vec![ScalarValue::from(2.6_f64)]).await,
        "INSERT 1"
    );
    assert_eq!(answer(&session, "SELECT * FROM t ORDER BY id").await, "2;3;4;5");
    let file = directory.path().join("rows.csv");
    let copy = format!(
        "COPY (SELECT id, ? AS a FROM t WHERE id>? ORDER BY id) TO '{}' WITH (header)",
        file.display()
    );
    assert_eq!(changed(&session, &copy, vec![ScalarValue::from("x"), int(3)]).await, "COPY 2");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "id,a\n4,x\n5,x\n");
    assert!(changed(&session, &copy, Vec::<ScalarValue>::new()).await.starts_with("42P02"));
}
