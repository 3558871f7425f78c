//! One result on its way to where results go.
//!
//! Owns: that each batch is written, by a pager or not, and kept. Does not own: what is said when that fails (`shell`).

use std::io::{self, Write};

use cairn_engine::text::RowWriter;
use datafusion::arrow::array::RecordBatch;

use crate::kept::Kept;
use crate::pager::Paged;
use crate::sink::Sink;

/// See the module.
pub(crate) struct Showing {
    rows: Box<dyn RowWriter>,
    paged: Option<Paged>,
    kept: Option<Kept>,
}

impl Showing {
    /// A result without rows so far.
    pub(crate) fn new(rows: Box<dyn RowWriter>, paged: Option<Paged>, kept: Option<Kept>) -> Self {
        Self { rows, paged, kept }
    }

    /// Whether it goes to the screen by way of a pager.
    pub(crate) fn is_paged(&self) -> bool {
        self.paged.is_some()
    }

    /// The next rows.
    ///
    /// # Errors
    /// Those of `sink`, or of the pager, which is `BrokenPipe` when the user left it.
    pub(crate) fn batch(&mut self, batch: &RecordBatch, sink: &mut Sink) -> io::Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.push(batch);
        }
        match &mut self.paged {
            Some(paged) => self.rows.batch(batch, paged),
            None => self.rows.batch(batch, sink).and_then(|()| sink.flush()),
        }
    }

    /// After the last rows; what was kept of them.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub(crate) fn finish(self, sink: &mut Sink) -> io::Result<Option<Kept>> {
        let Self { mut rows, paged, kept } = self;
        match paged {
            None => rows.finish(sink).and_then(|()| sink.flush())?,
            Some(mut paged) => match rows.finish(&mut paged) {
                Ok(()) => paged.finish(sink)?,
                Err(error) => {
                    paged.leave();
                    return Err(error);
                }
            },
        }
        Ok(kept)
    }

    /// Its statement has failed: what was written of it is shown.
    pub(crate) fn abandon(self, sink: &mut Sink) {
        // Something else is about to be said; that this could not be shown would only hide it.
        let _ = match self.paged {
            Some(paged) => paged.finish(sink),
            None => sink.flush(),
        };
    }
}
