//! Bearer tokens: what a client shows instead of its password.
//!
//! The server keeps a hash only: whoever reads its memory or a dump of it cannot log in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// A token, as it is given to the client once.
pub(crate) struct Token(String);

/// What is kept of a token.
pub(crate) type TokenHash = [u8; 32];

impl Token {
    pub(super) fn random() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn hash(&self) -> TokenHash {
        Self::hash_of(&self.0)
    }

    pub(super) fn hash_of(token: &str) -> TokenHash {
        Sha256::digest(token.as_bytes()).into()
    }
}
