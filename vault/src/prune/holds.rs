//! What records hold, and which records may go themselves.

use std::collections::BTreeMap;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::error::Error;
use crate::ids::{PackId, SegmentId};
use crate::index::{OpenSegment, PackRow};
use crate::keys::{MetadataKey, PrunerKey};
use crate::limits::SEGMENT_LEN_MAX;
use crate::prune::Settings;
use crate::prune::present::{Present, describes};
use crate::prune::report::{ConcernKind, Report};
use crate::read::{FoundRecord, RecordScope, Vault, concerns_object};
use crate::record::{Record, RecordKey, SealedRecord, SegmentRef};
use crate::sign::AllowedSigners;
use crate::store::{ObjectKey, Prune, VersionId};

/// Records that are read at once.
const READS: usize = 8;

/// A pack's name, shortened: memory is eight bytes for each pack. Two packs of one short name would only both be kept.
pub(super) type ShortName = u64;

pub(super) fn short(id: &PackId) -> ShortName {
    let (first, _) = id.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_le_bytes(*first)
}

/// What is needed, and what may go.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Sorted.
    packs: Vec<ShortName>,
    segments: BTreeMap<SegmentId, Needed>,
    /// The records of each job that may go, from the oldest on; the first one that can't stops the others.
    pub(super) may_go: Vec<Vec<FoundRecord>>,
    /// All others.
    pub(super) kept: Vec<FoundRecord>,
}

/// A segment that is needed.
#[derive(Debug)]
struct Needed {
    /// With all packs that any of them uses.
    named: SegmentRef,
    /// One of the records that name it.
    by: RecordKey,
}

/// What became of reading a record.
enum Read {
    Sound(Box<Record>),
    /// Sealed with the vault's key, but not signed by an allowed signer.
    NotBelieved(Box<Record>, Error),
    /// Neither signed by one, nor can it be opened.
    Worthless(Error),
    Unreadable(Error),
}

/// What a prune is given.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) store: &'a dyn Prune,
    pub(super) vault: &'a Vault,
    pub(super) key: &'a PrunerKey,
    pub(super) signers: &'a AllowedSigners,
    pub(super) settings: &'a Settings,
}

/// A record as the choice of those that may go sees it.
struct Candidate {
    found: FoundRecord,
    may_go: bool,
    /// For how long its run asked to keep evidence.
    evidence: Option<SignedDuration>,
}

impl Holds {
    /// Reads all records, and the index segments that are needed.
    pub(super) async fn gather(given: Given<'_>, report: &mut Report) -> Result<Self, Error> {
        let mut jobs: BTreeMap<(String, String), Vec<FoundRecord>> = BTreeMap::new();
        for found in given.vault.find_records(&RecordScope::default()).await? {
            let job = (found.key.host.clone(), found.key.job.clone());
            jobs.entry(job).or_default().push(found);
        }
        // Listed after the records: whatever those need was stored before.
        let mut present = Present::list(given.store).await?;
        let mut holds = Self::default();
        for mut records in jobs.into_values() {
            records.sort_by_key(|found| std::cmp::Reverse((found.key.seq, found.key.started)));
            holds.job(given, records, &mut present, report).await?;
        }
        holds.read_segments(given, present.into_described(), report).await?;
        Ok(holds)
    }

    /// Takes the records of one job into account, the newest first.
    async fn job(
        &mut self,
        given: Given<'_>,
        records: Vec<FoundRecord>,
        present: &mut Present,
        report: &mut Report,
    ) -> Result<(), Error> {
        let (mut good, mut doubtful) = (0, 0);
        let Given { vault, key, settings, .. } = given;
        let newest = settings.newest.max(1);
        let mut candidates = Vec::with_capacity(records.len());
        let mut read = futures::stream::iter(records)
            .map(|found| async move { (read_one(given, &found).await, found) })
            .buffered(READS);
        while let Some((read, found)) = read.next().await {
            report.records += 1;
            let read = read?;
            if settings.disregard.contains(&found.key) {
                let why = "it holds nothing, as was asked for";
                report.concern(ConcernKind::Disregarded, &found.key, why);
                candidates.push(Candidate { found, may_go: false, evidence: None });
                continue;
            }
            // What isn't believed is counted by itself: it must not push out what is.
            let (record, believed) = match read {
                Read::Sound(record) => (record, true),
                Read::NotBelieved(record, error) => {
                    report.concern(ConcernKind::NotBelieved, &found.key, error);
                    (record, false)
                }
                Read::Worthless(error) => {
                    report.concern(ConcernKind::Worthless, &found.key, error);
                    candidates.push(Candidate { found, may_go: false, evidence: None });
                    continue;
                }
                Read::Unreadable(error) => {
                    report.concern(ConcernKind::Unreadable, &found.key, error);
                    candidates.push(Candidate { found, may_go: false, evidence: None });
                    continue;
                }
            };
            let retention = &record.retention;
            let unexpired = retention.expires > report.at;
            let mut among_newest = false;
            if let Some(snapshot) = &record.snapshot {
                let count = if believed { &mut good } else { &mut doubtful };
                let needs = &snapshot.segments;
                // One that lost something, or of which a copy never got it all, can't stand for the last good one.
                if *count < newest && present.is_whole(vault, &key.metadata, needs).await? {
                    *count += 1;
                    among_newest = true;
                }
                if unexpired || among_newest {
                    self.hold(&snapshot.segments, &found.key);
                }
            }
            report.unexpired += u64::from(unexpired);
            report.newest += u64::from(!unexpired && among_newest);
            let may_go =
                believed && !unexpired && !among_newest && retention.evidence_until <= report.at;
            let evidence = Some(retention.evidence_until.duration_since(record.started));
            candidates.push(Candidate { found, may_go, evidence });
        }
        candidates.reverse();
        self.choose(candidates, vault.config().created, report.at);
        Ok(())
    }

