//! Opening packs: by themselves as a whole, or one frame at a time by what the index says.

use crate::error::Error;
use crate::frame::Expander;
use crate::ids::{PackId, VaultId};
use crate::keys::{BlobNamer, RunKey, Salt};
use crate::limits::{FRAME_RAW_MAX, FRAME_STORED_MAX, PACK_BLOBS_MAX, PACK_LEN_MAX};
use crate::pack::{BlobKind, END_MAGIC, Footer, FrameInfo, TRAILER_LEN};
use crate::seal::{Header, MessageKind, ObjectKind, Sealer, TAG_LEN};

/// Whether `bytes` are those that `id` names. Needs no key.
pub fn check_name(id: &PackId, bytes: &[u8]) -> bool {
    blake3::hash(bytes).as_bytes() == id.as_bytes()
}

/// Opens frames of one pack, whose salt and run key are known from the index. What expands them is lent: it takes some
/// 150 KiB, while these are kept for many packs.
pub(crate) struct FrameReader {
    sealer: Sealer,
    what: String,
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameReader({})", self.what)
    }
}

impl FrameReader {
    /// A reader of frames of `pack`.
    pub(crate) fn new(vault: VaultId, run: &RunKey, pack: &PackId, salt: &Salt) -> Self {
        Self {
            sealer: Sealer::new(&run.pack_key(&vault, salt), ObjectKind::Pack, vault, *salt),
            what: format!("pack {pack}"),
        }
    }

    /// Opens and expands the frame whose sealed message was read from `offset`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was altered, or expands to more than the format allows.
    pub(crate) fn open(
        &self,
        message: Vec<u8>,
        offset: u32,
        kind: BlobKind,
        expander: &mut Expander,
    ) -> Result<Vec<u8>, Error> {
        let message = self.sealer.open(message, u64::from(offset), kind.message(), &self.what)?;
        expander.expand(message, FRAME_RAW_MAX, &self.what)
    }
}

/// A whole pack in memory, opened through its own header and footer.
#[derive(Debug)]
pub struct OpenPack {
    frames: Vec<FrameInfo>,
    reader: FrameReader,
    expander: Expander,
    salt: Salt,
}

impl OpenPack {
    /// The header of a pack, from its first bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::NewerFormat`] if they aren't the beginning of a pack.
    pub fn header(id: &PackId, bytes: &[u8]) -> Result<Header, Error> {
        Ok(Header::read(ObjectKind::Pack, bytes, &format!("pack {id}"))?.0)
    }

    /// Opens a pack whose whole bytes are given.
    ///
    /// # Errors
    /// [`Error::Damaged`] if anything about it isn't as it should be; [`Error::OtherVault`].
    pub fn open(id: &PackId, bytes: &[u8], vault: VaultId, run: &RunKey) -> Result<Self, Error> {
        let what = format!("pack {id}");
        if bytes.len() > PACK_LEN_MAX as usize {
            return Err(Error::damaged(what, "it is longer than any pack"));
        }
        let (header, header_len) = Header::read(ObjectKind::Pack, bytes, &what)?;
        if header.vault != vault {
            return Err(Error::OtherVault {
                what,
                found: header.vault.to_string(),
                expected: vault.to_string(),
            });
        }
        let reader = FrameReader::new(vault, run, id, &header.salt);
        let Some((rest, trailer)) = bytes.split_last_chunk::<TRAILER_LEN>() else {
            return Err(Error::damaged(what, "it is cut short"));
        };
        let [l0, l1, l2, l3, magic @ ..] = trailer;
        if magic != END_MAGIC {
            return Err(Error::damaged(
                what,
                "it does not end as a pack does; it may be cut short",
            ));
        }
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        let start = rest.len().checked_sub(length).filter(|&s| s >= header_len);
        let Some(start) = start else {
            return Err(Error::damaged(what, format!("its footer claims {length} bytes")));
        };
        let footer = reader.sealer.open(
            rest[start..].to_vec(),
            start as u64,
            MessageKind::PackFooter,
            &what,
        )?;
        let footer: Footer = postcard::from_bytes(&footer).map_err(|e| Error::damaged(&what, e))?;
        check_layout(&footer.frames, header_len, start, &what)?;
        let expander = Expander::new();
        Ok(Self { frames: footer.frames, reader, expander, salt: header.salt })
    }

    /// The frames in it.
    pub fn frames(&self) -> &[FrameInfo] {
        &self.frames
    }

    /// The salt of its key.
    pub fn salt(&self) -> Salt {
        self.salt
    }

    /// Opens every frame of `bytes` (the same that it was opened from) and recomputes the id of every blob;
    /// answers how many blobs and bytes they were.
    ///
    /// # Errors
    /// The first [`Error::Damaged`] frame or blob.
    pub fn check_blobs(&mut self, bytes: &[u8], namer: &BlobNamer) -> Result<(u64, u64), Error> {
        let (mut blobs, mut length) = (0, 0);
        for frame in &self.frames {
            let range = frame.offset as usize..(frame.offset + frame.stored) as usize;
            let message = bytes
                .get(range)
                .ok_or_else(|| Error::damaged(&self.reader.what, "it is cut short"))?;
            let raw =
                self.reader.open(message.to_vec(), frame.offset, frame.kind, &mut self.expander)?;
            let mut rest = raw.as_slice();
            let mut contents = Vec::with_capacity(frame.blobs.len());
            for (id, n) in &frame.blobs {
                let Some((blob, tail)) = rest.split_at_checked(*n as usize) else {
                    return Err(Error::damaged(
                        &self.reader.what,
                        format!("the frame at byte {} ends within blob {id}", frame.offset),
                    ));
                };
                contents.push(blob);
                rest = tail;
            }
            if !rest.is_empty() {
                return Err(Error::damaged(
                    &self.reader.what,
                    format!(
                        "the frame at byte {} holds {} bytes of no blob",
                        frame.offset,
                        rest.len()
                    ),
                ));
            }
            let ids = namer.name_all(frame.kind, &contents);
            if let Some(((id, _), _)) = frame.blobs.iter().zip(ids).find(|((id, _), n)| id != n) {
                return Err(Error::damaged(
                    &self.reader.what,
                    format!(
                        "blob {id} in the frame at byte {} has other contents than its id says",
                        frame.offset
                    ),
                ));
            }
            blobs += contents.len() as u64;
            length += raw.len() as u64;
        }
        Ok((blobs, length))
    }
}

