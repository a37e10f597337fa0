//! Building a pack in memory.

use crate::error::Error;
use crate::ids::{PackId, VaultId};
use crate::keys::{RunKey, Salt, random};
use crate::limits::{PACK_BLOBS_MAX, PACK_LEN_MAX, PACK_TARGET};
use crate::pack::{BlobKind, END_MAGIC, Footer, FrameInfo, TRAILER_LEN};
use crate::seal::{Header, MessageKind, ObjectKind, Sealer, TAG_LEN};

/// A pack is closed after so many blobs too, however short they are: what a run holds of each until a segment describes it
/// would otherwise take more memory than the packs.
pub(crate) const PACK_BLOBS: usize = 1 << 16;
const _: () = assert!(PACK_BLOBS * 2 <= PACK_BLOBS_MAX);

/// A pack that is being filled.
pub(crate) struct PackBuilder {
    bytes: Vec<u8>,
    sealer: Sealer,
    salt: Salt,
    footer: Footer,
    blobs: usize,
}

/// A pack that is ready to be stored.
pub(crate) struct BuiltPack {
    pub(crate) id: PackId,
    pub(crate) salt: Salt,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<FrameInfo>,
}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackBuilder({} bytes)", self.bytes.len())
    }
}

impl PackBuilder {
    /// Begins a pack of the run whose key and envelope are given; `buffer` is used again.
    pub(crate) fn new(
        vault: VaultId,
        run: &RunKey,
        envelope: &[u8],
        mut buffer: Vec<u8>,
    ) -> Result<Self, Error> {
        let salt = random()?;
        buffer.clear();
        Header { vault, salt, envelope: envelope.to_vec() }.write(ObjectKind::Pack, &mut buffer)?;
        let sealer = Sealer::new(&run.pack_key(&vault, &salt), ObjectKind::Pack, vault, salt);
        Ok(Self { bytes: buffer, sealer, salt, footer: Footer { frames: Vec::new() }, blobs: 0 })
    }

    /// Adds a frame, compressed, with its head in front, in parts.
    pub(crate) fn add(
        &mut self,
        kind: BlobKind,
        parts: &[&[u8]],
        blobs: Vec<(crate::ids::BlobId, u32)>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.sealer.seal_tail(&mut self.bytes, start, kind.message())?;
        let too_long = |_| Error::damaged("a pack", "it grew too long");
        self.blobs += blobs.len();
        self.footer.frames.push(FrameInfo {
            kind,
            offset: u32::try_from(start).map_err(too_long)?,
            stored: u32::try_from(self.bytes.len() - start).map_err(too_long)?,
            blobs,
        });
        Ok(())
    }

    /// Whether it should be finished before the next frame.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= PACK_TARGET || self.blobs >= PACK_BLOBS
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.footer.frames.is_empty()
    }

    /// Seals the footer and names the pack.
    pub(crate) fn finish(mut self) -> Result<BuiltPack, Error> {
        let start = self.bytes.len();
        let footer =
            postcard::to_stdvec(&self.footer).map_err(|e| Error::damaged("a pack's footer", e))?;
        self.bytes.extend_from_slice(&footer);
        self.sealer.seal_tail(&mut self.bytes, start, MessageKind::PackFooter)?;
        let length = footer.len() + TAG_LEN;
        debug_assert!(self.bytes.len() + TRAILER_LEN <= PACK_LEN_MAX as usize);
        let length = u32::try_from(length)
            .map_err(|_| Error::damaged("a pack's footer", "it is too long"))?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(END_MAGIC);
        let id = PackId::from_bytes(*blake3::hash(&self.bytes).as_bytes());
        Ok(BuiltPack { id, salt: self.salt, bytes: self.bytes, frames: self.footer.frames })
    }
}
