//! Whose session it is.

use std::sync::Arc;

use cairn_storage::id::UserId;

/// Somebody who may have a session: made by [`Engine::authenticate`](crate::Engine::authenticate), or the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Arc<str>,
    /// None: the owner.
    id: Option<UserId>,
}

impl Identity {
    /// Whoever opened the database: no user of it, and may do everything.
    #[must_use]
    pub fn owner() -> Self {
        Self { name: Arc::from(""), id: None }
    }

    pub(crate) fn user(name: &str, id: UserId) -> Self {
        Self { name: Arc::from(name), id: Some(id) }
    }

    /// Name of the user; empty for the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is whoever opened the database.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.id.is_none()
    }

    /// The user; None: the owner.
    pub(crate) fn id(&self) -> Option<UserId> {
        self.id
    }
}
