//! Whether an upload whose completion was not answered is an object now.
//!
//! Owns: knowing the bytes of an upload again. A name may be anybody's, so an object of the same length is no proof. Two things are:
//! the tag that S3 and what is like it make of the parts' own tags (the MD5 of their MD5s), and the bytes, which are read back
//! where no such tag is told (Google, Azure, keys of a KMS). Somebody else's object of the very same bytes is as good as ours. Does
//! not own: when to ask.

use std::ops::Range;

use md5::{Digest, Md5};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, PutPayload, PutResult, Result as StoreResult,
};
use xxhash_rust::xxh3::Xxh3;

use super::Inner;
use crate::error::{Error, ErrorKind};
use crate::object::reason;

/// Bytes that one request reads back.
const READ_BYTES: u64 = 16 << 20;

/// What an upload was made of.
pub(super) struct Sent {
    bytes: u64,
    hash: Xxh3,
    /// The tag of a version of the object that is not ours.
    refuted: Option<String>,
}

impl Sent {
    pub(super) fn nothing() -> Self {
        Self { bytes: 0, hash: Xxh3::new(), refuted: None }
    }

    /// The next part; parts come in their order.
    pub(super) fn add(&mut self, part: &PutPayload) {
        self.bytes += part.content_length() as u64;
        part.iter().for_each(|bytes| self.hash.update(bytes));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The object, when what stands at `path` is what was sent; `tag` is the one it has then, where that is known. None: it is
    /// something else, or cannot be read.
    pub(super) async fn found(&mut self, inner: &Inner, path: &Path, tag: Option<&str>) -> Option<PutResult> {
        let head = GetOptions { head: true, ..GetOptions::default() };
        let meta = inner.get(path, &head).await.ok()?.meta;
        if meta.size != self.bytes || (meta.e_tag.is_some() && meta.e_tag == self.refuted) {
            return None;
        }
        let told = meta.e_tag.as_deref().map(bare);
        if tag.is_none() || told != tag {
            let hash = hash_of(inner, path, &meta).await.ok()?;
            if hash != self.hash.digest128() {
                self.refuted = meta.e_tag;
                return None;
            }
        }
        Some(PutResult { e_tag: meta.e_tag, version: meta.version })
    }
}

/// What one version of an object holds.
async fn hash_of(inner: &Inner, path: &Path, meta: &ObjectMeta) -> StoreResult<u128> {
    let (mut hash, mut start) = (Xxh3::new(), 0);
    while start < meta.size {
        let range: Range<u64> = start..meta.size.min(start + READ_BYTES);
        start = range.end;
        let options =
            GetOptions { range: Some(range.into()), if_match: meta.e_tag.clone(), ..GetOptions::default() };
        hash.update(&inner.get(path, &options).await?.bytes().await?);
    }
    Ok(hash.digest128())
}

/// The tag of an object made of `parts`, when theirs are the MD5s of their bytes, as far as can be seen: those that only look so (a
/// KMS's, the numbers of Azure's blocks) make one that no object has, and its bytes are read.
pub(super) fn tag_of(parts: &[PartId]) -> Option<String> {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(md5_of(bare(&part.content_id))?);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    (!parts.is_empty()).then(|| format!("{digits}-{}", parts.len()))
}

/// The bytes of 32 digits.
fn md5_of(digits: &str) -> Option<[u8; 16]> {
    let is_md5 = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| is_md5)?;
    Some(number.to_be_bytes())
}

/// A tag without its quotes.
fn bare(tag: &str) -> &str {
    let tag = tag.strip_prefix("&quot;").unwrap_or(tag);
    tag.strip_suffix("&quot;").unwrap_or(tag).trim_matches('"')
}

/// The failure of a completion that may have been done.
pub(super) fn unsettled(path: &Path, error: StoreError) -> StoreError {
    let told = reason::describe_at(error, Some(path.as_ref()));
    let mut made =
        Error::new(ErrorKind::Unavailable, format!("{path}: nobody knows whether its upload was completed"))
            .with_hint(told.hint().unwrap_or("look whether the object is there"));
    let detail = told.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
    made = made.with_detail(format!("{}{detail}", told.message()));
    reason::failure(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn part(content_id: &str) -> PartId {
        PartId { content_id: content_id.to_owned() }
    }

    #[test]
    fn the_tag_of_an_object_is_made_of_those_of_its_parts() {
        // Of "one " and "two"; the last is what S3 tells of an object of both.
        let digest = |bytes: &[u8]| -> String {
            Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let (one, two) = (digest(b"one "), digest(b"two"));
        let both = [Md5::digest(b"one ").to_vec(), Md5::digest(b"two").to_vec()].concat();
        let whole = format!("{}-2", digest(&both));
        assert_eq!(tag_of(&[part(&one), part(&two)]).unwrap(), whole);
        assert_eq!(
            tag_of(&[part(&format!("\"{one}\"")), part(&format!("&quot;{two}&quot;"))]).unwrap(),
            whole
        );
        assert_eq!(tag_of(&[part(&two), part(&one)]).filter(|tag| *tag == whole), None);
        // Google's are something else.
        for other in ["0", "", "+0000000000000000000000000000000", "CNDE3JmrvJADEAE="] {
            assert_eq!(tag_of(&[part(&one), part(other)]), None, "{other}");
        }
        assert_eq!(tag_of(&[]), None);
    }

    #[test]
    fn what_is_not_known_says_what_was_answered() {
        let answer = StoreError::NotFound { path: "a/x".to_owned(), source: "NoSuchUpload".into() };
        let told = Error::from(unsettled(&Path::from("a/x"), answer));
        assert_eq!(told.kind(), ErrorKind::Unavailable);
        assert_eq!(told.message(), "a/x: nobody knows whether its upload was completed");
        assert!(told.detail().unwrap().contains("does not exist"), "{told:?}");
    }
}
