//! A simulation of hosts, pruners, a replicator, three targets and time: weeks to years of daily runs, the same for the
//! same seed.
//!
//! Hosts run the real write path, pruners the real prune and the replicator the real replication, against targets in
//! memory. The first host writes to a copy of its own as well, which is down at times; another is replicated to. Time
//! jumps from one event to the next, and an event is a request's arrival at its target, or its answer's arrival: between
//! any two requests of one, others go on. Requests take up to ten minutes, are lost, answered in vain, or arrive twice;
//! any may be the last before a crash, which leaves a host's disk as it was at that moment. Clocks differ by minutes.
//!
//! What must be true is checked where it could become false: when a record appears, when something is deleted, and
//! whenever a run, a prune or a replication has ended or was killed ([`promises`], [`bounds`], [`lives`]).
//!
//! ```text
//! world: events ─▶ lives: who begins, goes on, ends ─▶ host, workers: what they do ─▶ door ─▶ gate: requests in time
//!                                                         promises, bounds: what must be true now
//! ```
//!
//! **Replay.** One life goes on at a time, until each of its requests waits at the gate. Secrets and salts come from the
//! seed ([`chance`]), and so do latencies, faults and whose turn it is.

mod bounds;
mod cache;
mod chance;
mod dice;
mod door;
mod end;
mod gate;
mod host;
mod lives;
mod promises;
mod workers;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) use chance::{age_file, fill, inherited, is_seeded};
use world::World;

/// Seeds of one `cargo test`; `KEEPHOLD_SIMULATION_SEEDS` asks for more or fewer, `KEEPHOLD_SIMULATION_SEED` for one.
const SEEDS: u64 = 2_000;
/// They take less than two minutes on two idle cores; where they take far longer than that, something is wrong with them.
const LONGEST: Duration = Duration::from_secs(900);

/// For how long a seed goes on, and for how long its hosts keep their runs.
#[derive(Debug, Clone, Copy)]
struct Length {
    days: u64,
    /// Runs are kept for so many days at least, and fewer than so many more.
    keep_min: u64,
    keep_span: u64,
}

impl Length {
    /// One seed in four hundred lasts two to three years, one in a hundred some months; others some days, but time passes
    /// at each one's end until all that was promised has expired.
    fn of(seed: u64) -> Self {
        match seed {
            _ if seed % 400 == 50 => Self { days: 730 + seed % 366, keep_min: 4, keep_span: 4 },
            _ if seed % 100 == 5 => Self { days: 90 + seed % 60, keep_min: 4, keep_span: 12 },
            _ => Self { days: 4 + seed % 5, keep_min: 4, keep_span: 22 },
        }
    }
}

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: KEEPHOLD_SIMULATION_SEED={} cargo test -p keephold-vault --lib simulation -- --nocapture",
                self.0
            );
        }
    }
}

/// What happened, so that a simulation in which nothing does can't pass.
#[derive(Debug, Default, Clone, Copy)]
struct Happened {
    days: u64,
    /// Good runs.
    runs: u64,
    failures: u64,
    killed: u64,
    requests: u64,
    restored: u64,
    pruned: u64,
    drained: u64,
    replications: u64,
    /// Prunes and replications that failed.
    cut_off: u64,
    /// Records that the host's own copy got with their runs.
    copied: u64,
    /// Those that it got later.
    caught_up: u64,
    /// Runs that stored something again for it.
    again: u64,
    extensions: u64,
    /// How near any object came to the bound of extensions, and any vault to that of its size, in percent.
    extended_share: u64,
    size_share: u64,
}

impl std::ops::Add for Happened {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            days: self.days + other.days,
            runs: self.runs + other.runs,
            failures: self.failures + other.failures,
            killed: self.killed + other.killed,
            requests: self.requests + other.requests,
            restored: self.restored + other.restored,
            pruned: self.pruned + other.pruned,
            drained: self.drained + other.drained,
            replications: self.replications + other.replications,
            cut_off: self.cut_off + other.cut_off,
            copied: self.copied + other.copied,
            caught_up: self.caught_up + other.caught_up,
            again: self.again + other.again,
            extensions: self.extensions + other.extensions,
            extended_share: self.extended_share.max(other.extended_share),
            size_share: self.size_share.max(other.size_share),
        }
    }
}

/// Simulates a world to its end.
fn simulate(seed: u64, length: Length) -> World {
    let _replay = Replay(seed);
    let source = chance::Source::new(seed);
    let on_threads = source.clone();
    let _entered = source.enter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        // For as long as the thread lives.
        .on_thread_start(move || std::mem::forget(on_threads.clone().enter()))
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, length).await;
        world.go_on().await;
        world.end().await;
        world.happened.days = length.days;
        world.happened.restored = world.restored.get();
        world
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn whatever_happens_every_visible_record_keeps_its_promise() {
    let seeds = match number("KEEPHOLD_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPHOLD_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let happened = std::thread::scope(|scope| {
        let work = || {
            let mut happened = Happened::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return happened;
                }
                let world = simulate(seed, Length::of(seed));
                if count == 1 {
                    println!("log of requests and answers: {}", world.log());
                }
                happened = happened + world.happened;
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).fold(Happened::default(), |a, b| a + b)
    });
    let took = began.elapsed();
    // Past the test's harness, which shows nothing of tests that pass.
    let _ = writeln!(std::io::stderr(), "simulation: {count} seeds in {:.0} s", took.as_secs_f64());
    println!("{happened:#?}");
    assert!(took < LONGEST || count > SEEDS, "it took {took:?}, more than {LONGEST:?}");
    let Happened { days, runs, failures, killed, pruned, drained, replications, .. } = happened;
    let Happened { cut_off, copied, caught_up, again, extensions, .. } = happened;
    // Daily, by two hosts at least, some of whose runs fail.
    assert!(runs > days, "{happened:?}");
    if count >= 100 {
        let all = [failures, killed, pruned, drained, replications, cut_off, copied, caught_up];
        assert!(![&all[..], &[again, extensions]].concat().contains(&0), "{happened:?}");
    }
}

#[test]
fn a_seed_gives_the_same_requests_and_answers_again() {
    for seed in [1, 2, 3, 4, 105] {
        let [one, other] = [(); 2].map(|()| simulate(seed, Length::of(seed)));
        assert!(one.history.len() > 100);
        for (n, (one, other)) in one.history.iter().zip(&other.history).enumerate() {
            assert_eq!(one, other, "request {n} of seed {seed}");
        }
        assert_eq!(one.log(), other.log());
    }
}
