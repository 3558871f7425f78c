//! What can go wrong with a request on its way to the store and back, and who decides it: dice, or a test.
//!
//! Owns: the faults of durability.md ("Faulty object store"), how often they happen (`Weather`), and requests that a test holds back
//! (`Hold`). Does not own: what a request does (`store`), carrying it (`handle`).

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

/// Longest virtual time in which a request that a test waits for must come.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// Put if absent.
    Create,
    /// Put if it is still the version that was read.
    Update,
    /// Put whatever stands there.
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
    /// One part of an upload.
    Part,
    /// The end of an upload.
    Complete,
    Abort,
}

impl Op {
    fn is_conditional(self) -> bool {
        matches!(self, Self::Create | Self::Update)
    }

    fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::List)
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes effect and is answered.
    Done,
    /// 503; it takes no effect.
    Refused,
    /// It takes effect; the answer is an error.
    Lost,
    /// It takes effect and is never answered.
    Silent,
    /// It takes no effect and is never answered.
    Dropped,
    /// 409: no effect, and the answer of a condition that does not hold.
    Clash,
    /// It takes effect; the answer is that of a condition that does not hold, as after a lost first answer.
    OwnClash,
}

impl Fate {
    pub(super) fn takes_effect(self) -> bool {
        matches!(self, Self::Done | Self::Lost | Self::Silent | Self::OwnClash)
    }
}

/// How an answer differs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    Plain,
    /// The body ends early, as if it were whole.
    Short,
    /// The body breaks off with an error.
    Cut,
    /// A listing without what was made in the last so many ms; `with_gone`: with what was removed since.
    Older {
        by_ms: u64,
        with_gone: bool,
    },
}

/// What may happen to a request, as dice decide it.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Refused,
    Lost,
    Silent,
    Dropped,
    Clash,
    OwnClash,
    /// A write that takes effect seconds or minutes later, whether or not somebody still waits for it.
    Late,
    Slow,
    Short,
    Cut,
    Stale,
}

/// How often what happens: of a thousand requests so many.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    latency_max_ms: u64,
    troubles: Vec<(u32, Trouble)>,
}

impl Weather {
    /// Quick, and nothing goes wrong.
    pub(super) fn calm() -> Self {
        Self { latency_max_ms: 8, troubles: Vec::new() }
    }

    /// One of several kinds, from calm to stormy.
    pub(super) fn drawn(rng: &mut StdRng) -> Self {
        use Trouble::{Clash, Cut, Dropped, Late, Lost, OwnClash, Refused, Short, Silent, Slow, Stale};
        let light = [
            (8, Refused),
            (8, Lost),
            (3, Silent),
            (3, Dropped),
            (8, Clash),
            (8, OwnClash),
            (5, Late),
            (8, Slow),
            (6, Short),
            (6, Cut),
            (300, Stale),
        ];
        let times = |factor: u32| -> Vec<(u32, Trouble)> {
            light.iter().map(|(share, trouble)| (share * factor, *trouble)).collect()
        };
        let troubles = match rng.random_range(0..6) {
            0 => Vec::new(),
            1 | 2 => times(1),
            3 => times(2),
            4 => times(4),
            _ => vec![(70, Late), (15, Silent), (25, Slow), (10, Clash), (300, Stale)],
        };
        Self { latency_max_ms: 200, troubles }
    }

    fn strikes(&self, rng: &mut StdRng) -> Option<Trouble> {
        let mut roll = rng.random_range(0..1000_u32);
        for (share, trouble) in &self.troubles {
            if roll < *share {
                return Some(*trouble);
            }
            roll -= share;
        }
        None
    }
}

/// The way of one request. Times in virtual ms.
#[derive(Debug)]
pub(super) struct Plan {
    /// An error is answered so long after the beginning, while the request is still under way.
    pub(super) early_ms: Option<u64>,
    pub(super) outward_ms: u64,
    pub(super) homeward_ms: u64,
    pub(super) fate: Fate,
    pub(super) flavor: Flavor,
    /// Whether it arrives although its sender has died meanwhile.
    pub(super) outlives: bool,
    pub(super) held: Option<Held>,
}

