//! Signatures: SSH signatures with Ed25519 keys, which `ssh-keygen -Y verify` checks on any machine
//! (OpenSSH's `PROTOCOL.sshsig`).

use std::fmt;
use std::str::FromStr;

use ssh_key::{Algorithm, Fingerprint, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use zeroize::Zeroizing;

use crate::error::Error;

/// What a signature is for: one made for records is worth nothing on a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A run record, signed by a host.
    Record,
    /// A verifier's report.
    Report,
}

impl Purpose {
    /// The namespace, for `ssh-keygen -Y verify -n`.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Record => "keephold-record",
            Self::Report => "keephold-report",
        }
    }
}

/// A secret signing key.
#[derive(Clone)]
pub struct SigningKey(PrivateKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().fingerprint())
    }
}

impl SigningKey {
    /// Draws a new Ed25519 key; `comment` says whose it is.
    ///
    /// # Errors
    /// [`Error::BadKey`] if the system's random source fails.
    pub fn generate(comment: &str) -> Result<Self, Error> {
        let bad = |e: ssh_key::Error| Error::BadKey {
            what: "a new signing key".into(),
            why: e.to_string(),
        };
        let seed = Zeroizing::new(crate::keys::random::<32>()?);
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
        let mut key = PrivateKey::new(pair.into(), comment).map_err(bad)?;
        key.set_comment(comment);
        Ok(Self(key))
    }

    /// Reads an OpenSSH private key file.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is none, is encrypted, or isn't Ed25519.
    pub fn from_openssh(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::BadKey { what: "the signing key".into(), why };
        let key = PrivateKey::from_openssh(text).map_err(|e| bad(e.to_string()))?;
        if key.is_encrypted() {
            return Err(bad(
                "it has a passphrase, which nobody could type in a scheduled run".into()
            ));
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(bad(format!("it is of type {}, not ssh-ed25519", key.algorithm())));
        }
        Ok(Self(key))
    }

    /// The key as an OpenSSH private key file.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it can't be encoded.
    pub fn to_openssh(&self) -> Result<Zeroizing<String>, Error> {
        self.0
            .to_openssh(LineEnding::LF)
            .map_err(|e| Error::BadKey { what: "the signing key".into(), why: e.to_string() })
    }

    /// Its public half.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.public_key().clone())
    }

    /// Signs `message`; the answer is an armoured SSH signature as `ssh-keygen -Y sign` writes it.
    ///
    /// # Errors
    /// [`Error::BadKey`] if the key can't sign.
    pub fn sign(&self, purpose: Purpose, message: &[u8]) -> Result<String, Error> {
        let bad = |e: ssh_key::Error| Error::BadKey {
            what: "the signing key".into(),
            why: e.to_string(),
        };
        let signature = self.0.sign(purpose.namespace(), HashAlg::Sha512, message).map_err(bad)?;
        signature.to_pem(LineEnding::LF).map_err(bad)
    }
}

/// A public key whose signatures may be believed.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(PublicKey);

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.fingerprint())
    }
}

impl VerifyingKey {
    /// The key as a line of an OpenSSH `.pub` file.
    pub fn to_openssh(&self) -> String {
        self.0.to_openssh().unwrap_or_default()
    }

