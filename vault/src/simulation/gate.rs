//! Where requests wait for their turn. Each request reaches its target after some time, and its answer comes back after
//! some more; in between, others go on. What a request does, it does when it arrives.
//!
//! Whoever sends requests has a *life*: one run, one prune, one replication. Only one life goes on at a time, until each
//! of its requests waits here: so the order of all that happens follows from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use jiff::{SignedDuration, Timestamp};

use super::dice::Dice;
use crate::store::StoreError;
use crate::store::memory::{Fault, Request};

/// The number of a life.
pub(super) type Life = usize;

/// One of the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Vault,
    /// What the replicator copies to.
    Copy,
    /// What the first host writes to as well.
    Second,
}

/// What a life has to put up with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Half of a request's time is up to so many milliseconds.
    pub(super) latency_ms: u64,
    /// So many of 10,000 requests go wrong.
    pub(super) faults: u64,
    /// So many of 10,000 requests are the last before a crash.
    pub(super) crashes: u64,
    /// Nothing there can be reached.
    pub(super) down: Option<Place>,
    /// How many keys a page of a listing has at least.
    pub(super) page: usize,
    /// By how much its clock is ahead.
    pub(super) skew: SignedDuration,
}

/// What a request does to its target, unless its fault is that it never gets there; answers what came of it.
type Effect = Box<dyn FnOnce(Fault) -> String + Send>;

struct Asked {
    life: Life,
    place: Place,
    request: Request,
    sent: Timestamp,
    effect: Option<Effect>,
    outcome: String,
    /// Whoever waits for the answer; nobody any more, if it was dropped.
    waits: bool,
    waker: Option<Waker>,
}

/// A request that has reached its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) life: Life,
    pub(super) place: Place,
    pub(super) request: Request,
    pub(super) sent: Timestamp,
    pub(super) at: Timestamp,
    pub(super) outcome: String,
}

/// What happens next with a request.
pub(super) enum Next {
    /// It reached its target.
    Arrived(Done),
    /// Its answer reached whoever asked.
    Answered(Life),
    /// Whoever sent it is killed at this moment; it has had its effect, or never will.
    Crash(Life, Option<Done>),
    /// Nobody has waited for its answer any more.
    Forgotten,
}

struct Alive {
    weather: Weather,
    dead: bool,
    /// Since the other end crashed, nothing gets through any more.
    cut: bool,
    /// Requests that wait for their effect or answer.
    waiting: usize,
    /// Where anything has gone wrong.
    harmed: Vec<Place>,
}

struct State {
    now: Timestamp,
    dice: Dice,
    lives: Vec<Alive>,
    next: u64,
    asked: BTreeMap<u64, Asked>,
    /// When what happens with which request.
    due: BTreeSet<(Timestamp, u64)>,
    /// Told when a request has come.
    bell: Option<Waker>,
}

