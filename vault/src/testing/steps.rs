//! Each step of the pipeline by itself, over the same bytes: for benchmarks and the check of instruction counts.

use crate::chunk::{ChunkBounds, Chunker};
use crate::error::Error;
use crate::frame::{Compressor, Expander};
use crate::ids::{BlobId, PackId, VaultId};
use crate::keys::{BlobNamer, RunKey, VaultSecret};
use crate::limits::{FRAME_RAW_MAX, FRAME_RAW_TARGET};
use crate::pack::{BlobKind, OpenPack, PackBuilder, check_name};
use crate::seal::{MessageKind, ObjectKind, Sealer};
use crate::write::Settings;

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const SALT: [u8; 16] = [9; 16];

/// Bytes that shrink like source code, the same everywhere: lines of words, some of which come again and again.
pub fn text(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // xorshift64* (Vigna, 2016): small, and its numbers never change.
    let mut draw = move |below: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    };
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        // The smaller of two draws: some words are far commoner than others.
        let word = draw(8_000).min(draw(8_000));
        bytes.extend_from_slice(format!("{:x}", word * 2_654_435_761).as_bytes());
        bytes.push(if draw(9) == 0 { b'\n' } else { b' ' });
    }
    bytes.truncate(length);
    bytes
}

/// The steps, with what each of them needs made ready.
pub struct Steps {
    raw: Vec<u8>,
    chunker: Chunker,
    namer: BlobNamer,
    run: RunKey,
    compressor: Compressor,
    expander: Expander,
    sealer: Sealer,
    compressed: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
    pack: (PackId, Vec<u8>),
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Steps({} bytes)", self.raw.len())
    }
}

impl Steps {
    /// The names of the steps, in the order of the pipeline.
    pub const ALL: [&str; 9] =
        ["chunk", "name", "names", "compress", "seal", "pack", "open", "expand", "check"];

    /// Makes ready to run each step over `raw`.
    ///
    /// # Errors
    /// [`Error`] if a step fails.
    pub fn new(raw: Vec<u8>) -> Result<Self, Error> {
        let secret = VaultSecret::from_bytes([1; 32]);
        let run = RunKey::from_bytes([2; 32]);
        let mut steps = Self {
            raw,
            chunker: Chunker::new(&secret, ChunkBounds::default()),
            namer: secret.blob_namer(),
            compressor: Compressor::new(Settings::default().level)?,
            expander: Expander::new(),
            sealer: Sealer::new(&run.pack_key(&VAULT, &SALT), ObjectKind::Pack, VAULT, SALT),
            run,
            compressed: Vec::new(),
            sealed: Vec::new(),
            pack: (PackId::from_bytes([0; 32]), Vec::new()),
        };
        steps.compressed = steps.compress()?;
        steps.sealed = steps.seal()?;
        steps.pack = steps.pack()?;
        Ok(steps)
    }

    /// How many bytes each step goes through.
    pub fn length(&self) -> usize {
        self.raw.len()
    }

    /// Runs a step once; answers a number that depends on its result.
    ///
    /// # Errors
    /// [`Error`] if it fails, or there is no such step.
    pub fn run(&mut self, step: &str) -> Result<usize, Error> {
        let total = |parts: Vec<Vec<u8>>| parts.iter().map(Vec::len).sum();
        match step {
            "chunk" => Ok(self.chunks().count()),
            "name" => Ok(self.names().iter().map(|(id, _)| usize::from(id.as_bytes()[0])).sum()),
            "names" => Ok(self.side_by_side().iter().map(|id| usize::from(id.as_bytes()[0])).sum()),
            "compress" => self.compress().map(total),
            "seal" => self.seal().map(total),
            "pack" => self.pack().map(|(_, bytes)| bytes.len()),
            "open" => self.open().map(total),
            "expand" => self.expand(),
            "check" => self.check(),
            other => Err(Error::Stopped(format!("there is no step '{other}'"))),
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.raw.as_slice();
        std::iter::from_fn(move || {
            let (chunk, tail) = rest.split_at(self.chunker.cut(rest));
            rest = tail;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Names pieces of the size of ordinary small files.
    fn names(&self) -> Vec<(BlobId, u32)> {
        let name = |piece: &[u8]| {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            (self.namer.name(BlobKind::Data, piece), length)
        };
        self.raw.chunks(16 * 1024).map(name).collect()
    }

    /// Names pieces of very different sizes, as those of small files are.
    fn side_by_side(&self) -> Vec<BlobId> {
        let (mut rest, mut number, mut pieces) = (self.raw.as_slice(), 0, Vec::new());
        while !rest.is_empty() {
            number += 1;
            let (piece, after) = rest.split_at(rest.len().min(number * number * 37 % 49_999 + 1));
            pieces.push(piece);
            rest = after;
        }
        self.namer.name_all(BlobKind::Data, &pieces)
    }

    fn compress(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let mut frames = Vec::new();
        for frame in self.raw.chunks(FRAME_RAW_TARGET) {
            let mut out = Vec::new();
            self.compressor.compress(frame, &mut out)?;
            frames.push(out);
        }
        Ok(frames)
    }

    fn seal(&self) -> Result<Vec<Vec<u8>>, Error> {
        let seal = |frame: &Vec<u8>| {
            let mut message = frame.clone();
            self.sealer.seal_tail(&mut message, 0, MessageKind::Data)?;
            Ok(message)
        };
        self.compressed.iter().map(seal).collect()
    }

    /// Seals all frames into one pack, and names it.
    fn pack(&self) -> Result<(PackId, Vec<u8>), Error> {
        let mut pack = PackBuilder::new(VAULT, &self.run, b"envelope", Vec::new())?;
        let names = self.names();
        for (frame, names) in self.compressed.iter().zip(names.chunks(FRAME_RAW_TARGET / 16_384)) {
            pack.add(BlobKind::Data, &[frame], names.to_vec())?;
        }
        let built = pack.finish()?;
        Ok((built.id, built.bytes))
    }

    fn open(&self) -> Result<Vec<Vec<u8>>, Error> {
        let open =
            |message: &Vec<u8>| self.sealer.open(message.clone(), 0, MessageKind::Data, "a frame");
        self.sealed.iter().map(open).collect()
    }

    fn expand(&mut self) -> Result<usize, Error> {
        let mut total = 0;
        for frame in &self.compressed {
            total += self.expander.expand(frame.clone(), FRAME_RAW_MAX, "a frame")?.len();
        }
        Ok(total)
    }

    /// What verification does with a pack: name, open, expand, name blobs.
    fn check(&self) -> Result<usize, Error> {
        let (id, bytes) = &self.pack;
        if !check_name(id, bytes) {
            return Err(Error::damaged("a pack", "it has another name"));
        }
        let mut pack = OpenPack::open(id, bytes, VAULT, &self.run)?;
        let (blobs, _) = pack.check_blobs(bytes, &self.namer)?;
        usize::try_from(blobs).map_err(|e| Error::damaged("a pack", e))
    }
}
