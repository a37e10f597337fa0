//! Files that are too large to be held: streamed by the ingest thread, and read and hashed ahead of it where that pays.

use std::thread;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use keephold_files::read::{FileReader, Piece, ReadError};
use keephold_files::walk::Walked;
use keephold_vault::tree::EntryKind;
use keephold_vault::write::{ContentChunks, ContentHasher};

use super::ingest::Ingest;
use crate::source::Counters;

/// How much is read at once.
const READ_LEN: usize = 1 << 20;
/// From which size on another thread reads ahead: below, starting it isn't worth it.
const AHEAD_MIN: u64 = 4 << 20;
/// How many pieces are read ahead, each of up to [`READ_LEN`] bytes.
const PIECES_AHEAD: usize = 2;

/// A piece that was read ahead, in a buffer that may be longer than it.
type Ahead = (Result<Piece, ReadError>, Vec<u8>);

/// A file's pieces, hashed as they are read.
struct Pieces {
    file: FileReader,
    hasher: ContentHasher,
}

impl Pieces {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ReadError> {
        let piece = self.file.next(buffer)?;
        if let Piece::Data(n) = piece {
            self.hasher.update(buffer.get(..n).unwrap_or_default());
        }
        Ok(piece)
    }

    /// Reads ahead of whoever takes the pieces, until the end or an error, or until they are no longer taken.
    fn read_ahead(mut self, pieces: &Sender<Ahead>, spare: &Receiver<Vec<u8>>) -> Self {
        while let Ok(mut buffer) = spare.recv() {
            let piece = self.next(&mut buffer);
            let more = matches!(piece, Ok(Piece::Data(_) | Piece::Hole(_)));
            if pieces.send((piece, buffer)).is_err() || !more {
                break;
            }
        }
        self
    }
}

/// Buffers of [`READ_LEN`] bytes, kept from file to file.
#[derive(Default)]
pub(super) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| vec![0; READ_LEN])
    }
}

impl Ingest<'_> {
    /// Streams a file that is too large for the readers.
    pub(super) fn large(&mut self, walked: &Walked) -> Result<()> {
        let file = match FileReader::open(&self.reader.base, walked) {
            Ok(file) => file,
            Err(error) => {
                self.read_error(&error);
                return Ok(());
            }
        };
        let (meta, problems) = self.reader.meta.read_open(walked, file.stat(), file.fd());
        problems.iter().for_each(|p| self.problem(p));
        let before = self.writer.traced();
        let mut content = ContentChunks::new(self.reader.age.life(walked));
        let long = file.stat().size >= AHEAD_MIN;
        let pieces = Pieces { file, hasher: ContentHasher::default() };
        let (Pieces { file, hasher }, read) = if long {
            self.follow(pieces, &mut content)?
        } else {
            self.stream(pieces, &mut content)?
        };
        if let Err(error) = read {
            self.read_error(&error);
            return self.list.add_lost(walked, &meta, self.writer.traced() - before);
        }
        match file.finish() {
            Ok(None) => {}
            Ok(Some(_)) => self.changed(&walked.path),
            Err(error) => self.read_error(&error),
        }
        let content = content.finish(self.writer, &hasher)?;
        let blobs = self.writer.traced() - before;
        self.add(walked, EntryKind::File(content), meta, blobs)
    }

    /// Reads and takes in turns.
    fn stream(
        &mut self,
        mut pieces: Pieces,
        content: &mut ContentChunks,
    ) -> Result<(Pieces, Result<(), ReadError>)> {
        let mut buffer = self.buffers.take();
        let read = loop {
            match pieces.next(&mut buffer) {
                Ok(Piece::End) => break Ok(()),
                Ok(piece) => self.take(piece, &buffer, content)?,
                Err(error) => break Err(error),
            }
        };
        self.buffers.0.push(buffer);
        Ok((pieces, read))
    }

    /// Takes what another thread reads.
    fn follow(
        &mut self,
        pieces: Pieces,
        content: &mut ContentChunks,
    ) -> Result<(Pieces, Result<(), ReadError>)> {
        let (ahead_in, ahead) = bounded(PIECES_AHEAD);
        // Never full: there are no more buffers than it has room for.
        let (spare_in, spare) = bounded(PIECES_AHEAD + 2);
        for _ in 0..PIECES_AHEAD + 2 {
            spare_in.send(self.buffers.take())?;
        }
        let back = spare.clone();
        let (pieces, read) = thread::scope(|scope| {
            let reader = scope.spawn(move || pieces.read_ahead(&ahead_in, &spare));
            let read = self.take_ahead(&ahead, &spare_in, content);
            // Else the reader would wait for either.
            drop((ahead, spare_in));
            (reader.join(), read)
        });
        self.buffers.0.extend(back.try_iter());
        Ok((pieces.map_err(|_| anyhow!("a reader panicked; please report it"))?, read?))
    }

    fn take_ahead(
        &mut self,
        ahead: &Receiver<Ahead>,
        spare: &Sender<Vec<u8>>,
        content: &mut ContentChunks,
    ) -> Result<Result<(), ReadError>> {
        loop {
            let (piece, buffer) = ahead.recv().context("a reader ended before its time")?;
            match piece {
                Ok(Piece::End) => return Ok(Ok(())),
                Ok(piece) => self.take(piece, &buffer, content)?,
                Err(error) => return Ok(Err(error)),
            }
            // Nobody needs it once all is read.
            let _ = spare.send(buffer);
        }
    }

    fn take(&mut self, piece: Piece, buffer: &[u8], content: &mut ContentChunks) -> Result<()> {
        self.stop.check()?;
        match piece {
            Piece::Data(n) => {
                Counters::add(&self.counters.bytes_read, n as u64);
                content.push(self.writer, buffer.get(..n).unwrap_or_default())?;
            }
            Piece::Hole(n) => content.hole(self.writer, n)?,
            Piece::End => {}
        }
        Ok(())
    }
}
