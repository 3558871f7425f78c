//! Statements that need no planner: INSERT of literals, SELECT, UPDATE and DELETE by full primary key, the nearest rows to a vector.
//!
//! Owns: recognising them. Anything unusual gives None and is planned, so both ways give the same rows and errors; both end
//! in the same calls as the planned ones (`dml`, `scan::point`, `search`).

mod change;
mod key;
mod nearest;

use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;

use super::{Session, upkeep};
use crate::config::Settings;
use crate::dml;
use crate::error::Result;
use crate::output::{Output, RowStream};
use crate::statement::Statement;
use change::KeyChange;
use key::KeyRead;
use nearest::NearestRead;

/// A statement that needs no planner, as it was written. INSERTs are looked at when they are run.
#[derive(Debug)]
pub(super) enum Direct {
    Key(KeyRead),
    Nearest(Box<NearestRead>),
    Change(KeyChange),
}

impl Direct {
    /// None: plan it.
    pub(super) fn recognise(statement: &Statement) -> Option<Self> {
        let query = match statement {
            Statement::Query(query) => query,
            Statement::Dml(change) => return KeyChange::recognise(change).map(Self::Change),
            _ => return None,
        };
        KeyRead::recognise(query)
            .map(Self::Key)
            .or_else(|| NearestRead::recognise(query).map(Box::new).map(Self::Nearest))
    }

    /// Whether it is over before other threads would have begun.
    pub(super) fn is_short(&self) -> bool {
        matches!(self, Self::Key(_))
    }
}

/// The answer of a statement that needs no planner; None: plan it.
///
/// # Errors
/// What storage says of the rows; `Conflict` when a fresh snapshot may succeed.
pub(super) async fn run(
    session: &Session,
    settings: &Settings,
    params: Option<&ParamValues>,
    statement: &Statement,
    direct: Option<&Direct>,
) -> Result<Option<Output>> {
    if let Some(Direct::Change(change)) = direct {
        return change.run(session, settings, params).await;
    }
    if let Statement::Dml(_) = statement {
        let rows = insert(session, settings, &[params], statement).await?;
        return Ok(rows.map(|rows| Output::Affected { verb: "INSERT", rows, notes: Vec::new() }));
    }
    let db = session.engine.database();
    let Some(direct) = direct else { return Ok(None) };
    let open = session.in_transaction();
    if db.follows() && !open {
        Box::pin(upkeep::refresh(db)).await?;
    }
    let snapshot = session.snapshot();
    let rights = session.rights(&snapshot).await?;
    let answer = match direct {
        Direct::Key(read) => read.run(&snapshot, &rights, &settings.search_path, params).await,
        // Boxed, what is large or rare: INSERTs are moved with it.
        Direct::Nearest(read) => Box::pin(read.run(session, &snapshot, &rights, settings, params)).await,
        Direct::Change(_) => return Ok(None),
    };
    match answer {
        // Planned, at a newer version.
        Err(error) if error.kind() == ErrorKind::SnapshotExpired && !open => {
            Box::pin(upkeep::refresh_past(db, &snapshot)).await?;
            Ok(None)
        }
        answer => answer,
    }
}

/// Writes what an INSERT that needs no planner inserts for each of `params`, all at once; returns how many rows. None: plan it.
///
/// # Errors
/// As [`run`].
pub(super) async fn insert(
    session: &Session,
    settings: &Settings,
    params: &[Option<&ParamValues>],
    statement: &Statement,
) -> Result<Option<u64>> {
    let Statement::Dml(statement) = statement else { return Ok(None) };
    let ast::Statement::Insert(insert) = statement.as_ref() else { return Ok(None) };
    let (db, block) = (session.engine.database(), session.block());
    let snapshot = block.as_ref().map_or_else(|| db.snapshot(), |block| block.snapshot());
    let rights = session.rights(&snapshot).await?;
    let seen = (&snapshot, &rights);
    dml::insert_directly(db, block.as_deref(), seen, settings, params, insert).await
}

pub(super) fn one_batch(batch: RecordBatch) -> Output {
    one_held_batch(batch, ())
}

/// As [`one_batch`]; `held` is dropped when the batch is taken.
fn one_held_batch(batch: RecordBatch, held: impl Send + 'static) -> Output {
    let schema = batch.schema();
    let rows = (batch.num_rows() > 0).then_some((batch, held));
    let stream = futures::stream::iter(rows).map(|(batch, _held)| Ok(batch));
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
    Output::Rows(RowStream::new(schema, stream))
}
