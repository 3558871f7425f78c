//! Checked reading of a byte slice: every length is compared with what is left before it is used.

use crate::error::{Error, Result};

/// The error for bytes that are not an entry or its rows.
pub(super) fn damaged(why: impl std::fmt::Display) -> Error {
    Error::corrupt("a WAL entry", why)
}

/// A cursor over bytes that nobody vouches for.
#[derive(Debug)]
pub(super) struct Input<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.all.len() - self.at
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = &self.all[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(damaged(format_args!(
                "{length} bytes wanted at offset {}, {} left",
                self.at,
                rest.len()
            )));
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn id(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    /// A u32 length that must fit in what is left.
    pub(super) fn length(&mut self) -> Result<usize> {
        let length = self.u32()? as usize;
        if length > self.remaining() {
            return Err(damaged(format_args!("a length of {length}, {} bytes left", self.remaining())));
        }
        Ok(length)
    }

    /// LEB128, at most ten bytes, no bits beyond the 64th.
    pub(super) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(damaged("a number beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number of more than ten bytes"))
    }

    /// Bytes behind their varint length.
    pub(super) fn counted(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| damaged("a length beyond memory"))?;
        self.take(length)
    }

    /// Text behind its varint length.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.counted()?).map_err(|e| damaged(format_args!("text: {e}")))
    }

    /// Everything must have been read.
    pub(super) fn end(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(damaged(format_args!("{n} bytes behind the end"))),
        }
    }
}

/// Appends LEB128.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes behind their varint length.
pub(super) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
