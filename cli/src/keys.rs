//! The key folder: what a host keeps to write to one vault.
//!
//! | file | holds |
//! |---|---|
//! | `vault.secret` | the vault's secret (blob ids, index, records); not enough to read any data |
//! | `vault.fingerprint` | which vault: the BLAKE3 of its `vault.json` |
//! | `signing_key`, `signing_key.pub` | the host's Ed25519 key for its records, OpenSSH format |
//! | `recipients` | whom runs are sealed to, one `age1…` a line |
//! | `allowed_signers` | once the key was rotated: all keys that this host ever had, and when each counts |

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use keephold_vault::envelope::Recipients;
use keephold_vault::ids::Fingerprint;
use keephold_vault::keys::VaultSecret;
use keephold_vault::sign::SigningKey;

/// The folder in the key folder where secret identities wait to be carried away.
pub const CARRY_OFF: &str = "carry-off";

/// A host's keys.
#[derive(Debug, Clone)]
pub struct HostKeys {
    /// The vault's secret.
    pub secret: VaultSecret,
    /// The pinned vault.
    pub fingerprint: Fingerprint,
    /// Signs records.
    pub signing: SigningKey,
    /// Whom runs are sealed to.
    pub recipients: Recipients,
}

/// Where keys lie unless told otherwise: `/etc/keephold/keys` for root, else below the user's configuration.
pub fn default_folder() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/etc/keephold/keys".into();
    }
    user_folder("XDG_CONFIG_HOME", ".config").join("keephold/keys")
}

/// Where the cache lies unless told otherwise: `/var/cache/keephold` for root, else the user's cache folder.
pub fn default_cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/cache/keephold".into();
    }
    user_folder("XDG_CACHE_HOME", ".cache").join("keephold")
}

fn user_folder(variable: &str, below_home: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(below_home)))
        .unwrap_or_else(std::env::temp_dir)
}

impl HostKeys {
    /// Reads a key folder.
    ///
    /// # Errors
    /// Names the file that is missing, can be read by others, or isn't what it should be.
    pub fn load(folder: &Path) -> Result<Self> {
        if !folder.join("vault.secret").exists() {
            bail!(
                "there are no keys in {}: run `keephold init` first, or name the folder with --keys",
                folder.display()
            );
        }
        let secret = VaultSecret::from_text(&read_secret(&folder.join("vault.secret"))?)
            .with_context(|| format!("in {}", folder.join("vault.secret").display()))?;
        let signing = SigningKey::from_openssh(&read_secret(&folder.join("signing_key"))?)
            .with_context(|| format!("in {}", folder.join("signing_key").display()))?;
        let fingerprint = read(&folder.join("vault.fingerprint"))?;
        let fingerprint = fingerprint
            .trim()
            .parse()
            .with_context(|| format!("in {}", folder.join("vault.fingerprint").display()))?;
        let recipients = Recipients::parse(&read(&folder.join("recipients"))?)
            .with_context(|| format!("in {}", folder.join("recipients").display()))?;
        Ok(Self { secret, fingerprint, signing, recipients })
    }

    /// The host that the signing key was made for, where that is another one than this.
    pub fn other_host(&self, host: &str) -> Option<String> {
        let line = self.signing.public().to_openssh();
        let (_, name) = line.rsplit_once(" keephold@")?;
        (name != host).then(|| name.to_owned())
    }
}

/// The secret identities that were never carried away from a key folder.
pub fn identities_left(folder: &Path) -> Vec<PathBuf> {
    let names = ["restore.agekey", "verifier.agekey"];
    let paths = names.map(|name| folder.join(CARRY_OFF).join(name));
    paths.into_iter().filter(|path| path.exists()).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

/// Reads a file that nobody else may read.
///
/// # Errors
/// Names the file, and says how to mend its mode.
pub fn read_secret(path: &Path) -> Result<String> {
    let mode = fs::metadata(path)
        .with_context(|| format!("{} can't be read", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} can be read by others (mode {:o}): run `chmod 600 {}`",
            path.display(),
            mode & 0o777,
            path.display()
        );
    }
    read(path)
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// Names the folder.
pub fn private_folder(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))
}

/// Writes a new file; never over one that exists.
///
/// # Errors
/// Names the file, and says so if it exists.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("{} can't be made", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} can't be written", path.display()))
}

/// Writes a file in the place of one that exists: whoever reads finds the old one or the new one, whole.
///
/// # Errors
/// Names the file.
pub fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What a crash left behind.
    let _ = fs::remove_file(&new);
    write_new(&new, text, mode)?;
    fs::rename(&new, path).with_context(|| format!("{} can't be replaced", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{} can't be made to last", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_open_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = HostKeys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("keephold init"), "{error}");
        write_new(&dir.path().join("vault.secret"), "x", 0o644).unwrap();
        fs::set_permissions(dir.path().join("vault.secret"), fs::Permissions::from_mode(0o644))
            .unwrap();
        let error = HostKeys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        assert!(write_new(&dir.path().join("vault.secret"), "y", 0o600).is_err());
    }
}
