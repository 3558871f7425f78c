//! Search.

pub(crate) mod pool;
pub(crate) mod walk;
