//! Reading CSV text: records, fields and the values of the table's types.
//!
//! Owns: the grammar (RFC 4180 with a free delimiter, quote and escape; `\n` or `\r\n`), typed columns, the reason and the
//! place of everything that does not read. An empty unquoted field is NULL, a quoted one is the empty text. Does not own:
//! files and ranges (`from`, `csv_split`).

use std::borrow::Cow;

use super::options::CopyOptions;

/// How fields are written.
#[derive(Clone, Debug)]
pub(super) struct Grammar {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
    /// Stands before a quote inside quotes; the quote itself by default.
    pub(super) escape: u8,
    /// Unquoted text that is NULL.
    pub(super) null: Vec<u8>,
}

impl Grammar {
    pub(super) fn new(options: &CopyOptions, tabs: bool) -> Self {
        let quote = options.quote.unwrap_or(b'"');
        Self {
            delimiter: options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' }),
            quote,
            escape: options.escape.unwrap_or(quote),
            null: options.null.clone().unwrap_or_default().into_bytes(),
        }
    }
}

/// One field: where its text stands, without the quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) quoted: bool,
    /// Whether escapes must be taken out of it.
    pub(super) escaped: bool,
}

impl Field {
    /// Its text, or None for NULL.
    pub(super) fn text<'a>(&self, buffer: &'a [u8], grammar: &Grammar) -> Option<Cow<'a, [u8]>> {
        let raw = &buffer[self.start..self.end];
        if !self.quoted {
            return (raw != grammar.null.as_slice()).then_some(Cow::Borrowed(raw));
        }
        if !self.escaped {
            return Some(Cow::Borrowed(raw));
        }
        let mut text = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                b if b == grammar.escape => text.push(bytes.next().unwrap_or(b)),
                b => text.push(b),
            }
        }
        Some(Cow::Owned(text))
    }
}

/// What follows in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record, its fields in the scratch; the next one begins here.
    Record(usize),
    /// The buffer ends before the record does.
    Incomplete,
    /// Malformed at the position; the next record begins at the second.
    Malformed(usize, &'static str, usize),
}

/// Reads the record at `from` into `fields`. `last`: nothing comes after the buffer.
pub(super) fn next_record(
    buffer: &[u8],
    from: usize,
    last: bool,
    grammar: &Grammar,
    fields: &mut Vec<Field>,
) -> Next {
    fields.clear();
    let mut at = from;
    loop {
        match field(buffer, at, last, grammar) {
            FieldEnd::Delimiter(field) => {
                at = field.next;
                fields.push(field.field);
            }
            FieldEnd::Record(field) => {
                fields.push(field.field);
                return Next::Record(field.next);
            }
            FieldEnd::Incomplete => return Next::Incomplete,
            FieldEnd::Malformed(position, why) => {
                let rest = &buffer[position..];
                let next = rest.iter().position(|b| *b == b'\n').map_or(buffer.len(), |p| position + p + 1);
                return Next::Malformed(position, why, next);
            }
        }
    }
}

struct Ended {
    field: Field,
    next: usize,
}

