//! Signatures: SSH signatures with Ed25519 keys, which `ssh-keygen -Y verify` checks on any machine
//! (OpenSSH's `PROTOCOL.sshsig`).

mod allowed;

use std::fmt;

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::error::Error;

pub use allowed::{AllowedSigners, Signer, line, time_option};

/// What a signature is for: one made for records is worth nothing on a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A run record, signed by a host.
    Record,
    /// A verifier's report.
    Report,
    /// What a verifier found out beside its reports: an escrow drill.
    Evidence,
}

impl Purpose {
    /// The namespace, for `ssh-keygen -Y verify -n`.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Record => "keephold-record",
            Self::Report => "keephold-report",
            Self::Evidence => "keephold-evidence",
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

    /// What was written behind it: whose it is.
    pub fn comment(&self) -> &str {
        self.0.comment()
    }

    /// Its fingerprint as `ssh-keygen -l` prints it (`SHA256:…`).
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
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
        let signer = signers.check(Purpose::Record, b"message", &signature, "it", None).unwrap();
        assert_eq!(
            (signer.principal.as_str(), signer.fingerprint.as_str()),
            ("db1", key.public().fingerprint().as_str())
        );
        assert!(signer.speaks_for("db1") && !signer.speaks_for("db2"));
        assert!(signers.check(Purpose::Record, b"massage", &signature, "it", None).is_err());
        for respelt in
            [format!("{signature}\n"), signature.replace('\n', "\r\n"), format!(" {signature}")]
        {
            assert!(signers.check(Purpose::Record, b"message", &respelt, "it", None).is_err());
        }
        assert!(signers.check(Purpose::Report, b"message", &signature, "it", None).is_err());
        let stranger =
            SigningKey::generate("x").unwrap().sign(Purpose::Record, b"message").unwrap();
        let error = signers.check(Purpose::Record, b"message", &stranger, "it", None).unwrap_err();
        assert!(error.to_string().contains("not among the allowed signers"), "{error}");
        assert!(signers.check(Purpose::Record, b"message", "nonsense", "it", None).is_err());
    }
}
