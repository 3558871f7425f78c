//! What is in a JSON text: at a path, of which kind, how much of it.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;

use super::path::{Paths, either};
use super::value::{Json, Sort, is_json, unquoted};
use crate::function::{Call, Kind, Spec, TextLists, TextRows, booleans, integers};

const AT: &[&[Kind]] = &[&[Kind::Text, Kind::Text], &[Kind::Text, Kind::Integer]];
const MAY_BE_AT: &[&[Kind]] = &[&[Kind::Text], &[Kind::Text, Kind::Text]];

pub(super) fn functions() -> Vec<Spec> {
    let mut all = vec![
        Spec::new(
            "json_extract(json, path)",
            AT,
            |_| DataType::Utf8View,
            |call| {
                let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
                TextRows::parts(call, |row| match texts.at(row) {
                    Some(text) => Ok(paths.find(text, row)?.map(Json::raw)),
                    None => Ok(None),
                })
            },
            "The JSON at a path, also written json -> path: a key, an index from 0 or from -1 at the end, $.key.\"a key\"[0], or a pointer as /key/0. NULL where there \
             is nothing.",
            "SELECT json_extract('{\"a\": {\"b\": [1, 2]}}', '$.a.b[1]')  -- 2\nSELECT '{\"a\": [1, 2]}' -> 'a' -> 0  -- 1",
        ),
        Spec::new(
            "json_extract_string(json, path)",
            AT,
            |_| DataType::Utf8View,
            |call| {
                let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
                written(call, |row| match texts.at(row) {
                    Some(text) => paths.find(text, row),
                    None => Ok(None),
                })
            },
            "What is at a path as text, also written json ->> path: a string without its quotes; NULL of null.",
            "SELECT json_extract_string('{\"a\": \"x\"}', '$.a')  -- x\nSELECT '{\"a\": \"x\"}' ->> 'a'  -- x",
        ),
        Spec::new(
            "json_value(json, path)",
            AT,
            |_| DataType::Utf8View,
            |call| {
                let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
                written(call, |row| {
                    let Some(text) = texts.at(row) else { return Ok(None) };
                    let found = paths.find(text, row)?;
                    Ok(found.filter(|found| !matches!(found.sort(), Sort::Object | Sort::Array)))
                })
            },
            "As json_extract_string; NULL of an object or an array.",
            "SELECT json_value('{\"a\": {\"b\": 1}}', '$.a.b')  -- 1",
        ),
        Spec::new(
            "json_exists(json, path)",
            AT,
            |_| DataType::Boolean,
            |call| {
                let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
                booleans(call, |row| match texts.at(row) {
                    Some(text) => Ok(Some(paths.find(text, row)?.is_some())),
                    None => Ok(None),
                })
            },
            "Whether there is something at a path, null included.",
            "SELECT json_exists('{\"a\": null}', '$.a')  -- true",
        ),
        Spec::new(
            "json_extract_path(json, key, …)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let walk = Walk::new(call)?;
                TextRows::parts(call, |row| Ok(walk.find(row)?.map(Json::raw)))
            },
            "The JSON behind keys of objects and indexes of arrays, one after the other, as in PostgreSQL.",
            "SELECT json_extract_path('{\"a\": [1, 2]}', 'a', '1')  -- 2",
        )
        .also(&["jsonb_extract_path"])
        .and_more(Kind::Text),
        Spec::new(
            "json_extract_path_text(json, key, …)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let walk = Walk::new(call)?;
                written(call, |row| walk.find(row))
            },
            "As json_extract_path, as text: a string without its quotes; NULL of null.",
            "SELECT json_extract_path_text('{\"a\": [\"x\"]}', 'a', '0')  -- x",
        )
        .also(&["jsonb_extract_path_text"])
        .and_more(Kind::Text),
    ];
    all.extend(kinds());
    all.extend(lists());
    all
}

