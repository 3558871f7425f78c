//! Why a statement, or opening a database, failed: the same whether the engine is in this process or at a server.

use cairn_engine::{Error, Position};
use cairn_server::StatementFailure;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// SQLSTATE.
    pub(crate) sqlstate: String,
    /// One sentence.
    pub(crate) message: String,
    /// Where in the statement, when known.
    pub(crate) position: Option<Position>,
    /// Facts behind it.
    pub(crate) detail: Option<Box<str>>,
    /// The next step.
    pub(crate) hint: Option<Box<str>>,
    /// Whether there is no session any more that a script could go on in.
    pub(crate) is_end: bool,
}

impl Failure {
    /// A failure without a place.
    pub(crate) fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        Self {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            position: None,
            detail: None,
            hint: None,
            is_end: false,
        }
    }

    /// Whether bytes are not what was written.
    pub(crate) fn tells_damage(&self) -> bool {
        self.sqlstate == "XX001"
    }

    /// Says the next step.
    pub(crate) fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Ends scripts.
    pub(crate) fn that_ends(mut self) -> Self {
        self.is_end = true;
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            position: error.position(),
            detail: error.detail().map(Into::into),
            hint: error.hint().map(Into::into),
            ..Self::new(error.sqlstate(), error.message())
        }
    }
}

impl From<StatementFailure> for Failure {
    fn from(error: StatementFailure) -> Self {
        let StatementFailure { sqlstate, message, position, detail, hint } = error;
        let (detail, hint) = (detail.map(Into::into), hint.map(Into::into));
        Self { sqlstate, message, position, detail, hint, is_end: false }
    }
}
