//! The columns the Parquet source of a scan has, and how `_row_id` and `_version` come out of it.
//!
//! A segment holds the two as Parquet columns (`RowIds::Column`, `Created::Column`) or its meta says them
//! (`RowIds::Base` + position in the file, `Created::Constant`). One source reads both kinds: the file schema has the two
//! columns as optional, each file carries base and version as partition values, the reader adds the row number, and the
//! projection takes the stored column where the file has one, else the computed value. The row number is the reader's
//! own, so row selections, byte ranges and pruning leave it right. All of it exists only when a scan asks for it.
//!
//! A segment holds vectors in a form of their own (`cairn_storage::segment::vectors`): the source reads that, and the
//! projection takes the very bytes for the vectors the surface shows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cairn_storage::schema::{ROW_ID_COLUMN, VERSION_COLUMN};
use cairn_storage::segment::vectors::to_surface;
use cairn_storage::segment::{Created, RowIds, SegmentMeta};
use cairn_udfs::vector::dimensions;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{is_null, kernels::zip::zip};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};

use super::storage_error;

/// Per file: id of its first row.
const BASE_COLUMN: &str = "__cairn_base_row_id";
/// Per file: the version that made it.
const CREATED_COLUMN: &str = "__cairn_created";
/// Per row: position in the file.
const POSITION_COLUMN: &str = "__cairn_position";

/// `_row_id` and `_version` as the surface shows them.
pub(crate) fn fields() -> [Field; 2] {
    [Field::new(ROW_ID_COLUMN, DataType::UInt64, false), Field::new(VERSION_COLUMN, DataType::UInt64, false)]
}

/// `schema` with the pseudo-columns behind it.
pub(crate) fn with_pseudo_columns(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields().iter().cloned().chain(fields().map(Arc::new)).collect::<Vec<FieldRef>>(),
    ))
}

/// The columns of a scan's Parquet source.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What the source reads.
    pub(crate) table: TableSchema,
    /// What it puts out, over `table`.
    pub(crate) projection: ProjectionExprs,
    /// Whether files need partition values.
    pub(crate) pseudo: bool,
}

impl Layout {
    /// For `projection` over `user` columns with the pseudo-columns behind them.
    pub(crate) fn new(user: &SchemaRef, projection: &[usize]) -> Self {
        let width = user.fields().len();
        let stored = stored_schema(user);
        if projection.iter().all(|i| *i < width) {
            let exprs = projection.iter().map(|i| surface(user, *i));
            return Self {
                table: TableSchema::from(&stored),
                projection: ProjectionExprs::new(exprs),
                pseudo: false,
            };
        }
        let optional = fields().map(|f| Arc::new(f.with_nullable(true)));
        let file = Schema::new(stored.fields().iter().cloned().chain(optional).collect::<Vec<FieldRef>>());
        let per_file =
            [BASE_COLUMN, CREATED_COLUMN].map(|n| Arc::new(Field::new(n, DataType::UInt64, false)));
        let position = Field::new(POSITION_COLUMN, DataType::Int64, false).with_extension_type(RowNumber);
        let table = TableSchema::builder(Arc::new(file))
            .with_table_partition_cols(per_file.to_vec())
            .with_virtual_columns(vec![Arc::new(position) as FieldRef])
            .build();
        let exprs = projection.iter().map(|i| match i.checked_sub(width) {
            None => surface(user, *i),
            Some(0) => {
                let position = Arc::new(Column::new(POSITION_COLUMN, width + 4));
                let computed = BinaryExpr::new(
                    Arc::new(Column::new(BASE_COLUMN, width + 2)),
                    Operator::Plus,
                    Arc::new(CastExpr::new(position, DataType::UInt64, None)),
                );
                StoredOr::projected(ROW_ID_COLUMN, width, Arc::new(computed))
            }
            Some(_) => StoredOr::projected(
                VERSION_COLUMN,
                width + 1,
                Arc::new(Column::new(CREATED_COLUMN, width + 3)),
            ),
        });
        Self { table, projection: ProjectionExprs::new(exprs), pseudo: true }
    }

    /// The same columns under other names, one for each.
    pub(crate) fn named<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = self.projection.iter().zip(names);
        let named: Vec<_> =
            columns.map(|(column, name)| ProjectionExpr::new(Arc::clone(&column.expr), name)).collect();
        Self { projection: ProjectionExprs::new(named), ..self }
    }
}

