//! ON CONFLICT: rows whose key exists, found at the snapshot before they are written.
//!
//! Owns: DO NOTHING and DO UPDATE, keys repeated within the statement. Does not own: keys that another commit inserts
//! meanwhile (the commit fails with a duplicate, which the statement turns into a retry).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::id::RowId;
use cairn_storage::segment::{EncodedKey, KeyEncoder};
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::TableReference;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{ConflictTarget, Ident, OnConflict as SqlOnConflict, OnConflictAction};

use super::assign::{arrow, assign_batch};
use super::change::assignments;
use super::physical_expr;
use super::returning::{plan_expr, refuse_other_schemas};
use super::target::{Target, ident_text};
use crate::context::StatementContext;
use crate::error::{Error, Result};

/// What becomes of a row whose key exists.
pub(crate) enum OnConflict {
    /// It is left out.
    Nothing,
    /// The existing row is changed.
    Update {
        /// Columns with their new values, over the existing row followed by the row that was to be inserted.
        set: Vec<(usize, Arc<dyn PhysicalExpr>)>,
        /// Only where this holds.
        condition: Option<Arc<dyn PhysicalExpr>>,
        /// Schema `set` and `condition` are evaluated over.
        schema: SchemaRef,
    },
}

impl fmt::Debug for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "do nothing",
            Self::Update { .. } => "do update",
        })
    }
}

impl OnConflict {
    /// Whether it changes one of these columns.
    pub(super) fn sets_any(&self, columns: &[usize]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Update { set, .. } => set.iter().any(|(column, _)| columns.contains(column)),
        }
    }

    /// Plans the clause; None: the table has no key, so that nothing can conflict.
    pub(super) fn plan(
        ctx: &StatementContext,
        target: &Target,
        alias: Option<&Ident>,
        clause: SqlOnConflict,
    ) -> Result<Option<Arc<Self>>> {
        let named = clause.conflict_target.is_some();
        check_target(target, clause.conflict_target)?;
        let keyless = target.def.primary_key.is_empty();
        match clause.action {
            OnConflictAction::DoNothing => Ok((!keyless).then(|| Arc::new(Self::Nothing))),
            OnConflictAction::DoUpdate(_) if keyless || !named => {
                Err(no_constraint(target, "ON CONFLICT DO UPDATE needs the columns of the primary key"))
            }
            OnConflictAction::DoUpdate(update) => {
                let schema = both_schema(target, &target.qualifier(alias))?;
                let tables = target.named_by(alias);
                let set = assignments(target, update.assignments)?
                    .into_iter()
                    .map(|(index, value)| {
                        refuse_other_schemas(&value, &schema, &tables)?;
                        Ok((index, physical_expr(&ctx.state, plan_expr(ctx, value, &schema)?, &schema)?))
                    })
                    .collect::<Result<Vec<_>>>()?;
                let condition = update
                    .selection
                    .map(|e| {
                        refuse_other_schemas(&e, &schema, &tables)?;
                        physical_expr(&ctx.state, plan_expr(ctx, e, &schema)?, &schema)
                    })
                    .transpose()?;
                let schema = Arc::new(schema.as_arrow().clone());
                Ok(Some(Arc::new(Self::Update { set, condition, schema })))
            }
        }
    }
}

fn both_schema(target: &Target, qualifier: &TableReference) -> Result<DFSchema> {
    let schema = target.def.arrow_schema();
    let existing = DFSchema::try_from_qualified_schema(qualifier.clone(), &schema)?;
    let excluded = DFSchema::try_from_qualified_schema("excluded", &schema)?;
    Ok(existing.join(&excluded)?)
}

fn check_target(target: &Target, named: Option<ConflictTarget>) -> Result<()> {
    match named {
        None => Ok(()),
        Some(ConflictTarget::Columns(names)) => {
            let mut columns = target.columns(names.iter())?;
            let mut key = target.def.key_indices();
            columns.sort_unstable();
            key.sort_unstable();
            if columns == key && !key.is_empty() {
                return Ok(());
            }
            Err(no_constraint(target, "there is no unique constraint on the columns of ON CONFLICT"))
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let key_name = format!("{}_pkey", target.def.name);
            let last = name.0.last().and_then(|p| p.as_ident()).map(ident_text);
            if last.as_deref() == Some(key_name.as_str()) && !target.def.primary_key.is_empty() {
                return Ok(());
            }
            Err(Error::new(
                ErrorKind::NotFound,
                format!("constraint \"{name}\" of table \"{}\" does not exist", target.def.qualified_name()),
            )
            .map(|e| e.with_sqlstate("42704")))
        }
    }
}

