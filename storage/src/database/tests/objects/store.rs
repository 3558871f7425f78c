//! An object store in memory, shared by all actors of a run, and the time of the run.
//!
//! Owns: objects with tags and times, conditional puts, listings of now and of a while ago, and what the store itself can see of the
//! database's promises: what is numbered is created only if absent, what is immutable stays as it is, fences and the manifests that
//! claim an epoch are never removed. Does not own: what goes wrong on the way (`faults`, `handle`).
//!
//! Time is tokio's paused clock. Requests of an actor take effect only at ms that are the actor's own (its slot, modulo [`SLOTS`]), so
//! two actors never meet at one instant and their order depends on nothing but the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, PutMode, PutResult, Result as StoreResult, UpdateVersion,
};
use tokio::time::Instant;

use super::faults::{Fate, Flavor, Hold, Op, Plan, Weather};
use super::handle::Handle;
use super::trace::Trace;
use crate::database::Clock;
use crate::id::{CommitId, Epoch};
use crate::manifest::codec::decode_manifest;
use crate::wal::{CatalogEdit, FENCE_BYTES, LogContents, LogEntry};

/// Actors of a run, at most.
pub(super) const SLOTS: u64 = 8;
/// Wall-clock time at the beginning of every run, µs since 1970 UTC.
const BEGINNING_US: i64 = 1_700_000_000_000_000;
/// A run that needs more requests turns in circles; they are not answered any more.
const REQUESTS_MAX: u64 = 400_000;

/// Cheap to clone; clones are the same store.
#[derive(Clone)]
pub(super) struct SimStore(Arc<Inner>);

struct Inner {
    base: Instant,
    seed: u64,
    trace: Trace,
    state: Mutex<State>,
}

/// What stands in the store, and what was noticed about it.
#[derive(Default)]
pub(super) struct State {
    objects: BTreeMap<String, Object>,
    /// What was removed, for listings of a while ago.
    gone: Vec<Gone>,
    last_tag: u64,
    /// Removing what is not there is an error, as on some stores.
    strict_deletes: bool,
    rules: Vec<Rule>,
    requests: u64,
    under_way: u64,
    /// How many objects each actor removed.
    removed: BTreeMap<&'static str, u64>,
    newest_epoch: Epoch,
    /// What may never be removed.
    sacred: BTreeSet<String>,
    /// Commits of the log that only write segments anew, in the order in which they came: their ids are random.
    compactions: Vec<CommitId>,
    violations: Vec<String>,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    tag: u64,
    created_ms: u64,
    changed_ms: u64,
}

struct Gone {
    path: String,
    object: Object,
    at_ms: u64,
}

/// Whether it is this request, by what it does and to which path.
type Matches = Box<dyn Fn(Op, &str) -> bool + Send>;

/// What a test has asked for.
struct Rule {
    actor: &'static str,
    matches: Matches,
    wanted: Wanted,
}

enum Wanted {
    /// Of one request.
    Once(Plan),
    /// Of each, until the test takes it back.
    Always(Fate),
}

/// When and how a request takes effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now_ms: u64,
    pub(super) flavor: Flavor,
}

/// What a read finds.
pub(super) struct Body {
    pub(super) meta: ObjectMeta,
    pub(super) range: Range<u64>,
    pub(super) bytes: Bytes,
    pub(super) flavor: Flavor,
}

