//! SELECT of one row by its primary key, prepared once on each connection.
//!
//! One lookup is what `arrow-flight` makes of it: DoPut of the key, GetFlightInfo, DoGet.

use std::sync::Arc;

use arrow_flight::sql::client::PreparedStatement;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;

use super::many::{Ask, Many};
use super::{Client, connect};
use crate::Result;

struct Lookup {
    client: Client,
    statement: PreparedStatement<Channel>,
    rows: i64,
    rng: StdRng,
}

/// Looks up random rows of `items`, whose keys are 0 to `rows`.
pub(super) async fn run(url: &str, many: Many, rows: i64) -> Result<()> {
    let mut lookups = Vec::with_capacity(many.clients);
    for number in 0..many.clients {
        let mut client = connect(url).await?;
        let statement = client.prepare("SELECT * FROM items WHERE id = $1".to_owned(), None).await?;
        lookups.push(Lookup { client, statement, rows, rng: StdRng::seed_from_u64(number as u64) });
    }
    println!("{}", many.run(lookups).await?);
    Ok(())
}

impl Ask for Lookup {
    async fn ask(&mut self) -> Result<()> {
        let key = self.rng.random_range(0..self.rows);
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![key]));
        self.statement.set_parameters(RecordBatch::try_from_iter([("1", keys)])?)?;
        let info = self.statement.execute().await?;
        let ticket = info.endpoint.first().and_then(|e| e.ticket.clone()).ok_or("no ticket")?;
        let batches: Vec<RecordBatch> = self.client.do_get(ticket).await?.try_collect().await?;
        let found: Vec<i64> =
            batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        if found != [key] {
            return Err(format!("rows {found:?} for key {key}").into());
        }
        Ok(())
    }
}