fn no_constraint(target: &Target, message: &str) -> Error {
    let key: Vec<&str> =
        target.def.key_indices().into_iter().map(|i| target.column_def(i).name.as_str()).collect();
    let hint = if key.is_empty() {
        format!("table \"{}\" has no primary key", target.def.qualified_name())
    } else {
        format!("write ON CONFLICT ({})", key.join(", "))
    };
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42P10").with_hint(hint))
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Rows to write: new ones, then changed ones.
    pub(crate) rows: Vec<RecordBatch>,
    /// Existing rows that changed ones replace.
    pub(crate) replaced: Vec<RowId>,
}

/// Applies the clause to batches in the order they come.
#[derive(Debug)]
pub(crate) struct Resolver {
    action: Arc<OnConflict>,
    target: Target,
    encoder: KeyEncoder,
    seen: HashSet<EncodedKey>,
}

impl Resolver {
    pub(crate) fn new(action: Arc<OnConflict>, target: Target) -> Result<Self> {
        let encoder = target
            .table
            .key_encoder()?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "ON CONFLICT on a table without a key"))?;
        Ok(Self { action, target, encoder, seen: HashSet::new() })
    }

    pub(crate) async fn resolve(&mut self, batch: &RecordBatch) -> Result<Resolved> {
        let key_columns: Vec<ArrayRef> =
            self.target.def.key_indices().into_iter().map(|i| Arc::clone(batch.column(i))).collect();
        let encoded = self.encoder.encode(&key_columns)?;
        let (mut positions, mut keys) = (Vec::new(), Vec::new());
        for (position, row) in (0..encoded.len()).zip(0_u32..) {
            let key = encoded.to_owned(position);
            if self.seen.insert(key.clone()) {
                positions.push(row);
                keys.push(key);
            } else if matches!(*self.action, OnConflict::Update { .. }) {
                return Err(second_time(&key_columns, position));
            }
        }
        let existing = self.target.table.lookup(&keys).await?;
        let (mut fresh, mut conflicting, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (row, found) in positions.into_iter().zip(existing) {
            match found {
                None => fresh.push(row),
                Some(id) => {
                    conflicting.push(row);
                    ids.push(id);
                }
            }
        }
        let mut resolved = Resolved::default();
        if !fresh.is_empty() {
            resolved.rows.push(pick(batch, fresh)?);
        }
        if let OnConflict::Update { set, condition, schema } = self.action.as_ref()
            && !ids.is_empty()
        {
            let (changed, ids) =
                self.update(&pick(batch, conflicting)?, ids, set, condition.as_ref(), schema).await?;
            if changed.num_rows() > 0 {
                resolved.rows.push(changed);
            }
            resolved.replaced = ids;
        }
        Ok(resolved)
    }

    async fn update(
        &self,
        excluded: &RecordBatch,
        mut ids: Vec<RowId>,
        set: &[(usize, Arc<dyn PhysicalExpr>)],
        condition: Option<&Arc<dyn PhysicalExpr>>,
        schema: &Schema,
    ) -> Result<(RecordBatch, Vec<RowId>)> {
        let width = self.target.def.columns.len();
        let all: Vec<usize> = (0..width).collect();
        let existing = self.target.table.rows(&ids, &all, false).await?;
        if existing.num_rows() != ids.len() {
            return Err(Error::new(ErrorKind::Internal, "a row found by its key could not be read"));
        }
        let columns = existing.columns().iter().chain(excluded.columns()).map(Arc::clone).collect();
        let mut both = RecordBatch::try_new(Arc::new(schema.clone()), columns).map_err(arrow)?;
        if let Some(condition) = condition {
            let mask = condition.evaluate(&both)?.into_array(both.num_rows())?;
            let mask = mask.as_any().downcast_ref::<BooleanArray>().ok_or_else(|| {
                super::target::syntax("the WHERE of ON CONFLICT is not a condition")
                    .map(|e| e.with_sqlstate("42804"))
            })?;
            let kept = |i: usize| mask.is_valid(i) && mask.value(i);
            ids = ids.into_iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, id)| id).collect();
            both = filter_record_batch(&both, mask).map_err(arrow)?;
        }
        let mut columns: Vec<ArrayRef> = both.columns()[..width].to_vec();
        for (index, value) in set {
            columns[*index] = value.evaluate(&both)?.into_array(both.num_rows())?;
        }
        let Target { def, zone, .. } = &self.target;
        let changed = assign_batch(def, &def.arrow_schema(), &columns, both.num_rows(), None, zone.as_ref())?;
        Ok((changed, ids))
    }
}

fn pick(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    take_record_batch(batch, &UInt32Array::from(rows)).map_err(arrow)
}

fn second_time(keys: &[ArrayRef], row: usize) -> Error {
    let values: Vec<String> = keys.iter().map(|k| super::assign::value_text(k, row)).collect();
    Error::new(
        ErrorKind::InvalidInput,
        format!("ON CONFLICT DO UPDATE cannot change the row with key ({}) a second time", values.join(", ")),
    )
    .map(|e| {
        e.with_sqlstate("21000").with_hint("make sure that no key occurs twice among the rows to insert")
    })
}
