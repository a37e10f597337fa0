//! What a restored tree should be, streamed from the snapshot while the tree is walked.

use keephold_files::compare::{DataCheck, Expected, ExpectedData, HashCheck};
use keephold_vault::Error;
use keephold_vault::content::{Content, Extent, Extents};
use keephold_vault::ids::{BlobId, ContentHash};
use keephold_vault::keys::BlobNamer;
use keephold_vault::pack::BlobKind;
use keephold_vault::read::{EntryStream, Selection, SnapshotReader};
use keephold_vault::tree::EntryKind;
use tokio::runtime::Handle;

/// The entries of a snapshot in order, for a thread that may block.
pub(super) struct Entries {
    runtime: Handle,
    reader: SnapshotReader,
    entries: EntryStream,
    namer: BlobNamer,
    /// What ended it before its end.
    pub(super) error: Option<Error>,
}

impl Entries {
    pub(super) fn new(runtime: Handle, reader: SnapshotReader, namer: BlobNamer) -> Self {
        let entries = reader.entries(Selection::all());
        Self { runtime, reader, entries, namer, error: None }
    }

    fn expected_data(&self, content: &Content) -> Result<Option<ExpectedData>, Error> {
        let first = match &content.extents {
            Extents::Inline(extents) => extents.first(),
            Extents::Lists { .. } => None,
        };
        let check: Box<dyn DataCheck> = match (content.hash, first) {
            (Some(hash), _) => Box::new(HashCheck::new(hash)),
            // One whole blob, whose id says as much as a hash.
            (None, Some(Extent::Blob { id, .. })) => {
                Box::new(IdCheck { expected: *id, namer: self.namer.clone(), bytes: Vec::new() })
            }
            (None, Some(Extent::Hole { .. })) => {
                Box::new(HashCheck::new(ContentHash::from_bytes(*blake3::hash(b"").as_bytes())))
            }
            (None, Some(Extent::Part { .. }) | None) => return Ok(None),
        };
        let (mut holes, mut offset) = (Vec::new(), 0);
        let mut see = |extent: &Extent| {
            if let Extent::Hole { length } = extent {
                holes.push((offset, *length));
            }
            offset += extent.length();
        };
        match &content.extents {
            Extents::Inline(extents) => extents.iter().for_each(&mut see),
            Extents::Lists { .. } => {
                let mut extents = self.reader.extents(content);
                while let Some(extent) = self.runtime.block_on(extents.next()) {
                    see(&extent?);
                }
            }
        }
        Ok(Some(ExpectedData { check, holes }))
    }
}

impl Iterator for &mut Entries {
    type Item = Expected;

    fn next(&mut self) -> Option<Expected> {
        let next = self.runtime.block_on(self.entries.next())?;
        let expected = next.and_then(|entry| {
            let data = match &entry.kind {
                EntryKind::File(content) => self.expected_data(content)?,
                _ => None,
            };
            Ok(Expected { entry, data })
        });
        match expected {
            Ok(expected) => Some(expected),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// Checks that a file's bytes are those of a blob: at most 8 MiB.
struct IdCheck {
    expected: BlobId,
    namer: BlobNamer,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for IdCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdCheck({})", self.expected)
    }
}

impl DataCheck for IdCheck {
    fn update(&mut self, bytes: &[u8]) {
        // Longer than any blob is wrong already; one byte more than a blob shows it.
        let room =
            (keephold_vault::limits::BLOB_LEN_MAX as usize + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn verdict(self: Box<Self>) -> Result<(), (String, String)> {
        let found = self.namer.name(BlobKind::Data, &self.bytes);
        if found == self.expected {
            Ok(())
        } else {
            Err((format!("blob {}", self.expected), format!("blob {found}")))
        }
    }
}
