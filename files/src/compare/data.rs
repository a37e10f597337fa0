//! The bytes of a restored file, held against what they should be.

use std::fmt;

use keephold_vault::ids::ContentHash;

use super::{Difference, What, unreadable};
use crate::read::{FileReader, Piece, ReadError};
use crate::walk::Walked;

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// Takes a file's bytes in order and says whether they are the right ones.
pub trait DataCheck: fmt::Debug + Send {
    /// Takes the next bytes; expected holes are left out.
    fn update(&mut self, bytes: &[u8]);

    /// Says whether all were right.
    ///
    /// # Errors
    /// What was expected and what was found, for people, if they were not.
    fn verdict(self: Box<Self>) -> Result<(), (String, String)>;
}

/// What a file's bytes should be.
#[derive(Debug)]
pub struct ExpectedData {
    /// What the bytes outside of holes should be.
    pub check: Box<dyn DataCheck>,
    /// Where zeros are expected that `check` doesn't take: offset and length in bytes, in order.
    pub holes: Vec<(u64, u64)>,
}

/// Checks against the BLAKE3 hash that stands in a file's content.
#[derive(Debug)]
pub struct HashCheck {
    expected: ContentHash,
    hasher: Box<blake3::Hasher>,
}

impl HashCheck {
    /// A check that the bytes have this hash.
    pub fn new(expected: ContentHash) -> Self {
        Self { expected, hasher: Box::default() }
    }
}

impl DataCheck for HashCheck {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    fn verdict(self: Box<Self>) -> Result<(), (String, String)> {
        let found = ContentHash::from_bytes(*self.hasher.finalize().as_bytes());
        if found == self.expected {
            Ok(())
        } else {
            Err((self.expected.to_string(), found.to_string()))
        }
    }
}

/// Reads a file and holds it against `data`: the difference, if there is one.
pub(super) fn check(
    reader: FileReader,
    walked: &Walked,
    data: ExpectedData,
    buffer: &mut Vec<u8>,
) -> Option<Difference> {
    buffer.resize(BUFFER, 0);
    let difference = |expected, found| Difference {
        path: Some(walked.path.clone()),
        what: What::Content,
        expected,
        found,
    };
    match feed(reader, data, buffer) {
        Ok(Fed::All(check)) => {
            check.verdict().err().map(|(expected, found)| difference(expected, found))
        }
        Ok(Fed::NotZero(offset)) => Some(difference(
            "zeros in a hole".to_owned(),
            format!("other bytes at offset {offset}"),
        )),
        Ok(Fed::Changed) => {
            Some(unreadable(Some(walked.path.clone()), "it changed while it was read".to_owned()))
        }
        Err(error) => Some(unreadable(Some(walked.path.clone()), error.to_string())),
    }
}

enum Fed {
    All(Box<dyn DataCheck>),
    NotZero(u64),
    Changed,
}

fn feed(mut reader: FileReader, data: ExpectedData, buffer: &mut [u8]) -> Result<Fed, ReadError> {
    let mut sieve =
        Sieve { check: data.check, holes: data.holes.into_iter().peekable(), offset: 0 };
    loop {
        let fine = match reader.next(buffer)? {
            Piece::End => break,
            Piece::Data(count) => sieve.take(&buffer[..count]),
            Piece::Hole(length) => sieve.take_zeros(length, buffer),
        };
        if !fine {
            return Ok(Fed::NotZero(sieve.offset));
        }
    }
    Ok(if reader.finish()?.is_some() { Fed::Changed } else { Fed::All(sieve.check) })
}

/// Keeps expected holes from the check, and sees that they are zero.
struct Sieve {
    check: Box<dyn DataCheck>,
    holes: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
    offset: u64,
}

impl Sieve {
    /// Takes the next bytes; `false` if some in a hole aren't zero.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let (in_hole, length) = self.stretch(bytes.len() as u64);
            let (now, rest) = bytes.split_at(usize::try_from(length).unwrap_or(bytes.len()));
            if in_hole {
                if now.iter().any(|&b| b != 0) {
                    return false;
                }
            } else {
                self.check.update(now);
            }
            self.offset += length;
            bytes = rest;
        }
        true
    }

    /// Takes a hole that was found, of any length, where perhaps none was expected.
    fn take_zeros(&mut self, mut length: u64, buffer: &mut [u8]) -> bool {
        buffer.fill(0);
        while length > 0 {
            let (in_hole, stretch) = self.stretch(length);
            if in_hole {
                self.offset += stretch;
                length -= stretch;
                continue;
            }
            let now = stretch.min(buffer.len() as u64);
            self.check.update(&buffer[..usize::try_from(now).unwrap_or(buffer.len())]);
            self.offset += now;
            length -= now;
        }
        true
    }

    /// Whether the offset is in an expected hole, and how many of the next `most` bytes are alike.
    fn stretch(&mut self, most: u64) -> (bool, u64) {
        while self
            .holes
            .next_if(|&(start, length)| start.saturating_add(length) <= self.offset)
            .is_some()
        {}
        match self.holes.peek() {
            Some(&(start, length)) if start <= self.offset => {
                (true, most.min(start.saturating_add(length) - self.offset))
            }
            Some(&(start, _)) => (false, most.min(start - self.offset)),
            None => (false, most),
        }
    }
}
