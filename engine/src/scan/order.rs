//! Segments in order of their sort columns, when a plan asks for that order.
//!
//! A scan declares no order on its own: a declared one fixes which partition reads which piece and stops partitions from
//! taking over each other's work, which costs every query that does not need it. When a sort sits on the scan
//! (`try_pushdown_sort`), and the segments are sorted, do not overlap and nothing is in memory, the pieces are dealt out
//! anew as contiguous runs and the sort goes away; with a limit the scan then stops early.

use std::cmp::Ordering;

use cairn_storage::SegmentView;
use cairn_storage::id::SchemaVersion;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;

use super::partition::Piece;
use super::statistics::scalar;

/// What is needed to read the segments in order.
#[derive(Clone, Debug)]
pub(crate) struct SortedPieces {
    /// Columns the rows are sorted by, ascending, by position in the definition; none of them holds a NULL.
    pub(crate) columns: Vec<usize>,
    /// The pieces, `segment` still naming the scan's segment.
    pieces: Vec<Piece>,
    /// Per segment of the scan its place in the order.
    rank: Vec<usize>,
}

impl SortedPieces {
    /// None when the segments can't be read in one order.
    pub(crate) fn new(
        segments: &[SegmentView],
        schema: &SchemaRef,
        definition: SchemaVersion,
        sort_columns: &[usize],
        pieces: &[Piece],
    ) -> Option<Self> {
        let usable = |s: &SegmentView| s.meta.sorted && s.meta.schema_version == definition;
        if segments.is_empty() || !segments.iter().all(usable) {
            return None;
        }
        // NULLs stand last in every segment, so a column with some is in order only within one; the order ends there.
        let no_null =
            |i: &&usize| segments.iter().all(|s| s.meta.columns.get(**i).is_some_and(|c| c.null_count == 0));
        let columns: Vec<usize> = sort_columns.iter().take_while(no_null).copied().collect();
        let first = *columns.first()?;
        let data_type = schema.field(first).data_type();
        let bounds = segments
            .iter()
            .map(|s| {
                let stats = s.meta.columns.get(first)?;
                Some((scalar(stats.min.as_ref()?, data_type)?, scalar(stats.max.as_ref()?, data_type)?))
            })
            .collect::<Option<Vec<_>>>();
        let rank = match (bounds, segments.len()) {
            (_, 1) => vec![0],
            (Some(bounds), _) => ranks(&bounds)?,
            (None, _) => return None,
        };
        Some(Self { columns, pieces: pieces.to_vec(), rank })
    }

    /// The pieces in order as contiguous runs for at most `partitions` partitions.
    pub(crate) fn runs(&self, partitions: usize) -> Vec<Vec<Piece>> {
        let mut back = vec![0; self.rank.len()];
        for (segment, rank) in self.rank.iter().enumerate() {
            back[*rank] = segment;
        }
        let ranked = self.pieces.iter().map(|p| Piece { segment: self.rank[p.segment], ..*p }).collect();
        let mut runs = super::partition::in_order(ranked, partitions);
        for piece in runs.iter_mut().flatten() {
            piece.segment = back[piece.segment];
        }
        runs
    }
}

/// Places of ranges in ascending order; None when two of them touch, since equal values of the first column may be in
/// any order of the next.
fn ranks(bounds: &[(ScalarValue, ScalarValue)]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..bounds.len()).collect();
    order.sort_by(|a, b| bounds[*a].0.partial_cmp(&bounds[*b].0).unwrap_or(Ordering::Equal));
    let apart = order.windows(2).all(|w| bounds[w[0]].1.partial_cmp(&bounds[w[1]].0) == Some(Ordering::Less));
    if !apart {
        return None;
    }
    let mut rank = vec![0; bounds.len()];
    for (place, segment) in order.into_iter().enumerate() {
        rank[segment] = place;
    }
    Some(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64) -> (ScalarValue, ScalarValue) {
        (ScalarValue::Int64(Some(from)), ScalarValue::Int64(Some(to)))
    }

    #[test]
    fn ranges_apart_have_an_order() {
        assert_eq!(ranks(&[range(10, 19), range(0, 9), range(20, 20)]), Some(vec![1, 0, 2]));
        assert_eq!(ranks(&[range(0, 10), range(10, 19)]), None);
        assert_eq!(ranks(&[range(0, 100), range(10, 19)]), None);
        assert_eq!(ranks(&[range(5, 6)]), Some(vec![0]));
    }

    #[test]
    fn runs_follow_the_order_and_keep_segment_names() {
        let piece = |segment| Piece { segment, range: None, rows: 10 };
        let sorted = SortedPieces {
            columns: vec![0],
            pieces: vec![piece(0), piece(1), piece(2), piece(3)],
            rank: vec![3, 0, 2, 1],
        };
        let runs = sorted.runs(2);
        let names: Vec<Vec<usize>> = runs.iter().map(|r| r.iter().map(|p| p.segment).collect()).collect();
        assert_eq!(names, vec![vec![1, 3], vec![2, 0]]);
    }
}
