//! Texts cut by a delimiter or a regular expression, whose syntax is that of the crate `regex`.

use std::cell::RefCell;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use regex::{Regex, RegexBuilder};

use crate::function::{Call, Kind, Primitives, Spec, TextLists, TextRows, Texts, booleans, invalid};

fn list_of_texts() -> DataType {
    DataType::new_list(DataType::Utf8View, true)
}

pub(super) fn functions() -> Vec<Spec> {
    const TWO: &[&[Kind]] = &[&[Kind::Text, Kind::Text]];
    const THREE: &[&[Kind]] = &[&[Kind::Text, Kind::Text], &[Kind::Text, Kind::Text, Kind::Text]];
    const GROUP: &[&[Kind]] = &[
        &[Kind::Text, Kind::Text],
        &[Kind::Text, Kind::Text, Kind::Integer],
        &[Kind::Text, Kind::Text, Kind::Integer, Kind::Text],
    ];
    const SUBSTR: &[&[Kind]] = &[
        &[Kind::Text, Kind::Text],
        &[Kind::Text, Kind::Text, Kind::Integer],
        &[Kind::Text, Kind::Text, Kind::Integer, Kind::Integer],
        &[Kind::Text, Kind::Text, Kind::Integer, Kind::Integer, Kind::Text],
        &[Kind::Text, Kind::Text, Kind::Integer, Kind::Integer, Kind::Text, Kind::Integer],
    ];
    vec![
        Spec::new(
            "string_split(text, delimiter)",
            TWO,
            |_| list_of_texts(),
            string_split,
            "The pieces between delimiters, a list; an empty delimiter is between all characters.",
            "SELECT string_split('a,b,,c', ',')  -- [a, b, , c]",
        )
        .also(&["str_split", "split"]),
        Spec::new(
            "regexp_split_to_array(text, pattern, options)",
            THREE,
            |_| list_of_texts(),
            regexp_split,
            "The pieces between matches of a pattern, a list. Options of all these functions: i for any case, s for . that matches line ends, m for ^ and $ at \
             line ends, l for a pattern that is plain text.",
            "SELECT regexp_split_to_array('a1b22c', '[0-9]+')  -- [a, b, c]",
        )
        .also(&["string_split_regex", "str_split_regex"]),
        Spec::new(
            "regexp_extract(text, pattern, group, options)",
            GROUP,
            |_| DataType::Utf8View,
            regexp_extract,
            "What the first match has in a group; 0, the default, is the whole. Empty where nothing matches.",
            "SELECT regexp_extract('abc123', '([a-z]+)([0-9]+)', 2)  -- 123",
        ),
        Spec::new(
            "regexp_extract_all(text, pattern, group, options)",
            GROUP,
            |_| list_of_texts(),
            regexp_extract_all,
            "What each match has in a group, a list; 0, the default, is the whole.",
            "SELECT regexp_extract_all('a1b2', '([a-z])([0-9])', 1)  -- [a, b]",
        ),
        Spec::new(
            "regexp_substr(text, pattern, start, n, options, group)",
            SUBSTR,
            |_| DataType::Utf8View,
            regexp_substr,
            "What the nth match has, or a group of it, searched from a character on, which is 1 as n is by default; NULL where there is none. As in PostgreSQL.",
            "SELECT regexp_substr('a1b22', '[0-9]+', 1, 2)  -- 22",
        ),
        Spec::new(
            "regexp_full_match(text, pattern, options)",
            THREE,
            |_| DataType::Boolean,
            regexp_full_match,
            "Whether the pattern matches the whole text.",
            "SELECT regexp_full_match('abc', 'b')  -- false",
        ),
        Spec::new(
            "regexp_escape(text)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    Ok(texts.at(row).map(|text| out.push_str(&regex::escape(text))).is_some())
                })
            },
            "A pattern that matches the text itself.",
            r"SELECT regexp_escape('a.b*')  -- a\.b\*",
        ),
    ]
}