impl SimStore {
    /// An empty store; within a runtime whose clock is paused.
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        let state = State { strict_deletes: seed % 3 == 1, ..State::default() };
        Self(Arc::new(Inner { base: Instant::now(), seed, trace, state: Mutex::new(state) }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Virtual ms since the run began.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from((Instant::now() - self.0.base).as_millis()).unwrap()
    }

    /// The wall clock of every actor.
    pub(super) fn clock(&self) -> Clock {
        let base = self.0.base;
        Clock::new(move || BEGINNING_US + i64::try_from((Instant::now() - base).as_micros()).unwrap())
    }

    /// Sleeps until the slot's first ms at or after `at_ms`.
    pub(super) async fn sleep_until(&self, slot: u64, at_ms: u64) {
        let own = at_ms + (slot + SLOTS - at_ms % SLOTS) % SLOTS;
        tokio::time::sleep_until(self.0.base + Duration::from_millis(own)).await;
    }

    pub(super) async fn pause(&self, slot: u64, for_ms: u64) {
        self.sleep_until(slot, self.now_ms() + for_ms).await;
    }

    pub(super) fn note(&self, slot: u64, text: String) {
        self.0.trace.note(self.now_ms(), slot, text);
    }

    /// The way of one life of an actor to this store.
    pub(super) fn handle(&self, actor: &'static str, slot: u64, life: u64, weather: Weather) -> Handle {
        assert!(slot < SLOTS);
        Handle::new(self.clone(), actor, slot, life, weather)
    }

    /// Holds back the next request of `actor` that matches.
    pub(super) fn hold(
        &self,
        actor: &'static str,
        matches: impl Fn(Op, &str) -> bool + Send + 'static,
    ) -> Hold {
        let (plan, hold) = Plan::held();
        self.rule(actor, matches, Wanted::Once(plan));
        hold
    }

    /// Decides the next request of `actor` that matches.
    pub(super) fn meddle(
        &self,
        actor: &'static str,
        matches: impl Fn(Op, &str) -> bool + Send + 'static,
        fate: Fate,
    ) {
        self.rule(actor, matches, Wanted::Once(Plan::meddled(fate)));
    }

    /// Decides all requests of `actor` that match, until [`end_outages`](Self::end_outages).
    pub(super) fn outage(
        &self,
        actor: &'static str,
        matches: impl Fn(Op, &str) -> bool + Send + 'static,
        fate: Fate,
    ) {
        self.rule(actor, matches, Wanted::Always(fate));
    }

    /// The store works again.
    pub(super) fn end_outages(&self) {
        self.state().rules.retain(|rule| matches!(rule.wanted, Wanted::Once(_)));
    }

    fn rule(&self, actor: &'static str, matches: impl Fn(Op, &str) -> bool + Send + 'static, wanted: Wanted) {
        self.state().rules.push(Rule { actor, matches: Box::new(matches), wanted });
    }

    /// What a test wants of a request.
    pub(super) fn ruled(&self, actor: &str, op: Op, path: &str) -> Option<Plan> {
        let mut state = self.state();
        let found = state.rules.iter().position(|rule| rule.actor == actor && (rule.matches)(op, path))?;
        let rule = state.rules.remove(found);
        match rule.wanted {
            Wanted::Once(plan) => Some(plan),
            Wanted::Always(fate) => {
                state.rules.push(rule);
                Some(Plan::meddled(fate))
            }
        }
    }

    /// Another store with the same objects at the same time, which goes its own way from here.
    pub(super) fn fork(&self) -> Self {
        let mut state = State { strict_deletes: self.state().strict_deletes, ..State::default() };
        state.objects = self.state().objects.clone();
        state.last_tag = self.state().last_tag;
        let trace = Trace::default();
        Self(Arc::new(Inner { base: self.0.base, seed: self.0.seed, trace, state: Mutex::new(state) }))
    }

    /// Puts an object there by magic.
    pub(super) fn plant(&self, path: &str, bytes: Bytes) {
        let now_ms = self.now_ms();
        self.state().put(path, bytes, &PutMode::Create, now_ms).unwrap();
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.state().objects.contains_key(path)
    }

    /// The object with the largest name below `prefix`.
    pub(super) fn last_below(&self, prefix: &str) -> Option<(String, Bytes)> {
        let state = self.state();
        let mut below = state.objects.iter().rev().filter(|(path, _)| path.starts_with(prefix));
        below.next().map(|(path, object)| (path.clone(), object.bytes.clone()))
    }

    /// Objects removed so far.
    pub(super) fn removed(&self) -> u64 {
        self.state().removed.values().sum()
    }

    pub(super) fn removed_by(&self, actor: &str) -> u64 {
        self.state().removed.get(actor).copied().unwrap_or_default()
    }

    /// Ids of the compactions that ever were in the log, in an order that is the same in every run.
    pub(super) fn compactions(&self) -> Vec<CommitId> {
        self.state().compactions.clone()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Waits until no request can arrive any more.
    pub(super) async fn settle(&self, slot: u64) {
        while self.state().under_way > 0 {
            self.pause(slot, 5_000).await;
        }
    }
}

impl State {
    /// Whether one more request is carried.
    pub(super) fn admits(&mut self) -> bool {
        self.requests += 1;
        if self.requests == REQUESTS_MAX {
            self.violations.push(format!("more than {REQUESTS_MAX} requests: somebody turns in circles"));
        }
        self.requests < REQUESTS_MAX
    }

    pub(super) fn begins(&mut self) {
        self.under_way += 1;
    }

    pub(super) fn ends(&mut self) {
        self.under_way -= 1;
    }

    pub(super) fn put(
        &mut self,
        path: &str,
        bytes: Bytes,
        mode: &PutMode,
        now_ms: u64,
    ) -> StoreResult<PutResult> {
        let known = self.objects.get(path).map(|known| (known.tag, known.created_ms));
        match mode {
            PutMode::Create if known.is_some() => return Err(clash(Op::Create, path)),
            PutMode::Update(UpdateVersion { e_tag, .. })
                if known.is_none() || known.map(|(tag, _)| tag.to_string()) != *e_tag =>
            {
                return Err(clash(Op::Update, path));
            }
            PutMode::Create | PutMode::Update(_) | PutMode::Overwrite => {}
        }
        self.watch_put(path, &bytes, mode);
        self.last_tag += 1;
        let tag = self.last_tag;
        let created_ms = known.map_or(now_ms, |(_, created_ms)| created_ms);
        self.objects.insert(path.to_owned(), Object { bytes, tag, created_ms, changed_ms: now_ms });
        Ok(PutResult { e_tag: Some(tag.to_string()), version: None })
    }

    /// What the database promises of an object that is put.
    fn watch_put(&mut self, path: &str, bytes: &Bytes, mode: &PutMode) {
        let is_manifest = path.starts_with("manifest/") && !path.starts_with("manifest/leaf/");
        let is_log = path.starts_with("wal/");
        if (is_manifest || is_log) && *mode != PutMode::Create {
            self.violations.push(format!("{path} was put without the condition that it is absent"));
        }
        if path == "boundary" && *mode == PutMode::Overwrite {
            self.violations.push("the boundary was overwritten without a condition".to_owned());
        }
        if path.starts_with("table/") && self.objects.get(path).is_some_and(|known| known.bytes != *bytes) {
            self.violations.push(format!("{path} is immutable and got other bytes"));
        }
        if is_log && bytes.len() as u64 == FENCE_BYTES {
            self.sacred.insert(path.to_owned());
        }
        if is_log && let Ok(log) = LogContents::read(path, bytes) {
            let swaps = |entry: &&LogEntry| {
                entry.catalog.iter().any(|edit| matches!(edit, CatalogEdit::SwapSegments(_)))
            };
            self.compactions.extend(log.entries.iter().filter(swaps).map(|entry| entry.commit_id));
        }
        if is_manifest {
            match decode_manifest(path, bytes) {
                Ok(decoded) if decoded.manifest.epoch > self.newest_epoch => {
                    self.newest_epoch = decoded.manifest.epoch;
                    self.sacred.insert(path.to_owned());
                }
                Ok(_) => {}
                Err(error) => self.violations.push(format!("{path} was put damaged: {error}")),
            }
        }
    }

    pub(super) fn get(&self, path: &str, options: &GetOptions, moment: Moment) -> StoreResult<Body> {
        let object = self.objects.get(path).ok_or_else(|| absent(path))?;
        let meta = object.meta(path);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|e| broken(&e.to_string()))?,
            None => 0..meta.size,
        };
        let place = |at: u64| usize::try_from(at).unwrap();
        let bytes = match options.head {
            true => Bytes::new(),
            false => object.bytes.slice(place(range.start)..place(range.end)),
        };
        Ok(Body { meta, range, bytes, flavor: moment.flavor })
    }

