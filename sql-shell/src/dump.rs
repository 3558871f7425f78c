//! `cairn dump`: what stands in one file of a database, without opening the database.
//!
//! Owns: how it is written for people, and as JSON. Does not own: reading it, which storage's codecs do. Nothing is changed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_engine::Error;
use cairn_engine::inspect::{
    DecodedManifest, JournalContents, LogContents, LogEntry, SegmentContents, SegmentEntry, SegmentList,
    UnitContents, decode_leaf, decode_manifest,
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::format::printable;
use crate::quantity::{bytes as size, count, rows};
use crate::sink::Sink;
use crate::verify::EXIT_DAMAGED;
use crate::{fail, fail_with};

const CODES: &str = "Exit codes: 0 it was read, 1 it can't be, 2 wrong usage, 3 it was read and is damaged.";

/// Show what stands in one file of a database.
#[derive(Clone, Debug, Args)]
#[command(after_help = CODES)]
pub(crate) struct DumpArgs {
    /// What the file is.
    #[arg(value_enum)]
    what: What,

    /// The file, of a journal its directory; an object of a bucket is fetched first, by the bucket's own tools.
    file: PathBuf,

    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What a file can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// A file or object of the log: wal/….
    Wal,
    /// A manifest, manifest/…, or a leaf of one.
    Manifest,
    /// A segment: table/…/….parquet.
    Segment,
    /// A unit of a vector index: table/…/index/….hnsw.
    Index,
    /// What --durability local has acknowledged on this machine: a directory with wal/….
    Journal,
}

/// What was read.
enum Contents {
    Wal(LogContents),
    Manifest(Box<DecodedManifest>),
    Leaf(Vec<SegmentEntry>),
    Segment(SegmentContents),
    Index(UnitContents),
    Journal(JournalContents),
}

/// Writes what the file holds; the exit code.
pub(crate) fn run(args: &DumpArgs) -> u8 {
    let name = args.file.display().to_string();
    let contents = match args.what {
        What::Journal => JournalContents::read(&args.file).map(Contents::Journal).map_err(Error::from),
        what => match fs::read(&args.file) {
            Ok(bytes) => Contents::read(what, &name, &Bytes::from(bytes)),
            Err(error) => return fail(&format!("{name} can't be read: {error}")),
        },
    };
    let contents = match contents {
        Ok(contents) => contents,
        Err(error) => return fail_with(error),
    };
    let mut out = Sink::stdout();
    let written = if args.json { contents.write_json(&mut out) } else { contents.write(&mut out) };
    match written.and_then(|()| out.flush()) {
        Ok(()) if contents.is_damaged() => EXIT_DAMAGED,
        Ok(()) => 0,
        // A reader that went away, as `head` does, is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => fail(&format!("the result can't be written: {error}")),
    }
}

impl Contents {
    fn read(what: What, name: &str, bytes: &Bytes) -> Result<Self, Error> {
        Ok(match what {
            What::Wal => Self::Wal(LogContents::read(name, bytes)?),
            What::Segment => Self::Segment(SegmentContents::read(name, bytes)?),
            What::Index => Self::Index(UnitContents::read(name, bytes)?),
            What::Journal => Self::Journal(JournalContents::read(Path::new(name))?),
            What::Manifest => match decode_manifest(name, bytes) {
                Ok(manifest) => Self::Manifest(Box::new(manifest)),
                // Which of the two it is stands in its header; what is wrong with a root is said as of a root.
                Err(error) => Self::Leaf(decode_leaf(name, bytes).map_err(|_| error)?),
            },
        })
    }

    /// Whether something is wrong that the rest could be read beside.
    fn is_damaged(&self) -> bool {
        match self {
            Self::Segment(segment) => !segment.damaged_blocks.is_empty(),
            Self::Index(unit) => !unit.problems.is_empty(),
            Self::Journal(journal) => journal.problem.is_some(),
            // The end of a log may be torn: those bytes were never acknowledged.
            Self::Wal(_) | Self::Manifest(_) | Self::Leaf(_) => false,
        }
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Wal(log) => serde_json::to_writer_pretty(&mut *out, log)?,
            Self::Manifest(decoded) => {
                let mut value = serde_json::to_value(&decoded.manifest)?;
                let unknown = &decoded.unknown_writer_features;
                if let Value::Object(fields) = &mut value
                    && !unknown.is_empty()
                {
                    fields.insert("unknown_writer_features".to_owned(), json!(unknown));
                }
                serde_json::to_writer_pretty(&mut *out, &value)?;
            }
            Self::Leaf(segments) => serde_json::to_writer_pretty(&mut *out, segments)?,
            Self::Segment(segment) => serde_json::to_writer_pretty(&mut *out, segment)?,
            Self::Index(unit) => serde_json::to_writer_pretty(&mut *out, unit)?,
            Self::Journal(journal) => serde_json::to_writer_pretty(&mut *out, journal)?,
        }
        writeln!(out)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Wal(log) => write_log(log, out),
            Self::Manifest(decoded) => write_manifest(decoded, out),
            Self::Leaf(segments) => segments.iter().try_for_each(|entry| write_segment_entry(entry, out)),
            Self::Segment(segment) => write_segment(segment, out),
            Self::Index(unit) => write_unit(unit, out),
            Self::Journal(journal) => write_journal(journal, out),
        }
    }
}

