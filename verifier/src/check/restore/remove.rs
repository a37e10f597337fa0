//! Removing what was restored. It holds real data, so leaving it about is a leak.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// Removes a scratch folder with all in it, also where restored folders admit nobody.
///
/// # Errors
/// What the system says; the folder is then still there.
pub(super) fn remove(folder: TempDir) -> io::Result<()> {
    let path = folder.keep();
    if fs::remove_dir_all(&path).is_ok() {
        return Ok(());
    }
    open_folders(&path)?;
    fs::remove_dir_all(&path)
}

/// Lets the owner into every folder. Symbolic links are not followed.
fn open_folders(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_folders_are_removed_too() {
        let folder = tempfile::tempdir().unwrap();
        let (top, inner) = (folder.path().to_owned(), folder.path().join("a/b"));
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(top.join("a"), Permissions::from_mode(0o500)).unwrap();
        remove(folder).unwrap();
        assert!(!top.exists());
    }
}
