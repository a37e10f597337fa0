//! The lists by which a database's dump is matched with the one before it: one file for each database of a job.
//!
//! They hold fingerprints of rows and about a tenth of the dump's length, and are the cache's: without them a dump is
//! stored as if it were the first.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keephold_vault::keys::VaultSecret;
use keephold_vault::write::{DeltaWriter, PieceList};

/// The lists of one job's run.
#[derive(Debug)]
pub(crate) struct PieceLists {
    folder: PathBuf,
    secret: VaultSecret,
    begun: Vec<PathBuf>,
    written: Vec<PieceList>,
}

impl PieceLists {
    /// Those in `folder`, which holds nothing else.
    pub(crate) fn of(folder: PathBuf, secret: VaultSecret) -> Self {
        Self { folder, secret, begun: Vec::new(), written: Vec::new() }
    }

    /// Begins a dump by the name of its database's folder in the snapshot.
    pub(crate) fn begin(&mut self, component: &[u8]) -> DeltaWriter {
        let name = Path::new(OsStr::from_bytes(component)).with_added_extension("pieces");
        let path = self.folder.join(name);
        let dump = DeltaWriter::new(&path, &self.secret);
        self.begun.push(path);
        dump
    }

    /// The secret of the vault that they belong to.
    pub(crate) fn secret(&self) -> &VaultSecret {
        &self.secret
    }

    /// Takes the list of a dump that is whole.
    pub(crate) fn add(&mut self, list: Option<PieceList>) {
        self.written.extend(list);
    }

    /// Puts the lists in place for the next run, once this one has succeeded, and takes those of databases away that
    /// are dumped no more. What fails costs the next run size, nothing else.
    pub(crate) fn keep(self) {
        for list in self.written {
            if let Err(error) = list.keep() {
                tracing::warn!("the next dump will take more room than it needs to: {error}");
            }
        }
        let found = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in found.map(|entry| entry.path()).filter(|path| !self.begun.contains(path)) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("{} is left over, and can't be removed: {error}", path.display());
            }
        }
    }
}
