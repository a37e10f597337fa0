//! Envelopes: a run's key and the vault's secret, sealed to recipients as one ordinary age file
//! (<https://age-encryption.org/v1>), so that the `age` program opens them too.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use crate::error::Error;
pub use crate::identity::Identities;
use crate::identity::missing_plugin;
use crate::ids::VaultId;
use crate::keys::{RunKey, VaultSecret};

const MAGIC: &[u8; 8] = b"KHKEYS01";
const PLAINTEXT_LEN: usize = 8 + 16 + 32 + 32;

/// What an envelope holds: everything that reading one run's data takes.
#[derive(Clone)]
pub struct RunKeys {
    /// The vault that they belong to.
    pub vault: VaultId,
    /// The run's own key.
    pub run: RunKey,
    /// The vault's secret.
    pub secret: VaultSecret,
}

impl fmt::Debug for RunKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunKeys({}, …)", self.vault)
    }
}

impl RunKeys {
    /// Keys for the envelope of a record: it gives its readers the vault's secret; its run key opens nothing.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn for_record(vault: VaultId, secret: VaultSecret) -> Result<Self, Error> {
        Ok(Self { vault, run: RunKey::generate()?, secret })
    }
}

/// See [`Recipients::digest`].
pub type RecipientsDigest = [u8; 32];

/// Whom a host seals its runs to.
#[derive(Clone)]
pub struct Recipients {
    names: Vec<String>,
    keys: Arc<[Box<dyn age::Recipient + Send + Sync>]>,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.names).finish()
    }
}

impl Recipients {
    /// Reads recipients (`age1…`, or `age1name1…` of a plugin), one a line; empty lines and `#` comments are
    /// passed over.
    ///
    /// # Errors
    /// [`Error::BadKey`] naming the line that is none, or if there is none at all.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut keys: Vec<Box<dyn age::Recipient + Send + Sync>> = Vec::new();
        let mut plugins: Vec<age::plugin::Recipient> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || names.iter().any(|n| n == line) {
                continue;
            }
            let bad = |why: String| Error::BadKey {
                what: format!("recipient '{line}' (line {})", number + 1),
                why,
            };
            if line.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
                return Err(Error::BadKey {
                    what: format!("the recipient in line {}", number + 1),
                    why: "it is a secret identity; give its public part (age1…), and keep the identity off this host"
                        .into(),
                });
            }
            if let Ok(key) = age::x25519::Recipient::from_str(line) {
                keys.push(Box::new(key));
            } else if let Ok(key) = age::plugin::Recipient::from_str(line) {
                plugins.push(key);
            } else {
                return Err(bad("it is no age recipient (age1…), or it has a typing error".into()));
            }
            names.push(line.to_owned());
        }
        let mut kinds: Vec<String> = plugins.iter().map(|p| p.plugin().to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let plugin =
                age::plugin::RecipientPluginV1::new(&kind, &plugins, &[], age::NoCallbacks)
                    .map_err(|e| Error::BadKey {
                        what: format!("a recipient of the plugin age-plugin-{kind}"),
                        why: missing_plugin(&e),
                    })?;
            keys.push(Box::new(plugin));
        }
        if keys.is_empty() {
            return Err(Error::BadKey {
                what: "the list of recipients".into(),
                why: "it is empty, so nobody could restore".into(),
            });
        }
        Ok(Self { names, keys: keys.into() })
    }

    /// What tells this set of recipients from another: BLAKE3 of their sorted lines. It stands beside each envelope in
    /// the index, so that a run uses only packs again that its own recipients can open.
    pub fn digest(&self) -> RecipientsDigest {
        let mut lines: Vec<&str> = self.names.iter().map(String::as_str).collect();
        lines.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key("keephold 2026-11 recipients v1");
        for line in lines {
            hasher.update(line.as_bytes()).update(b"\n");
        }
        *hasher.finalize().as_bytes()
    }

    /// The recipients as text, as each run's record names them.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Seals a run's keys.
