//! CREATE, ALTER and DROP of users and roles, GRANT and REVOKE.
//!
//! Owns: who may run them, and what they change: rows of `tables`, in one transaction each, or in the one that is open.
//! Every GRANT and REVOKE conflicts with what changes the catalog meanwhile, so that it holds for the very things it named.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_storage::id::{RowId, UserId};
use cairn_storage::{ErrorKind, Transaction};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

use super::accounts::{Account, Accounts, Grant, PUBLIC, Scope};
use super::password::{PASSWORD_BYTES_MAX, Secret};
use super::tables::{Own, OwnTables};
use super::{Right, UserLimit, UserLimits};
use crate::catalog::{missing, unknown_schema};
use crate::context::StatementContext;
use crate::ddl::new_name;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::statement::{
    AccountKind, AccountStatement, GrantOn, RightsWanted, ident_position, name_of, object_position,
    schema_and_name,
};

/// Names that stand for somebody else.
const RESERVED: &[&str] = &["public", "cairn", "none", "current_user", "session_user"];

/// Runs one attempt of a statement about users, roles or grants.
///
/// # Errors
/// 42501 for who may not, 42710 and 42704 for names taken and missing; what is wrong with the statement.
pub(crate) async fn run(context: &StatementContext, statement: &AccountStatement) -> Result<Output> {
    let accounts = context.accounts().await?;
    let transaction = context.db.begin(&context.snapshot).await?;
    let change = Change { context, accounts, transaction };
    let (verb, notes) = match statement {
        AccountStatement::CreateUser { name, if_not_exists, password, superuser, limits } => {
            let user = Some(NewUser { password, superuser: *superuser, limits });
            ("CREATE USER", change.create(name, *if_not_exists, user).await?)
        }
        AccountStatement::CreateRole { name, if_not_exists } => {
            ("CREATE ROLE", change.create(name, *if_not_exists, None).await?)
        }
        AccountStatement::AlterUser { name, password, superuser, limits } => {
            change.alter(name, password.as_ref(), *superuser, limits).await?;
            ("ALTER USER", Vec::new())
        }
        AccountStatement::Drop { kind, names, if_exists } => {
            let verb = match kind {
                AccountKind::User => "DROP USER",
                AccountKind::Role => "DROP ROLE",
            };
            (verb, change.drop(*kind, names, *if_exists)?)
        }
        AccountStatement::GrantRole { roles, to } => ("GRANT", change.grant_roles(roles, to).await?),
        AccountStatement::RevokeRole { roles, from } => ("REVOKE", change.revoke_roles(roles, from)?),
        AccountStatement::Grant { rights, on, to } => ("GRANT", change.grant(rights, on, to).await?),
        AccountStatement::Revoke { rights, on, from } => ("REVOKE", change.revoke(rights, on, from)?),
    };
    context.commit(change.transaction).await?;
    Ok(Output::Done { verb, notes })
}

/// Takes the grants on things away that `transaction` drops, so that others of the same names do not have them.
///
/// # Errors
/// Storage errors.
pub(crate) async fn forget(
    context: &StatementContext,
    transaction: &Transaction,
    schemas: &BTreeSet<String>,
    objects: &BTreeSet<(String, String)>,
) -> Result<()> {
    let accounts = context.accounts().await?;
    let gone = accounts.grants().iter().filter(|grant| match &grant.on {
        Scope::Database => false,
        Scope::Schema(schema) => schemas.contains(schema),
        Scope::Table(schema, name) => objects.contains(&(schema.clone(), name.clone())),
    });
    let rows: Vec<RowId> = gone.map(|grant| grant.row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    OwnTables::open(transaction)?.delete(Own::Grants, &rows)
}

/// Grants on a table that `transaction` gives another name are grants on it by that name.
///
/// # Errors
/// Storage errors.
pub(crate) async fn renamed(
    context: &StatementContext,
    transaction: &Transaction,
    schema: &str,
    from: &str,
    to: &str,
) -> Result<()> {
    let accounts = context.accounts().await?;
    let (from, to) =
        (Scope::Table(schema.to_owned(), from.to_owned()), Scope::Table(schema.to_owned(), to.to_owned()));
    let grants: Vec<&Grant> = accounts.grants().iter().filter(|grant| grant.on == from).collect();
    if grants.is_empty() {
        return Ok(());
    }
    let tables = OwnTables::open(transaction)?;
    tables.delete(Own::Grants, &grants.iter().map(|grant| grant.row).collect::<Vec<_>>())?;
    let moved: Vec<(UserId, &Scope, Right)> =
        grants.iter().map(|grant| (grant.grantee, &to, grant.right)).collect();
    tables.add_grants(&moved).await
}

/// What a user has and a role has not.
struct NewUser<'a> {
    password: &'a Secret,
    superuser: bool,
    limits: &'a [(UserLimit, u64)],
}

