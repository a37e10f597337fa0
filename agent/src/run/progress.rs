//! Progress on a terminal: what was read and stored, how fast, how long still.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keephold_cli::human;
use keephold_vault::write::Progress;
use tokio::task::JoinHandle;

use crate::source::Counters;

/// Shows progress of runs, or nothing where nobody looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) shown: bool,
}

/// A line that is shown until this is dropped.
pub(crate) struct Watching(Option<(ProgressBar, JoinHandle<()>)>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some((bar, task)) = self.0.take() {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

impl Watch {
    pub(crate) fn start(
        self,
        job: &str,
        counters: Arc<Counters>,
        progress: Arc<Progress>,
    ) -> Watching {
        if !self.shown {
            return Watching(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(job.to_owned());
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let started = Instant::now();
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            loop {
                tick.tick().await;
                shown.set_message(line(&counters, &progress, started.elapsed()));
                shown.tick();
            }
        });
        Watching(Some((bar, task)))
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
