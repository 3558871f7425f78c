//! Whether what happened to a damaged database is one of the things that may happen.
//!
//! The rule: right rows, or an error that names what is damaged. Never wrong rows, a panic, a hang, the end of the process, or a request for
//! much more memory than there are bytes. Rows are right when all answers are those of one commit, and it is one that may be seen:
//!
//! - A writer shows the newest commit. In the log's last file a bad frame at or after S, the largest `synced_upto` of its good frames, is a
//!   torn tail: nothing on disk says that it was ever acknowledged, a power cut leaves the same, so it is cut there with all behind it
//!   (protocol.md, "Torn or corrupt"). Before S it is corruption, and must be refused. While `wal/tip` is there and names the end of the log,
//!   a shorter log is corruption too: a process was killed, no machine lost its memory, and followers have seen those commits.
//! - Which commit had an id is told by the files below `history/`. While one of the last day is damaged or missing, no id is `unknown`.
//! - A reader shows only what `wal/tip` reaches, treats a bad frame as "not yet" and repairs nothing: it may show the commit before such
//!   a frame, and what the newest manifest has when there is no tip. Both are states that were committed.
//!
//! Owns: these rules, the right answers, and what VERIFY need not find, each with its reason. Does not own: the cases.

use std::collections::BTreeSet;
use std::path::Path;

use super::harm::{Case, Change, Harm, first_harmed, harms, lay_out, log_end, log_header};
use super::home::{FileKind, Home, paths};
use super::trial::{Complaint, Observed, Trial};
use super::worker::{Ending, Worker};
use crate::answer::Answer;

/// What a trial may ask of the allocator at once, on top of twice the largest file: buffers that have one size for all databases.
pub const BASE_BYTES: usize = 4 << 20;
/// SQLSTATEs that say that something is wrong with what is stored: damaged, newer or foreign, missing at opening, not there at present,
/// gone while it was read. Any other, like that of a table that is not there, would be an answer made of damage.
const STORED: [&str; 6] = ["XX001", "0A000", "22000", "42704", "57P03", "72000"];
/// What an error names: files of a database, or else its root.
const NAMES: [&str; 6] = ["wal/", "manifest/", "table/", "history/", "CAIRN", "the newest manifest"];

/// The right answers.
#[derive(Debug)]
pub struct Truth {
    /// Of a writer, for each stage.
    writer: Vec<Vec<Answer>>,
    /// Of a reader, for each stage.
    reader: Vec<Vec<Answer>>,
    /// Of a reader that sees nothing of the log.
    without_log: Vec<Answer>,
    /// Objects that VERIFY calls unreferenced.
    unreferenced: BTreeSet<String>,
    /// Length of the largest file.
    largest_file: usize,
}

/// How a case went that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The newest rows.
    Right,
    /// Rows of an older commit, where that may be.
    Older,
    /// It did not open, with this SQLSTATE.
    Refused(String),
    /// Some questions were answered, others failed; with the first SQLSTATE.
    Failed(String),
}

/// What VERIFY made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The damage, by the file's name.
    Named,
    /// Damage of something else.
    Elsewhere,
    /// Nothing.
    Nothing,
}

impl Truth {
    /// Asks copies of the undamaged stages, made below `scratch`.
    ///
    /// # Panics
    /// When one of them fails: then the questions are wrong, or the engine.
    #[must_use]
    pub fn of(home: &Home, worker: &mut Worker, scratch: &Path) -> Self {
        let mut truth = Self {
            writer: Vec::new(),
            reader: Vec::new(),
            without_log: Vec::new(),
            unreferenced: BTreeSet::new(),
            largest_file: home.files.iter().map(|file| file.bytes.len()).max().unwrap_or(0),
        };
        for stage in &home.stages {
            let (reader, writer) = truth.both(home, stage, &[], worker, scratch);
            truth.reader.push(reader);
            truth.writer.push(writer);
        }
        let tip = home.files.iter().find(|file| file.kind == FileKind::Tip).unwrap();
        let gone = Change { path: tip.path.clone(), bytes: None };
        let (reader, writer) = truth.both(home, home.root(), &[gone], worker, scratch);
        truth.without_log = reader;
        assert_eq!(Some(&writer), truth.writer.last(), "{}: a writer needs no tip", home.name);
        for (exact, other) in &home.pairs {
            assert_eq!(writer[*exact], writer[*other], "{}: {}", home.name, home.questions[*other]);
        }
        truth
    }

    /// The answers of a reader and of a writer of one directory.
    fn both(
        &mut self,
        home: &Home,
        from: &Path,
        changes: &[Change],
        worker: &mut Worker,
        scratch: &Path,
    ) -> (Vec<Answer>, Vec<Answer>) {
        let root = scratch.join("truth");
        lay_out(from, paths(from).iter().map(String::as_str), changes, &root);
        let reader = self.undamaged(home, trial(home, &root, true, true), worker);
        let writer = self.undamaged(home, trial(home, &root, false, true), worker);
        std::fs::remove_dir_all(root).unwrap();
        (reader, writer)
    }

