//! What one upload sends: the bytes, their checksums, their lock.
//!
//! Amazon takes a locked object with `Content-MD5` or with an `x-amz-checksum-*` header
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>). Every upload has the second, which is the
//! SHA-256 that the signature covers as well. MD5 costs three times as much, on a host that may be busy compressing:
//! packs go without it to a server that tells the SHA-256 back, as Amazon does. Others get both: some look at nothing but MD5.

use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::store::http::{Answer, Call, Sha256Sum, Sums};
use crate::store::{Lock, ObjectKey};

/// Bodies up to this many bytes always carry both: it costs nothing.
const SMALL_LEN: usize = 64 * 1024;

/// An object on its way into the bucket.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) body: &'a Bytes,
    pub(super) lock: Option<Lock>,
    pub(super) sums: Carried,
}

/// The checksums that travel with it.
#[derive(Debug)]
pub(super) enum Carried {
    Both(Sums),
    Sha256(Sha256Sum),
}

impl Upload<'_> {
    pub(super) fn sha256(&self) -> Sha256Sum {
        match &self.sums {
            Carried::Both(sums) => sums.sha256,
            Carried::Sha256(sum) => *sum,
        }
    }

    /// Computed now, if it doesn't travel with it.
    pub(super) async fn md5(&self) -> [u8; 16] {
        match &self.sums {
            Carried::Both(sums) => sums.md5,
            Carried::Sha256(_) => Sums::of(self.body).await.md5,
        }
    }

    /// Puts the body into a request.
    pub(super) fn fill<'c>(&self, call: Call<'c>) -> Call<'c> {
        let body = self.body.clone();
        match &self.sums {
            Carried::Both(sums) => call.body(body, sums),
            Carried::Sha256(sum) => call.body_without_md5(body, *sum),
        }
    }
}

/// Whether a server needs MD5 with what it stores: it does until its answers say otherwise.
#[derive(Debug, Default)]
pub(super) struct Md5Need(AtomicU8);

const UNKNOWN: u8 = 0;
const SPARED: u8 = 1;
const DEMANDED: u8 = 2;

impl Md5Need {
    /// Computes the checksums that a body needs.
    pub(super) async fn sums(&self, body: &Bytes) -> Carried {
        if body.len() > SMALL_LEN && self.0.load(Ordering::Relaxed) == SPARED {
            Carried::Sha256(Sha256Sum::of(body).await)
        } else {
            Carried::Both(Sums::of(body).await)
        }
    }

    /// Looks at the answer to an upload that succeeded: a server that tells the SHA-256 back has compared it.
    pub(super) fn observe(&self, answer: &Answer, sent: Sha256Sum) {
        if answer.header("x-amz-checksum-sha256") == Some(&*sent.base64()) {
            // Not over DEMANDED: what was refused once would be refused again.
            let _ = self.0.compare_exchange(UNKNOWN, SPARED, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Remembers that an upload without MD5 was refused.
    pub(super) fn demand(&self) {
        self.0.store(DEMANDED, Ordering::Relaxed);
    }
}
