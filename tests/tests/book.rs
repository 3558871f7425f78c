//! The book says what the sources say: every code of an error.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The page with the catalogue.
const ERRORS: &str = include_str!("../../docs/src/errors.md");
/// The heading it stands under.
const CATALOGUE: &str = "\n## Every code\n";
/// The crates whose errors people see.
const CRATES: [&str; 5] = ["storage", "udfs", "engine", "server", "sql-shell"];
/// Classes of SQLSTATEs that Cairn uses: the first two of five characters.
const CLASSES: [&str; 25] = [
    "07", "08", "0A", "0L", "21", "22", "23", "25", "26", "28", "2B", "34", "3B", "3D", "3F", "40", "42",
    "44", "53", "54", "55", "57", "58", "72", "XX",
];

/// Every Rust file below `folder` that is no test.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// `text` up to the module of its tests.
fn without_tests(text: &str) -> &str {
    let begins = text.match_indices("#[cfg(test)]").map(|(at, _)| at);
    let is_module = |at: &usize| {
        let lines = text[*at..].lines().skip(1).find(|line| !line.trim_start().starts_with("#["));
        lines.is_some_and(|line| line.trim_start().starts_with("mod tests {"))
    };
    begins.filter(is_module).min().map_or(text, |at| &text[..at])
}

/// Whether a text of the sources is a code.
fn is_code(text: &str) -> bool {
    text.len() == 5
        && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        && text.get(..2).is_some_and(|class| CLASSES.contains(&class))
}

/// Each code of the sources, and a file that has it.
fn codes_of_sources() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in CRATES {
        sources(&root.join(folder).join("src"), &mut files);
    }
    let mut codes = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for code in without_tests(&text).split('"').filter(|text| is_code(text)) {
            codes.entry(code.to_owned()).or_insert_with(|| file.clone());
        }
    }
    codes
}

/// The first column of the catalogue.
fn codes_of_the_book() -> Vec<&'static str> {
    let (_, catalogue) = ERRORS.split_once(CATALOGUE).unwrap();
    let rows = catalogue.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    rows.map(|(code, _)| code).filter(|code| is_code(code)).collect()
}

#[test]
fn the_catalogue_has_every_code_once_and_no_other() {
    let (raised, listed) = (codes_of_sources(), codes_of_the_book());
    assert!(raised.len() > 70, "the sources were found: {raised:?}");
    let once: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(once.len(), listed.len(), "a code stands in docs/src/errors.md twice");
    let missing: Vec<_> = raised.iter().filter(|(code, _)| !once.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "docs/src/errors.md, Every code, lacks {missing:?}");
    let unknown: Vec<_> = once.iter().filter(|code| !raised.contains_key(**code)).collect();
    assert!(unknown.is_empty(), "no source has {unknown:?} of docs/src/errors.md, Every code");
}

#[test]
fn what_to_do_is_said_of_codes_that_there_are() {
    let raised = codes_of_sources();
    let (advice, _) = ERRORS.split_once(CATALOGUE).unwrap();
    let words = advice.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_code(word));
    for code in words {
        assert!(raised.contains_key(code), "no source has {code} of docs/src/errors.md");
    }
}

#[test]
fn tests_are_no_sources() {
    let text = "let a = \"42601\";\n#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {\n\"42P01\" }";
    assert!(!without_tests(text).contains("42P01") && without_tests(text).contains("42601"));
    assert_eq!(
        without_tests("#[cfg(test)]\nfn a() {}\nlet b = \"42601\";"),
        "#[cfg(test)]\nfn a() {}\nlet b = \"42601\";"
    );
    assert!(is_code("42P01") && !is_code("99999") && !is_code("4260") && !is_code("abcde"));
}