fn kinds() -> Vec<Spec> {
    vec![
        Spec::new(
            "json_valid(text)",
            &[&[Kind::Text]],
            |_| DataType::Boolean,
            |call| {
                let texts = call.texts(0)?;
                booleans(call, |row| Ok(texts.at(row).map(is_json)))
            },
            "Whether a text is JSON.",
            "SELECT json_valid('{a}')  -- false",
        ),
        Spec::new(
            "json_type(json, path)",
            MAY_BE_AT,
            |_| DataType::Utf8View,
            |call| named(call, duckdb_name),
            "What the JSON, or what is at a path of it, is: OBJECT, ARRAY, VARCHAR, UBIGINT, BIGINT, DOUBLE, BOOLEAN or NULL, as in DuckDB.",
            "SELECT json_type('[1, 2]')  -- ARRAY",
        ),
        Spec::new(
            "json_typeof(json)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| named(call, postgres_name),
            "What the JSON is: object, array, string, number, boolean or null, as in PostgreSQL.",
            "SELECT json_typeof('1.5')  -- number",
        )
        .also(&["jsonb_typeof"]),
        Spec::new(
            "json_array_length(json, path)",
            MAY_BE_AT,
            |_| DataType::Int64,
            |call| {
                let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
                integers(call, |row| {
                    let Some(text) = texts.at(row) else { return Ok(None) };
                    let found = paths.find(text, row)?;
                    Ok(found.map(|found| i64::try_from(found.elements().count()).unwrap_or(i64::MAX)))
                })
            },
            "How many elements the array has, or the one at a path; 0 of what is no array.",
            "SELECT json_array_length('[1, 2, 3]')  -- 3",
        )
        .also(&["jsonb_array_length"]),
    ]
}

fn lists() -> Vec<Spec> {
    fn list_of_texts() -> DataType {
        DataType::new_list(DataType::Utf8View, true)
    }
    vec![
        Spec::new(
            "json_keys(json, path)",
            MAY_BE_AT,
            |_| list_of_texts(),
            |call| {
                listed(call, |found, lists| {
                    found.members().try_for_each(|(key, _)| lists.push(Some(&unquoted(key))))
                })
            },
            "The keys of the object, or of the one at a path, a list; empty of what is no object.",
            "SELECT json_keys('{\"b\": 1, \"a\": 2}')  -- [b, a]",
        )
        .also(&["json_object_keys", "jsonb_object_keys"]),
        Spec::new(
            "json_array_elements(json, path)",
            MAY_BE_AT,
            |_| list_of_texts(),
            |call| {
                listed(call, |found, lists| found.elements().try_for_each(|of| lists.push(Some(of.raw()))))
            },
            "The elements of the array, or of the one at a path, a list of JSON; unnest() makes rows of it.",
            "SELECT unnest(json_array_elements('[1, \"a\"]'))  -- 1, \"a\"",
        )
        .also(&["jsonb_array_elements"]),
        Spec::new(
            "json_array_elements_text(json, path)",
            MAY_BE_AT,
            |_| list_of_texts(),
            |call| {
                listed(call, |found, lists| {
                    found.elements().try_for_each(|of| lists.push(of.text().as_deref()))
                })
            },
            "As json_array_elements, as texts: strings without their quotes; NULL of null.",
            "SELECT unnest(json_array_elements_text('[1, \"a\"]'))  -- 1, a",
        )
        .also(&["jsonb_array_elements_text"]),
        Spec::new(
            "json_each(json, path)",
            MAY_BE_AT,
            |_| list_of_pairs(),
            |call| paired(call, |of| Some(Cow::Borrowed(of.raw()))),
            "The members of the object, or of the one at a path, a list of structs of key and value; of an array its elements, with their indexes as keys. unnest() makes rows of it.",
            "SELECT e['key'], e['value'] FROM (SELECT unnest(json_each('{\"a\": \"x\"}')) AS e)  -- a, \"x\"",
        )
        .also(&["jsonb_each"]),
        Spec::new(
            "json_each_text(json, path)",
            MAY_BE_AT,
            |_| list_of_pairs(),
            |call| paired(call, |of| of.text()),
            "As json_each, the values as texts: strings without their quotes; NULL of null.",
            "SELECT e['key'], e['value'] FROM (SELECT unnest(json_each_text('{\"a\": \"x\"}')) AS e)  -- a, x",
        )
        .also(&["jsonb_each_text"]),
    ]
}

