//! Which packs unexpired runs need, as their index segments say.
//!
//! A vault of 100 TB has millions of packs, so what is known of them is split by the first byte of their names, and put
//! into scratch files beyond a bound. One part at a time is then held against the listing, which comes in the same order.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use keephold_vault::Error;
use keephold_vault::ids::{PackId, SegmentId};
use keephold_vault::index::{BlobRow, OpenSegment};
use keephold_vault::keys::Salt;
use keephold_vault::limits::SEGMENT_LEN_MAX;
use keephold_vault::record::PackSet;
use keephold_vault::store::{ObjectKey, StoreError, VersionId};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::History;
use crate::report::catalogue as code;
use crate::report::model::Level;

/// Packs that are held in memory before they go to scratch files: some 10 MB.
const HELD_MAX: usize = 1 << 16;
/// Parts that packs are split into, by the first byte of their names.
const SHARDS: usize = 256;

/// What unexpired runs need.
#[derive(Debug)]
pub(super) struct Needed {
    pub(super) segments: Vec<Segment>,
    pub(super) packs: Shards,
    /// Blobs in them, as the segments say.
    pub(super) blobs: u64,
    /// Numbers of the segments that can't be read.
    unread_segments: Vec<usize>,
    /// Segments that can't be read, so that it isn't known which packs their runs need.
    pub(super) unread: u64,
}

/// A segment, and who needs which of its packs.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) size: u64,
    pub(super) version: Option<VersionId>,
    salt: Salt,
    /// Numbers of runs, and the packs that each needs.
    users: Vec<(u32, PackSet)>,
}

impl Segment {
    /// The numbers of the runs that need it, or one of its packs.
    pub(super) fn runs(&self, pack: Option<u32>) -> impl Iterator<Item = u32> + '_ {
        self.users
            .iter()
            .filter(move |(_, used)| pack.is_none_or(|n| used.contains(n)))
            .map(|(run, _)| *run)
    }
}

/// A pack that is needed, or that a segment is known to describe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pack {
    pub(super) id: PackId,
    pub(super) size: u32,
    pub(super) version: Option<VersionId>,
    /// Where it is described, as far as it is needed; nothing if no unexpired run needs it.
    pub(super) places: Vec<Place>,
}

impl Pack {
    /// One that no unexpired run needs.
    pub(super) fn unneeded(id: PackId) -> Self {
        Self { id, size: 0, version: None, places: Vec::new() }
    }

    /// Whether an unexpired run needs it.
    pub(super) fn is_needed(&self) -> bool {
        !self.places.is_empty()
    }
}

/// What a segment says of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Number of the segment in [`Needed::segments`].
    pub(super) segment: u32,
    /// Number of the pack in the segment.
    pub(super) number: u32,
    /// What it says of the pack's blobs.
    pub(super) claims: Claims,
}

/// A sum over what is said of a pack's blobs, whatever their order: equal sums mean that the same is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) blobs: u64,
    sum: u128,
}

impl Claims {
    /// Adds what is said of one blob.
    pub(super) fn add(&mut self, row: &BlobRow) {
        let place = &row.place;
        let mut hasher = blake3::Hasher::new();
        hasher.update(row.id.as_bytes());
        for number in [place.frame_offset, place.frame_stored, place.offset, place.length] {
            hasher.update(&number.to_le_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(bytes));
        self.blobs += 1;
    }
}

impl Needed {
    /// Reads the index segments of all unexpired runs.
    ///
    /// # Errors
    /// What concerns the target or this host as a whole. A segment that can't be read is a finding.
    pub(super) async fn gather(
        context: &Context<'_>,
        history: &History,
        findings: &mut Findings,
    ) -> Result<Self> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut numbers: HashMap<SegmentId, usize> = HashMap::new();
        for (run, named) in &history.segments {
            for segment in named {
                let number = *numbers.entry(segment.id).or_insert_with(|| {
                    segments.push(Segment {
                        id: segment.id,
                        size: segment.size,
                        version: segment.version.clone(),
                        salt: segment.salt,
                        users: Vec::new(),
                    });
                    segments.len() - 1
                });
                segments[number].users.push((*run, segment.used.clone()));
            }
        }
        let mut needed = Self {
            segments,
            packs: Shards::new(&context.settings.scratch),
            blobs: 0,
            unread: 0,
            unread_segments: Vec::new(),
        };
        for number in 0..needed.segments.len() {
            context.stop.check()?;
            context.progress.at(format!(
                "reading the index: segment {} of {}",
                number + 1,
                needed.segments.len()
            ));
            needed.read_segment(context, number, findings).await?;
        }
        Ok(needed)
    }

