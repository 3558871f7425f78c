//! What the meta of a small object keeps of its bytes.
//!
//! The crc32c of bytes that end in their own crc32c is the same number whatever the bytes are (the residue of the
//! polynomial), so it tells one whole object from another of the same length not at all. Metas keep the checksum of what
//! stands before an object's own checksums.

/// The checksum of an object whose last `own` bytes are its own checksums.
pub(crate) fn of(object: &[u8], own: usize) -> u32 {
    crc32c::crc32c(&object[..object.len().saturating_sub(own)])
}

/// Whether it is the object of that checksum. Metas written before 2026-11-23 hold the checksum of all bytes.
pub(crate) fn holds(object: &[u8], own: usize, checksum: u32) -> bool {
    of(object, own) == checksum || crc32c::crc32c(object) == checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_objects_of_one_length_are_told_apart() {
        let object = |byte: u8| {
            let body = [byte; 40];
            [&body[..], &crc32c::crc32c(&body).to_le_bytes()].concat()
        };
        let (ours, other) = (object(1), object(2));
        assert_eq!(crc32c::crc32c(&ours), crc32c::crc32c(&other));
        assert!(holds(&ours, 4, of(&ours, 4)));
        assert!(!holds(&other, 4, of(&ours, 4)));
        assert!(holds(&ours, 4, crc32c::crc32c(&ours)));
    }
}
