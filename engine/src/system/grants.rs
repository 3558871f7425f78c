//! `system.grants`: what was granted to whom; whoever is no superuser sees what was granted to it, its roles and everybody.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, schema, text, texts};
use crate::error::Result;
use crate::rights::{Grant, Scope};

/// `system.grants`
#[derive(Debug)]
pub(super) struct Grants;

#[async_trait]
impl SystemTable for Grants {
    fn name(&self) -> &'static str {
        "grants"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("grantee", Kind::Text, false),
            ("right", Kind::Text, false),
            ("kind", Kind::Text, false),
            ("schema", Kind::Text, true),
            ("name", Kind::Text, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let accounts = source.engine.accounts(&source.snapshot).await?;
        let shown = accounts.grants().iter().filter(|grant| source.rights.is_in(grant.grantee));
        let mut grants: Vec<(&str, &Grant)> =
            shown.filter_map(|grant| Some((accounts.name(grant.grantee)?, grant))).collect();
        grants.sort_by_key(|(name, grant)| (*name, &grant.on, grant.right));
        let place = |grant: &Grant| match &grant.on {
            Scope::Database => ("database", None, None),
            Scope::Schema(schema) => ("schema", Some(schema.clone()), None),
            Scope::Table(schema, name) => ("table", Some(schema.clone()), Some(name.clone())),
        };
        Ok(vec![
            texts(grants.iter().map(|(name, _)| *name)),
            texts(grants.iter().map(|(_, grant)| grant.right.word())),
            texts(grants.iter().map(|(_, grant)| place(grant).0)),
            text(grants.iter().map(|(_, grant)| place(grant).1)),
            text(grants.iter().map(|(_, grant)| place(grant).2)),
        ])
    }
}