    /// The numbers of the runs of which it isn't known what they need.
    pub(super) fn unread_runs(&self) -> impl Iterator<Item = u32> + '_ {
        self.unread_segments.iter().flat_map(|&number| self.segments[number].runs(None))
    }

    async fn read_segment(
        &mut self,
        context: &Context<'_>,
        number: usize,
        findings: &mut Findings,
    ) -> Result<()> {
        let packs = match self.packs_of(context, number).await {
            Ok(packs) => packs,
            Err(error) if is_about_object(&error) => {
                self.unread += 1;
                self.unread_segments.push(number);
                // Presence says so itself.
                if !matches!(error, Error::Store(StoreError::NotFound { .. })) {
                    let key = ObjectKey::segment(&self.segments[number].id);
                    let runs = self.segments[number].runs(None).count();
                    let summary = format!(
                        "The index segment can't be read, so it isn't known which packs {} {}.",
                        crate::report::words::counted(runs as u64, "run"),
                        if runs == 1 { "needs" } else { "need" }
                    );
                    findings.add(&code::INDEX_CORRUPT, key.as_str(), summary, Some(told(&error)));
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for pack in packs {
            self.blobs += pack.places.iter().map(|place| place.claims.blobs).sum::<u64>();
            self.packs.push(pack)?;
        }
        Ok(())
    }

    /// The packs of a segment, with their places if any run needs them.
    async fn packs_of(&self, context: &Context<'_>, number: usize) -> Result<Vec<Pack>, Error> {
        let segment = &self.segments[number];
        let (bytes, opened) = open(context, segment).await?;
        let users: Vec<PackSet> = segment.users.iter().map(|(_, used)| used.clone()).collect();
        let sums = context.settings.depth.holds(Level::IntegrityDeep);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        blocking(move || {
            let mut claims = vec![Claims::default(); opened.packs() as usize];
            if sums {
                for row in opened.blob_rows(&bytes) {
                    let row = row?;
                    if let Some(claims) = claims.get_mut(row.pack as usize) {
                        claims.add(&row);
                    }
                }
            }
            let mut packs = Vec::new();
            for (at, row) in opened.pack_rows(&bytes)?.into_iter().enumerate() {
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                let needed = users.iter().any(|used| used.contains(at));
                let claims = claims.get(at as usize).copied().unwrap_or_default();
                let place = needed.then_some(Place { segment: number, number: at, claims });
                packs.push(Pack {
                    id: row.id,
                    size: row.size,
                    version: row.version,
                    places: place.into_iter().collect(),
                });
            }
            Ok(packs)
        })
        .await
    }

    /// What a segment says of the blobs of one of its packs.
    ///
    /// # Errors
    /// As for every read of a segment.
    pub(super) async fn blobs_of(
        &self,
        context: &Context<'_>,
        place: &Place,
    ) -> Result<Vec<BlobRow>, Error> {
        let (bytes, opened) = open(context, &self.segments[place.segment as usize]).await?;
        let number = place.number;
        blocking(move || {
            let mine =
                |row: &Result<BlobRow, Error>| row.as_ref().map_or(true, |r| r.pack == number);
            opened.blob_rows(&bytes).filter(mine).collect()
        })
        .await
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Local {
        what: "a thread of the verifier".into(),
        source: std::io::Error::other(e),
    })?
}

/// Reads and opens a segment by itself, with the identity and the envelope in its header.
async fn open(context: &Context<'_>, segment: &Segment) -> Result<(Bytes, OpenSegment), Error> {
    let id = segment.id;
    let is_true = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
    let max = u64::from(SEGMENT_LEN_MAX);
    let key = ObjectKey::segment(&id);
    let bytes = context.vault.read_true(&key, segment.version.as_ref(), max, &is_true).await?;
    let (opener, vault, salt, size) =
        (context.opener.clone(), context.vault.id(), segment.salt, segment.size);
    blocking(move || {
        let header = OpenSegment::header(&id, &bytes)?;
        let damaged =
            |why: &str| Error::Damaged { what: format!("index segment {id}"), why: why.into() };
        if header.salt != salt || bytes.len() as u64 != size {
            return Err(damaged("its salt or size is not the one that the runs' records name"));
        }
        let secret = opener.keys(&header.envelope, &format!("index segment {id}"))?.secret;
        let opened = OpenSegment::open_whole(&id, vault, &secret, &bytes)?;
        Ok((bytes, opened))
    })
    .await
}

/// Packs, split by the first byte of their names.
#[derive(Debug)]
pub(super) struct Shards {
    scratch: std::path::PathBuf,
    memory: Vec<Vec<Pack>>,
    held: usize,
    held_max: usize,
    files: Option<TempDir>,
}

impl Shards {
    fn new(scratch: &Path) -> Self {
        let memory = (0..SHARDS).map(|_| Vec::new()).collect();
        Self { scratch: scratch.to_owned(), memory, held: 0, held_max: HELD_MAX, files: None }
    }

    pub(super) fn push(&mut self, pack: Pack) -> Result<()> {
        self.memory[usize::from(pack.id.as_bytes()[0])].push(pack);
        self.held += 1;
        if self.held >= self.held_max { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        let folder = match &self.files {
            Some(folder) => folder.path().to_owned(),
            None => {
                let made =
                    tempfile::Builder::new().prefix("keephold-verify-").tempdir_in(&self.scratch);
                let made = made.with_context(|| {
                    format!("no scratch folder can be made in {}", self.scratch.display())
                })?;
                self.files.insert(made).path().to_owned()
            }
        };
        for (shard, packs) in
            self.memory.iter_mut().enumerate().filter(|(_, packs)| !packs.is_empty())
        {
            let path = folder.join(format!("{shard:02x}"));
            let failed = || format!("{} can't be written", path.display());
            let file =
                OpenOptions::new().create(true).append(true).open(&path).with_context(failed)?;
            let mut file = BufWriter::new(file);
            for pack in packs.drain(..) {
                let bytes = postcard::to_stdvec(&pack)?;
                file.write_all(&u32::try_from(bytes.len())?.to_le_bytes()).with_context(failed)?;
                file.write_all(&bytes).with_context(failed)?;
            }
            file.flush().with_context(failed)?;
        }
        self.held = 0;
        Ok(())
    }

    /// Takes the packs whose names begin with a byte. What several segments say of one comes together.
    pub(super) fn take(&mut self, shard: u8) -> Result<BTreeMap<PackId, Pack>> {
        let mut packs: BTreeMap<PackId, Pack> = BTreeMap::new();
        let mut add = |pack: Pack| match packs.get_mut(&pack.id) {
            Some(known) if known.is_needed() => {
                known.version = known.version.take().or(pack.version);
                known.places.extend(pack.places);
            }
            _ => {
                packs.insert(pack.id, pack);
            }
        };
        if let Some(folder) = &self.files {
            let path = folder.path().join(format!("{shard:02x}"));
            if path.exists() {
                let failed = || format!("{} can't be read", path.display());
                let mut file = BufReader::new(File::open(&path).with_context(failed)?);
                let mut length = [0; 4];
                while file.read(&mut length[..1]).with_context(failed)? == 1 {
                    file.read_exact(&mut length[1..]).with_context(failed)?;
                    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
                    file.read_exact(&mut bytes).with_context(failed)?;
                    add(postcard::from_bytes(&bytes)?);
                }
            }
        }
        std::mem::take(&mut self.memory[usize::from(shard)]).into_iter().for_each(add);
        Ok(packs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_come_back_whether_they_were_spilled_or_not() {
        let dir = tempfile::tempdir().unwrap();
        for held_max in [1, 7, 1000] {
            let mut shards = Shards { held_max, ..Shards::new(dir.path()) };
            for n in 0..100_u8 {
                for segment in 0..2 {
                    let place = Place { segment, number: n.into(), claims: Claims::default() };
                    let id = PackId::from_bytes([n % 5; 32]);
                    let version = (n > 50).then(|| VersionId(n.to_string()));
                    shards.push(Pack { id, size: 9, version, places: vec![place] }).unwrap();
                }
            }
            let packs: Vec<_> =
                (0..=255).flat_map(|shard| shards.take(shard).unwrap().into_values()).collect();
            assert_eq!(packs.len(), 5, "{held_max}");
            assert!(packs.iter().all(|pack| pack.places.len() == 40 && pack.version.is_some()));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
