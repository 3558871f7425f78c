//! What one session may do at one version.
//!
//! Owns: every answer to "may it?", and the error when it may not. The owner and superusers may do everything; who made a
//! table or view may do everything with it; others need a grant.

use std::sync::Arc;

use cairn_storage::id::UserId;
use cairn_storage::schema::{TableDef, ViewDef};
use cairn_storage::{ErrorKind, Snapshot};

use super::accounts::Accounts;
use super::{Identity, Right};
use crate::error::{Error, Result};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Rights {
    /// All there are.
    All,
    /// Those of a user.
    Of(Arc<Held>),
}

/// The rights of a user.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    id: UserId,
    name: String,
    /// At the statement's version.
    accounts: Arc<Accounts>,
    /// At the newest version, when that may be another.
    newest: Option<Arc<Accounts>>,
    /// May do everything, but only here: in the view of a superuser.
    powerful: bool,
}

impl Rights {
    /// Those of `identity` by the accounts of a statement's version and, in a transaction, of the newest.
    ///
    /// # Errors
    /// `Unauthenticated` (28000) when the user is there no more.
    pub(crate) fn of(
        identity: &Identity,
        accounts: &Arc<Accounts>,
        newest: Option<&Arc<Accounts>>,
    ) -> Result<Self> {
        match newest.unwrap_or(accounts).of(identity)? {
            None => Ok(Self::All),
            Some(account) => Ok(Self::held(account.id, identity.name(), accounts, newest)),
        }
    }

    /// Those of a session that has run nothing yet: whoever is no owner has none.
    pub(crate) fn before_any(identity: &Identity) -> Self {
        match identity.id() {
            None => Self::All,
            Some(id) => Self::held(id, identity.name(), &Arc::default(), None),
        }
    }

    fn held(id: UserId, name: &str, accounts: &Arc<Accounts>, newest: Option<&Arc<Accounts>>) -> Self {
        let held = Held {
            id,
            name: name.to_owned(),
            accounts: Arc::clone(accounts),
            newest: newest.cloned(),
            powerful: false,
        };
        if held.is_superuser() { Self::All } else { Self::Of(Arc::new(held)) }
    }

    /// Those that the query of a view is run with: of whoever wrote it, as they are now. A session that may do everything
    /// keeps doing so; within the view of a superuser those of the views it reads are their owners' again.
    pub(crate) fn of_view(&self, view: &ViewDef) -> Self {
        let Self::Of(held) = self else { return Self::All };
        let Some(owner) = view.owner else {
            // Made when there were no users: as a superuser's.
            return Self::Of(Arc::new(Held { powerful: true, ..Held::clone(held) }));
        };
        let name = held.accounts.name(owner).unwrap_or("that is there no more");
        let of = Held { id: owner, name: name.to_owned(), powerful: false, ..Held::clone(held) };
        let powerful = of.is_superuser();
        Self::Of(Arc::new(Held { powerful, ..of }))
    }

    /// Whether rows that a view hides are to stay hidden from these: its query is run with the rights of somebody else.
    pub(crate) fn need_screen(&self, view: &ViewDef) -> bool {
        match (self, view.owner) {
            (Self::All, _) => false,
            (Self::Of(held), Some(owner)) => owner != held.id,
            (Self::Of(held), None) => !held.powerful,
        }
    }

