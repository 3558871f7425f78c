//! Inputs that nearly are right: real ones, changed a little.
//!
//! Everything follows from the generator that is handed in.

use rand::Rng;
use rand::rngs::StdRng;

use crate::random::one_of;

/// Changes of one input, at most.
const STEPS_MAX: usize = 4;
/// Longest part that is moved, doubled or left out.
const PART_MAX: usize = 64;
/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 256 << 10;
/// Numbers that lengths and counts are replaced with.
const NUMBERS: &[u64] = &[
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10_0000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX - 1,
    u64::MAX,
];
/// Texts that parsers stumble over.
const TEXTS: &[&str] = &[
    "\"",
    "'",
    "\\",
    "\0",
    "$1",
    "$$",
    "--",
    "/*",
    "*/",
    ";",
    "(",
    ")",
    "((((((((",
    "[",
    "]",
    "{",
    "}",
    ",,",
    "..",
    "::",
    "e999",
    "-0",
    "null",
    "NULL",
    "9223372036854775808",
    "99999999999999999999999999999999999999999",
    "1e-400",
    "\u{feff}",
    "\u{202e}",
    "é",
    "𝄞",
    "%s",
    " NOT ",
    " IS ",
    "=",
];

/// `bytes` with a few changes; `other` is another input of the same target.
pub fn mutated(random: &mut StdRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..random.random_range(1..=STEPS_MAX) {
        step(random, &mut out, other);
    }
    out.truncate(BYTES_MAX);
    out
}

fn step(random: &mut StdRng, out: &mut Vec<u8>, other: &[u8]) {
    let at = place(random, out.len());
    match random.random_range(0..12) {
        0..=2 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        3 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = random.random();
            }
        }
        4 => out.truncate(at),
        5 => {
            let part = part(random, out.len(), at);
            out[part].fill(0);
        }
        6 => drop(out.drain(part(random, out.len(), at))),
        7 => {
            let part = out[part(random, out.len(), at)].to_vec();
            insert(out, at, &part);
        }
        8 => {
            let from = place(random, other.len());
            let taken = &other[part(random, other.len(), from)];
            match random.random_bool(0.5) {
                true => insert(out, at, taken),
                false => overwrite(out, at, taken),
            }
        }
        // A length or a count: most stand at multiples of four, and are little-endian.
        9 | 10 => {
            let number = *one_of(random, NUMBERS);
            let number = if random.random_bool(0.2) { out.len() as u64 } else { number };
            let width = *one_of(random, &[1, 2, 4, 8]);
            overwrite(out, at / 4 * 4, &number.to_le_bytes()[..width]);
        }
        _ => {
            let text = *one_of(random, TEXTS);
            insert(out, at, text.as_bytes());
        }
    }
}

/// A place in so many bytes, or at their end.
fn place(random: &mut StdRng, length: usize) -> usize {
    // What stands at the front says what the rest is.
    let end = if random.random_bool(0.3) { length.min(PART_MAX) } else { length };
    random.random_range(0..=end)
}

/// A part that begins `at`.
fn part(random: &mut StdRng, length: usize, at: usize) -> std::ops::Range<usize> {
    at..at + random.random_range(0..=PART_MAX.min(length - at))
}

fn insert(out: &mut Vec<u8>, at: usize, part: &[u8]) {
    drop(out.splice(at..at, part.iter().copied()));
}

fn overwrite(out: &mut [u8], at: usize, part: &[u8]) {
    for (byte, new) in out.iter_mut().skip(at).zip(part) {
        *byte = *new;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_input_and_most_differ() {
        let made = |seed| mutated(&mut StdRng::seed_from_u64(seed), b"a short input of some bytes", b"other");
        let changed = (0..200).filter(|seed| made(*seed) != b"a short input of some bytes").count();
        assert!(changed > 180, "{changed}");
        assert!((0..200).all(|seed| made(seed) == made(seed)));
        assert!((0..200).all(|seed| mutated(&mut StdRng::seed_from_u64(seed), b"", b"").len() < 1_000));
    }
}
