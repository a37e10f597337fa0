//! Splits a table's data into rows, and digests them.
//!
//! A table's data is COPY text: one line a row, in which newlines and backslashes are escaped, then a line `\.`, then
//! nothing but empty lines. A chunk of the archive may hold any part of it (older programs write a chunk for each row), so
//! a row is hashed piece by piece when it comes in pieces; a row that is whole is hashed where it lies.

use super::{Observer, Row, RowSet, batches::Batches};

/// The line that ends a table's rows. No row looks like it, since COPY doubles backslashes.
const END: &[u8] = b"\\.";

/// What is wrong with a table's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRows {
    /// Bytes after the end line, at this offset of the stream.
    AfterEnd(u64),
    /// The data ended before the end line.
    NoEnd,
}

/// A row of which the newline hasn't come yet.
#[derive(Debug)]
struct Partial {
    hasher: blake3::Hasher,
    /// The first two bytes, to recognise the end line.
    head: [u8; 2],
    len: u64,
    start: u64,
}

/// Reads one table's rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The rows so far; those that wait in batches come by the end at the latest.
    pub(super) set: RowSet,
    /// The rows' bytes so far, with their newlines.
    pub(super) bytes: u64,
    partial: Option<Partial>,
    batches: Batches,
    ended: bool,
}

impl Rows {
    /// Reads a piece of the table's data that stands at `offset` of the stream.
    pub(super) fn feed<O: Observer>(
        &mut self,
        key: &[u8; 32],
        mut piece: &[u8],
        mut offset: u64,
        observer: &mut O,
    ) -> Result<(), BadRows> {
        while !piece.is_empty() {
            if self.ended {
                let stray = piece.iter().position(|byte| *byte != b'\n');
                return stray.map_or(Ok(()), |at| Err(BadRows::AfterEnd(offset + at as u64)));
            }
            let newline = memchr::memchr(b'\n', piece);
            let line = &piece[..newline.unwrap_or(piece.len())];
            match (newline, self.partial.take()) {
                (Some(_), None) if line == END => self.end(key),
                (Some(_), None) if !O::ROWS && self.batches.add(key, line, &mut self.set) => {
                    self.bytes += line.len() as u64 + 1;
                }
                (Some(_), None) => {
                    let hash = *blake3::keyed_hash(key, line).as_bytes();
                    self.row(
                        offset,
                        offset + line.len() as u64 + 1,
                        line.len() as u64,
                        &hash,
                        Some(line),
                        observer,
                    );
                }
                (Some(_), Some(partial)) => {
                    let partial = partial.join(line);
                    if partial.len == 2 && partial.head == *END {
                        self.end(key);
                    } else {
                        let end = offset + line.len() as u64 + 1;
                        let hash = *partial.hasher.finalize().as_bytes();
                        self.row(partial.start, end, partial.len, &hash, None, observer);
                    }
                }
                (None, partial) => {
                    let partial = partial.unwrap_or_else(|| Partial::new(key, offset));
                    self.partial = Some(partial.join(line));
                }
            }
            let used = newline.map_or(piece.len(), |at| at + 1);
            piece = &piece[used..];
            offset += used as u64;
        }
        Ok(())
    }

    /// All rows have come.
    fn end(&mut self, key: &[u8; 32]) {
        self.batches.flush(key, &mut self.set);
        self.ended = true;
    }

    /// Checks that the data came to its proper end.
    pub(super) fn finish(&self) -> Result<(), BadRows> {
        if self.ended { Ok(()) } else { Err(BadRows::NoEnd) }
    }

    fn row(
        &mut self,
        start: u64,
        end: u64,
        len: u64,
        hash: &[u8; 32],
        bytes: Option<&[u8]>,
        observer: &mut impl Observer,
    ) {
        observer.row(&Row { number: self.set.rows, start, end, hash, bytes });
        self.set.add(hash);
        self.bytes += len + 1;
    }
}

impl Partial {
    fn new(key: &[u8; 32], start: u64) -> Self {
        Self { hasher: blake3::Hasher::new_keyed(key), head: [0; 2], len: 0, start }
    }

    fn join(mut self, piece: &[u8]) -> Self {
        for (at, byte) in (self.len..).zip(piece).take_while(|(at, _)| *at < 2) {
            self.head[usize::from(at == 1)] = *byte;
        }
        self.hasher.update(piece);
        self.len += piece.len() as u64;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [3; 32];

    fn read(pieces: &[&[u8]]) -> Result<(RowSet, u64), BadRows> {
        let mut rows = Rows::default();
        let mut offset = 0;
        for piece in pieces {
            rows.feed(&KEY, piece, offset, &mut ())?;
            offset += piece.len() as u64;
        }
        rows.finish()?;
        Ok((rows.set, rows.bytes))
    }

    #[test]
    fn an_empty_table_has_only_an_end() {
        assert_eq!(read(&[b"\\.\n\n\n"]).unwrap(), (RowSet::default(), 0));
    }

    #[test]
    fn an_empty_line_before_the_end_is_a_row() {
        let (set, bytes) = read(&[b"\n\n\\.\n\n\n"]).unwrap();
        assert_eq!((set.rows, bytes), (2, 2));
    }

    #[test]
    fn the_end_must_be_there_and_be_the_end() {
        assert_eq!(read(&[b"1\n2\n"]), Err(BadRows::NoEnd));
        assert_eq!(read(&[b"1\n\\."]), Err(BadRows::NoEnd));
        assert_eq!(read(&[b"1\n\\.\n\n3\n"]), Err(BadRows::AfterEnd(6)));
        // A row that only begins like the end.
        assert_eq!(read(&[b"\\.x\n\\.\n"]).unwrap().0.rows, 1);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(rows in prop::collection::vec("[a-c\\\\.]{0,5}", 0..8), cuts: Vec<prop::sample::Index>) {
            let data = rows.iter().map(|row| format!("{}\n", row.replace('\\', "\\\\"))).collect::<String>() + "\\.\n\n\n";
            let whole = read(&[data.as_bytes()]).unwrap();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(data.len())).collect();
            cuts.extend([0, data.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &data.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces).unwrap(), whole);
            prop_assert_eq!(whole.0.rows, rows.len() as u64);
        }
    }
}