/// Frames lie end to end between header and footer, and what they claim is within bounds.
fn check_layout(
    frames: &[FrameInfo],
    header_len: usize,
    footer_start: usize,
    what: &str,
) -> Result<(), Error> {
    let (mut at, mut blobs) = (header_len, 0);
    for frame in frames {
        let raw: u64 = frame.blobs.iter().map(|(_, n)| u64::from(*n)).sum();
        let sound = frame.offset as usize == at
            && frame.stored as usize >= TAG_LEN
            && frame.stored <= FRAME_STORED_MAX
            && raw <= u64::from(FRAME_RAW_MAX);
        if !sound {
            return Err(Error::damaged(
                what,
                format!("its footer puts a frame at byte {} in a wrong way", frame.offset),
            ));
        }
        at += frame.stored as usize;
        blobs += frame.blobs.len();
    }
    if at != footer_start || blobs > PACK_BLOBS_MAX {
        return Err(Error::damaged(what, "its footer does not describe what stands before it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Compressor;
    use crate::keys::VaultSecret;
    use crate::pack::PackBuilder;

    const VAULT: VaultId = VaultId::from_bytes([8; 16]);

    fn build(frames: &[(BlobKind, Vec<Vec<u8>>)]) -> (PackId, Vec<u8>, RunKey, BlobNamer) {
        let run = RunKey::generate().unwrap();
        let namer = VaultSecret::from_bytes([1; 32]).blob_namer();
        let mut builder = PackBuilder::new(VAULT, &run, b"envelope", Vec::new()).unwrap();
        let mut compressor = Compressor::new(3).unwrap();
        for (kind, blobs) in frames {
            let mut out = Vec::new();
            compressor.compress(&blobs.concat(), &mut out).unwrap();
            let names = blobs.iter().map(|b| (namer.name(*kind, b), b.len() as u32)).collect();
            builder.add(*kind, &[&out], names).unwrap();
        }
        let built = builder.finish().unwrap();
        (built.id, built.bytes, run, namer)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (id, bytes, run, namer) = build(&[
            (BlobKind::Data, vec![b"one".to_vec(), vec![]]),
            (BlobKind::Tree, vec![b"two".to_vec()]),
        ]);
        assert!(check_name(&id, &bytes));
        assert_eq!(
            OpenPack::open(&id, &bytes, VAULT, &run).unwrap().check_blobs(&bytes, &namer).unwrap(),
            (3, 6)
        );
        // The envelope has seals of its own.
        let envelope = 44..52;
        for i in (0..bytes.len()).filter(|i| !envelope.contains(i)) {
            let mut bad = bytes.clone();
            bad[i] ^= 0x10;
            assert!(!check_name(&id, &bad));
            let opened = OpenPack::open(&id, &bad, VAULT, &run)
                .and_then(|mut p| p.check_blobs(&bad, &namer));
            assert!(opened.is_err(), "byte {i}");
            assert!(OpenPack::open(&id, &bytes[..i], VAULT, &run).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn a_blob_under_a_false_id_is_found() {
        let run = RunKey::generate().unwrap();
        let namer = VaultSecret::from_bytes([1; 32]).blob_namer();
        let mut builder = PackBuilder::new(VAULT, &run, b"e", Vec::new()).unwrap();
        let mut out = Vec::new();
        Compressor::new(3).unwrap().compress(b"forged", &mut out).unwrap();
        builder
            .add(BlobKind::Data, &[&out], vec![(namer.name(BlobKind::Data, b"honest"), 6)])
            .unwrap();
        let built = builder.finish().unwrap();
        let mut pack = OpenPack::open(&built.id, &built.bytes, VAULT, &run).unwrap();
        let error = pack.check_blobs(&built.bytes, &namer).unwrap_err();
        assert!(error.to_string().contains("other contents than its id says"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_went_in_is_found_in_it(frames in proptest::collection::vec(
            (proptest::sample::select(&BlobKind::ALL[..]),
             proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8)), 0..6)) {
            let (id, bytes, run, namer) = build(&frames);
            let mut pack = OpenPack::open(&id, &bytes, VAULT, &run).unwrap();
            let (blobs, length) = pack.check_blobs(&bytes, &namer).unwrap();
            prop_assert_eq!(blobs as usize, frames.iter().map(|(_, b)| b.len()).sum::<usize>());
            prop_assert_eq!(length as usize, frames.iter().flat_map(|(_, b)| b).map(Vec::len).sum::<usize>());
        }

        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let run = RunKey::generate().unwrap();
            prop_assert!(OpenPack::open(&PackId::from_bytes([0; 32]), &bytes, VAULT, &run).is_err());
        }
    }
}
