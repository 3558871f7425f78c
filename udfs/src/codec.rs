//! Functions that no registry has, as bytes: those that rules and operators put into plans.
//!
//! Owns: the bytes by which another process makes the same function. Does not own: functions that both processes find by their
//! names, calls and their arguments (whoever encodes the plan).
//!
//! ```text
//! 0  function: 1 integer operator, 2 `||`, 3 distance operator, 4 cast to a vector, 5 vector to text, 6 in a zone,
//!    7 a subquery that may be NULL
//! 1  of 1: the operation    of 3: the metric    of 4: 1 where what is no vector is NULL, else 0
//!    of 6: 0 to a moment, 1 to what clocks show, 2 a moment moved by an interval, 3 a list or a struct; the name of the zone is the end of them
//! 2  of 4: u16 dimension, little-endian    of 6, 0: the unit, seconds to nanoseconds    of 6, 2: 1 where the interval is subtracted, else 0
//!    of 6, 3: 1 where what does not read is NULL, else 0; u16 length of the type, little-endian, and the type as Arrow writes it
//! 3  of 6, 0: 1 where what reads as no moment is NULL, else 0; the length of the zone in its type, and that zone
//! ```

use std::sync::Arc;

use cairn_vector::Metric;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use crate::vector::{Conversion, DIM_MAX, Distance};
use crate::{arithmetic, bounded, subquery, zones};

const INTEGERS: u8 = 1;
const CONCATENATION: u8 = 2;
const DISTANCE: u8 = 3;
const TO_VECTOR: u8 = 4;
const TO_TEXT: u8 = 5;
const ZONED: u8 = 6;
const OR_NULL: u8 = 7;

/// The bytes of `function`; None: it is one that is found by its name.
#[must_use]
pub fn encode(function: &ScalarUDF) -> Option<Vec<u8>> {
    if let Some(place) = arithmetic::place(function) {
        return Some(vec![INTEGERS, place]);
    }
    if subquery::is_or_null(function) {
        return Some(vec![OR_NULL]);
    }
    if bounded::is_concatenation(function) {
        return Some(vec![CONCATENATION]);
    }
    if let Some(distance) = function.inner().downcast_ref::<Distance>() {
        let metric = distance.operator_metric()?;
        let place = Metric::ALL.iter().position(|of| *of == metric)?;
        return Some(vec![DISTANCE, place.try_into().ok()?]);
    }
    if let Some(zoned) = zones::encode(function) {
        return Some([vec![ZONED], zoned].concat());
    }
    match Conversion::of(function)? {
        Conversion::ToVector { dim, safe } => {
            let [low, high] = u16::try_from(dim).ok()?.to_le_bytes();
            Some(vec![TO_VECTOR, u8::from(safe), low, high])
        }
        Conversion::ToText => Some(vec![TO_TEXT]),
    }
}

/// The function of such bytes; `memory_limit` is that of [`register`](crate::register).
///
/// # Errors
/// When they are those of no function.
pub fn decode(bytes: &[u8], memory_limit: usize) -> Result<ScalarUDF> {
    let function = match *bytes {
        [INTEGERS, place] => arithmetic::at(place),
        [CONCATENATION] => Some(Arc::unwrap_or_clone(bounded::concatenation(memory_limit))),
        [DISTANCE, place] => Metric::ALL.get(usize::from(place)).map(|metric| Distance::operator(*metric)),
        [TO_VECTOR, safe @ (0 | 1), low, high] => {
            let dim = usize::from(u16::from_le_bytes([low, high]));
            let conversion = Conversion::ToVector { dim, safe: safe == 1 };
            (1..=DIM_MAX).contains(&dim).then(|| conversion.function())
        }
        [TO_TEXT] => Some(Conversion::ToText.function()),
        [ZONED, ref zoned @ ..] => zones::decode(zoned),
        [OR_NULL] => Some(subquery::or_null()),
        _ => None,
    };
    match function {
        Some(function) => Ok(function),
        None => exec_err!("{} bytes that are no function of Cairn", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    const MEMORY: usize = 4 << 30;

    fn functions() -> Vec<ScalarUDF> {
        let mut functions: Vec<ScalarUDF> = (0..4).map(|place| arithmetic::at(place).unwrap()).collect();
        functions.push(bounded::concatenation(MEMORY).as_ref().clone());
        functions.extend(Metric::ALL.map(Distance::operator));
        for (dim, safe) in [(1, true), (768, false), (DIM_MAX, true)] {
            functions.push(Conversion::ToVector { dim, safe }.function());
        }
        functions.push(Conversion::ToText.function());
        functions.push(subquery::or_null());
        functions
    }

    #[test]
    fn functions_come_back() {
        let mut seen = Vec::new();
        for function in functions() {
            let bytes = encode(&function).unwrap();
            assert_eq!(decode(&bytes, MEMORY).unwrap(), function);
            assert!(!seen.contains(&bytes), "{} has the bytes of another one", function.name());
            seen.push(bytes);
        }
    }

    #[test]
    fn what_has_a_name_has_no_bytes() {
        let mut state = SessionStateBuilder::new_with_default_features().build();
        crate::register(&mut state, "1", MEMORY).unwrap();
        assert!(state.scalar_functions().contains_key("l2_distance"));
        for function in state.scalar_functions().values() {
            assert_eq!(encode(function), None, "{}", function.name());
        }
    }

    #[test]
    fn bytes_of_nothing_are_refused() {
        let mut wrong = vec![Vec::new(), vec![0], vec![1], vec![1, 4], vec![3, 4], vec![8], vec![2, 0]];
        wrong.extend([
            vec![4, 2, 1, 0],
            vec![4, 0, 0, 0],
            vec![4, 0, 255, 255],
            vec![4, 0, 1],
            vec![5, 0],
            vec![6, 0],
            vec![7, 0],
        ]);
        for bytes in wrong {
            assert!(decode(&bytes, MEMORY).is_err(), "{bytes:?}");
        }
    }
}