    fn undamaged(&mut self, home: &Home, trial: Trial, worker: &mut Worker) -> Vec<Answer> {
        let observed = match worker.try_out(&trial) {
            Ending::Observed(observed) => *observed,
            ending => panic!("{}, undamaged: {ending:?}", home.name),
        };
        let right = |what: &str, result: Result<(), Complaint>| {
            if let Err(error) = result {
                panic!("{}, undamaged: {what}: [{}] {}", home.name, error.sqlstate, error.text);
            }
        };
        right("opening", observed.opened.clone());
        right("closing", observed.closed.clone());
        assert!(observed.panics.is_empty(), "{}, undamaged: {:?}", home.name, observed.panics);
        assert!(
            observed.largest_bytes <= self.allocation_max(),
            "{}, undamaged: {} bytes were asked for at once: BASE_BYTES is too small",
            home.name,
            observed.largest_bytes
        );
        let findings = observed.findings.unwrap_or(Ok(Vec::new()));
        right("VERIFY DEEP", findings.as_ref().map(|_| ()).map_err(Clone::clone));
        for finding in findings.into_iter().flatten() {
            match finding[2].as_str() {
                "ok" => {}
                "warning" => {
                    self.unreferenced.insert(finding[0].clone());
                }
                _ => panic!("{}, undamaged: VERIFY DEEP finds {finding:?}", home.name),
            }
        }
        let answers = trial.questions.iter().zip(observed.answers);
        answers
            .map(|(question, answer)| {
                answer.unwrap_or_else(|error| {
                    panic!("{}, undamaged: {question}: [{}] {}", home.name, error.sqlstate, error.text)
                })
            })
            .collect()
    }

    /// Most bytes of one request.
    #[must_use]
    pub fn allocation_max(&self) -> usize {
        2 * self.largest_file + BASE_BYTES
    }

    /// Why nobody needs to find the damage of a case; None: VERIFY must.
    #[must_use]
    pub fn harmless(&self, home: &Home, case: &Case, changes: &[Change]) -> Option<&'static str> {
        let file = &home.files[case.file];
        let of_frames = || first_harmed(file, &changes[0]) < log_end(&file.bytes);
        match file.kind {
            FileKind::Lock => Some("lock: a note of who has the database open; every writer writes it anew"),
            FileKind::Tip => Some("wal/tip: advice to readers, never synced; every writer writes it anew"),
            FileKind::OlderLeaf => Some("older leaf: only manifests before the newest one name it"),
            FileKind::OpenLog if case.harm.is_torn() => {
                Some("torn log: no byte on disk tells it from a power cut; what may be cut is judged above")
            }
            FileKind::OpenLog | FileKind::SealedLog if !of_frames() => {
                Some("log: behind its last frame stands nothing that was ever written")
            }
            _ if self.unreferenced.contains(&file.path) => Some("nothing names the object"),
            _ => None,
        }
    }

    /// The stages that may be seen, by answers.
    fn may_be_seen(&self, home: &Home, case: &Case, changes: &[Change], read_only: bool) -> Vec<&[Answer]> {
        let of_role = if read_only { &self.reader } else { &self.writer };
        let newest = of_role.len() - 1;
        let stage = |number: usize| vec![of_role[number].as_slice()];
        let without_log = || vec![self.without_log.as_slice()];
        let Some((file, change)) = open_log(home, changes) else {
            let is_tip = home.files[case.file].kind == FileKind::Tip;
            let mut seen = stage(newest);
            if read_only && is_tip {
                seen.extend(without_log());
            }
            return seen;
        };
        if read_only && case.harm.is_torn() {
            return without_log();
        }
        if harms(file, change, log_header()) {
            // Not even where its frames begin is known.
            return if read_only { stage(0) } else { Vec::new() };
        }
        let bad = |frame: usize| harms(file, change, home.frames[frame].at..home.frames[frame].end);
        let Some(first) = (0..home.frames.len()).find(|frame| bad(*frame)) else { return stage(newest) };
        if read_only {
            return stage(first);
        }
        let good = home.frames.iter().enumerate().filter(|(number, _)| !bad(*number));
        let synced = good.map(|(_, frame)| frame.synced_upto).max().unwrap_or(0);
        let is_cut = case.harm.is_torn() && home.frames[first].at as u64 >= synced;
        if is_cut { stage(first) } else { Vec::new() }
    }

    /// Judges what happened at `root`.
    ///
    /// # Errors
    /// What must not happen.
    pub fn judge(
        &self,
        home: &Home,
        case: &Case,
        changes: &[Change],
        (trial, observed): (&Trial, &Observed),
    ) -> Result<Verdict, String> {
        if let Some(panic) = observed.panics.first() {
            return Err(format!("a panic: {panic}"));
        }
        if observed.largest_bytes > self.allocation_max() {
            return Err(format!(
                "{} bytes were asked for at once; twice the largest file and {BASE_BYTES} are {}",
                observed.largest_bytes,
                self.allocation_max()
            ));
        }
        if let Err(error) = &observed.opened {
            told(error, &trial.root)?;
            return Ok(Verdict::Refused(error.sqlstate.clone()));
        }
        if let Some(Err(error)) = &observed.findings {
            return Err(format!("VERIFY DEEP fails instead of telling: [{}] {}", error.sqlstate, error.text));
        }
        let mut failed = None;
        for error in observed.answers.iter().filter_map(|answer| answer.as_ref().err()) {
            told(error, &trial.root)?;
            failed = failed.or(Some(error.sqlstate.clone()));
        }
        if let Err(error) = &observed.closed {
            told(error, &trial.root)?;
            failed = failed.or(Some(error.sqlstate.clone()));
        }
        let seen = self.may_be_seen(home, case, changes, trial.read_only);
        let shown = seen.iter().find(|stage| differs(stage, observed).is_none());
        let newest = if trial.read_only { self.reader.last() } else { self.writer.last() };
        let newest = newest.map(Vec::as_slice).unwrap_or_default();
        match (shown, failed) {
            (Some(_), Some(sqlstate)) => Ok(Verdict::Failed(sqlstate)),
            (Some(stage), None) if *stage == newest => Ok(Verdict::Right),
            (Some(_), None) => Ok(Verdict::Older),
            // Every question fails: nothing is shown that might be wrong.
            (None, Some(sqlstate)) if observed.answers.iter().all(Result::is_err) => {
                Ok(Verdict::Failed(sqlstate))
            }
            (None, _) => Err(match seen.first() {
                None => "it opens, although acknowledged commits are lost".to_owned(),
                Some(stage) => {
                    let (number, answer) = differs(stage, observed).unwrap();
                    let question = &trial.questions[number];
                    format!("wrong rows: {question}\n  must be {:?}\n  but is  {answer:?}", stage[number])
                }
            }),
        }
    }
}