fn string_split(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, delimiters) = (call.texts(0)?, call.texts(1)?);
    let mut lists = TextLists::new(call);
    for row in 0..call.rows() {
        let (Some(text), Some(delimiter)) = (texts.at(row), delimiters.at(row)) else {
            lists.end_row(false);
            continue;
        };
        if delimiter.is_empty() && !text.is_empty() {
            let mut buffer = [0; 4];
            for c in text.chars() {
                lists.push(Some(c.encode_utf8(&mut buffer)))?;
            }
        } else if delimiter.is_empty() {
            lists.push(Some(""))?;
        } else {
            for piece in text.split(delimiter) {
                lists.push(Some(piece))?;
            }
        }
        lists.end_row(true);
    }
    Ok(lists.finish())
}

/// Patterns of the rows; the last one is kept, as it mostly is the next one, too.
struct Patterns<'a> {
    patterns: Texts<'a>,
    options: Option<Texts<'a>>,
    /// The whole text has to match.
    is_whole: bool,
    last: RefCell<Option<(String, String, Regex)>>,
}

impl<'a> Patterns<'a> {
    fn new(call: &Call<'a>, options_at: usize, is_whole: bool) -> Result<Self> {
        let options = if call.len() > options_at { Some(call.texts(options_at)?) } else { None };
        Ok(Self { patterns: call.texts(1)?, options, is_whole, last: RefCell::new(None) })
    }

    /// That of a row; a clone shares what was compiled.
    fn at(&self, row: usize) -> Result<Option<Regex>> {
        let Some(pattern) = self.patterns.at(row) else { return Ok(None) };
        let options = match &self.options {
            None => "",
            Some(options) => match options.at(row) {
                Some(options) => options,
                None => return Ok(None),
            },
        };
        if let Some((of, with, regex)) = self.last.borrow().as_ref()
            && of == pattern
            && with == options
        {
            return Ok(Some(regex.clone()));
        }
        let regex = self.compiled(pattern, options)?;
        *self.last.borrow_mut() = Some((pattern.to_owned(), options.to_owned(), regex.clone()));
        Ok(Some(regex))
    }

    fn compiled(&self, pattern: &str, options: &str) -> Result<Regex> {
        let (mut any_case, mut all, mut lines, mut plain) = (false, false, false, false);
        for option in options.chars() {
            match option {
                'i' => any_case = true,
                'c' => any_case = false,
                's' => all = true,
                'm' | 'n' | 'p' => lines = true,
                'l' => plain = true,
                _ => {
                    let message = format!(
                        "'{option}' is no option of a regular expression; there are i, c, s, m and l"
                    );
                    return Err(invalid("22023", message));
                }
            }
        }
        let mut pattern = if plain { regex::escape(pattern) } else { pattern.to_owned() };
        if self.is_whole {
            pattern = format!(r"\A(?:{pattern})\z");
        }
        RegexBuilder::new(&pattern)
            .case_insensitive(any_case)
            .dot_matches_new_line(all)
            .multi_line(lines)
            .build()
            .map_err(|error| {
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let cut: String = pattern.chars().take(60).collect();
                invalid("2201B", format!("'{cut}' is no regular expression: {why}"))
            })
    }
}

fn regexp_split(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (call.texts(0)?, Patterns::new(call, 2, false)?);
    let mut lists = TextLists::new(call);
    for row in 0..call.rows() {
        let there = match (texts.at(row), patterns.at(row)?) {
            (Some(text), Some(pattern)) => {
                for piece in pattern.split(text) {
                    lists.push(Some(piece))?;
                }
                true
            }
            _ => false,
        };
        lists.end_row(there);
    }
    Ok(lists.finish())
}

/// The group that each row asks for.
struct Groups<'a>(Option<Primitives<'a, Int64Type>>);

impl<'a> Groups<'a> {
    fn new(call: &Call<'a>, at: usize) -> Result<Self> {
        Ok(Self(if call.len() > at { Some(call.integers(at)?) } else { None }))
    }