/// Where among the columns of `user`, with the pseudo-columns behind them, is what `expr` puts out of a layout's table; None: it is
/// computed.
pub(crate) fn surface_index(user: &SchemaRef, expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let width = user.fields().len();
    let index = |column: &Arc<dyn PhysicalExpr>| column.downcast_ref::<Column>().map(Column::index);
    if let Some(pseudo) = expr.downcast_ref::<StoredOr>() {
        return index(&pseudo.stored).filter(|i| (width..width + 2).contains(i));
    }
    if let Some(vectors) = expr.downcast_ref::<Vectors>() {
        return index(&vectors.stored).filter(|i| *i < width);
    }
    // A vector as it is stored is nothing that the surface shows.
    index(expr).filter(|i| *i < width && dimensions(user.field(*i).data_type()).is_none())
}

/// `user` as segments store it.
fn stored_schema(user: &SchemaRef) -> SchemaRef {
    if !user.fields().iter().any(|field| dimensions(field.data_type()).is_some()) {
        return Arc::clone(user);
    }
    let stored = user.fields().iter().map(|field| match dimensions(field.data_type()) {
        Some(dim) => {
            let bytes = DataType::FixedSizeBinary(i32::try_from(4 * dim).unwrap_or(i32::MAX));
            Arc::new(field.as_ref().clone().with_data_type(bytes))
        }
        None => Arc::clone(field),
    });
    Arc::new(Schema::new(stored.collect::<Vec<FieldRef>>()))
}

/// The column at `index` of `user` out of the stored one.
fn surface(user: &SchemaRef, index: usize) -> ProjectionExpr {
    let field = user.field(index);
    let stored = Arc::new(Column::new(field.name(), index));
    if dimensions(field.data_type()).is_none() {
        return ProjectionExpr::new(stored, field.name());
    }
    ProjectionExpr::new(Arc::new(Vectors { stored, data_type: field.data_type().clone() }), field.name())
}

/// Partition values of a segment's file in a layout with pseudo-columns. Zero stands where the file has the column.
pub(crate) fn partition_values(meta: &SegmentMeta) -> Vec<ScalarValue> {
    let base = match meta.row_ids {
        RowIds::Base(base) => base.0,
        RowIds::Column => 0,
    };
    let created = match meta.created {
        Created::Constant(version) => version.0,
        Created::Column => 0,
    };
    vec![ScalarValue::UInt64(Some(base)), ScalarValue::UInt64(Some(created))]
}

/// The Arrow schema of a segment's file: the definition's columns, then the pseudo-columns it holds.
pub(crate) fn file_schema(user: &SchemaRef, meta: &SegmentMeta) -> SchemaRef {
    let [row_id, version] = fields();
    let mut stored = Vec::new();
    if meta.row_ids == RowIds::Column {
        stored.push(Arc::new(row_id));
    }
    if meta.created == Created::Column {
        stored.push(Arc::new(version));
    }
    let columns = stored_schema(user);
    if stored.is_empty() {
        return columns;
    }
    Arc::new(Schema::new(columns.fields().iter().cloned().chain(stored).collect::<Vec<FieldRef>>()))
}

/// A stored UInt64 where there is one, else a computed one; never NULL.
///
/// COALESCE by another name: this one knows its result has no NULL, so the scan's schema can say so.
#[derive(Debug, Clone, Eq)]
struct StoredOr {
    stored: Arc<dyn PhysicalExpr>,
    computed: Arc<dyn PhysicalExpr>,
}

impl StoredOr {
    fn projected(name: &str, stored: usize, computed: Arc<dyn PhysicalExpr>) -> ProjectionExpr {
        ProjectionExpr::new(Arc::new(Self { stored: Arc::new(Column::new(name, stored)), computed }), name)
    }
}

impl PartialEq for StoredOr {
    fn eq(&self, other: &Self) -> bool {
        self.stored.eq(&other.stored) && self.computed.eq(&other.computed)
    }
}

impl Hash for StoredOr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stored.hash(state);
        self.computed.hash(state);
    }
}

impl fmt::Display for StoredOr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored_or({}, {})", self.stored, self.computed)
    }
}

