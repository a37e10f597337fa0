//! What a prune did, or would do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// What kind of thing lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A pack.
    Pack,
    /// An index segment.
    Segment,
    /// A run record.
    Record,
    /// A version with other bytes than its name says, over an object that is kept.
    Surplus,
    /// A delete marker with nothing beneath it.
    Marker,
}

/// How much of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Versions of objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What became of the things of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Deleted; in a dry run, what would be.
    pub deleted: Amount,
    /// Not needed, but still locked.
    pub locked: Amount,
    /// Not needed, but within the grace period, or still described or explained by it.
    pub waiting: Amount,
    /// Not needed, but the target refused to delete it, or to say whether it is locked.
    pub refused: Amount,
    /// Needed, or kept as evidence.
    pub kept: Amount,
    /// Nothing that this program could have written, or can't be read: left alone.
    pub unknown: Amount,
}

/// Why a record, or what it names, needs somebody's look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcernKind {
    /// A record can't be read, so that it isn't known what it needs.
    Unreadable,
    /// A record names an index segment that can't be read.
    SegmentUnreadable,
    /// A record isn't signed by an allowed signer; what it needs is kept all the same.
    NotBelieved,
    /// A record isn't signed by an allowed signer, and nobody can open it.
    Worthless,
    /// A record holds nothing because the operator said so.
    Disregarded,
    /// The target doesn't lock.
    NoLocks,
}

impl ConcernKind {
    /// Whether nothing may be deleted because of it.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Unreadable | Self::SegmentUnreadable)
    }
}

/// Something that needs somebody's look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// Why.
    pub kind: ConcernKind,
    /// The record's key, or the target.
    pub what: String,
    /// More about it.
    pub why: String,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When it began: what had ended by then could go.
    pub at: Timestamp,
    /// Whether nothing was meant to be deleted.
    pub dry_run: bool,
    /// Whether nothing was deleted because a record isn't understood.
    pub blocked: bool,
    /// Records that were read.
    pub records: u64,
    /// Those that haven't expired.
    pub unexpired: u64,
    /// Those that have, but are among the newest good ones of their job.
    pub newest: u64,
    /// By kind.
    pub kinds: BTreeMap<Kind, Tally>,
    /// What isn't needed but locked, by the month in which its lock ends (`2026-12`).
    pub locked_until: BTreeMap<String, Amount>,
    /// What needs somebody's look.
    pub concerns: Vec<Concern>,
    /// The first deletions that the target refused, in its own words.
    pub refusals: Vec<String>,
}

/// Refusals that are told in words; all are counted.
const REFUSALS_TOLD: usize = 20;

impl Report {
    pub(super) fn new(at: Timestamp, dry_run: bool) -> Self {
        Self {
            at,
            dry_run,
            blocked: false,
            records: 0,
            unexpired: 0,
            newest: 0,
            kinds: BTreeMap::new(),
            locked_until: BTreeMap::new(),
            concerns: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(super) fn tally(&mut self, kind: Kind) -> &mut Tally {
        self.kinds.entry(kind).or_default()
    }

    pub(super) fn locked(&mut self, kind: Kind, bytes: u64, until: Timestamp) {
        self.tally(kind).locked.add(bytes);
        let month = until.strftime("%Y-%m").to_string();
        self.locked_until.entry(month).or_default().add(bytes);
    }

    pub(super) fn refused(&mut self, kind: Kind, bytes: u64, why: String) {
        self.tally(kind).refused.add(bytes);
        if self.refusals.len() < REFUSALS_TOLD {
            self.refusals.push(why);
        }
    }

    pub(super) fn concern(
        &mut self,
        kind: ConcernKind,
        what: impl std::fmt::Display,
        why: impl std::fmt::Display,
    ) {
        self.concerns.push(Concern { kind, what: what.to_string(), why: why.to_string() });
    }

    /// All kinds together.
    pub fn total(&self, of: impl Fn(&Tally) -> Amount) -> Amount {
        self.kinds.values().map(of).fold(Amount::default(), |sum, one| Amount {
            objects: sum.objects + one.objects,
            bytes: sum.bytes + one.bytes,
        })
    }
}
