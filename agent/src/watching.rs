//! A line of progress on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// A line that is shown until this is dropped; none where nobody looks.
pub(crate) struct Watching(Option<(ProgressBar, JoinHandle<()>)>);

impl Watching {
    /// Shows the line, which `tell` says anew several times a second; with a bar where it is known how much there is to do.
    pub(crate) fn start(
        shown: bool,
        total: Option<u64>,
        mut tell: impl FnMut(&ProgressBar) + Send + 'static,
    ) -> Self {
        if !shown {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = if total.is_some() { "{wide_bar} {msg} {eta}" } else { "{spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let line = bar.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            loop {
                tick.tick().await;
                tell(&line);
                line.tick();
            }
        });
        Self(Some((bar, task)))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some((bar, task)) = self.0.take() {
            task.abort();
            bar.finish_and_clear();
        }
    }
}