    /// Whether these are those of `other`, by the same accounts: nothing was granted or revoked between them.
    pub(crate) fn are_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Of(a), Self::Of(b)) => {
                a.id == b.id
                    && a.powerful == b.powerful
                    && Arc::ptr_eq(&a.accounts, &b.accounts)
                    && a.newest.as_ref().map(Arc::as_ptr) == b.newest.as_ref().map(Arc::as_ptr)
            }
            _ => false,
        }
    }

    /// Whether there is nothing it may not do.
    pub(crate) fn are_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// The user; None: they are all.
    pub(crate) fn user(&self) -> Option<UserId> {
        match self {
            Self::All => None,
            Self::Of(held) => Some(held.id),
        }
    }

    /// Itself, its roles and everybody.
    pub(crate) fn is_in(&self, role: UserId) -> bool {
        match self {
            Self::All => true,
            Self::Of(held) => held.powerful || held.everywhere(|a| a.roles(held.id).contains(&role)),
        }
    }

    /// Whether `right` is held on a table.
    pub(crate) fn may(&self, right: Right, table: &TableDef) -> bool {
        self.owns(table.owner) || self.granted(right, &table.schema, &table.name)
    }

    /// # Errors
    /// 42501 when it is not.
    pub(crate) fn table(&self, right: Right, table: &TableDef) -> Result<()> {
        if self.may(right, table) { Ok(()) } else { Err(self.lacks(right, &table.schema, &table.name)) }
    }

    /// Whether a view may be read.
    ///
    /// # Errors
    /// 42501 when it may not.
    pub(crate) fn view(&self, view: &ViewDef) -> Result<()> {
        if self.owns(view.owner) || self.granted(Right::Select, &view.schema, &view.name) {
            return Ok(());
        }
        Err(self.lacks(Right::Select, &view.schema, &view.name))
    }

    /// Whether something may be made in a schema.
    ///
    /// # Errors
    /// 42501 when it may not.
    pub(crate) fn create_in(&self, schema: &str) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        if held.everywhere(|a| a.on_schema(held.id, schema).has(Right::Create)) {
            return Ok(());
        }
        Err(self.denied(
            format!("{} has no CREATE right in schema {schema}", held.who()),
            format!("a superuser can give it: GRANT CREATE ON SCHEMA {schema} TO {}", held.name),
        ))
    }

    /// Whether schemas may be made and dropped.
    ///
    /// # Errors
    /// 42501 when they may not.
    pub(crate) fn change_schemas(&self) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        if held.everywhere(|a| a.on_database(held.id).has(Right::Create)) {
            return Ok(());
        }
        Err(self.denied(
            format!("{} has no CREATE right on the database", held.who()),
            format!("a superuser can give it: GRANT CREATE ON DATABASE TO {}", held.name),
        ))
    }

    /// Whether it is one's own, to change its definition, to drop it or to give others rights on it.
    ///
    /// # Errors
    /// 42501 when it is not.
    pub(crate) fn own(&self, owner: Option<UserId>, schema: &str, name: &str) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        if self.owns(owner) {
            return Ok(());
        }
        Err(self.denied(
            format!("{} is not the owner of {schema}.{name}", held.who()),
            "its owner and superusers may do this".to_owned(),
        ))
    }

    /// The same of all of `things`: owner, schema and name of each.
    ///
    /// # Errors
    /// 42501 when one is not, which names those that show.
    pub(crate) fn own_all(&self, things: &[(Option<UserId>, String, String)]) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        let mut others = things.iter().filter(|(owner, ..)| !self.owns(*owner)).peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        Err(self.denied(
            format!("{} is not the owner of {}", held.who(), self.names(others)),
            "their owners and superusers may do this".to_owned(),
        ))
    }

    /// The names of those of `things` that show, and whether there are others.
    pub(crate) fn names<'a>(
        &self,
        things: impl IntoIterator<Item = &'a (Option<UserId>, String, String)>,
    ) -> String {
        let (shown, hidden): (Vec<_>, Vec<_>) =
            things.into_iter().partition(|(owner, schema, name)| self.sees(*owner, schema, name));
        let names = shown.iter().map(|(_, schema, name)| format!("{schema}.{name}"));
        let names = names.collect::<Vec<_>>().join(", ");
        match (names.is_empty(), hidden.is_empty()) {
            (_, true) => names,
            (true, false) => "other objects".to_owned(),
            (false, false) => format!("{names} and other objects"),
        }
    }

    /// What only superusers may do.
    ///
    /// # Errors
    /// 42501 for others.
    pub(crate) fn superuser(&self, what: &str) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        if held.powerful {
            return Ok(());
        }
        Err(self.denied(format!("{} may not {what}", held.who()), "superusers may".to_owned()))
    }

    /// Whether anything may be done with a table or view, so that it shows in lists.
    pub(crate) fn sees(&self, owner: Option<UserId>, schema: &str, name: &str) -> bool {
        let Self::Of(held) = self else { return true };
        // Who may make tables in a schema need not know of those that are there.
        let shows = |right| right != Right::Create && self.granted(right, schema, name);
        held.powerful || self.owns(owner) || Right::ALL.into_iter().any(shows)
    }

    /// As [`Self::sees`].
    ///
    /// # Errors
    /// 42501 when nothing may be.
    pub(crate) fn see(&self, owner: Option<UserId>, schema: &str, name: &str) -> Result<()> {
        let Self::Of(held) = self else { return Ok(()) };
        if self.sees(owner, schema, name) {
            return Ok(());
        }
        Err(self.denied(
            format!("{} has no right on {schema}.{name}", held.who()),
            format!(
                "its owner or a superuser can give one: GRANT SELECT ON {schema}.{name} TO {}",
                held.name
            ),
        ))
    }

    /// Whether a schema shows in lists: it is everybody's, something may be done in it, or with something in it.
    pub(crate) fn sees_schema(&self, snapshot: &Snapshot, schema: &str) -> bool {
        let Self::Of(held) = self else { return true };
        let catalog = snapshot.catalog();
        schema == crate::config::DEFAULT_SCHEMA
            || held.everywhere(|a| !a.on_schema(held.id, schema).is_empty())
            || catalog.tables(schema).any(|t| self.sees(t.owner, schema, &t.name))
            || catalog.views(schema).any(|v| self.sees(v.owner, schema, &v.name))
    }

    fn owns(&self, owner: Option<UserId>) -> bool {
        match self {
            Self::All => true,
            Self::Of(held) if held.powerful => true,
            // Whoever it is must still be there.
            Self::Of(held) => owner == Some(held.id) && held.everywhere(|a| a.account(held.id).is_some()),
        }
    }

    fn granted(&self, right: Right, schema: &str, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(held) => {
                held.powerful || held.everywhere(|a| a.on_table(held.id, schema, name).has(right))
            }
        }
    }

    fn lacks(&self, right: Right, schema: &str, name: &str) -> Error {
        let Self::Of(held) = self else { return Error::new(ErrorKind::Internal, "a right that is held") };
        self.denied(
            format!("{} has no {right} right on {schema}.{name}", held.who()),
            format!(
                "its owner or a superuser can give it: GRANT {right} ON {schema}.{name} TO {}",
                held.name
            ),
        )
    }

    fn denied(&self, message: String, hint: String) -> Error {
        Error::new(ErrorKind::PermissionDenied, format!("permission denied: {message}"))
            .map(|e| e.with_hint(hint))
    }
}

impl Held {
    /// Whether it is so by all the versions that count.
    fn everywhere(&self, is: impl Fn(&Accounts) -> bool) -> bool {
        is(&self.accounts) && self.newest.as_deref().is_none_or(is)
    }

    fn is_superuser(&self) -> bool {
        self.everywhere(|a| a.account(self.id).is_some_and(|account| account.superuser))
    }

    fn who(&self) -> String {
        format!("user {}", self.name)
    }
}