    /// Its fingerprint as `ssh-keygen -l` prints it (`SHA256:…`).
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// Whose signatures are believed: the lines of an OpenSSH allowed-signers file.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<(String, VerifyingKey)>);

impl AllowedSigners {
    /// Reads `PRINCIPAL [OPTIONS] ssh-ed25519 KEY [COMMENT]` lines, and plain `.pub` lines (whose comment then is
    /// the principal).
    ///
    /// # Errors
    /// [`Error::BadKey`] naming the line that is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut signers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |why: String| Error::BadKey {
                what: format!("line {} of the allowed signers", number + 1),
                why,
            };
            let at = line.find("ssh-").ok_or_else(|| bad("no ssh-… key stands in it".into()))?;
            let key = PublicKey::from_str(&line[at..]).map_err(|e| bad(e.to_string()))?;
            if key.algorithm() != Algorithm::Ed25519 {
                return Err(bad(format!(
                    "keys of type {} are not used by Keephold",
                    key.algorithm()
                )));
            }
            let principal =
                line[..at].split_whitespace().next().unwrap_or(key.comment()).to_owned();
            signers.push((principal, VerifyingKey(key)));
        }
        Ok(Self(signers))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VerifyingKey)> {
        self.0.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// Checks an armoured signature of `message`; answers the principal whose it is.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is broken, made for another purpose, or by nobody in the list.
    pub fn check(
        &self,
        purpose: Purpose,
        message: &[u8],
        signature: &str,
        what: &str,
    ) -> Result<Signer, Error> {
        let bad = |why: String| Error::Signature { what: what.into(), why };
        let text = signature;
        let signature =
            SshSig::from_pem(text).map_err(|e| bad(format!("it can't be read ({e})")))?;
        // Another spelling of the same signature would make a twin of what it stands in, without any key.
        if signature.to_pem(LineEnding::LF).ok().as_deref() != Some(text) {
            return Err(bad("it is not spelt as such signatures are".into()));
        }
        let found: Fingerprint =
            PublicKey::from(signature.public_key().clone()).fingerprint(HashAlg::Sha256);
        let signer = self.0.iter().find(|(_, key)| key.0.key_data() == signature.public_key());
        let Some((name, key)) = signer else {
            return Err(bad(format!("its key {found} is not among the allowed signers")));
        };
        key.0.verify(purpose.namespace(), message, &signature).map_err(|_| {
            bad(format!("it does not fit the bytes, or was made for another purpose (key {found})"))
        })?;
        Ok(Signer { principal: name.clone(), fingerprint: found.to_string() })
    }
}

impl Signer {
    /// Whether this is who may sign for a host: a principal in the allowed signers is a list of names with commas
    /// between them; `*` stands for any host, and `keephold@db1` for `db1`.
    pub fn speaks_for(&self, host: &str) -> bool {
        self.principal
            .split(',')
            .any(|name| name == "*" || name.strip_prefix("keephold@").unwrap_or(name) == host)
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The name in the allowed signers.
    pub principal: String,
    /// The key's fingerprint (`SHA256:…`).
    pub fingerprint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_keys_and_only_for_their_purpose() {
        let key = SigningKey::generate("host db1").unwrap();
        let key = SigningKey::from_openssh(&key.to_openssh().unwrap()).unwrap();
        let signature = key.sign(Purpose::Record, b"message").unwrap();
        assert!(signature.starts_with("-----BEGIN SSH SIGNATURE-----"));
        let signers =
            AllowedSigners::parse(&format!("# hosts\ndb1 {}\n", key.public().to_openssh()))
                .unwrap();
        let signer = signers.check(Purpose::Record, b"message", &signature, "it").unwrap();
        assert_eq!(
            (signer.principal.as_str(), signer.fingerprint.as_str()),
            ("db1", key.public().fingerprint().as_str())
        );
        assert!(signer.speaks_for("db1") && !signer.speaks_for("db2"));
        assert!(signers.check(Purpose::Record, b"massage", &signature, "it").is_err());
        for respelt in
            [format!("{signature}\n"), signature.replace('\n', "\r\n"), format!(" {signature}")]
        {
            assert!(signers.check(Purpose::Record, b"message", &respelt, "it").is_err());
        }
        assert!(signers.check(Purpose::Report, b"message", &signature, "it").is_err());
        let stranger =
            SigningKey::generate("x").unwrap().sign(Purpose::Record, b"message").unwrap();
        let error = signers.check(Purpose::Record, b"message", &stranger, "it").unwrap_err();
        assert!(error.to_string().contains("not among the allowed signers"), "{error}");
        assert!(signers.check(Purpose::Record, b"message", "nonsense", "it").is_err());
    }

    #[test]
    fn plain_pub_lines_will_do() {
        let key = SigningKey::generate("db2").unwrap();
        let signers = AllowedSigners::parse(&key.public().to_openssh()).unwrap();
        assert_eq!(signers.iter().next().map(|(name, _)| name), Some("db2"));
        assert!(AllowedSigners::parse("nonsense\n").is_err());
    }
}
