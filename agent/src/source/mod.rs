//! Sources: where data comes from, and how it becomes the entries of a snapshot.

pub(crate) mod directory;
pub(crate) mod dumps;
pub(crate) mod postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keephold_vault::Error as VaultError;
use keephold_vault::pack::BlobKind;
use keephold_vault::tree::{Entry, EntryKind, TreeBuilder, TreeRoot};
use keephold_vault::write::Writer;

/// What a source has done so far; read by whoever shows progress.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) entries: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) unchanged: AtomicU64,
    /// Size of all contents, holes included.
    pub(crate) bytes: AtomicU64,
    /// Bytes read from the source.
    pub(crate) bytes_read: AtomicU64,
    pub(crate) excluded: AtomicU64,
    /// What the whole is expected to be, once it is known.
    pub(crate) bytes_expected: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Begins anew.
    pub(crate) fn reset(&self) {
        let Self { entries, files, unchanged, bytes, bytes_read, excluded, bytes_expected } = self;
        for counter in [entries, files, unchanged, bytes, bytes_read, excluded, bytes_expected] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Set when the run is to end before its time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once the run is to end.
    pub(crate) fn check(&self) -> Result<(), VaultError> {
        if self.is_set() {
            Err(VaultError::Stopped("interrupted by a signal".into()))
        } else {
            Ok(())
        }
    }
}

/// A snapshot tree that is being written.
#[derive(Debug, Default)]
pub(crate) struct TreeWriter {
    builder: TreeBuilder,
}

impl TreeWriter {
    /// Adds the next entry, in the order of paths.
    pub(crate) fn add(
        &mut self,
        entry: &Entry,
        writer: &mut Writer,
        counters: &Counters,
    ) -> Result<(), VaultError> {
        Counters::add(&counters.entries, 1);
        if let EntryKind::File(content) = &entry.kind {
            Counters::add(&counters.files, 1);
            Counters::add(&counters.bytes, content.size);
        }
        self.builder.add(entry, &mut |node| writer.add(BlobKind::Tree, node))
    }

    pub(crate) fn finish(self, writer: &mut Writer) -> Result<TreeRoot, VaultError> {
        self.builder.finish(&mut |node| writer.add(BlobKind::Tree, node))
    }
}
