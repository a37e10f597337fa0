//! Packs and index segments that no unexpired run needs: whether expired runs left them, a run may be under way, runs were
//! lost, or someone fills the vault with garbage.

use anyhow::Result;
use futures::StreamExt;
use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::ids::{PackId, SegmentId};
use keephold_vault::limits::{SEGMENT_LEN_MAX, SEGMENT_PACKS, SEGMENT_SHARE};
use keephold_vault::prune::GRACE;
use keephold_vault::seal::{BEGINNING_LEN, Header};
use keephold_vault::store::{ObjectKey, StoreError, Version};

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::History;
use super::needed::{Pack, Shards};
use crate::report::catalogue as code;
use crate::report::model::{Finding, Left, Severity, Unneeded};
use crate::report::words;

/// From such a part of what is needed on, more than a warning is due.
const WEIGHTY_SHARE: u64 = 10;
/// Objects that nothing names and that are looked into: if there are more, they are told of anyhow.
const LOOKS: u32 = 1000;
/// Objects that wait to be looked into together.
const TOGETHER: usize = 256;
/// Keys that a finding names.
const EXAMPLES: usize = 3;

/// Takes in what nothing needs.
pub(super) struct Leftovers<'a> {
    context: &'a Context<'a>,
    history: &'a History,
    counts: Unneeded,
    waiting: Vec<Waiting>,
    looks: u32,
    unexplained: Unexplained,
    /// Why nothing can be said.
    failed: Option<String>,
}

/// What a finding names.
#[derive(Debug, Default)]
struct Unexplained {
    examples: Vec<String>,
    stored: Option<(Timestamp, Timestamp)>,
}

/// An object that is to be looked into.
#[derive(Debug)]
struct Waiting {
    key: ObjectKey,
    /// A segment's name, and whether an expired run's record names it.
    segment: Option<(SegmentId, bool)>,
    /// The version that was stored first: what came later was put over it.
    first: Version,
    /// In all versions.
    bytes: u64,
}

/// What was seen in one.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It is one of this vault; a segment describes these packs.
    Ours(Vec<PackId>),
    Foreign,
}

impl<'a> Leftovers<'a> {
    pub(super) fn new(context: &'a Context<'a>, history: &'a History) -> Self {
        // Of jobs that aren't looked at it isn't known what they need.
        let failed = (!context.settings.only.is_empty()).then(|| "only some jobs".to_owned());
        Self {
            context,
            history,
            counts: Unneeded::default(),
            waiting: Vec::new(),
            looks: LOOKS,
            unexplained: Unexplained::default(),
            failed,
        }
    }

    /// Takes in an index segment that no unexpired run names.
    pub(super) fn segment(&mut self, key: ObjectKey, id: SegmentId, versions: &[Version]) {
        let named = self.history.expired_segments.contains(&id);
        self.waiting.extend(Waiting::new(key, Some((id, named)), versions));
    }

    /// Takes in a pack that no unexpired run needs; `described` says whether a segment that any run named describes it.
    pub(super) fn pack(&mut self, key: ObjectKey, versions: &[Version], described: bool) {
        let Some(waiting) = Waiting::new(key, None, versions) else { return };
        if described {
            add(&mut self.counts.expired, &waiting);
        } else {
            self.waiting.push(waiting);
        }
    }

