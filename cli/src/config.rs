//! Reading TOML: errors point at the line that is wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::exit::usage;

/// Reads a configuration file.
///
/// # Errors
/// A usage error that names the file and shows the line that is wrong.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| {
        usage(format!("the configuration file {} can't be read", path.display()))
    })?;
    parse(&text, path)
}

/// Parses a configuration file's text.
///
/// # Errors
/// As [`read`].
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text)
        .map_err(|error| usage(format!("{}: {}", path.display(), error.to_string().trim_end())))
}

/// The configuration that counts: the file that is named; else the usual one, unless the command line names the vault
/// itself (`named_here`): what this host's file says may be of another.
///
/// # Errors
/// As `read`.
pub fn chosen<T: Default>(
    file: Option<&Path>,
    name: &str,
    named_here: bool,
    read: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    match find(file, name) {
        Some(path) if file.is_some() || !named_here => read(&path),
        _ => Ok(T::default()),
    }
}

/// The configuration file to use: the one that is named, or the first of the usual places that exists.
pub fn find(named: Option<&Path>, name: &str) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.into());
    }
    let system = Path::new("/etc/keephold").join(name);
    let user = std::env::home_dir().map(|home| home.join(".config/keephold").join(name));
    [user, Some(system)].into_iter().flatten().find(|path| path.is_file())
}