    /// Which of a job's records may go: the oldest ones without a gap, never the last. The verifier takes records
    /// that are missing at the beginning for removed by force as long as the vault is younger than the evidence period
    /// of the first one that it finds, so that one must be such that it knows better.
    fn choose(&mut self, mut candidates: Vec<Candidate>, created: Timestamp, now: Timestamp) {
        let last = candidates.len().saturating_sub(1);
        let free = candidates.iter().take(last).take_while(|c| c.may_go).count();
        let explained = |first: &Candidate| {
            first.evidence.is_none_or(|period| now.duration_since(created) >= period)
        };
        let gone = (1..=free).rev().find(|&n| candidates.get(n).is_some_and(explained));
        let stay = candidates.split_off(gone.unwrap_or(0));
        self.may_go.push(candidates.into_iter().map(|c| c.found).collect());
        self.kept.extend(stay.into_iter().map(|c| c.found));
    }

    fn hold(&mut self, segments: &[SegmentRef], by: &RecordKey) {
        for segment in segments {
            let first = || Needed { named: segment.clone(), by: by.clone() };
            self.segments.entry(segment.id).or_insert_with(first).named.used.union(&segment.used);
        }
    }

    /// Finds out which packs are needed.
    async fn read_segments(
        &mut self,
        given: Given<'_>,
        mut described: BTreeMap<SegmentId, Vec<ShortName>>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut packs = Vec::new();
        for (id, needed) in &self.segments {
            let read = match described.remove(id) {
                Some(read) => Ok(read),
                None => describes(given.vault, &given.key.metadata, &needed.named).await,
            };
            match read {
                Ok(read) => {
                    for n in needed.named.used.iter() {
                        match read.get(n as usize) {
                            Some(pack) => packs.push(*pack),
                            None => {
                                let why = format!("index segment {id} has no pack {n}");
                                report.concern(ConcernKind::SegmentUnreadable, &needed.by, why);
                                break;
                            }
                        }
                    }
                }
                Err(error) if concerns_object(&error) => {
                    report.concern(ConcernKind::SegmentUnreadable, &needed.by, error);
                }
                Err(error) => return Err(error),
            }
        }
        packs.sort_unstable();
        packs.dedup();
        self.packs = packs;
        Ok(())
    }

    /// Whether a pack is needed.
    pub(super) fn pack(&self, id: &PackId) -> bool {
        self.packs.binary_search(&short(id)).is_ok()
    }

    /// Whether an index segment is needed.
    pub(super) fn segment(&self, id: &SegmentId) -> bool {
        self.segments.contains_key(id)
    }
}

async fn read_one(given: Given<'_>, found: &FoundRecord) -> Result<Read, Error> {
    let Given { vault, key, signers, .. } = given;
    let sealed = match vault.read_record(&found.key).await {
        Ok(sealed) => sealed,
        Err(error) if concerns_object(&error) => return Ok(Read::Unreadable(error)),
        Err(error) => return Err(error),
    };
    let believed = sealed.check_signature(signers, Some(found.modified));
    Ok(match (open(vault, key, &sealed), believed) {
        (Ok(record), Ok(_)) => Read::Sound(record),
        (Ok(record), Err(error)) => Read::NotBelieved(record, error),
        // A newer program may know better than this one.
        (Err(error @ Error::NewerFormat { .. }), _) | (Err(error), Ok(_)) => {
            Read::Unreadable(error)
        }
        (Err(error), Err(_)) => Read::Worthless(error),
    })
}

fn open(vault: &Vault, key: &PrunerKey, sealed: &SealedRecord) -> Result<Box<Record>, Error> {
    let record = sealed.open(vault.id(), &key.metadata)?;
    if record.vault == vault.fingerprint() {
        return Ok(Box::new(record));
    }
    Err(Error::OtherVault {
        what: format!("record {}", sealed.key),
        found: format!("with fingerprint {}", record.vault),
        expected: vault.fingerprint().to_string(),
    })
}

/// What an index segment says of its packs.
pub(super) async fn read_segment(
    vault: &Vault,
    key: &MetadataKey,
    id: &SegmentId,
    version: Option<&VersionId>,
) -> Result<Vec<PackRow>, Error> {
    let named = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
    let max = u64::from(SEGMENT_LEN_MAX);
    let bytes = vault.read_true(&ObjectKey::segment(id), version, max, &named).await?;
    OpenSegment::open_whole(id, vault.id(), key, &bytes)?.pack_rows(&bytes)
}
