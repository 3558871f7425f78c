//! JSON changed: a value put at a path or taken away, members laid over others, nulls left out.
//!
//! What is not touched stands in the result as it stood in the text; an object or an array that is, is written anew without blanks.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::path::{Path, Paths, Step};
use super::value::{Json, Sort, unquoted};
use super::write::text;
use super::{Writer, check_depth};
use crate::function::{Call, Kind, Spec, TextRows, Texts, Values, invalid};

pub(super) fn functions() -> Vec<Spec> {
    const PUT: &[&[Kind]] = &[&[Kind::Text, Kind::Text, Kind::Any], &[Kind::Text, Kind::Integer, Kind::Any]];
    vec![
        Spec::new(
            "json_set(json, path, value)",
            PUT,
            |_| DataType::Utf8View,
            |call| put(call, true, true),
            "The JSON with the value at a path of json_extract, in the place of what is there. Where nothing is, an object gets a member and an array an element at \
             its end; a path through what is not there changes nothing. The value is written as by json_object; NULL is null.",
            "SELECT json_set('{\"a\": 1}', '$.b', 'x')  -- {\"a\":1,\"b\":\"x\"}",
        ),
        Spec::new(
            "json_insert(json, path, value)",
            PUT,
            |_| DataType::Utf8View,
            |call| put(call, false, true),
            "As json_set, where nothing is at the path; else the JSON as it is.",
            "SELECT json_insert('{\"a\":1}', '$.a', 2)  -- {\"a\":1}",
        ),
        Spec::new(
            "json_replace(json, path, value)",
            PUT,
            |_| DataType::Utf8View,
            |call| put(call, true, false),
            "As json_set, where something is at the path; else the JSON as it is.",
            "SELECT json_replace('{\"a\":1}', '$.a', 2)  -- {\"a\":2}",
        ),
        Spec::new(
            "json_remove(json, path)",
            &[&[Kind::Text, Kind::Text], &[Kind::Text, Kind::Integer]],
            |_| DataType::Utf8View,
            remove,
            "The JSON without what is at a path of json_extract; NULL where the path is the whole.",
            "SELECT json_remove('{\"a\":1,\"b\":2}', '$.a')  -- {\"b\":2}",
        ),
        Spec::new(
            "jsonb_set(json, path, value, create)",
            &[
                &[Kind::Text, Kind::Text, Kind::Text],
                &[Kind::Text, Kind::Text, Kind::Text, Kind::Boolean],
                &[Kind::Text, Kind::List, Kind::Text],
                &[Kind::Text, Kind::List, Kind::Text, Kind::Boolean],
            ],
            |_| DataType::Utf8View,
            put_json,
            "The JSON with the value, which is JSON itself, at a path as '{key,0}' or ['key', '0'], as in PostgreSQL; nothing new is made where create is false.",
            "SELECT jsonb_set('{\"a\":[1,2]}', '{a,0}', '{\"b\":3}')  -- {\"a\":[{\"b\":3},2]}",
        ),
        Spec::new(
            "json_merge_patch(json, patch)",
            &[&[Kind::Text, Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let (texts, patches) = (call.texts(0)?, call.texts(1)?);
                TextRows::written(call, |row, out| {
                    let (Some(json), Some(patch)) = (texts.at(row), patches.at(row)) else { return Ok(false) };
                    merge(Some(Json::read(json)?), Json::read(patch)?, 0, out, call.name())?;
                    Ok(true)
                })
            },
            "The object with the members of the patch laid over its own, within objects too; a member that is null in the patch is taken away (RFC 7396).",
            "SELECT json_merge_patch('{\"a\":1,\"b\":2}', '{\"b\":null,\"c\":3}')  -- {\"a\":1,\"c\":3}",
        ),
        Spec::new(
            "json_strip_nulls(json)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    let Some(text) = texts.at(row) else { return Ok(false) };
                    strip(Json::read(text)?, 0, out, call.name())?;
                    Ok(true)
                })
            },
            "The JSON without members that are null, at any depth; elements of arrays stay. As in PostgreSQL.",
            "SELECT json_strip_nulls('{\"a\":null,\"b\":[null]}')  -- {\"b\":[null]}",
        )
        .also(&["jsonb_strip_nulls"]),
    ]
}

/// What becomes of the place at the end of a path.
#[derive(Clone, Copy, Debug)]
enum Edit<'a> {
    /// This JSON stands there: where something is, and where nothing is; of an array also in front, where an index is before its first
    /// element.
    Put { value: &'a str, there: bool, missing: bool, in_front: bool },
    /// Nothing stands there.
    Remove,
}

