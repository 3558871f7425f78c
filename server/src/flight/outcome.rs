//! What a statement without rows came to, and what is to be remarked beside rows, for clients that show it.
//!
//! Owns: its form on the wire, JSON in `app_metadata`: of the FlightInfo when it was asked for, of the first message of the rows
//! when the statement itself was the ticket. Does not own: the count of rows that every client reads (`total_records`).
//!
//! Only an outcome has a `verb`: by that clients tell a statement without rows from one with them.

use bytes::Bytes;
use cairn_engine::Output;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// "INSERT", "CREATE TABLE".
    pub verb: String,
    /// Rows it changed; None: there is nothing to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Remarks for the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Outcome {
    /// That of an output; None: it has rows.
    pub(super) fn of(output: &Output) -> Option<Self> {
        match output {
            Output::Rows(_) => None,
            Output::Affected { verb, rows, notes } => {
                Some(Self { verb: (*verb).to_owned(), rows: Some(*rows), notes: notes.clone() })
            }
            Output::Done { verb, notes } => {
                Some(Self { verb: (*verb).to_owned(), rows: None, notes: notes.clone() })
            }
        }
    }

    /// Takes in what the same statement came to with other parameters.
    pub(super) fn add(&mut self, other: Self) {
        self.rows = self.rows.map_or(other.rows, |rows| Some(rows + other.rows.unwrap_or(0)));
        self.notes.extend(other.notes);
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> Bytes {
        // Text and numbers have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What `app_metadata` says; None: the statement has rows.
    #[must_use]
    pub fn read(app_metadata: &[u8]) -> Option<Self> {
        serde_json::from_slice(app_metadata).ok()
    }

    /// The remarks that `app_metadata` has beside rows.
    #[must_use]
    pub fn notes_beside_rows(app_metadata: &[u8]) -> Vec<String> {
        serde_json::from_slice::<BesideRows>(app_metadata).map(|beside| beside.notes).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct BesideRows {
    notes: Vec<String>,
}

/// Remarks as they are sent beside rows; no bytes for none.
pub(super) fn beside_rows(notes: &[String]) -> Bytes {
    if notes.is_empty() {
        return Bytes::new();
    }
    // As above.
    serde_json::to_vec(&BesideRows { notes: notes.to_vec() }).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back() {
        let mut copy = Outcome { verb: "COPY".to_owned(), rows: Some(3), notes: Vec::new() };
        assert_eq!(copy.bytes(), r#"{"verb":"COPY","rows":3}"#);
        copy.add(Outcome { notes: vec!["1 row skipped".to_owned()], ..copy.clone() });
        assert_eq!((copy.rows, Outcome::read(&copy.bytes())), (Some(6), Some(copy.clone())));
        let done = Outcome { verb: "CREATE TABLE".to_owned(), rows: None, notes: Vec::new() };
        assert_eq!(Outcome::read(&done.bytes()), Some(done));
        assert_eq!(Outcome::read(b""), None);
    }

    #[test]
    fn rows_have_remarks_and_no_outcome() {
        let sent = beside_rows(&["old".to_owned()]);
        assert_eq!((Outcome::read(&sent), Outcome::notes_beside_rows(&sent)), (None, vec!["old".to_owned()]));
        assert_eq!((beside_rows(&[]), Outcome::notes_beside_rows(b"")), (Bytes::new(), Vec::new()));
    }
}
