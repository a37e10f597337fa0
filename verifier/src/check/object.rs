//! One stored object that unexpired runs need, and what the target lists of it.

use jiff::Timestamp;
use keephold_vault::ids::PackId;
use keephold_vault::limits::{CONFIG_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX, SEGMENT_LEN_MAX};
use keephold_vault::record::RecordKey;
use keephold_vault::store::{LockMode, ObjectKey, Version, VersionId};

use super::history::{History, Run};
use super::lock::stronger;
use super::needed::Place;

/// One object that unexpired runs need.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) kind: Kind,
    /// Its recorded size, where one is recorded.
    pub(super) size: Option<u64>,
    /// The version that was written, where the index knows it.
    pub(super) known: Option<VersionId>,
    /// Until when it must be locked.
    pub(super) until: Timestamp,
    /// The strongest lock that the runs which need it asked for; `None` if they asked for none.
    pub(super) mode: Option<LockMode>,
    /// Numbers of the runs that need it.
    pub(super) runs: Vec<u32>,
    /// Its versions as listed, newest first; `None` if they could not be listed.
    pub(super) versions: Option<Vec<Version>>,
}

/// What an object is.
#[derive(Debug)]
pub(super) enum Kind {
    /// `vault.json`.
    Config,
    /// A run's record.
    Record,
    /// An index segment.
    Segment,
    /// A pack, and where it is described.
    Pack(PackId, Vec<Place>),
}

impl Object {
    /// The versions with data.
    pub(super) fn data(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().flatten().filter(|version| !version.delete_marker)
    }

    /// The version that was stored, as far as a listing can tell: the one that the index knows, else the oldest of the
    /// right size, since what came later was put over it.
    pub(super) fn truth(&self) -> Option<&Version> {
        let known =
            self.data().find(|version| version.version.is_some() && version.version == self.known);
        let sized = || {
            self.data().filter(|version| self.size.is_none_or(|size| size == version.size)).last()
        };
        known.or_else(sized).or_else(|| self.data().last())
    }

    /// Who needs it: `needed by 3 runs, the newest of them db1/main #12`.
    pub(super) fn needed_by(&self, history: &History) -> String {
        let newest = self
            .runs
            .iter()
            .filter_map(|&run| history.run(run))
            .max_by_key(|run| run.found.modified);
        let name = newest.map(Run::name).unwrap_or_default();
        match self.runs.len() {
            0 => "needed by every run".to_owned(),
            1 => format!("needed by {name}"),
            n => format!("needed by {n} runs, the newest of them {name}"),
        }
    }
}

/// Until when runs need what they need, and the strongest lock that they asked for.
pub(super) fn demand(history: &History, runs: &[u32]) -> (Timestamp, Option<LockMode>) {
    let facts = runs.iter().filter_map(|&run| history.run(run)?.facts.as_ref().ok());
    let (mut until, mut mode) = (Timestamp::UNIX_EPOCH, None);
    for facts in facts {
        until = until.max(facts.retention.expires);
        mode = stronger(mode, facts.retention.mode);
    }
    (until, mode)
}

/// Whether an object is one that Keephold writes, needed or not.
pub(super) fn is_known_form(key: &ObjectKey) -> bool {
    let text = key.as_str();
    key.as_pack().is_some()
        || key.as_segment().is_some()
        || *key == ObjectKey::vault_config()
        || text.parse::<RecordKey>().is_ok()
        // The verifier's own, and the prober's.
        || text.starts_with("reports/")
        || text.starts_with("canary/")
}

/// Longest object of each kind in bytes, as the format allows it.
pub(super) fn len_max(kind: &Kind) -> u64 {
    match kind {
        Kind::Config => CONFIG_LEN_MAX,
        Kind::Record => RECORD_LEN_MAX,
        Kind::Segment => SEGMENT_LEN_MAX.into(),
        Kind::Pack(..) => PACK_LEN_MAX.into(),
    }
}
