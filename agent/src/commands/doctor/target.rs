//! The vault's place: what it promises, whether its clock agrees, whether it holds the right vault.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use futures::StreamExt as _;
use jiff::Timestamp;
use keephold_cli::exit::{Exit, exit_of, render, usage};
use keephold_cli::human;
use keephold_cli::keys::HostKeys;
use keephold_cli::target::Target;
use keephold_vault::Error as VaultError;
use keephold_vault::store::{
    LockPolicy, Prefix, Protection, Store, StoreError, Strength, TargetUrl, Version, permissions,
};

use super::check::Examination;
use super::cloud;
use super::host::one_line;
use super::mend::{Mender, quoted};
use super::rights;
use crate::open::true_config;
use crate::retention::needs::{Needs, days};

/// Differences below this are the network's.
const CLOCK_FINE_MS: u64 = 5_000;

/// Beyond this no locks are set.
const CLOCK_BAD_MS: u64 = 5 * 60 * 1_000;

/// A folder's file system with less than this free will soon be full.
const FREE_MIN: u64 = 1 << 30;

/// Looks at everything that lies on the other side.
///
/// # Errors
/// Usage errors only: what can't be reached is a check that could not be made.
pub(super) async fn examine(
    target: &Target,
    keys: Option<(&HostKeys, &Path)>,
    needs: Needs,
    found: &mut Examination,
) -> Result<()> {
    let mut mender = Mender::new(target);
    let policy = target.options.lock;
    let asked = async {
        let store = target.open()?;
        let protection = store.protection().await?;
        Ok::<_, anyhow::Error>((store, protection))
    };
    let (store, protection) = match asked.await {
        Ok(found) => found,
        Err(error) if exit_of(&error) == Exit::Usage => return Err(error),
        Err(error) => {
            unreached(&error, &target.url, mender.as_ref(), found);
            return Ok(());
        }
    };
    match &target.url {
        TargetUrl::Local { path } => folder(path, &protection, policy, found),
        TargetUrl::S3 { .. } => {
            clock(store.as_ref(), "clock", "", found);
            if let Some(mender) = &mender {
                bucket(&protection, policy, needs, mender, found);
            }
        }
        TargetUrl::Azure { account, container, .. } => {
            clock(store.as_ref(), "clock", "", found);
            cloud::container(&protection, policy, account, container, found);
        }
        TargetUrl::Google { bucket, .. } => {
            clock(store.as_ref(), "clock", "", found);
            cloud::bucket(&protection, policy, needs, bucket, found);
        }
    }
    vault(store.as_ref(), keys, needs, found).await;
    if policy != LockPolicy::None {
        let host = found.host.clone();
        locks(store.as_ref(), &host, needs, found).await;
    }
    let env = |name: &str| std::env::var(name).ok();
    let until = Timestamp::now()
        .checked_add(needs.longest)
        .map_err(|_| usage("a run is kept for longer than dates go"))?;
    match (permissions(&target.url, &target.options, &env, until).await, &mut mender) {
        (Ok(Some(permissions)), Some(mender)) => {
            mender.learn(permissions.server.as_deref());
            rights::judge(
                &permissions,
                policy,
                days(needs.longest),
                needs.cap_days(),
                mender,
                found,
            );
        }
        (Ok(_), _) => {}
        (Err(error), _) => found.unchecked("rights", one_line(&render(&error.into()))),
    }
    Ok(())
}

/// The target didn't answer, or not to this credential.
fn unreached(
    error: &anyhow::Error,
    url: &TargetUrl,
    mender: Option<&Mender>,
    found: &mut Examination,
) {
    let text = one_line(&render(error));
    let missing = error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(StoreError::NoTarget { .. })));
    if missing {
        found.bad("target", text, place_to_make(url, mender));
    } else {
        found.unchecked("target", text);
    }
}

/// Makes what isn't there.
fn place_to_make(url: &TargetUrl, mender: Option<&Mender>) -> String {
    let make = match (url, mender) {
        (TargetUrl::S3 { .. }, Some(mender)) => mender.make(),
        (TargetUrl::Azure { account, container, .. }, _) => {
            cloud::make_container(account, container)
        }
        (TargetUrl::Google { bucket, .. }, _) => cloud::make_bucket(bucket),
        (TargetUrl::Local { .. } | TargetUrl::S3 { .. }, _) => {
            format!("keephold init --vault {url}")
        }
    };
    format!("# if the name in the configuration is right, and there never was a vault:\n{make}")
}

