//! The vectors of `item`, and what the nearest of them are.
//!
//! Owns: vectors of small whole numbers, whose distances have one value however they are summed, and the comparison of a search with
//! the exact answer: each row and its distance must be right, and so must their number; where the search is exact, no row
//! may be nearer; elsewhere those that are missed are counted.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use rand::Rng;
use rand::rngs::StdRng;

pub(super) const DIMENSIONS: usize = 8;
/// Rows of one answer.
const NEAREST: usize = 10;
/// Components are whole numbers from minus this to this.
const COMPONENT_MAX: i32 = 10;
/// Relative difference of two distances that are the same: a REAL has 24 bits.
const DISTANCE: f64 = 1e-5;

pub(super) type Vector = [i32; DIMENSIONS];

/// How much of the exact answers searches gave that need not be exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// Rows that are among the nearest.
    pub found: u64,
    /// Rows of the exact answers.
    pub of: u64,
}

impl AddAssign for Recall {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.of += other.of;
    }
}

/// The vector that is written for an id.
pub(super) fn vector(id: i64, salt: i64) -> Vector {
    let mut state = id.wrapping_mul(0x9E37_79B9).wrapping_add(salt.wrapping_mul(0x85EB_CA6B)) as u64;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i32 % (2 * COMPONENT_MAX + 1) - COMPONENT_MAX
    })
}

/// As SQL has it, without quotes.
pub(super) fn text(vector: &Vector) -> String {
    format!("{vector:?}").replace(' ', "")
}

/// What [`text`] or a cast to TEXT has written.
pub(super) fn read(text: &str) -> Result<Vector, String> {
    let components: Vec<i32> = text
        .trim_matches(['[', ']'])
        .split(',')
        .map(|component| component.trim().parse::<f32>().map(|component| component as i32))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the vector {text}: {error}"))?;
    components.try_into().map_err(|_| format!("the vector {text} has not {DIMENSIONS} components"))
}

/// Searches `item` of that writer, which holds `items`, for a random vector, by `rows`, which runs a query.
///
/// # Errors
/// What the query fails with, or how its answer is wrong.
pub(super) fn check(
    items: &BTreeMap<i64, Option<Vector>>,
    writer: u64,
    rng: &mut StdRng,
    rows: impl Fn(&str) -> Result<Vec<Vec<String>>, String>,
) -> Result<Recall, String> {
    let wanted: Vector = std::array::from_fn(|_| rng.random_range(-COMPONENT_MAX..=COMPONENT_MAX));
    let distances: BTreeMap<i64, f64> =
        items.iter().filter_map(|(id, e)| Some((*id, distance(&wanted, e.as_ref()?)))).collect();
    let mut nearest: Vec<f64> = distances.values().copied().collect();
    nearest.sort_by(f64::total_cmp);
    nearest.truncate(NEAREST);
    let mut recall = Recall::default();
    for exact in [true, false] {
        let mode = if exact { ", mode => 'exact'" } else { "" };
        let sql = format!(
            "SELECT id, _distance FROM vector_search('item{writer}', 'e', '{}', k => {NEAREST}{mode}) ORDER BY _rank",
            text(&wanted)
        );
        let answer = rows(&sql)?;
        if answer.len() != nearest.len() {
            return Err(format!("{sql}: {} rows instead of {}", answer.len(), nearest.len()));
        }
        let mut before = f64::NEG_INFINITY;
        for (row, best) in answer.iter().zip(&nearest) {
            let id = row[0].parse::<i64>().map_err(|error| format!("{sql}: id {}: {error}", row[0]))?;
            let said =
                row[1].parse::<f64>().map_err(|error| format!("{sql}: distance {}: {error}", row[1]))?;
            let Some(right) = distances.get(&id) else {
                return Err(format!("{sql}: row {id} is not there, or has no vector"));
            };
            if !is_near(said, *right) || said < before {
                return Err(format!("{sql}: row {id} at {said} after {before}, but it is at {right}"));
            }
            if exact && !is_near(said, *best) {
                return Err(format!("{sql}: row {id} at {said}, but there is one at {best}"));
            }
            before = said;
        }
        if !exact {
            let last = nearest.last().copied().unwrap_or_default();
            recall.of += nearest.len() as u64;
            recall.found += answer
                .iter()
                .filter(|row| row[1].parse::<f64>().is_ok_and(|d| d <= last * (1.0 + DISTANCE)))
                .count() as u64;
        }
    }
    Ok(recall)
}

fn distance(a: &Vector, b: &Vector) -> f64 {
    let squares: i32 = a.iter().zip(b).map(|(a, b)| (a - b).pow(2)).sum();
    f64::from(squares).sqrt()
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= DISTANCE * (1.0 + b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_as_they_were_written() {
        for id in [0, 1, 977, 3_000_000_000_123] {
            let vector = vector(id, 5);
            assert!(vector.iter().all(|component| component.abs() <= COMPONENT_MAX), "{vector:?}");
            assert_eq!(read(&text(&vector)), Ok(vector));
        }
        assert_eq!(read("[1.0, 2, 3, -4, 5, 6, 7, 8]"), Ok([1, 2, 3, -4, 5, 6, 7, 8]));
        assert!(read("[1,2]").is_err() && read("NULL").is_err());
    }

    #[test]
    fn wrong_answers_are_seen() {
        let items = BTreeMap::from([(1, Some([1; DIMENSIONS])), (2, Some([9; DIMENSIONS])), (3, None)]);
        let answer = |rows: &[(i64, f64)]| {
            let rows: Vec<_> = rows.iter().map(|(id, d)| vec![id.to_string(), d.to_string()]).collect();
            check(&items, 0, &mut rand::SeedableRng::seed_from_u64(7), |_| Ok(rows.clone()))
        };
        let mut rng: StdRng = rand::SeedableRng::seed_from_u64(7);
        let wanted: Vector = std::array::from_fn(|_| rng.random_range(-COMPONENT_MAX..=COMPONENT_MAX));
        let mut right: Vec<(i64, f64)> =
            [1, 2].map(|id| (id, distance(&wanted, items[&id].as_ref().unwrap()))).to_vec();
        right.sort_by(|a, b| a.1.total_cmp(&b.1));
        assert_eq!(answer(&right), Ok(Recall { found: 2, of: 2 }));
        let backwards = [right[1], right[0]];
        let other_row = [right[0], (3, right[1].1)];
        let other_distance = [right[0], (right[1].0, right[1].1 + 1.0)];
        for wrong in [&right[..1], &backwards, &other_row, &other_distance] {
            assert!(answer(wrong).is_err(), "{wrong:?}");
        }
    }
}
