//! The copies that runs write to as well: can they be reached, do they lock, are they of this vault?

use keephold_cli::exit::{Exit, exit_of, render};
use keephold_cli::keys::HostKeys;
use keephold_vault::Error as VaultError;
use keephold_vault::read::Vault;
use keephold_vault::store::{LockPolicy, Protection, StoreError, Strength};

use super::check::Examination;
use super::host::one_line;
use super::target::clock;
use crate::copies::Also;

/// Looks at one.
///
/// # Errors
/// Usage errors only.
pub(super) async fn examine(
    also: &Also,
    keys: Option<&HostKeys>,
    found: &mut Examination,
) -> anyhow::Result<()> {
    let (name, policy) = (&also.name, also.target.options.lock);
    let asked = async {
        let store = also.target.open()?;
        let protection = store.protection().await?;
        Ok::<_, anyhow::Error>((store, protection))
    };
    let (store, protection) = match asked.await {
        Ok(answered) => answered,
        Err(error) if exit_of(&error) == Exit::Usage => return Err(error),
        Err(error) => {
            found.unchecked("copy", format!("'{name}': {}", one_line(&render(&error))));
            return Ok(());
        }
    };
    lock(name, &protection, policy, found);
    if !also.target.url.is_local() {
        clock(store.as_ref(), "copy clock", &format!("'{name}': "), found);
    }
    let Some(keys) = keys else {
        found.unchecked(
            "copy",
            format!("'{name}': without keys there is nothing to compare it with"),
        );
        return Ok(());
    };
    match Vault::open(store, Some(&keys.fingerprint)).await {
        Ok(_) => found.ok("copy", format!("'{name}' can be reached, and is of this vault")),
        Err(VaultError::Store(StoreError::NotFound { .. })) => found.note(
            "copy",
            format!(
                "'{name}' can be reached, and is empty: the next run begins it, and stores all again for it; of a big vault \
                 make it with `keephold replicate {name}` first"
            ),
        ),
        Err(error @ VaultError::Store(_)) => {
            found.unchecked("copy", format!("'{name}': {}", one_line(&render(&error.into()))));
        }
        Err(error) => found.bad(
            "copy",
            format!("'{name}': {}", one_line(&render(&error.into()))),
            format!("url = …        # of [[replica]] '{name}', in keephold.toml: a place of its own"),
        ),
    }
    Ok(())
}

/// Whether what is written there is locked.
fn lock(name: &str, protection: &Protection, policy: LockPolicy, found: &mut Examination) {
    let mend =
        || format!("lock = \"compliance\"        # of [[replica]] '{name}', in keephold.toml");
    let check = "copy lock";
    match (policy, protection.object_lock, protection.strength) {
        (LockPolicy::None, ..) => {
            found.bad(check, format!("'{name}': lock = \"none\": nothing there is locked"), mend());
        }
        (_, Some(false), _) => found.bad(
            check,
            format!("'{name}': it can't lock, so runs don't write to it"),
            format!(
                "url = …        # of [[replica]] '{name}': a bucket that was made with Object Lock"
            ),
        ),
        (_, _, Strength::Advisory | Strength::None) => {
            found.warn(check, format!("'{name}': {}", protection.notes.join("; ")), mend());
        }
        (_, None, _) => found.note(
            check,
            format!("'{name}': this credential may not see it; the first write is read back"),
        ),
        _ => found.ok(check, format!("'{name}': what is written there is locked")),
    }
}
