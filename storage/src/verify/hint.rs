//! The next step for each kind of object.

use super::FindingStatus;
use crate::collect::{ObjectKind, ObjectName};
use crate::database::boundary::BOUNDARY_PATH;
use crate::manifest::identity::IDENTITY_PATH;
use crate::wal::TIP_PATH;

/// What to do about `object`; empty: nothing.
pub(super) fn next_step(object: &str, status: FindingStatus) -> &'static str {
    match status {
        FindingStatus::Ok | FindingStatus::Warning => "",
        FindingStatus::Unknown => "it could not be read; VERIFY again",
        FindingStatus::Missing | FindingStatus::Damaged => for_loss(object),
    }
}

fn for_loss(object: &str) -> &'static str {
    match object {
        IDENTITY_PATH => "restore CAIRN from a backup: it is written once and never changes",
        BOUNDARY_PATH => "remove this object while no writer is open: it is made again from what is there",
        TIP_PATH => {
            "opening the database for writing makes it again; no backup is needed unless versions are missing"
        }
        "writer" => "nothing depends on it; the writer makes it again within 20 s",
        "wal" => {
            "keep a copy of the database, then restore the directory wal from a backup of the same moment, or see VERIFY REPAIR"
        }
        _ => for_object(object),
    }
}

fn for_object(object: &str) -> &'static str {
    match ObjectName::of(object) {
        Some(ObjectName::Made(kind, _)) => match kind {
            ObjectKind::Segment => {
                "keep a copy of the database, then restore this object from a backup, or see VERIFY REPAIR for the rows that can be read"
            }
            ObjectKind::KeyFilter => {
                "no row is lost: keys are found without it, slower; restore it from a backup, or see VERIFY REPAIR"
            }
            ObjectKind::Deletes => {
                "its table cannot be read without it: restore this object from a backup, or see VERIFY REPAIR"
            }
            ObjectKind::IndexUnit => "no row is lost: REINDEX builds it again",
            _ => {
                "keep a copy of the database, then restore this object from a backup, or see VERIFY REPAIR, which goes back to the manifest before"
            }
        },
        Some(ObjectName::Manifest(_)) => {
            "keep a copy of the database, then restore this object from a backup, or see VERIFY REPAIR, which goes back to the manifest before"
        }
        Some(ObjectName::Wal(_)) => {
            "keep a copy of the database, then restore this file from a backup of the same moment, or see VERIFY REPAIR"
        }
        Some(ObjectName::History(_)) => {
            "no row is lost, but of no id is it known that it was never used: restore it from a backup, or see VERIFY REPAIR; it goes by itself after 24 h"
        }
        Some(ObjectName::Probe) | None => {
            "keep a copy of the database, then restore this object from a backup"
        }
    }
}