enum FieldEnd {
    Delimiter(Ended),
    Record(Ended),
    Incomplete,
    Malformed(usize, &'static str),
}

fn field(buffer: &[u8], start: usize, last: bool, grammar: &Grammar) -> FieldEnd {
    if buffer.get(start) == Some(&grammar.quote) {
        return quoted(buffer, start + 1, last, grammar);
    }
    let (delimiter, quote) = (grammar.delimiter, grammar.quote);
    let end =
        buffer[start..].iter().position(|b| *b == delimiter || *b == b'\n' || *b == quote).map(|p| start + p);
    let plain = |end: usize| Field { start, end, quoted: false, escaped: false };
    match end {
        None if last => {
            let end = without_return(buffer, start, buffer.len());
            FieldEnd::Record(Ended { field: plain(end), next: buffer.len() })
        }
        None => FieldEnd::Incomplete,
        Some(end) if buffer[end] == delimiter => {
            FieldEnd::Delimiter(Ended { field: plain(end), next: end + 1 })
        }
        Some(end) if buffer[end] == b'\n' => {
            FieldEnd::Record(Ended { field: plain(without_return(buffer, start, end)), next: end + 1 })
        }
        Some(end) => FieldEnd::Malformed(end, "a quote inside an unquoted field"),
    }
}

fn without_return(buffer: &[u8], start: usize, end: usize) -> usize {
    if end > start && buffer[end - 1] == b'\r' { end - 1 } else { end }
}

fn quoted(buffer: &[u8], start: usize, last: bool, grammar: &Grammar) -> FieldEnd {
    let (quote, escape) = (grammar.quote, grammar.escape);
    let mut at = start;
    let mut escaped = false;
    loop {
        let Some(p) = buffer[at..].iter().position(|b| *b == quote || *b == escape) else {
            return if last {
                FieldEnd::Malformed(start - 1, "a quote that is never closed")
            } else {
                FieldEnd::Incomplete
            };
        };
        let found = at + p;
        let following = buffer.get(found + 1);
        if following.is_none() && !last {
            return FieldEnd::Incomplete;
        }
        let is_escape = buffer[found] == escape
            && following.is_some_and(|f| *f == quote || (*f == escape && escape != quote));
        if is_escape {
            escaped = true;
            at = found + 2;
            continue;
        }
        if buffer[found] != quote {
            // An escape character that escapes nothing is itself.
            at = found + 1;
            continue;
        }
        let field = Field { start, end: found, quoted: true, escaped };
        return match (following, buffer.get(found + 2)) {
            (None, _) => FieldEnd::Record(Ended { field, next: found + 1 }),
            (Some(f), _) if *f == grammar.delimiter => FieldEnd::Delimiter(Ended { field, next: found + 2 }),
            (Some(b'\n'), _) => FieldEnd::Record(Ended { field, next: found + 2 }),
            (Some(b'\r'), Some(b'\n')) => FieldEnd::Record(Ended { field, next: found + 3 }),
            (Some(b'\r'), None) if !last => FieldEnd::Incomplete,
            (Some(b'\r'), None) => FieldEnd::Record(Ended { field, next: found + 2 }),
            _ => FieldEnd::Malformed(found + 1, "text after a closing quote"),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grammar() -> Grammar {
        Grammar::new(&CopyOptions::default(), false)
    }

    fn records(text: &str) -> Vec<Vec<Option<String>>> {
        let (mut at, mut fields, mut all) = (0, Vec::new(), Vec::new());
        while at < text.len() {
            match next_record(text.as_bytes(), at, true, &grammar(), &mut fields) {
                Next::Record(next) => {
                    let row = fields.iter().map(|f| {
                        f.text(text.as_bytes(), &grammar())
                            .map(|t| String::from_utf8(t.into_owned()).unwrap())
                    });
                    all.push(row.collect());
                    at = next;
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn fields_quotes_and_nulls() {
        let got = records("1,\"a,b\",\"\",\r\n2,\"x\"\"y\ny\",c,d");
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(got[0], [text("1"), text("a,b"), text(""), None]);
        assert_eq!(got[1], [text("2"), text("x\"y\ny"), text("c"), text("d")]);
    }

    #[test]
    fn what_is_malformed_is_said_where() {
        let mut fields = Vec::new();
        let at =
            |text: &str, fields: &mut Vec<Field>| next_record(text.as_bytes(), 0, true, &grammar(), fields);
        assert_eq!(at("a,b\"c\nd", &mut fields), Next::Malformed(3, "a quote inside an unquoted field", 6));
        assert_eq!(at("\"a\"b\n", &mut fields), Next::Malformed(3, "text after a closing quote", 5));
        assert!(matches!(at("a,\"b", &mut fields), Next::Malformed(2, _, 4)));
    }

    #[test]
    fn a_record_cut_by_the_buffer_waits() {
        let mut fields = Vec::new();
        let text = b"1,\"a\"\r\n2,b\n";
        for end in 0..7 {
            assert_eq!(
                next_record(&text[..end], 0, false, &grammar(), &mut fields),
                Next::Incomplete,
                "{end}"
            );
        }
        assert_eq!(next_record(&text[..7], 0, false, &grammar(), &mut fields), Next::Record(7));
    }

    #[test]
    fn an_escape_of_its_own() {
        let grammar = Grammar { escape: b'\\', ..grammar() };
        let text = br#""a\"b\\c\d",2"#;
        let mut fields = Vec::new();
        assert!(matches!(next_record(text, 0, true, &grammar, &mut fields), Next::Record(_)));
        assert_eq!(fields[0].text(text, &grammar).unwrap().as_ref(), br#"a"b\cd"#);
    }
}
