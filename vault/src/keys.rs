//! Keys: the vault's secret, a run's key, and all that is derived from them.
//!
//! | key | derived from | used for |
//! |---|---|---|
//! | blob id keys | vault secret | naming blobs, one key for each kind |
//! | gear table | vault secret | cutting chunks |
//! | row set key | vault secret | hashing rows of dumps |
//! | piece key, piece list key | vault secret | the cache by which a dump finds what the one before it had |
//! | secret check | vault secret | telling a wrong secret from the right one: it stands in `vault.json` |
//! | metadata key | vault secret | all that follows, so that it can be given to whoever needs no blob ids |
//! | index key, record key | metadata key, object's salt | sealing index segments and records |
//! | pack key | run key, pack's salt | sealing frames |
//!
//! Derivation is BLAKE3's key derivation mode (<https://github.com/BLAKE3-team/BLAKE3-specs>, section 2.3); each
//! context string is used for one purpose only.

use std::fmt;

use bech32::{Bech32m, Hrp};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::Error;
use crate::hash;
use crate::ids::{BlobId, Fingerprint, VaultId};
use crate::pack::BlobKind;

const SECRET_HRP: &str = "keephold-secret-";
const PRUNER_HRP: &str = "keephold-pruner-";

/// Salt of one sealed object: makes its key its own.
pub type Salt = [u8; 16];

/// Fills an array from the operating system's random source.
///
/// # Errors
/// [`Error::Local`] if the system has none to give.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if crate::simulation::fill(&mut bytes) {
        return Ok(bytes);
    }
    SysRng.try_fill_bytes(&mut bytes).map_err(|e| {
        Error::local("reading the system's random source")(std::io::Error::other(e))
    })?;
    Ok(bytes)
}

/// The vault's symmetric secret: kept by each host that writes to the vault, and sealed into every envelope.
///
/// Who holds it can recompute blob ids and read the index and the records, but no data.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VaultSecret([u8; 32]);

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultSecret(…)")
    }
}

impl VaultSecret {
    /// Draws a new secret.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(random()?))
    }

    /// Takes raw bytes as a secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The secret as a line of text that can be copied and that notices typing errors
    /// (`KEEPHOLD-SECRET-1…`, Bech32m as in BIP-350).
    pub fn to_text(&self) -> String {
        to_line(SECRET_HRP, &self.0)
    }

    /// Reads what [`to_text`](Self::to_text) wrote; white space around it and `#` comment lines are passed over.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it isn't such a line, or has a typing error.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Ok(Self(from_line(SECRET_HRP, "the vault's secret", text)?))
    }

    fn derive(&self, context: &str, more: &[&[u8]]) -> [u8; 32] {
        derive(context, &self.0, more)
    }

    /// Makes ids of blobs.
    pub fn blob_namer(&self) -> BlobNamer {
        BlobNamer {
            keys: [
                self.derive("keephold 2026-11 data blob id v1", &[]),
                self.derive("keephold 2026-11 tree blob id v1", &[]),
                self.derive("keephold 2026-11 list blob id v1", &[]),
            ],
        }
    }

    /// What `vault.json` says of the secret: a host with another one would write what nobody can use.
    pub fn check(&self) -> [u8; 32] {
        self.derive("keephold 2026-11 secret check v1", &[])
    }

    /// The key that index segments and records are sealed with, and nothing else.
    pub fn metadata_key(&self) -> MetadataKey {
        MetadataKey(self.derive("keephold 2026-11 metadata v1", &[]))
    }

    /// The table that the chunker cuts by: 256 numbers that a reader of the bucket doesn't know.
    pub fn gear_table(&self) -> [u64; 256] {
        let mut bytes = [0; 256 * 8];
        let mut hasher = blake3::Hasher::new_derive_key("keephold 2026-11 gear table v1");
        hasher.update(&self.0).finalize_xof().fill(&mut bytes);
        let mut table = [0; 256];
        for (entry, eight) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*eight);
        }
        bytes.zeroize();
        table
    }

    /// The key of the fingerprints that dumps are compared by; they stay in the host's cache.
    pub(crate) fn piece_key(&self) -> [u8; 16] {
        let key = self.derive("keephold 2026-11 piece fingerprint v1", &[]);
        let (half, _) = key.split_first_chunk().unwrap_or((&[0; 16], &[]));
        *half
    }

    /// The key that tells a list of pieces of this vault, undamaged, from any other file.
    pub(crate) fn piece_list_key(&self) -> [u8; 32] {
        self.derive("keephold 2026-11 piece list v1", &[])
    }

    /// The key of row-set hashes of database dumps.
    pub fn row_set_key(&self) -> [u8; 32] {
        self.derive("keephold 2026-11 row set v1", &[])
    }
}

