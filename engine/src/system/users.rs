//! `system.users`: users with their roles and limits; whoever is no superuser sees itself.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, booleans, numbers, schema, texts};
use crate::error::Result;
use crate::rights::UserLimit;

/// `system.users`
#[derive(Debug)]
pub(super) struct Users;

#[async_trait]
impl SystemTable for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", Kind::Text, false),
            ("superuser", Kind::Boolean, false),
            ("roles", Kind::Text, false),
            ("statement_timeout_ms", Kind::Unsigned, true),
            ("memory_limit_bytes", Kind::Unsigned, true),
            ("rows_limit", Kind::Unsigned, true),
            ("concurrency", Kind::Unsigned, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let accounts = source.engine.accounts(&source.snapshot).await?;
        let shows = |id| source.rights.user().is_none_or(|own| own == id);
        let users: Vec<_> = accounts.accounts().filter(|a| !a.is_role() && shows(a.id)).collect();
        let limits = |limit| numbers(users.iter().map(|user| user.limits.of(limit)));
        Ok(vec![
            texts(users.iter().map(|user| user.name.as_str())),
            booleans(users.iter().map(|user| Some(user.superuser))),
            texts(users.iter().map(|user| accounts.roles_given(user.id).join(", "))),
            limits(UserLimit::StatementTimeout),
            limits(UserLimit::Memory),
            limits(UserLimit::Rows),
            limits(UserLimit::Concurrency),
        ])
    }
}
