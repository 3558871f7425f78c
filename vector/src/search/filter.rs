//! Which rows of a unit may be in the answer.

/// A bitmap over the ordinals of a unit: rows that match the query's condition and are alive.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    words: &'a [u64],
    matches: usize,
}

impl<'a> Filter<'a> {
    /// Bit `o % 64` of word `o / 64` says whether ordinal `o` matches; missing words match nothing, bits behind the last
    /// row of the unit must not be set.
    #[must_use]
    pub fn new(words: &'a [u64]) -> Self {
        Self { words, matches: words.iter().map(|word| word.count_ones() as usize).sum() }
    }

    /// The filter when the caller knows the number of set bits: it must be that number.
    #[must_use]
    pub fn with_matches(words: &'a [u64], matches: usize) -> Self {
        debug_assert_eq!(matches, Self::new(words).matches, "the number of set bits");
        Self { words, matches }
    }

    /// How many rows match.
    #[must_use]
    pub fn matches(&self) -> usize {
        self.matches
    }

    /// Whether an ordinal matches.
    #[must_use]
    #[inline]
    pub fn contains(&self, ordinal: u32) -> bool {
        self.words.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// The matching ordinals below `rows`, ascending.
    pub fn ordinals(&self, rows: usize) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.iter().copied().enumerate();
        words
            .flat_map(|(i, word)| Bits { word, first: i as u32 * 64 })
            .take_while(move |&o| (o as usize) < rows)
    }
}

impl Filter<'_> {
    /// Writes the matching ordinals below `rows` to `ordinals`, ascending: faster than one by one.
    pub(super) fn collect(&self, rows: usize, ordinals: &mut Vec<u32>) {
        ordinals.clear();
        ordinals.reserve(self.matches);
        for (i, &word) in self.words.iter().take(rows.div_ceil(64)).enumerate() {
            let first = i as u32 * 64;
            match word {
                0 => {}
                u64::MAX => ordinals.extend(first..first + 64),
                word => ordinals.extend(Bits { word, first }),
            }
        }
        // No bit behind the last row is set but in a filter made for another unit.
        let inside = ordinals.partition_point(|&o| (o as usize) < rows);
        ordinals.truncate(inside);
    }
}

struct Bits {
    word: u64,
    first: u32,
}

impl Iterator for Bits {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.first + bit)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.word.count_ones() as usize;
        (left, Some(left))
    }
}