fn write_log(log: &LogContents, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "log {} of database {}", log.number, log.database_id.0)?;
    writeln!(
        out,
        "  epoch {}, from version {}, after version {}",
        log.epoch, log.first, log.predecessor_last
    )?;
    if log.is_fence {
        writeln!(out, "  a fence: it takes its number away from older writers")?;
    }
    for entry in &log.entries {
        write_log_entry(entry, out)?;
    }
    let ends = match (&log.problem, log.is_sealed) {
        (Some(why), _) => {
            format!("{why}; what stands there was never acknowledged, or is damaged: `cairn verify` tells")
        }
        (None, true) => "sealed".to_owned(),
        (None, false) => "nothing was written behind".to_owned(),
    };
    let entries = log.entries.len() as u64;
    writeln!(out, "{} entries up to byte {} of {}: {ends}", count(entries), log.end, log.bytes)
}

fn write_journal(journal: &JournalContents, out: &mut dyn Write) -> io::Result<()> {
    let (all, unsent) = (count(journal.commits), count(journal.unsent));
    writeln!(out, "journal: {all} commits of its last epoch, {unsent} of them not marked as sent")?;
    match &journal.sent {
        Some(sent) => writeln!(out, "  sent up to version {} of epoch {}", sent.version, sent.epoch)?,
        None => writeln!(out, "  what was sent is not noted")?,
    }
    if let Some(problem) = &journal.problem {
        writeln!(out, "  it can't be sent as it is: {problem}")?;
    }
    for file in &journal.files {
        writeln!(out)?;
        write_log(file, out)?;
    }
    Ok(())
}

fn write_unit(unit: &UnitContents, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "index unit of {}, {} components, metric {}, {}",
        rows(unit.rows),
        count(unit.dim),
        unit.metric,
        size(unit.bytes)
    )?;
    writeln!(out, "  built by {} for a recall of {}, seed {}", unit.builder, unit.target_recall, unit.seed)?;
    if let Some((first, last)) = unit.row_ids {
        writeln!(out, "  row ids {first} to {last}")?;
    }
    for at in &unit.calibration {
        writeln!(
            out,
            "  nearest {} at width {}: recall {:.4}, {:.0} rows scored",
            at.k, at.ef, at.recall, at.scored
        )?;
    }
    for found in &unit.problems {
        writeln!(out, "at byte {}: {}", found.offset, found.problem)?;
    }
    if unit.problems.is_empty() { writeln!(out, "all of it is right") } else { Ok(()) }
}

fn write_log_entry(entry: &LogEntry, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "\nversion {}  {}  at byte {}, {}",
        entry.version,
        entry.time,
        entry.offset,
        size(entry.bytes)
    )?;
    writeln!(out, "\n  commit {}, epoch {}", entry.commit_id.0, entry.epoch)?;
    let info = &entry.info;
    let said = [
        ("user", &info.user),
        ("session", &info.session),
        ("request", &info.request_id),
        ("message", &info.message),
    ];
    for (name, text) in said.into_iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(out, "  {name}: {}", printable(text).replace('\n', " "))?;
    }
    for edit in &entry.catalog {
        writeln!(out, "  {}", printable(&serde_json::to_string(edit)?))?;
    }
    for table in &entry.tables {
        let mut parts = Vec::new();
        if table.truncate {
            parts.push("truncated".to_owned());
        }
        if table.rows > 0 {
            parts.push(format!("{} from row id {}", rows(table.rows), table.first_row_id));
        }
        if let (Some(first), Some(last)) = (table.deleted.first(), table.deleted.last()) {
            let deleted = rows(table.deleted.len() as u64);
            parts.push(format!("{deleted} deleted, of row ids {first} to {last}"));
        }
        parts.extend(table.segments.iter().map(|s| format!("segment {} of {}", s.id, rows(s.rows))));
        parts.extend(
            table
                .deletes
                .iter()
                .map(|d| format!("{} of segment {} deleted by object {}", rows(d.rows), d.segment, d.id)),
        );
        writeln!(out, "  table {} (definition {}): {}", table.table, table.schema_version, parts.join(", "))?;
    }
    Ok(())
}

