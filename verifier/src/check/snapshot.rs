//! Opening the snapshot of a run, with the verifier's own identity.

use anyhow::{Context as _, Result};
use keephold_vault::Error;
use keephold_vault::content::Content;
use keephold_vault::keys::VaultSecret;
use keephold_vault::read::{ContentReader, Piece, ReadSettings, RunRecord, SnapshotReader};
use keephold_vault::record::{PgReport, SourceReport};
use keephold_vault::tree::{EntryKind, TreePath};

use super::context::Context;
use super::history::Run;

/// Longest small file of a PostgreSQL snapshot (counts, roles) that is held in memory.
const SMALL_MAX: u64 = 256 << 20;

/// A snapshot, open for reading.
pub(super) struct Snapshot {
    pub(super) run: RunRecord,
    pub(super) reader: SnapshotReader,
    pub(super) secret: VaultSecret,
}

impl Snapshot {
    /// Opens the snapshot of a run.
    ///
    /// # Errors
    /// As every read of a record.
    pub(super) async fn open(context: &Context<'_>, run: &Run) -> Result<Self, Error> {
        let sealed = context.vault.read_record(&run.found.key).await?;
        let (opener, fingerprint) = (context.opener.clone(), context.vault.fingerprint());
        let opened = tokio::task::spawn_blocking(move || {
            let secret = opener.keys(sealed.envelope(), &format!("record {}", sealed.key))?.secret;
            Ok::<_, Error>((opener.record(&sealed, &fingerprint)?, secret))
        });
        let (run, secret) = opened.await.map_err(|e| Error::Local {
            what: "a thread of the verifier".into(),
            source: std::io::Error::other(e),
        })??;
        let reader =
            SnapshotReader::new(&context.vault, &context.opener, &run, ReadSettings::default())?;
        Ok(Self { run, reader, secret })
    }

    /// What the run saw of its PostgreSQL server.
    pub(super) fn postgres(&self) -> Option<&PgReport> {
        match &self.run.record.source {
            Some(SourceReport::Postgres(pg)) => Some(pg),
            _ => None,
        }
    }

    /// The content of a file.
    ///
    /// # Errors
    /// If it isn't there, is no file, or can't be read.
    pub(super) async fn file(&self, path: &str) -> Result<Content, Error> {
        let wrong = |why: &str| Error::Damaged {
            what: format!("'{path}' in the snapshot"),
            why: why.into(),
        };
        let path = TreePath::new(path).map_err(|error| wrong(&error.to_string()))?;
        match self.reader.entry(&path).await?.kind {
            EntryKind::File(content) => Ok(content),
            _ => Err(wrong("it is no file")),
        }
    }

    /// The bytes of a small file.
    ///
    /// # Errors
    /// If it can't be read, or is too long to be what it should be.
    pub(super) async fn small(&self, path: &str) -> Result<Vec<u8>> {
        let content = self.file(path).await?;
        anyhow::ensure!(content.size <= SMALL_MAX, "'{path}' is longer than anything of its kind");
        let mut bytes = Vec::new();
        let mut reader = self.reader.content(&content);
        while let Some(piece) = next(&mut reader).await {
            bytes.extend_from_slice(&piece.with_context(|| format!("'{path}' can't be read"))?);
        }
        Ok(bytes)
    }
}

/// The next bytes of a content; holes, which dumps don't have, come as zeros.
pub(super) async fn next(reader: &mut ContentReader) -> Option<Result<bytes::Bytes, Error>> {
    Some(reader.next().await?.map(|piece| match piece {
        Piece::Data(bytes) => bytes,
        Piece::Hole(length) => vec![0; usize::try_from(length).unwrap_or(0).min(1 << 20)].into(),
    }))
}
