//! What SHOW CREATE TABLE says makes the same table again, its indexes too.

use super::{all, answer, run, session};
use crate::{Output, Session};

use datafusion::arrow::array::AsArray;
use futures::TryStreamExt;

/// The statements that make a table.
async fn shown(session: &Session, table: &str) -> Vec<String> {
    let Ok(Output::Rows(rows)) = session.execute(&format!("SHOW CREATE TABLE {table}"), None).await else {
        panic!("{table} is not shown");
    };
    let batches: Vec<_> = rows.stream.try_collect().await.unwrap();
    let text = batches[0].column(1).as_string_view().value(0).to_owned();
    text.split(";\n").map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_again_with_its_indexes() {
    let session = session().await;
    let long = "l".repeat(120);
    all(
        &session,
        &[
            "CREATE SCHEMA app",
            "CREATE TABLE app.\"My Items\" (id INT PRIMARY KEY, \"order\" VECTOR(3), v VECTOR(2) NOT NULL, n INT DEFAULT 3) WITH (sort = 'n')",
            "CREATE INDEX ON app.\"My Items\" USING hnsw (v)",
            "CREATE INDEX ON app.\"My Items\" USING hnsw (v vector_cosine_ops)",
            "CREATE INDEX \"Its ip\" ON app.\"My Items\" USING hnsw (\"order\") WITH (metric = 'ip', target_recall = 0.999, memory_limit = '64 MiB')",
            "CREATE INDEX other ON app.\"My Items\" USING hnsw (\"order\") WITH (builder = 'hnsw_rs', m = 8, ef_construction = 100, memory_limit = 67108865)",
            "INSERT INTO app.\"My Items\" VALUES (1, '[1,2,3]', '[1,2]', 1), (2, '[3,2,1]', '[2,1]', 2)",
            "CREATE TABLE plain (a INT)",
            "CREATE TABLE word (v VECTOR(2))",
            "CREATE INDEX \"concurrently\" ON word USING hnsw (v)",
            &format!("CREATE TABLE {long} ({long} VECTOR(2))"),
            &format!("CREATE INDEX ON {long} USING hnsw ({long})"),
            &format!("CREATE INDEX ON {long} USING hnsw ({long} vector_ip_ops)"),
        ],
    )
    .await;
    assert_eq!(shown(&session, "plain").await, ["CREATE TABLE public.plain (\n  a INTEGER\n)"]);
    let indexes = "SELECT index_name, column_name, metric, target_recall FROM system.indexes ORDER BY 1";
    let before = answer(&session, indexes).await;
    assert_eq!(before.split(';').count(), 7, "{before}");
    for table in ["app.\"My Items\"", "word", long.as_str()] {
        let statements = shown(&session, table).await;
        run(&session, &format!("DROP TABLE {table}"), "DROP TABLE").await;
        for statement in &statements {
            let got = answer(&session, statement).await;
            assert!(got.starts_with("CREATE"), "{statement}: {got}");
        }
        assert_eq!(shown(&session, table).await, statements);
    }
    assert_eq!(answer(&session, indexes).await, before);
    let statements = shown(&session, "app.\"My Items\"").await;
    assert_eq!(
        statements[1..],
        [
            "CREATE INDEX \"My Items_v_idx\" ON app.\"My Items\" USING hnsw (v) WITH (metric = 'l2')",
            "CREATE INDEX \"My Items_v_idx2\" ON app.\"My Items\" USING hnsw (v) WITH (metric = 'cosine')",
            "CREATE INDEX \"Its ip\" ON app.\"My Items\" USING hnsw (\"order\") WITH (metric = 'ip', target_recall = 0.999, memory_limit = '64 MiB')",
            "CREATE INDEX other ON app.\"My Items\" USING hnsw (\"order\") WITH (metric = 'l2', m = 8, ef_construction = 100, builder = 'hnsw_rs', memory_limit = '67108865 B')",
        ]
    );
}