fn write_manifest(decoded: &DecodedManifest, out: &mut dyn Write) -> io::Result<()> {
    let manifest = &decoded.manifest;
    let claim = if manifest.is_claim { ", a claim of its epoch" } else { "" };
    writeln!(out, "manifest {} of database {}{claim}", manifest.number, manifest.database_id.0)?;
    writeln!(
        out,
        "  version {}, epoch {}, commit {}",
        manifest.version, manifest.epoch, manifest.commit_id.0
    )?;
    writeln!(out, "  replay begins with log {}", manifest.replay_from)?;
    writeln!(out, "  reads may name versions from {} on", manifest.horizon)?;
    if !decoded.unknown_writer_features.is_empty() {
        let features = decoded.unknown_writer_features.join(", ");
        writeln!(out, "  to be written only by a newer Cairn: {features}")?;
    }
    writeln!(out, "schemas: {}", manifest.catalog.schemas.join(", "))?;
    for view in &manifest.catalog.views {
        writeln!(out, "view {}.{}", view.schema, view.name)?;
    }
    for table in &manifest.tables {
        let dropped = table.dropped_at.map(|at| format!(", dropped at version {at}")).unwrap_or_default();
        writeln!(out, "\ntable {} {}{dropped}", table.def.id, printable(&table.def.qualified_name()))?;
        writeln!(
            out,
            "  definition {}, flushed up to version {}, next row id {}, {} index units",
            table.def.schema_version,
            table.flushed,
            table.next_row_id,
            table.units.len()
        )?;
        match &table.segments {
            SegmentList::Inline(segments) => {
                segments.iter().try_for_each(|entry| write_segment_entry(entry, out))?;
            }
            SegmentList::Leaves(leaves) => {
                for leaf in leaves {
                    let (segments, bytes) = (count(leaf.segments), size(leaf.bytes));
                    writeln!(out, "  leaf {}: {segments} segments, {}, {bytes}", leaf.id, rows(leaf.rows))?;
                }
            }
        }
    }
    Ok(())
}

fn write_segment_entry(entry: &SegmentEntry, out: &mut dyn Write) -> io::Result<()> {
    let segment = &entry.segment;
    let deleted = entry.deletes.iter().map(|object| object.rows).sum::<u64>();
    let deleted = if deleted > 0 { format!(", {} deleted", count(deleted)) } else { String::new() };
    let dropped = entry.dropped_at.map(|at| format!(", dropped at version {at}")).unwrap_or_default();
    writeln!(
        out,
        "  segment {}: {}{deleted}, {}, versions {} to {}, row ids {} to {}{dropped}",
        segment.id,
        rows(segment.rows),
        size(segment.bytes),
        segment.min_created,
        segment.max_created,
        segment.min_row_id,
        segment.max_row_id
    )
}

fn write_segment(segment: &SegmentContents, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "segment {} of table {}, format {}", segment.segment, segment.table, segment.format)?;
    writeln!(
        out,
        "  {} in {} row groups, {}, {} of them footer",
        rows(segment.rows),
        count(segment.row_groups.len() as u64),
        size(segment.bytes),
        size(segment.footer_bytes)
    )?;
    for column in &segment.columns {
        let nulls = column.nulls.map(|n| format!(", {} NULL", count(n))).unwrap_or_default();
        writeln!(
            out,
            "  column {} {}: {} ({} unpacked){nulls}, {}, {}",
            printable(&column.name),
            column.r#type,
            size(column.bytes),
            size(column.uncompressed_bytes),
            column.compression,
            column.encodings.join(" ")
        )?;
    }
    if segment.damaged_blocks.is_empty() {
        return writeln!(out, "all {} blocks are right", count(segment.blocks));
    }
    let offsets: Vec<String> = segment.damaged_blocks.iter().map(ToString::to_string).collect();
    let (damaged, all) = (count(offsets.len() as u64), count(segment.blocks));
    writeln!(out, "{damaged} of {all} blocks are damaged, at bytes {}", offsets.join(", "))
}
