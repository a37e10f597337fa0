//! One object to copy, and what its name says of its bytes.

use crate::ids::{Fingerprint, PackId, SegmentId};
use crate::limits::{CONFIG_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX, SEGMENT_LEN_MAX};
use crate::pack::check_name;
use crate::record::RecordKey;
use crate::replicate::sides::Group;
use crate::replicate::tally::Kind;
use crate::store::{ObjectKey, Version};

/// An object of the source.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) named: Named,
    /// Its versions with data, oldest first: what came later was put over it.
    pub(super) versions: Vec<Version>,
}

/// What a name is the hash of.
#[derive(Debug, Clone)]
pub(super) enum Named {
    Config(Fingerprint),
    Record(RecordKey),
    Segment(SegmentId),
    Pack(PackId),
}

impl Object {
    /// An object of the vault with this fingerprint; `None` if it isn't named as any is, or only delete markers are there.
    pub(super) fn new(group: Group, fingerprint: &Fingerprint) -> Option<Self> {
        let Group { key, versions } = group;
        let named = if key == ObjectKey::vault_config() {
            Named::Config(*fingerprint)
        } else if let Some(id) = key.as_pack() {
            Named::Pack(id)
        } else if let Some(id) = key.as_segment() {
            Named::Segment(id)
        } else {
            Named::Record(key.as_str().parse().ok()?)
        };
        (!versions.is_empty()).then_some(Self { key, named, versions })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.named {
            Named::Config(_) => Kind::Config,
            Named::Record(_) => Kind::Record,
            Named::Segment(_) => Kind::Segment,
            Named::Pack(_) => Kind::Pack,
        }
    }

    /// The version that is this object in the copy: the oldest with data, of the same size. What else lies there was
    /// put over or before it.
    pub(super) fn in_copy<'a>(&self, copy: &'a Option<Group>) -> Option<&'a Version> {
        let size = self.versions.first()?.size;
        copy.as_ref()?.versions.iter().find(|version| version.size == size)
    }

    /// Number of a record in its job.
    pub(super) fn sequence(&self) -> (u64, &ObjectKey) {
        match &self.named {
            Named::Record(key) => (key.seq, &self.key),
            _ => (0, &self.key),
        }
    }
}

impl Named {
    /// Longest object of its kind, in bytes.
    pub(super) fn len_max(&self) -> u64 {
        match self {
            Self::Config(_) => CONFIG_LEN_MAX,
            Self::Record(_) => RECORD_LEN_MAX,
            Self::Segment(_) => SEGMENT_LEN_MAX.into(),
            Self::Pack(_) => PACK_LEN_MAX.into(),
        }
    }

    /// Whether the name is that of `bytes`.
    pub(super) fn is_hash_of(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Pack(id) => check_name(id, bytes),
            Self::Segment(id) => blake3::hash(bytes).as_bytes() == id.as_bytes(),
            Self::Config(fingerprint) => blake3::hash(bytes).as_bytes() == fingerprint.as_bytes(),
            Self::Record(key) => key.names(bytes),
        }
    }
}
