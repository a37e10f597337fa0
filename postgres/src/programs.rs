//! Finds PostgreSQL's programs, and picks the version that fits a server.
//!
//! `pg_dump` refuses a server newer than itself, and a newer `pg_dump` writes a newer dialect. So of all that are installed, the
//! lowest version that isn't older than the server is the best.

use crate::{Error, Result, connect};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Folders with one subfolder for each version: parent, the subfolder's prefix, and the programs' folder in it.
const VERSIONED: [(&str, &str); 3] =
    [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/usr/lib", "postgresql")];
/// Where a build from source installs itself.
const FROM_SOURCE: &str = "/usr/local/pgsql/bin";
/// Debian's `/usr/bin/pg_dump` is this: a script that picks a version by its own rules.
const WRAPPER: &str = "pg_wrapper";

/// A program, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its major version: 15; 9 for all of 9.x.
    pub major: u32,
    /// Its whole version: `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
}

/// The programs of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPrograms {
    /// The server itself.
    pub postgres: Program,
    /// Makes its data folder.
    pub initdb: Program,
}

/// The folders in which programs are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folders: Vec<PathBuf>,
}

impl Programs {
    /// Only the given folder; without one, wherever distributions install PostgreSQL, and `path`, a list like `PATH`.
    #[must_use]
    pub fn search(bin_dir: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Self {
        if let Some(folder) = bin_dir {
            return Self { folders: vec![folder.to_owned()] };
        }
        let mut folders = Vec::new();
        for (parent, prefix) in VERSIONED {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            let mut found: Vec<_> = entries
                .filter(|entry| {
                    let name = entry.file_name();
                    let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
                    version.is_some_and(|version| {
                        version.starts_with(|first: char| first.is_ascii_digit())
                    })
                })
                .map(|entry| entry.path().join("bin"))
                .collect();
            found.sort();
            folders.extend(found);
        }
        folders.push(FROM_SOURCE.into());
        folders.extend(
            path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()),
        );
        let mut seen = std::collections::BTreeSet::new();
        folders.retain(|folder| folder.is_dir() && seen.insert(folder.clone()));
        Self { folders }
    }

    /// The program of the lowest version that is at least `server`, a major version.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when there is none at all, [`Error::ServerNewer`] when all are older.
    pub fn client(&self, program: &'static str, server: u32) -> Result<Program> {
        let found = self.all(program);
        if found.is_empty() {
            return Err(Error::NoProgram {
                program,
                major: Some(server),
                tried: self.folders.clone(),
            });
        }
        let best = found
            .iter()
            .filter(|program| program.major >= server)
            .min_by_key(|program| program.major);
        best.cloned().ok_or_else(|| Error::ServerNewer {
            program,
            server,
            found_versions: found
                .into_iter()
                .map(|program| (program.path, program.version))
                .collect(),
        })
    }

    /// The programs of a server of exactly this major version.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when there is none.
    pub fn server(&self, major: u32) -> Result<ServerPrograms> {
        let exact = |program: &'static str| {
            let found = self.all(program).into_iter().find(|found| found.major == major);
            found.ok_or_else(|| Error::NoProgram {
                program,
                major: Some(major),
                tried: self.folders.clone(),
            })
        };
        Ok(ServerPrograms { postgres: exact("postgres")?, initdb: exact("initdb")? })
    }

    /// Every installed version of a program. Each is run once with `--version`.
    #[must_use]
    pub fn all(&self, program: &str) -> Vec<Program> {
        let mut found: Vec<Program> = Vec::new();
        for folder in &self.folders {
            let path = folder.join(program);
            let Ok(real) = fs::canonicalize(&path) else { continue };
            if real.ends_with(WRAPPER)
                || found
                    .iter()
                    .any(|other| fs::canonicalize(&other.path).is_ok_and(|other| other == real))
            {
                continue;
            }
            found.extend(version_of(&path));
        }
        found
    }
}

/// Runs a program with `--version`; one that doesn't answer like a program of PostgreSQL isn't one.
fn version_of(path: &Path) -> Option<Program> {
    let mut command = Command::new(path);
    connect::forget_inherited(&mut command);
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, version) = text.trim().split_once("(PostgreSQL) ")?;
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some(Program {
        path: path.to_owned(),
        major: digits.parse().ok()?,
        version: version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(parent: &Path, version: &str) -> PathBuf {
        let folder = parent.join(version);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("pg_dump");
        // Made under another name first: a file that is still open for writing can't be run.
        let script = format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n");
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn the_lowest_version_that_suffices_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let folders = ["17.2", "13.9", "15.18 (Debian)", "16beta1"]
            .map(|version| fake(parent.path(), version));
        let programs = Programs { folders: folders.to_vec() };
        let picked = |server| programs.client("pg_dump", server).map(|program| program.version);
        assert_eq!(picked(12).unwrap(), "13.9");
        assert_eq!(picked(14).unwrap(), "15.18 (Debian)");
        assert_eq!(picked(16).unwrap(), "16beta1");
        let error = picked(18).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("PostgreSQL 18")
                && text.contains("17.2")
                && text.contains("13.9/pg_dump (13.9)"),
            "{text}"
        );
        assert!(error.hint().contains("postgresql-client-18"), "{}", error.hint());
    }

    #[test]
    fn nothing_found_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::search(Some(folder.path()), None);
        let error = programs.client("pg_dump", 15).unwrap_err();
        assert!(error.to_string().contains(&folder.path().display().to_string()));
        assert!(error.hint().contains("install postgresql-client-15"));
        let error = programs.server(16).unwrap_err();
        assert!(error.hint().contains("install postgresql-16"), "{}", error.hint());
    }

    #[test]
    fn the_wrapper_of_debian_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let wrapper = fake(folder.path(), "15.1").join("pg_dump");
        fs::rename(&wrapper, folder.path().join("pg_wrapper")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("pg_wrapper"), &wrapper).unwrap();
        assert_eq!(Programs { folders: vec![folder.path().join("15.1")] }.all("pg_dump"), []);
    }
}
