//! The index unit: an immutable file of codes, graph and row ids, used in place.
//!
//! Owns: the bytes ([`codec`]), opening, checking. Does not own: where the bytes lie (the caller maps a file or reads it), nor exact
//! vectors, which stay in the table.
//! Damage: [`Unit::open`] checks what it reads, a search checks each block before its first use and ends with
//! [`UnitError::Damaged`]. Whatever bytes with right checksums hold, every access stays inside the unit and every search ends.
//! [`Unit::verify`] reads everything and names what is wrong.

mod access;
mod blocks;
mod calibration;
pub mod codec;
mod open;
mod parts;
mod verify;

pub(crate) use self::blocks::{FirstUse, Guard, Trusted};
pub use self::calibration::{Calibration, CalibrationPoint, Compared};
pub(crate) use self::open::SketchGrid;
pub use self::open::{Unit, UnitError};
pub(crate) use self::parts::high;
pub use self::parts::{BuildStatistics, UnitParts};
pub use self::verify::Finding;
