//! Names of users and groups, read once.
//!
//! `/etc/passwd` and `/etc/group` are read rather than the C library asked: that needs no foreign code, no lookup for
//! each file, and is the same in a static binary. Users of a directory service (LDAP) are kept by number.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Which names stand for which numbers on a host.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: Table,
    groups: Table,
}

#[derive(Debug, Clone, Default)]
struct Table {
    names: HashMap<u32, Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
}

impl Names {
    /// Those of this host. A file that can't be read counts as empty: owners are then known by number alone.
    pub fn of_host() -> Self {
        Self::read(Path::new("/etc"))
    }

    /// Those in the files `passwd` and `group` of the folder `etc`.
    pub fn read(etc: &Path) -> Self {
        let table = |file| Table::parse(&fs::read(etc.join(file)).unwrap_or_default());
        Self { users: table("passwd"), groups: table("group") }
    }

    /// A user's name, empty if unknown.
    pub fn user(&self, uid: u32) -> &[u8] {
        self.users.names.get(&uid).map_or(b"", Vec::as_slice)
    }

    /// A group's name, empty if unknown.
    pub fn group(&self, gid: u32) -> &[u8] {
        self.groups.names.get(&gid).map_or(b"", Vec::as_slice)
    }

    /// The number of the user of that name, if there is one here.
    pub fn uid(&self, user: &[u8]) -> Option<u32> {
        self.users.numbers.get(user).copied()
    }

    /// The number of the group of that name, if there is one here.
    pub fn gid(&self, group: &[u8]) -> Option<u32> {
        self.groups.numbers.get(group).copied()
    }
}

impl Table {
    /// Lines of `name:password:number:…`; the first that names a number or takes a name counts, as for the C library.
    fn parse(bytes: &[u8]) -> Self {
        let mut table = Self::default();
        for line in bytes.split(|&b| b == b'\n') {
            let mut fields = line.split(|&b| b == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(number) = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()) else {
                continue;
            };
            if name.is_empty() || name.starts_with(b"#") {
                continue;
            }
            table.names.entry(number).or_insert_with(|| name.to_vec());
            table.numbers.entry(name.to_vec()).or_insert(number);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_and_odd_lines_are_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(
            temp.path().join("passwd"),
            b"root:x:0:0::/:\ntoor:x:0:0::/:\n+::::::\n\nb\xffd:x:7:7::/:",
        )
        .unwrap();
        let names = Names::read(temp.path());
        assert_eq!(names.user(0), b"root");
        assert_eq!(names.user(7), b"b\xffd");
        assert_eq!(names.user(8), b"");
        assert_eq!(names.uid(b"toor"), Some(0));
        assert_eq!(names.gid(b"root"), None);
    }
}
