//! Progress on a terminal: what was read and stored, how fast, how long still.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keephold_cli::human;
use keephold_vault::write::Progress;

use crate::source::Counters;
use crate::watching::Watching;

/// Shows progress of runs, or nothing where nobody looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) shown: bool,
}

impl Watch {
    pub(crate) fn start(
        self,
        job: &str,
        counters: Arc<Counters>,
        progress: Arc<Progress>,
    ) -> Watching {
        let (job, started) = (job.to_owned(), Instant::now());
        Watching::start(self.shown, None, move |bar| {
            bar.set_message(format!("{job} {}", line(&counters, &progress, started.elapsed())));
        })
    }
}

fn line(counters: &Counters, progress: &Progress, elapsed: Duration) -> String {
    let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let read = load(&counters.bytes_read);
    let rate = rate(read, elapsed);
    let mut line = format!(
        "{}, {} read ({}/s), {} new, {} stored",
        human::count(load(&counters.entries), "entry"),
        human::bytes(read),
        human::bytes(rate),
        human::bytes(load(&progress.bytes_new)),
        human::bytes(load(&progress.bytes_stored)),
    );
    let expected = load(&counters.bytes_expected);
    if expected > read && rate > 0 {
        let left = Duration::from_secs((expected - read) / rate);
        line.push_str(&format!(", about {} left", human::duration(left)));
    } else {
        line.push_str(&format!(", {}", human::duration(elapsed)));
    }
    line
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}
