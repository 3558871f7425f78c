//! Vectors as text: `[1,2.5,-3e-7]`.
//!
//! Owns: the grammar and the positions of its errors; the shortest text that reads back to the same bits. Does not own: whether a
//! vector fits its column (`metric`).

use std::fmt::Write as _;

use crate::metric::DIM_MAX;

/// Why a text is no vector, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {position}")]
pub struct ParseError {
    /// Character of the text, from 1; one past the end when something is missing.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text does not begin with `[`.
    #[error("expected \"[\"")]
    Open,
    /// No `,` or `]` after a number.
    #[error("expected \",\" or \"]\"")]
    Separator,
    /// No number where one must be.
    #[error("expected a number")]
    Number,
    /// A number that f32 cannot hold.
    #[error("a number out of range")]
    Range,
    /// `[]`.
    #[error("a vector without components")]
    Empty,
    /// More components than a vector may have.
    #[error("more than {DIM_MAX} components")]
    TooLong,
    /// Text after the `]`.
    #[error("text after the vector")]
    Trailing,
}

/// The vector in `text`; space is allowed around numbers and brackets, NaN and infinities are not numbers.
///
/// # Errors
/// [`ParseError`], with the first position that is wrong.
pub fn parse(text: &str) -> Result<Vec<f32>, ParseError> {
    let fail = |rest: &str, problem| {
        let position = text[..text.len() - rest.len()].chars().count() + 1;
        Err(ParseError { position, problem })
    };
    let Some(mut rest) = text.trim_start().strip_prefix('[').map(str::trim_start) else {
        return fail(text.trim_start(), Problem::Open);
    };
    if rest.starts_with(']') {
        return fail(rest, Problem::Empty);
    }
    let mut vector = Vec::new();
    loop {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        match number.parse::<f32>() {
            Ok(_) if vector.len() == DIM_MAX => return fail(rest, Problem::TooLong),
            Ok(value) if value.is_finite() => vector.push(value),
            Ok(_) => return fail(rest, Problem::Range),
            Err(_) => return fail(rest, Problem::Number),
        }
        let after = after.trim_start();
        if let Some(next) = after.strip_prefix(',') {
            rest = next.trim_start();
            continue;
        }
        let Some(trailing) = after.strip_prefix(']') else {
            return fail(after, Problem::Separator);
        };
        let trailing = trailing.trim_start();
        return if trailing.is_empty() { Ok(vector) } else { fail(trailing, Problem::Trailing) };
    }
}

/// Appends the vector as text that [`parse`] reads back to the same bits.
pub fn write(vector: impl IntoIterator<Item = f32>, out: &mut String) {
    out.push('[');
    for (i, value) in vector.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ = match value.abs() {
            0.0 | 1e-5..1e16 => write!(out, "{value}"),
            _ => write!(out, "{value:e}"),
        };
    }
    out.push(']');
}

/// The vector as text.
#[must_use]
pub fn format(vector: &[f32]) -> String {
    let mut out = String::with_capacity(vector.len() * 8 + 2);
    write(vector.iter().copied(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_vectors() {
        let vector = vec![1.0, -2.5, 3e-7];
        for text in ["[1,-2.5,3e-7]", "  [ 1 , -2.50 ,\t3E-07 ]\n", "[+1,-25e-1,.0000003]"] {
            assert_eq!(parse(text), Ok(vector.clone()), "{text}");
        }
    }

    #[test]
    fn wrong_texts_name_the_place() {
        for (text, position, problem) in [
            ("", 1, Problem::Open),
            (" 1,2", 2, Problem::Open),
            ("[]", 2, Problem::Empty),
            ("[1,2", 5, Problem::Separator),
            ("[1;2]", 3, Problem::Separator),
            ("[1,,2]", 4, Problem::Number),
            ("[1,2,]", 6, Problem::Number),
            ("[1,nan]", 4, Problem::Number),
            ("[1,inf]", 4, Problem::Number),
            ("[1,ä]", 4, Problem::Number),
            ("[1ä]", 3, Problem::Separator),
            ("[1,1e39]", 4, Problem::Range),
            ("[1] [2]", 5, Problem::Trailing),
            ("[1-2]", 2, Problem::Number),
        ] {
            assert_eq!(parse(text), Err(ParseError { position, problem }), "{text}");
        }
        let long = format!("[{}1]", "1,".repeat(DIM_MAX));
        assert_eq!(parse(&long).map_err(|e| e.problem), Err(Problem::TooLong));
    }

    #[test]
    fn the_shortest_text_reads_back() {
        assert_eq!(format(&[1.0, 0.1, -0.0, 1e38, 1e-40, 16_777_216.0]), "[1,0.1,-0,1e38,1e-40,16777216]");
        for bits in (0..u32::MAX).step_by(0x0010_0007) {
            let value = f32::from_bits(bits);
            if value.is_finite() {
                let read = parse(&format(&[value])).expect("a vector");
                assert_eq!(read[0].to_bits(), bits);
            }
        }
    }
}
