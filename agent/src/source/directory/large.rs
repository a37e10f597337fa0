//! Files that are too large to be held: streamed by the ingest thread, or read and cut ahead of it where that pays.

use std::thread;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use keephold_files::read::{FileReader, Piece, ReadError};
use keephold_files::walk::Walked;
use keephold_vault::tree::EntryKind;
use keephold_vault::write::{ContentChunks, ContentCutter, CutPiece};

use super::ingest::Ingest;
use crate::source::Counters;

/// From which size on another thread reads ahead: below, starting it isn't worth it.
const AHEAD_MIN: u64 = 4 << 20;
/// How many pieces there are while one does: one that is read, one that waits, one that is taken.
const PIECES: usize = 3;

/// A piece that was read ahead, and whether more follows.
type Ahead = (Result<bool, ReadError>, CutPiece);

/// A file's pieces, cut as they are read.
struct Pieces {
    file: FileReader,
    cutter: ContentCutter,
}

impl Pieces {
    /// Reads one; answers whether more follows.
    fn next(&mut self, piece: &mut CutPiece) -> Result<bool, ReadError> {
        self.cutter.begin(piece);
        loop {
            match self.file.next(self.cutter.room(piece))? {
                Piece::Data(n) if self.cutter.filled(piece, n) => return Ok(true),
                Piece::Data(_) => {}
                Piece::Hole(n) => {
                    self.cutter.hole(piece, n);
                    return Ok(true);
                }
                Piece::End => {
                    self.cutter.end(piece);
                    return Ok(false);
                }
            }
        }
    }

    /// Reads ahead of whoever takes the pieces, until the end or an error, or until they are no longer taken.
    fn read_ahead(mut self, pieces: &Sender<Ahead>, spare: &Receiver<CutPiece>) -> Self {
        while let Ok(mut piece) = spare.recv() {
            let read = self.next(&mut piece);
            let more = matches!(read, Ok(true));
            if pieces.send((read, piece)).is_err() || !more {
                break;
            }
        }
        self
    }
}

/// Room for pieces, kept from file to file.
#[derive(Default)]
pub(super) struct Buffers(Vec<CutPiece>);

impl Buffers {
    fn take(&mut self) -> CutPiece {
        self.0.pop().unwrap_or_default()
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
        let before = self.writer.noted();
        let mut content = ContentChunks::new(self.reader.age.life(walked));
        let long = file.stat().size >= AHEAD_MIN;
        let pieces = Pieces { file, cutter: ContentCutter::new(self.writer) };
        let (Pieces { file, .. }, read) = if long {
            self.follow(pieces, &mut content)?
        } else {
            self.stream(pieces, &mut content)?
        };
        if let Err(error) = read {
            self.read_error(&error);
            return self.list.add_lost(walked, &meta, self.writer.noted() - before);
        }
        match file.finish() {
            Ok(None) => {}
            Ok(Some(_)) => self.changed(&walked.path),
            Err(error) => self.read_error(&error),
        }
        let content = content.finish(self.writer)?;
        let blobs = self.writer.noted() - before;
        self.add(walked, EntryKind::File(content), meta, blobs)
    }

    /// Reads and takes in turns.
    fn stream(
        &mut self,
        mut pieces: Pieces,
        content: &mut ContentChunks,
    ) -> Result<(Pieces, Result<(), ReadError>)> {
        let mut piece = self.buffers.take();
        let read = loop {
            let read = pieces.next(&mut piece);
            if read.is_ok() {
                self.take(&piece, content)?;
            }
            if !matches!(read, Ok(true)) {
                break read.map(drop);
            }
        };
        self.buffers.0.push(piece);
        Ok((pieces, read))
    }

    /// Takes what another thread reads.
    fn follow(
        &mut self,
        pieces: Pieces,
        content: &mut ContentChunks,
    ) -> Result<(Pieces, Result<(), ReadError>)> {
        // Never full, either of them: there are no more pieces than they have room for.
        let (ahead_in, ahead) = bounded(PIECES);
        let (spare_in, spare) = bounded(PIECES);
        for _ in 0..PIECES {
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
        spare: &Sender<CutPiece>,
        content: &mut ContentChunks,
    ) -> Result<Result<(), ReadError>> {
        loop {
            let (read, piece) = ahead.recv().context("a reader ended before its time")?;
            if read.is_ok() {
                self.take(&piece, content)?;
            }
            // Nobody needs it once all is read.
            let _ = spare.send(piece);
            if !matches!(read, Ok(true)) {
                return Ok(read.map(drop));
            }
        }
    }

    fn take(&mut self, piece: &CutPiece, content: &mut ContentChunks) -> Result<()> {
        self.stop.check()?;
        Counters::add(&self.counters.bytes_read, piece.size());
        Ok(content.take(self.writer, piece)?)
    }
}