/// What opens index segments and records: the vault's secret, or just the metadata key.
pub trait OpensMetadata {
    /// The metadata key.
    fn metadata(&self) -> MetadataKey;
}

impl OpensMetadata for VaultSecret {
    fn metadata(&self) -> MetadataKey {
        self.metadata_key()
    }
}

impl OpensMetadata for MetadataKey {
    fn metadata(&self) -> MetadataKey {
        self.clone()
    }
}

/// Opens index segments and records of all hosts of a vault; names no blob, so it can't test guesses of contents, and
/// opens no data. Derived from the vault's secret, which can't be learnt from it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MetadataKey([u8; 32]);

impl fmt::Debug for MetadataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataKey(…)")
    }
}

impl MetadataKey {
    pub(crate) fn index_key(&self, vault: &VaultId, salt: &Salt) -> ObjectSealKey {
        ObjectSealKey(derive("keephold 2026-11 index v1", &self.0, &[vault.as_bytes(), salt]))
    }

    pub(crate) fn record_key(&self, vault: &VaultId, salt: &Salt) -> ObjectSealKey {
        ObjectSealKey(derive("keephold 2026-11 record v1", &self.0, &[vault.as_bytes(), salt]))
    }
}

/// What a pruner holds: a vault's metadata key, with the vault's fingerprint, so that it can't be used on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunerKey {
    /// The vault that it is for.
    pub vault: Fingerprint,
    /// What opens its index and records.
    pub metadata: MetadataKey,
}

impl PrunerKey {
    /// The key as a line of text (`KEEPHOLD-PRUNER-1…`, Bech32m): the metadata key, then the fingerprint.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(64));
        bytes.extend_from_slice(&self.metadata.0);
        bytes.extend_from_slice(self.vault.as_bytes());
        Zeroizing::new(to_line(PRUNER_HRP, &bytes))
    }

    /// Reads what [`to_text`](Self::to_text) wrote; white space around it and `#` comment lines are passed over.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it isn't such a line, or has a typing error.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let bytes = Zeroizing::new(from_line::<64>(PRUNER_HRP, "the pruner key", text)?);
        let (mut metadata, mut vault) = ([0; 32], [0; 32]);
        metadata.copy_from_slice(&bytes[..32]);
        vault.copy_from_slice(&bytes[32..]);
        Ok(Self { vault: Fingerprint::from_bytes(vault), metadata: MetadataKey(metadata) })
    }
}

/// Key bytes as a line that can be copied and that notices typing errors (Bech32m as in BIP-350, in upper case).
fn to_line(kind: &str, bytes: &[u8]) -> String {
    Hrp::parse(kind)
        .ok()
        .and_then(|hrp| bech32::encode_upper::<Bech32m>(hrp, bytes).ok())
        .unwrap_or_default()
}

/// Reads what [`to_line`] wrote, in a text with white space around it and `#` comment lines.
fn from_line<const N: usize>(kind: &str, what: &str, text: &str) -> Result<[u8; N], Error> {
    let bad = |why: &str| Error::BadKey { what: what.into(), why: why.into() };
    let line = text
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty() && !l.starts_with('#'))
        .ok_or_else(|| bad("the file is empty"))?;
    let (hrp, mut bytes) = bech32::decode(line).map_err(|_| {
        let form = kind.to_ascii_uppercase();
        bad(&format!("it is no line of the form {form}1…, or it has a typing error"))
    })?;
    let array = <[u8; N]>::try_from(bytes.as_slice());
    bytes.zeroize();
    match array {
        Ok(array) if hrp.as_str().eq_ignore_ascii_case(kind) => Ok(array),
        _ => Err(bad("it is a key of another kind")),
    }
}

/// The random key of one run. The agent holds it only while the run lasts.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RunKey([u8; 32]);

impl fmt::Debug for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunKey(…)")
    }
}

