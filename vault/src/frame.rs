//! Frames: blobs laid end to end and compressed together.
//!
//! Expanded form of every frame and index block: one byte codec, the raw length (u32 LE), the payload.

use zstd_safe::{CCtx, CParameter, DCtx};

use crate::error::Error;

const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// Bytes in front of a frame's payload.
pub(crate) const FRAME_HEAD_LEN: usize = 5;

/// Where samples of a frame are taken to see whether it shrinks, and how long each is. Three samples of 4 KiB cost
/// under half a per cent of compressing a whole frame of 1 MiB.
const SAMPLE_LEN: usize = 4 * 1024;
/// A frame is only worth compressing if its samples shrink below this share, in 1/1024.
const WORTH_PER_1024: usize = 1003;

/// The window that compression looks back over, as a power of two: a whole frame.
const WINDOW_LOG: u32 = 22;
/// At zstd's fast strategy (levels 1 and 2) matches shorter than seven bytes aren't looked for: level 2's own six make
/// frames no smaller, and take 2 to 5 % longer.
const FAST_MIN_MATCH: u32 = 7;
/// A hash table of 256 KiB leaves the rest of a core's own cache to the frame: twice as large, it makes frames 0 to 3 %
/// smaller, in 8 to 14 % more time. bench/README.md has the figures.
const FAST_HASH_LOG: u32 = 16;
/// The highest level with that strategy.
const FAST_LEVEL: i32 = 2;

/// The expanded form of a frame, in two parts, so that a payload that doesn't shrink is never copied.
#[derive(Debug)]
pub(crate) struct Encoded {
    head: [u8; FRAME_HEAD_LEN],
    payload: Vec<u8>,
}

impl Encoded {
    /// Its parts, in order.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.payload]
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        FRAME_HEAD_LEN + self.payload.len()
    }

    /// Gives up room that it doesn't need.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.payload.shrink_to_fit();
    }

    /// The buffer that a frame was gathered in, if that is what it holds.
    pub(crate) fn into_raw(self) -> Option<Vec<u8>> {
        (self.head[0] == STORED).then_some(self.payload)
    }
}

/// Compresses frames; keeps its contexts and room from one to the next.
pub(crate) struct Compressor {
    context: CCtx<'static>,
    sampler: CCtx<'static>,
    /// Of samples.
    scratch: Vec<u8>,
    room: Vec<u8>,
    /// Whether the last frame shrank. Like follows like: only after one that did not is the next one sampled first.
    shrank: bool,
}

impl Compressor {
    /// A compressor at zstd's `level` (1 to 19).
    pub(crate) fn new(level: i32) -> Result<Self, Error> {
        let mut context = CCtx::create();
        let mut sampler = CCtx::create();
        let failed = |code| Error::damaged("zstd's settings", zstd_safe::get_error_name(code));
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        context.set_parameter(CParameter::WindowLog(WINDOW_LOG)).map_err(failed)?;
        if level <= FAST_LEVEL {
            context.set_parameter(CParameter::HashLog(FAST_HASH_LOG)).map_err(failed)?;
            context.set_parameter(CParameter::MinMatch(FAST_MIN_MATCH)).map_err(failed)?;
        }
        // The seal checks integrity, and the raw length stands in front: neither is needed twice.
        context.set_parameter(CParameter::ChecksumFlag(false)).map_err(failed)?;
        context.set_parameter(CParameter::ContentSizeFlag(false)).map_err(failed)?;
        sampler.set_parameter(CParameter::CompressionLevel(1)).map_err(failed)?;
        Ok(Self { context, sampler, scratch: Vec::new(), room: Vec::new(), shrank: true })
    }

