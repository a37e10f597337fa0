//! The way into the vault.
//!
//! ```text
//! caller's thread          compressors           packer                  tokio
//! chunk, name, known? ──▶  compress frames  ──▶  seal, pack, name  ──▶  put (locked), then index
//! ```
//!
//! Each object that is put goes to the copies of the vault ([`struct@Copy`]) too, which fail no run.
//!
//! Queues between stages are short, so memory is a few frames a core and a few packs, whatever is backed up.

mod content;
mod copy;
mod cutter;
mod delta;
mod group;
mod journal;
mod known;
mod lanes;
mod life;
pub mod measure;
mod packer;
mod pipeline;
mod places;
mod recover;
mod small;
mod stages;
mod table;
#[cfg(test)]
mod tests;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::envelope::{self, Recipients, RecipientsDigest, RunKeys};
use crate::error::Error;
use crate::ids::VaultId;
use crate::keys::{RunKey, VaultSecret};
use crate::store::Store;

pub use content::{ContentChunks, ContentWriter};
pub use copy::{Copy, CopySettings, CopyStatus};
pub use cutter::{ContentCutter, CutPiece};
pub use delta::{DeltaWriter, PieceList};
pub use known::{AtCopy, Known, PackHandle};
pub use life::Life;
pub use pipeline::Writer;
pub use places::Places;
pub use small::{SmallFileNo, SmallFiles, SmallReads};
pub use stages::SpareBuffers;
pub use written::{Progress, Written};

/// How a run writes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// zstd's level, 1 to 19. At 2, with the frames and the hash table that this library gives it, source code comes
    /// out smaller than frames of 1 MiB do at 3, and a database 2 % larger, in four fifths of the time
    /// (bench/README.md).
    pub level: i32,
    /// How many threads compress; the host's cores by default.
    pub threads: usize,
    /// How many packs are on their way to the target at once, at most: as many as raise the throughput. Each takes some
    /// 20 MiB of memory.
    pub uploads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self { level: 2, threads, uploads: 5 }
    }
}

/// Everything that the stages of one run share.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// Where to.
    pub store: Arc<dyn Store>,
    /// The vault.
    pub vault: VaultId,
    /// The vault's secret.
    pub secret: VaultSecret,
    /// The run's key; forgotten when the run ends.
    pub(crate) run: RunKey,
    /// That key, sealed to the recipients.
    pub envelope: Arc<[u8]>,
    /// Whom it is sealed to.
    pub recipients: RecipientsDigest,
    /// Until when what this run writes is locked.
    pub retain_until: Timestamp,
    /// The cache's folder.
    pub cache: PathBuf,
    /// The copies that are written to as well: those that [`Known`] has joined.
    copies: Vec<Arc<Copy>>,
}

impl RunContext {
    /// Draws a run's key and seals it.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails, [`Error::BadKey`] if a recipient can't be sealed to.
    pub fn new(
        store: Arc<dyn Store>,
        vault: VaultId,
        secret: VaultSecret,
        recipients: &Recipients,
        retain_until: Timestamp,
        cache: PathBuf,
    ) -> Result<Self, Error> {
        let run = RunKey::generate()?;
        let keys = RunKeys { vault, run: run.clone(), secret: secret.clone() };
        let envelope = envelope::seal(&keys, recipients)?.into();
        Ok(Self {
            store,
            vault,
            secret,
            run,
            envelope,
            recipients: recipients.digest(),
            retain_until,
            cache,
            copies: Vec::new(),
        })
    }
}
