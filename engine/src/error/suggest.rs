//! "Did you mean": the known name closest to one that isn't.

/// The candidate nearest to `name` by edits (insert, remove, replace, swap neighbours), when near enough to be meant.
pub(crate) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(64).collect();
    let limit = (wanted.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&wanted, candidate), candidate))
        .filter(|(d, candidate)| *d <= limit && *d < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment) between `a` and `b` in lower case.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["orders", "lineitem", "customer", "id"];
        for (typed, meant) in [
            ("order", Some("orders")),
            ("lineitme", Some("lineitem")),
            ("Customers", Some("customer")),
            ("part", None),
            ("ix", Some("id")),
            ("zz", None),
        ] {
            assert_eq!(closest(typed, names.into_iter()), meant, "{typed}");
        }
    }
}
