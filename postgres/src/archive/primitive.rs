//! The archive format's three kinds of value, read from a stream that may stop anywhere.
//!
//! An integer is a sign byte and `int size` bytes, least significant first. An offset is a flag byte and `offset size`
//! bytes. A string is an integer length (negative for "null") and its bytes. A value's bytes may come in any number of
//! feeds, so each reader keeps what it has until the value is whole.

/// Integers and offsets wider than this aren't written by any `pg_dump`.
pub(super) const MAX_WIDTH: usize = 8;

/// What is left of one feed, and where in the stream it stands.
pub(super) struct Cursor<'a> {
    /// The bytes not consumed yet.
    pub(super) rest: &'a [u8],
    /// The stream's offset of `rest`.
    pub(super) offset: u64,
}

impl<'a> Cursor<'a> {
    /// Takes up to `most` bytes.
    pub(super) fn take(&mut self, most: u64) -> &'a [u8] {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(most);
        self.rest = rest;
        self.offset += most as u64;
        taken
    }
}

/// Collects a value of known size across feeds.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    bytes: [u8; 16],
    filled: usize,
}

impl Fixed {
    /// Whether a value has begun but isn't whole.
    pub(super) fn is_partial(&self) -> bool {
        self.filled > 0
    }

    /// Takes bytes until `size` are there; `None` while some are missing. `size` is at most 16.
    pub(super) fn fill(&mut self, cursor: &mut Cursor<'_>, size: usize) -> Option<[u8; 16]> {
        debug_assert!(size <= self.bytes.len());
        let got = cursor.take((size - self.filled) as u64);
        self.bytes[self.filled..self.filled + got.len()].copy_from_slice(got);
        self.filled += got.len();
        if self.filled < size {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }

    /// Reads an integer of `width` bytes. The inner `None` is a number beyond 64 bits.
    pub(super) fn int(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Option<Option<i64>> {
        // A whole value in this feed is by far the usual case, once for each chunk of rows.
        if self.filled == 0 && cursor.rest.len() > width {
            return Some(decode_int(cursor.take(width as u64 + 1)));
        }
        let bytes = self.fill(cursor, width + 1)?;
        Some(decode_int(&bytes[..=width]))
    }
}

/// A sign byte (0 for positive) and the magnitude, least significant byte first.
fn decode_int(bytes: &[u8]) -> Option<i64> {
    let (sign, magnitude) = bytes.split_first()?;
    let mut wide = [0; MAX_WIDTH];
    wide.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
    let value = i64::try_from(u64::from_le_bytes(wide)).ok()?;
    Some(if *sign == 0 { value } else { -value })
}

/// How much of a string is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Only its length.
    Length,
    /// All of it; longer than this many bytes is refused.
    AtMost(u64),
}

/// A string that has been read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Its bytes, if they were kept.
    pub(super) bytes: Vec<u8>,
    /// Its length in bytes; `None` for null.
    pub(super) len: Option<u64>,
}

impl Text {
    /// The text, with bytes that aren't UTF-8 written `\xNN`, so that different names stay different.
    pub(super) fn to_name(&self) -> String {
        let mut name = String::with_capacity(self.bytes.len());
        for part in self.bytes.utf8_chunks() {
            name.push_str(part.valid());
            for byte in part.invalid() {
                name.push_str(&format!("\\x{byte:02x}"));
            }
        }
        name
    }
}

/// Why a string can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadText {
    /// The length isn't a number of 64 bits.
    Length,
    /// More bytes than are kept.
    TooLong(u64),
}

/// Reads a string across feeds.
#[derive(Debug, Default)]
pub(super) struct Strings {
    length: Fixed,
    missing: Option<u64>,
    text: Text,
}

impl Strings {
    /// Whether a string has begun but isn't whole.
    pub(super) fn is_partial(&self) -> bool {
        self.missing.is_some() || self.length.is_partial()
    }

    /// Reads on; `None` while bytes are missing. `bytes` is called with every piece, kept or not.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        width: usize,
        keep: Keep,
        mut bytes: impl FnMut(&[u8]),
    ) -> Option<Result<Text, BadText>> {
        let mut missing = if let Some(missing) = self.missing {
            missing
        } else {
            let Some(length) = self.length.int(cursor, width)? else {
                return Some(Err(BadText::Length));
            };
            let Ok(length) = u64::try_from(length) else {
                return Some(Ok(Text::default()));
            };
            if let Keep::AtMost(most) = keep
                && length > most
            {
                return Some(Err(BadText::TooLong(length)));
            }
            self.text.len = Some(length);
            length
        };
        let piece = cursor.take(missing);
        bytes(piece);
        if keep != Keep::Length {
            self.text.bytes.extend_from_slice(piece);
        }
        missing -= piece.len() as u64;
        if missing > 0 {
            self.missing = Some(missing);
            return None;
        }
        self.missing = None;
        Some(Ok(std::mem::take(&mut self.text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_a_sign_byte_and_little_end_first() {
        assert_eq!(decode_int(&[0, 5, 1, 0, 0]), Some(261));
        assert_eq!(decode_int(&[1, 5, 0, 0, 0]), Some(-5));
        assert_eq!(decode_int(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn names_that_are_not_utf8_stay_different() {
        let name = |bytes: &[u8]| Text { bytes: bytes.to_vec(), len: None }.to_name();
        assert_eq!(name("größe".as_bytes()), "größe");
        assert_eq!(name(b"gr\xf6\xdfe"), "gr\\xf6\\xdfe");
        assert_ne!(name(b"\xf6"), name(b"\xdf"));
    }

    #[test]
    fn a_string_may_come_byte_by_byte() {
        let stream = [0, 3, 0, 0, 0, b'a', b'b', b'c'];
        let mut strings = Strings::default();
        let mut done = None;
        for byte in stream {
            assert_eq!(done, None);
            let mut cursor = Cursor { rest: &[byte], offset: 0 };
            done = strings.read(&mut cursor, 4, Keep::AtMost(3), |_| ());
        }
        assert_eq!(done, Some(Ok(Text { bytes: b"abc".to_vec(), len: Some(3) })));
        assert!(!strings.is_partial());
    }
}
