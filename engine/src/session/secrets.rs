//! CREATE SECRET and DROP SECRET: credentials that live as long as their session, and are part of no transaction.

use super::Session;
use crate::error::Result;
use crate::output::Output;
use crate::statement::{SecretStatement, name_of};

impl Session {
    pub(super) fn secret(&self, statement: &SecretStatement) -> Result<Output> {
        match statement {
            SecretStatement::Create { name, replace, if_not_exists, secret } => {
                self.stores.create(&name_of(name), secret, *replace, *if_not_exists)
            }
            SecretStatement::Drop { name, if_exists } => self.stores.drop_secret(&name_of(name), *if_exists),
        }
    }
}
