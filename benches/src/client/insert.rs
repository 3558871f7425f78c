//! Durable INSERTs of one row each, prepared once on each connection.
//!
//! One of them is what `arrow-flight` makes of it: DoPut of the values, DoPut of the statement.

use std::sync::Arc;

use arrow_flight::sql::client::PreparedStatement;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use tonic::transport::Channel;

use super::connect;
use super::many::{Ask, Many};
use crate::Result;

struct Insert {
    statement: PreparedStatement<Channel>,
    /// Keys of one client are as far apart as there are clients.
    next: i64,
    step: i64,
}

/// Inserts rows into `entries`, whose keys are `first` and larger.
pub(super) async fn run(url: &str, many: Many, first: i64) -> Result<()> {
    let step = i64::try_from(many.clients)?;
    let mut inserts = Vec::with_capacity(many.clients);
    for number in 0..step {
        let insert = "INSERT INTO entries VALUES ($1, $2, $3)".to_owned();
        let statement = connect(url).await?.prepare(insert, None).await?;
        inserts.push(Insert { statement, next: first + number, step });
    }
    println!("{}", many.run(inserts).await?);
    Ok(())
}

impl Ask for Insert {
    async fn ask(&mut self) -> Result<()> {
        let id = self.next;
        self.next += self.step;
        let values: [(&str, ArrayRef); 3] = [
            ("1", Arc::new(Int64Array::from(vec![id]))),
            ("2", Arc::new(Int64Array::from(vec![id * 7]))),
            ("3", Arc::new(StringArray::from(vec![format!("a row of some length {id}")]))),
        ];
        self.statement.set_parameters(RecordBatch::try_from_iter(values)?)?;
        match self.statement.execute_update().await? {
            1 => Ok(()),
            rows => Err(format!("{rows} rows inserted instead of 1").into()),
        }
    }
}
