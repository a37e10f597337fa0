//! The way back: from stored objects to records, trees and bytes.
//!
//! ```text
//! Vault ──▶ records ──▶ Opener ──▶ SnapshotReader ──▶ entries ──▶ contents ──▶ restore
//!   │                                    │
//!   └─ versions (what hides or replaces  └─ index (blob → place) ─▶ fetch (place → checked bytes)
//!      an object is read through)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`vault`](Vault), `versions`, [`notes`](Note) | the vault, and reading through delete markers and overwrites |
//! | [`opener`](Opener) | from envelopes to keys |
//! | [`snapshot`](SnapshotReader), `index`, `order`, `fetch`, `cache` | from a blob's id to its checked bytes |
//! | [`walk`](EntryStream), [`search`](Listing), [`select`](Selection) | entries: all, some, one, one folder's |
//! | [`extents`](ExtentStream), [`content`](ContentReader), `join` | the bytes of one file or stream |
//! | [`compare`](Differences) | what differs between two snapshots |
//! | [`restore`] | many files at once |
//!
//! Nothing that storage says is believed before it was opened with the run's key and its blob's id recomputed; no
//! length that it claims is allocated before it was held against [`limits`](crate::limits). Memory is bounded by
//! [`ReadSettings`].

mod cache;
mod compare;
mod content;
mod extents;
mod fetch;
mod frames;
mod index;
mod join;
mod notes;
mod opener;
mod order;
pub mod restore;
mod search;
mod segment;
mod select;
mod snapshot;
#[cfg(test)]
mod tests;
mod under_way;
mod vault;
mod versions;
mod walk;

pub use compare::{Difference, Differences};
pub use content::{ContentReader, Piece};
pub use extents::ExtentStream;
pub use fetch::Fetched;
pub use notes::{Note, NoteKind};
pub use opener::{Opener, RunRecord};
pub use search::{Listed, Listing};
pub use select::Selection;
pub use snapshot::SnapshotReader;
pub use vault::{FoundRecord, RecordScope, Vault};
pub(crate) use versions::concerns_object;
pub use versions::versions_or_newest;
pub use walk::EntryStream;

const MIB: usize = 1 << 20;

/// Batches on their way at once: while the answers to one come in, those to the next are awaited. With batches of 8 MiB
/// that fills a line of 1 Gbit/s up to a latency of 130 ms.
const FETCHES: usize = 3;

/// What bounds the memory and the requests of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSettings {
    /// Range requests in flight, of up to 8 MiB each.
    pub requests: usize,
    /// Bytes of expanded frames that are kept for the next read.
    pub frame_cache_bytes: usize,
    /// Bytes of index blocks that are kept for the next search.
    pub index_cache_bytes: usize,
    /// About how many bytes of contents make a batch; up to five batches are held at once.
    pub batch_bytes: usize,
    /// Threads that open and expand frames, and as many that write restored files.
    pub threads: usize,
}

impl Default for ReadSettings {
    /// Together under 192 MiB: requests 32, caches 24 + 24, batches 40, and what allocators keep.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            requests: 4,
            frame_cache_bytes: 24 * MIB,
            index_cache_bytes: 24 * MIB,
            batch_bytes: 8 * MIB,
            threads: threads.clamp(2, 8),
        }
    }
}

/// Runs CPU work where it doesn't hold up I/O.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, crate::Error> {
    // A simulation is one thing after another.
    #[cfg(test)]
    if crate::simulation::is_seeded() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| crate::Error::local("a thread of the reader")(std::io::Error::other(e)))
}

/// A task that ends with whoever waits for it.
#[derive(Debug)]
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    async fn join(mut self) -> Result<T, crate::Error> {
        (&mut self.0)
            .await
            .map_err(|e| crate::Error::local("a task of the reader")(std::io::Error::other(e)))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
