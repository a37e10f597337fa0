//! Sealing: the header that packs, index segments and records share, and the AES-256-GCM messages in them.
//!
//! Each object has a key of its own (see [`keys`](crate::keys)). A message's nonce is its byte offset in the object,
//! which no two messages share, and its associated data binds it to vault, object, place and kind: nothing can be
//! moved, swapped or read as something else.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use crate::error::Error;
use crate::ids::VaultId;
use crate::keys::{ObjectSealKey, Salt};
use crate::limits::ENVELOPE_LEN_MAX;

/// Bytes that sealing adds to a message.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes at an object's beginning that tell its kind and its vault.
pub const BEGINNING_LEN: usize = 8 + 16;
/// Bytes of a header before the envelope.
pub(crate) const HEADER_FIXED_LEN: usize = 8 + 16 + 16 + 4;

/// What a sealed message holds. Part of its associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// A frame of file or stream data.
    Data = 1,
    /// A frame of snapshot tree nodes.
    Tree = 2,
    /// A frame of extent lists.
    List = 3,
    /// A pack's footer.
    PackFooter = 16,
    /// A block of an index segment that says where blobs lie.
    BlobBlock = 32,
    /// A block of an index segment that describes packs.
    PackBlock = 33,
    /// An index segment's footer.
    SegmentFooter = 34,
    /// A run record's body.
    Record = 48,
}

/// What kind of object a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Pack,
    Segment,
    Record,
}

impl ObjectKind {
    pub(crate) const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Pack => b"KHPACK01",
            Self::Segment => b"KHINDX01",
            Self::Record => b"KHRECD01",
        }
    }
}

/// The clear beginning of every sealed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The vault that the object belongs to.
    pub vault: VaultId,
    /// Random; makes the object's key its own.
    pub salt: Salt,
    /// The age file with the keys of the run that wrote the object.
    pub envelope: Vec<u8>,
}

impl Header {
    pub(crate) fn write(&self, kind: ObjectKind, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = u32::try_from(self.envelope.len())
            .ok()
            .filter(|&n| (1..=ENVELOPE_LEN_MAX).contains(&n));
        let Some(length) = length else {
            return Err(Error::BadKey {
                what: "the list of recipients".into(),
                why: format!(
                    "sealed to them, an envelope takes more than {ENVELOPE_LEN_MAX} bytes; name fewer"
                ),
            });
        };
        out.extend_from_slice(kind.magic());
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.envelope);
        Ok(())
    }

    /// Whether an object's first [`BEGINNING_LEN`] bytes are those of a pack of this vault. They aren't sealed: anyone can
    /// write them.
    pub fn begins_pack(vault: VaultId, first: &[u8]) -> bool {
        Self::begins(ObjectKind::Pack, vault, first)
    }

    /// The same for an index segment.
    pub fn begins_segment(vault: VaultId, first: &[u8]) -> bool {
        Self::begins(ObjectKind::Segment, vault, first)
    }

    fn begins(kind: ObjectKind, vault: VaultId, first: &[u8]) -> bool {
        first.strip_prefix(kind.magic()).is_some_and(|rest| rest.starts_with(vault.as_bytes()))
    }

    /// Reads the header at the beginning of an object; answers it and its length.
    pub(crate) fn read(
        kind: ObjectKind,
        object: &[u8],
        what: &str,
    ) -> Result<(Self, usize), Error> {
        let mut fields = Fields { rest: object, what };
        let magic = fields.array::<8>()?;
        if &magic != kind.magic() {
            if magic[..6] == kind.magic()[..6] {
                return Err(Error::NewerFormat {
                    what: what.into(),
                    found: String::from_utf8_lossy(&magic).into_owned(),
                });
            }
            return Err(Error::damaged(what, "it does not begin as such an object does"));
        }
        let vault = VaultId::from_bytes(fields.array()?);
        let salt = fields.array()?;
        let length = fields.u32()?;
        if !(1..=ENVELOPE_LEN_MAX).contains(&length) {
            return Err(Error::damaged(what, format!("its envelope claims {length} bytes")));
        }
        let envelope = fields.take(length as usize)?.to_vec();
        Ok((Self { vault, salt, envelope }, HEADER_FIXED_LEN + length as usize))
    }
}

/// Reads fixed fields off the front of stored bytes, never beyond their end.
pub(crate) struct Fields<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) what: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            return Err(Error::damaged(
                self.what,
                format!("it ends {} bytes too soon", n - self.rest.len()),
            ));
        };
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }
}

/// Seals and opens the messages of one object.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    magic: &'static [u8; 8],
    vault: VaultId,
    salt: Salt,
}

