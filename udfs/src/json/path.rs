//! Where in a JSON value to look: `$.a[0]."b c"`, `/a/0`, a key, or an index.

use std::cell::RefCell;

use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;

use super::value::Json;
use crate::function::{Call, Primitives, Texts, invalid};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
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

    /// The path that `text` is as PostgreSQL writes an array of texts: `{a,0,"a key"}`; None: it is none.
    pub(super) fn listed(text: &str) -> Option<Self> {
        Some(Self::of_keys(keys_of(text)?))
    }

    /// The path of keys of objects and indexes of arrays, one after the other.
    pub(super) fn of_keys(keys: Vec<String>) -> Self {
        Self(keys.into_iter().map(Step::Either).collect())
    }

    /// Its steps, one after the other.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
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

/// The texts of an array as PostgreSQL writes it; None: it is none.
fn keys_of(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let behind = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (key, behind) = quoted_key(quoted, '"')?;
                keys.push(key);
                behind.trim_start()
            }
            None => {
                let (key, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if key.trim().is_empty() || key.contains(['{', '}', '"']) {
                    return None;
                }
                keys.push(key.trim().to_owned());
                behind
            }
        };
        if behind.is_empty() {
            break;
        }
        rest = behind.strip_prefix(',')?.trim_start();
        if rest.is_empty() {
            return None;
        }
    }
    Some(keys)
}

/// The JSON pointer to where such an array leads; None: it is none.
pub(super) fn pointer(text: &str) -> Option<String> {
    let keys = keys_of(text)?;
    if keys.is_empty() {
        return Some("$".to_owned());
    }
    Some(keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect())
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

    /// What `of` makes of the path of a row; None where that is NULL.
    pub(super) fn with<T>(&self, row: usize, of: impl FnOnce(&Path) -> Result<T>) -> Result<Option<T>> {
        match self {
            Self::None => of(&Path::default()).map(Some),
            Self::Indexes(indexes) => indexes.at(row).map(|index| of(&Path::of_index(index))).transpose(),
            Self::Texts(texts, last) => {
                let Some(text) = texts.at(row) else { return Ok(None) };
                let mut last = last.borrow_mut();
                if let Some((known, path)) = last.as_ref()
                    && known == text
                {
                    return of(path).map(Some);
                }
                let path = Path::read(text)?;
                let made = of(&path)?;
                *last = Some((text.to_owned(), path));
                Ok(Some(made))
            }
        }
    }

    /// What the path of a row finds in `text`; None also where the path is NULL.
    pub(super) fn find<'t>(&self, text: &'t str, row: usize) -> Result<Option<Json<'t>>> {
        let json = Json::read(text)?;
        Ok(self.with(row, |path| Ok(path.find(json)))?.flatten())
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
    fn arrays_of_keys_lead_where_pointers_do() {
        for (text, wanted) in [
            ("{a,b c,0}", Some("/a/b c/0")),
            ("{ \"a/b\" , \"x,~\\\"\" }", Some("/a~1b/x,~0\"")),
            ("{}", Some("$")),
            ("a", None),
            ("{a,}", None),
            ("{,a}", None),
            ("{\"a\"b}", None),
            ("{a", None),
        ] {
            assert_eq!(pointer(text).as_deref(), wanted, "{text}");
        }
        let json = Json::read("{\"a\":[1,{\"b\":2}]}").unwrap();
        let found = Path::listed("{a,-1,b}").unwrap().find(json);
        assert_eq!(found.map(Json::raw), Some("2"));
    }

    #[test]
    fn other_paths_are_refused() {
        for path in ["$a", "$.", "$..a", "$[", "$[a]", "$[*]", "$.*", "$.\"a", "$[\"a\""] {
            assert!(Path::read(path).is_err(), "{path}");
        }
    }
}
