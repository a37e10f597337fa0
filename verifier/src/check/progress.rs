//! What a person at a terminal sees while it works; elsewhere only log lines.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows what is being done.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shown on standard error, or not at all.
    pub fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::default_spinner());
        if shown {
            bar.enable_steady_tick(Duration::from_millis(150));
        }
        Self(bar)
    }

    /// A new part of the work begins.
    pub(super) fn stage(&self, what: &str) {
        tracing::info!("{what}");
        self.0.set_message(what.to_owned());
    }

    /// How far the part is.
    pub(super) fn at(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
