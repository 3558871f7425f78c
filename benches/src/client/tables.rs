//! GetTables with the schema of each table: GetFlightInfo, and DoGet to the last row.

use std::time::Instant;

use arrow_flight::sql::CommandGetTables;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use futures::TryStreamExt;
use serde_json::json;

use super::connect;
use crate::Result;

/// Asks once without measuring, then `rounds` times; milliseconds of each and how many tables there are.
pub(super) async fn run(url: &str, rounds: usize) -> Result<()> {
    let mut client = connect(url).await?;
    let (mut millis, mut tables) = (Vec::with_capacity(rounds), 0);
    for round in 0..=rounds {
        let started = Instant::now();
        let wanted = CommandGetTables {
            table_types: vec!["TABLE".to_owned()],
            include_schema: true,
            ..CommandGetTables::default()
        };
        let info = client.get_tables(wanted).await?;
        let ticket = info.endpoint.first().and_then(|e| e.ticket.clone()).ok_or("no ticket")?;
        let batches: Vec<RecordBatch> = client.do_get(ticket).await?.try_collect().await?;
        if round > 0 {
            millis.push(started.elapsed().as_secs_f64() * 1e3);
        }
        tables = 0;
        for batch in &batches {
            let schemas = batch.column_by_name("table_schema").ok_or("no schemas")?.as_binary::<i32>();
            if schemas.iter().any(|schema| schema.is_none_or(<[u8]>::is_empty)) {
                return Err("a table has no schema".into());
            }
            tables += schemas.len();
        }
    }
    println!("{}", json!({ "ms": millis, "tables": tables }));
    Ok(())
}