/// Whether the host's clock is that of a server; `of` stands before what is said.
pub(super) fn clock(store: &dyn Store, check: &'static str, of: &str, found: &mut Examination) {
    let Some(offset) = store.clock_offset_ms() else {
        return found.unchecked(check, format!("{of}the server told no time"));
    };
    let mend = || "systemctl restart systemd-timesyncd        # or: chronyc makestep".to_owned();
    let direction = if offset < 0 { "ahead of" } else { "behind" };
    let text =
        format!("{of}this host is {} s {direction} the server", offset.unsigned_abs() / 1_000);
    match offset.unsigned_abs() {
        ms if ms <= CLOCK_FINE_MS => {
            found.ok(check, format!("{of}this host and the server agree"));
        }
        ms if ms <= CLOCK_BAD_MS => found.warn(check, text, mend()),
        _ => found.bad(check, format!("{text}: no locks are set by such a clock"), mend()),
    }
}

/// What the bucket promises.
fn bucket(
    protection: &Protection,
    policy: LockPolicy,
    needs: Needs,
    mender: &Mender,
    found: &mut Examination,
) {
    match (policy, protection.object_lock) {
        (LockPolicy::None, _) => found.bad(
            "object lock",
            "lock = \"none\": nothing that is written is locked, so whoever may delete can delete it all",
            "lock = \"compliance\"        # in keephold.toml, with a bucket that has Object Lock".into(),
        ),
        (_, Some(false)) => found.bad(
            "object lock",
            "not enabled on the bucket: backups are refused",
            mender.object_lock(),
        ),
        (_, None) => found.note(
            "object lock",
            format!(
                "this credential may not see whether the bucket has it ({}); the first write of each run is read back",
                protection.notes.join("; ")
            ),
        ),
        (_, Some(true)) if protection.strength == Strength::Governance => found.ok(
            "object lock",
            "enabled; writes get governance locks, which a credential with a special right can remove",
        ),
        (_, Some(true)) => {
            found.ok("object lock", "enabled; writes get compliance locks, which nobody can remove");
        }
    }
    match protection.versioning {
        Some(true) => {
            found.ok("versioning", "enabled: what is overwritten or deleted stays behind");
        }
        Some(false) => found.bad(
            "versioning",
            "not enabled: what is overwritten or deleted is gone",
            mender.versioning(),
        ),
        None => found.note("versioning", "this credential may not see whether it is enabled"),
    }
    default_retention(protection, needs, mender.default_retention(), found);
}

/// Whether what the bucket locks by itself can be pruned in time.
pub(super) fn default_retention(
    protection: &Protection,
    needs: Needs,
    mend: String,
    found: &mut Examination,
) {
    let shortest = days(needs.shortest);
    match &protection.default_retention {
        None => found.ok("default retention", "none: each write carries its own lock"),
        Some(rule) if retention_days(rule).is_some_and(|days| days > shortest) => found.warn(
            "default retention",
            format!("{rule}, longer than runs are kept ({shortest} days): leftovers can't be pruned for so long"),
            mend,
        ),
        Some(rule) => found.ok("default retention", format!("{rule}; each write carries its own lock")),
    }
}

/// How many days a rule such as `COMPLIANCE 30 days` lasts.
fn retention_days(rule: &str) -> Option<i64> {
    let mut words = rule.rsplit(' ');
    let unit = words.next()?;
    let count: i64 = words.next()?.parse().ok()?;
    Some(if unit.starts_with("year") { count.saturating_mul(366) } else { count })
}

/// A vault in a folder.
fn folder(path: &Path, protection: &Protection, policy: LockPolicy, found: &mut Examination) {
    let shown = quoted(path);
    match (policy, protection.strength) {
        (LockPolicy::None, _) => found.bad(
            "object lock",
            "lock = \"none\": nothing that is written is protected",
            "lock = \"compliance\"        # in keephold.toml".into(),
        ),
        (_, Strength::ImmutableFile) => found.ok(
            "object lock",
            "files get the immutable attribute, which only root of this machine can take away",
        ),
        _ => found.warn(
            "object lock",
            protection.notes.join("; "),
            "setcap cap_linux_immutable+ep $(command -v keephold)        # or run it as root; on ext4, xfs or btrfs"
                .into(),
        ),
    }
    match std::fs::metadata(path).map(|meta| meta.permissions().mode()) {
        Ok(mode) if mode & 0o022 != 0 => found.bad(
            "folder",
            format!("others may write to {} (mode {:o})", path.display(), mode & 0o777),
            format!("chmod go-w {shown}"),
        ),
        Ok(_) => found.ok("folder", "only its owner may write to it"),
        Err(error) => found.unchecked("folder", format!("{}: {error}", path.display())),
    }
    match rustix::fs::statvfs(path) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < FREE_MIN => found.warn(
            "free space",
            format!("only {}", human::bytes(stat.f_bavail.saturating_mul(stat.f_frsize))),
            format!(
                "keephold prune --vault {} --key PRUNER_KEY --signers SIGNERS        # or make room otherwise on {shown}",
                found.vault
            ),
        ),
        Ok(_) => found.ok("free space", "more than 1 GiB"),
        Err(error) => found.unchecked("free space", error.to_string()),
    }
}

