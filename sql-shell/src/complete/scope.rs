//! Tables the statement around the cursor names, and the names it gives them.

use super::{in_from_list, significant, written_table};
use crate::keywords::is_keyword;
use crate::lex::{self, Kind};
use crate::names::{Names, TableName, meant};
use crate::vectors;

/// See the module.
pub(super) struct Scope<'a> {
    pub(super) tables: Vec<&'a TableName>,
    pub(super) aliases: Vec<(String, &'a TableName)>,
    /// What searches are called.
    pub(super) searches: Vec<String>,
}

impl<'a> Scope<'a> {
    /// Those of the statement between `before` and `after` the cursor.
    pub(super) fn of(before: &str, after: &str, names: &'a Names) -> Self {
        let whole = format!("{before} {after}");
        let tokens = lex::tokens(&whole);
        // The statement the cursor is in: between the `;` before it and the next one.
        let begin = tokens.iter().rposition(|t| t.kind == Kind::Semicolon && t.range.end <= before.len());
        let end = tokens.iter().position(|t| t.kind == Kind::Semicolon && t.range.start >= before.len());
        let tokens = &tokens[begin.map_or(0, |i| i + 1)..end.unwrap_or(tokens.len())];
        let words = significant(&whole, tokens);
        let mut scope = Self { tables: Vec::new(), aliases: Vec::new(), searches: Vec::new() };
        let mut at = 0;
        while let Some(word) = words.get(at) {
            at += 1;
            let upper = word.to_ascii_uppercase();
            if matches!(upper.as_str(), "FROM" | "JOIN" | "INTO" | "UPDATE")
                || (*word == "," && in_from_list(&words[..at]))
            {
                at = scope.read_relation(&words, at, names);
            }
        }
        scope
    }

    /// Reads `[schema.]table [[AS] alias]`, or a call of `vector_search` in its place, at `at`; returns where it ends.
    fn read_relation(&mut self, words: &[&str], mut at: usize, names: &'a Names) -> usize {
        let Some(first) = words.get(at) else { return at };
        let search = first.eq_ignore_ascii_case(vectors::SEARCH) && words.get(at + 1) == Some(&"(");
        let table = if search {
            let argument = &words[at + 2..];
            let table =
                written_table(&argument[..argument.iter().position(|w| *w == ",").unwrap_or(0)], names);
            at = end_of_call(words, at + 1);
            table
        } else if words.get(at + 1) == Some(&".") {
            at += 3;
            words.get(at - 1).and_then(|table| names.table(Some(&meant(first)), &meant(table)))
        } else {
            at += 1;
            names.table(None, &meant(first))
        };
        let Some(table) = table else { return at };
        self.tables.push(table);
        if words.get(at).is_some_and(|w| w.eq_ignore_ascii_case("as")) {
            at += 1;
        }
        let alias = words.get(at).filter(|alias| {
            !is_keyword(alias) && alias.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"')
        });
        if let Some(alias) = alias {
            self.aliases.push((meant(alias), table));
            at += 1;
        }
        if search {
            self.searches.push(alias.map_or_else(|| vectors::SEARCH.to_owned(), |alias| meant(alias)));
        }
        at
    }

    /// The table called `name` in this statement.
    pub(super) fn named(&self, name: &str) -> Option<&'a TableName> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, table)| *table);
        alias.or_else(|| self.tables.iter().find(|t| t.name == name).copied())
    }
}

/// Behind the bracket that closes the one at `open`.
fn end_of_call(words: &[&str], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        match *word {
            "(" => depth += 1,
            ")" if depth == 1 => return at + 1,
            ")" => depth -= 1,
            _ => {}
        }
    }
    words.len()
}
