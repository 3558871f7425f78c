//! One actor's way to the store: every request is carried by a task of its own, as a network would.
//!
//! Owns: carrying a request as its plan says, whether or not anybody still waits for the answer; death and loss of the network of its
//! sender. What happens to a request depends on the seed, the actor, its life, the kind and path of the request and how often it was
//! made before: not on which of the actor's tasks came first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result as StoreResult, UploadPart,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::faults::{Fate, Flavor, Op, Plan, Weather};
use super::store::{Body, Moment, SimStore, State, broken, clash};

/// As `object_store` words it that a store had no time: nothing was done.
const REFUSAL: &str =
    "Server returned non-2xx status code: 503 Slow Down: <Error><Code>SlowDown</Code></Error>";

/// Cheap to clone; clones are the same one.
#[derive(Clone)]
pub(super) struct Handle(Arc<Inner>);

struct Inner {
    world: Mutex<SimStore>,
    actor: &'static str,
    slot: u64,
    life: u64,
    weather: Weather,
    /// How often each request was made.
    counts: Mutex<HashMap<(Op, String), u64>>,
    killed: AtomicBool,
    cut_off_until_ms: AtomicU64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path with what was drawn at random left out.
fn steady(path: &str) -> String {
    let is_random = |part: &str| part.len() >= 32 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    path.split('/').map(|part| if is_random(part) { "#" } else { part }).collect::<Vec<_>>().join("/")
}

impl Handle {
    pub(super) fn new(world: SimStore, actor: &'static str, slot: u64, life: u64, weather: Weather) -> Self {
        Self(Arc::new(Inner {
            world: Mutex::new(world),
            actor,
            slot,
            life,
            weather,
            counts: Mutex::default(),
            killed: AtomicBool::new(false),
            cut_off_until_ms: AtomicU64::new(0),
        }))
    }

    /// Ends the process behind it: no answer reaches it any more, and what it asks for goes nowhere. Requests under way may arrive.
    pub(super) fn kill(&self) {
        self.0.killed.store(true, Ordering::Relaxed);
    }

    fn is_killed(&self) -> bool {
        self.0.killed.load(Ordering::Relaxed)
    }

    /// Takes its network away for a while.
    pub(super) fn cut_off(&self, for_ms: u64) {
        self.0.cut_off_until_ms.store(self.world().now_ms() + for_ms, Ordering::Relaxed);
    }

    fn is_cut_off(&self) -> bool {
        self.world().now_ms() < self.0.cut_off_until_ms.load(Ordering::Relaxed)
    }

    /// Lets it speak to another store from now on.
    pub(super) fn redirect(&self, world: &SimStore) {
        *held(&self.0.world) = world.clone();
    }

    fn world(&self) -> SimStore {
        held(&self.0.world).clone()
    }

    fn plan(&self, world: &SimStore, op: Op, path: &str) -> Plan {
        if let Some(plan) = world.ruled(self.0.actor, op, path) {
            return plan;
        }
        let path = steady(path);
        let is_probe = path.starts_with("probe/");
        let mut words = path.clone().into_bytes();
        let count = {
            let mut counts = held(&self.0.counts);
            let count = counts.entry((op, path)).or_default();
            *count += 1;
            *count
        };
        for word in [world.seed(), self.0.slot, self.0.life, op as u64, count] {
            words.extend(word.to_le_bytes());
        }
        let mut rng = StdRng::seed_from_u64(xxh3_64(&words));
        let mut plan = Plan::drawn(&mut rng, op, &self.0.weather);
        if plan.fate == Fate::OwnClash && is_probe {
            // A store that says so there says that it has no conditional puts.
            plan.fate = Fate::Lost;
        }
        if self.is_cut_off() {
            plan.cut_off(&mut rng);
        }
        plan
    }

