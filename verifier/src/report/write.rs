//! The report on disk: three files in a folder of their own, all of them or none.
//!
//! The folder is filled under a temporary name beside its final one and then renamed, so nobody ever sees a report without
//! its signature, and a crash leaves only a `.report-…` folder. A report is evidence: one that exists is never replaced.

use super::html;
use super::model::{LockProof, Report};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The document.
pub const JSON: &str = "report.json";
/// Its SSH signature.
pub const SIGNATURE: &str = "report.json.sig";
/// The same for people.
pub const HTML: &str = "report.html";

/// The document of a proof that locks hold.
pub const PROOF_JSON: &str = "lock-proof.json";
/// Its SSH signature.
pub const PROOF_SIGNATURE: &str = "lock-proof.json.sig";

/// A report that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its folder.
    pub folder: PathBuf,
    /// The exact bytes of `report.json`, which were signed.
    pub json: Vec<u8>,
    /// The signature, in `ssh-keygen`'s armored form.
    pub signature: String,
    /// The page.
    pub html: String,
    /// BLAKE3 of `report.json` in hex: what the next report carries.
    pub json_blake3: String,
}

/// Why a report was not written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// There is a report of that name already.
    Exists(PathBuf),
    /// The report's id can't be part of a file name.
    BadId(String),
    /// The document or the page could not be made.
    Render(String),
    /// The signature could not be made.
    Sign(anyhow::Error),
    /// The files could not be written.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exists(path) => {
                write!(f, "{} exists already, and a report is never replaced", path.display())
            }
            Self::BadId(id) => {
                write!(f, "the report id {id:?} must be of lower-case letters, digits and hyphens")
            }
            Self::Render(reason) => write!(f, "could not make the report: {reason}"),
            Self::Sign(_) => write!(f, "could not sign the report, so it was not written"),
            Self::Io(path, _) => write!(f, "could not write the report to {}", path.display()),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sign(error) => Some(error.as_ref()),
            Self::Io(_, error) => Some(error),
            Self::Exists(_) | Self::BadId(_) | Self::Render(_) => None,
        }
    }
}

/// The bytes of a document such as `report.json`. They are made once, signed, hashed and written: never made again from the parsed document.
pub fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>, WriteError> {
    let mut json = serde_json::to_vec_pretty(document)
        .map_err(|error| WriteError::Render(error.to_string()))?;
    json.push(b'\n');
    Ok(json)
}

/// Writes `report` into a new folder in `parent`, named by [`Report::folder_name`]. `sign` is given the bytes of
/// `report.json` and answers with their SSH signature in the namespace `keephold-report`, armored.
pub fn write_report(
    parent: &Path,
    report: &Report,
    sign: impl FnOnce(&[u8]) -> anyhow::Result<String>,
) -> Result<Written, WriteError> {
    check_id(&report.report_id)?;
    let folder = parent.join(report.folder_name());
    if folder.symlink_metadata().is_ok() {
        return Err(WriteError::Exists(folder));
    }
    let json = to_json(report)?;
    let json_blake3 = blake3::hash(&json).to_hex().to_string();
    let html = html::render(report, &json_blake3)
        .map_err(|error| WriteError::Render(error.to_string()))?;
    let signature = sign(&json).map_err(WriteError::Sign)?;
    let files = [(JSON, &json[..]), (SIGNATURE, signature.as_bytes()), (HTML, html.as_bytes())];
    write_folder(parent, &folder, &files)?;
    Ok(Written { folder, json, signature, html, json_blake3 })
}

/// Writes `proof` into a new folder in `parent`, signed as reports are; answers the folder.
pub fn write_proof(
    parent: &Path,
    proof: &LockProof,
    sign: impl FnOnce(&[u8]) -> anyhow::Result<String>,
) -> Result<PathBuf, WriteError> {
    check_id(&proof.proof_id)?;
    let folder = parent.join(proof.folder_name());
    let json = to_json(proof)?;
    let signature = sign(&json).map_err(WriteError::Sign)?;
    let files = [(PROOF_JSON, &json[..]), (PROOF_SIGNATURE, signature.as_bytes())];
    write_folder(parent, &folder, &files)?;
    Ok(folder)
}

fn check_id(id: &str) -> Result<(), WriteError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        return Err(WriteError::BadId(id.to_owned()));
    }
    Ok(())
}

/// Writes a folder of files in `parent`, all of them or none.
pub(crate) fn write_folder(
    parent: &Path,
    folder: &Path,
    files: &[(&str, &[u8])],
) -> Result<(), WriteError> {
    let failed = |error| WriteError::Io(folder.to_owned(), error);
    fs::create_dir_all(parent).map_err(failed)?;
    // Removes what it holds when it is dropped, unless it was renamed first. The umask still narrows the permissions.
    let temporary = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, bytes) in files {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(temporary.path().join(name))
            .map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    sync_folder(temporary.path()).map_err(failed)?;
    // On Unix this refuses to replace a file or a folder that holds anything, so two writers can't both win.
    fs::rename(temporary.path(), folder).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory => WriteError::Exists(folder.to_owned()),
        _ => failed(error),
    })?;
    let _ = temporary.keep();
    sync_folder(parent).map_err(failed)
}

/// Makes the names in a folder last through a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn sign(bytes: &[u8]) -> anyhow::Result<String> {
        Ok(format!("signature of {} bytes\n", bytes.len()))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn three_files_or_none() {
        let parent = tempfile::tempdir().unwrap();
        let written = write_report(parent.path(), &samples::good(), sign).unwrap();
        assert_eq!(names(parent.path()), [samples::good().folder_name()]);
        assert_eq!(names(&written.folder), [HTML, JSON, SIGNATURE]);
        let json = fs::read(written.folder.join(JSON)).unwrap();
        assert_eq!(json, written.json);
        assert_eq!(
            fs::read_to_string(written.folder.join(SIGNATURE)).unwrap(),
            sign(&json).unwrap()
        );
        let read: Report = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, samples::good());
        assert!(
            written.html.contains(&written.json_blake3),
            "the page names the document it renders"
        );
    }

    #[test]
    fn a_report_is_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let first = write_report(parent.path(), &samples::good(), sign).unwrap();
        let again = write_report(parent.path(), &samples::good(), sign);
        assert!(matches!(again, Err(WriteError::Exists(_))), "{again:?}");
        // Also when the other writer came between the look and the rename.
        let raced = write_folder(parent.path(), &first.folder, &[(JSON, b"other")]);
        assert!(matches!(raced, Err(WriteError::Exists(_))), "{raced:?}");
        assert_eq!(fs::read(first.folder.join(JSON)).unwrap(), first.json);
        assert_eq!(names(parent.path()).len(), 1, "nothing temporary is left");
    }

    #[test]
    fn without_a_signature_nothing_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let result = write_report(parent.path(), &samples::good(), |_| anyhow::bail!("no key"));
        assert!(matches!(result, Err(WriteError::Sign(_))), "{result:?}");
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn an_id_can_not_leave_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        for id in ["", "../x", "a/b", "UPPER", "a b"] {
            let report = Report { report_id: id.to_owned(), ..samples::good() };
            let result = write_report(parent.path(), &report, sign);
            assert!(matches!(result, Err(WriteError::BadId(_))), "{id}: {result:?}");
        }
    }
}