///
/// # Errors
/// [`Error::BadKey`] if age or a plugin refuses a recipient.
pub fn seal(keys: &RunKeys, recipients: &Recipients) -> Result<Vec<u8>, Error> {
    let bad = |why: String| Error::BadKey { what: "the list of recipients".into(), why };
    let mut plaintext = Zeroizing::new(Vec::with_capacity(PLAINTEXT_LEN));
    plaintext.extend_from_slice(MAGIC);
    plaintext.extend_from_slice(keys.vault.as_bytes());
    plaintext.extend_from_slice(keys.run.as_bytes());
    plaintext.extend_from_slice(keys.secret.as_bytes());
    #[cfg(test)]
    if let Some(sealed) = crate::simulation::age_file(&plaintext, &recipients.names) {
        return Ok(sealed);
    }
    let list = recipients.keys.iter().map(|k| k.as_ref() as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(list).map_err(|e| bad(e.to_string()))?;
    let mut sealed = Vec::new();
    let io = |e: std::io::Error| bad(e.to_string());
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(io)?;
    writer.write_all(&plaintext).map_err(io)?;
    writer.finish().map_err(io)?;
    Ok(sealed)
}

/// Opens an envelope that stands in `what`.
///
/// # Errors
/// [`Error::WrongIdentity`] if none of the identities fits, [`Error::Damaged`] if it is no envelope.
pub fn open(sealed: &[u8], identities: &Identities, what: &str) -> Result<RunKeys, Error> {
    let damaged = |why: String| Error::damaged(format!("the envelope of {what}"), why);
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|e| damaged(e.to_string()))?;
    let list = identities.iter().map(|k| k as &dyn age::Identity);
    let reader = decryptor.decrypt(list).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => {
            Error::WrongIdentity { what: what.into(), detail: String::new() }
        }
        // A key that isn't plugged in says nothing about the envelope.
        age::DecryptError::Plugin(errors) => Error::BadKey {
            what: "the identity of an age plugin".into(),
            why: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        },
        other => damaged(other.to_string()),
    })?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(PLAINTEXT_LEN + 1));
    reader
        .take(PLAINTEXT_LEN as u64 + 1)
        .read_to_end(&mut plaintext)
        .map_err(|e| damaged(e.to_string()))?;
    let Some((magic, rest)) = plaintext.split_first_chunk::<8>() else {
        return Err(damaged("it is too short".into()));
    };
    if magic != MAGIC {
        return Err(damaged("it holds no keys of Keephold".into()));
    }
    let (Some(vault), true) = (rest.first_chunk::<16>(), rest.len() == 80) else {
        return Err(damaged("it has another length than 88 bytes".into()));
    };
    let mut run = [0; 32];
    run.copy_from_slice(&rest[16..48]);
    let mut secret = [0; 32];
    secret.copy_from_slice(&rest[48..80]);
    let keys = RunKeys {
        vault: VaultId::from_bytes(*vault),
        run: RunKey::from_bytes(run),
        secret: VaultSecret::from_bytes(secret),
    };
    run.zeroize();
    secret.zeroize();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> RunKeys {
        RunKeys {
            vault: VaultId::from_bytes([3; 16]),
            run: RunKey::from_bytes([4; 32]),
            secret: VaultSecret::from_bytes([5; 32]),
        }
    }

    #[test]
    fn every_recipient_opens_it_and_nobody_else() {
        let (restore, restore_key) = Identities::generate();
        let (verify, verify_key) = Identities::generate();
        let (_, stranger) = Identities::generate();
        let recipients = Recipients::parse(&format!("# restore\n{restore}\n\n{verify}\n")).unwrap();
        let sealed = seal(&keys(), &recipients).unwrap();
        for key in [&restore_key, &verify_key] {
            let opened = open(&sealed, &Identities::parse(key).unwrap(), "it").unwrap();
            assert_eq!(opened.run, keys().run);
            assert_eq!(opened.secret, keys().secret);
        }
        let error = open(&sealed, &Identities::parse(&stranger).unwrap(), "pack ab").unwrap_err();
        assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
    }

    #[test]
    fn mixed_up_keys_are_told_apart() {
        let (public, secret) = Identities::generate();
        assert!(Recipients::parse(&secret).unwrap_err().to_string().contains("secret identity"));
        assert!(!Recipients::parse(&secret).unwrap_err().to_string().contains(secret.as_str()));
        assert!(Identities::parse(&public).unwrap_err().to_string().contains("public recipient"));
        assert!(Recipients::parse("# nobody\n").is_err());
        assert!(Identities::parse("").is_err());
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let (public, secret) = Identities::generate();
        let identities = Identities::parse(&secret).unwrap();
        let sealed = seal(&keys(), &Recipients::parse(&public).unwrap()).unwrap();
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(open(&bad, &identities, "it").is_err(), "byte {i}");
            assert!(open(&sealed[..i], &identities, "it").is_err(), "cut at {i}");
        }
    }
}