pub(super) struct Gate(Mutex<State>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

pub(super) fn unreachable(place: Place, detail: &str) -> StoreError {
    StoreError::Unreachable { target: place.url(), detail: detail.into() }
}

impl Place {
    pub(super) fn url(self) -> String {
        format!("memory://{self:?}")
    }
}

impl Gate {
    pub(super) fn new(now: Timestamp, dice: Dice) -> Self {
        let (lives, asked, due) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self(Mutex::new(State { now, dice, lives, next: 0, asked, due, bell: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, weather: Weather) -> Life {
        let mut state = self.state();
        let alive = Alive { weather, dead: false, cut: false, waiting: 0, harmed: Vec::new() };
        state.lives.push(alive);
        state.lives.len() - 1
    }

    pub(super) fn now(&self) -> Timestamp {
        self.state().now
    }

    pub(super) fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    pub(super) fn weather(&self, life: Life) -> Weather {
        self.state().lives[life].weather
    }

    /// Whether anything has gone wrong with a life's requests to a target.
    pub(super) fn harmed(&self, life: Life, place: Place) -> bool {
        self.state().lives[life].harmed.contains(&place)
    }

    /// Whether all that a life does is wait for its requests; else `bell` is told when it may be.
    pub(super) fn at_rest(&self, life: Life, bell: &Waker) -> bool {
        let mut state = self.state();
        if state.lives[life].waiting > 0 {
            return true;
        }
        state.bell = Some(bell.clone());
        false
    }

    /// When the next thing happens here.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.state().due.first().map(|(at, _)| *at)
    }

    /// A request's next step, once its time has come.
    pub(super) fn step(&self) -> Option<Next> {
        let mut state = self.state();
        let (now, id) = state.due.pop_first()?;
        state.now = now;
        let effect = state.asked.get_mut(&id).and_then(|asked| asked.effect.take());
        let Some(effect) = effect else { return Some(state.answer(id)) };
        let (fault, crash) = state.trouble(id);
        // What a request does needs only its target.
        drop(state);
        let outcome = effect(fault);
        let mut state = self.state();
        let asked = state.asked.get_mut(&id)?;
        let (life, waits) = (asked.life, asked.waits);
        asked.outcome.clone_from(&outcome);
        let (place, request, sent) = (asked.place, asked.request.clone(), asked.sent);
        let done = Done { life, place, request, sent, at: now, outcome };
        if crash && waits {
            let there = (fault != Fault::Before).then_some(done);
            return Some(Next::Crash(life, there));
        }
        if waits {
            let latency = state.latency(life);
            state.due.insert((now + latency, id));
        } else {
            state.asked.remove(&id);
        }
        Some(Next::Arrived(done))
    }

    /// Ends a life: its requests fail; some of those that are on their way still arrive.
    pub(super) fn kill(&self, life: Life) {
        let mut state = self.state();
        state.lives[life].dead = true;
        state.lives[life].waiting = 0;
        let State { asked, dice, .. } = &mut *state;
        let mut wakers = Vec::new();
        asked.retain(|_, asked| {
            if asked.life != life {
                return true;
            }
            asked.waits = false;
            wakers.extend(asked.waker.take());
            asked.effect.is_some() && dice.percent(50)
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn latency(&mut self, life: Life) -> SignedDuration {
        let ms = 1 + self.dice.below(self.lives[life].weather.latency_ms.max(1));
        SignedDuration::from_millis(ms as i64)
    }

    fn answer(&mut self, id: u64) -> Next {
        let Some(asked) = self.asked.get_mut(&id).filter(|asked| asked.waits) else {
            self.asked.remove(&id);
            return Next::Forgotten;
        };
        let (life, waker) = (asked.life, asked.waker.take());
        self.asked.remove(&id);
        self.lives[life].waiting -= 1;
        waker.into_iter().for_each(Waker::wake);
        Next::Answered(life)
    }

    /// What goes wrong with a request that arrives, and whether its sender is killed.
    fn trouble(&mut self, id: u64) -> (Fault, bool) {
        let asked = &self.asked[&id];
        let (life, place) = (asked.life, asked.place);
        let put = matches!(asked.request, Request::Put(_));
        let alive = &mut self.lives[life];
        if alive.cut || alive.weather.down == Some(place) {
            alive.harmed.push(place);
            return (Fault::Before, false);
        }
        let one = self.dice.below(10_000);
        let before = if self.dice.percent(50) { Fault::Before } else { Fault::None };
        if one < alive.weather.crashes {
            alive.harmed.push(place);
            return (before, true);
        }
        if one >= alive.weather.crashes + alive.weather.faults {
            return (Fault::None, false);
        }
        alive.harmed.push(place);
        let fault = match self.dice.below(4) {
            0 => Fault::After,
            1 if put => Fault::Twice,
            2 => {
                alive.cut = true;
                Fault::Before
            }
            _ => Fault::Before,
        };
        (fault, false)
    }
}

/// A request that waits for its answer.
pub(super) struct Waiting {
    gate: Arc<Gate>,
    place: Place,
    life: Life,
    id: u64,
}

impl Waiting {
    /// Sends a request.
    pub(super) fn send(
        gate: &Arc<Gate>,
        place: Place,
        life: Life,
        request: Request,
        effect: Effect,
    ) -> Self {
        let mut state = gate.state();
        let id = state.next;
        state.next += 1;
        if !state.lives[life].dead {
            state.lives[life].waiting += 1;
            let (sent, latency) = (state.now, state.latency(life));
            let (effect, outcome) = (Some(effect), String::new());
            let asked =
                Asked { life, place, request, sent, effect, outcome, waits: true, waker: None };
            state.asked.insert(id, asked);
            state.due.insert((sent + latency, id));
            state.bell.take().into_iter().for_each(Waker::wake);
        }
        drop(state);
        Self { gate: gate.clone(), place, life, id }
    }
}

impl Future for Waiting {
    type Output = Result<(), StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.gate.state();
        if state.lives[self.life].dead {
            return Poll::Ready(Err(unreachable(self.place, "killed")));
        }
        let Some(asked) = state.asked.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        asked.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if let Some(asked) = state.asked.get_mut(&self.id).filter(|asked| asked.waits) {
            asked.waits = false;
            state.lives[self.life].waiting -= 1;
        }
    }
}
