//! Segments are plain Parquet: other readers see the table's columns, values, NULLs and field ids.
//!
//! The Rust half reads with the `parquet` crate. The other half asks pyarrow and DuckDB through
//! `python/read_segments.py`; it runs when `CAIRN_TEST_PYTHON` names a Python that has both (`.ci/run` sets it).
//!
//! And other processes of Cairn read what a plan names, wherever it was made (`files/plans.rs`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a panic is the report")]

#[path = "files/plans.rs"]
mod plans;

use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_engine::OpenOptions;
use cairn_storage::schema::{ROW_ID_FIELD, VERSION_FIELD};
use cairn_tests::answer::render;
use cairn_tests::{Answer, Connection};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{LogicalType, Type as PhysicalType};
use datafusion::parquet::schema::types::Type;

const ROWS: usize = 1000;

/// Name, SQL type, value in row `i` (NULL in every third).
const COLUMNS: [(&str, &str, &str); 12] = [
    ("id", "BIGINT PRIMARY KEY", "value"),
    ("small", "SMALLINT", "value - 500"),
    ("big_unsigned", "BIGINT UNSIGNED", "value"),
    ("flag", "BOOLEAN", "value % 2 = 0"),
    ("ratio", "DOUBLE", "value / 8.0"),
    ("price", "DECIMAL(12,2)", "value / 4.0"),
    ("name", "TEXT", "'name ' || value"),
    ("bytes", "BYTEA", "arrow_cast('b' || value, 'Binary')"),
    ("day", "DATE", "CAST(CAST(value AS INT) AS DATE)"),
    ("moment", "TIMESTAMP", "arrow_cast(value * 1000000, 'Timestamp(Microsecond, None)')"),
    ("instant", "TIMESTAMPTZ", "arrow_cast(value * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))')"),
    ("tags", "TEXT[]", "make_array('a', 'b' || value)"),
];

fn segments_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segments_under(&path));
        } else if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn make_table(root: &Path) -> Vec<Vec<String>> {
    // Each row is in one segment, whenever somebody looks.
    let options = OpenOptions { compacts: false, ..OpenOptions::default() };
    let db = Connection::open_dir(root, &options).unwrap();
    let columns: Vec<String> =
        COLUMNS.iter().map(|(name, sql_type, _)| format!("{name} {sql_type}")).collect();
    db.exec(&format!("CREATE TABLE t ({})", columns.join(", ")));
    let values: Vec<String> = COLUMNS
        .iter()
        .map(|(name, _, value)| match *name {
            "id" => (*value).to_string(),
            _ => format!("CASE WHEN value % 3 = 0 THEN NULL ELSE {value} END AS {name}"),
        })
        .collect();
    db.exec(&format!(
        "INSERT INTO t SELECT {} FROM generate_series(1, {ROWS}) AS g(value)",
        values.join(", ")
    ));
    db.exec("CHECKPOINT");
    let rows = db.rows("SELECT * FROM t ORDER BY id");
    assert_eq!(rows.len(), ROWS);
    db.close().unwrap();
    rows
}

#[test]
fn other_readers_see_the_table_in_its_segments() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("db");
    let rows = make_table(&root);
    let segments = segments_under(&root.join("table"));
    assert!(!segments.is_empty(), "a checkpoint left no segment");

    let mut found = Vec::new();
    for segment in &segments {
        found.extend(read_in_rust(segment));
    }
    found.sort_by_key(|row: &Vec<String>| row[0].parse::<u64>().unwrap());
    assert_eq!(found, rows, "the rows of the segments are not those of the table");

    match std::env::var_os("CAIRN_TEST_PYTHON") {
        None => println!(
            "NOT RUN: reading with pyarrow and DuckDB; set CAIRN_TEST_PYTHON to a Python that has both"
        ),
        Some(python) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_segments.py");
            let output =
                Command::new(python).arg(script).arg(ROWS.to_string()).args(&segments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
            println!("{said}");
        }
    }
}

/// Checks the schema of one segment and gives its rows.
fn read_in_rust(path: &Path) -> Vec<Vec<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = builder.parquet_schema().root_schema().clone();
    let fields = schema.get_fields();
    for (index, (name, _, _)) in COLUMNS.iter().enumerate() {
        let field = &fields[index];
        assert_eq!(field.name(), *name);
        assert_eq!(field.get_basic_info().id(), i32::try_from(index + 1).unwrap(), "field id of {name}");
    }
    check_logical_types(fields);
    for field in &fields[COLUMNS.len()..] {
        let id = u32::try_from(field.get_basic_info().id()).unwrap();
        assert!(
            id == ROW_ID_FIELD.0 || id == VERSION_FIELD.0,
            "{} is neither a column of the table nor a pseudo-column",
            field.name()
        );
    }
    let user_columns = ProjectionMask::roots(builder.parquet_schema(), 0..COLUMNS.len());
    let reader = builder.with_projection(user_columns).build().unwrap();
    let schema = datafusion::arrow::array::RecordBatchReader::schema(&reader);
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    match render(&schema, &batches) {
        Answer::Rows { rows, .. } => rows,
        Answer::Affected(_) | Answer::Done => unreachable!("render gives rows"),
    }
}

fn check_logical_types(fields: &[std::sync::Arc<Type>]) {
    let logical = |name: &str| {
        let field = fields.iter().find(|f| f.name() == name).unwrap();
        field.get_basic_info().logical_type_ref().cloned()
    };
    let physical = |name: &str| fields.iter().find(|f| f.name() == name).unwrap().get_physical_type();
    assert_eq!(physical("id"), PhysicalType::INT64);
    assert_eq!(physical("flag"), PhysicalType::BOOLEAN);
    assert_eq!(physical("ratio"), PhysicalType::DOUBLE);
    assert!(matches!(logical("name"), Some(LogicalType::String)), "TEXT is a UTF8 string");
    assert!(matches!(logical("day"), Some(LogicalType::Date)));
    assert!(matches!(logical("price"), Some(LogicalType::Decimal(d)) if d.scale == 2 && d.precision == 12));
    assert!(matches!(logical("moment"), Some(LogicalType::Timestamp(t)) if !t.is_adjusted_to_u_t_c));
    assert!(matches!(logical("instant"), Some(LogicalType::Timestamp(t)) if t.is_adjusted_to_u_t_c));
    assert!(matches!(logical("tags"), Some(LogicalType::List)));
}
