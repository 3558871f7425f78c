//! Parameter rows that clients send, as values of a statement's parameters.
//!
//! A value is cast to the type its place asks for, where that is known; text stands for any type.

use cairn_engine::{Description, Error, Result};
use cairn_storage::ErrorKind;
use cairn_storage::schema::ColumnType;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;

use super::wire;

/// The schema of a statement's parameters. What has no type takes text, which every driver can bind.
pub(crate) fn schema(description: &Description) -> Schema {
    let field = |parameter: &cairn_engine::Parameter| {
        let data_type = parameter.data_type.as_ref().map_or(DataType::Utf8, wire::data_type);
        Field::new(&parameter.name, data_type, true)
    };
    Schema::new(description.parameters.iter().map(field).collect::<Vec<_>>())
}

/// Rows of parameters, ready to be bound one by one.
#[derive(Debug)]
pub(crate) struct ParameterRows {
    columns: Vec<(String, ArrayRef)>,
    rows: usize,
    named: bool,
}

impl ParameterRows {
    /// `batch` as parameters of the statement; columns belong by position, or by name when the parameters are named.
    ///
    /// # Errors
    /// `InvalidInput`: too few or too many columns (07001), a value that does not fit its place (22018).
    pub(crate) fn new(description: &Description, batch: &RecordBatch) -> Result<Self> {
        let wanted = &description.parameters;
        if batch.num_columns() != wanted.len() {
            return Err(description.wrong_count(batch.num_columns()));
        }
        let named = wanted.iter().any(|parameter| parameter.name.parse::<usize>().is_err());
        let mut columns = Vec::with_capacity(wanted.len());
        for (position, parameter) in wanted.iter().enumerate() {
            let by_name = if named { batch.column_by_name(&parameter.name) } else { None };
            let column = by_name.unwrap_or_else(|| batch.column(position));
            let column = match &parameter.data_type {
                Some(data_type) => fit(column, data_type, &parameter.name)?,
                None => column.clone(),
            };
            columns.push((parameter.name.clone(), column));
        }
        Ok(Self { columns, rows: batch.num_rows(), named })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The values of one row.
    ///
    /// # Errors
    /// `Unsupported` for a type that has no value form.
    pub(crate) fn row(&self, row: usize) -> Result<ParamValues> {
        let value = |column: &ArrayRef| {
            ScalarValue::try_from_array(column, row)
                .map_err(|_| Error::not_supported_yet(format!("a parameter of type {}", column.data_type())))
        };
        if self.named {
            let values = self.columns.iter().map(|(name, column)| Ok((name.clone(), value(column)?)));
            return Ok(ParamValues::from(values.collect::<Result<Vec<_>>>()?));
        }
        let values = self.columns.iter().map(|(_, column)| value(column));
        Ok(ParamValues::from(values.collect::<Result<Vec<_>>>()?))
    }
}

/// `column` in the type its place asks for, when it is of the same family; otherwise as it is, for the planner to judge.
fn fit(column: &ArrayRef, wanted: &DataType, name: &str) -> Result<ArrayRef> {
    let given = column.data_type();
    // A cast would cut the fraction off; as it is, a condition compares all of it, and a column rounds it as it does a literal.
    let lossy = wanted.is_integer() && !given.is_integer() && !is_text(given) && *given != DataType::Null;
    let shortened = matches!(
        (given, wanted),
        (DataType::Float64, DataType::Float32) | (DataType::Timestamp(..), DataType::Date32)
    );
    // As JSON, which the planner reads; a cast would make it the one item of a list.
    let spelled = is_text(given) && wanted.is_nested();
    // Between them stands the session's zone, which is the engine's to know.
    let zoned = (is_of_clock(given) && is_moment(wanted)) || (is_moment(given) && is_of_clock(wanted));
    if given == wanted || lossy || shortened || spelled || zoned || !can_cast_types(given, wanted) {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, wanted, &options).map_err(|error| {
        let place = ColumnType::from_arrow(wanted).map_or_else(|| wanted.to_string(), |t| t.to_string());
        let message = format!("a value of parameter {name} does not fit its place, which is {place}");
        let error = Error::from(DataFusionError::from(error));
        Error::new(ErrorKind::InvalidInput, message)
            .map(|e| e.with_sqlstate("22018").with_detail(error.message()))
    })
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

/// Whether values are what clocks or calendars show somewhere.
fn is_of_clock(data_type: &DataType) -> bool {
    let is_time = matches!(
        data_type,
        DataType::Timestamp(_, None)
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
    );
    is_time || is_text(data_type)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use cairn_engine::Parameter;
    use datafusion::arrow::array::{BinaryArray, Float64Array, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Float64Type;

    use super::*;

    fn description(types: &[(&str, Option<DataType>)]) -> Description {
        let parameters = types
            .iter()
            .map(|(name, data_type)| Parameter { name: (*name).to_owned(), data_type: data_type.clone() })
            .collect();
        Description { columns: None, reads_only: true, parameters }
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn list(values: ParamValues) -> Vec<ScalarValue> {
        match values {
            ParamValues::List(values) => values.into_iter().map(|v| v.value).collect(),
            ParamValues::Map(_) => panic!("not a list"),
        }
    }

    #[test]
    fn values_get_the_type_of_their_place() {
        let description = description(&[("1", Some(DataType::Int32)), ("2", None)]);
        let rows = batch(vec![
            ("a", Arc::new(Int64Array::from(vec![7, 8]))),
            ("b", Arc::new(StringArray::from(vec![Some("x"), None]))),
        ]);
        let rows = ParameterRows::new(&description, &rows).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            list(rows.row(0).unwrap()),
            [ScalarValue::Int32(Some(7)), ScalarValue::Utf8(Some("x".to_owned()))]
        );
        assert_eq!(list(rows.row(1).unwrap())[1], ScalarValue::Utf8(None));
    }

    #[test]
    fn nothing_is_cut_off() {
        let description = description(&[("1", Some(DataType::Int32))]);
        let large = batch(vec![("a", Arc::new(Int64Array::from(vec![1_i64 << 40])))]);
        assert_eq!(ParameterRows::new(&description, &large).unwrap_err().sqlstate(), "22018");
        let fraction = batch(vec![("a", Arc::new(Float64Array::from(vec![1.5])))]);
        let rows = ParameterRows::new(&description, &fraction).unwrap();
        assert_eq!(list(rows.row(0).unwrap()), [ScalarValue::Float64(Some(1.5))]);
    }

    #[test]
    fn errors_name_the_types_of_sql() {
        let description = description(&[("1", Some(DataType::Utf8View))]);
        let bytes = batch(vec![("a", Arc::new(BinaryArray::from(vec![&[0xff_u8][..]])))]);
        let error = ParameterRows::new(&description, &bytes).unwrap_err();
        assert_eq!(error.sqlstate(), "22018");
        assert_eq!(error.message(), "a value of parameter 1 does not fit its place, which is TEXT");
        let few = batch(vec![
            ("a", Arc::new(Int64Array::from(vec![1]))),
            ("b", Arc::new(Int64Array::from(vec![1]))),
        ]);
        let error = ParameterRows::new(&description, &few).unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.message()),
            ("07001", "the statement has 1 parameter, 2 were given")
        );
    }

    #[test]
    fn vectors_come_as_lists_or_text() {
        let vector =
            |dim| DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), dim);
        let lists = || {
            let rows = [Some(vec![Some(1.0), Some(0.5)])];
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows)) as ArrayRef
        };
        let bound = |wanted: DataType, column: ArrayRef| {
            let description = description(&[("1", Some(wanted))]);
            let rows = ParameterRows::new(&description, &batch(vec![("a", column)]))?;
            Ok::<_, Error>(list(rows.row(0)?).remove(0))
        };
        assert_eq!(bound(vector(2), lists()).unwrap().data_type(), vector(2));
        assert_eq!(bound(vector(3), lists()).unwrap_err().sqlstate(), "22018");
        let texts = || Arc::new(StringArray::from(vec!["[1]"])) as ArrayRef;
        for wanted in [vector(1), DataType::new_list(DataType::Utf8, true)] {
            assert_eq!(bound(wanted, texts()).unwrap(), ScalarValue::Utf8(Some("[1]".to_owned())));
        }
    }

    #[test]
    fn names_choose_columns() {
        let description = description(&[("b", None), ("a", None)]);
        let rows = batch(vec![
            ("a", Arc::new(Int64Array::from(vec![1]))),
            ("b", Arc::new(Int64Array::from(vec![2]))),
        ]);
        let ParamValues::Map(values) = ParameterRows::new(&description, &rows).unwrap().row(0).unwrap()
        else {
            panic!("not a map")
        };
        assert_eq!(values["a"].value, ScalarValue::Int64(Some(1)));
        assert_eq!(values["b"].value, ScalarValue::Int64(Some(2)));
        let few = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
        assert_eq!(ParameterRows::new(&description, &few).unwrap_err().sqlstate(), "07001");
    }
}
