//! A program's output in pieces that are large, few, and used again.
//!
//! `pg_dump` writes a few kilobytes at a time into a pipe of 64 KiB. Read as it comes, each write wakes the reader, and on two
//! cores that costs as much as hashing the data. So a thread of its own reads from a larger pipe, and lets it fill.

use std::{
    io::PipeReader,
    ops::Deref,
    process::Stdio,
    sync::mpsc::{Receiver as SpareReceiver, Sender as SpareSender},
    time::Duration,
};

use rustix::{buffer::spare_capacity, io::Errno};
use tokio::sync::mpsc;

/// How much is read before it is passed on, in bytes.
const PIECE: usize = 256 << 10;
/// How many pieces may wait for whoever takes them.
const WAITING: usize = 8;
/// Capacity asked for: the most that Linux allows without privileges (pipe(7), `/proc/sys/fs/pipe-max-size`).
const PIPE: usize = 1 << 20;
/// After a read of less than this, the pipe is left to fill for a moment.
const SHORT: usize = 64 << 10;
/// That moment. The pipe takes what is written in it at up to 1 GB/s.
const MOMENT: Duration = Duration::from_millis(1);

/// Part of a program's output. Its buffer is used again once it is dropped.
#[derive(Debug)]
pub struct Piece {
    bytes: Vec<u8>,
    home: SpareSender<Vec<u8>>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nobody takes it back once the output has ended.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// The output of a program, in order. Dropping it closes the pipe: the program can't write any more.
#[derive(Debug)]
pub struct Pieces(mpsc::Receiver<std::io::Result<Piece>>);

impl Pieces {
    /// A pipe: the end that a program gets, and the pieces of what it will write.
    pub(crate) fn pipe() -> std::io::Result<(Stdio, Self)> {
        let (reader, writer) = std::io::pipe()?;
        // A host can forbid it; then the pipe stays small, and must be read at once.
        let large = rustix::pipe::fcntl_setpipe_size(&reader, PIPE).is_ok_and(|size| size >= PIPE);
        let (pieces, taken) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("read-program".into()).spawn(move || {
            if let Err(error) = read(&reader, large, &pieces) {
                let _ = pieces.blocking_send(Err(error.into()));
            }
        })?;
        Ok((writer.into(), Self(taken)))
    }

    /// The next piece; `None` at the end of the output, which says nothing of how the program ended.
    ///
    /// # Errors
    /// When the pipe can't be read.
    pub async fn next(&mut self) -> std::io::Result<Option<Piece>> {
        self.0.recv().await.transpose()
    }

    /// [`Self::next`], for threads that aren't of an asynchronous runtime.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_blocking(&mut self) -> std::io::Result<Option<Piece>> {
        self.0.blocking_recv().transpose()
    }

    /// The whole output.
    ///
    /// # Errors
    /// As [`Self::next`]; also when it is longer than `max` bytes.
    pub async fn collect(&mut self, max: usize) -> std::io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > max {
                return Err(std::io::Error::other(format!("it is longer than {max} bytes")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

fn read(
    pipe: &PipeReader,
    large: bool,
    pieces: &mpsc::Sender<std::io::Result<Piece>>,
) -> Result<(), Errno> {
    let (home, spare): (_, SpareReceiver<Vec<u8>>) = std::sync::mpsc::channel();
    loop {
        let mut bytes = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        bytes.clear();
        let mut ended = false;
        while !ended && bytes.len() < PIECE - SHORT {
            match rustix::io::read(pipe, spare_capacity(&mut bytes)) {
                Ok(0) => ended = true,
                Ok(n) if n < SHORT && large => std::thread::sleep(MOMENT),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        let piece = Piece { bytes, home: home.clone() };
        if !piece.is_empty() && pieces.blocking_send(Ok(piece)).is_err() || ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn output(script: &str) -> Pieces {
        let (stdout, pieces) = Pieces::pipe().unwrap();
        let mut shell =
            Command::new("/bin/sh").args(["-c", script]).stdout(stdout).spawn().unwrap();
        std::thread::spawn(move || shell.wait());
        pieces
    }

    #[tokio::test]
    async fn all_of_it_comes_in_order() {
        let whole = output("seq 1 300000; sleep 0.1; echo end").collect(1 << 22).await.unwrap();
        let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
        assert!(whole == (expected + "end\n").into_bytes());
        assert!(output("true").next().await.unwrap().is_none());
        assert!(output("seq 1 300000").collect(1000).await.is_err());
    }

    #[tokio::test]
    async fn many_small_writes_become_few_pieces() {
        let mut pieces = output("for n in $(seq 1000); do echo 'a line of the output'; done");
        let mut n = 0;
        while pieces.next().await.unwrap().is_some() {
            n += 1;
        }
        assert_eq!(n, 1);
    }
}
