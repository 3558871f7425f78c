//! COPY of lineitem into a new database; the statement returns when the rows are durable.

use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::TABLES;
use serde_json::json;

use crate::data::Home;
use crate::database::Bench;
use crate::{Format, Result};

/// Loads once; rows, seconds, and whether they are all there.
pub(crate) async fn run(home: &Home, format: Format, key: bool) -> Result<()> {
    let copy = match format {
        Format::Parquet => {
            format!("COPY lineitem FROM '{}'", home.parquet()?.join("lineitem.parquet").display())
        }
        Format::Csv => {
            format!("COPY lineitem FROM '{}' WITH (format 'csv', header true)", home.csv()?.display())
        }
    };
    let lineitem = TABLES.iter().find(|t| t.name == "lineitem").ok_or("no lineitem")?;
    let folder = tempfile::tempdir_in(home.folder())?;
    let db = Bench::open(&folder.path().join("db"), OpenOptions::default()).await?;
    db.run(&lineitem.create(key)).await?;
    let started = Instant::now();
    let rows = db.run(&copy).await?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = size(&folder.path().join("db"))?;
    println!("{}", json!({ "rows": rows, "seconds": seconds, "bytes": bytes }));
    db.close().await
}

/// Bytes of all files under a folder.
pub(crate) fn size(folder: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { size(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}