struct Change<'a> {
    context: &'a StatementContext,
    accounts: Arc<Accounts>,
    transaction: Transaction,
}

impl Change<'_> {
    fn tables(&self) -> Result<OwnTables<'_>> {
        OwnTables::open(&self.transaction)
    }

    /// A user, or a role.
    async fn create(
        &self,
        ident: &Ident,
        if_not_exists: bool,
        user: Option<NewUser<'_>>,
    ) -> Result<Vec<String>> {
        let what = if user.is_some() { "create users" } else { "create roles" };
        self.context.rights.superuser(what)?;
        let name = new_name(ident)?;
        if RESERVED.contains(&name.as_str()) {
            return Err(at(invalid("42939", format!("name {name} is reserved")), ident));
        }
        if let Some(known) = self.accounts.named(&name) {
            let message = format!("{} {name} already exists", kind_of(known));
            if if_not_exists {
                return Ok(vec![format!("{message}, skipped")]);
            }
            return Err(at(Error::new(ErrorKind::AlreadyExists, message), ident));
        }
        let password = match &user {
            Some(user) => Some(self.hash(user.password).await?),
            None => None,
        };
        let superuser = user.as_ref().is_some_and(|user| user.superuser);
        let mut limits = UserLimits::default();
        for (limit, value) in user.map(|user| user.limits).unwrap_or_default() {
            limits.set(*limit, *value);
        }
        let (row, id, limit_rows) = (RowId(0), UserId::random(), Vec::new());
        let account = Account { row, id, name, superuser, password, limits, limit_rows };
        self.tables()?.add_account(&account).await?;
        Ok(Vec::new())
    }

    async fn alter(
        &self,
        ident: &Ident,
        password: Option<&Secret>,
        superuser: Option<bool>,
        limits: &[(UserLimit, u64)],
    ) -> Result<()> {
        let itself = self
            .context
            .rights
            .user()
            .is_some_and(|id| self.accounts.named(&name_of(ident)).is_some_and(|a| a.id == id));
        if !(itself && superuser.is_none() && limits.is_empty()) {
            self.context.rights.superuser("alter other users")?;
        }
        let known = self.find(ident)?;
        if known.is_role() {
            return Err(at(invalid("42809", format!("{} is a role", known.name)), ident));
        }
        if superuser == Some(false) {
            self.keep_superuser(|account| account.id == known.id, |_| false)?;
        }
        let mut account = known.clone();
        if let Some(password) = password {
            account.password = Some(self.hash(password).await?);
        }
        account.superuser = superuser.unwrap_or(account.superuser);
        for (limit, value) in limits {
            account.limits.set(*limit, *value);
        }
        let tables = self.tables()?;
        tables.delete_accounts(&[known])?;
        tables.add_account(&account).await
    }

    fn drop(&self, kind: AccountKind, names: &[Ident], if_exists: bool) -> Result<Vec<String>> {
        let (what, role) = match kind {
            AccountKind::User => ("drop users", false),
            AccountKind::Role => ("drop roles", true),
        };
        self.context.rights.superuser(what)?;
        let mut notes = Vec::new();
        let mut gone: BTreeSet<UserId> = BTreeSet::new();
        let mut dropped = Vec::new();
        for ident in names {
            let account = match self.find(ident) {
                Ok(account) => account,
                Err(error) if if_exists => {
                    notes.push(format!("{}, skipped", error.message()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if account.is_role() != role {
                let (is, other) = if role { ("user", "DROP USER") } else { ("role", "DROP ROLE") };
                return Err(at(invalid("42809", format!("{} is a {is}", account.name)), ident)
                    .map(|e| e.with_hint(format!("use {other}"))));
            }
            if gone.insert(account.id) {
                dropped.push(account);
            }
        }
        if dropped.is_empty() {
            return Ok(notes);
        }
        self.keep_superuser(|account| gone.contains(&account.id), |account| gone.contains(&account.id))?;
        let memberships = self.accounts.memberships.iter();
        let memberships = memberships.filter(|m| gone.contains(&m.role) || gone.contains(&m.member));
        let memberships: Vec<RowId> = memberships.map(|m| m.row).collect();
        let grants = self.accounts.grants().iter().filter(|grant| gone.contains(&grant.grantee));
        let grants: Vec<RowId> = grants.map(|grant| grant.row).collect();
        let tables = self.tables()?;
        tables.delete_accounts(&dropped)?;
        tables.delete(Own::Members, &memberships)?;
        tables.delete(Own::Grants, &grants)?;
        Ok(notes)
    }

    /// That a superuser is left for the users that are left, when those that `ends` says are none any more and those that `goes` says
    /// are not there any more. Whoever opened the database may change all of it.
    fn keep_superuser(&self, ends: impl Fn(&Account) -> bool, goes: impl Fn(&Account) -> bool) -> Result<()> {
        let users = || self.accounts.accounts().filter(|account| !account.is_role());
        let is_kept = users().any(|account| account.superuser && !ends(account));
        if self.context.owner.is_none() || is_kept || users().all(goes) {
            return Ok(());
        }
        let message = "no superuser would be left, so nobody could look after the other users";
        Err(invalid("2BP01", message).map(|e| {
            e.with_hint(
                "make another user a superuser before (ALTER USER … SUPERUSER), or drop all users at once",
            )
        }))
    }

    async fn grant_roles(&self, roles: &[Ident], to: &[Ident]) -> Result<Vec<String>> {
        self.context.rights.superuser("grant roles")?;
        let (mut added, mut notes) = (BTreeSet::new(), Vec::new());
        for (role, member) in self.pairs(roles, to)? {
            if self.accounts.roles(role.id).contains(&member.id) {
                let message = format!("role {} would be in itself", role.name);
                return Err(invalid("0LP01", message));
            }
            let known = self.accounts.memberships.iter().any(|m| m.role == role.id && m.member == member.id);
            if known {
                notes.push(format!("{} is in role {} already", member.name, role.name));
            } else {
                added.insert((role.id, member.id));
            }
        }
        let added: Vec<(UserId, UserId)> = added.into_iter().collect();
        self.tables()?.add_memberships(&added).await?;
        Ok(notes)
    }

    fn revoke_roles(&self, roles: &[Ident], from: &[Ident]) -> Result<Vec<String>> {
        self.context.rights.superuser("revoke roles")?;
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for (role, member) in self.pairs(roles, from)? {
            let known = self.accounts.memberships.iter().find(|m| m.role == role.id && m.member == member.id);
            match known {
                Some(membership) => rows.push(membership.row),
                None => notes.push(format!("{} was not in role {}", member.name, role.name)),
            }
        }
        self.tables()?.delete(Own::Members, &rows)?;
        Ok(notes)
    }

    fn pairs(&self, roles: &[Ident], members: &[Ident]) -> Result<Vec<(&Account, &Account)>> {
        let mut pairs = Vec::new();
        for ident in roles {
            let role = self.find(ident)?;
            if !role.is_role() {
                return Err(at(invalid("42809", format!("{} is a user, not a role", role.name)), ident));
            }
            for member in members {
                pairs.push((role, self.find(member)?));
            }
        }
        Ok(pairs)
    }

    async fn grant(&self, rights: &RightsWanted, on: &GrantOn, to: &[Ident]) -> Result<Vec<String>> {
        let scopes = self.scopes(on)?;
        let grantees = self.grantees(to)?;
        let known: BTreeSet<(UserId, &Scope, Right)> =
            self.accounts.grants().iter().map(|g| (g.grantee, &g.on, g.right)).collect();
        let mut added = BTreeSet::new();
        for scope in &scopes {
            for right in rights_on(rights, scope)? {
                added.extend(grantees.iter().map(|grantee| (*grantee, scope, right)));
            }
        }
        let added: Vec<_> = added.difference(&known).copied().collect();
        let tables = self.tables()?;
        tables.depend_on_names()?;
        tables.add_grants(&added).await?;
        Ok(Vec::new())
    }

    fn revoke(&self, rights: &RightsWanted, on: &GrantOn, from: &[Ident]) -> Result<Vec<String>> {
        let scopes = self.scopes(on)?;
        let grantees = self.grantees(from)?;
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for scope in &scopes {
            let rights = rights_on(rights, scope)?;
            for grantee in &grantees {
                let found = self.accounts.grants().iter();
                let found = found.filter(|g| g.grantee == *grantee && g.on == *scope);
                let before = rows.len();
                rows.extend(found.filter(|g| rights.contains(&g.right)).map(|g| g.row));
                if rows.len() == before {
                    let name = self.accounts.name(*grantee).unwrap_or_default();
                    notes.push(format!("{name} had no such grant on {scope}"));
                }
            }
        }
        let tables = self.tables()?;
        tables.depend_on_names()?;
        tables.delete(Own::Grants, &rows)?;
        Ok(notes)
    }

    /// What a GRANT is on, if this session may give rights on it.
    fn scopes(&self, on: &GrantOn) -> Result<Vec<Scope>> {
        let rights = &self.context.rights;
        match on {
            GrantOn::Database => {
                rights.superuser("grant or revoke rights on the database")?;
                Ok(vec![Scope::Database])
            }
            GrantOn::Schemas(schemas) => {
                rights.superuser("grant or revoke rights on a schema")?;
                schemas.iter().map(|schema| self.schema(schema)).collect()
            }
            GrantOn::Tables(tables) => tables.iter().map(|table| self.table(table)).collect(),
        }
    }

    fn schema(&self, ident: &Ident) -> Result<Scope> {
        let name = name_of(ident);
        let (snapshot, rights) = (&self.context.snapshot, &self.context.rights);
        if !snapshot.catalog().has_schema(&name) {
            return Err(at(unknown_schema(snapshot, rights, &name), ident));
        }
        Ok(Scope::Schema(name))
    }

    fn table(&self, object: &ObjectName) -> Result<Scope> {
        let (schema, name) = schema_and_name(object, &self.context.search_path)?;
        let placed = |error: Error| match object_position(object) {
            Some(position) => error.at(position),
            None => error,
        };
        let (snapshot, rights) = (&self.context.snapshot, &self.context.rights);
        let catalog = snapshot.catalog();
        if !catalog.has_schema(&schema) {
            return Err(placed(unknown_schema(snapshot, rights, &schema)));
        }
        let owner = match (catalog.table(&schema, &name), catalog.view(&schema, &name)) {
            (Some(table), _) => table.owner,
            (None, Some(view)) => view.owner,
            (None, None) => {
                let seen = catalog.tables(&schema).filter(|t| rights.sees(t.owner, &schema, &t.name));
                return Err(placed(missing(&schema, &name, seen.map(|t| t.name.as_str()))));
            }
        };
        rights.own(owner, &schema, &name).map_err(placed)?;
        Ok(Scope::Table(schema, name))
    }

    fn grantees(&self, idents: &[Ident]) -> Result<BTreeSet<UserId>> {
        let one = |ident: &Ident| match name_of(ident).as_str() {
            "public" => Ok(PUBLIC),
            _ => self.find(ident).map(|account| account.id),
        };
        idents.iter().map(one).collect()
    }

    fn find(&self, ident: &Ident) -> Result<&Account> {
        let name = name_of(ident);
        self.accounts.named(&name).ok_or_else(|| {
            let error = Error::new(ErrorKind::NotFound, format!("there is no user or role {name}"));
            at(error, ident)
        })
    }

    async fn hash(&self, password: &Secret) -> Result<String> {
        let length = password.reveal().len();
        if length == 0 {
            return Err(invalid("22023", "the password is empty"));
        }
        if length > PASSWORD_BYTES_MAX {
            let message = format!("the password has more than {PASSWORD_BYTES_MAX} bytes");
            return Err(invalid("22023", message));
        }
        self.context.engine.passwords().hash(password).await
    }
}

/// The rights wanted, if things of that kind have them.
fn rights_on(wanted: &RightsWanted, scope: &Scope) -> Result<Vec<Right>> {
    let of_tables = matches!(scope, Scope::Table(..));
    match wanted {
        RightsWanted::All if of_tables => Ok(Right::OF_TABLES.to_vec()),
        RightsWanted::All => Ok(Right::ALL.to_vec()),
        RightsWanted::These(rights) if of_tables && rights.contains(&Right::Create) => {
            Err(invalid("0LP01", "a table has no CREATE right")
                .map(|e| e.with_hint("GRANT CREATE ON SCHEMA … lets tables be made in it")))
        }
        RightsWanted::These(rights) => Ok(rights.clone()),
    }
}

fn kind_of(account: &Account) -> &'static str {
    if account.is_role() { "role" } else { "user" }
}

fn invalid(sqlstate: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}

fn at(error: Error, ident: &Ident) -> Error {
    match ident_position(ident) {
        Some(position) => error.at(position),
        None => error,
    }
}
