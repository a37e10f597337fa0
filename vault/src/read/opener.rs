//! From envelopes to keys: what an identity opens, what the host's own secret opens.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::envelope::{self, Identities, RunKeys};
use crate::error::Error;
use crate::ids::{Fingerprint, RecordHash, VaultId};
use crate::keys::{RunKey, VaultSecret};
use crate::record::{Record, RecordKey, SealedRecord};

/// Opens what was sealed: with identities everything, with only the vault's secret records and index but no data.
///
/// It remembers the keys that it opened. Opening an envelope takes a fifth of a millisecond with a plain identity,
/// and somebody's touch with a hardware key. Cheap to clone.
#[derive(Clone)]
pub struct Opener {
    vault: VaultId,
    identities: Option<Identities>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// One for the whole vault: known once the first envelope was opened.
    secret: Option<VaultSecret>,
    /// By the BLAKE3 of the envelope.
    envelopes: HashMap<[u8; 32], RunKeys>,
}

/// A record that was read, opened and held against its name. Its signature is another matter:
/// [`SealedRecord::check_signature`].
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// Its key.
    pub key: RecordKey,
    /// Hash of its stored bytes.
    pub hash: RecordHash,
    /// What it says.
    pub record: Record,
    pub(crate) secret: VaultSecret,
}

/// Envelopes whose keys are kept; one stands for one run.
const ENVELOPES_MAX: usize = 10_000;

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({}, {:?})", self.vault, self.identities)
    }
}

impl Opener {
    /// An opener for whoever holds identities: restore, verifier, escrow.
    pub fn with_identities(vault: VaultId, identities: Identities) -> Self {
        Self { vault, identities: Some(identities), state: Arc::default() }
    }

    /// An opener for a host, which may read records and index, but no data.
    pub fn with_secret(vault: VaultId, secret: VaultSecret) -> Self {
        let opener = Self { vault, identities: None, state: Arc::default() };
        opener.state().secret = Some(secret);
        opener
    }

    /// The same, with the vault's secret known beforehand: records then open without an identity's help.
    #[must_use]
    pub fn and_secret(self, secret: VaultSecret) -> Self {
        self.state().secret = Some(secret);
        self
    }

    /// Whether it can open data, and not only records and index.
    pub fn reads_data(&self) -> bool {
        self.identities.is_some()
    }

    /// The vault's secret, as far as it is known yet.
    pub(crate) fn secret(&self) -> Option<VaultSecret> {
        self.state().secret.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys in an envelope that stands in `what`. May take long: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::WrongIdentity`], [`Error::OtherVault`], [`Error::Damaged`].
    pub fn keys(&self, sealed: &[u8], what: &str) -> Result<RunKeys, Error> {
        let name = *blake3::hash(sealed).as_bytes();
        if let Some(keys) = self.state().envelopes.get(&name) {
            return Ok(keys.clone());
        }
        let Some(identities) = &self.identities else {
            return Err(Error::WrongIdentity {
                what: what.into(),
                detail: ": a host's own key lists and names data, only an identity reads it".into(),
            });
        };
        let keys = envelope::open(sealed, identities, what)?;
        if keys.vault != self.vault {
            return Err(Error::OtherVault {
                what: format!("the envelope of {what}"),
                found: keys.vault.to_string(),
                expected: self.vault.to_string(),
            });
        }
        let mut state = self.state();
        if state.envelopes.len() >= ENVELOPES_MAX {
            state.envelopes.clear();
        }
        state.envelopes.insert(name, keys.clone());
        Ok(keys)
    }

    pub(crate) fn run_key(&self, sealed: &[u8], what: &str) -> Result<RunKey, Error> {
        Ok(self.keys(sealed, what)?.run)
    }

    /// Opens a record of the vault whose fingerprint is given. Call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::WrongIdentity`], [`Error::OtherVault`], [`Error::Damaged`], [`Error::NewerFormat`].
    pub fn record(&self, sealed: &SealedRecord, vault: &Fingerprint) -> Result<RunRecord, Error> {
        let what = format!("record {}", sealed.key);
        let known = self.secret();
        let opened = known.map(|secret| (sealed.open(self.vault, &secret), secret));
        let (record, secret) = match opened {
            Some((Ok(record), secret)) => (record, secret),
            // Perhaps this record's run had another secret: its own envelope decides, if we may open it.
            Some((Err(error), _)) if self.identities.is_none() => return Err(error),
            _ => {
                let secret = self.keys(sealed.envelope(), &what)?.secret;
                (sealed.open(self.vault, &secret)?, secret)
            }
        };
        if record.vault != *vault {
            return Err(Error::OtherVault {
                what,
                found: format!("with fingerprint {}", record.vault),
                expected: vault.to_string(),
            });
        }
        self.state().secret.get_or_insert_with(|| secret.clone());
        Ok(RunRecord { key: sealed.key.clone(), hash: sealed.hash, record, secret })
    }
}
