//! A prepared statement: its text, its description, and the parameter rows a client has bound to it.

use std::sync::{Mutex, PoisonError};

use cairn_engine::Description;
use datafusion::arrow::array::RecordBatch;

use crate::handle::Handle;

/// See the module.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    pub(crate) text: String,
    pub(crate) description: Description,
    /// The transaction it was prepared in.
    pub(crate) transaction: Option<Handle>,
    bound: Mutex<Option<Vec<RecordBatch>>>,
}

impl PreparedStatement {
    pub(crate) fn new(text: String, description: Description, transaction: Option<Handle>) -> Self {
        Self { text, description, transaction, bound: Mutex::default() }
    }

    /// Puts `rows` in place of what was bound before; None: nothing is bound any more, which no rows at all are not.
    pub(crate) fn bind(&self, rows: Option<Vec<RecordBatch>>) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// What is bound, if anything.
    pub(crate) fn bound(&self) -> Option<Vec<RecordBatch>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