/// Whether the vault there is the pinned one, and keeps as long as the jobs ask.
async fn vault(
    store: &dyn Store,
    keys: Option<(&HostKeys, &Path)>,
    needs: Needs,
    found: &mut Examination,
) {
    let Some((keys, folder)) = keys else {
        return found.unchecked("vault", "without keys there is nothing to compare it with");
    };
    let folder = quoted(folder);
    let config = match true_config(store, keys).await {
        Ok((config, _)) => config,
        Err(error) => {
            let text = one_line(&render(&error));
            let store = error.chain().find_map(|cause| match cause.downcast_ref::<VaultError>() {
                Some(VaultError::Store(error)) => Some(error),
                _ => cause.downcast_ref::<StoreError>(),
            });
            return match store {
                Some(_) => found.unchecked("vault", text),
                None => found.bad(
                    "vault",
                    text,
                    format!(
                        "# stop, and find out who put another vault there. If it is the right one, this host joins it with \
                         the secret of one of its hosts:\n\
                         mv {folder} {folder}.other\n\
                         keephold init --vault {} --keys {folder} --join VAULT_SECRET --recipient AGE1…",
                        found.vault
                    ),
                ),
            };
        }
    };
    match config.check_secret(&keys.secret) {
        Ok(()) => found.ok("vault", "it is the one whose fingerprint is pinned here"),
        Err(error) => found.bad(
            "vault",
            one_line(&render(&error.into())),
            format!("scp ANOTHER_HOST:{folder}/vault.secret {folder}/"),
        ),
    }
    let floor = i64::from(config.retention_floor_days);
    if days(needs.shortest) < floor {
        found.bad(
            "retention",
            format!(
                "a job keeps its runs for {} days, the vault wants {floor} at least",
                days(needs.shortest)
            ),
            format!("keep = \"{floor}d\"        # in keephold.toml"),
        );
    } else {
        found.ok(
            "retention",
            format!(
                "runs are kept for {} days and more, records up to {}",
                days(needs.shortest),
                days(needs.longest)
            ),
        );
    }
}

/// Whether the newest record of this host is locked for as long as the configuration says: what was locked under a
/// shorter one, or isn't locked, can go before its time.
async fn locks(store: &dyn Store, host: &str, needs: Needs, found: &mut Examination) {
    let Some(folder) = Prefix::folder(&["runs", host]) else { return };
    let mut newest: Option<Version> = None;
    let mut versions = store.list_versions(&folder);
    while let Some(version) = versions.next().await {
        match version {
            Ok(version) if version.delete_marker => {}
            Ok(version) if newest.as_ref().is_some_and(|n| n.modified >= version.modified) => {}
            Ok(version) => newest = Some(version),
            Err(error) => return found.unchecked("locks", one_line(&render(&error.into()))),
        }
    }
    let Some(record) = newest else {
        return found.note("locks", format!("host '{host}' has no run here yet"));
    };
    let lock = match store.retention(&record.key, record.version.as_ref()).await {
        Ok(lock) => lock,
        Err(error) => return found.unchecked("locks", one_line(&render(&error.into()))),
    };
    let asked = days(needs.evidence);
    let mend = format!(
        "keephold backup        # its record is locked for {asked} days; earlier ones stay as they are"
    );
    let Some(lock) = lock else {
        let text = format!("{} isn't locked: whoever may delete can delete it", record.key);
        return found.bad("locks", text, mend);
    };
    let length = lock.until.duration_since(record.modified);
    // Clocks differ by minutes, and runs take hours: the nearest whole day.
    let has = (length.as_secs() + 43_200) / 86_400;
    if has < asked {
        let text = format!(
            "the newest record is locked for {has} days, shorter than the {asked} that are configured"
        );
        return found.warn("locks", text, mend);
    }
    found.ok(
        "locks",
        format!("the newest record is locked for {has} days, as configured or longer"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_buckets_are_read() {
        assert_eq!(retention_days("COMPLIANCE 30 days"), Some(30));
        assert_eq!(retention_days("GOVERNANCE 2 years"), Some(732));
        assert_eq!(retention_days("odd"), None);
    }
}
