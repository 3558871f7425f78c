//! Vectors where scripts cannot reach: bound parameters, and the bits of a distance.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use cairn_storage::schema::ColumnType;
use cairn_udfs::vector::{Metric, vector_type};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, RecordBatch,
};
use datafusion::arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use datafusion::common::{ParamValues, ScalarValue};
use futures::TryStreamExt;

use super::tests::{answer, session};
use crate::{Output, Session};

fn fixed(components: &[f32]) -> ScalarValue {
    let dim = i32::try_from(components.len()).unwrap();
    let row = Some(components.iter().copied().map(Some).collect::<Vec<_>>());
    ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        vec![row],
        dim,
    )))
}

/// The same vector in every form a client may bind.
fn forms(components: [i64; 3]) -> Vec<ScalarValue> {
    let doubles = Some(components.map(|c| Some(c as f64)));
    let text = format!("[{}, {},{}]", components[0], components[1], components[2]);
    vec![
        fixed(&components.map(|c| c as f32)),
        ScalarValue::List(Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vec![doubles]))),
        ScalarValue::LargeList(Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(
            components.map(Some),
        )]))),
        ScalarValue::Utf8(Some(text.clone())),
        ScalarValue::Utf8View(Some(text)),
    ]
}

fn params(values: Vec<ScalarValue>) -> Option<ParamValues> {
    Some(ParamValues::from(values))
}

#[test]
fn the_types_are_one() {
    for dim in [1, 384, 16_000] {
        assert_eq!(ColumnType::Vector(dim).arrow(), vector_type(dim.into()));
    }
}

#[tokio::test]
async fn every_form_can_be_bound_everywhere() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id INT PRIMARY KEY, v VECTOR(3))", None).await;
    for (id, form) in forms([1, -2, 3]).into_iter().enumerate() {
        let id = ScalarValue::from(i64::try_from(id).unwrap());
        let run = async |sql: &str| answer(&session, sql, params(vec![id.clone(), form.clone()])).await;
        assert_eq!(run("INSERT INTO t VALUES ($1, $2)").await, "INSERT 1", "{form:?}");
        assert_eq!(run("UPDATE t SET v = $2 WHERE id = $1").await, "UPDATE 1", "{form:?}");
        assert_eq!(
            run("INSERT INTO t VALUES ($1, '[0,0,0]') ON CONFLICT (id) DO UPDATE SET v = $2").await,
            "INSERT 1"
        );
        assert_eq!(
            run("INSERT INTO t VALUES ($1 + 100, '[7,7,7]'), ($1 + 200, $2)").await,
            "INSERT 2",
            "{form:?}"
        );
        assert_eq!(
            run("SELECT v FROM t WHERE v = $2 AND (id = $1 OR id = $1 + 200)").await,
            "[1.0, -2.0, 3.0]|[1.0, -2.0, 3.0]"
        );
        for (sql, distance) in [
            ("SELECT v <-> $2 FROM t WHERE id = $1", "0.0"),
            ("SELECT $2 <+> v FROM t WHERE id = $1", "0.0"),
            ("SELECT v <=> $2 FROM t WHERE id = $1", "0.0"),
            ("SELECT count(*) FROM t WHERE v = $2 AND id = $1", "1"),
            ("SELECT inner_product(v, $2) FROM t WHERE id = $1", "14.0"),
            ("SELECT id - $1 FROM t WHERE id >= $1 ORDER BY v <-> $2, id LIMIT 1", "0"),
        ] {
            assert_eq!(run(sql).await, distance, "{sql} {form:?}");
        }
        assert_eq!(run("DELETE FROM t WHERE v <-> $2 > 1 AND id > $1").await, "DELETE 1", "{form:?}");
    }
    let null = params(vec![ScalarValue::Null]);
    assert_eq!(answer(&session, "INSERT INTO t VALUES (900, $1)", null.clone()).await, "INSERT 1");
    assert_eq!(answer(&session, "SELECT v <-> $1 FROM t WHERE id = 0", null).await, "NULL");
}

#[tokio::test]
async fn a_bound_value_that_is_no_vector_is_named() {
    let session = session().await;
    answer(&session, "CREATE TABLE t (id INT PRIMARY KEY, v VECTOR(3))", None).await;
    let column = "invalid value for column \"v\" of type VECTOR(3) in row 1: ";
    for (value, expected) in [
        (fixed(&[1.0, 2.0]), format!("22000 {column}expected 3 dimensions, not 2")),
        (
            fixed(&[1.0, f32::NAN, 2.0]),
            format!("22000 {column}component 2 of the vector is NaN, which is not finite"),
        ),
        (ScalarValue::from("[1,2"), format!("22P02 {column}\"[1,2\" is no vector")),
    ] {
        let got = answer(&session, "INSERT INTO t VALUES (1, $1)", params(vec![value.clone()])).await;
        assert!(got.starts_with(&expected), "{got}");
        let got = answer(&session, "SELECT v <-> $1 FROM t", params(vec![value])).await;
        assert!(got.starts_with("22"), "{got}");
    }
    assert_eq!(answer(&session, "SELECT count(*) FROM t", None).await, "0");
}

async fn batches(session: &Session, sql: &str, params: Option<ParamValues>) -> Vec<RecordBatch> {
    let Output::Rows(rows) = session.execute(sql, params).await.unwrap() else {
        panic!("{sql} gives no rows")
    };
    rows.stream.try_collect().await.unwrap()
}

#[tokio::test]
async fn distances_have_the_bits_of_the_kernels() {
    const DIM: usize = 37;
    let session = session().await;
    let component = |i: usize| ((i * 7919 % 10_007) as f32 - 5_000.0) / 613.0;
    let vector = |row: usize| (0..DIM).map(|i| component(row * DIM + i)).collect::<Vec<f32>>();
    answer(&session, &format!("CREATE TABLE t (id INT PRIMARY KEY, v VECTOR({DIM}))"), None).await;
    for row in 0..60 {
        let values = vec![ScalarValue::from(row as i64), fixed(&vector(row))];
        assert_eq!(answer(&session, "INSERT INTO t VALUES ($1, $2)", params(values)).await, "INSERT 1");
    }
    let query = vector(1_000);
    let metrics =
        [("<->", Metric::L2), ("<=>", Metric::Cosine), ("<#>", Metric::InnerProduct), ("<+>", Metric::L1)];
    for stored in [false, true] {
        if stored {
            answer(&session, "CHECKPOINT", None).await;
        }
        for (operator, metric) in metrics {
            let sql = "SELECT t.id, t.v <same> $1, t.v <same> o.v \
                       FROM t CROSS JOIN (SELECT v FROM t WHERE id = 5) AS o ORDER BY t.id"
                .replace("<same>", operator);
            let got = batches(&session, &sql, params(vec![fixed(&query)])).await;
            let column = |i: usize| {
                let parts: Vec<&dyn Array> = got.iter().map(|b| b.column(i).as_ref()).collect();
                let all: ArrayRef = datafusion::arrow::compute::concat(&parts).unwrap();
                all.as_primitive::<Float32Type>().values().to_vec()
            };
            for (i, other) in [(1, query.clone()), (2, vector(5))] {
                for (row, got) in column(i).into_iter().enumerate() {
                    let wanted = metric.distance((&vector(row)).into(), (&other).into()).unwrap();
                    assert_eq!(got.to_bits(), wanted.to_bits(), "{operator} row {row} stored {stored}");
                }
            }
        }
    }
}
