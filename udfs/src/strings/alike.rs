//! How alike two texts are, and how they sound.

use std::collections::HashSet;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::accents;
use crate::bounded::TooLarge;
use crate::function::{Call, Kind, Spec, TextRows, integers, invalid, numbers};

pub(super) fn functions() -> Vec<Spec> {
    const TAKES: &[&[Kind]] = &[&[Kind::Text, Kind::Text]];
    vec![
        Spec::new(
            "damerau_levenshtein(a, b)",
            TAKES,
            |_| DataType::Int64,
            damerau_levenshtein,
            "How many characters to insert, delete, replace or swap with their neighbours to make one text the other.",
            "SELECT damerau_levenshtein('duckdb', 'udckbd')  -- 2",
        ),
        Spec::new(
            "hamming(a, b)",
            TAKES,
            |_| DataType::Int64,
            |call| {
                let (left, right) = (call.texts(0)?, call.texts(1)?);
                integers(call, |row| {
                    let (Some(left), Some(right)) = (left.at(row), right.at(row)) else { return Ok(None) };
                    match strsim::hamming(left, right) {
                        Ok(count) => Ok(Some(i64::try_from(count).unwrap_or(i64::MAX))),
                        Err(_) => Err(invalid("22023", "hamming compares texts of the same length")),
                    }
                })
            },
            "At how many places two texts of the same length differ.",
            "SELECT hamming('duck', 'luck')  -- 1",
        )
        .also(&["mismatches"]),
        Spec::new(
            "jaccard(a, b)",
            TAKES,
            |_| DataType::Float64,
            |call| {
                let (left, right) = (call.texts(0)?, call.texts(1)?);
                numbers(call, |row| {
                    let (Some(left), Some(right)) = (left.at(row), right.at(row)) else { return Ok(None) };
                    jaccard(left, right).map(Some)
                })
            },
            "Which part of the characters of two texts, each counted once, both have: 0 to 1.",
            "SELECT jaccard('duck', 'luck')  -- 0.6",
        ),
        Spec::new(
            "jaro_similarity(a, b)",
            TAKES,
            |_| DataType::Float64,
            |call| alike(call, strsim::jaro),
            "The Jaro similarity, 0 to 1.",
            "SELECT round(jaro_similarity('duck', 'luck'), 3)  -- 0.833",
        ),
        Spec::new(
            "jaro_winkler_similarity(a, b)",
            TAKES,
            |_| DataType::Float64,
            |call| alike(call, strsim::jaro_winkler),
            "The Jaro-Winkler similarity, 0 to 1: a common beginning counts more.",
            "SELECT round(jaro_winkler_similarity('duckdb', 'duck'), 3)  -- 0.933",
        ),
        Spec::new(
            "soundex(text)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    Ok(texts.at(row).map(|text| soundex(text, out)).is_some())
                })
            },
            "How an English name sounds: a letter and three digits, as in PostgreSQL's fuzzystrmatch.",
            "SELECT soundex('Robert') = soundex('Rupert')  -- true",
        ),
        Spec::new(
            "strip_accents(text)",
            &[&[Kind::Text]],
            |_| DataType::Utf8View,
            |call| {
                let texts = call.texts(0)?;
                TextRows::written(call, |row, out| {
                    Ok(texts.at(row).map(|text| accents::strip(text, out)).is_some())
                })
            },
            "The text without accents, of Latin, Greek, Cyrillic and Arabic letters. Letters that are none with a mark stay: ø, ł, ß.",
            "SELECT strip_accents('Ünïcödé')  -- Unicode",
        )
        .also(&["unaccent"]),
    ]
}

fn alike(call: &Call<'_>, of: fn(&str, &str) -> f64) -> Result<ArrayRef> {
    let (left, right) = (call.texts(0)?, call.texts(1)?);
    numbers(call, |row| Ok(left.at(row).zip(right.at(row)).map(|(left, right)| of(left, right))))
}

fn damerau_levenshtein(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.texts(0)?, call.texts(1)?);
    integers(call, |row| {
        let (Some(left), Some(right)) = (left.at(row), right.at(row)) else { return Ok(None) };
        // It keeps a table of a number for each pair of characters.
        let pairs = (left.len() as u64 + 2).saturating_mul(right.len() as u64 + 2);
        if pairs.saturating_mul(8) > call.limit() {
            return Err(TooLarge::error(format!(
                "{} compares texts of {} and {} bytes, which needs more than {} bytes",
                call.name(),
                left.len(),
                right.len(),
                call.limit()
            )));
        }
        Ok(Some(i64::try_from(strsim::damerau_levenshtein(left, right)).unwrap_or(i64::MAX)))
    })
}

fn jaccard(left: &str, right: &str) -> Result<f64> {
    if left.is_empty() || right.is_empty() {
        return Err(invalid("22023", "jaccard compares texts that are not empty"));
    }
    let (left, right): (HashSet<char>, HashSet<char>) = (left.chars().collect(), right.chars().collect());
    let both = left.intersection(&right).count();
    Ok(both as f64 / (left.len() + right.len() - both) as f64)
}

fn soundex(text: &str, out: &mut String) {
    // Of A to Z; letters without a code end a run, as PostgreSQL has it also of H and W.
    const CODES: &[u8; 26] = b"01230120022455012623010202";
    let code = |c: char| {
        let at = usize::try_from(u32::from(c.to_ascii_uppercase()).wrapping_sub(u32::from('A'))).ok()?;
        CODES.get(at).copied().map(char::from)
    };
    let mut letters = text.chars().skip_while(|c| !c.is_ascii_alphabetic());
    let Some(first) = letters.next() else { return };
    let begin = out.len();
    out.push(first.to_ascii_uppercase());
    let mut last = code(first);
    for c in letters.filter(char::is_ascii_alphabetic) {
        let digit = code(c);
        if digit != last {
            if let Some(digit) = digit.filter(|digit| *digit != '0') {
                out.push(digit);
            }
            last = digit;
        }
        if out.len() - begin == 4 {
            return;
        }
    }
    while out.len() - begin < 4 {
        out.push('0');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_sound() {
        let sound = |text| {
            let mut out = String::new();
            soundex(text, &mut out);
            out
        };
        for (name, code) in
            [("Anne", "A500"), ("Andrew", "A536"), ("Margaret", "M626"), ("Robert", "R163"), ("", "")]
        {
            assert_eq!(sound(name), code, "{name}");
        }
        assert_eq!((sound("12"), sound("é")), (String::new(), String::new()));
    }

    #[test]
    fn sets_of_characters() {
        assert!((jaccard("duck", "luck").unwrap() - 0.6).abs() < 1e-12);
        assert!(jaccard("", "a").is_err());
    }
}
