//! Reads by full primary key.
//!
//! Owns: recognising, in the filters of a scan, values for every key column, and fetching those rows through the key
//! lookup. Does not own: the filters themselves; they stay above the scan, so a value recognised here only has to be
//! necessary for a row to match, never sufficient.

use cairn_storage::TableSnapshot;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Cast, Expr, Operator, TryCast};

use super::hot::{MemoryRows, Wanted};
use super::storage_error;

/// Keys looked up one by one in a scan; above this a scan reads segments.
const LOOKUP_KEYS_MAX: usize = 64;

/// The keys a row must have to pass `filters`, each in key order; None when the filters do not pin every key column.
pub(crate) fn keys(
    filters: &[Expr],
    schema: &SchemaRef,
    key_columns: &[usize],
) -> Option<Vec<Vec<ScalarValue>>> {
    if filters.is_empty() || key_columns.is_empty() {
        return None;
    }
    let mut found: Vec<Option<Vec<ScalarValue>>> = vec![None; key_columns.len()];
    for conjunct in filters.iter().flat_map(split_conjunction) {
        let Some((name, literals)) = pinned(conjunct) else { continue };
        let Some(slot) = key_columns.iter().position(|i| schema.field(*i).name() == name) else { continue };
        let data_type = schema.field(key_columns[slot]).data_type();
        let Some(values) = literals.into_iter().map(|l| l.fit(data_type)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        if found[slot].as_ref().is_none_or(|have| values.len() < have.len()) {
            found[slot] = Some(values);
        }
    }
    let per_column = found.into_iter().collect::<Option<Vec<_>>>()?;
    let count = per_column.iter().try_fold(1_usize, |n, values| n.checked_mul(values.len()))?;
    (count <= LOOKUP_KEYS_MAX).then(|| product(&per_column))
}

fn product(per_column: &[Vec<ScalarValue>]) -> Vec<Vec<ScalarValue>> {
    per_column.iter().fold(vec![Vec::new()], |keys, values| {
        keys.iter()
            .flat_map(|key| values.iter().map(move |v| [key.as_slice(), std::slice::from_ref(v)].concat()))
            .collect()
    })
}

/// A literal compared with a column, and the cast the column went through for it.
struct Compared<'a> {
    value: &'a ScalarValue,
    cast: Option<&'a DataType>,
}

impl Compared<'_> {
    /// The column's value that compares equal; None when there may be another or none.
    fn fit(&self, column: &DataType) -> Option<ScalarValue> {
        if self.value.is_null() || self.cast.is_some_and(|to| !injective(column, to)) {
            return None;
        }
        if self.value.data_type() == *column {
            return Some(self.value.clone());
        }
        let fitted = self.value.cast_to(column).ok()?;
        let back = fitted.cast_to(&self.value.data_type()).ok()?;
        (!fitted.is_null() && back == *self.value).then_some(fitted)
    }
}

/// Whether casting a column of type `from` to `to` keeps different values different.
fn injective(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, UInt8, UInt16, UInt32, UInt64,
        Utf8, Utf8View,
    };
    from == to
        || match from {
            Int8 => matches!(to, Int16 | Int32 | Int64),
            Int16 => matches!(to, Int32 | Int64),
            Int32 => matches!(to, Int64),
            UInt8 => matches!(to, Int16 | Int32 | Int64 | UInt16 | UInt32 | UInt64),
            UInt16 => matches!(to, Int32 | Int64 | UInt32 | UInt64),
            UInt32 => matches!(to, Int64 | UInt64),
            Utf8View => matches!(to, Utf8 | LargeUtf8),
            BinaryView => matches!(to, Binary | LargeBinary),
            _ => false,
        }
}