fn put(call: &Call<'_>, there: bool, missing: bool) -> Result<ArrayRef> {
    let (texts, paths, values) = (call.texts(0)?, Paths::new(call, 1)?, call.values(2)?);
    let writer = Writer::new(values.array())?;
    let mut value = String::new();
    TextRows::written(call, |row, out| {
        let Some(text) = texts.at(row) else { return Ok(false) };
        let json = Json::read(text)?;
        value.clear();
        writer.write(values.at(row), &mut value, call.limit())?;
        let edit = Edit::Put { value: &value, there, missing, in_front: false };
        let made = paths.with(row, |path| {
            check_depth(path.steps().len(), call.name())?;
            change(json, path.steps(), edit, out);
            Ok(())
        })?;
        Ok(made.is_some())
    })
}

fn remove(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, paths) = (call.texts(0)?, Paths::new(call, 1)?);
    TextRows::written(call, |row, out| {
        let Some(text) = texts.at(row) else { return Ok(false) };
        let json = Json::read(text)?;
        let left = paths.with(row, |path| {
            check_depth(path.steps().len(), call.name())?;
            change(json, path.steps(), Edit::Remove, out);
            Ok(!path.steps().is_empty())
        })?;
        Ok(left.unwrap_or(false))
    })
}

/// Paths as arrays of texts, in one text or as a list.
enum Keys<'a> {
    Texts(Texts<'a>),
    /// The lists, and as lists of texts.
    Lists(Values, ArrayRef),
}

impl<'a> Keys<'a> {
    fn new(call: &Call<'a>, at: usize) -> Result<Self> {
        if !matches!(call.type_of(at)?, DataType::List(_)) {
            return Ok(Self::Texts(call.texts(at)?));
        }
        let lists = call.values(at)?;
        let texts = cast(lists.array(), &DataType::new_list(DataType::Utf8View, true))?;
        Ok(Self::Lists(lists, texts))
    }

    /// The path of a row; None: it is NULL.
    fn at(&self, row: usize) -> Result<Option<Path>> {
        match self {
            Self::Texts(texts) => {
                let Some(text) = texts.at(row) else { return Ok(None) };
                let Some(path) = Path::listed(text) else {
                    let cut: String = text.chars().take(60).collect();
                    return Err(invalid("22P02", format!("'{cut}' is no path as {{key,0,\"a key\"}}")));
                };
                Ok(Some(path))
            }
            Self::Lists(lists, _) if lists.is_null(row) => Ok(None),
            Self::Lists(lists, texts) => {
                let keys = texts.as_list::<i32>().value(lists.at(row));
                let keys = keys.as_string_view().iter().map(|key| key.map(str::to_owned));
                match keys.collect::<Option<Vec<String>>>() {
                    Some(keys) => Ok(Some(Path::of_keys(keys))),
                    None => Err(invalid("22P02", "a path of JSON has no NULL in it")),
                }
            }
        }
    }
}

fn put_json(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, paths, values) = (call.texts(0)?, Keys::new(call, 1)?, call.texts(2)?);
    let creates = if call.len() > 3 { Some(call.values(3)?) } else { None };
    TextRows::written(call, |row, out| {
        let (Some(text), Some(path), Some(value)) = (texts.at(row), paths.at(row)?, values.at(row)) else {
            return Ok(false);
        };
        let missing = match &creates {
            Some(creates) if creates.is_null(row) => return Ok(false),
            Some(creates) => creates.array().as_boolean().value(creates.at(row)),
            None => true,
        };
        check_depth(path.steps().len(), call.name())?;
        let (json, value) = (Json::read(text)?, Json::read(value)?.raw());
        // The whole is not put in its own place, as in PostgreSQL.
        let there = !path.steps().is_empty();
        change(json, path.steps(), Edit::Put { value, there, missing, in_front: true }, out);
        Ok(true)
    })
}

/// `json` behind `out`, changed where `steps` lead. Of nothing left of the whole, nothing is written.
fn change(json: Json<'_>, steps: &[Step], edit: Edit<'_>, out: &mut String) {
    let Some((step, rest)) = steps.split_first() else {
        match edit {
            Edit::Put { value, there: true, .. } => out.push_str(value),
            Edit::Put { .. } => out.push_str(json.raw()),
            Edit::Remove => {}
        }
        return;
    };
    let index = match step {
        Step::Key(_) => None,
        Step::Index(index) => Some(*index),
        Step::Either(name) => name.parse().ok(),
    };
    match (json.sort(), step, index) {
        (Sort::Object, Step::Key(key) | Step::Either(key), _) => in_object(json, key, rest, edit, out),
        (Sort::Array, _, Some(index)) => in_array(json, index, rest, edit, out),
        _ => out.push_str(json.raw()),
    }
}

