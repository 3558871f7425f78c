//! What can stand at the cursor inside CREATE INDEX and `vector_search(…)`.
//!
//! Owns: reading these two as far as they are typed. Does not own: names of things (`complete`), options and arguments
//! (the engine lists them).

use cairn_engine::Session;

/// The function that searches.
pub(crate) const SEARCH: &str = "vector_search";
/// Columns its answer has besides the table's.
pub(crate) const SEARCH_COLUMNS: &[&str] = &["_distance", "_rank"];
/// Distances as operators.
pub(crate) const OPERATORS: &[&str] = &["<->", "<=>", "<#>", "<+>"];

/// Names of options or arguments, each with its values when there is a list of them.
type Choices = &'static [(&'static str, &'static [&'static str])];

/// What can stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// One of these keywords.
    Keywords(&'static [&'static str]),
    /// One of these, as they are.
    Words(Vec<String>),
    /// A table.
    Table,
    /// A VECTOR column of the table so written.
    VectorColumn(Vec<&'a str>),
    /// A condition on the table so written.
    Condition(Vec<&'a str>),
    /// The name of a table as text.
    TableText,
    /// The name of a VECTOR column as text, of the table so written.
    ColumnText(Vec<&'a str>),
    /// Text that only the user knows.
    Nothing,
}

/// Where the cursor stands, after these words and punctuation of the statement; `in_text`: inside a string.
pub(crate) fn place<'a>(words: &[&'a str], in_text: bool) -> Option<Place<'a>> {
    search_place(words, in_text).or_else(|| index_place(words, in_text))
}

/// The operators that go on from what is typed last, and its bytes.
pub(crate) fn operators(before: &str) -> Option<(usize, Vec<String>)> {
    let typed = before.len() - before.trim_end_matches(|c| "<-=#+>".contains(c)).len();
    let run = &before[before.len() - typed..];
    let going_on = |operator: &&&str| !run.is_empty() && operator.len() > typed && operator.starts_with(run);
    let found: Vec<String> = OPERATORS.iter().filter(going_on).map(|o| (*o).to_owned()).collect();
    (!found.is_empty()).then_some((typed, found))
}

fn is(word: Option<&&str>, wanted: &str) -> bool {
    word.is_some_and(|w| w.eq_ignore_ascii_case(wanted))
}

/// `CREATE INDEX [name] ON table USING hnsw (column [class]) [WITH (option = value, …)]`.
fn index_place<'a>(words: &[&'a str], in_text: bool) -> Option<Place<'a>> {
    let begin = words.iter().position(|w| w.eq_ignore_ascii_case("create"))?;
    let explained = is(words.first(), "explain") && begin <= 2;
    if (begin > 0 && !explained) || !is(words.get(begin + 1), "index") {
        return None;
    }
    let rest = &words[begin + 2..];
    let Some(on) = rest.iter().position(|w| w.eq_ignore_ascii_case("on")) else {
        return Some(Place::Keywords(match rest.last().map(|w| w.to_ascii_uppercase()).as_deref() {
            None => &["IF", "ON"],
            Some("IF") => &["NOT"],
            Some("NOT") => &["EXISTS"],
            Some(_) => &["ON"],
        }));
    };
    let rest = &rest[on + 1..];
    let Some(using) = rest.iter().position(|w| w.eq_ignore_ascii_case("using")) else {
        return match rest.last() {
            None => Some(Place::Table),
            // The tables of a schema.
            Some(&".") => None,
            Some(_) => Some(Place::Keywords(&["USING"])),
        };
    };
    let (table, rest) = (&rest[..using], &rest[using + 1..]);
    Some(match rest {
        [] => Place::Words(vec!["hnsw".to_owned()]),
        [_] => Place::Words(vec!["(".to_owned()]),
        [_, "("] => Place::VectorColumn(table.to_vec()),
        [_, "(", ..] => match rest.iter().position(|w| *w == ")") {
            None => Place::Words(Session::operator_classes().iter().map(|c| (*c).to_owned()).collect()),
            Some(close) => after_column(&rest[close + 1..], in_text),
        },
        _ => Place::Nothing,
    })
}

fn after_column<'a>(rest: &[&'a str], in_text: bool) -> Place<'a> {
    match rest {
        [] => Place::Keywords(&["WITH"]),
        [_] => Place::Words(vec!["(".to_owned()]),
        [_, "(", options @ ..] if !options.contains(&")") => {
            let said: Vec<&[&str]> = options.split(|w| *w == ",").collect();
            let Some((current, before)) = said.split_last() else { return Place::Nothing };
            match current {
                [] => unsaid(Session::index_options(), before, " = "),
                [_] => Place::Words(vec!["= ".to_owned()]),
                [name, "="] => values(Session::index_options(), name, in_text),
                _ => Place::Nothing,
            }
        }
        _ => Place::Nothing,
    }
}

/// `vector_search('table', 'column', vector, name => value, …)`: its last call that is still open.
fn search_place<'a>(words: &[&'a str], in_text: bool) -> Option<Place<'a>> {
    let mut open: Vec<usize> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" => open.push(at),
            ")" => {
                open.pop();
            }
            _ => {}
        }
    }
    let open = *open.last()?;
    if !is(words.get(open.checked_sub(1)?), SEARCH) {
        return None;
    }
    let said = arguments(&words[open + 1..]);
    let (current, before) = said.split_last()?;
    Some(match (before.len(), current) {
        (0, []) => Place::TableText,
        (1, []) => Place::ColumnText(before[0].to_vec()),
        (2, []) => Place::Nothing,
        (_, []) => unsaid(Session::search_arguments(), before, " => "),
        (3.., [name]) if !in_text && !name.starts_with('\'') => Place::Words(vec!["=> ".to_owned()]),
        (3.., [name, "=", ">"]) if in_text && name.eq_ignore_ascii_case("filter") => {
            Place::Condition(before[0].to_vec())
        }
        (_, [name, "=", ">"]) => values(Session::search_arguments(), name, in_text),
        _ => Place::Nothing,
    })
}

/// The words of each argument; commas inside brackets separate none.
fn arguments<'w, 'a>(words: &'w [&'a str]) -> Vec<&'w [&'a str]> {
    let (mut said, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                said.push(&words[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    said.push(&words[begin..]);
    said
}

/// Those of `choices` that no part of the list begins with, ready for their value.
fn unsaid<'a>(choices: Choices, said: &[&[&str]], then: &str) -> Place<'a> {
    let is_said = |name: &str| said.iter().any(|part| is(part.first(), name));
    let names = choices.iter().map(|(name, _)| *name).filter(|name| !is_said(name));
    Place::Words(names.map(|name| format!("{name}{then}")).collect())
}

fn values<'a>(choices: Choices, name: &str, in_text: bool) -> Place<'a> {
    let values =
        choices.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, values)| *values);
    let quote = if in_text { "" } else { "'" };
    Place::Words(values.unwrap_or_default().iter().map(|value| format!("{quote}{value}{quote}")).collect())
}
