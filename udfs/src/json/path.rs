//! Where in a JSON value to look: `$.a[0]."b c"`, `/a/0`, a key, or an index.

use std::cell::RefCell;

use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;

use super::value::Json;
use crate::function::{Call, Primitives, Texts, invalid};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(i64),
    /// Of a pointer: of an object a key, of an array an index.
    Either(String),
}

/// The steps of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// The path that `text` is: with `$` in front one with steps, with `/` a JSON pointer, anything else a key.
    ///
    /// # Errors
    /// When it begins as one with steps and goes on otherwise.
    pub(super) fn read(text: &str) -> Result<Self> {
        if let Some(steps) = text.strip_prefix('$') {
            return match steps_of(steps) {
                Some(steps) => Ok(Self(steps)),
                None => {
                    let cut: String = text.chars().take(60).collect();
                    let how = "a path is as $.key, $.\"a key\", $[0] or $[-1]; * is not among them";
                    Err(invalid("2203F", format!("'{cut}' is no path of JSON: {how}")))
                }
            };
        }
        Ok(Self(match text.strip_prefix('/') {
            Some(pointer) => {
                let step = |step: &str| Step::Either(step.replace("~1", "/").replace("~0", "~"));
                pointer.split('/').map(step).collect()
            }
            None => vec![Step::Key(text.to_owned())],
        }))
    }

    fn of_index(index: i64) -> Self {
        Self(vec![Step::Index(index)])
    }

    /// What `json` has there.
    pub(super) fn find<'a>(&self, json: Json<'a>) -> Option<Json<'a>> {
        self.0.iter().try_fold(json, |json, step| match step {
            Step::Key(key) => json.member(key),
            Step::Index(index) => json.element(*index),
            Step::Either(name) => either(json, name),
        })
    }
}

/// The member of an object, or the element of an array, as a pointer or PostgreSQL's `#>` finds it.
pub(super) fn either<'a>(json: Json<'a>, name: &str) -> Option<Json<'a>> {
    json.member(name).or_else(|| json.element(name.parse().ok()?))
}

fn steps_of(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('.') {
            let (key, behind) = match behind.strip_prefix('"') {
                Some(quoted) => quoted_key(quoted, '"')?,
                None => {
                    let end = behind.find(['.', '[']).unwrap_or(behind.len());
                    let (key, behind) = behind.split_at(end);
                    if key.is_empty() || key == "*" {
                        return None;
                    }
                    (key.to_owned(), behind)
                }
            };
            steps.push(Step::Key(key));
            rest = behind;
            continue;
        }
        let behind = rest.strip_prefix('[')?;
        let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote {
            let (key, behind) = quoted_key(&behind[1..], quote)?;
            steps.push(Step::Key(key));
            rest = behind.strip_prefix(']')?;
            continue;
        }
        let (index, behind) = behind.split_once(']')?;
        // Also as SQLite has it, from the end: [#-1].
        let index: i64 = index.trim().trim_start_matches('#').parse().ok()?;
        steps.push(Step::Index(index));
        rest = behind;
    }
    Some(steps)
}

/// The key that `text` begins with and that `quote` ends, and what is behind.
fn quoted_key(text: &str, quote: char) -> Option<(String, &str)> {
    let (mut key, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.push(chars.next()?.1),
            c if c == quote => return Some((key, &text[at + c.len_utf8()..])),
            c => key.push(c),
        }
    }
    None
}

/// The paths of the rows; the last one is kept, as it mostly is the next one, too.
pub(super) enum Paths<'a> {
    /// The value itself.
    None,
    Texts(Texts<'a>, RefCell<Option<(String, Path)>>),
    Indexes(Primitives<'a, Int64Type>),
}

impl<'a> Paths<'a> {
    /// Those of an argument, which may be missing.
    pub(super) fn new(call: &Call<'a>, at: usize) -> Result<Self> {
        if call.len() <= at {
            return Ok(Self::None);
        }
        Ok(match call.type_of(at)? {
            DataType::Int64 => Self::Indexes(call.integers(at)?),
            _ => Self::Texts(call.texts(at)?, RefCell::new(None)),
        })
    }

    /// What the path of a row finds in `text`; None also where the path is NULL.
    pub(super) fn find<'t>(&self, text: &'t str, row: usize) -> Result<Option<Json<'t>>> {
        let json = Json::read(text)?;
        match self {
            Self::None => Ok(Some(json)),
            Self::Indexes(indexes) => Ok(indexes.at(row).and_then(|index| Path::of_index(index).find(json))),
            Self::Texts(texts, last) => {
                let Some(text) = texts.at(row) else { return Ok(None) };
                if let Some((of, path)) = last.borrow().as_ref()
                    && of == text
                {
                    return Ok(path.find(json));
                }
                let path = Path::read(text)?;
                let found = path.find(json);
                *last.borrow_mut() = Some((text.to_owned(), path));
                Ok(found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(json: &str, path: &str) -> Option<String> {
        Path::read(path).unwrap().find(Json::read(json).unwrap()).map(|json| json.raw().to_owned())
    }

    #[test]
    fn every_form_finds() {
        let json = r#"{"a":{"b c":[1,2]},"$":3,"1":4}"#;
        for path in ["$.a.\"b c\"[1]", "$.a[\"b c\"][-1]", "$['a']['b c'][#-1]", "/a/b c/1"] {
            assert_eq!(found(json, path).as_deref(), Some("2"), "{path}");
        }
        assert_eq!(found(json, "$").as_deref(), Some(json));
        assert_eq!(found(json, "$.\"$\"").as_deref(), Some("3"));
        assert_eq!((found(json, "1").as_deref(), found(json, "b")), (Some("4"), None));
        assert_eq!(found("{\"a/b\":1}", "/a~1b").as_deref(), Some("1"));
    }

    #[test]
    fn other_paths_are_refused() {
        for path in ["$a", "$.", "$..a", "$[", "$[a]", "$[*]", "$.*", "$.\"a", "$[\"a\""] {
            assert!(Path::read(path).is_err(), "{path}");
        }
    }
}
