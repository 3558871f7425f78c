//! Whose session it is.

use std::sync::Arc;

use cairn_storage::id::UserId;

use super::password::Secret;

/// Somebody who may have a session: made by [`Engine::authenticate`](crate::Engine::authenticate), or the owner. Two are the same
/// when they are of the same user, let in by the same password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Arc<str>,
    /// None: the owner.
    login: Option<Login>,
}

/// What a user was let in by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Login {
    id: UserId,
    /// PHC string of the password, which no other password has, nor the same one when it is set again.
    phc: Secret,
}

impl Identity {
    /// Whoever opened the database: no user of it, and may do everything.
    #[must_use]
    pub fn owner() -> Self {
        Self { name: Arc::from(""), login: None }
    }

    pub(crate) fn user(name: &str, id: UserId, phc: &str) -> Self {
        Self { name: Arc::from(name), login: Some(Login { id, phc: Secret::new(phc.to_owned()) }) }
    }

    /// Name of the user; empty for the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is whoever opened the database.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.login.is_none()
    }

    /// Whether it is the same user, by whatever password.
    #[must_use]
    pub fn is_same_user_as(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// The user; None: the owner.
    pub(crate) fn id(&self) -> Option<UserId> {
        self.login.as_ref().map(|login| login.id)
    }

    /// Whether `phc` is of the password that it was let in by; the owner needs none.
    pub(crate) fn came_by(&self, phc: Option<&str>) -> bool {
        self.login.as_ref().is_none_or(|login| phc == Some(login.phc.reveal()))
    }
}