impl RunKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(random()?))
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn pack_key(&self, vault: &VaultId, salt: &Salt) -> ObjectSealKey {
        ObjectSealKey(derive("keephold 2026-11 pack v1", &self.0, &[vault.as_bytes(), salt]))
    }
}

/// The key that seals the messages of one object.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct ObjectSealKey(pub(crate) [u8; 32]);

fn derive(context: &str, secret: &[u8; 32], more: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(secret);
    for part in more {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Names blobs by keyed BLAKE3, with a key for each kind: bytes that a user chooses for a file can't then be taken for
/// the same bytes of a tree.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BlobNamer {
    keys: [[u8; 32]; 3],
}

impl fmt::Debug for BlobNamer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobNamer(…)")
    }
}

impl BlobNamer {
    /// The id of a blob of this kind with these bytes.
    pub fn name(&self, kind: BlobKind, plaintext: &[u8]) -> BlobId {
        shortened(blake3::keyed_hash(&self.keys[kind as usize], plaintext).as_bytes())
    }

    /// The ids of many blobs. Those of a few KiB each take two thirds of the time that they take one after the other.
    pub(crate) fn name_all(&self, kind: BlobKind, plaintexts: &[&[u8]]) -> Vec<BlobId> {
        hash::keyed_hashes(&self.keys[kind as usize], plaintexts).iter().map(shortened).collect()
    }
}

fn shortened(hash: &[u8; 32]) -> BlobId {
    let (id, _) = hash.split_first_chunk().unwrap_or((&[0; BlobId::LEN], &[]));
    BlobId::from_bytes(*id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_copying_and_typing_errors_are_seen() {
        let secret = VaultSecret::from_bytes([7; 32]);
        let text = secret.to_text();
        assert!(text.starts_with("KEEPHOLD-SECRET-1"), "{text}");
        assert_eq!(VaultSecret::from_text(&format!("# a comment\n {text} \n")).unwrap(), secret);
        let wrong = text.replacen('Q', "P", 1);
        assert!(VaultSecret::from_text(&wrong).is_err());
        assert!(VaultSecret::from_text("").is_err());
        assert!(!format!("{secret:?}").contains('7'));
    }

    #[test]
    fn a_pruner_key_survives_copying_and_is_taken_for_nothing_else() {
        let secret = VaultSecret::from_bytes([7; 32]);
        let vault = Fingerprint::from_bytes([3; 32]);
        let key = PrunerKey { vault, metadata: secret.metadata_key() };
        let text = key.to_text();
        assert!(text.starts_with("KEEPHOLD-PRUNER-1"), "{}", *text);
        assert_eq!(PrunerKey::from_text(&format!("# a comment\n{}\n", *text)).unwrap(), key);
        assert!(VaultSecret::from_text(&text).unwrap_err().to_string().contains("another kind"));
        let error = PrunerKey::from_text(&secret.to_text()).unwrap_err().to_string();
        assert!(error.contains("another kind"), "{error}");
        assert!(PrunerKey::from_text(&text.replacen('Q', "P", 1)).is_err());
        insta::assert_snapshot!(hex::encode(secret.metadata_key().0), @"e31c25535066b1a09ef22327bddce5abb84a678eab5fe2802d23816e219cfd96");
    }

    #[test]
    fn derived_values_are_frozen() {
        let secret = VaultSecret::from_bytes([7; 32]);
        insta::assert_snapshot!(secret.blob_namer().name(BlobKind::Data, b"hello"), @"954d69736bb89642d99bd1e9d27adf3cadf2deb7f5292436");
        insta::assert_snapshot!(format!("{:016x}", secret.gear_table()[1]), @"6a3b6a291e42b3b3");
        insta::assert_snapshot!(hex::encode(secret.row_set_key()), @"d77d747759d28036bab2845b813a5367cd7e25428f80aac55623d602383458ec");
        let vault = VaultId::from_bytes([1; 16]);
        insta::assert_snapshot!(hex::encode(secret.metadata_key().index_key(&vault, &[2; 16]).0), @"42f626d85e22c1e18a901be36c2e2f12c33da2eb6b228e9707a077bb98bb05e2");
        insta::assert_snapshot!(hex::encode(RunKey::from_bytes([9; 32]).pack_key(&vault, &[2; 16]).0), @"26035492e5642495339055a9aa8efd86c6a997f0f0f6199599640f282a05eeb3");
    }
}
