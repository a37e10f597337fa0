//! Being told to stop: the first signal ends the verification in order, so that what was restored is removed again; the
//! second ends the program at once.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use tokio::sync::watch;

/// Whether the verification is to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    wish: watch::Receiver<bool>,
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        let (sender, wish) = watch::channel(false);
        Self { wish, sender: Arc::new(sender) }
    }
}

impl Stop {
    /// One that SIGINT, SIGTERM and SIGHUP set.
    ///
    /// # Errors
    /// If the system lets no signals be watched.
    pub fn on_signals() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let stop = Self::default();
        let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be watched")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals can't be watched")?;
        let mut hangup = signal(SignalKind::hangup()).context("signals can't be watched")?;
        let setter = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if setter.is_set() {
                    std::process::exit(130);
                }
                tracing::warn!(
                    "interrupted: removing what was restored; interrupt again to end at once"
                );
                setter.set();
            }
        });
        Ok(stop)
    }

    fn set(&self) {
        self.sender.send_replace(true);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        *self.wish.borrow()
    }

    /// Fails if it is time to stop.
    ///
    /// # Errors
    /// [`interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(interrupted()) } else { Ok(()) }
    }

    /// Does `work` unless it is stopped before its end.
    ///
    /// # Errors
    /// [`interrupted`].
    pub async fn unless_set<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut wish = self.wish.clone();
        tokio::select! {
            biased;
            _ = wish.wait_for(|set| *set) => Err(interrupted()),
            done = work => Ok(done),
        }
    }
}

/// What an interrupted verification ends with: nothing is reported of it, since half a verification proves nothing.
fn interrupted() -> anyhow::Error {
    anyhow!("interrupted; no report was written")
}

#[cfg(test)]
mod tests {
    use super::Stop;

    #[tokio::test]
    async fn work_ends_when_it_is_set() {
        let stop = Stop::default();
        assert_eq!(stop.unless_set(async { 5 }).await.unwrap(), 5);
        assert!(stop.check().is_ok());
        stop.set();
        assert!(stop.unless_set(std::future::pending::<()>()).await.is_err());
        assert!(stop.check().is_err());
    }
}
