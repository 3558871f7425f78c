//! `system.roles`: roles with who is in them; whoever is no superuser sees its own roles, without the others in them.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, schema, text, texts};
use crate::error::Result;

/// `system.roles`
#[derive(Debug)]
pub(super) struct Roles;

#[async_trait]
impl SystemTable for Roles {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[("name", Kind::Text, false), ("members", Kind::Text, true)])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let accounts = source.engine.accounts(&source.snapshot).await?;
        let roles: Vec<_> =
            accounts.accounts().filter(|a| a.is_role() && source.rights.is_in(a.id)).collect();
        let members = |id| source.rights.are_all().then(|| accounts.members(id).join(", "));
        Ok(vec![
            texts(roles.iter().map(|role| role.name.as_str())),
            text(roles.iter().map(|role| members(role.id))),
        ])
    }
}
