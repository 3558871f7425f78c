//! Statements that run, and whether more may begin.
//!
//! Owns: one pass for each running statement, held until the last byte of its answer. Once closed, the gate lets nobody in and can be
//! waited for to be empty.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    /// None once closed.
    passes: Mutex<Option<mpsc::Sender<()>>>,
    /// Ends when every pass has been given back.
    empty: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// The right to run one statement, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    _held: mpsc::Sender<()>,
}

impl Gate {
    pub(super) fn new() -> Self {
        let (pass, empty) = mpsc::channel(1);
        Self { passes: Mutex::new(Some(pass)), empty: tokio::sync::Mutex::new(empty) }
    }

    /// A pass; None once the gate is closed.
    pub(super) fn enter(&self) -> Option<Pass> {
        self.passes().clone().map(|held| Pass { _held: held })
    }

    /// Whether there are passes.
    pub(super) fn is_open(&self) -> bool {
        self.passes().is_some()
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        drop(self.passes().take());
    }

    /// Ready when the gate is closed and every pass was given back.
    pub(super) async fn emptied(&self) {
        // Nothing is ever sent.
        let _ = self.empty.lock().await.recv().await;
    }

    fn passes(&self) -> MutexGuard<'_, Option<mpsc::Sender<()>>> {
        // Nothing panics while holding it.
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_waits_for_those_inside() {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        gate.close();
        assert!(!gate.is_open() && gate.enter().is_none());
        assert!(tokio::time::timeout(Duration::from_millis(20), gate.emptied()).await.is_err());
        drop(pass);
        gate.emptied().await;
    }
}