    /// 0 where none is asked for; None: NULL.
    fn at(&self, row: usize) -> Result<Option<usize>> {
        let Some(groups) = &self.0 else { return Ok(Some(0)) };
        match groups.at(row).map(|group| (group, usize::try_from(group))) {
            None => Ok(None),
            Some((_, Ok(group))) => Ok(Some(group)),
            Some((group, Err(_))) => {
                Err(invalid("22023", format!("a group of a match is 0 or more, not {group}")))
            }
        }
    }
}

fn regexp_extract(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns, groups) = (call.texts(0)?, Patterns::new(call, 3, false)?, Groups::new(call, 2)?);
    let mut rows = TextRows::new(call);
    for row in 0..call.rows() {
        let (Some(text), Some(pattern), Some(group)) = (texts.at(row), patterns.at(row)?, groups.at(row)?)
        else {
            rows.push(None)?;
            continue;
        };
        // Without groups a match is found faster.
        let found = if group == 0 {
            pattern.find(text).map(|found| found.as_str())
        } else {
            pattern.captures(text).and_then(|found| found.get(group)).map(|found| found.as_str())
        };
        rows.push(Some(found.unwrap_or_default()))?;
    }
    Ok(rows.finish())
}

fn regexp_extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns, groups) = (call.texts(0)?, Patterns::new(call, 3, false)?, Groups::new(call, 2)?);
    let mut lists = TextLists::new(call);
    for row in 0..call.rows() {
        let (Some(text), Some(pattern), Some(group)) = (texts.at(row), patterns.at(row)?, groups.at(row)?)
        else {
            lists.end_row(false);
            continue;
        };
        for found in pattern.captures_iter(text) {
            lists.push(Some(found.get(group).map_or("", |found| found.as_str())))?;
        }
        lists.end_row(true);
    }
    Ok(lists.finish())
}

/// A number from 1 on that each row asks for; 1 where none is asked for.
struct Ordinals<'a>(Option<Primitives<'a, Int64Type>>);

impl<'a> Ordinals<'a> {
    fn new(call: &Call<'a>, at: usize) -> Result<Self> {
        Ok(Self(if call.len() > at { Some(call.integers(at)?) } else { None }))
    }

    /// How many are before it; None: NULL.
    fn before(&self, row: usize) -> Result<Option<usize>> {
        let Some(numbers) = &self.0 else { return Ok(Some(0)) };
        let Some(number) = numbers.at(row) else { return Ok(None) };
        match number.checked_sub(1).and_then(|before| usize::try_from(before).ok()) {
            Some(before) => Ok(Some(before)),
            None => {
                let message = format!("regexp_substr counts characters and matches from 1, not {number}");
                Err(invalid("22023", message))
            }
        }
    }
}

fn regexp_substr(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (call.texts(0)?, Patterns::new(call, 4, false)?);
    let (starts, ordinals) = (Ordinals::new(call, 2)?, Ordinals::new(call, 3)?);
    let groups = Groups::new(call, 5)?;
    TextRows::parts(call, |row| {
        let (Some(text), Some(pattern)) = (texts.at(row), patterns.at(row)?) else { return Ok(None) };
        let asked = (starts.before(row)?, ordinals.before(row)?, groups.at(row)?);
        let (Some(start), Some(before), Some(group)) = asked else { return Ok(None) };
        let Some(from) = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(start) else {
            return Ok(None);
        };
        // What is before it is not looked for, but looked at: ^ does not match there.
        let mut at = from;
        for _ in 0..before {
            let Some(found) = pattern.find_at(text, at) else { return Ok(None) };
            at = found.end();
            if found.is_empty() {
                let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) else { return Ok(None) };
                at += next.len_utf8();
            }
        }
        let found = pattern.captures_at(text, at).and_then(|found| found.get(group));
        Ok(found.map(|found| found.as_str()))
    })
}

fn regexp_full_match(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (call.texts(0)?, Patterns::new(call, 2, true)?);
    booleans(call, |row| {
        let Some(pattern) = patterns.at(row)? else { return Ok(None) };
        Ok(texts.at(row).map(|text| pattern.is_match(text)))
    })
}
