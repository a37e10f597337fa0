//! Paths as people type and read them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use keephold_cli::exit::usage;
use keephold_vault::tree::TreePath;

/// A path as it was typed: with or without a slash in front or at its end. `None` for the top.
pub(crate) fn tree_path(typed: &OsStr) -> Result<Option<TreePath>> {
    let parts =
        typed.as_bytes().split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let joined = parts.collect::<Vec<_>>().join(&b'/');
    if joined.is_empty() {
        return Ok(None);
    }
    TreePath::new(joined).map(Some).map_err(|error| usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_paths_are_forgiven_their_slashes_but_lead_nowhere_else() {
        let read = |text: &str| tree_path(OsStr::new(text)).map(|p| p.map(|p| p.to_string()));
        assert_eq!(read("/etc//nginx/").unwrap().as_deref(), Some("etc/nginx"));
        assert_eq!(read("./a/./b").unwrap().as_deref(), Some("a/b"));
        assert_eq!(read("/").unwrap(), None);
        assert!(read("a/../b").is_err());
    }
}