fn in_object(json: Json<'_>, key: &str, rest: &[Step], edit: Edit<'_>, out: &mut String) {
    // Of a key that is there twice, the last counts: the value is put there alone, so that there is one more of it and not many.
    let meant = json.members().enumerate().filter(|(_, (name, _))| unquoted(name) == key).last();
    let meant = meant.map(|(place, _)| place);
    let goes = rest.is_empty() && matches!(edit, Edit::Remove);
    let mut parts = Parts::default();
    out.push('{');
    for (place, (name, value)) in json.members().enumerate() {
        if goes && unquoted(name) == key {
            continue;
        }
        parts.member(name, out);
        if meant == Some(place) {
            change(value, rest, edit, out);
        } else {
            out.push_str(value.raw());
        }
    }
    if let (None, true, Edit::Put { value, missing: true, .. }) = (meant, rest.is_empty(), edit) {
        parts.next(out);
        text(key, out);
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
}

fn in_array(json: Json<'_>, index: i64, rest: &[Step], edit: Edit<'_>, out: &mut String) {
    let count = json.elements().count();
    let from_end = |back: u64| usize::try_from(back).ok().and_then(|back| count.checked_sub(back));
    let at = usize::try_from(index).ok().or_else(|| from_end(index.unsigned_abs()));
    let mut parts = Parts::default();
    let in_front = match edit {
        Edit::Put { value, missing: true, in_front: true, .. } if rest.is_empty() => Some(value),
        Edit::Put { .. } | Edit::Remove => None,
    };
    out.push('[');
    if let (None, Some(value)) = (at, in_front) {
        parts.next(out);
        out.push_str(value);
    }
    for (place, value) in json.elements().enumerate() {
        if at != Some(place) {
            parts.next(out);
            out.push_str(value.raw());
        } else if !rest.is_empty() || !matches!(edit, Edit::Remove) {
            parts.next(out);
            change(value, rest, edit, out);
        }
    }
    let is_behind = at.is_some_and(|at| at >= count);
    if let (true, true, Edit::Put { value, missing: true, .. }) = (is_behind, rest.is_empty(), edit) {
        parts.next(out);
        out.push_str(value);
    }
    out.push(']');
}

/// Commas between members and elements.
#[derive(Default)]
struct Parts {
    is_begun: bool,
}

impl Parts {
    fn next(&mut self, out: &mut String) {
        if self.is_begun {
            out.push(',');
        }
        self.is_begun = true;
    }

    /// The next one, with a key that has its quotes.
    fn member(&mut self, name: &str, out: &mut String) {
        self.next(out);
        out.push_str(name);
        out.push(':');
    }
}

/// A member of an object.
struct Member<'a> {
    /// With its quotes.
    name: &'a str,
    key: Cow<'a, str>,
    value: Json<'a>,
}

