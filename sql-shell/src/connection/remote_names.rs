//! The names of a server's database, for completion.
//!
//! Owns: the one query that reads them, and taking its rows apart. It runs in the session, so that it sees what the session's
//! transaction and user see.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
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
        let texts: Vec<_> = batch.columns().iter().filter_map(|c| c.as_string_opt::<i32>()).collect();
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
