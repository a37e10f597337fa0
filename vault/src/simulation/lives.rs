//! Lives: how runs, prunes and replications begin, go on, are killed and end, and what must be true of how they end.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use jiff::{SignedDuration, Timestamp};

use super::cache;
use super::door::Door;
use super::gate::{Life, Place, Weather};
use super::host::{Ran, Run, host_name};
use super::workers;
use super::world::{FILES, World, days};
use crate::error::Error;
use crate::prune::Report;
use crate::replicate::{Done, Tally};
use crate::sign::AllowedSigners;
use crate::store::ObjectKey;
use crate::testing::noise;

/// Longest time of half a request, in milliseconds: where a target is near, far, and hardly answers.
const LATENCIES_MS: [u64; 3] = [500, 60_000, 600_000];

/// How many contents come back.
const CONTENTS: u64 = 10;

/// What a life does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Run(usize),
    Prune(Place),
    Replicate,
}

/// What is done now and then.
pub(super) struct Chore {
    task: Task,
    due: Timestamp,
    /// In hours, half and once more again at most.
    every: u64,
    busy: bool,
}

impl Chore {
    pub(super) fn all(now: Timestamp) -> Vec<Self> {
        let chore = |task, every| Self { task, due: now + days(1), every, busy: false };
        vec![
            chore(Task::Prune(Place::Vault), 48),
            chore(Task::Replicate, 36),
            chore(Task::Prune(Place::Copy), 200),
            chore(Task::Prune(Place::Second), 200),
        ]
    }
}

/// What came of a life.
pub(super) enum Ended {
    Run(Result<Ran, Error>),
    Pruned(Result<Report, Error>),
    Replicated(Result<(Done, Arc<Tally>), Error>),
}

/// Somebody at work.
pub(super) struct Living {
    task: Task,
    work: Pin<Box<dyn Future<Output = Ended>>>,
    /// As long as anything of it is left, on whichever thread, somebody holds this.
    held: Weak<()>,
    began: Timestamp,
    /// What promises needed then.
    needed: HashSet<ObjectKey>,
}

/// Wakes the world, and says whether it has.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    world: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if let Some(world) = self.world.lock().unwrap().as_ref() {
            world.wake_by_ref();
        }
    }
}

