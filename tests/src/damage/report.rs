//! What came of all cases, as a table.
//!
//! Owns: counting, the table, the texts of failures, and what is said of damage that nobody needs to find. Does not own: what a failure is
//! (`judge`).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::harm::Harm;
use super::home::FileKind;
use super::judge::{Found, Verdict};

/// So many failures are printed whole.
const FAILURES_SHOWN: usize = 30;

/// Which row of the table a case counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Name of the database.
    pub home: &'static str,
    /// What was damaged.
    pub kind: FileKind,
    /// How.
    pub harm: Harm,
}

/// How often each.
#[derive(Clone, Debug, Default)]
struct Counts {
    cases: u64,
    right: u64,
    older: u64,
    refused: u64,
    failed: u64,
    verified: u64,
    elsewhere: u64,
    wrong: u64,
}

/// Everything counted.
#[derive(Debug, Default)]
pub struct Report {
    rows: BTreeMap<Row, Counts>,
    sqlstates: BTreeMap<String, u64>,
    harmless: BTreeMap<&'static str, u64>,
    /// Cases that went wrong: which, and why.
    failures: Vec<(String, String)>,
    /// Cases VERIFY had to find.
    findable: u64,
    /// Those it did not.
    unfound: u64,
    /// Largest single request for memory.
    largest_bytes: usize,
}

impl Report {
    /// Counts a case.
    pub fn case(&mut self, row: Row) {
        self.counts(row).cases += 1;
    }

    /// Counts how an opening went.
    pub fn verdict(&mut self, row: Row, verdict: &Verdict) {
        let counts = self.counts(row);
        let sqlstate = match verdict {
            Verdict::Right => {
                counts.right += 1;
                return;
            }
            Verdict::Older => {
                counts.older += 1;
                return;
            }
            Verdict::Refused(sqlstate) => {
                counts.refused += 1;
                sqlstate
            }
            Verdict::Failed(sqlstate) => {
                counts.failed += 1;
                sqlstate
            }
        };
        *self.sqlstates.entry(sqlstate.clone()).or_default() += 1;
    }

    /// Counts what VERIFY found; `harmless` says why it need not. Whether that is as it must be.
    pub fn found(&mut self, row: Row, found: Found, harmless: Option<&'static str>) -> bool {
        let counts = self.counts(row);
        match found {
            Found::Named => counts.verified += 1,
            Found::Elsewhere => {
                counts.verified += 1;
                counts.elsewhere += 1;
            }
            Found::Nothing => {}
        }
        match harmless {
            Some(why) => {
                *self.harmless.entry(why).or_default() += 1;
                true
            }
            None => {
                self.findable += 1;
                self.unfound += u64::from(found == Found::Nothing);
                found != Found::Nothing
            }
        }
    }

    /// Notes the largest request of a trial.
    pub fn largest(&mut self, bytes: usize) {
        self.largest_bytes = self.largest_bytes.max(bytes);
    }

    /// Notes what went wrong; `repeat` are the variables that repeat it.
    pub fn failure(&mut self, row: Row, repeat: String, why: String) {
        self.counts(row).wrong += 1;
        self.failures.push((repeat, why));
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Cases so far.
    #[must_use]
    pub fn cases(&self) -> u64 {
        self.rows.values().map(|counts| counts.cases).sum()
    }

    /// Kinds of files that had a case.
    #[must_use]
    pub fn kinds(&self) -> Vec<FileKind> {
        let mut kinds: Vec<FileKind> = self.rows.keys().map(|row| row.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The failures as text, the first of them.
    #[must_use]
    pub fn failures(&self) -> String {
        let mut text = String::new();
        for (repeat, why) in self.failures.iter().take(FAILURES_SHOWN) {
            let _ = write!(text, "\n\n{repeat}\n  {why}");
        }
        if self.failures.len() > FAILURES_SHOWN {
            let _ = write!(text, "\n\nand {} more", self.failures.len() - FAILURES_SHOWN);
        }
        text
    }

    fn counts(&mut self, row: Row) -> &mut Counts {
        self.rows.entry(row).or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["cases", "right", "older", "refused", "failed", "verified", "wrong"];
        write!(f, "{:<6} {:<15} {:<10}", "home", "file", "harm")?;
        for name in names {
            write!(f, " {name:>8}")?;
        }
        for (row, counts) in &self.rows {
            write!(f, "\n{:<6} {:<15} {:<10}", row.home, row.kind, row.harm)?;
            let Counts { cases, right, older, refused, failed, verified, elsewhere: _, wrong } = counts;
            for number in [cases, right, older, refused, failed, verified, wrong] {
                write!(f, " {number:>8}")?;
            }
        }
        let sqlstates: Vec<String> =
            self.sqlstates.iter().map(|(state, count)| format!("{state}: {count}")).collect();
        write!(f, "\nerrors by SQLSTATE: {}", sqlstates.join(", "))?;
        let elsewhere: u64 = self.rows.values().map(|counts| counts.elsewhere).sum();
        write!(
            f,
            "\nVERIFY DEEP found {} of {} that it must find; of all it found, {elsewhere} under another name",
            self.findable - self.unfound,
            self.findable
        )?;
        for (why, count) in &self.harmless {
            write!(f, "\nneed not be found, {count}: {why}")?;
        }
        write!(f, "\nlargest request for memory: {} bytes", self.largest_bytes)
    }
}
