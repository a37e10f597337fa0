//! Sealing, signing and naming records, and the way back.
//!
//! `header ‖ body length (u32 LE) ‖ sealed body ‖ armoured SSH signature of everything before it`. The body is the
//! record as JSON in a frame's expanded form, sealed with a key from the vault's secret.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::Error;
use crate::frame::{Compressor, Expander};
use crate::ids::{RecordHash, VaultId};
use crate::keys::{OpensMetadata, VaultSecret, random};
use crate::limits::{RECORD_BODY_MAX, RECORD_LEN_MAX};
use crate::record::Record;
use crate::seal::{Fields, Header, MessageKind, ObjectKind, Sealer};
use crate::sign::{AllowedSigners, Purpose, Signer, SigningKey};
use crate::store::ObjectKey;

/// What a record's key says of it: `runs/<host>/<job>/<utc>-<seq>-<id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The host.
    pub host: String,
    /// The job.
    pub job: String,
    /// When the run started, to the second (UTC).
    pub started: Timestamp,
    /// Number of the run.
    pub seq: u64,
    /// The first 16 bytes of the BLAKE3 of the record's stored bytes, in hexadecimal.
    pub id: String,
}

/// How the time of a run stands in its key, for example `20261123T181500Z`.
const KEY_TIME: &str = "%Y%m%dT%H%M%SZ";

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.started.strftime(KEY_TIME);
        write!(f, "runs/{}/{}/{time}-{}-{}", self.host, self.job, self.seq, self.id)
    }
}

impl FromStr for RecordKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            ObjectKey::parse(text)?;
            let mut parts = text.strip_prefix("runs/")?.split('/');
            let (host, job, name) = (parts.next()?, parts.next()?, parts.next()?);
            let mut fields = name.splitn(3, '-');
            let (time, seq, id) = (fields.next()?, fields.next()?, fields.next()?);
            let started = jiff::civil::DateTime::strptime(KEY_TIME, time).ok()?;
            let started = TimeZone::UTC.to_timestamp(started).ok()?;
            let sound = parts.next().is_none()
                && id.len() == 32
                && id.bytes().all(|c| c.is_ascii_hexdigit());
            let key = Self {
                host: host.into(),
                job: job.into(),
                started,
                seq: seq.parse().ok()?,
                id: id.into(),
            };
            (sound && key.to_string() == text).then_some(key)
        };
        read().ok_or_else(|| Error::damaged(text, "it is not named as a run record is"))
    }
}

impl RecordKey {
    /// Whether these stored bytes are those that the key names. Needs no key.
    pub fn names(&self, bytes: &[u8]) -> bool {
        hex::encode(&blake3::hash(bytes).as_bytes()[..16]) == self.id
    }

    /// The object's key.
    ///
    /// # Errors
    /// [`Error::BadKey`] if host or job hold characters that keys may not.
    pub fn object(&self) -> Result<ObjectKey, Error> {
        ObjectKey::parse(&self.to_string()).ok_or_else(|| Error::BadKey {
            what: format!("the name of host '{}' or job '{}'", self.host, self.job),
            why: "only letters, digits, '.', '_', '-' may stand in it, and no dot in front".into(),
        })
    }
}

/// A record's stored bytes.
#[derive(Debug, Clone)]
pub struct SealedRecord {
    /// Its key.
    pub key: RecordKey,
    /// Hash of its bytes, which the next record carries.
    pub hash: RecordHash,
    /// Its bytes.
    pub bytes: Vec<u8>,
    header: Header,
    header_len: usize,
    signed_len: usize,
}

