//! Users, roles and grants at one version, as values.
//!
//! Owns: who is in which roles and what was granted to whom; keeping them while the tables behind them stay the same. Does
//! not own: their rows (`tables`), what a session may do with it all (`held`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cairn_storage::id::{RowId, UserId};
use cairn_storage::version::TableState;
use cairn_storage::{ErrorKind, Snapshot};
use datafusion::execution::context::SessionState;

use super::tables;
use super::{Identity, Right, RightSet, UserLimits};
use crate::error::{Error, Result};

/// Versions of the accounts kept: the newest, and those that open transactions read.
const KEPT_MAX: usize = 4;

/// Everybody: whoever has a session is in this role.
pub(super) const PUBLIC: UserId = UserId(0);

/// A user, or a role.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(super) row: RowId,
    pub(crate) id: UserId,
    pub(crate) name: String,
    /// May do everything.
    pub(crate) superuser: bool,
    /// PHC string of the password; None: a role.
    pub(super) password: Option<String>,
    pub(crate) limits: UserLimits,
    /// Rows that `limits` stand in.
    pub(super) limit_rows: Vec<RowId>,
}

impl Account {
    /// PHC string of the password; None: a role.
    pub(crate) fn phc(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(crate) fn is_role(&self) -> bool {
        self.password.is_none()
    }
}

/// That somebody is in a role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) row: RowId,
    pub(super) role: UserId,
    pub(super) member: UserId,
}

/// What a grant is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    Database,
    Schema(String),
    /// Table or view: schema and name.
    Table(String, String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database => f.write_str("the database"),
            Self::Schema(schema) => write!(f, "schema {schema}"),
            Self::Table(schema, name) => write!(f, "{schema}.{name}"),
        }
    }
}

/// One right on one thing.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(super) row: RowId,
    pub(crate) grantee: UserId,
    pub(crate) on: Scope,
    pub(crate) right: Right,
}

/// Rights of one grantee.
#[derive(Debug, Default)]
struct Granted {
    database: RightSet,
    schemas: HashMap<String, RightSet>,
    tables: HashMap<String, HashMap<String, RightSet>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_name: BTreeMap<String, Account>,
    names: HashMap<UserId, String>,
    pub(super) memberships: Vec<Membership>,
    grants: Vec<Grant>,
    granted: HashMap<UserId, Granted>,
    /// Each with all its roles, those of its roles included, itself and everybody.
    roles: HashMap<UserId, Vec<UserId>>,
}

impl Accounts {
    pub(super) fn new(accounts: Vec<Account>, memberships: Vec<Membership>, grants: Vec<Grant>) -> Self {
        let mut granted: HashMap<UserId, Granted> = HashMap::new();
        for grant in &grants {
            let of = granted.entry(grant.grantee).or_default();
            *match &grant.on {
                Scope::Database => &mut of.database,
                Scope::Schema(schema) => of.schemas.entry(schema.clone()).or_default(),
                Scope::Table(schema, name) => {
                    of.tables.entry(schema.clone()).or_default().entry(name.clone()).or_default()
                }
            } |= RightSet::of(grant.right);
        }
        let mut direct: HashMap<UserId, Vec<UserId>> = HashMap::new();
        for membership in &memberships {
            direct.entry(membership.member).or_default().push(membership.role);
        }
        let roles = accounts.iter().map(|account| (account.id, closure(account.id, &direct))).collect();
        Self {
            names: accounts.iter().map(|account| (account.id, account.name.clone())).collect(),
            by_name: accounts.into_iter().map(|account| (account.name.clone(), account)).collect(),
            memberships,
            grants,
            granted,
            roles,
        }
    }

