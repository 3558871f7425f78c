//! How the bytes of the kept segments are shared among partitions.
//!
//! Pure: row-group layouts in, pieces out. A piece is a run of row groups of one segment, named by a byte range, small
//! enough that a few of them per core end at about the same time: the file source lets an idle partition take the next
//! unopened piece of another.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

/// Pieces per partition worth cutting; more only costs openings.
const PIECES_PER_PARTITION: u64 = 4;
/// Rows below which a piece is not worth an opening of its own.
const PIECE_ROWS_MIN: u64 = 64 * 1024;

/// One row group as the cut sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowGroupSpan {
    /// Offset of its first page.
    pub(crate) start: u64,
    /// Its rows.
    pub(crate) rows: u64,
}

/// A part of a segment that one partition reads in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Position of the segment in the scan's list.
    pub(crate) segment: usize,
    /// Byte range [start, end); None: the whole segment.
    pub(crate) range: Option<(u64, u64)>,
    /// Rows in it.
    pub(crate) rows: u64,
}

/// Rows a piece should have, for a scan of `rows` rows by `partitions` partitions.
pub(crate) fn piece_rows(rows: u64, partitions: usize) -> u64 {
    rows.div_ceil(PIECES_PER_PARTITION * partitions.max(1) as u64).max(PIECE_ROWS_MIN)
}

/// Whether a segment of `rows` rows among `segments` is worth cutting (and so its footer worth looking at).
pub(crate) fn worth_cutting(rows: u64, piece_rows: u64, segments: usize, partitions: usize) -> bool {
    partitions > 1 && rows > piece_rows && segments as u64 <= PIECES_PER_PARTITION * partitions as u64
}

/// Cuts a segment of `bytes` bytes into runs of row groups of about `piece_rows` rows.
pub(crate) fn cut(segment: usize, groups: &[RowGroupSpan], bytes: u64, piece_rows: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut rows = 0;
    for (i, group) in groups.iter().enumerate() {
        rows += group.rows;
        let end = groups.get(i + 1).map_or(bytes, |next| next.start);
        // Ends come from the row groups' first pages; a file laid out otherwise is read whole.
        if end <= start {
            return vec![Piece { segment, range: None, rows: groups.iter().map(|g| g.rows).sum() }];
        }
        if rows >= piece_rows || i + 1 == groups.len() {
            pieces.push(Piece { segment, range: Some((start, end)), rows });
            start = end;
            rows = 0;
        }
    }
    match pieces.as_mut_slice() {
        [only] => only.range = None,
        [] => pieces.push(Piece { segment, range: None, rows: 0 }),
        _ => {}
    }
    pieces
}

/// Shares pieces among at most `partitions` partitions, none empty, balanced by rows; each keeps the segments' order.
pub(crate) fn balance(pieces: Vec<Piece>, partitions: usize) -> Vec<Vec<Piece>> {
    let count = partitions.clamp(1, pieces.len().max(1));
    let mut shares: Vec<(u64, Vec<Piece>)> = vec![(0, Vec::new()); count];
    let mut by_size = pieces;
    by_size.sort_by_key(|p| Reverse(p.rows));
    for piece in by_size {
        // The lightest share; an empty one first, so that none stays empty.
        if let Some(share) = shares.iter_mut().min_by_key(|(rows, list)| (!list.is_empty(), *rows)) {
            share.0 += piece.rows;
            share.1.push(piece);
        }
    }
    shares
        .into_iter()
        .map(|(_, mut list)| {
            list.sort_by_key(|p| (p.segment, p.range));
            list
        })
        .filter(|list| !list.is_empty())
        .collect()
}

/// Shares pieces that are in order among at most `partitions` partitions as contiguous runs, neighbouring ranges of one
/// segment joined, so that each partition's rows stay in order.
pub(crate) fn in_order(mut pieces: Vec<Piece>, partitions: usize) -> Vec<Vec<Piece>> {
    pieces.sort_by_key(|p| (p.segment, p.range));
    let total: u64 = pieces.iter().map(|p| p.rows).sum();
    let share = total.div_ceil(partitions.max(1) as u64).max(1);
    let mut runs: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut rows = 0;
    for piece in pieces {
        if rows >= share && runs.len() < partitions {
            runs.push(Vec::new());
            rows = 0;
        }
        rows += piece.rows;
        if let Some(run) = runs.last_mut() {
            match (run.last_mut(), piece.range) {
                (Some(Piece { segment, range: Some((_, end)), rows: before }), Some((from, to)))
                    if *segment == piece.segment && *end == from =>
                {
                    *end = to;
                    *before += piece.rows;
                }
                _ => run.push(piece),
            }
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn groups(n: u64, rows: u64) -> Vec<RowGroupSpan> {
        (0..n).map(|i| RowGroupSpan { start: 4 + i * 1000, rows }).collect()
    }

    #[test]
    fn cuts_cover_the_segment_without_overlap() {
        let pieces = cut(3, &groups(23, 262_144), 24_000, piece_rows(23 * 262_144, 2));
        assert!(pieces.len() > 4 && pieces.len() <= 8, "{} pieces", pieces.len());
        assert_eq!(pieces[0].range.unwrap().0, 0);
        assert_eq!(pieces.last().unwrap().range.unwrap().1, 24_000);
        for pair in pieces.windows(2) {
            assert_eq!(pair[0].range.unwrap().1, pair[1].range.unwrap().0);
        }
        assert_eq!(pieces.iter().map(|p| p.rows).sum::<u64>(), 23 * 262_144);
        assert!(pieces.iter().all(|p| p.segment == 3));
    }

    #[test]
    fn one_row_group_stays_whole() {
        assert_eq!(cut(0, &groups(1, 10), 900, 1), vec![Piece { segment: 0, range: None, rows: 10 }]);
        assert_eq!(cut(0, &[], 900, 1), vec![Piece { segment: 0, range: None, rows: 0 }]);
    }

    #[test]
    fn shares_are_balanced_and_never_empty() {
        let pieces: Vec<_> = [900, 100, 100, 100, 400, 200]
            .iter()
            .enumerate()
            .map(|(segment, rows)| Piece { segment, range: None, rows: *rows })
            .collect();
        let shares = balance(pieces.clone(), 2);
        let rows: Vec<u64> = shares.iter().map(|s| s.iter().map(|p| p.rows).sum()).collect();
        assert_eq!(rows, vec![900, 900]);
        assert_eq!(balance(pieces, 16).len(), 6);
        assert!(balance(Vec::new(), 4).is_empty());
        let empty = |segment| Piece { segment, range: None, rows: 0 };
        assert_eq!(balance(vec![empty(0), empty(1)], 2).len(), 2);
    }

    #[test]
    fn ordered_shares_are_contiguous_and_joined() {
        let mut pieces = cut(0, &groups(8, 100), 9000, 100);
        pieces.extend(cut(1, &groups(8, 100), 9000, 100));
        pieces.reverse();
        let runs = in_order(pieces, 2);
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[0].len(), 1);
        assert_eq!((runs[0][0].segment, runs[1][0].segment), (0, 1));
        let runs = in_order(cut(0, &groups(8, 100), 9000, 100), 2);
        assert_eq!(runs[0][0].range.unwrap().1, runs[1][0].range.unwrap().0);
    }
}
