//! What lies on this host: keys, recipients, cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keephold_cli::exit::render;
use keephold_cli::human;
use keephold_cli::keys::{HostKeys, identities_left};

use super::check::Examination;
use super::mend::quoted;

/// Files that nobody but their owner may read.
const SECRETS: [&str; 2] = ["vault.secret", "signing_key"];

/// Below this much free space in the cache's file system a run may fail: it spools tables of known blobs there.
const CACHE_FREE_MIN: u64 = 256 << 20;

/// Looks at the key folder; gives the keys if they can be used.
pub(super) fn keys(folder: &Path, host: &str, found: &mut Examination) -> Option<HostKeys> {
    let mut open = Vec::new();
    for path in SECRETS.iter().map(|name| folder.join(name)) {
        let mode = fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o077 != 0 {
            open.push(quoted(&path));
        }
    }
    if !open.is_empty() {
        let text = format!("others on this host can read {}", open.join(" and "));
        found.bad("keys", text, format!("chmod 600 {}", open.join(" ")));
        return None;
    }
    let keys = match HostKeys::load(folder) {
        Ok(keys) => keys,
        Err(error) => {
            let text = render(&error);
            let mend = format!("keephold init --vault {} --keys {}", found.vault, quoted(folder));
            found.bad("keys", one_line(&text), mend);
            return None;
        }
    };
    found.ok("keys", format!("complete in {}, and readable by their owner only", folder.display()));
    match keys.other_host(host) {
        Some(name) => found.warn(
            "signing key",
            format!("it is that of host '{name}', so the verifier won't believe records of host '{host}'"),
            format!("host = \"{name}\"        # in keephold.toml"),
        ),
        None => found.ok("signing key", format!("it is host '{host}''s")),
    }
    let names = keys.recipients.names();
    if names.len() < 2 {
        found.warn(
            "recipients",
            "only one: if its identity is lost, so is every backup",
            format!("echo age1… >> {}", quoted(&folder.join("recipients"))),
        );
    } else {
        found.ok(
            "recipients",
            format!("runs are sealed to {}", human::count(names.len() as u64, "recipient")),
        );
    }
    let left: Vec<_> = identities_left(folder).iter().map(|path| quoted(path)).collect();
    if left.is_empty() {
        found.ok("identities", "none in the key folder: this host can't read its backups");
    } else {
        found.bad(
            "identities",
            "secret identities are still here: whoever takes this host over can read every backup",
            format!("# once they are safe elsewhere, in two places:\nshred -u {}", left.join(" ")),
        );
    }
    Some(keys)
}

/// Tries to write to the cache.
pub(super) fn cache(folder: &Path, found: &mut Examination) {
    // A first run makes the folder; then what is above it counts.
    let Some(there) = folder.ancestors().find(|path| path.is_dir()) else {
        return found.unchecked("cache", format!("{} can't be found", folder.display()));
    };
    if let Err(error) = tempfile::tempfile_in(there) {
        let text = format!("{} can't be written to: {error}", there.display());
        return found.bad("cache", text, format!("install -d -m 700 {}", quoted(folder)));
    }
    match rustix::fs::statvfs(there) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < CACHE_FREE_MIN => found.warn(
            "cache",
            format!(
                "{} has only {} free",
                there.display(),
                human::bytes(stat.f_bavail.saturating_mul(stat.f_frsize))
            ),
            "cache = \"/another/disk/keephold\"        # in keephold.toml".into(),
        ),
        _ => found.ok("cache", format!("{} can be written", folder.display())),
    }
}

/// A rendered error as one line.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<_> =
        text.lines().map(|line| line.trim().trim_start_matches("error: ")).collect();
    lines.join("; ")
}
