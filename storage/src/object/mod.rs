//! The way to objects: the only module that knows how `object_store` stores behave.
//!
//! Owns: the durable local store, the in-memory store, clients of remote ones (`remote`) and their steadiness (`steady`),
//! whether a store can hold a database (`probe`), what its errors mean (`reason`), settling of create-if-absent (D9). Does
//! not own: what the objects are. A put that returned is durable.

mod cached;
#[cfg(test)]
pub(crate) mod counting;
mod local;
mod meter;
mod probe;
mod put;
mod ranges;
mod reason;
mod remote;
mod steady;
mod url;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

pub(crate) use cached::folder_of;
pub use cached::{CachedStore, default_cache_directory};
pub use local::LocalStore;
pub use meter::{ReadFigures, ReadMeter};
pub use probe::probe;
pub(crate) use put::put_settled;
pub use put::{Put, put_if_absent, put_own};
pub(crate) use reason::{describe, judged};
pub(crate) use remote::address;
pub use remote::{StoreSettings, client, connect, connect_with};
pub use steady::{RequestLimits, SteadyStore, metered_ranges, steady};
pub use url::{Scheme, StoreUrl};

pub(crate) use cached::{BLOCK_BYTES as CACHE_BLOCK_BYTES, PastCache, past_cache};
pub(crate) use ranges::{read_apart, read_object, read_ranges, requests};

/// An empty store in memory.
#[must_use]
pub fn open_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[cfg(test)]
mod tests;