/// The change of the log's last file, if there is one.
fn open_log<'a>(home: &'a Home, changes: &'a [Change]) -> Option<(&'a super::home::Stored, &'a Change)> {
    let file = home.files.iter().find(|file| file.kind == FileKind::OpenLog)?;
    Some((file, changes.iter().find(|change| change.path == file.path)?))
}

/// The first question whose rows are not those of a stage.
fn differs<'a>(stage: &[Answer], observed: &'a Observed) -> Option<(usize, &'a Answer)> {
    let answers = observed.answers.iter().enumerate();
    let mut given = answers.filter_map(|(number, answer)| Some((number, answer.as_ref().ok()?)));
    given.find(|(number, answer)| stage.get(*number) != Some(*answer))
}

/// Whether an error is about what is stored, and names some of it.
fn told(error: &Complaint, root: &Path) -> Result<(), String> {
    let Complaint { sqlstate, text } = error;
    if !STORED.contains(&sqlstate.as_str()) {
        return Err(format!("an error that says nothing of damage: [{sqlstate}] {text}"));
    }
    let root = root.display().to_string();
    if !NAMES.iter().any(|name| text.contains(name)) && !text.contains(&root) {
        return Err(format!("an error that names nothing: [{sqlstate}] {text}"));
    }
    Ok(())
}

/// What VERIFY DEEP made of a case; None: it was not run. A database that does not open has told its damage.
#[must_use]
pub fn found(changes: &[Change], trial: &Trial, observed: &Observed) -> Option<Found> {
    let of_change = |text: &str| changes.iter().any(|change| text.contains(&change.path));
    let judged = |texts: &[&str]| match texts {
        [] => Found::Nothing,
        texts if texts.iter().any(|text| of_change(text)) => Found::Named,
        _ => Found::Elsewhere,
    };
    if !trial.verifies {
        return None;
    }
    if let Err(error) = &observed.opened {
        return Some(judged(&[error.text.as_str()]));
    }
    let findings = match observed.findings.as_ref()? {
        Ok(findings) => findings,
        Err(_) => return Some(Found::Nothing),
    };
    let bad = findings.iter().filter(|finding| !matches!(finding[2].as_str(), "ok" | "warning"));
    let texts: Vec<String> = bad.map(|finding| finding.join(" ")).collect();
    Some(judged(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// What is tried with a directory: as a reader with VERIFY DEEP first, for it changes nothing, or as a writer.
#[must_use]
pub fn trial(home: &Home, root: &Path, read_only: bool, asks: bool) -> Trial {
    let mut questions = Vec::new();
    if asks {
        questions.extend(home.questions.iter().cloned());
        if read_only {
            questions.extend(home.reader_questions.iter().cloned());
        }
    }
    Trial { root: root.to_owned(), read_only, verifies: read_only, questions }
}

/// Whether a kind of harm can be done to a file of that kind at all, and is worth it.
#[must_use]
pub fn is_tried(home: &Home, kind: FileKind, harm: Harm) -> bool {
    // The other database has what only it has.
    let of_wide = matches!(kind, FileKind::Manifest | FileKind::Leaf | FileKind::OlderLeaf);
    harm.fits(kind) && (home.name != "wide" || (of_wide && !harm.is_torn()))
}