    /// Sends a request and waits for its answer, for ever if need be.
    async fn request<T: Send + 'static>(
        &self,
        op: Op,
        path: &str,
        effect: impl FnOnce(&mut State, Moment) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let world = self.world();
        if self.is_killed() || !world.state().admits() {
            return std::future::pending().await;
        }
        let plan = self.plan(&world, op, path);
        let (reply, answer) = oneshot::channel();
        let under_way = Some(UnderWay::begin(&world));
        let path = path.to_owned();
        let delivery =
            Delivery { handle: self.clone(), world, op, path, plan, reply: Some(reply), under_way };
        tokio::spawn(delivery.run(effect));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    async fn listed(&self, prefix: &str) -> StoreResult<Vec<ObjectMeta>> {
        let below = prefix.to_owned();
        self.request(Op::List, prefix, move |state, moment| Ok(state.list(&below, moment))).await
    }
}

/// Counts a request that may still arrive.
struct UnderWay(SimStore);

impl UnderWay {
    fn begin(world: &SimStore) -> Self {
        world.state().begins();
        Self(world.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().ends();
    }
}

/// A request on its way.
struct Delivery<T> {
    handle: Handle,
    world: SimStore,
    op: Op,
    path: String,
    plan: Plan,
    reply: Option<oneshot::Sender<StoreResult<T>>>,
    under_way: Option<UnderWay>,
}

impl<T> Delivery<T> {
    async fn run(mut self, effect: impl FnOnce(&mut State, Moment) -> StoreResult<T> + Send) {
        let slot = self.handle.0.slot;
        let begun_ms = self.world.now_ms();
        if let Some(early_ms) = self.plan.early_ms {
            self.world.sleep_until(slot, begun_ms + early_ms).await;
            self.answer(Err(broken("the connection was reset")));
        }
        self.world.sleep_until(slot, begun_ms + self.plan.outward_ms).await;
        let mut outlives = self.plan.outlives;
        if let Some(held) = self.plan.held.take() {
            self.plan.fate = held.wait(self.path.clone()).await;
            self.world.pause(slot, 0).await;
            outlives = true;
        }
        if self.handle.is_killed() && !outlives {
            self.plan.fate = Fate::Dropped;
        }
        let moment = Moment { now_ms: self.world.now_ms(), flavor: self.plan.flavor };
        let fate = self.plan.fate;
        let result = fate.takes_effect().then(|| effect(&mut self.world.state(), moment));
        self.note(result.as_ref());
        self.under_way = None;
        self.world.pause(slot, self.plan.homeward_ms).await;
        if self.handle.is_killed() || self.handle.is_cut_off() {
            return;
        }
        match (fate, result) {
            (Fate::Done, Some(result)) => self.answer(result),
            // `object_store` has one error for 409, whatever the condition was.
            (Fate::Clash, _) => self.answer(Err(clash(Op::Create, &self.path))),
            (Fate::OwnClash, _) => self.answer(Err(clash(self.op, &self.path))),
            (Fate::Silent | Fate::Dropped, _) => {}
            (Fate::Refused, _) => self.answer(Err(broken(REFUSAL))),
            (Fate::Lost | Fate::Done, _) => self.answer(Err(broken("the connection was reset"))),
        }
    }

    fn answer(&mut self, answer: StoreResult<T>) {
        if let Some(reply) = self.reply.take() {
            // Nobody waits when the request was given up.
            let _ = reply.send(answer);
        }
    }