/// Seals and signs a record.
///
/// # Errors
/// [`Error::Local`] if the system's random source fails, [`Error::BadKey`] if the key can't sign.
pub fn seal(
    record: &Record,
    vault: VaultId,
    secret: &VaultSecret,
    envelope: &[u8],
    key: &SigningKey,
) -> Result<SealedRecord, Error> {
    let damaged = |e: &dyn fmt::Display| Error::damaged("a run record", e);
    let salt = random()?;
    let header = Header { vault, salt, envelope: envelope.to_vec() };
    let mut bytes = Vec::new();
    header.write(ObjectKind::Record, &mut bytes)?;
    let header_len = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    let start = bytes.len();
    let json = serde_json::to_vec(record).map_err(|e| damaged(&e))?;
    Compressor::new(9)?.compress(&json, &mut bytes)?;
    Sealer::new(&secret.metadata().record_key(&vault, &salt), ObjectKind::Record, vault, salt)
        .seal_tail(&mut bytes, start, MessageKind::Record)?;
    let length = u32::try_from(bytes.len() - start).map_err(|e| damaged(&e))?;
    bytes[header_len..start].copy_from_slice(&length.to_le_bytes());
    let signed_len = bytes.len();
    let signature = key.sign(Purpose::Record, &bytes)?;
    bytes.extend_from_slice(signature.as_bytes());
    let hash = RecordHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    let started = Timestamp::from_second(record.started.as_second()).map_err(|e| damaged(&e))?;
    let key = RecordKey {
        host: record.host.clone(),
        job: record.job.clone(),
        started,
        seq: record.seq,
        id: hex::encode(&hash.as_bytes()[..16]),
    };
    key.object()?;
    Ok(SealedRecord { key, hash, bytes, header, header_len, signed_len })
}

#[derive(serde::Deserialize)]
struct FormatOnly {
    format: String,
}

impl SealedRecord {
    /// Takes stored bytes that were found under `key`. Checks, without any key, that they are those that it names.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::NewerFormat`].
    pub fn read(key: RecordKey, bytes: Vec<u8>) -> Result<Self, Error> {
        let what = format!("record {key}");
        if bytes.len() as u64 > RECORD_LEN_MAX {
            return Err(Error::damaged(what, "it is longer than any record"));
        }
        let hash = RecordHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        if hex::encode(&hash.as_bytes()[..16]) != key.id {
            return Err(Error::damaged(
                what,
                "its bytes are not those that its name is the hash of",
            ));
        }
        let (header, header_len) = Header::read(ObjectKind::Record, &bytes, &what)?;
        let mut fields = Fields { rest: &bytes[header_len..], what: &what };
        let length = fields.u32()? as usize;
        fields.take(length)?;
        Ok(Self { signed_len: header_len + 4 + length, key, hash, bytes, header, header_len })
    }

    /// The envelope with the run's keys.
    pub fn envelope(&self) -> &[u8] {
        &self.header.envelope
    }

    /// The vault that it says it belongs to.
    pub fn vault(&self) -> VaultId {
        self.header.vault
    }