    /// What stands below `prefix`, or seems to.
    pub(super) fn list(&self, prefix: &str, moment: Moment) -> Vec<ObjectMeta> {
        let (as_of_ms, with_gone) = match moment.flavor {
            Flavor::Older { by_ms, with_gone } => (moment.now_ms.saturating_sub(by_ms), with_gone),
            Flavor::Plain | Flavor::Short | Flavor::Cut => (moment.now_ms, false),
        };
        let below = |path: &str| {
            prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let here = self.objects.iter().map(|(path, object)| (path.as_str(), object));
        let gone = self.gone.iter().filter(|gone| with_gone && gone.at_ms > as_of_ms);
        let shown: BTreeMap<&str, &Object> = gone
            .map(|gone| (gone.path.as_str(), &gone.object))
            .chain(here)
            .filter(|(path, object)| below(path) && object.created_ms <= as_of_ms)
            .collect();
        shown.into_iter().map(|(path, object)| object.meta(path)).collect()
    }

    pub(super) fn delete(&mut self, actor: &'static str, path: &str, now_ms: u64) -> StoreResult<()> {
        if self.sacred.contains(path) || matches!(path, "CAIRN" | "boundary") {
            self.violations.push(format!("{actor} removed {path}"));
        }
        match self.objects.remove(path) {
            Some(object) => {
                *self.removed.entry(actor).or_default() += 1;
                self.gone.push(Gone { path: path.to_owned(), object, at_ms: now_ms });
                Ok(())
            }
            None if self.strict_deletes => Err(absent(path)),
            None => Ok(()),
        }
    }

    pub(super) fn copy(&mut self, from: &str, to: &str, mode: &PutMode, now_ms: u64) -> StoreResult<()> {
        let bytes = self.objects.get(from).ok_or_else(|| absent(from))?.bytes.clone();
        self.put(to, bytes, mode, now_ms).map(|_| ())
    }
}

impl Object {
    fn meta(&self, path: &str) -> ObjectMeta {
        let mut meta = ObjectMeta {
            location: Path::parse(path).unwrap(),
            last_modified: Default::default(),
            size: self.bytes.len() as u64,
            e_tag: Some(self.tag.to_string()),
            version: None,
        };
        let beginning = Duration::from_micros(BEGINNING_US.unsigned_abs());
        meta.last_modified += beginning + Duration::from_millis(self.changed_ms);
        meta
    }
}

/// The answer of a condition that does not hold, as `object_store` tells it.
pub(super) fn clash(op: Op, path: &str) -> StoreError {
    let path = path.to_owned();
    match op {
        Op::Create => StoreError::AlreadyExists { path, source: "409".into() },
        _ => StoreError::Precondition { path, source: "412".into() },
    }
}

fn absent(path: &str) -> StoreError {
    StoreError::NotFound { path: path.to_owned(), source: "404".into() }
}

/// An answer that tells nothing of what was done.
pub(super) fn broken(why: &str) -> StoreError {
    StoreError::Generic { store: "sim", source: why.into() }
}
