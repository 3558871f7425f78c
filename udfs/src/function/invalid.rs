//! What a function says of an argument it cannot use.

use std::fmt;

use datafusion::error::DataFusionError;

/// An argument that a function cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidArgument {
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidArgument {}

/// As the error of a function.
pub(crate) fn invalid(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(InvalidArgument { sqlstate, message: message.into() }))
}
