//! Whose records are believed, and for which hosts: a host must not be able to sign for another one.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use keephold_cli::exit::usage;
use keephold_vault::Error;
use keephold_vault::record::SealedRecord;
use keephold_vault::sign::AllowedSigners;

/// An allowed-signers file.
#[derive(Debug, Clone)]
pub struct Signers {
    list: AllowedSigners,
    /// Fingerprints of keys that stand in plain `.pub` lines, which name no host.
    unbound: HashSet<String>,
}

/// What is to be thought of a record's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Believed {
    /// It holds: who signed.
    Yes(String),
    /// It doesn't fit the bytes, or isn't one.
    Bad(String),
    /// It may fit, but this key isn't believed, or not for this host.
    Unknown(String),
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
        if signers.list.is_empty() {
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
        let plain = |line: &str| line.starts_with("ssh-");
        let unbound: Vec<_> = text.lines().map(str::trim).filter(|line| plain(line)).collect();
        let unbound = AllowedSigners::parse(&unbound.join("\n"))?;
        let unbound = unbound.iter().map(|(_, key)| key.fingerprint()).collect();
        Ok(Self { list: AllowedSigners::parse(text)?, unbound })
    }

    /// Checks a record's signature, and that the signer may sign for the record's host.
    pub fn check(&self, record: &SealedRecord) -> Believed {
        match record.check_signature(&self.list) {
            Ok(signer) => {
                let host = &record.key.host;
                let named =
                    self.list.iter().filter(|(_, key)| key.fingerprint() == signer.fingerprint);
                let bound = named.map(|(names, _)| names).any(|names| may_sign_for(names, host));
                if bound || self.unbound.contains(&signer.fingerprint) {
                    Believed::Yes(signer.principal)
                } else {
                    Believed::Unknown(format!(
                        "it is signed by {}, who may not sign for host {host}",
                        signer.principal
                    ))
                }
            }
            // The library tells these apart by its words only.
            Err(Error::Signature { why, .. })
                if why.contains("not among the allowed signers")
                    || why.contains("may not sign for host") =>
            {
                Believed::Unknown(why)
            }
            Err(Error::Signature { why, .. }) => Believed::Bad(why),
            Err(other) => Believed::Bad(other.to_string()),
        }
    }
}

/// Whether one of `names` (a list with commas, as in an allowed-signers file) is the host, or `user@host`.
fn may_sign_for(names: &str, host: &str) -> bool {
    names.split(',').any(|name| {
        let name = name.trim_matches('"');
        let name = name.rsplit_once('@').map_or(name, |(_, host)| host);
        name == "*" || name == host
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_binds_a_key_to_its_host() {
        for (names, host, may) in [
            ("db1", "db1", true),
            ("keephold@db1", "db1", true),
            ("db1,db2", "db2", true),
            ("*", "db2", true),
            ("db1", "db2", false),
            ("db10", "db1", false),
        ] {
            assert_eq!(may_sign_for(names, host), may, "{names} {host}");
        }
    }
}
