//! Names of what a server keeps for its clients: sessions, transactions, prepared statements, results.
//!
//! Random, so that knowing one is being allowed to use it; nobody finds another by counting.

use std::fmt;

use bytes::Bytes;

/// 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle([u8; Self::BYTES]);

impl Handle {
    /// Length on the wire.
    pub(crate) const BYTES: usize = 16;

    /// A new one, from the system's generator of secrets.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// The one a client sent; None when it can be none of ours.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The one written by [`text`](Self::text).
    pub(crate) fn read_text(text: &str) -> Option<Self> {
        let bytes = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 2 * Self::BYTES)?;
        Some(Self(bytes.to_be_bytes()))
    }

    pub(crate) fn bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// 32 hexadecimal digits.
    pub(crate) fn text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Whoever reads a log must not be able to use what it names.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_and_bytes_come_back() {
        let handle = Handle::random();
        assert_eq!(Handle::read(&handle.bytes()), Some(handle));
        assert_eq!(Handle::read_text(&handle.text()), Some(handle));
        assert_eq!(Handle::read_text("abc"), None);
        assert_eq!(Handle::read(b"short"), None);
        assert_eq!(format!("{handle:?}"), "Handle(***)");
    }
}
