//! Patterns of numbers as PostgreSQL has them: `999,999.00`.
//!
//! Owns: digits (9, 0), the point (. or D), groups (, or G), signs (S, MI, PR), FM, and text that stands in a pattern. Does not own:
//! EEEE, RN, TH and V, which are refused.

use datafusion::common::Result;

use crate::function::invalid;

/// Digits that a pattern may have.
const DIGITS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// 0 or 9.
    Digit {
        is_zero: bool,
    },
    Point,
    Group,
    Sign,
    Minus,
    Text(char),
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    /// FM: without blanks before the number and zeros behind it.
    bare: bool,
    /// PR: a number below 0 in angle brackets.
    brackets: bool,
}

impl Pattern {
    /// # Errors
    /// 22023 for a pattern that is none.
    pub(super) fn new(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let cut: String = text.chars().take(60).collect();
            invalid("22023", format!("'{cut}' is no format of numbers: {why}"))
        };
        let mut pattern = Self { pieces: Vec::new(), bare: false, brackets: false };
        let mut chars = text.chars().peekable();
        let mut digits = 0;
        while let Some(c) = chars.next() {
            let next = chars.peek().map(char::to_ascii_uppercase);
            let piece = match (c.to_ascii_uppercase(), next) {
                ('F', Some('M')) => {
                    chars.next();
                    pattern.bare = true;
                    continue;
                }
                ('P', Some('R')) => {
                    chars.next();
                    pattern.brackets = true;
                    continue;
                }
                ('M', Some('I')) => {
                    chars.next();
                    Piece::Minus
                }
                ('9', _) => Piece::Digit { is_zero: false },
                ('0', _) => Piece::Digit { is_zero: true },
                ('.' | 'D', _) => Piece::Point,
                (',' | 'G', _) => Piece::Group,
                ('S', _) => Piece::Sign,
                ('"', _) => {
                    while let Some(quoted) = chars.next() {
                        match quoted {
                            '"' => break,
                            '\\' => pattern.pieces.extend(chars.next().map(Piece::Text)),
                            quoted => pattern.pieces.push(Piece::Text(quoted)),
                        }
                    }
                    continue;
                }
                ('\\', _) => match chars.next() {
                    Some(escaped) => Piece::Text(escaped),
                    None => Piece::Text('\\'),
                },
                (other, _) if other.is_ascii_alphabetic() => {
                    return Err(refused(&format!("{c} stands for nothing here; put text in double quotes")));
                }
                _ => Piece::Text(c),
            };
            digits += usize::from(matches!(piece, Piece::Digit { .. }));
            pattern.pieces.push(piece);
        }
        let count = |of: fn(&Piece) -> bool| pattern.pieces.iter().filter(|piece| of(piece)).count();
        if count(|piece| *piece == Piece::Point) > 1 {
            return Err(refused("it has two points"));
        }
        if count(|piece| matches!(piece, Piece::Sign | Piece::Minus)) + usize::from(pattern.brackets) > 1 {
            return Err(refused("it has two signs"));
        }
        if digits > DIGITS_MAX {
            return Err(refused("it has more than 256 digits"));
        }
        Ok(pattern)
    }

    /// How many digits are behind the point.
    pub(super) fn fraction(&self) -> usize {
        let behind = self.pieces.iter().skip_while(|piece| **piece != Piece::Point);
        behind.filter(|piece| matches!(piece, Piece::Digit { .. })).count()
    }

    /// Writes a number that has as many digits behind the point as the pattern.
    pub(super) fn write(&self, number: &Number, out: &mut String) {
        let whole = number.whole.trim_start_matches('0').as_bytes();
        let point = self.pieces.iter().position(|piece| *piece == Piece::Point);
        let end = point.unwrap_or(self.pieces.len());
        let is_digit = |piece: &Piece| matches!(piece, Piece::Digit { .. });
        let places = self.pieces[..end].iter().filter(|piece| is_digit(piece)).count();
        let is_too_large = whole.len() > places;
        let has_sign = self.pieces.iter().any(|piece| matches!(piece, Piece::Sign | Piece::Minus));
        let is_negative = number.is_negative && !number.is_zero();
        // A sign without a place of its own stands right before the number.
        let mut before = match (has_sign, self.brackets, is_negative) {
            (true, ..) => None,
            (false, true, true) => Some('<'),
            (false, false, true) => Some('-'),
            (false, ..) => (!self.bare).then_some(' '),
        };
        // S does, too, where it stands before the digits.
        let first_digit = self.pieces.iter().position(is_digit).unwrap_or(end);
        let sign = if is_negative { '-' } else { '+' };
        if self.pieces[..first_digit].contains(&Piece::Sign) {
            before = Some(sign);
        }
        let keeps = self.kept_fraction(number);
        let (mut place, mut fraction, mut has_begun) = (0, 0, false);
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Digit { .. } if at > end => {
                    if fraction < keeps {
                        begin(&mut before, out);
                        let digit = number.fraction.as_bytes().get(fraction).copied().unwrap_or(b'0');
                        out.push(if is_too_large { '#' } else { char::from(digit) });
                    }
                    fraction += 1;
                }
                Piece::Digit { is_zero } => {
                    let left = places - place;
                    place += 1;
                    // 0 has a digit, unless it has others behind the point.
                    let is_only = left == 1 && whole.is_empty() && self.fraction() == 0;
                    has_begun |= *is_zero || is_too_large || left <= whole.len() || is_only;
                    if has_begun {
                        begin(&mut before, out);
                        let digit = whole.len().checked_sub(left).and_then(|at| whole.get(at)).copied();
                        out.push(if is_too_large { '#' } else { char::from(digit.unwrap_or(b'0')) });
                    } else if !self.bare {
                        out.push(' ');
                    }
                }
                Piece::Point => {
                    begin(&mut before, out);
                    out.push('.');
                }
                Piece::Group if has_begun => out.push(','),
                Piece::Group if !self.bare => out.push(' '),
                Piece::Group => {}
                Piece::Sign if at < first_digit => {}
                Piece::Sign => out.push(sign),
                Piece::Minus if is_negative => out.push('-'),
                Piece::Minus if !self.bare => out.push(' '),
                Piece::Minus => {}
                Piece::Text(c) => out.push(*c),
            }
        }
        if self.brackets && is_negative {
            out.push('>');
        } else if self.brackets && !self.bare {
            out.push(' ');
        }
    }

    /// How many digits behind the point are written: with FM no zeros at the end that only 9 has a place for.
    fn kept_fraction(&self, number: &Number) -> usize {
        let places = self.fraction();
        if !self.bare {
            return places;
        }
        let behind = self.pieces.iter().skip_while(|piece| **piece != Piece::Point);
        let digits = behind.filter(|piece| matches!(piece, Piece::Digit { .. }));
        let zeros = digits.enumerate().filter(|(_, piece)| **piece == Piece::Digit { is_zero: true });
        let wanted = zeros.last().map_or(0, |(at, _)| at + 1);
        wanted.max(number.fraction.trim_end_matches('0').len()).min(places)
    }
}