    /// Appends the expanded form's head and payload to `out`.
    pub(crate) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let shrank = self.shrink(raw)?;
        out.extend_from_slice(&head(shrank, raw)?);
        out.extend_from_slice(if shrank { &self.room } else { raw });
        Ok(())
    }

    /// Encodes a frame; gives its buffer back unless that is the payload. What shrinks is copied out of room that is kept:
    /// a copy of what is left costs less than room for whole frames in each queue.
    pub(crate) fn encode(&mut self, raw: Vec<u8>) -> Result<(Encoded, Option<Vec<u8>>), Error> {
        let shrank = self.shrink(&raw)?;
        let head = head(shrank, &raw)?;
        let (payload, other) = if shrank { (self.room.clone(), Some(raw)) } else { (raw, None) };
        Ok((Encoded { head, payload }, other))
    }

    /// Compresses `raw` into the room that is kept, unless it doesn't shrink: answers whether it did.
    fn shrink(&mut self, raw: &[u8]) -> Result<bool, Error> {
        if !self.shrank && !self.shrinks(raw) {
            return Ok(false);
        }
        self.room.clear();
        self.room.reserve(zstd_safe::compress_bound(raw.len()));
        let written = self
            .context
            .compress2(&mut self.room, raw)
            .map_err(|code| Error::damaged("a frame", zstd_safe::get_error_name(code)))?;
        self.shrank = written * 1024 < raw.len() * WORTH_PER_1024;
        Ok(self.shrank)
    }

    /// The early way out: whether samples of `raw` shrink at zstd's fastest level.
    fn shrinks(&mut self, raw: &[u8]) -> bool {
        if raw.len() < 8 * SAMPLE_LEN {
            return true;
        }
        self.scratch.resize(zstd_safe::compress_bound(SAMPLE_LEN), 0);
        let mut total = 0;
        for part in [0, 1, 2] {
            let at = (raw.len() - SAMPLE_LEN) / 2 * part;
            match self.sampler.compress2(self.scratch.as_mut_slice(), &raw[at..at + SAMPLE_LEN]) {
                Ok(n) => total += n,
                Err(_) => return true,
            }
        }
        total * 1024 < 3 * SAMPLE_LEN * WORTH_PER_1024
    }
}

fn head(shrank: bool, raw: &[u8]) -> Result<[u8; FRAME_HEAD_LEN], Error> {
    let length =
        u32::try_from(raw.len()).map_err(|_| Error::damaged("a frame", "it is too long"))?;
    let [a, b, c, d] = length.to_le_bytes();
    Ok([if shrank { ZSTD } else { STORED }, a, b, c, d])
}

/// Expands frames; keeps its context from one to the next.
pub(crate) struct Expander(DCtx<'static>);

impl std::fmt::Debug for Expander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expander")
    }
}

impl Expander {
    pub(crate) fn new() -> Self {
        Self(DCtx::create())
    }

    /// Expands what [`Compressor::compress`] wrote, believing no more than `max` bytes.
    pub(crate) fn expand(
        &mut self,
        frame: Vec<u8>,
        max: u32,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let Some((head, payload)) = frame.split_first_chunk::<FRAME_HEAD_LEN>() else {
            return Err(Error::damaged(what, "a frame is shorter than its head"));
        };
        let [codec, length @ ..] = *head;
        let length = u32::from_le_bytes(length);
        if length > max {
            return Err(Error::damaged(
                what,
                format!("a frame claims {length} bytes, over the bound of {max}"),
            ));
        }
        match codec {
            STORED if payload.len() == length as usize => {
                let mut frame = frame;
                frame.drain(..FRAME_HEAD_LEN);
                Ok(frame)
            }
            ZSTD => {
                // Room that isn't cleared first, and hardly more of it than is to be believed.
                let mut raw = Vec::with_capacity(length as usize);
                let written = self
                    .0
                    .decompress(&mut raw, payload)
                    .map_err(|code| Error::damaged(what, zstd_safe::get_error_name(code)))?;
                if written != length as usize {
                    return Err(Error::damaged(
                        what,
                        format!("a frame of {length} bytes expanded to {written}"),
                    ));
                }
                Ok(raw)
            }
            STORED => Err(Error::damaged(what, "a stored frame has another length than it says")),
            other => Err(Error::NewerFormat { what: what.into(), found: format!("codec {other}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(raw: &[u8]) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        Compressor::new(3).unwrap().compress(raw, &mut out).unwrap();
        let (encoded, _) = Compressor::new(3).unwrap().encode(raw.to_vec()).unwrap();
        assert!(encoded.parts().concat() == out && encoded.len() == out.len());
        (out.len(), Expander::new().expand(out, raw.len() as u32, "it").unwrap())
    }

    #[test]
    fn text_shrinks_and_noise_is_stored_as_it_is() {
        let text = b"all work and no play makes a dull backup. ".repeat(20_000);
        let (length, back) = round(&text);
        assert!(length < text.len() / 20 && back == text);
        let mut noise = vec![0; 500_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let (length, back) = round(&noise);
        assert!(length == noise.len() + FRAME_HEAD_LEN && back == noise);
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_memory_is_taken() {
        let mut frame = vec![ZSTD];
        frame.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(Expander::new().expand(frame, 1 << 20, "it").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(raw in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            prop_assert_eq!(round(&raw).1, raw);
        }

        #[test]
        fn any_bytes_are_expanded_or_refused(frame in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            if let Ok(raw) = Expander::new().expand(frame, 10_000, "it") {
                prop_assert!(raw.len() <= 10_000);
            }
        }
    }
}
