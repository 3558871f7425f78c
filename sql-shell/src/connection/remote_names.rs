//! The names of a server's database, for completion.
//!
//! Owns: the one query that reads them, and taking its rows apart. It runs in the session, so that it sees what the session's
//! transaction and user see.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use futures::TryStreamExt;

use super::Answer;
use super::remote::Remote;
use crate::failure::Failure;
use crate::names::{Names, TableName};

/// What a name is, the names of which it is a part, the name, and the type of a column.
const QUERY: &str = "\
SELECT what, a, b, c, t FROM (
  SELECT 'current' AS what, current_schema() AS a, '' AS b, '' AS c, '' AS t, 0 AS p
  UNION ALL SELECT 'schema', schema_name, '', '', '', 0 FROM information_schema.schemata
  UNION ALL SELECT 'table', table_schema, table_name, '', '', 0 FROM information_schema.tables
  UNION ALL SELECT 'column', table_schema, table_name, column_name, '', CAST(ordinal_position AS BIGINT)
    FROM information_schema.columns WHERE table_schema = 'system'
  UNION ALL SELECT 'column', table_schema, table_name, name, \"type\", CAST(position AS BIGINT) FROM system.columns
  UNION ALL SELECT 'index', table_schema, index_name, '', '', 0 FROM system.indexes
  UNION ALL SELECT 'function', name, kind, '', '', 0 FROM system.functions
  UNION ALL SELECT 'setting', name, '', '', '', 0 FROM system.settings
) AS names ORDER BY what, a, b, p, c";

/// Reads them.
///
/// # Errors
/// As the server says.
pub(super) async fn read(remote: &Arc<Remote>) -> Result<Names, Failure> {
    let Answer::Rows { batches, .. } = remote.execute(QUERY).await? else { return Ok(Names::default()) };
    Ok(collect(&batches.try_collect::<Vec<_>>().await?))
}

fn collect(batches: &[RecordBatch]) -> Names {
    let mut names = Names::default();
    let mut columns: HashMap<(String, String), TableName> = HashMap::new();
    for batch in batches {
        let texts = batch.columns().iter().map(|column| cast(column, &DataType::Utf8));
        let Ok(texts) = texts.collect::<Result<Vec<_>, _>>() else { return Names::default() };
        let texts: Vec<_> = texts.iter().map(|column| column.as_string::<i32>()).collect();
        let [kinds, firsts, seconds, thirds, types] = texts[..] else { return Names::default() };
        for row in 0..batch.num_rows() {
            let (first, second) = (firsts.value(row).to_owned(), seconds.value(row).to_owned());
            match kinds.value(row) {
                "current" => names.current_schema = first,
                "schema" => names.schemas.push(first),
                "table" => {
                    names.tables.push(TableName { schema: first, name: second, ..TableName::default() })
                }
                "column" => {
                    let table = columns.entry((first, second)).or_default();
                    let column = thirds.value(row).to_owned();
                    if types.value(row).starts_with("VECTOR") {
                        table.vectors.push(column.clone());
                    }
                    table.columns.push(column);
                }
                "index" => names.indexes.push((first, second)),
                "function" => {
                    if second == "table" {
                        names.table_functions.push(first.clone());
                    }
                    names.functions.push(first);
                }
                "setting" => names.settings.push(first),
                _ => {}
            }
        }
    }
    names.functions.dedup();
    // Columns come before tables.
    for table in &mut names.tables {
        if let Some(known) = columns.remove(&(table.schema.clone(), table.name.clone())) {
            (table.columns, table.vectors) = (known.columns, known.vectors);
        }
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Connection, Opening};
    use super::*;
    use crate::Runtimes;
    use crate::args::Sync;

    #[test]
    fn the_query_finds_the_names_of_the_session() {
        let runtimes = Runtimes::start().unwrap();
        let opening = Opening { sync: Sync::Off, ..Opening::default() };
        let connection = Connection::open(":memory:", opening, runtimes.work.handle()).unwrap();
        let working = connection.clone();
        let work = connection.spawn(async move {
            let connection = &working;
            for sql in [
                "CREATE TABLE notes (id BIGINT PRIMARY KEY, title TEXT, e VECTOR(3), a TEXT)",
                "CREATE INDEX ON notes USING hnsw (e)",
                "CREATE SCHEMA app",
                "CREATE TABLE app.t (b INT, a INT)",
                "CREATE VIEW titles AS SELECT title FROM notes",
                "USE app",
            ] {
                connection.execute(sql).await.map(|_| ()).unwrap();
            }
            let Ok(Answer::Rows { batches, .. }) = connection.execute(QUERY).await else { panic!("no rows") };
            (collect(&batches.try_collect::<Vec<_>>().await.unwrap()), connection.names())
        });
        let (read, here) = runtimes.block_on(work).unwrap();
        let without_own = |names: &Names| {
            let mut tables = names.tables.clone();
            tables.retain(|table| table.schema != "information_schema");
            tables
        };
        assert_eq!(without_own(&read), without_own(&here));
        assert_eq!(read.current_schema, "app");
        assert_eq!(read.indexes, here.indexes);
        assert_eq!((&read.functions, &read.table_functions), (&here.functions, &here.table_functions));
        assert_eq!(read.settings, here.settings);
        for schema in ["app", "public", "system"] {
            assert!(read.schemas.contains(&schema.to_owned()), "{:?}", read.schemas);
        }
        assert_eq!(runtimes.close(&connection, 0), 0);
    }
}
