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
  UNION ALL SELECT 'schema', 'information_schema', '', '', '', 0
  UNION ALL SELECT 'table', table_schema, table_name, table_type, '', 0 FROM information_schema.tables
  UNION ALL SELECT 'column', c.table_schema, c.table_name, c.column_name, '', CAST(c.ordinal_position AS BIGINT)
    FROM information_schema.columns AS c JOIN information_schema.tables AS t
    ON c.table_schema = t.table_schema AND c.table_name = t.table_name WHERE t.table_type = 'VIEW'
  UNION ALL SELECT 'column', table_schema, table_name, name, \"type\", CAST(position AS BIGINT) FROM system.columns
  UNION ALL SELECT 'index', table_schema, index_name, '', '', 0 FROM system.indexes
  UNION ALL SELECT 'function', name, kind, '', '', 0 FROM system.functions
  UNION ALL SELECT 'setting', name, CAST(changeable AS TEXT), '', '', 0 FROM system.settings
  UNION ALL SELECT 'prepared', name, '', '', '', 0 FROM system.prepared_statements
  UNION ALL SELECT 'account', name, '', '', '', 0 FROM system.users
  UNION ALL SELECT 'account', name, '', '', '', 0 FROM system.roles
) AS names ORDER BY what, a, b, p, c";

/// Reads them.
///
/// # Errors
/// As the server says.
pub(super) async fn read(remote: &Arc<Remote>) -> Result<Names, Failure> {
    let Answer::Rows { batches, notes, .. } = remote.run(QUERY).await? else { return Ok(Names::default()) };
    remote.keep_notes(notes);
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
                    let of_the_system = ["information_schema", "system"].contains(&first.as_str());
                    let is_view = thirds.value(row) == "VIEW" && !of_the_system;
                    names.tables.push(TableName {
                        schema: first,
                        name: second,
                        is_view,
                        ..TableName::default()
                    });
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
                "setting" => {
                    if second == "true" {
                        names.changeable.push(first.clone());
                    }
                    names.settings.push(first);
                }
                "prepared" => names.prepared.push(first),
                "account" => names.accounts.push(first),
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
                "CREATE VIEW titles AS SELECT title, n.id AS \"No\", upper(title) FROM notes AS n",
                "CREATE VIEW all_notes AS SELECT * FROM notes",
                "CREATE ROLE readers",
                "PREPARE find AS SELECT title FROM notes WHERE id = $1",
                "USE app",
            ] {
                connection.execute(sql).await.map(|_| ()).unwrap();
            }
            let Ok(Answer::Rows { batches, .. }) = connection.execute(QUERY).await else { panic!("no rows") };
            collect(&batches.try_collect::<Vec<_>>().await.unwrap())
        });
        let read = runtimes.block_on(work).unwrap();
        let here = connection.names();
        assert_eq!(read.tables, here.tables);
        let titles = here.table(Some("public"), "titles").unwrap();
        assert!(titles.is_view && titles.columns.len() == 3, "{titles:?}");
        assert_eq!(titles.columns[..2], ["title", "No"]);
        assert_eq!(here.table(Some("public"), "all_notes").unwrap().columns.len(), 4);
        assert!(here.table(Some("information_schema"), "columns").is_some_and(|table| !table.is_view));
        assert_eq!((&read.accounts, &read.prepared), (&here.accounts, &here.prepared));
        assert_eq!(
            (&*here.accounts, &*here.prepared),
            (&["readers".to_owned()][..], &["find".to_owned()][..])
        );
        assert_eq!((&read.schemas, &read.changeable), (&here.schemas, &here.changeable));
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
