//! Vectors as segments keep them: one fixed binary value each, its components little-endian f32 one after the other.
//!
//! Owns: the two forms of a vector column and the way between them, which copies nothing. Does not own: what makes a
//! vector valid (`transaction`), distances (`cairn_vector`). Parquet's own form of a fixed-size list has a level per
//! component, which costs more to read than the components do.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float32Type};

use crate::error::{Error, Result};
use crate::schema::ColumnType;

const _: () = assert!(cfg!(target_endian = "little"), "vectors are written as they stand in memory");

/// Arrow type of a column inside its segment's file.
#[must_use]
pub fn stored_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::Vector(dim) => DataType::FixedSizeBinary(4 * i32::from(*dim)),
        other => other.arrow(),
    }
}

/// A column's values as its segment's file holds them.
pub(crate) fn to_stored(array: &ArrayRef) -> Result<ArrayRef> {
    let DataType::FixedSizeList(_, dim) = array.data_type() else {
        return Ok(Arc::clone(array));
    };
    let list = array.as_fixed_size_list();
    let values = list
        .values()
        .as_primitive_opt::<Float32Type>()
        .ok_or_else(|| Error::internal(format!("{} is no vector", array.data_type())))?;
    let bytes = values.values().inner().clone();
    let stored = FixedSizeBinaryArray::try_new(4 * dim, bytes, list.nulls().cloned())?;
    Ok(Arc::new(stored))
}

/// The vectors of a column of a segment's file, as the surface shows them.
///
/// # Errors
/// `Internal` when it is no column of vectors.
pub fn to_surface(array: &ArrayRef) -> Result<ArrayRef> {
    let Some(stored) = array.as_fixed_size_binary_opt() else {
        return Err(Error::internal(format!("{} is no stored vector", array.data_type())));
    };
    let dim = u16::try_from(stored.value_length() / 4)
        .map_err(|_| Error::internal(format!("{} is no stored vector", array.data_type())))?;
    let bytes = aligned(stored.values().clone());
    let components = Float32Array::new(ScalarBuffer::from(bytes), None);
    let DataType::FixedSizeList(item, size) = ColumnType::Vector(dim).arrow() else {
        return Err(Error::internal("a vector's Arrow type is no fixed-size list"));
    };
    let list = FixedSizeListArray::try_new(item, size, Arc::new(components), stored.nulls().cloned())?;
    Ok(Arc::new(list))
}

/// The same bytes where f32 may stand.
fn aligned(bytes: Buffer) -> Buffer {
    if bytes.as_ptr().align_offset(align_of::<f32>()) == 0 { bytes } else { Buffer::from(bytes.as_slice()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::segment::testing;

    #[test]
    fn there_and_back_is_the_same() {
        let mut random = testing::random(1);
        for nulls in [false, true] {
            let array = testing::array(&mut random, &ColumnType::Vector(3), 50, nulls);
            let stored = to_stored(&array).unwrap();
            assert_eq!(stored.data_type(), &stored_type(&ColumnType::Vector(3)));
            assert_eq!(to_surface(&stored).unwrap().to_data(), array.to_data());
            let part = to_stored(&array.slice(7, 20)).unwrap();
            assert_eq!(&to_surface(&part).unwrap(), &array.slice(7, 20));
            assert_eq!(&to_surface(&stored.slice(7, 20)).unwrap(), &array.slice(7, 20));
        }
    }
}