/// The members of an object; of a key that is there twice, the last.
fn distinct(json: Json<'_>) -> Vec<Member<'_>> {
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::new();
    for (name, value) in json.members() {
        let key = unquoted(name);
        match places.get(&key).and_then(|place| members.get_mut(*place)) {
            Some(there) => there.value = value,
            None => {
                places.insert(key.clone(), members.len());
                members.push(Member { name, key, value });
            }
        }
    }
    members
}

fn merge(
    target: Option<Json<'_>>,
    patch: Json<'_>,
    depth: usize,
    out: &mut String,
    function: &str,
) -> Result<()> {
    if patch.sort() != Sort::Object {
        out.push_str(patch.raw());
        return Ok(());
    }
    check_depth(depth, function)?;
    let patches = distinct(patch);
    let targets = target.map(distinct).unwrap_or_default();
    let by_key: HashMap<&str, Json<'_>> =
        patches.iter().map(|member| (member.key.as_ref(), member.value)).collect();
    let there: HashSet<&str> = targets.iter().map(|member| member.key.as_ref()).collect();
    let mut parts = Parts::default();
    out.push('{');
    for member in &targets {
        match by_key.get(member.key.as_ref()) {
            None => {
                parts.member(member.name, out);
                out.push_str(member.value.raw());
            }
            Some(patch) if patch.sort() == Sort::Null => {}
            Some(patch) => {
                parts.member(member.name, out);
                merge(Some(member.value), *patch, depth + 1, out, function)?;
            }
        }
    }
    for member in &patches {
        if !there.contains(member.key.as_ref()) && member.value.sort() != Sort::Null {
            parts.member(member.name, out);
            merge(None, member.value, depth + 1, out, function)?;
        }
    }
    out.push('}');
    Ok(())
}

fn strip(json: Json<'_>, depth: usize, out: &mut String, function: &str) -> Result<()> {
    check_depth(depth, function)?;
    let mut parts = Parts::default();
    match json.sort() {
        Sort::Object => {
            out.push('{');
            for (name, value) in json.members().filter(|(_, value)| value.sort() != Sort::Null) {
                parts.member(name, out);
                strip(value, depth + 1, out, function)?;
            }
            out.push('}');
        }
        Sort::Array => {
            out.push('[');
            for value in json.elements() {
                parts.next(out);
                strip(value, depth + 1, out, function)?;
            }
            out.push(']');
        }
        Sort::Text | Sort::Number | Sort::Boolean | Sort::Null => out.push_str(json.raw()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOTH: Edit<'static> = Edit::Put { value: "9", there: true, missing: true, in_front: false };

    fn changed(json: &str, path: &str, edit: Edit<'_>) -> String {
        let mut out = String::new();
        change(Json::read(json).unwrap(), Path::read(path).unwrap().steps(), edit, &mut out);
        out
    }

    #[test]
    fn values_are_put_and_taken_away() {
        let json = r#"{"a": [1, {"b": 2}], "c": null}"#;
        for (path, wanted) in [
            ("$.c", r#"{"a":[1, {"b": 2}],"c":9}"#),
            ("$.d", r#"{"a":[1, {"b": 2}],"c":null,"d":9}"#),
            ("$.a[0]", r#"{"a":[9,{"b": 2}],"c":null}"#),
            ("$.a[-1].b", r#"{"a":[1,{"b":9}],"c":null}"#),
            ("$.a[7]", r#"{"a":[1,{"b": 2},9],"c":null}"#),
            ("/a/1/b", r#"{"a":[1,{"b":9}],"c":null}"#),
            ("$.x.y", r#"{"a":[1, {"b": 2}],"c":null}"#),
            ("$", "9"),
        ] {
            assert_eq!(changed(json, path, BOTH), wanted, "{path}");
        }
        assert_eq!(changed("[1,{\"b\":2}]", "$[-9]", BOTH), r#"[1,{"b":2}]"#);
        let front = Edit::Put { value: "9", there: true, missing: true, in_front: true };
        assert_eq!(changed("[1, 2]", "$[-9]", front), "[9,1,2]");
        assert_eq!(changed("[]", "$[-1]", front), "[9]");
        assert_eq!(changed("[1, 2]", "$[-2]", front), "[9,2]");
        assert_eq!(changed("[1,2]", "$[-9].a", front), "[1,2]");
        let only = |there| Edit::Put { value: "9", there, missing: !there, in_front: false };
        assert_eq!(changed("{\"a\":1}", "a", only(false)), "{\"a\":1}");
        assert_eq!(changed("{\"a\":1}", "b", only(true)), "{\"a\":1}");
        assert_eq!(changed("[1,2,3]", "$[1]", Edit::Remove), "[1,3]");
        assert_eq!(changed("{\"a\":1,\"b\":2,\"a\":3}", "a", Edit::Remove), "{\"b\":2}");
        assert_eq!(changed("{\"a\":1,\"b\":2,\"a\":3}", "a", BOTH), "{\"a\":1,\"b\":2,\"a\":9}");
        assert_eq!(changed("{\"a\":{},\"a\":{}}", "$.a.b", BOTH), "{\"a\":{},\"a\":{\"b\":9}}");
        assert_eq!(changed("1", "$.a", BOTH), "1");
    }

    #[test]
    fn patches_are_those_of_the_rfc() {
        for (target, patch, wanted) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"a":"foo"}"#, "null", "null"),
        ] {
            let mut out = String::new();
            merge(Some(Json::read(target).unwrap()), Json::read(patch).unwrap(), 0, &mut out, "f").unwrap();
            assert_eq!(out, wanted, "{target} {patch}");
        }
    }

    #[test]
    fn nulls_are_left_out_and_depth_has_an_end() {
        let mut out = String::new();
        let json = Json::read(r#"{"a":null,"b":[null,{"c":null}],"d":{}}"#).unwrap();
        strip(json, 0, &mut out, "f").unwrap();
        assert_eq!(out, r#"{"b":[null,{}],"d":{}}"#);
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(strip(Json::read(&deep).unwrap(), 0, &mut out, "f").is_err());
    }
}