/// The column and the only literals it may equal for `expr` to hold.
fn pinned(expr: &Expr) -> Option<(&str, Vec<Compared<'_>>)> {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let ((name, cast), value) = match (column(&binary.left), column(&binary.right)) {
                (Some(column), None) => (column, literal(&binary.right)?),
                (None, Some(column)) => (column, literal(&binary.left)?),
                _ => return None,
            };
            Some((name, vec![Compared { value, cast }]))
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let (name, mut values) = pinned(&binary.left)?;
            let (other, more) = pinned(&binary.right)?;
            values.extend(more);
            (name == other && values.len() <= LOOKUP_KEYS_MAX).then_some((name, values))
        }
        Expr::InList(list) if !list.negated && list.list.len() <= LOOKUP_KEYS_MAX => {
            let (name, cast) = column(&list.expr)?;
            let values = list.list.iter().map(|e| literal(e).map(|value| Compared { value, cast }));
            Some((name, values.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<(&str, Option<&DataType>)> {
    match expr {
        Expr::Column(column) => Some((&column.name, None)),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match expr.as_ref() {
            Expr::Column(column) => Some((&column.name, Some(field.data_type()))),
            _ => None,
        },
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// The live rows with one of `keys`, in `schema` (the scan's); None when the table has no key after all.
pub(crate) async fn rows(
    table: &TableSnapshot,
    keys: &[Vec<ScalarValue>],
    wanted: &Wanted,
    schema: &SchemaRef,
) -> Result<Option<MemoryRows>> {
    let Some(encoder) = table.key_encoder().map_err(storage_error)? else {
        return Ok(None);
    };
    let width = keys.first().map_or(0, Vec::len);
    let columns = (0..width)
        .map(|i| ScalarValue::iter_to_array(keys.iter().map(|key| key[i].clone())))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let encoded = encoder.encode(&columns).map_err(storage_error)?;
    let encoded: Vec<_> = (0..keys.len()).map(|i| encoded.to_owned(i)).collect();
    let mut ids: Vec<_> = table
        .lookup_for(&encoded, &wanted.columns)
        .await
        .map_err(storage_error)?
        .into_iter()
        .flatten()
        .collect();
    // `IN (1, 1)` names a row twice, the result holds it once.
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Some(MemoryRows::none(schema)));
    }
    let batch = table.rows(&ids, &wanted.columns, wanted.pseudo).await.map_err(storage_error)?;
    Ok(Some(MemoryRows::new(schema, vec![wanted.shape(&batch, schema)?], 1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col, in_list, lit};
    use std::sync::Arc;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, false),
            Field::new("name", DataType::Utf8View, false),
            Field::new("v", DataType::Float64, true),
        ]))
    }

    fn int(v: i32) -> ScalarValue {
        ScalarValue::Int32(Some(v))
    }

    #[test]
    fn equality_on_the_key_is_found_among_other_filters() {
        let found = keys(&[col("v").gt(lit(1.0)).and(lit(7_i32).eq(col("id")))], &schema(), &[0]);
        assert_eq!(found, Some(vec![vec![int(7)]]));
    }

    #[test]
    fn a_key_needs_every_column() {
        assert_eq!(keys(&[col("id").eq(lit(7_i32))], &schema(), &[0, 1]), None);
        let found = keys(&[col("id").eq(lit(7_i32)), col("name").eq(lit("a"))], &schema(), &[1, 0]);
        assert_eq!(found, Some(vec![vec![ScalarValue::Utf8View(Some("a".into())), int(7)]]));
    }

    #[test]
    fn lists_and_small_alternatives_multiply() {
        let list = in_list(col("id"), vec![lit(1_i32), lit(2_i32)], false);
        assert_eq!(
            keys(std::slice::from_ref(&list), &schema(), &[0]),
            Some(vec![vec![int(1)], vec![int(2)]])
        );
        let either = col("name").eq(lit("a")).or(col("name").eq(lit("b")));
        assert_eq!(keys(&[list, either], &schema(), &[0, 1]).unwrap().len(), 4);
        let many = in_list(col("id"), (0..65).map(lit).collect(), false);
        assert_eq!(keys(&[many], &schema(), &[0]), None);
        let negated = in_list(col("id"), vec![lit(1_i32)], true);
        assert_eq!(keys(&[negated], &schema(), &[0]), None);
        let mixed = col("id").eq(lit(1_i32)).or(col("v").eq(lit(1.0)));
        assert_eq!(keys(&[mixed], &schema(), &[0]), None);
    }

    #[test]
    fn casts_count_only_when_they_keep_values_apart() {
        let wide = cast(col("id"), DataType::Int64).eq(lit(7_i64));
        assert_eq!(keys(&[wide], &schema(), &[0]), Some(vec![vec![int(7)]]));
        let beyond = cast(col("id"), DataType::Int64).eq(lit(1_i64 << 40));
        assert_eq!(keys(&[beyond], &schema(), &[0]), None);
        let float = cast(col("id"), DataType::Float32).eq(lit(7_f32));
        assert_eq!(keys(&[float], &schema(), &[0]), None);
        let null = col("id").eq(lit(ScalarValue::Int32(None)));
        assert_eq!(keys(&[null], &schema(), &[0]), None);
    }
}