/// Waits until nothing is left of a life that has ended, on no thread.
async fn wind_down(held: &Weak<()>) {
    while held.strong_count() > 0 {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
}

impl World {
    /// Whose turn it is to begin, and when.
    pub(super) fn next_start(&self) -> Option<(Timestamp, Task)> {
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| !host.running);
        let hosts = hosts.map(|(n, host)| (host.due, Task::Run(n)));
        let chores = self.chores.iter().filter(|chore| !chore.busy);
        let chores = chores.map(|chore| (chore.due, chore.task));
        hosts.chain(chores).min_by_key(|(due, _)| *due)
    }

    fn door(&self, place: Place, life: Life, held: &Arc<()>) -> Door {
        let (gate, target) = (self.gate.clone(), self.target(place));
        let tells_time = self.climate.tells_time;
        Door { gate, target, place, life, tells_time, _held: held.clone() }
    }

    /// A life begins.
    pub(super) async fn start(&mut self, task: Task) {
        match task {
            Task::Run(n) => self.begin_run(n).await,
            Task::Prune(_) | Task::Replicate => {
                let every = self.chores.iter().find(|c| c.task == task).map_or(0, |c| c.every);
                let hours = every / 2 + self.dice.below(every);
                let due = self.now + SignedDuration::from_mins(60 * hours as i64);
                let weather = self.weather(&LATENCIES_MS[..2], SignedDuration::ZERO);
                let skew = self.skew();
                let weather = Weather { skew, ..weather };
                let chore = self.chores.iter_mut().find(|chore| chore.task == task);
                chore.into_iter().for_each(|chore| (chore.due, chore.busy) = (due, true));
                self.begin_chore(task, weather).await;
            }
        }
    }

    /// A prune or a replication begins, unless there is nothing yet.
    pub(super) async fn begin_chore(&mut self, task: Task, weather: Weather) {
        let place = if let Task::Prune(place) = task { place } else { Place::Vault };
        if self.target(place).keys().is_empty() {
            return self.set_busy(task, false);
        }
        let (life, held) = (self.gate.begin(weather), Arc::new(()));
        let door = self.door(place, life, &held);
        let work: Pin<Box<dyn Future<Output = Ended>>> = if task == Task::Replicate {
            let copy = self.door(Place::Copy, life, &held);
            Box::pin(async move { Ended::Replicated(workers::replicate(door, copy).await) })
        } else {
            let signers = AllowedSigners::parse(&self.signers()).unwrap();
            let (shared, settings) = (self.shared.clone(), self.prune.clone());
            Box::pin(async move {
                Ended::Pruned(workers::prune(Arc::new(door), shared, signers, settings).await)
            })
        };
        let needed = self.needed_now();
        self.live(life, task, &held, work, needed);
        drop(held);
        self.let_live(life).await;
    }

    async fn begin_run(&mut self, n: usize) {
        for _ in 0..self.dice.below(3) {
            // Contents come back, on this host or another: also those that nothing has needed for long, and that the
            // pruner may be about to take away.
            let versions = if self.dice.percent(60) { CONTENTS } else { 1 << 40 };
            let (name, version) = (self.dice.below(FILES), self.dice.below(versions));
            let bytes = noise(version, 300 + version as usize % 900);
            self.hosts[n].files.insert(format!("f{name}"), bytes);
        }
        let lost = self.dice.percent(1);
        // Daily, sooner or later; now and then not for weeks.
        let pause = if self.dice.below(150) == 0 { days(3 + self.dice.below(40)) } else { days(0) };
        let minutes = (20 * 60 + self.dice.below(8 * 60)) as i64;
        let skew = self.skew();
        let now = self.now;
        let host = &mut self.hosts[n];
        host.due = now + SignedDuration::from_mins(minutes) + pause;
        host.running = true;
        host.started_runs += 1;
        if lost {
            host.cache = cache::new();
        } else {
            cache::age(&host.cache, now.duration_since(host.aged).unsigned_abs());
        }
        (host.aged, host.skew) = (now, skew);
        // Of two classes: each seventh run is kept three times as long.
        let keep = host.keep * if host.started_runs.is_multiple_of(7) { 3 } else { 1 };
        let (signing, cache) = (host.signing.clone(), host.cache.path().to_owned());
        let (evidence, files) = (host.evidence, host.files.clone());
        let mut weather = self.weather(&LATENCIES_MS, skew);
        weather.down = self.dice.percent(20).then_some(Place::Second);
        let (life, held) = (self.gate.begin(weather), Arc::new(()));
        let door = |place| Arc::new(self.door(place, life, &held));
        let run = Run {
            shared: self.shared.clone(),
            n,
            signing,
            cache,
            store: door(Place::Vault),
            second: if n == 0 { Some(door(Place::Second)) } else { None },
            started: now + skew,
            keep,
            evidence,
            files,
        };
        let work = Box::pin(async move { Ended::Run(run.go().await) });
        self.live(life, Task::Run(n), &held, work, HashSet::new());
        drop(held);
        self.let_live(life).await;
    }

    fn live(
        &mut self,
        life: Life,
        task: Task,
        held: &Arc<()>,
        work: Pin<Box<dyn Future<Output = Ended>>>,
        needed: HashSet<ObjectKey>,
    ) {
        let who = match task {
            Task::Run(n) => host_name(n),
            Task::Prune(_) => "pruner".into(),
            Task::Replicate => "replicator".into(),
        };
        self.who.push(format!("{who} ({life})"));
        let (held, began) = (Arc::downgrade(held), self.now);
        self.living.insert(life, Living { task, work, held, began, needed });
    }

    /// A life goes on until it waits for its requests, or ends.
    pub(super) async fn let_live(&mut self, life: Life) {
        let Some(living) = self.living.get_mut(&life) else { return };
        let (bell, gate) = (Arc::new(Bell::default()), &self.gate);
        let own = Waker::from(bell.clone());
        let ended = std::future::poll_fn(|cx| {
            *bell.world.lock().unwrap() = Some(cx.waker().clone());
            loop {
                bell.rung.store(false, Ordering::SeqCst);
                if let Poll::Ready(ended) =
                    living.work.as_mut().poll(&mut Context::from_waker(&own))
                {
                    return Poll::Ready(Some(ended));
                }
                if !bell.rung.load(Ordering::SeqCst) {
                    break;
                }
            }
            if gate.at_rest(life, &own) { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Some(ended) = ended.await {
            self.end_life(life, ended).await;
        }
    }

    fn set_busy(&mut self, task: Task, busy: bool) {
        match task {
            Task::Run(n) => self.hosts[n].running = busy,
            _ => self.chores.iter_mut().filter(|c| c.task == task).for_each(|c| c.busy = busy),
        }
    }

    /// Somebody is killed between two instants: what a host's disk holds now is what its next run finds.
    pub(super) async fn kill(&mut self, life: Life) {
        let Some(Living { task, work, held, .. }) = self.living.remove(&life) else { return };
        let left = match task {
            Task::Run(n) => Some((n, cache::copied(&self.hosts[n].cache))),
            Task::Prune(_) | Task::Replicate => None,
        };
        self.gate.kill(life);
        drop(work);
        wind_down(&held).await;
        if let Some((n, left)) = left {
            self.hosts[n].cache = left;
            self.hosts[n].failures += 1;
        }
        self.happened.killed += 1;
        self.set_busy(task, false);
        self.check();
    }

    async fn end_life(&mut self, life: Life, ended: Ended) {
        let Some(Living { task, work, held, began, needed }) = self.living.remove(&life) else {
            return;
        };
        drop(work);
        wind_down(&held).await;
        self.set_busy(task, false);
        self.check();
        match ended {
            Ended::Run(result) => self.end_run(life, task, result),
            Ended::Pruned(result) => self.end_prune(life, task, result, began, &needed),
            Ended::Replicated(result) => self.end_replication(life, result),
        }
        if self.dice.percent(40) {
            self.restore_any().await;
        }
    }

    /// A run in which nothing went wrong at the vault succeeds, whatever others do and wherever the copy is.
    fn end_run(&mut self, life: Life, task: Task, result: Result<Ran, Error>) {
        match result {
            Ok(ran) => {
                self.happened.drained += ran.drained;
                self.happened.copied += u64::from(ran.copied);
                self.happened.caught_up += ran.caught_up;
                self.happened.again += u64::from(ran.again);
            }
            Err(error) => {
                assert!(self.gate.harmed(life, Place::Vault), "a run failed: {error}");
                self.happened.failures += 1;
                if let Task::Run(n) = task {
                    self.hosts[n].failures += 1;
                }
            }
        }
    }

    fn end_prune(
        &mut self,
        life: Life,
        task: Task,
        result: Result<Report, Error>,
        began: Timestamp,
        needed: &HashSet<ObjectKey>,
    ) {
        let Task::Prune(place) = task else { return };
        match result {
            Ok(report) => {
                self.check_concerns(place, &report);
                self.happened.pruned += report.total(|t| t.deleted).objects;
                if place == Place::Vault && !self.gate.harmed(life, place) {
                    self.check_garbage(began, needed);
                    self.check_size();
                }
            }
            // It took too long.
            Err(Error::Stopped(_)) => self.happened.cut_off += 1,
            Err(error) => {
                assert!(self.gate.harmed(life, place), "a prune failed: {error}");
                self.happened.cut_off += 1;
            }
        }
    }

    /// A pruner understands all that it finds, also in a copy that was cut off for so long that it gets the records of
    /// snapshots whose data is gone from the vault.
    fn check_concerns(&self, place: Place, report: &Report) {
        if let Some(concern) = report.concerns.first() {
            let record = self.promises.iter().flatten().find(|p| p.object.as_str() == concern.what);
            let story = record.map(|record| self.story(&record.object));
            let needed = record.into_iter().flat_map(|record| &record.needed);
            let needed: Vec<_> = needed.map(|(key, _)| self.story(key)).collect();
            let needed = needed.join("\n");
            panic!("{concern:?} in {place:?} at {}: {story:?}\n{needed}", self.now);
        }
    }

    fn end_replication(&mut self, life: Life, result: Result<(Done, Arc<Tally>), Error>) {
        let harmed = [Place::Vault, Place::Copy].iter().any(|p| self.gate.harmed(life, *p));
        match result {
            Ok((done, tally)) => {
                let totals = tally.totals();
                assert!(harmed || done.held_back == 0, "{totals:?}");
                self.happened.replications += 1;
            }
            Err(error) => {
                assert!(harmed, "a replication failed: {error}");
                self.happened.cut_off += 1;
            }
        }
    }
}