/// A key and a value.
fn pair() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8View, true),
        Field::new("value", DataType::Utf8View, true),
    ])
}

fn list_of_pairs() -> DataType {
    DataType::new_list(DataType::Struct(pair()), true)
}

/// The parts of what is found in each row, with their keys; `value` is what is said of one.
fn paired(call: &Call<'_>, value: fn(Json<'_>) -> Option<Cow<'_, str>>) -> Result<ArrayRef> {
    // One of the two has parts at most.
    let keys = listed(call, |found, lists| {
        found.members().try_for_each(|(key, _)| lists.push(Some(&unquoted(key))))?;
        found.elements().enumerate().try_for_each(|(at, _)| lists.push(Some(&at.to_string())))
    })?;
    let values = listed(call, |found, lists| {
        found.members().try_for_each(|(_, of)| lists.push(value(of).as_deref()))?;
        found.elements().try_for_each(|of| lists.push(value(of).as_deref()))
    })?;
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let columns = vec![Arc::clone(keys.values()), Arc::clone(values.values())];
    let pairs = StructArray::try_new(pair(), columns, None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(pair()), true));
    let nulls = keys.nulls().cloned();
    Ok(Arc::new(ListArray::try_new(item, keys.offsets().clone(), Arc::new(pairs), nulls)?))
}

/// The text of what is found in each row.
fn written<'a>(call: &Call<'_>, find: impl Fn(usize) -> Result<Option<Json<'a>>>) -> Result<ArrayRef> {
    let mut rows = TextRows::new(call);
    for row in 0..call.rows() {
        let text = find(row)?.and_then(Json::text);
        rows.push(text.as_deref())?;
    }
    Ok(rows.finish())
}

fn named(call: &Call<'_>, name: fn(Json<'_>) -> &'static str) -> Result<ArrayRef> {
    let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
    TextRows::parts(call, |row| match texts.at(row) {
        Some(text) => Ok(paths.find(text, row)?.map(name)),
        None => Ok(None),
    })
}

fn listed(call: &Call<'_>, push: impl Fn(Json<'_>, &mut TextLists) -> Result<()>) -> Result<ArrayRef> {
    let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
    let mut lists = TextLists::new(call);
    for row in 0..call.rows() {
        let found = match texts.at(row) {
            Some(text) => paths.find(text, row)?,
            None => None,
        };
        if let Some(found) = found {
            push(found, &mut lists)?;
        }
        lists.end_row(found.is_some());
    }
    Ok(lists.finish())
}

fn duckdb_name(json: Json<'_>) -> &'static str {
    match json.sort() {
        Sort::Object => "OBJECT",
        Sort::Array => "ARRAY",
        Sort::Text => "VARCHAR",
        Sort::Boolean => "BOOLEAN",
        Sort::Null => "NULL",
        Sort::Number if json.raw().parse::<u64>().is_ok() => "UBIGINT",
        Sort::Number if json.raw().parse::<i64>().is_ok() => "BIGINT",
        Sort::Number => "DOUBLE",
    }
}

fn postgres_name(json: Json<'_>) -> &'static str {
    match json.sort() {
        Sort::Object => "object",
        Sort::Array => "array",
        Sort::Text => "string",
        Sort::Number => "number",
        Sort::Boolean => "boolean",
        Sort::Null => "null",
    }
}

/// Keys of `json_extract_path`.
struct Walk<'a> {
    texts: crate::function::Texts<'a>,
    keys: Vec<crate::function::Texts<'a>>,
}

impl<'a> Walk<'a> {
    fn new(call: &Call<'a>) -> Result<Self> {
        let keys = (1..call.len()).map(|at| call.texts(at)).collect::<Result<_>>()?;
        Ok(Self { texts: call.texts(0)?, keys })
    }

    fn find(&self, row: usize) -> Result<Option<Json<'a>>> {
        let Some(text) = self.texts.at(row) else { return Ok(None) };
        let json = Json::read(text)?;
        Ok(self.keys.iter().try_fold(json, |json, keys| either(json, keys.at(row)?)))
    }
}