/// Writes what stands before a number, once.
fn begin(before: &mut Option<char>, out: &mut String) {
    out.extend(before.take());
}

/// A number in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    is_negative: bool,
    whole: String,
    fraction: String,
}

impl Number {
    /// Of a text such as `-12.345`, rounded to `fraction` digits; None: it is none, as `NaN` and `1e300`.
    pub(super) fn rounded(text: &str, fraction: usize) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.bytes().chain(rest.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let kept: String = rest.chars().chain(std::iter::repeat('0')).take(fraction).collect();
        let mut all: Vec<u8> = whole.bytes().chain(kept.bytes()).collect();
        if rest.as_bytes().get(fraction).is_some_and(|digit| *digit >= b'5') {
            let mut carries = true;
            for digit in all.iter_mut().rev() {
                *digit = match *digit {
                    b'9' => b'0',
                    other => {
                        carries = false;
                        other + 1
                    }
                };
                if !carries {
                    break;
                }
            }
            if carries {
                all.insert(0, b'1');
            }
        }
        let fraction = String::from_utf8(all.split_off(all.len() - fraction)).ok()?;
        Some(Self { is_negative, whole: String::from_utf8(all).ok()?, fraction })
    }

    fn is_zero(&self) -> bool {
        self.whole.bytes().chain(self.fraction.bytes()).all(|digit| digit == b'0')
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(pattern: &str, number: &str) -> String {
        let pattern = Pattern::new(pattern).unwrap();
        let mut out = String::new();
        pattern.write(&Number::rounded(number, pattern.fraction()).unwrap(), &mut out);
        out
    }

    #[test]
    fn numbers_are_written_as_postgresql_does() {
        for (pattern, number, text) in [
            ("999,999.00", "1234.5", "   1,234.50"),
            ("FM999,999.00", "1234.5", "1,234.50"),
            ("9999", "485", "  485"),
            ("9999", "-485", " -485"),
            ("0999", "485", " 0485"),
            ("999", "1485", " ###"),
            ("9,999.9", "1485.25", " 1,485.3"),
            ("99.99", "0.1", "   .10"),
            ("0.99", "0.1", " 0.10"),
            ("FM9.99", "1.5", "1.5"),
            ("FM9.90", "1.5", "1.50"),
            ("9", "0", " 0"),
            ("FM9990D00", "12.345", "12.35"),
            ("S999", "485", "+485"),
            ("S999", "-4", "  -4"),
            ("999S", "-485", "485-"),
            ("999MI", "-485", "485-"),
            ("999MI", "485", "485 "),
            ("999PR", "-485", "<485>"),
            ("\"to the \"999\"%\"", "48", "to the   48%"),
            ("$99.99", "1.5", "$  1.50"),
            ("99", "99.5", " ##"),
            ("9.9", "-0.01", "  .0"),
        ] {
            assert_eq!(written(pattern, number), text, "{pattern} of {number}");
        }
    }

    #[test]
    fn patterns_are_checked() {
        for pattern in ["9.9.9", "S9MI", "9RN", "EEEE", "HH24", "9".repeat(300).as_str()] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        for text in ["NaN", "1e300", "", "-", "inf"] {
            assert_eq!(Number::rounded(text, 2), None, "{text}");
        }
    }
}
