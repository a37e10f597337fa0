//! A simulation of hosts, a pruner, a replicator, three targets and time: months of runs in a fraction of a second, the
//! same for the same seed.
//!
//! Hosts run the real write path against a store in memory, a step at a time; the real pruner deletes there, and the real
//! replicator copies to a second one. The first host writes to a third as well, which is down at times. Between any two steps the clock moves and others go on; the pruner and the replicator
//! stop between any two requests. Requests are lost, answered in vain, arrive twice, or are the last before a crash; whoever
//! is at work may be killed, or lose the cache. After each step all that a visible record promises must be true.
//!
//! ```text
//! world: who there is, and whose turn it is ─▶ host, workers: what they do ─▶ promises: what must be true now
//! ```

mod host;
mod promises;
mod workers;
mod world;

use world::World;

/// Seeds of one `cargo test`; `KEEPHOLD_SIMULATION_SEEDS` asks for more, `KEEPHOLD_SIMULATION_SEED` for one.
const SEEDS: u64 = 1_000;
/// Steps of a seed, eight hours each on average: a month, in which each host runs some ten times …
const STEPS: u32 = 100;
/// … of each tenth seed, five months, and of each hundredth, two years of daily runs.
const STEPS_LONG: u32 = 450;
const STEPS_LONGEST: u32 = 2_200;

/// Chance, the same for the same seed (splitmix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
/// generators").
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: KEEPHOLD_SIMULATION_SEED={} cargo test -p keephold-vault --lib simulation",
                self.0
            );
        }
    }
}

/// What happened, so that a simulation in which nothing does can't pass.
#[derive(Debug, Default, Clone, Copy)]
struct Happened {
    runs: u64,
    failures: u64,
    pruned: u64,
    drained: u64,
    replications: u64,
    cut_off: u64,
    /// Records that the host's own copy got with their runs.
    copied: u64,
    /// Those that it got later.
    caught_up: u64,
    /// Runs that stored something again for it.
    again: u64,
}

impl std::ops::Add for Happened {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            failures: self.failures + other.failures,
            pruned: self.pruned + other.pruned,
            drained: self.drained + other.drained,
            replications: self.replications + other.replications,
            cut_off: self.cut_off + other.cut_off,
            copied: self.copied + other.copied,
            caught_up: self.caught_up + other.caught_up,
            again: self.again + other.again,
        }
    }
}

fn simulate(seed: u64) -> Happened {
    let _replay = Replay(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed).await;
        let steps = match seed {
            _ if seed.is_multiple_of(100) => STEPS_LONGEST,
            _ if seed.is_multiple_of(10) => STEPS_LONG,
            _ => STEPS,
        };
        for _ in 0..steps {
            world.step().await;
        }
        world.end().await;
        world.happened
    })
}

#[test]
fn whatever_happens_every_visible_record_keeps_its_promise() {
    let number = |name| std::env::var(name).ok().and_then(|n: String| n.parse::<u64>().ok());
    let seeds = match number("KEEPHOLD_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPHOLD_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let happened = std::thread::scope(|scope| {
        let work = || {
            let mut happened = Happened::default();
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= seeds.end {
                    return happened;
                }
                happened = happened + simulate(seed);
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).fold(Happened::default(), |a, b| a + b)
    });
    println!("{} seeds: {happened:?}", seeds.end - seeds.start);
    let Happened { runs, failures, pruned, drained, replications, cut_off, .. } = happened;
    let Happened { copied, caught_up, again, .. } = happened;
    assert!(runs > 5 * (seeds.end - seeds.start), "{happened:?}");
    if seeds.end - seeds.start > 20 {
        let all = [failures, pruned, drained, replications, cut_off, copied, caught_up, again];
        assert!(!all.contains(&0), "something never happened: {happened:?}");
    }
}
