//! The server's clock, as its answers tell it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::store::StoreError;

/// Beyond this difference no lock is set: its end would be wrong, and signatures soon fail too (at 15 minutes).
const OFFSET_MAX_MS: i64 = 5 * 60 * 1000;

/// Stands for 'not known yet'.
const UNKNOWN: i64 = i64::MIN;

/// Stands for 'the last answer had no date, or none that can be read'.
const UNREADABLE: i64 = i64::MIN + 1;

/// The server's clock less this host's, from the last answer that had a date.
#[derive(Debug)]
pub(in crate::store) struct Clock(AtomicI64);

impl Clock {
    pub(in crate::store) fn new() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }

    /// Learns from the `Date` of an answer that was received at `received`.
    pub(in crate::store) fn observe(&self, date: Option<&str>, received: Timestamp) {
        let Some(server) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else {
            // One odd answer doesn't undo what others told.
            let _ =
                self.0.compare_exchange(UNKNOWN, UNREADABLE, Ordering::Relaxed, Ordering::Relaxed);
            return;
        };
        // The header holds whole seconds, cut off: on average half a second is missing.
        let server_ms = server.timestamp().as_millisecond() + 500;
        self.0.store(server_ms - received.as_millisecond(), Ordering::Relaxed);
    }

    /// Server less host, in milliseconds.
    pub(in crate::store) fn offset_ms(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ms| *ms > UNREADABLE)
    }

    /// The time by the server's clock, as far as it is known.
    pub(in crate::store) fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset_ms().unwrap_or(0));
        Timestamp::now().checked_add(offset).unwrap_or_else(|_| Timestamp::now())
    }

    /// Refuses to go on where the clocks differ too much, or can't be compared.
    ///
    /// # Errors
    /// [`StoreError::ClockSkew`], [`StoreError::NoClock`].
    pub(in crate::store) fn check(&self, target: &str) -> Result<(), StoreError> {
        if self.0.load(Ordering::Relaxed) == UNREADABLE {
            return Err(StoreError::NoClock { target: target.to_owned() });
        }
        check_offset(self.offset_ms(), target)
    }

    /// The error for a difference that the server itself found too large.
    pub(in crate::store) fn skew(&self, target: &str) -> StoreError {
        skew(self.offset_ms().unwrap_or_default(), target)
    }
}

/// Refuses a difference (server less host, in milliseconds) that is too large to set locks by.
///
/// # Errors
/// [`StoreError::ClockSkew`].
pub(in crate::store) fn check_offset(
    offset_ms: Option<i64>,
    target: &str,
) -> Result<(), StoreError> {
    match offset_ms {
        Some(ms) if ms.abs() > OFFSET_MAX_MS => Err(skew(ms, target)),
        _ => Ok(()),
    }
}

fn skew(offset_ms: i64, target: &str) -> StoreError {
    StoreError::ClockSkew {
        target: target.to_owned(),
        offset_s: offset_ms.unsigned_abs() / 1000,
        direction: if offset_ms < 0 { "ahead of" } else { "behind" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_has_its_direction() {
        let clock = Clock::new();
        assert_eq!(clock.offset_ms(), None);
        assert!(clock.check("t").is_ok());
        let now: Timestamp = "2026-01-01T12:00:00.5Z".parse().unwrap();
        clock.observe(Some("Thu, 01 Jan 2026 12:00:00 GMT"), now);
        assert_eq!(clock.offset_ms(), Some(0));
        clock.observe(Some("Thu, 01 Jan 2026 13:00:00 GMT"), now);
        let error = clock.check("t").unwrap_err().to_string();
        assert_eq!(error, "this host's clock is 3600 s behind the clock of t");
        clock.observe(Some("Thu, 01 Jan 2026 11:00:00 GMT"), now);
        assert!(clock.check("t").unwrap_err().to_string().contains("ahead of"));
        clock.observe(Some("nonsense"), now);
        assert_eq!(clock.offset_ms(), Some(-3_600_000));
    }

    #[test]
    fn answers_without_a_date_allow_no_locks() {
        let now: Timestamp = "2026-01-01T12:00:00.5Z".parse().unwrap();
        for odd in [None, Some("nonsense")] {
            let clock = Clock::new();
            clock.observe(odd, now);
            assert_eq!(clock.offset_ms(), None);
            assert!(matches!(clock.check("t"), Err(StoreError::NoClock { .. })));
            clock.observe(Some("Thu, 01 Jan 2026 12:00:00 GMT"), now);
            assert!(clock.check("t").is_ok());
        }
    }
}
