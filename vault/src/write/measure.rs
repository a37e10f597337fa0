//! What each step of the way into the vault costs on this host: the figures behind `keephold benchmark`.
//!
//! The steps run alone, on the given number of threads, over a sample of data in memory: so their rates are upper bounds,
//! and add up as time does.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::chunk::{ChunkBounds, Chunker};
use crate::error::Error;
use crate::frame::Compressor;
use crate::ids::VaultId;
use crate::keys::{RunKey, VaultSecret, random};
use crate::limits::FRAME_RAW_TARGET;
use crate::pack::{BlobKind, PackBuilder};
use crate::store::{ObjectKey, Stored};
use crate::write::RunContext;

/// What one step does with the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRate {
    /// Bytes of the sample a second, by all threads together.
    pub bytes_s: f64,
    /// Bytes that come out for each that goes in.
    pub ratio: f64,
}

/// How a step is measured.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// The data; something of at least a megabyte tells most.
    pub sample: &'a [u8],
    /// On how many threads.
    pub threads: usize,
    /// For how long.
    pub time: Duration,
}

impl Measure<'_> {
    /// Cutting into blobs, naming them, hashing the whole.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn cut(&self, bounds: ChunkBounds) -> Result<StepRate, Error> {
        let secret = VaultSecret::generate()?;
        let (chunker, namer) = (Chunker::new(&secret, bounds), secret.blob_namer());
        self.each(
            || Ok(()),
            |(), piece| {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (chunk, tail) = rest.split_at(chunker.cut(rest));
                    std::hint::black_box(namer.name(BlobKind::Data, chunk));
                    rest = tail;
                }
                std::hint::black_box(blake3::hash(piece));
                Ok(piece.len())
            },
        )
    }

    /// Compressing with zstd at `level`.
    ///
    /// # Errors
    /// [`Error`] for a level that zstd doesn't know.
    pub fn compress(&self, level: i32) -> Result<StepRate, Error> {
        self.each(
            || Ok((Compressor::new(level)?, Vec::new())),
            |(compressor, out), piece| {
                out.clear();
                compressor.compress(piece, out)?;
                Ok(out.len())
            },
        )
    }

    /// Sealing, and naming the packs.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn seal(&self) -> Result<StepRate, Error> {
        let (vault, run) = (VaultId::from_bytes(random()?), RunKey::generate()?);
        self.each(
            || Ok(None),
            |open: &mut Option<PackBuilder>, piece| {
                let mut pack = match open.take() {
                    Some(pack) => pack,
                    None => PackBuilder::new(vault, &run, b"sample", Vec::new())?,
                };
                pack.add(BlobKind::Data, &[piece], Vec::new())?;
                if pack.is_full() {
                    std::hint::black_box(pack.finish()?);
                } else {
                    *open = Some(pack);
                }
                Ok(piece.len())
            },
        )
    }

    /// The checksums that a body travels with to an object store that needs both; SHA-256 alone is three times as fast.
    ///
    /// # Errors
    /// None that can happen.
    pub fn checksums(&self) -> Result<StepRate, Error> {
        self.each(
            || Ok(()),
            |(), piece| {
                std::hint::black_box(crate::store::checksums(piece));
                Ok(piece.len())
            },
        )
    }

    /// Runs `step` over the pieces of the sample, each thread beginning at another, until the time is over. It answers how
    /// many bytes came out.
    fn each<S>(
        &self,
        state: impl Fn() -> Result<S, Error> + Sync,
        step: impl Fn(&mut S, &[u8]) -> Result<usize, Error> + Sync,
    ) -> Result<StepRate, Error> {
        let pieces: Vec<&[u8]> = self.sample.chunks(FRAME_RAW_TARGET).collect();
        let began = Instant::now();
        let one = |thread: usize| -> Result<(u64, u64), Error> {
            let (mut state, mut went_in, mut came_out) = (state()?, 0, 0);
            for piece in pieces.iter().cycle().skip(thread * pieces.len() / self.threads.max(1)) {
                came_out += step(&mut state, piece)? as u64;
                went_in += piece.len() as u64;
                if began.elapsed() >= self.time {
                    break;
                }
            }
            Ok((went_in, came_out))
        };
        let counts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads.max(1)).map(|n| scope.spawn(move || one(n))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let took = began.elapsed().as_secs_f64();
        let (mut went_in, mut came_out) = (0, 0);
        for count in counts {
            let (i, o) =
                count.map_err(|_| Error::Stopped("a measuring thread panicked".into()))??;
            went_in += i;
            came_out += o;
        }
        #[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
        let rate = StepRate {
            bytes_s: went_in as f64 / took.max(1e-9),
            ratio: came_out as f64 / (went_in as f64).max(1.0),
        };
        Ok(rate)
    }
}

/// A pack of random bytes that can be stored: a true one, sealed to the run's recipients, which no index names. Prune takes
/// it once its lock has ended, as it takes what an interrupted run has left.
#[derive(Debug)]
pub struct SamplePack {
    key: ObjectKey,
    body: Bytes,
}

impl SamplePack {
    /// Makes a pack that holds `length` random bytes.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn make(context: &RunContext, length: usize) -> Result<Self, Error> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new_keyed(&random()?).finalize_xof().fill(&mut bytes);
        let mut pack =
            PackBuilder::new(context.vault, &context.run, &context.envelope, Vec::new())?;
        let mut compressor = Compressor::new(1)?;
        for piece in bytes.chunks(FRAME_RAW_TARGET) {
            let id = context.secret.blob_namer().name(BlobKind::Data, piece);
            let mut frame = Vec::with_capacity(piece.len() + 64);
            compressor.compress(piece, &mut frame)?;
            let length = u32::try_from(piece.len()).map_err(|e| Error::damaged("a blob", e))?;
            pack.add(BlobKind::Data, &[&frame], vec![(id, length)])?;
        }
        let built = pack.finish()?;
        Ok(Self { key: ObjectKey::pack(&built.id), body: built.bytes.into() })
    }

    /// Where it will lie.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.body.len() as u64
    }

    /// Stores it, locked as the run's packs are.
    ///
    /// # Errors
    /// As [`Store::put`](crate::store::Store::put).
    pub async fn store(self, context: &RunContext) -> Result<Stored, Error> {
        Ok(context.store.put(&self.key, self.body, context.retain_until).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn every_step_is_measured_and_only_compression_shrinks() {
        let sample = [vec![b'a'; 2 << 20], noise(1, 1 << 20)].concat();
        let measure = Measure { sample: &sample, threads: 2, time: Duration::from_millis(50) };
        for rate in [
            measure.cut(ChunkBounds::default()).unwrap(),
            measure.seal().unwrap(),
            measure.checksums().unwrap(),
        ] {
            assert!(rate.bytes_s > 1e6 && (rate.ratio - 1.0).abs() < 1e-9, "{rate:?}");
        }
        let packed = measure.compress(3).unwrap();
        assert!(packed.ratio > 0.1 && packed.ratio < 0.9, "{packed:?}");
        let nothing = Measure { sample: &[], ..measure };
        assert_eq!(nothing.compress(3).unwrap().bytes_s, 0.0);
    }
}
