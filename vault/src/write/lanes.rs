//! How many packs are on their way at once: as many as raise the throughput, within what memory allows.
//!
//! Each pack on its way is one in memory, so more than help are a waste; and how many help depends on latency and on what
//! the server gives to one connection, which nothing but trying tells. So: while it is the target that the run waits
//! for, one more is tried; it is kept if the bytes that arrive in a round rose with it, and given up if not.

use std::time::{Duration, Instant};

/// How many a run begins with.
const START: usize = 3;
/// One more must raise the throughput by so much, in percent, to be kept: a third of what a fourth lane could bring at best.
const GAIN_PERCENT: u64 = 8;
/// After one that did not help, so many rounds pass until it is tried again.
const REST_ROUNDS: u32 = 8;

/// The number of uploads at once, as it adapts.
#[derive(Debug)]
pub(super) struct Lanes {
    now: usize,
    most: usize,
    /// What arrived in this round.
    bytes: u64,
    arrived: usize,
    began: Option<Instant>,
    /// Whether the run has waited for the target in this round: else the round tells nothing of it.
    waited: bool,
    /// Bytes a second before the last lane was added, while that one is on trial.
    before: Option<u64>,
    rest: u32,
}

impl Lanes {
    /// Never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            now: START.min(most),
            most,
            bytes: 0,
            arrived: 0,
            began: None,
            waited: false,
            before: None,
            rest: 0,
        }
    }

    /// How many may be on their way now.
    pub(super) fn allowed(&self) -> usize {
        self.now
    }

    /// A pack is ready, and all lanes are taken.
    pub(super) fn wait(&mut self) {
        self.waited = true;
    }

    /// A pack of so many bytes has arrived at this moment.
    pub(super) fn arrived(&mut self, bytes: u64, at: Instant) {
        let Some(began) = self.began else {
            // The first only begins the first round: when it was sent is not known.
            self.began = Some(at);
            return;
        };
        self.bytes += bytes;
        self.arrived += 1;
        if self.arrived < 2 * self.now {
            return;
        }
        let millis = at.duration_since(began).max(Duration::from_millis(1)).as_millis();
        let rate = u64::try_from(u128::from(self.bytes) * 1000 / millis).unwrap_or(u64::MAX);
        let waited = self.waited;
        (self.bytes, self.arrived, self.began, self.waited) = (0, 0, Some(at), false);
        match self.before.take() {
            Some(before)
                if waited
                    && rate.saturating_mul(100) < before.saturating_mul(100 + GAIN_PERCENT) =>
            {
                self.now -= 1;
                self.rest = REST_ROUNDS;
            }
            _ if !waited => {}
            _ if self.rest > 0 => self.rest -= 1,
            _ if self.now < self.most => {
                self.before = Some(rate);
                self.now += 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packs of 16 MiB over a line: answers how many lanes were in use in the end, and at most.
    fn send(latency_ms: u64, line: u64, lane: u64, most: usize, waits: bool) -> (usize, usize) {
        let mut lanes = Lanes::new(most);
        let (mut now, mut peak) = (Instant::now(), 0);
        for _ in 0..200 {
            let n = lanes.allowed() as u64;
            peak = peak.max(lanes.allowed());
            // With n lanes each pack takes its latency and its share of the line, n of them at a time.
            let rate = lane.min(line / n);
            let time = latency_ms * 1000 + (16 << 20) * 1_000_000 / rate;
            now += Duration::from_micros(time / n);
            if waits {
                lanes.wait();
            }
            lanes.arrived(16 << 20, now);
        }
        (lanes.allowed(), peak)
    }

    #[test]
    fn lanes_are_added_only_where_they_raise_the_throughput() {
        const MB: u64 = 1_000_000;
        // One connection gets a tenth of the line: as many as there may be.
        assert_eq!(send(50, 1000 * MB, 50 * MB, 8, true).0, 8);
        // The line is full with three: a fourth is tried now and then, and given up.
        let (end, peak) = send(1, 100 * MB, 1000 * MB, 8, true);
        assert!(end <= 4 && peak == 4, "{end} {peak}");
        // The source is slower than the target.
        assert_eq!(send(50, 1000 * MB, 50 * MB, 8, false), (3, 3));
        // A small bound is kept.
        assert_eq!(send(50, 1000 * MB, 50 * MB, 2, true), (2, 2));
        assert_eq!(Lanes::new(0).allowed(), 1);
    }
}
