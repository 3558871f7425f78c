//! What can stand around the names of files: in COPY, and where a table is read from a file.
//!
//! Owns: reading COPY as far as it is typed. Does not own: names of files (the editor), tables and columns (`complete`).

use super::in_from_list;
use crate::names::Names;

/// Options of COPY, each as far as it is not the user's to say, and its values when there is a list of them.
const OPTIONS: &[(&str, &[&str])] = &[
    ("format '", &["csv", "parquet", "ndjson", "arrow"]),
    ("header ", &["true", "false"]),
    ("delimiter '", &[]),
    ("quote '", &[]),
    ("escape '", &[]),
    ("null '", &[]),
    ("on_error '", &["stop", "skip"]),
    ("compression '", &["gzip", "zstd", "none"]),
    ("partition_by (", &[]),
];

/// Endings of names of files; empty: any file.
pub(super) type Kinds = &'static [&'static str];

/// Any file.
pub(super) const ALL: Kinds = &[];
/// Files of statements.
pub(super) const SCRIPTS: Kinds = &["sql"];
const CSV: Kinds = &["csv", "tsv", "tbl"];
const PARQUET: Kinds = &["parquet", "pq"];
const NDJSON: Kinds = &["ndjson", "jsonl", "json"];
const ARROW: Kinds = &["arrow", "feather", "ipc"];
/// What queries read in place.
const IN_PLACE: Kinds =
    &["csv", "tsv", "tbl", "parquet", "pq", "ndjson", "jsonl", "json", "arrow", "feather", "ipc"];
/// What COPY reads and writes: text also compressed.
const COPIED: Kinds = &[
    "csv", "tsv", "tbl", "parquet", "pq", "ndjson", "jsonl", "json", "arrow", "feather", "ipc", "gz", "gzip",
    "zst", "zstd",
];
const READ_BY: &[(&str, Kinds)] = &[
    ("read_arrow", ARROW),
    ("read_csv", CSV),
    ("read_json", NDJSON),
    ("read_ndjson", NDJSON),
    ("read_parquet", PARQUET),
];

/// What follows a query, a table and its columns.
const QUERY_NEXT: &[&str] = &["TO"];
const TABLE_NEXT: &[&str] = &["FROM", "TO", "("];
const COLUMNS_NEXT: &[&str] = &["FROM", "TO"];
const NO_VALUES: &[&str] = &[];

/// Where a COPY is, after its words at depth 0.
enum Step<'a> {
    /// After its table or query: it goes on with one of these.
    Source(&'static [&'static str]),
    /// After FROM or TO.
    File,
    /// After the file.
    With(&'static str),
    /// In the brackets of its options, after these words.
    Options(&'a [&'a str]),
}

fn step<'a>(words: &'a [&'a str]) -> Option<Step<'a>> {
    let (verb, rest) = words.split_first()?;
    if !verb.eq_ignore_ascii_case("copy") {
        return None;
    }
    let (rest, next) = match rest {
        ["(", ..] => (behind_brackets(rest)?, QUERY_NEXT),
        [_, ".", _, "(", ..] => (behind_brackets(&rest[3..])?, COLUMNS_NEXT),
        [_, ".", _, rest @ ..] => (rest, TABLE_NEXT),
        [_, "."] | [] => return None,
        [_, "(", ..] => (behind_brackets(&rest[1..])?, COLUMNS_NEXT),
        [_, rest @ ..] => (rest, TABLE_NEXT),
    };
    Some(match rest {
        [] => Step::Source(next),
        [_] => Step::File,
        [_, _] => Step::With("WITH ("),
        [_, _, _] => Step::With("("),
        [_, _, _, "(", options @ ..] if !options.contains(&")") => Step::Options(options),
        _ => return None,
    })
}

/// What stands behind the bracket that closes the one `words` begin with; None: it is open.
fn behind_brackets<'a>(words: &'a [&'a str]) -> Option<&'a [&'a str]> {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return words.get(at + 1..);
        }
    }
    None
}

/// The words of COPY that can follow these and begin with `prefix`; None: it is no place of COPY's own.
pub(super) fn words(words: &[&str], prefix: &str, lower: bool) -> Option<Vec<String>> {
    let found: Vec<&str> = match step(words)? {
        Step::Source(next) => next.to_vec(),
        Step::File => vec!["'"],
        Step::With(next) => vec![next],
        Step::Options(options) => {
            let said: Vec<&[&str]> = options.split(|word| *word == ",").collect();
            match said.split_last() {
                Some(([], before)) => {
                    let is_said =
                        |name: &str| before.iter().any(|o| o.first().is_some_and(|w| is_name(name, w)));
                    OPTIONS.iter().map(|(name, _)| *name).filter(|name| !is_said(name)).collect()
                }
                Some(([name], _)) => values_of(name).to_vec(),
                _ => Vec::new(),
            }
        }
    };
    let cased = |word: &str| if lower { word.to_lowercase() } else { word.to_owned() };
    let begins = |word: &&str| word.to_lowercase().starts_with(&prefix.to_lowercase());
    Some(found.into_iter().filter(begins).map(cased).collect())
}

/// What a text can be that follows these words.
pub(super) fn values(words: &[&str]) -> &'static [&'static str] {
    match step(words) {
        Some(Step::Options(options)) => options.last().map_or(NO_VALUES, |name| values_of(name)),
        Some(Step::Source(_) | Step::File | Step::With(_)) | None => NO_VALUES,
    }
}

fn is_name(option: &str, word: &str) -> bool {
    option.trim_end_matches(['\'', '(', ' ']).eq_ignore_ascii_case(word)
}

fn values_of(name: &str) -> &'static [&'static str] {
    OPTIONS.iter().find(|(option, _)| is_name(option, name)).map_or(NO_VALUES, |(_, values)| *values)
}

/// The endings of the files that a text can name which follows these words; None: it names no file.
pub(super) fn kinds(words: &[&str], names: &Names) -> Option<Kinds> {
    if let Some(Step::File) = step(words) {
        return Some(COPIED);
    }
    let (last, before) = words.split_last()?;
    match *last {
        "," if in_from_list(words) => Some(IN_PLACE),
        "(" | "[" => {
            let function = before.iter().rev().find(|word| **word != "(" && **word != "[")?;
            names.table_functions.iter().find(|name| function.eq_ignore_ascii_case(name))?;
            let own = READ_BY.iter().find(|(name, _)| function.eq_ignore_ascii_case(name));
            Some(own.map_or(ALL, |(_, kinds)| *kinds))
        }
        word if word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("join") => Some(IN_PLACE),
        _ => None,
    }
}
