//! Remarks for the user in the head of an answer.
//!
//! Owns: their form, a JSON array of texts in ASCII, and its length. Does not own: where else an answer has room for them.

/// The header, over HTTP, and the metadata, over Flight SQL.
pub(crate) const NOTES_HEADER: &str = "cairn-notes";

/// Bytes after which the rest is left out; clients take 8 to 16 KiB of headers.
const BYTES_MAX: usize = 2048;

/// The value of the header; None: there is nothing to remark.
pub(crate) fn header(notes: &[String]) -> Option<String> {
    if notes.is_empty() {
        return None;
    }
    let mut text = String::from("[");
    for (i, note) in notes.iter().enumerate() {
        text.push_str(if i == 0 { "\"" } else { ",\"" });
        for character in note.chars() {
            if text.len() >= BYTES_MAX {
                // …
                text.push_str("\\u2026\"]");
                return Some(text);
            }
            spell(character, &mut text);
        }
        text.push('"');
    }
    text.push(']');
    Some(text)
}

/// A character of a text in JSON.
fn spell(character: char, text: &mut String) {
    match character {
        '"' | '\\' => text.extend(['\\', character]),
        ' '..='~' => text.push(character),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn they_are_ascii_and_come_back() {
        assert_eq!(header(&[]), None);
        let notes = ["a \"b\" \\ c".to_owned(), String::new(), "Hä\n🙂".to_owned()];
        let text = header(&notes).unwrap();
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), notes);
        let long = ["ü".repeat(5_000), "never".to_owned()];
        let text = header(&long).unwrap();
        assert!(text.len() < BYTES_MAX + 20);
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert!(read.len() == 1 && read[0].ends_with("ü…"), "{read:?}");
    }
}
