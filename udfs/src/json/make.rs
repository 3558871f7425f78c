//! JSON of SQL's values: `to_json`, `json_object`, `json_array`, and JSON for people.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::value::{Json, Sort};
use super::{Writer, check_depth};
use crate::bounded::TooLarge;
use crate::function::{Call, Kind, Spec, TextRows, Values, invalid};

pub(super) fn functions() -> Vec<Spec> {
    vec![
        Spec::new(
            "to_json(value)",
            &[&[Kind::Any]],
            |_| DataType::Utf8View,
            |call| {
                let values = call.values(0)?;
                let writer = Writer::new(values.array())?;
                TextRows::written(call, |row, out| {
                    let at = values.at(row);
                    if writer.is_null(at) {
                        return Ok(false);
                    }
                    writer.write(at, out, call.limit())?;
                    Ok(true)
                })
            },
            "The value as JSON: lists as arrays, structs and maps as objects, dates and texts as strings; NULL of NULL.",
            "SELECT to_json(named_struct('a', 1, 'b', make_array(1, 2)))  -- {\"a\":1,\"b\":[1,2]}",
        )
        .also(&["to_jsonb", "array_to_json", "row_to_json"]),
        Spec::new(
            "json_array(value, …)",
            &[&[]],
            |_| DataType::Utf8View,
            |call| {
                let values = (0..call.len()).map(|at| call.values(at)).collect::<Result<Vec<Values>>>()?;
                let writers = values.iter().map(|of| Writer::new(of.array())).collect::<Result<Vec<_>>>()?;
                TextRows::written(call, |row, out| {
                    out.push('[');
                    for (place, (writer, values)) in writers.iter().zip(&values).enumerate() {
                        if place > 0 {
                            out.push(',');
                        }
                        writer.write(values.at(row), out, call.limit())?;
                    }
                    out.push(']');
                    Ok(true)
                })
            },
            "An array of the values. Texts are strings, also those that are JSON themselves.",
            "SELECT json_array(1, 'a', NULL)  -- [1,\"a\",null]",
        )
        .and_more(Kind::Any)
        .also(&["json_build_array", "jsonb_build_array"]),
        Spec::new(
            "json_object(key, value, …)",
            &[&[]],
            |_| DataType::Utf8View,
            objects,
            "An object of keys and values. Texts are strings, also those that are JSON themselves; lists and structs are JSON.",
            "SELECT json_object('a', 1, 'b', make_array(2, 3))  -- {\"a\":1,\"b\":[2,3]}",
        )
        .and_more(Kind::Any)
        .also(&["json_build_object", "jsonb_build_object"]),
        Spec::new(
            "json_pretty(json)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    let Some(text) = texts.at(row) else { return Ok(false) };
                    pretty(Json::read(text)?, 0, out, call)?;
                    Ok(true)
                })
            },
            "The JSON for people: a line for each member and element, indented.",
            "SELECT json_pretty('{\"a\":1}')",
        )
        .also(&["jsonb_pretty"]),
    ]
}

fn objects(call: &Call<'_>) -> Result<ArrayRef> {
    if !call.len().is_multiple_of(2) {
        return Err(invalid("22023", "json_object takes a value for each key"));
    }
    let values = (0..call.len()).map(|at| call.values(at)).collect::<Result<Vec<Values>>>()?;
    let writers = values.iter().map(|of| Writer::new(of.array())).collect::<Result<Vec<_>>>()?;
    TextRows::written(call, |row, out| {
        out.push('{');
        for (place, (writer, values)) in writers.iter().zip(&values).enumerate() {
            let at = values.at(row);
            if place % 2 == 1 {
                out.push(':');
                writer.write(at, out, call.limit())?;
                continue;
            }
            if place > 0 {
                out.push(',');
            }
            if writer.is_null(at) {
                return Err(invalid("22004", "NULL is no key of json_object"));
            }
            writer.write_key(at, out, call.limit())?;
        }
        out.push('}');
        Ok(true)
    })
}

fn pretty(json: Json<'_>, depth: usize, out: &mut String, call: &Call<'_>) -> Result<()> {
    check_depth(depth, call.name())?;
    if out.len() as u64 > call.limit() {
        return Err(TooLarge::error(format!("{} would make more than {} bytes", call.name(), call.limit())));
    }
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    let mut is_first = true;
    match json.sort() {
        Sort::Object => {
            out.push('{');
            for (key, value) in json.members() {
                if !is_first {
                    out.push(',');
                }
                is_first = false;
                line(depth + 1, out);
                out.push_str(key);
                out.push_str(": ");
                pretty(value, depth + 1, out, call)?;
            }
            if !is_first {
                line(depth, out);
            }
            out.push('}');
        }
        Sort::Array => {
            out.push('[');
            for value in json.elements() {
                if !is_first {
                    out.push(',');
                }
                is_first = false;
                line(depth + 1, out);
                pretty(value, depth + 1, out, call)?;
            }
            if !is_first {
                line(depth, out);
            }
            out.push(']');
        }
        Sort::Text | Sort::Number | Sort::Boolean | Sort::Null => out.push_str(json.raw()),
    }
    Ok(())
}
