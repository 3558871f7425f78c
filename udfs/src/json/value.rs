//! A JSON value as it stands in its text: parts are found without making a tree of it.
//!
//! The text is checked once, as a whole; whatever reads parts of it relies on that, and finds nothing where it does not hold.

use std::borrow::Cow;

use datafusion::common::Result;
use serde::de::IgnoredAny;

use super::no_json;

/// A value, without blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Json<'a>(&'a str);

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Object,
    Array,
    Text,
    Number,
    Boolean,
    Null,
}

/// Whether `text` is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

impl<'a> Json<'a> {
    /// The value that `text` is.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(text: &'a str) -> Result<Self> {
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Ok(Self(text.trim_matches(BLANKS))),
            Err(error) => Err(no_json(text, &error)),
        }
    }

    /// As it stands there.
    pub(super) fn raw(self) -> &'a str {
        self.0
    }

    /// Its kind.
    pub(super) fn sort(self) -> Sort {
        match self.0.as_bytes().first() {
            Some(b'{') => Sort::Object,
            Some(b'[') => Sort::Array,
            Some(b'"') => Sort::Text,
            Some(b't' | b'f') => Sort::Boolean,
            Some(b'n') | None => Sort::Null,
            Some(_) => Sort::Number,
        }
    }

    /// A string without its quotes, another value as it stands there; None of null.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self.sort() {
            Sort::Null => None,
            Sort::Text => Some(unquoted(self.0)),
            Sort::Object | Sort::Array | Sort::Number | Sort::Boolean => Some(Cow::Borrowed(self.0)),
        }
    }

    /// Keys, with their quotes, and values of an object; none of anything else.
    pub(super) fn members(self) -> Parts<'a> {
        Parts { text: self.0, at: 1, has_keys: true, is_over: self.sort() != Sort::Object }
    }

    /// Values of an array; none of anything else.
    pub(super) fn elements(self) -> impl Iterator<Item = Json<'a>> {
        let is_over = self.sort() != Sort::Array;
        Parts { text: self.0, at: 1, has_keys: false, is_over }.map(|(_, value)| value)
    }

    /// The value of a key of an object.
    pub(super) fn member(self, key: &str) -> Option<Json<'a>> {
        self.members().filter(|(name, _)| unquoted(name) == key).last().map(|(_, value)| value)
    }

    /// The element of an array, from 0, or from -1 at its end.
    pub(super) fn element(self, index: i64) -> Option<Json<'a>> {
        let at = match usize::try_from(index) {
            Ok(at) => at,
            Err(_) => {
                let back = usize::try_from(index.unsigned_abs()).ok()?;
                self.elements().count().checked_sub(back)?
            }
        };
        self.elements().nth(at)
    }
}

/// A string of a text, without quotes and escapes.
pub(super) fn unquoted(raw: &str) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Cow::Owned(text),
        // Half a surrogate pair passes where it is not looked at.
        Err(_) => Cow::Borrowed(inner),
    }
}

/// Members of an object, or elements of an array with empty keys.
pub(super) struct Parts<'a> {
    text: &'a str,
    at: usize,
    has_keys: bool,
    is_over: bool,
}

impl<'a> Parts<'a> {
    fn skip_blanks(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn value(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let from = self.at;
        self.at = end(self.text.as_bytes(), from);
        self.skip_after(from)
    }

    fn skip_after(&self, from: usize) -> Option<&'a str> {
        self.text.get(from..self.at).filter(|value| !value.is_empty())
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (&'a str, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.skip_blanks();
        if matches!(self.text.as_bytes().get(self.at), None | Some(b'}' | b']')) {
            self.is_over = true;
            return None;
        }
        let mut key = "";
        if self.has_keys {
            key = self.value()?;
            self.skip_blanks();
            // The colon.
            self.at += 1;
        }
        let value = self.value()?;
        self.skip_blanks();
        if self.text.as_bytes().get(self.at) == Some(&b',') {
            self.at += 1;
        } else {
            self.is_over = true;
        }
        Some((key, Json(value)))
    }
}

/// Where the value ends that begins at `from`.
fn end(text: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return at + 1,
            b'}' | b']' => return at,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn end_of_string(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_stand_as_they_are() {
        let json =
            Json::read(" {\"a\" : [1, {\"b\":\"x]\\\"\"} ,2.50],\n\"c\":null , \"a\\u0062\":true} ").unwrap();
        assert_eq!(json.sort(), Sort::Object);
        let keys: Vec<_> = json.members().map(|(key, _)| unquoted(key).into_owned()).collect();
        assert_eq!(keys, ["a", "c", "ab"]);
        let list = json.member("a").unwrap();
        assert_eq!(list.elements().map(Json::raw).collect::<Vec<_>>(), ["1", "{\"b\":\"x]\\\"\"}", "2.50"]);
        assert_eq!(list.element(-1).unwrap().raw(), "2.50");
        assert_eq!((list.element(3), list.element(-4), list.element(i64::MIN)), (None, None, None));
        assert_eq!(list.element(1).unwrap().member("b").unwrap().text().unwrap(), "x]\"");
        assert_eq!(json.member("c").unwrap().text(), None);
        assert_eq!(json.member("ab").unwrap().sort(), Sort::Boolean);
    }

    #[test]
    fn empty_things_have_no_parts() {
        for text in ["{}", "[]", "[ ]", "1", "\"\"", "null"] {
            let json = Json::read(text).unwrap();
            assert_eq!((json.members().count(), json.elements().count()), (0, 0), "{text}");
        }
        assert_eq!(Json::read("{\"a\":1,\"a\":2}").unwrap().member("a").unwrap().raw(), "2");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{a}", "[1,]", "01", "\"", "nul", "1 2"] {
            assert!(Json::read(text).is_err(), "{text}");
        }
    }
}