    /// What changes something, and what goes wrong.
    fn note(&self, result: Option<&StoreResult<T>>) {
        let Plan { fate, flavor, early_ms, .. } = &self.plan;
        let is_plain = *fate == Fate::Done && *flavor == Flavor::Plain;
        if is_plain && matches!(self.op, Op::Get | Op::Head) {
            return;
        }
        let effect = match result {
            None => "without effect",
            Some(Ok(_)) => "ok",
            Some(Err(StoreError::NotFound { .. })) => "absent",
            Some(Err(StoreError::AlreadyExists { .. })) => "exists",
            Some(Err(StoreError::Precondition { .. })) => "changed",
            Some(Err(_)) => "error",
        };
        let mut text = format!(
            "{}{} {:?} {}: {effect}",
            self.handle.0.actor,
            self.handle.0.life,
            self.op,
            steady(&self.path)
        );
        if !is_plain {
            text += &format!(", {fate:?} {flavor:?}");
        }
        if early_ms.is_some() {
            text += ", an error was answered before";
        }
        self.world.note(self.handle.0.slot, text);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({}{})", self.0.actor, self.0.life)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Body {
    fn into_result(self) -> GetResult {
        let half = self.bytes.slice(..self.bytes.len() / 2);
        let parts = match self.flavor {
            Flavor::Short if !self.bytes.is_empty() => vec![Ok(half)],
            Flavor::Cut => vec![Ok(half), Err(broken("the connection was reset"))],
            Flavor::Plain | Flavor::Short | Flavor::Older { .. } => vec![Ok(self.bytes)],
        };
        GetResult {
            payload: GetResultPayload::Stream(stream::iter(parts).boxed()),
            meta: self.meta,
            range: self.range,
            attributes: Attributes::default(),
        }
    }
}

#[async_trait]
impl ObjectStore for Handle {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let op = match &options.mode {
            PutMode::Create => Op::Create,
            PutMode::Update(_) => Op::Update,
            PutMode::Overwrite => Op::Put,
        };
        let (path, bytes) = (location.as_ref().to_owned(), Bytes::from(payload));
        let put =
            move |state: &mut State, moment: Moment| state.put(&path, bytes, &options.mode, moment.now_ms);
        self.request(op, location.as_ref(), put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let path = location.as_ref().to_owned();
        Ok(Box::new(Upload { handle: self.clone(), path, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        let path = location.as_ref().to_owned();
        let get = move |state: &mut State, moment: Moment| state.get(&path, &options, moment);
        self.request(op, location.as_ref(), get).await.map(Body::into_result)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let handle = self.clone();
        let delete = move |location: StoreResult<Path>| {
            let handle = handle.clone();
            async move {
                let location = location?;
                let path = location.as_ref().to_owned();
                let actor = handle.0.actor;
                let delete =
                    move |state: &mut State, moment: Moment| state.delete(actor, &path, moment.now_ms);
                handle.request(Op::Delete, location.as_ref(), delete).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(4).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let handle = self.clone();
        let prefix = prefix.map_or_else(String::new, |prefix| prefix.as_ref().to_owned());
        let found = async move {
            let found = handle.listed(&prefix).await?;
            Ok::<_, StoreError>(stream::iter(found.into_iter().map(Ok::<_, StoreError>)))
        };
        stream::once(found).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> StoreResult<ListResult> {
        // No database asks for it.
        Err(StoreError::NotImplemented {
            operation: "list_with_delimiter".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let (source, target) = (from.as_ref().to_owned(), to.as_ref().to_owned());
        let copy =
            move |state: &mut State, moment: Moment| state.copy(&source, &target, &mode, moment.now_ms);
        self.request(Op::Copy, to.as_ref(), copy).await
    }
}

/// An object that is sent in parts.
#[derive(Debug)]
struct Upload {
    handle: Handle,
    path: String,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.parts.push(Bytes::from(payload));
        let (handle, path) = (self.handle.clone(), self.path.clone());
        Box::pin(async move { handle.request(Op::Part, &path, |_, _| Ok(())).await })
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let (path, bytes) = (self.path.clone(), Bytes::from(self.parts.concat()));
        let put = move |state: &mut State, moment: Moment| {
            state.put(&path, bytes, &PutMode::Overwrite, moment.now_ms)
        };
        self.handle.request(Op::Complete, &self.path, put).await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.handle.request(Op::Abort, &self.path, |_, _| Ok(())).await
    }
}