    /// All of them, by name.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.by_name.values()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name)
    }

    pub(crate) fn account(&self, id: UserId) -> Option<&Account> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// The account of `identity`; None: it is the owner, who has none.
    ///
    /// # Errors
    /// `Unauthenticated` (28000) when the user is there no more.
    pub(crate) fn of(&self, identity: &Identity) -> Result<Option<&Account>> {
        let Some(id) = identity.id() else { return Ok(None) };
        self.account(id).map(Some).ok_or_else(|| {
            let message = format!("user {} does not exist any more", identity.name());
            Error::new(ErrorKind::Unauthenticated, message).map(|e| e.with_sqlstate("28000"))
        })
    }

    /// What `id` is called in GRANT.
    pub(crate) fn name(&self, id: UserId) -> Option<&str> {
        if id == PUBLIC { Some("public") } else { self.names.get(&id).map(String::as_str) }
    }

    /// Itself, its roles and everybody; empty when there is nobody of that id.
    pub(crate) fn roles(&self, id: UserId) -> &[UserId] {
        self.roles.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Names of the roles that `id` was put into itself, sorted.
    pub(crate) fn roles_given(&self, id: UserId) -> Vec<&str> {
        let given = self.memberships.iter().filter(|m| m.member == id);
        let mut names: Vec<&str> = given.filter_map(|m| self.name(m.role)).collect();
        names.sort_unstable();
        names
    }

    /// Names of those that were put into the role `id`, sorted.
    pub(crate) fn members(&self, id: UserId) -> Vec<&str> {
        let members = self.memberships.iter().filter(|m| m.role == id);
        let mut names: Vec<&str> = members.filter_map(|m| self.name(m.member)).collect();
        names.sort_unstable();
        names
    }

    /// Whether `id` is there and may do the same as by `other`.
    pub(crate) fn stands_as(&self, id: UserId, other: &Self) -> bool {
        let (Some(now), Some(then)) = (self.account(id), other.account(id)) else { return false };
        let granted = |accounts: &Self| -> (HashSet<UserId>, HashSet<(UserId, Scope, Right)>) {
            let roles: HashSet<UserId> = accounts.roles(id).iter().copied().collect();
            let grants = accounts.grants.iter().filter(|grant| roles.contains(&grant.grantee));
            let grants = grants.map(|grant| (grant.grantee, grant.on.clone(), grant.right)).collect();
            (roles, grants)
        };
        now.superuser == then.superuser && granted(self) == granted(other)
    }

    pub(crate) fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// What `id` may do with a table by grants, on it, its schema or the database.
    pub(super) fn on_table(&self, id: UserId, schema: &str, name: &str) -> RightSet {
        let mut rights = self.on_schema(id, schema);
        for granted in self.granted_to(id) {
            rights |= granted.tables.get(schema).and_then(|t| t.get(name)).copied().unwrap_or_default();
        }
        rights
    }

    /// What `id` may do with everything in a schema.
    pub(super) fn on_schema(&self, id: UserId, schema: &str) -> RightSet {
        let mut rights = self.on_database(id);
        for granted in self.granted_to(id) {
            rights |= granted.schemas.get(schema).copied().unwrap_or_default();
        }
        rights
    }

    /// What `id` may do with everything.
    pub(super) fn on_database(&self, id: UserId) -> RightSet {
        let mut rights = RightSet::default();
        for granted in self.granted_to(id) {
            rights |= granted.database;
        }
        rights
    }

    fn granted_to(&self, id: UserId) -> impl Iterator<Item = &Granted> {
        self.roles(id).iter().filter_map(|role| self.granted.get(role))
    }
}

/// Every role that `id` is in, over any number of steps; a circle of roles ends.
fn closure(id: UserId, direct: &HashMap<UserId, Vec<UserId>>) -> Vec<UserId> {
    let mut found = vec![id, PUBLIC];
    let mut seen: HashSet<UserId> = found.iter().copied().collect();
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        found.extend(direct.get(&of).into_iter().flatten().copied().filter(|role| seen.insert(*role)));
        next += 1;
    }
    found
}

/// The tables behind accounts, which are the same as long as these pointers are.
type Behind = [Weak<TableState>; tables::NAMES.len()];

/// Accounts read lately.
#[derive(Debug, Default)]
pub(crate) struct AccountCache(Mutex<VecDeque<(Behind, Arc<Accounts>)>>);

impl AccountCache {
    /// The accounts at `snapshot`.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn at(&self, snapshot: &Snapshot, state: &SessionState) -> Result<Arc<Accounts>> {
        let behind = tables::NAMES.map(|name| tables::find(snapshot, name));
        let same = |known: &Behind| {
            known.iter().zip(&behind).all(|(known, table)| match table {
                Some(table) => std::ptr::eq(known.as_ptr(), Arc::as_ptr(table.state())),
                None => known.ptr_eq(&Weak::new()),
            })
        };
        if let Some((_, accounts)) = self.lock().iter().find(|(known, _)| same(known)) {
            return Ok(Arc::clone(accounts));
        }
        let accounts = Arc::new(tables::read(&behind, state).await?);
        let key = behind.map(|table| table.map_or_else(Weak::new, |t| Arc::downgrade(t.state())));
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(&accounts)));
        Ok(accounts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Behind, Arc<Accounts>)>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: u64, name: &str) -> Account {
        Account {
            row: RowId(id),
            id: UserId(id),
            name: name.to_owned(),
            superuser: false,
            password: None,
            limits: UserLimits::default(),
            limit_rows: Vec::new(),
        }
    }

    fn grant(grantee: UserId, on: Scope, right: Right) -> Grant {
        Grant { row: RowId(1), grantee, on, right }
    }

    #[test]
    fn rights_come_over_roles_schemas_and_the_database() {
        let names = ["a", "b", "c", "d"];
        let accounts = (1..).zip(names).map(|(id, name)| account(id, name)).collect();
        let member = |role, member| Membership { row: RowId(1), role: UserId(role), member: UserId(member) };
        // d is in c, c in b, and b in c again.
        let memberships = vec![member(3, 4), member(2, 3), member(3, 2)];
        let table = || Scope::Table("s".to_owned(), "t".to_owned());
        let accounts = Accounts::new(
            accounts,
            memberships,
            vec![
                grant(UserId(2), table(), Right::Select),
                grant(UserId(4), Scope::Schema("s".to_owned()), Right::Insert),
                grant(PUBLIC, Scope::Database, Right::Create),
            ],
        );
        let rights = |id, schema, name| {
            let rights = accounts.on_table(UserId(id), schema, name);
            Right::ALL.into_iter().filter(|r| rights.has(*r)).collect::<Vec<_>>()
        };
        assert_eq!(rights(4, "s", "t"), [Right::Select, Right::Insert, Right::Create]);
        assert_eq!(rights(4, "s", "u"), [Right::Insert, Right::Create]);
        assert_eq!(rights(3, "s", "t"), [Right::Select, Right::Create]);
        assert_eq!(rights(1, "s", "t"), [Right::Create]);
        assert_eq!(rights(9, "s", "t"), [], "nobody has nothing");
    }
}
