//! `vault.json`: what all who use a vault must agree on. Written once, never changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkBounds;
use crate::error::Error;
use crate::ids::{Fingerprint, VaultId};
use crate::keys::{VaultSecret, random};

const FORMAT: &str = "keephold-vault-1";

/// The vault's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    format: String,
    /// The vault's random name.
    pub id: VaultId,
    /// When it was made.
    pub created: Timestamp,
    /// How data is cut.
    pub chunker: ChunkBounds,
    /// What the vault's secret is told by ([`VaultSecret::check`]).
    #[serde(with = "hex::serde")]
    secret_check: [u8; 32],
    /// No run may be kept for fewer days than this.
    pub retention_floor_days: u32,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: String,
}

impl VaultConfig {
    /// A configuration for a new vault.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn generate(
        created: Timestamp,
        secret: &VaultSecret,
        retention_floor_days: u32,
    ) -> Result<Self, Error> {
        Ok(Self {
            format: FORMAT.into(),
            id: VaultId::from_bytes(random()?),
            created,
            chunker: ChunkBounds::default(),
            secret_check: secret.check(),
            retention_floor_days,
        })
    }

    /// Whether `secret` is this vault's.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is another's.
    pub fn check_secret(&self, secret: &VaultSecret) -> Result<(), Error> {
        if secret.check() == self.secret_check {
            return Ok(());
        }
        Err(Error::BadKey {
            what: "the vault's secret".into(),
            why: "it is that of another vault".into(),
        })
    }

    /// The bytes to store, and their fingerprint.
    ///
    /// # Errors
    /// None that input can cause.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, Fingerprint), Error> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|e| Error::damaged("vault.json", e))?;
        bytes.push(b'\n');
        let fingerprint = Self::fingerprint(&bytes);
        Ok((bytes, fingerprint))
    }

    /// The fingerprint of stored bytes: their BLAKE3, as `b3sum vault.json` prints it.
    pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
        Fingerprint::from_bytes(*blake3::hash(bytes).as_bytes())
    }

    /// Reads stored bytes, and holds them against the fingerprint that the host has pinned, if it has.
    ///
    /// # Errors
    /// [`Error::OtherVault`] if the fingerprint is another, [`Error::NewerFormat`], [`Error::Damaged`].
    pub fn read(bytes: &[u8], pinned: Option<&Fingerprint>) -> Result<Self, Error> {
        let found = Self::fingerprint(bytes);
        if let Some(pinned) = pinned.filter(|p| **p != found) {
            return Err(Error::OtherVault {
                what: "vault.json".into(),
                found: format!("with fingerprint {found}"),
                expected: format!("the pinned {pinned}"),
            });
        }
        let damaged = |e: &dyn std::fmt::Display| Error::damaged("vault.json", e);
        let format: FormatOnly = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if format.format != FORMAT {
            return Err(Error::NewerFormat { what: "vault.json".into(), found: format.format });
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if !config.chunker.sound() {
            return Err(damaged(&"its chunk bounds can't be cut by"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_vault_json_is_refused() {
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let (bytes, fingerprint) = VaultConfig::generate(now, &VaultSecret::from_bytes([1; 32]), 7)
            .unwrap()
            .to_bytes()
            .unwrap();
        assert!(VaultConfig::read(&bytes, Some(&fingerprint)).is_ok());
        let (other, _) = VaultConfig::generate(now, &VaultSecret::from_bytes([1; 32]), 7)
            .unwrap()
            .to_bytes()
            .unwrap();
        assert!(matches!(
            VaultConfig::read(&other, Some(&fingerprint)),
            Err(Error::OtherVault { .. })
        ));
        let newer = String::from_utf8(bytes).unwrap().replace(FORMAT, "keephold-vault-9");
        assert!(matches!(
            VaultConfig::read(newer.as_bytes(), None),
            Err(Error::NewerFormat { .. })
        ));
    }
}
