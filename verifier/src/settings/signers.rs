//! Whose records are believed, and for which hosts: a host must not be able to sign for another one.

use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use keephold_cli::exit::usage;
use keephold_vault::Error;
use keephold_vault::record::SealedRecord;
use keephold_vault::sign::AllowedSigners;

/// An allowed-signers file.
#[derive(Debug, Clone)]
pub struct Signers(AllowedSigners);

/// What is to be thought of a record's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Believed {
    /// It holds: who signed.
    Yes(String),
    /// It doesn't fit the bytes, or isn't one.
    Bad(String),
    /// It may fit, but this key isn't believed, or not for this host.
    Unknown(String),
    /// It fits, but its key's time had not come or was over when the target got the record.
    OutOfTime(String),
}

impl Signers {
    /// Reads an allowed-signers file, or one of plain `.pub` lines.
    ///
    /// # Errors
    /// Names the file, and the line that is wrong; a usage error if nobody is listed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the file of signers {} can't be read", path.display()))?;
        let signers = Self::parse(&text).with_context(|| format!("in {}", path.display()))?;
        if signers.0.is_empty() {
            return Err(usage(format!(
                "{} lists nobody, so no record can be believed: put each host's signing_key.pub in it",
                path.display()
            )));
        }
        Ok(signers)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(AllowedSigners::parse(text)?))
    }

    /// Checks a record's signature, and that the signer may sign for the record's host, at the time when the target got
    /// the record: what the record says itself, whoever stole the key chooses.
    pub fn check(&self, record: &SealedRecord, arrived: Timestamp) -> Believed {
        // The library tells these apart by its words only.
        let unknown = |why: &str| {
            why.contains("not among the allowed signers") || why.contains("may not sign for host")
        };
        match record.check_signature(&self.0, Some(arrived)) {
            Ok(signer) => Believed::Yes(signer.principal),
            Err(Error::Signature { why, .. }) if unknown(&why) => Believed::Unknown(why),
            Err(Error::Signature { why, .. }) => Believed::Bad(why),
            Err(Error::SignedOutOfTime { why, .. }) => Believed::OutOfTime(why),
            Err(other) => Believed::Bad(other.to_string()),
        }
    }
}
