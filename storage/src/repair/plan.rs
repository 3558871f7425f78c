//! What follows from the findings of VERIFY: a pure function of them and of the state they are about.
//!
//! A finding is told by the path of its object, whatever the check is called. Does not own: reading segments; whether rows are lost is asked
//! when one is repaired.

use std::collections::HashMap;

use super::{Repair, RepairStatus};
use crate::collect::ObjectName;
use crate::id::{ManifestNumber, ObjectId, TableId};
use crate::manifest::identity::IDENTITY_PATH;
use crate::manifest::store::manifest_path;
use crate::verify::{Finding, FindingStatus};
use crate::version::Version;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Tables of which something is damaged, by id.
    pub(super) tables: Vec<TablePlan>,
    /// Findings about the newest manifest, its leaves and the log: they are made good by writing both anew.
    pub(super) newest: Vec<Finding>,
    /// Findings about older manifests, which nothing reads.
    pub(super) older: Vec<(ManifestNumber, Finding)>,
    /// Findings about objects with the ids of commits.
    pub(super) histories: Vec<(ManifestNumber, Finding)>,
    /// The finding about `CAIRN`.
    pub(super) identity: Option<Finding>,
    /// The sum of what nothing names.
    pub(super) orphans: Option<Finding>,
    /// What no repair can do anything about.
    pub(super) left: Vec<Repair>,
}

/// One table's share.
#[derive(Debug)]
pub(super) struct TablePlan {
    pub(super) table: TableId,
    /// Segments about which there are findings.
    pub(super) suspects: Vec<Suspect>,
    /// Index units that can't be used.
    pub(super) units: Vec<(ObjectId, Finding)>,
}

/// A segment about which there are findings.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) segment: ObjectId,
    pub(super) path: String,
    /// What they say.
    pub(super) what: Vec<String>,
    /// Whether one is about the segment's own object,
    pub(super) itself: bool,
    /// and whether one is about what stands beside it.
    pub(super) beside: bool,
}

/// What an object is.
enum Part {
    /// A segment, its key filter or its deletes.
    Segment(ObjectId),
    /// The same of a segment that no newest version sees.
    Dropped,
    Unit(ObjectId),
}

impl Plan {
    pub(super) fn of(state: &Version, findings: &[Finding]) -> Self {
        let parts = parts(state);
        let newest = manifest_path(state.manifest);
        let mut plan = Self::default();
        for finding in findings {
            if finding.check == "unreferenced objects" && finding.object == "total" {
                plan.orphans = Some(finding.clone());
            }
            if !finding.is_bad() {
                continue;
            }
            if finding.status == FindingStatus::Unknown {
                plan.left.push(left(finding, &finding.hint));
                continue;
            }
            let object = finding.object.as_str();
            match parts.get(object) {
                Some((table, Part::Segment(segment))) => plan.table(*table).suspect(*segment, finding),
                Some((_, Part::Dropped)) => {
                    plan.left.push(left(finding, "no row of it can be asked for; COMPACT takes it away"));
                }
                Some((table, Part::Unit(unit))) => {
                    plan.table(*table).units.push((*unit, finding.clone()));
                }
                None if object == newest || is_log(object) || object.starts_with("manifest/leaf/") => {
                    plan.newest.push(finding.clone());
                }
                None if object == IDENTITY_PATH => plan.identity = Some(finding.clone()),
                None => match ObjectName::of(object) {
                    Some(ObjectName::Manifest(number)) => plan.older.push((number, finding.clone())),
                    Some(ObjectName::History(number)) => plan.histories.push((number, finding.clone())),
                    _ => plan.left.push(left(finding, "restore it from a backup")),
                },
            }
        }
        // One that a segment's repair makes good as well is told there.
        let hurt: Vec<String> = plan
            .tables
            .iter()
            .filter(|table| !table.suspects.is_empty())
            .filter_map(|table| state.tables.get(&table.table).map(|t| t.def.qualified_name()))
            .collect();
        plan.left.retain(|row| !hurt.contains(&row.object));
        plan
    }

    fn table(&mut self, table: TableId) -> &mut TablePlan {
        let at = match self.tables.binary_search_by_key(&table, |known| known.table) {
            Ok(at) => at,
            Err(at) => {
                self.tables.insert(at, TablePlan { table, suspects: Vec::new(), units: Vec::new() });
                at
            }
        };
        &mut self.tables[at]
    }
}

impl TablePlan {
    fn suspect(&mut self, segment: ObjectId, finding: &Finding) {
        let what = format!("{}: {}", finding.object, finding.detail);
        let at = match self.suspects.iter().position(|suspect| suspect.segment == segment) {
            Some(at) => at,
            None => {
                let path = format!("table/{}/{segment}.parquet", self.table);
                self.suspects.push(Suspect { segment, path, what: Vec::new(), itself: false, beside: false });
                self.suspects.len() - 1
            }
        };
        let suspect = &mut self.suspects[at];
        match finding.object == suspect.path {
            true => suspect.itself = true,
            false => suspect.beside = true,
        }
        suspect.what.push(what);
    }
}

/// Whether it is the log, or a part of it.
pub(super) fn is_log(object: &str) -> bool {
    object == "wal" || object.starts_with("wal/")
}

pub(super) fn left(finding: &Finding, hint: &str) -> Repair {
    Repair::new(&finding.object, "none", RepairStatus::Left, finding.detail.clone()).with_hint(hint)
}

/// The objects of all tables, by path.
fn parts(state: &Version) -> HashMap<String, (TableId, Part)> {
    let mut parts = HashMap::new();
    for (id, table) in &state.tables {
        for segment in table.segments.iter() {
            let part = || match table.dropped_at.or(segment.dropped_at) {
                Some(_) => Part::Dropped,
                None => Part::Segment(segment.meta.id),
            };
            parts.insert(segment.meta.path(), (*id, part()));
            parts.insert(segment.meta.key_filter_path(), (*id, part()));
            for deletes in &segment.delete_objects {
                parts.insert(deletes.path(), (*id, part()));
            }
        }
        for unit in table.units.iter() {
            parts.insert(unit.path(), (*id, Part::Unit(unit.id)));
        }
    }
    parts
}
