//! The session's time zone: by what names zones are known, and where a plan needs one.
//!
//! Owns: names of zones (`name`), what clocks of a zone show and which moment they mean (`clock`), the functions that stand for casts
//! and sums in a zone (`convert`), the analyzer rule that puts them in (`rule`). Does not own: the setting (engine), functions of dates,
//! which read a value in the zone of its type (`dates`).
//!
//! TIMESTAMPTZ is a moment, whatever the session: its type says UTC, and so do segments. A type that names another zone
//! (`TIMESTAMPTZ('+02:00')`) keeps it. The rule does nothing in a session whose zone is UTC.

mod clock;
mod convert;
mod name;
mod rule;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};

pub(crate) use clock::{clock_of, counted, moment_of, timestamps, utc_of};
pub use convert::{assigned, moment_said};
pub(crate) use convert::{decode, encode, moved};
pub use name::{UnknownZone, zone_named, zone_names};
pub use rule::ZonedTimes;

/// UTC as [`zone_named`] says it, and as the configuration of a session has it.
pub const UTC: &str = "+00:00";

/// Whether the zone of a type is UTC, so that a session shows it in its own.
#[must_use]
pub fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | UTC)
}

/// `data_type` with `zone` in the place of UTC, in its lists and structs too; None: it has none.
#[must_use]
pub fn relabelled(data_type: &DataType, zone: &Arc<str>) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(unit, Some(label)) if is_utc(label) => {
            Some(DataType::Timestamp(*unit, Some(Arc::clone(zone))))
        }
        DataType::List(item) => relabelled_field(item, zone).map(DataType::List),
        DataType::LargeList(item) => relabelled_field(item, zone).map(DataType::LargeList),
        DataType::FixedSizeList(item, length) => {
            relabelled_field(item, zone).map(|item| DataType::FixedSizeList(item, *length))
        }
        DataType::Struct(members) => {
            let fields: Vec<Option<FieldRef>> =
                members.iter().map(|member| relabelled_field(member, zone)).collect();
            if fields.iter().all(Option::is_none) {
                return None;
            }
            let fields =
                fields.into_iter().zip(members).map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old)));
            Some(DataType::Struct(fields.collect::<Fields>()))
        }
        _ => None,
    }
}

fn relabelled_field(field: &FieldRef, zone: &Arc<str>) -> Option<FieldRef> {
    let data_type = relabelled(field.data_type(), zone)?;
    Some(Arc::new(Field::clone(field).with_data_type(data_type)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn only_utc_is_replaced() {
        let zone: Arc<str> = "Europe/Zurich".into();
        let at = |label: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, label.map(Into::into));
        let list = |item: DataType| DataType::new_list(item, true);
        assert_eq!(relabelled(&at(Some("UTC")), &zone), Some(at(Some("Europe/Zurich"))));
        assert_eq!(relabelled(&at(Some(UTC)), &zone), Some(at(Some("Europe/Zurich"))));
        assert_eq!(relabelled(&list(at(Some("UTC"))), &zone), Some(list(at(Some("Europe/Zurich")))));
        for other in [at(None), at(Some("+02:00")), DataType::Int64, list(at(None))] {
            assert_eq!(relabelled(&other, &zone), None, "{other}");
        }
        let members = |label: &str| {
            let field = |name: &str, data_type| Field::new(name, data_type, true);
            DataType::Struct(Fields::from(vec![field("a", DataType::Int64), field("b", at(Some(label)))]))
        };
        assert_eq!(relabelled(&members("UTC"), &zone), Some(members("Europe/Zurich")));
    }
}
