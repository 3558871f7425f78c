//! Cutting a CSV file into ranges that begin and end between records.
//!
//! A newline ends a record when an even number of quotes stands before it: a doubled quote counts twice, so the rule
//! holds for every file the parser accepts (it refuses a quote inside an unquoted field). Owns: that rule.
//! With an `escape` of its own the parity says nothing, so such files are not cut.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::error::Result;

const BLOCK: usize = 1 << 20;

/// `pieces` ranges of about equal length covering `from..len`, contiguous and in order; fewer when records are long.
///
/// # Errors
/// The file cannot be read.
pub(super) fn split(path: &Path, from: u64, len: u64, pieces: u64, quote: u8) -> Result<Vec<Range<u64>>> {
    let io = |e| cairn_storage::Error::io(format!("reading '{}'", path.display()), e);
    let mut file = File::open(path).map_err(io)?;
    let mut starts = vec![from];
    let mut quoted = false;
    let mut position = from;
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut block = vec![0; BLOCK];
    for piece in 1..pieces {
        let wanted = from + (len - from) * piece / pieces;
        // Quotes up to the wanted place.
        while position < wanted {
            let take = usize::try_from((wanted - position).min(BLOCK as u64)).unwrap_or(BLOCK);
            file.read_exact(&mut block[..take]).map_err(io)?;
            quoted ^= count(&block[..take], quote) % 2 == 1;
            position += take as u64;
        }
        // Then the first newline outside quotes.
        let mut found = None;
        while found.is_none() && position < len {
            let take = usize::try_from((len - position).min(BLOCK as u64)).unwrap_or(BLOCK);
            file.read_exact(&mut block[..take]).map_err(io)?;
            found = record_end(&block[..take], quote, &mut quoted);
            position += found.unwrap_or(take) as u64;
        }
        if found.is_none() || position >= len {
            break;
        }
        file.seek(SeekFrom::Start(position)).map_err(io)?;
        if starts.last().is_none_or(|last| *last < position) {
            starts.push(position);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([len]);
    Ok(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
}

/// How often `byte` occurs.
pub(super) fn count(bytes: &[u8], byte: u8) -> usize {
    // Short inner sums stay in byte lanes and vectorise.
    bytes.chunks(192).map(|c| usize::from(c.iter().map(|b| u8::from(*b == byte)).sum::<u8>())).sum()
}

/// Position after the first newline outside quotes; `quoted` follows along.
fn record_end(bytes: &[u8], quote: u8, quoted: &mut bool) -> Option<usize> {
    for (i, byte) in bytes.iter().enumerate() {
        if *byte == quote {
            *quoted = !*quoted;
        } else if *byte == b'\n' && !*quoted {
            return Some(i + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pieces(text: &str, pieces: u64) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.csv");
        std::fs::write(&path, text).unwrap();
        let ranges = split(&path, 0, text.len() as u64, pieces, b'"').unwrap();
        ranges.into_iter().map(|r| text[r.start as usize..r.end as usize].to_owned()).collect()
    }

    #[test]
    fn newlines_inside_quotes_do_not_cut() {
        let text = "1,\"a\nb\nc\n\"\"x\"\"\nd\"\n2,\"e\nf\"\n3,g\n";
        for n in 1..20 {
            let got = pieces(text, n);
            assert_eq!(got.concat(), text);
            for piece in &got {
                assert!(piece.starts_with(['1', '2', '3']), "{n}: {piece:?}");
                assert!(piece.ends_with('\n'));
            }
        }
    }

    #[test]
    fn a_last_line_without_newline_stays_whole() {
        assert_eq!(pieces("a,1\nb,2", 2).concat(), "a,1\nb,2");
        assert_eq!(pieces("one", 4), ["one"]);
    }

    #[test]
    fn counts_long_runs() {
        assert_eq!(count(&vec![b'x'; 100_000], b'x'), 100_000);
    }

    #[test]
    fn every_cut_is_between_records() {
        let text: String = (0..500).map(|i| format!("{i},\"line {i}\nmore\"\n")).collect();
        let got = pieces(&text, 7);
        assert_eq!(got.len(), 7);
        assert_eq!(got.concat(), text);
    }
}