impl Plan {
    fn prompt(fate: Fate) -> Self {
        Self {
            early_ms: None,
            outward_ms: 1,
            homeward_ms: 1,
            fate,
            flavor: Flavor::Plain,
            outlives: false,
            held: None,
        }
    }

    /// The plan that a test asks for.
    pub(super) fn meddled(fate: Fate) -> Self {
        Self::prompt(fate)
    }

    /// A request that waits for the test's word.
    pub(super) fn held() -> (Self, Hold) {
        let (arrived, comes) = oneshot::channel();
        let (go, goes) = oneshot::channel();
        let held = Held { arrived, goes };
        (Self { held: Some(held), ..Self::prompt(Fate::Done) }, Hold { comes, go })
    }

    /// What the dice say.
    pub(super) fn drawn(rng: &mut StdRng, op: Op, weather: &Weather) -> Self {
        let mut plan = Self::prompt(Fate::Done);
        plan.outward_ms = rng.random_range(1..=weather.latency_max_ms);
        plan.homeward_ms = rng.random_range(1..=weather.latency_max_ms / 2);
        plan.outlives = rng.random_bool(0.5);
        match weather.strikes(rng) {
            Some(Trouble::Refused) => plan.fate = Fate::Refused,
            Some(Trouble::Lost) => plan.fate = Fate::Lost,
            Some(Trouble::Silent) => plan.fate = Fate::Silent,
            Some(Trouble::Dropped) => plan.fate = Fate::Dropped,
            Some(Trouble::Clash) if op.is_conditional() => plan.fate = Fate::Clash,
            Some(Trouble::OwnClash) if op.is_conditional() => plan.fate = Fate::OwnClash,
            Some(Trouble::Late) if !op.is_read() => {
                plan.outward_ms = rng.random_range(2_000..120_000);
                plan.early_ms = rng.random_bool(0.5).then(|| rng.random_range(5..500));
            }
            Some(Trouble::Slow) => plan.outward_ms = rng.random_range(1_000..8_000),
            Some(Trouble::Short) if op == Op::Get => plan.flavor = Flavor::Short,
            Some(Trouble::Cut) if op == Op::Get => plan.flavor = Flavor::Cut,
            Some(Trouble::Stale) if op == Op::List => {
                let by_ms = rng.random_range(100..60_000);
                plan.flavor = Flavor::Older { by_ms, with_gone: rng.random_bool(0.5) };
            }
            Some(_) | None => {}
        }
        plan
    }

    /// The sender's network is down.
    pub(super) fn cut_off(&mut self, rng: &mut StdRng) {
        self.fate = if rng.random_bool(0.5) { Fate::Refused } else { Fate::Dropped };
    }
}

/// A request that a test holds back.
#[derive(Debug)]
pub(super) struct Hold {
    comes: oneshot::Receiver<String>,
    go: oneshot::Sender<Fate>,
}

impl Hold {
    /// Waits until the request is there; returns its path.
    pub(super) async fn arrived(&mut self) -> String {
        let came = tokio::time::timeout(PATIENCE, &mut self.comes).await;
        came.expect("the request a test waits for never came").expect("the request was given up on its way")
    }

    /// Lets it go on, at once.
    pub(super) fn release(self, fate: Fate) {
        // Nobody is there when the run has ended.
        let _ = self.go.send(fate);
    }
}

/// The request's side of a [`Hold`].
#[derive(Debug)]
pub(super) struct Held {
    arrived: oneshot::Sender<String>,
    goes: oneshot::Receiver<Fate>,
}

impl Held {
    pub(super) async fn wait(self, path: String) -> Fate {
        let _ = self.arrived.send(path);
        // A hold that is dropped never lets its request arrive.
        self.goes.await.unwrap_or(Fate::Dropped)
    }
}
