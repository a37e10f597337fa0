//! The checksums that a body travels with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha2::Sha256;

/// Bodies beyond this many bytes are hashed on a thread of their own: a pack takes some 25 ms.
const INLINE_LEN_MAX: usize = 64 * 1024;

/// Both work on blocks of so many bytes.
const BLOCK: usize = 64;

/// The SHA-256 of nothing.
const NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A body's SHA-256, which S3's signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Sha256Sum(pub(in crate::store) [u8; 32]);

impl Sha256Sum {
    /// Of an empty body.
    pub(in crate::store) const NOTHING: Self = Self(NOTHING);

    /// Hashes a body.
    pub(in crate::store) async fn of(body: &Bytes) -> Self {
        aside(body, |body| Self(Sha256::digest(body).into())).await
    }

    pub(in crate::store) fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

/// The checksums of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Sums {
    pub(in crate::store) sha256: Sha256Sum,
    pub(in crate::store) md5: [u8; 16],
}

/// Hashes a body, a large one where it holds nothing else up.
async fn aside<T: Send + 'static>(body: &Bytes, hash: fn(&[u8]) -> T) -> T {
    if body.len() <= INLINE_LEN_MAX {
        return hash(body);
    }
    let again = body.clone();
    match tokio::task::spawn_blocking(move || hash(&again)).await {
        Ok(sums) => sums,
        // Only when the runtime is being shut down.
        Err(_) => hash(body),
    }
}

impl Sums {
    /// Hashes a body.
    pub(in crate::store) async fn of(body: &Bytes) -> Self {
        aside(body, Self::now).await
    }

    /// Hashes a small body at once. Block by block in turns: MD5 waits for itself most of the time, and the other
    /// fills that (16 MiB take 25 ms instead of 23 + 8).
    pub(in crate::store) fn now(body: &[u8]) -> Self {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        for block in body.chunks(BLOCK) {
            md5.update(block);
            sha256.update(block);
        }
        Self { sha256: Sha256Sum(sha256.finalize().into()), md5: md5.finalize().into() }
    }

    pub(in crate::store) fn md5_base64(&self) -> String {
        STANDARD.encode(self.md5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checksums_are_the_known_ones() {
        assert_eq!(Sums::now(b"").sha256, Sha256Sum::NOTHING);
        assert_eq!(Sums::now(b"").md5_base64(), "1B2M2Y8AsgTpgAmY7PhCfg==");
        let body = Bytes::from(crate::testing::noise(1, INLINE_LEN_MAX + 1));
        let sums = Sums::of(&body).await;
        assert_eq!(sums.sha256.0[..], Sha256::digest(&body)[..]);
        assert_eq!(Sha256Sum::of(&body).await, sums.sha256);
        assert_eq!(sums.md5[..], Md5::digest(&body)[..]);
    }
}
