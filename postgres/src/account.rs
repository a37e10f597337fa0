//! Accounts of the operating system.

use std::{fs, path::PathBuf};

/// The list of local accounts.
const PASSWD: &str = "/etc/passwd";

/// An account that a server can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its home folder.
    pub home: PathBuf,
}

impl Account {
    /// That of this process, if it is a local one.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        let uid = rustix::process::getuid().as_raw();
        Self::find(|account| account.uid == uid)
    }

    /// The local account of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::find(|account| account.name == name)
    }

    fn find(wanted: impl FnMut(&Self) -> bool) -> Option<Self> {
        // Names needn't be UTF-8, but the parts between colons are what counts.
        let text = fs::read(PASSWD).ok()?;
        String::from_utf8_lossy(&text).lines().filter_map(Self::parse).find(wanted)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.into();
        Some(Self { name, uid, gid, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_are_read() {
        let account = Account::parse(
            "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash",
        )
        .unwrap();
        assert_eq!((account.name.as_str(), account.uid, account.gid), ("postgres", 101, 104));
        assert_eq!(account.home, PathBuf::from("/var/lib/postgresql"));
        assert_eq!(Account::parse("# comment"), None);
    }
}
