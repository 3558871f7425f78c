//! Random numbers that stay the same between versions of Cairn: the bytes of a unit follow from its seed.
//!
//! SplitMix64 (Steele, Lea, Flood, 2014).

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of `seed` for one `purpose`.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut stream = Self(seed ^ purpose.wrapping_mul(0xA24B_AED4_963E_E407));
        stream.next();
        stream
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// `count` different numbers below `limit`, ascending; all of them when there are not more.
    pub(crate) fn sample(&mut self, limit: usize, count: usize) -> Vec<u32> {
        if count >= limit {
            return (0..limit as u32).collect();
        }
        // Floyd's algorithm.
        let mut chosen = std::collections::BTreeSet::new();
        for last in limit - count..limit {
            let number = self.below(last + 1) as u32;
            if !chosen.insert(number) {
                chosen.insert(last as u32);
            }
        }
        chosen.into_iter().collect()
    }
}