impl Sealer {
    pub(crate) fn new(key: &ObjectSealKey, kind: ObjectKind, vault: VaultId, salt: Salt) -> Self {
        Self { cipher: Aes256Gcm::new(&key.0.into()), magic: kind.magic(), vault, salt }
    }

    fn nonce(offset: u64) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&offset.to_le_bytes());
        nonce.into()
    }

    fn associated(&self, offset: u64, kind: MessageKind) -> [u8; 49] {
        let mut data = [0; 49];
        data[..8].copy_from_slice(self.magic);
        data[8..24].copy_from_slice(self.vault.as_bytes());
        data[24..40].copy_from_slice(&self.salt);
        data[40..48].copy_from_slice(&offset.to_le_bytes());
        data[48] = kind as u8;
        data
    }

    /// Seals everything in `object` from `start` on as one message, in place, and appends its tag.
    ///
    /// The offset is taken from the buffer itself, which only grows: no nonce can come twice.
    pub(crate) fn seal_tail(
        &self,
        object: &mut Vec<u8>,
        start: usize,
        kind: MessageKind,
    ) -> Result<(), Error> {
        let offset = start as u64;
        let associated = self.associated(offset, kind);
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &Self::nonce(offset),
                &associated,
                object[start..].as_mut().into(),
            )
            .map_err(|_| Error::damaged("a message to be sealed", "it is too long"))?;
        object.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens the message that was read from `offset` of the object.
    pub(crate) fn open(
        &self,
        mut message: Vec<u8>,
        offset: u64,
        kind: MessageKind,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let Some(length) = message.len().checked_sub(TAG_LEN) else {
            return Err(Error::damaged(what, "a sealed message is shorter than its tag"));
        };
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&message[length..]);
        message.truncate(length);
        let associated = self.associated(offset, kind);
        self.cipher
            .decrypt_inout_detached(
                &Self::nonce(offset),
                &associated,
                message.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| {
                Error::damaged(
                    what,
                    format!("the sealed message at byte {offset} was altered or has another key"),
                )
            })?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(
            &ObjectSealKey([1; 32]),
            ObjectKind::Pack,
            VaultId::from_bytes([2; 16]),
            [3; 16],
        )
    }

    #[test]
    fn messages_open_only_where_and_as_they_were_sealed() {
        let sealer = sealer();
        let mut object = b"header".to_vec();
        object.extend_from_slice(b"some data");
        sealer.seal_tail(&mut object, 6, MessageKind::Data).unwrap();
        let message = object[6..].to_vec();
        assert_eq!(sealer.open(message.clone(), 6, MessageKind::Data, "it").unwrap(), b"some data");
        assert!(sealer.open(message.clone(), 7, MessageKind::Data, "it").is_err());
        assert!(sealer.open(message.clone(), 6, MessageKind::Tree, "it").is_err());
        let other = Sealer { salt: [4; 16], ..sealer };
        assert!(other.open(message.clone(), 6, MessageKind::Data, "it").is_err());
        assert!(other.open(message[..10].to_vec(), 6, MessageKind::Data, "it").is_err());
    }

    #[test]
    fn a_sealed_message_is_frozen() {
        let mut object = vec![0; 5];
        object.extend_from_slice(b"abc");
        sealer().seal_tail(&mut object, 5, MessageKind::Tree).unwrap();
        insta::assert_snapshot!(hex::encode(&object[5..]), @"8203b42af0bce849e3ab54e1636b186d6185fd");
    }

    #[test]
    fn a_header_is_read_back_and_its_lengths_are_not_believed() {
        let header = Header {
            vault: VaultId::from_bytes([2; 16]),
            salt: [3; 16],
            envelope: b"age".to_vec(),
        };
        let mut bytes = Vec::new();
        header.write(ObjectKind::Pack, &mut bytes).unwrap();
        assert_eq!(Header::read(ObjectKind::Pack, &bytes, "it").unwrap(), (header, bytes.len()));
        for n in 0..bytes.len() {
            assert!(Header::read(ObjectKind::Pack, &bytes[..n], "it").is_err());
        }
        let mut huge = bytes.clone();
        huge[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Header::read(ObjectKind::Pack, &huge, "it").is_err());
        bytes[7] = b'9';
        assert!(matches!(
            Header::read(ObjectKind::Pack, &bytes, "it"),
            Err(Error::NewerFormat { .. })
        ));
        assert!(matches!(
            Header::read(ObjectKind::Segment, &bytes, "it"),
            Err(Error::Damaged { .. })
        ));
    }
}
