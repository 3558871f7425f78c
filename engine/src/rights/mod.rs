//! Who may do what.
//!
//! Owns: users, roles and grants (`accounts`), limits of users (`limit`), the tables they are kept in (`tables`), passwords
//! (`password`), the statements that change them (`change`), and what one session holds at one version (`held`). Does not own: where a right is asked for.
//! That is wherever a name becomes something of the database: `catalog` for what is read, `dml::Target` for what is
//! changed, `ddl` for what is made and dropped; so no protocol and no short cut passes it by.
//!
//! Rights are those of the statement's version. In a transaction they are, besides, those of the newest: REVOKE counts from
//! the next statement on.

mod accounts;
mod change;
mod held;
mod identity;
mod limit;
mod password;
mod right;
mod tables;

pub use identity::Identity;

pub(crate) use accounts::{AccountCache, Accounts, Grant, Scope};
pub(crate) use change::{forget, renamed, run};
pub(crate) use held::Rights;
pub(crate) use limit::{UserLimit, UserLimits};
pub(crate) use password::{Passwords, Secret};
pub(crate) use right::{Right, RightSet};