impl PhysicalExpr for StoredOr {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.stored.evaluate(batch)? {
            ColumnarValue::Scalar(value) if value.is_null() => self.computed.evaluate(batch),
            ColumnarValue::Array(stored) if stored.null_count() > 0 => {
                let computed = self.computed.evaluate(batch)?.into_array(batch.num_rows())?;
                Ok(ColumnarValue::Array(zip(&is_null(&stored)?, &computed, &stored)?))
            }
            value => Ok(value),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.stored, &self.computed]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([stored, computed]) => Ok(Arc::new(Self { stored, computed })),
            Err(children) => {
                datafusion::common::internal_err!("stored_or has two children, not {}", children.len())
            }
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("coalesce(")?;
        self.stored.fmt_sql(f)?;
        f.write_str(", ")?;
        self.computed.fmt_sql(f)?;
        f.write_str(")")
    }
}

/// Stored vectors as the surface shows them; no byte is copied.
#[derive(Debug, Clone, Eq)]
struct Vectors {
    stored: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

impl PartialEq for Vectors {
    fn eq(&self, other: &Self) -> bool {
        self.stored.eq(&other.stored) && self.data_type == other.data_type
    }
}

impl Hash for Vectors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stored.hash(state);
        self.data_type.hash(state);
    }
}

impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vectors({})", self.stored)
    }
}

impl PhysicalExpr for Vectors {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.stored.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let stored = self.stored.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(to_surface(&stored).map_err(storage_error)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.stored]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([stored]) => Ok(Arc::new(Self { stored, data_type: self.data_type.clone() })),
            Err(children) => {
                datafusion::common::internal_err!("vectors has one child, not {}", children.len())
            }
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stored.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::array::{Array, AsArray, Int64Array, UInt64Array, new_null_array};
    use datafusion::arrow::datatypes::UInt64Type;

    fn user() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
    }

    #[test]
    fn without_pseudo_columns_nothing_is_added() {
        let layout = Layout::new(&user(), &[0]);
        assert!(!layout.pseudo);
        assert_eq!(layout.table.table_schema().fields().len(), 1);
    }

    #[test]
    fn the_surface_is_not_null_and_in_order() {
        let layout = Layout::new(&user(), &[2, 0, 1]);
        let out = layout.projection.project_schema(layout.table.table_schema()).unwrap();
        let surface = with_pseudo_columns(&user());
        assert_eq!(out.fields(), surface.project(&[2, 0, 1]).unwrap().fields());
    }

    #[test]
    fn columns_are_known_in_whatever_form() {
        let vector = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 2);
        let user = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("e", vector, true),
        ]));
        for projection in [vec![1, 0, 1], vec![3, 1, 2, 0]] {
            let layout = Layout::new(&user, &projection).named(["w", "x", "y", "z"]);
            let found: Vec<_> = layout.projection.iter().map(|p| surface_index(&user, &p.expr)).collect();
            assert_eq!(found, projection.iter().map(|i| Some(*i)).collect::<Vec<_>>());
            assert_eq!(layout.projection.iter().next().unwrap().alias, "w");
        }
        let computed: Arc<dyn PhysicalExpr> =
            Arc::new(CastExpr::new(Arc::new(Column::new("a", 0)), DataType::UInt64, None));
        let stored: Arc<dyn PhysicalExpr> = Arc::new(Column::new("e", 1));
        assert_eq!((surface_index(&user, &computed), surface_index(&user, &stored)), (None, None));
    }

    #[test]
    fn stored_wins_else_base_plus_position() {
        let layout = Layout::new(&user(), &[1, 2]);
        let projector = layout.projection.make_projector(layout.table.table_schema()).unwrap();
        let batch = |stored: Option<u64>| {
            let stored = || -> Arc<dyn Array> { Arc::new(UInt64Array::from(vec![stored; 2])) };
            RecordBatch::try_new(
                Arc::clone(layout.table.table_schema()),
                vec![
                    new_null_array(&DataType::Int64, 2),
                    stored(),
                    stored(),
                    Arc::new(UInt64Array::from(vec![100, 100])),
                    Arc::new(UInt64Array::from(vec![9, 9])),
                    Arc::new(Int64Array::from(vec![3, 7])),
                ],
            )
            .unwrap()
        };
        let column = |b: &RecordBatch, i: usize| b.column(i).as_primitive::<UInt64Type>().values().to_vec();
        let computed = projector.project_batch(&batch(None)).unwrap();
        assert_eq!((column(&computed, 0), column(&computed, 1)), (vec![103, 107], vec![9, 9]));
        let stored = projector.project_batch(&batch(Some(5))).unwrap();
        assert_eq!((column(&stored, 0), column(&stored, 1)), (vec![5, 5], vec![5, 5]));
    }
}
