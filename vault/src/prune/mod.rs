//! Taking away what nothing needs any more: the pruner's role, with a credential and a key of its own.
//!
//! ```text
//! records ─▶ holds: which segments and packs are needed ─▶ sweep: packs, then segments, then records ─▶ report
//! ```
//!
//! **What is deleted.** A version of a pack or an index segment goes if all of this is true:
//! 1. no unexpired record needs it;
//! 2. none of the newest good snapshots of any job needs it, however long ago those expired ([`Settings::newest`]); one is
//!    good if all that it needs lies there;
//! 3. the target took it longer ago than the grace period ([`Settings::grace`]): a run that is going on, or was
//!    interrupted, has no record yet;
//! 4. its lock has ended, as the target says when asked right before the deletion.
//!
//! A record goes if its evidence period and its lock have ended, its snapshot has expired and isn't one of the newest
//! good ones, all older records of its job are gone, and the verifier can tell that it went of age (`holds.rs`). The
//! newest record of a job always stays: it carries the chain on. `vault.json`, `reports/` and whatever else lies in the
//! bucket are never listed here.
//!
//! **Beside running backups.** A writer that uses a stored pack again first extends its lock, and only then relies on it.
//! So either the pruner's question comes after the extension, and is answered with a lock; or the deletion itself comes
//! after it, and is refused; or the deletion comes first, the extension finds nothing, and the writer stores the data
//! again. On targets without locks none of this holds: there, no backup may run meanwhile, and the report says so.
//! Records that appear after they were read here need only what is locked until they expire; a prune that takes longer
//! than [`LONGEST`] stops, so that none of those can have expired meanwhile.
//!
//! **What isn't understood stays.** A record that can't be read, or whose index segments can't, might need anything:
//! then nothing is deleted at all until someone has looked ([`Settings::disregard`]). A record that no allowed signer
//! signed, but that was sealed with the vault's key, holds what it names and pushes nothing out. One that neither is
//! signed nor can be opened is worth nothing to anybody: it holds nothing, and is reported.
//!
//! **Order: packs, segments, records; oldest records first.** Everything that a kept record needs was set aside before
//! the first deletion, so a crash at any moment leaves every kept record whole, whatever the order. What a crash leaves
//! behind must be found again, though, and explained. Packs go before the segments that describe them: a segment whose
//! packs are gone costs a writer one refused extension, a pack without its segment couldn't be told from one of a run
//! that lost its journal. Records go last: as long as one lies there, it explains what else is found. They go from
//! the oldest on, so that a crash leaves a chain without a gap.
//!
//! **Versions and markers.** Over a needed object, a version with other bytes than its name says is deleted once it is
//! past lock and grace, if another version has the true bytes. Twins of the true version stay. A delete marker is only taken away
//! where nothing lies beneath it any more.

mod holds;
mod present;
mod report;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::error::Error;
use crate::keys::PrunerKey;
use crate::read::Vault;
use crate::record::RecordKey;
use crate::sign::AllowedSigners;
use crate::store::{Prune, Store, Strength};

pub use report::{Amount, Concern, ConcernKind, Kind, Report, Tally};

/// How long a prune may take from reading records to its last deletion. Runs are kept for days.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// The usual grace period. Younger objects may be of a run that has no record yet.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What a prune may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many of each job's newest good snapshots are kept, however long ago they expired; at least one is.
    pub newest: usize,
    /// What the target took more recently than this stays.
    pub grace: SignedDuration,
    /// Only say what would be deleted.
    pub dry_run: bool,
    /// Records that hold nothing, by their keys: an operator has looked at them.
    pub disregard: HashSet<RecordKey>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { newest: 3, grace: GRACE, dry_run: false, disregard: HashSet::new() }
    }
}

/// Deletes what nothing needs any more from the vault in `store`, or says what it would delete.
///
/// # Errors
/// [`Error::OtherVault`] if `key` is that of another vault; [`Error::Store`] if the target can't be read, or
/// fails otherwise than by refusing a deletion; [`Error::Stopped`] if it took longer than [`LONGEST`].
pub async fn prune(
    store: Arc<dyn Prune>,
    key: &PrunerKey,
    signers: &AllowedSigners,
    settings: &Settings,
) -> Result<Report, Error> {
    let vault = Vault::open(Arc::clone(&store) as Arc<dyn Store>, Some(&key.vault)).await?;
    let mut report = Report::new(earlier_clock(store.as_ref()), settings.dry_run);
    if store.protection().await.is_ok_and(|p| p.strength == Strength::None) {
        let why = "it doesn't lock what is stored: no backup may run while this does";
        report.concern(ConcernKind::NoLocks, store.url(), why);
    }
    let given = holds::Given { store: store.as_ref(), vault: &vault, key, signers, settings };
    let holds = holds::Holds::gather(given, &mut report).await?;
    report.blocked = report.concerns.iter().any(|c| c.kind.blocks());
    let sweep = sweep::Sweep {
        store: store.as_ref(),
        vault: &vault,
        key: &key.metadata,
        holds: &holds,
        grace: settings.grace,
        dry_run: settings.dry_run || report.blocked,
        now: report.at,
    };
    sweep.run(&mut report).await?;
    Ok(report)
}

/// The time now, by whichever clock is behind: nothing then seems to have ended before it has.
fn earlier_clock(store: &dyn Prune) -> Timestamp {
    let behind = store.clock_offset_ms().unwrap_or(0).min(0);
    let now = store.now();
    now.checked_add(SignedDuration::from_millis(behind)).unwrap_or(now)
}
