//! How much a stream is cut up, passage by passage, and which passages are stored anew for it.

/// A bucket of [`Densities`] is so many parts a MiB wide.
const WIDTH: u64 = 64;
const BUCKETS: usize = 128;

/// Parts a MiB of a passage of so many parts and bytes.
pub(super) fn density(parts: usize, bytes: u64) -> u64 {
    ((parts as u64) << 20) / bytes.max(1)
}

/// How many bytes of a stream are in passages of which density.
#[derive(Debug, Clone)]
pub(super) struct Densities([u64; BUCKETS]);

impl Default for Densities {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Densities {
    /// Bytes that [`write`](Self::write) takes.
    pub(super) const LEN: usize = 8 * BUCKETS;

    /// Counts a passage.
    pub(super) fn add(&mut self, density: u64, bytes: u64) {
        let bucket = usize::try_from(density / WIDTH).unwrap_or(BUCKETS).min(BUCKETS - 1);
        self.0[bucket] = self.0[bucket].saturating_add(bytes);
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The density that so much of the stream, at least, has or exceeds; of one part in `share`.
    pub(super) fn top(&self, share: u64) -> u64 {
        let wanted = self.bytes() / share;
        let mut above = 0u64;
        for (bucket, bytes) in self.0.iter().enumerate().rev() {
            above = above.saturating_add(*bytes);
            if above > wanted {
                return bucket as u64 * WIDTH;
            }
        }
        0
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        self.0.iter().for_each(|bytes| to.extend_from_slice(&bytes.to_le_bytes()));
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut read = Self::default();
        for (to, bytes) in read.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *to = u64::from_le_bytes(*bytes);
        }
        read
    }
}

/// Of a run's stream one part in so many, at most, is stored anew because it is cut up. So each passage is about as many
/// runs old at the most, which bounds what a reader has to expand, and what each run adds for it is even.
const SHARE: u64 = 18;
/// Passages of fewer parts a MiB aren't stored anew, and those of more are, however many there are.
const LEAST: u64 = 768;
const MOST: u64 = 8192;

/// Chooses the passages that are stored anew: those that were cut up most in the run before, as many as there is room for.
pub(super) struct Renewal {
    from: u64,
    /// Bytes that may be stored anew, times [`SHARE`].
    credit: i64,
}

impl Renewal {
    pub(super) fn new(before: Option<&Densities>) -> Self {
        let from = before.map_or(0, |before| before.top(SHARE)).max(LEAST);
        Self { from, credit: 0 }
    }

    /// Notes that so many bytes passed that need not be stored.
    pub(super) fn passes(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add_unsigned(bytes);
    }

    /// Whether a changed passage is stored anew that was of density `before`, and now would be of `now`.
    pub(super) fn takes(&mut self, before: u64, now: u64, bytes: u64) -> bool {
        self.passes(bytes);
        let takes = now > MOST || (before >= self.from && self.credit > 0);
        if takes {
            self.credit = self.credit.saturating_sub_unsigned(bytes.saturating_mul(SHARE));
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_densest_are_found_and_written_down() {
        let mut densities = Densities::default();
        for n in 0..100 {
            densities.add(n * WIDTH, 1_000);
        }
        // Together with what is beyond all buckets.
        densities.add(u64::MAX, 1_000);
        assert_eq!(densities.top(10), 90 * WIDTH);
        let mut written = Vec::new();
        densities.write(&mut written);
        assert_eq!(written.len(), Densities::LEN);
        assert_eq!(Densities::read(&written).top(10), 90 * WIDTH);
        assert_eq!(Densities::default().top(10), 0);
    }

    #[test]
    fn no_more_than_its_share_is_stored_anew_however_cut_up_all_is() {
        let mut densities = Densities::default();
        (0..1_000).for_each(|_| densities.add(2 * LEAST, 1 << 20));
        let mut renewal = Renewal::new(Some(&densities));
        let taken = (0..1_000).filter(|_| renewal.takes(2 * LEAST, 2 * LEAST, 1 << 20)).count();
        assert_eq!(taken as u64, 1_000u64.div_ceil(SHARE));
        // What is cut up less than the densest waits, and what is cut up little or beyond measure is no question of room.
        assert!(!renewal.takes(2 * LEAST - WIDTH, 2 * LEAST, 64 << 20));
        assert!(renewal.takes(0, MOST + 1, 1 << 20));
        let mut renewal = Renewal::new(None);
        assert!(!renewal.takes(LEAST - 1, LEAST, 1 << 20));
    }
}
