//! SELECT by full primary key: the same storage calls as `scan::point` makes.

use cairn_storage::segment::EncodedKey;
use cairn_storage::{Snapshot, TableSnapshot};
use datafusion::arrow::array::ArrayRef;
use datafusion::common::ParamValues;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor,
};

use super::one_batch;
use crate::dml::{ident_text, key_value, split_name};
use crate::error::Result;
use crate::output::Output;
use crate::rights::{Right, Rights};

/// `SELECT * | columns FROM t WHERE column = value AND …`
#[derive(Debug)]
pub(in crate::session) struct KeyRead {
    table: ObjectName,
    /// None: `*`.
    columns: Option<Vec<String>>,
    equal: Vec<(String, Expr)>,
}

struct Resolved {
    table: TableSnapshot,
    columns: Vec<usize>,
    key: EncodedKey,
}

impl KeyRead {
    pub(super) fn recognise(query: &Query) -> Option<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let Select { projection, from, selection: Some(selection), .. } = select.as_ref() else {
            return None;
        };
        let [from] = from.as_slice() else { return None };
        let TableFactor::Table { name, .. } = &from.relation else { return None };
        let columns = match projection.as_slice() {
            [SelectItem::Wildcard(_)] => None,
            items => Some(items.iter().map(item_name).collect::<Option<Vec<_>>>()?),
        };
        let mut equal = Vec::new();
        equalities(selection, &mut equal)?;
        // Whatever else the query says shows in its text.
        let items: Vec<String> = projection.iter().map(ToString::to_string).collect();
        let plain = format!("SELECT {} FROM {name} WHERE {selection}", items.join(", "));
        let is_star = columns.is_some() || items == ["*"];
        (is_star && plain == query.to_string()).then(|| Self { table: name.clone(), columns, equal })
    }

    /// The rows; None: plan it.
    ///
    /// # Errors
    /// Storage errors.
    pub(super) async fn run(
        &self,
        snapshot: &Snapshot,
        rights: &Rights,
        search_path: &str,
        params: Option<&ParamValues>,
    ) -> Result<Option<Output>> {
        match self.resolve(snapshot, rights, search_path, params) {
            Some(read) => Ok(Some(read.rows().await?)),
            None => Ok(None),
        }
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        rights: &Rights,
        search_path: &str,
        params: Option<&ParamValues>,
    ) -> Option<Resolved> {
        let (schema, name) = split_name(&self.table, search_path).ok()?;
        let table = snapshot.table_named(&schema, &name)?;
        let def = table.def();
        if !rights.may(Right::Select, def) {
            return None;
        }
        let key = key_of(&table, &self.equal, params)?;
        let columns = match &self.columns {
            None => (0..def.columns.len()).collect(),
            Some(names) => names
                .iter()
                .map(|name| def.columns.iter().position(|c| c.name == *name))
                .collect::<Option<Vec<usize>>>()?,
        };
        let mut distinct = columns.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != columns.len() {
            return None;
        }
        Some(Resolved { columns, key, table })
    }
}

impl Resolved {
    async fn rows(self) -> Result<Output> {
        let found = self.table.lookup_for(std::slice::from_ref(&self.key), &self.columns).await?;
        let ids: Vec<_> = found.into_iter().flatten().collect();
        let batch = self.table.rows(&ids, &self.columns, false).await?;
        Ok(one_batch(batch))
    }
}

/// The key that has the values of `equal`; None: they are not just those of the key, or unusual.
pub(super) fn key_of(
    table: &TableSnapshot,
    equal: &[(String, Expr)],
    params: Option<&ParamValues>,
) -> Option<EncodedKey> {
    let def = table.def();
    let key_columns = def.key_indices();
    if key_columns.is_empty() || key_columns.len() != equal.len() {
        return None;
    }
    let values = key_columns.iter().map(|i| {
        let column = &def.columns[*i];
        let (_, value) = equal.iter().find(|(name, _)| *name == column.name)?;
        key_value(column, value, params)
    });
    let values = values.collect::<Option<Vec<ArrayRef>>>()?;
    Some(table.key_encoder().ok()??.encode(&values).ok()?.to_owned(0))
}

pub(super) fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(ident_text(name)),
        _ => None,
    }
}

/// The columns that `expr` says are equal to something, and what to; None: it says something else.
pub(super) fn equalities(expr: &Expr, found: &mut Vec<(String, Expr)>) -> Option<()> {
    let Expr::BinaryOp { left, op, right } = expr else { return None };
    match (op, left.as_ref()) {
        (BinaryOperator::And, _) => {
            equalities(left, found)?;
            equalities(right, found)
        }
        (BinaryOperator::Eq, Expr::Identifier(name)) => {
            found.push((ident_text(name), right.as_ref().clone()));
            Some(())
        }
        _ => None,
    }
}