    /// Looks into those that wait, if they are many.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(super) async fn look_if_many(&mut self, packs: &mut Shards) -> Result<()> {
        if self.waiting.len() < TOGETHER { Ok(()) } else { self.look(packs).await }
    }

    /// Looks into those that wait; adds the packs of segments that expired runs named to `packs`.
    ///
    /// # Errors
    /// A signal to stop, or a scratch file that can't be written.
    pub(super) async fn look(&mut self, packs: &mut Shards) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if self.failed.is_some() {
            return Ok(());
        }
        let mut due = Vec::new();
        for waiting in waiting {
            let named = waiting.segment.is_some_and(|(_, named)| named);
            if named || self.looks > 0 {
                self.looks -= u32::from(!named);
                due.push(waiting);
            } else {
                self.count(&waiting, &Seen::Ours(Vec::new()));
            }
        }
        let context = self.context;
        let mut looks = futures::stream::iter(due)
            .map(|waiting| async move {
                let seen = see(context, &waiting).await;
                (waiting, seen)
            })
            .buffer_unordered(context.settings.concurrency);
        while let Some((waiting, seen)) = context.stop.unless_set(looks.next()).await? {
            match seen {
                Ok(seen) => {
                    self.count(&waiting, &seen);
                    if let (Seen::Ours(ids), Some((_, true))) = (seen, waiting.segment) {
                        ids.into_iter().try_for_each(|id| packs.push(Pack::unneeded(id)))?;
                    }
                }
                Err(error) => {
                    self.failed = Some(told(&error));
                    break;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, waiting: &Waiting, seen: &Seen) {
        let named = waiting.segment.is_some_and(|(_, named)| named);
        let young = self.context.now.duration_since(waiting.first.modified) < GRACE;
        let place = match seen {
            _ if named => &mut self.counts.expired,
            Seen::Foreign => &mut self.counts.foreign,
            Seen::Ours(_) if young => &mut self.counts.recent,
            Seen::Ours(_) => &mut self.counts.unfinished,
        };
        add(place, waiting);
        if !named && (*seen == Seen::Foreign || !young) {
            self.unexplained.add(waiting);
        }
    }

    /// The numbers; adds what nothing explains. `needed` are the packs that unexpired runs need, and their bytes;
    /// `unread` segments of theirs could not be read.
    pub(super) fn tell(
        self,
        needed: (u64, u64),
        unread: u64,
        findings: &mut Findings,
    ) -> Option<Unneeded> {
        if let Some(why) = &self.failed {
            tracing::info!("what no run needs was not told apart: {why}");
            return None;
        }
        if let Some((severity, summary)) = judge(&self.counts, needed) {
            let unreadable = self.history.runs.iter().filter(|run| run.facts.is_err()).count();
            let detail = self.unexplained.detail(&self.counts, unread, unreadable as u64);
            let finding = Finding {
                severity,
                detail: Some(detail),
                ..code::UNEXPLAINED.about(self.context.vault.store().url(), summary)
            };
            findings.push(&code::UNEXPLAINED, finding);
        }
        Some(self.counts)
    }
}

impl Waiting {
    /// Nothing for a key that has only delete markers.
    fn new(
        key: ObjectKey,
        segment: Option<(SegmentId, bool)>,
        versions: &[Version],
    ) -> Option<Self> {
        let mut data = versions.iter().filter(|version| !version.delete_marker);
        let bytes = data.clone().map(|version| version.size).sum();
        Some(Self { key, segment, first: data.next_back()?.clone(), bytes })
    }
}

fn add(left: &mut Left, waiting: &Waiting) {
    let objects = if waiting.segment.is_some() { &mut left.segments } else { &mut left.packs };
    *objects += 1;
    left.bytes += waiting.bytes;
}

/// Whether it is an object of this vault. A segment is opened, which nobody can forge who lacks the vault's secret; of a
/// pack only the beginning is read.
async fn see(context: &Context<'_>, waiting: &Waiting) -> Result<Seen, Error> {
    let (store, vault) = (context.vault.store(), context.vault.id());
    let (first, version) = (&waiting.first, waiting.first.version.as_ref());
    if first.size < BEGINNING_LEN as u64 {
        return Ok(Seen::Foreign);
    }
    let begins = match store.get_range(&waiting.key, version, 0..BEGINNING_LEN as u64).await {
        Ok(bytes) if waiting.segment.is_some() => Header::begins_segment(vault, &bytes),
        Ok(bytes) => Header::begins_pack(vault, &bytes),
        // Somebody took it away in the meantime: `keephold prune`, for example.
        Err(StoreError::NotFound { .. }) => return Ok(Seen::Ours(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let Some((id, _)) = waiting.segment.filter(|_| begins) else {
        return Ok(if begins { Seen::Ours(Vec::new()) } else { Seen::Foreign });
    };
    match packs_of(context, id, &waiting.key).await {
        Ok(packs) => Ok(Seen::Ours(packs)),
        Err(error) if is_about_object(&error) => Ok(Seen::Foreign),
        Err(error) => Err(error),
    }
}

async fn packs_of(
    context: &Context<'_>,
    id: SegmentId,
    key: &ObjectKey,
) -> Result<Vec<PackId>, Error> {
    let is_true = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
    let bytes = context.vault.read_true(key, None, SEGMENT_LEN_MAX.into(), &is_true).await?;
    let (vault, opener) = (context.vault.clone(), context.opener.clone());
    super::needed::blocking(move || {
        let opened = vault.open_segment(&id, &bytes, &opener)?;
        Ok(opened.pack_rows(&bytes)?.into_iter().map(|row| row.id).collect())
    })
    .await
}

/// What to say of what nothing explains, if it is more than lost runs leave.
fn judge(counts: &Unneeded, (packs, bytes): (u64, u64)) -> Option<(Severity, String)> {
    let (foreign, unfinished) = (&counts.foreign, &counts.unfinished);
    let mut all = *foreign;
    if unfinished.packs > (SEGMENT_PACKS as u64).max(packs / SEGMENT_SHARE) {
        all.packs += unfinished.packs;
        all.segments += unfinished.segments;
        all.bytes += unfinished.bytes;
    }
    if all.packs + all.segments == 0 {
        return None;
    }
    let weighty = all.bytes > bytes / WEIGHTY_SHARE;
    let counted = [(all.packs, "pack"), (all.segments, "index segment")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| words::counted(number, noun));
    let summary = format!(
        "No run needs {} ({}), and neither expired nor interrupted runs explain them.",
        counted.collect::<Vec<_>>().join(" and "),
        words::bytes(all.bytes)
    );
    Some((if weighty { Severity::High } else { code::UNEXPLAINED.severity }, summary))
}

impl Unexplained {
    fn add(&mut self, waiting: &Waiting) {
        let at = waiting.first.modified;
        let (from, until) = self.stored.unwrap_or((at, at));
        self.stored = Some((from.min(at), until.max(at)));
        if self.examples.len() < EXAMPLES {
            self.examples.push(waiting.key.to_string());
        }
    }

    fn detail(&self, counts: &Unneeded, unread: u64, unreadable: u64) -> String {
        let said = |left: &Left, what: &str| {
            let objects = left.packs + left.segments;
            (objects > 0).then(|| format!("{} {what}", words::counted(objects, "object")))
        };
        let mut parts = Vec::new();
        parts.extend(said(&counts.foreign, "not of this vault"));
        parts.extend(said(
            &counts.unfinished,
            "of this vault's form, named by no record and older than a week",
        ));
        if let Some((from, until)) = self.stored {
            let (from, until) = (words::minute(from), words::minute(until));
            parts.push(format!("stored from {from} to {until}"));
        }
        if unread + unreadable > 0 {
            parts.push(format!(
                "{} and {} that can't be read may name some of them",
                words::counted(unreadable, "record"),
                words::counted(unread, "index segment")
            ));
        }
        parts.push(format!("for example {}", self.examples.join(", ")));
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lost_runs_leave_is_no_finding_and_more_is_told_by_its_share() {
        let left = |packs, segments, bytes| Left { packs, segments, bytes };
        let unfinished =
            |packs| Unneeded { unfinished: left(packs, 1, packs * 1000), ..Unneeded::default() };
        let severity =
            |counts: &Unneeded, needed| judge(counts, needed).map(|(severity, _)| severity);
        assert_eq!(severity(&unfinished(128), (10, 10_000)), None);
        assert_eq!(severity(&unfinished(129), (10, 10_000)), Some(Severity::High));
        assert_eq!(severity(&unfinished(129), (10, 10_000_000)), Some(Severity::Warning));
        assert_eq!(severity(&unfinished(1000), (8000, 8_000_000)), None, "an eighth");
        let foreign = Unneeded { foreign: left(0, 1, 5), ..Unneeded::default() };
        assert_eq!(severity(&foreign, (10, 10_000)), Some(Severity::Warning));
        let explained = Unneeded {
            expired: left(9000, 90, 1 << 40),
            recent: left(9000, 90, 1 << 40),
            ..Unneeded::default()
        };
        assert_eq!(severity(&explained, (10, 10_000)), None);
    }
}