    /// The bytes that are signed, and the armoured signature: what `ssh-keygen -Y verify` takes.
    pub fn signed(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.signed_len)
    }

    /// Checks the signature, and that its signer may speak for the host whose record it is; needs no secret. `at` is
    /// when the store took the record, if its key's time is to count.
    ///
    /// # Errors
    /// [`Error::Signature`]; [`Error::SignedOutOfTime`].
    pub fn check_signature(
        &self,
        signers: &AllowedSigners,
        at: Option<Timestamp>,
    ) -> Result<Signer, Error> {
        let (message, signature) = self.signed();
        let what = format!("record {}", self.key);
        let signature = std::str::from_utf8(signature)
            .map_err(|_| Error::Signature { what: what.clone(), why: "it is no text".into() })?;
        let signer = signers.check(Purpose::Record, message, signature, &what, at)?;
        if signer.speaks_for(&self.key.host) {
            Ok(signer)
        } else {
            let why = format!(
                "it was made by '{}', who may not sign for host '{}'",
                signer.principal, self.key.host
            );
            Err(Error::Signature { what, why })
        }
    }

    /// Opens the body with the vault's secret or metadata key, and holds what it says against the record's name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::OtherVault`], [`Error::NewerFormat`].
    pub fn open(&self, vault: VaultId, secret: &impl OpensMetadata) -> Result<Record, Error> {
        let what = format!("record {}", self.key);
        if self.header.vault != vault {
            return Err(Error::OtherVault {
                what,
                found: self.header.vault.to_string(),
                expected: vault.to_string(),
            });
        }
        let sealer = Sealer::new(
            &secret.metadata().record_key(&vault, &self.header.salt),
            ObjectKind::Record,
            vault,
            self.header.salt,
        );
        let start = self.header_len + 4;
        let body = self.bytes[start..self.signed_len].to_vec();
        let body = sealer.open(body, start as u64, MessageKind::Record, &what)?;
        let json = Expander::new().expand(body, RECORD_BODY_MAX, &what)?;
        let damaged = |e| Error::damaged(&what, e);
        // A newer record may hold words that this program can't read.
        let format: FormatOnly = serde_json::from_slice(&json).map_err(damaged)?;
        if format.format != Record::FORMAT {
            return Err(Error::NewerFormat { what, found: format.format });
        }
        let record: Record = serde_json::from_slice(&json).map_err(damaged)?;
        let key = &self.key;
        if (&record.host, &record.job, record.seq, record.started.as_second())
            != (&key.host, &key.job, key.seq, key.started.as_second())
        {
            return Err(Error::damaged(what, "it stands under the name of another run"));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Fingerprint;
    use crate::record::{JobKind, Retention, Status, Totals};

    const VAULT: VaultId = VaultId::from_bytes([8; 16]);

    fn record() -> Record {
        let started: Timestamp = "2026-11-23T18:15:00.5Z".parse().unwrap();
        Record {
            format: Record::FORMAT.into(),
            vault: Fingerprint::from_bytes([1; 32]),
            host: "db1".into(),
            job: "etc".into(),
            kind: JobKind::Directory,
            seq: 7,
            previous: None,
            started,
            finished: started,
            clock_offset_ms: None,
            status: Status::Failed,
            messages: vec![],
            program: "keephold 0.1.0".into(),
            recipients: vec![],
            retention: Retention {
                class: "keep".into(),
                expires: started,
                evidence_until: started,
                mode: None,
            },
            source: None,
            totals: Totals::default(),
            snapshot: None,
            copies: Vec::new(),
        }
    }

    #[test]
    fn a_record_is_opened_checked_and_bound_to_its_name() {
        let secret = VaultSecret::from_bytes([1; 32]);
        let signing = SigningKey::generate("db1").unwrap();
        let sealed = seal(&record(), VAULT, &secret, b"envelope", &signing).unwrap();
        assert!(
            sealed.key.to_string().starts_with("runs/db1/etc/20261123T181500Z-7-"),
            "{}",
            sealed.key
        );
        let key: RecordKey = sealed.key.to_string().parse().unwrap();
        let back = SealedRecord::read(key.clone(), sealed.bytes.clone()).unwrap();
        assert_eq!(back.open(VAULT, &secret).unwrap(), record());
        assert_eq!((back.envelope(), back.hash), (&b"envelope"[..], sealed.hash));
        let signers = AllowedSigners::parse(&signing.public().to_openssh()).unwrap();
        assert_eq!(back.check_signature(&signers, None).unwrap().principal, "db1");

        // The same bytes under another run's name, or other bytes under this name, are refused.
        let moved = RecordKey { seq: 8, ..key.clone() };
        let error = SealedRecord::read(moved, sealed.bytes.clone())
            .unwrap()
            .open(VAULT, &secret)
            .unwrap_err();
        assert!(error.to_string().contains("under the name of another run"), "{error}");
        for i in 0..sealed.bytes.len() {
            let mut bad = sealed.bytes.clone();
            bad[i] ^= 1;
            assert!(SealedRecord::read(key.clone(), bad).is_err(), "byte {i}");
            assert!(
                SealedRecord::read(key.clone(), sealed.bytes[..i].to_vec()).is_err(),
                "cut at {i}"
            );
        }
    }

    #[test]
    fn names_that_no_record_has_are_refused() {
        for bad in [
            "runs/a/b/20261123T181500Z-7-abc",
            "runs/a/b/c/20261123T181500Z-7-00000000000000000000000000000000",
            "runs/a/b/20261323T181500Z-7-00000000000000000000000000000000",
            "runs/a/b/20261123T181500Z-07-00000000000000000000000000000000",
            "packs/a",
        ] {
            assert!(bad.parse::<RecordKey>().is_err(), "{bad}");
        }
    }
}
