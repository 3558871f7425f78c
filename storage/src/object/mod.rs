//! The way to objects: the only module that knows how `object_store` stores behave.
//!
//! Owns: the durable local store, the in-memory store, settling of create-if-absent (D9). Does not own: what
//! the objects are. A put that returned is durable.

mod local;
mod meter;
mod put;
mod url;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

pub use local::LocalStore;
pub use meter::{ReadFigures, ReadMeter};
pub(crate) use put::put_settled;
pub use put::{Put, put_if_absent, put_own};
pub use url::{Scheme, StoreUrl};

/// An empty store in memory.
#[must_use]
pub fn open_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[cfg(test)]
mod tests;
