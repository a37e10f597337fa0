//! What the targets promise whose locks aren't S3's: containers of Azure, buckets of Google.

use keephold_vault::store::{LockPolicy, Protection};

use super::check::Examination;
use super::target::default_retention;
use crate::retention::needs::Needs;

/// How a service calls its locks.
struct Words {
    /// The line's name.
    check: &'static str,
    /// What the place must have.
    feature: &'static str,
    /// What it is that lacks it.
    place: &'static str,
    /// What writes get in governance mode, and in compliance mode.
    locks: [&'static str; 2],
}

/// What a container of Azure promises.
pub(super) fn container(
    protection: &Protection,
    policy: LockPolicy,
    account: &str,
    name: &str,
    found: &mut Examination,
) {
    let words = Words {
        check: "immutability",
        feature: "version-level immutability",
        place: "the container",
        locks: ["unlocked policies", "locked policies"],
    };
    let mend = format!(
        "# make another container and move there:\n{}",
        make_container(account, &format!("{name}-locked"))
    );
    locks(protection, policy, &words, mend, found);
    rights("Azure Blob Storage", found);
}

/// What a bucket of Google's promises.
pub(super) fn bucket(
    protection: &Protection,
    policy: LockPolicy,
    needs: Needs,
    name: &str,
    found: &mut Examination,
) {
    let words = Words {
        check: "object retention",
        feature: "object retention",
        place: "the bucket",
        locks: ["unlocked retentions", "locked retentions"],
    };
    let mend = format!(
        "# make another bucket and move there (for an existing one: in the console, under Protection):\n{}",
        make_bucket(&format!("{name}-locked"))
    );
    locks(protection, policy, &words, mend, found);
    match protection.versioning {
        Some(true) => {
            found.ok("versioning", "enabled: what is overwritten or deleted stays behind");
        }
        Some(false) => found.warn(
            "versioning",
            "not enabled: what is overwritten or deleted once its lock has ended is gone",
            format!("gcloud storage buckets update gs://{name} --versioning"),
        ),
        None => found.note("versioning", "this credential may not see whether it is enabled"),
    }
    if protection.object_lock.is_some() {
        let mend = format!("gcloud storage buckets update gs://{name} --clear-retention-period");
        default_retention(protection, needs, mend, found);
        for note in protection.notes.iter().filter(|note| note.contains("event-based hold")) {
            let mend =
                format!("gcloud storage buckets update gs://{name} --no-default-event-based-hold");
            found.warn("holds", note.clone(), mend);
        }
    }
    rights("Google Cloud Storage", found);
}

/// Makes a container that can lock.
pub(super) fn make_container(account: &str, name: &str) -> String {
    format!("az storage container-rm create --storage-account {account} --name {name} --enable-vlw")
}

/// Makes a bucket that can lock and keeps versions.
pub(super) fn make_bucket(name: &str) -> String {
    format!(
        "gcloud storage buckets create gs://{name} --location LOCATION --enable-per-object-retention \
         --uniform-bucket-level-access --public-access-prevention\n\
         gcloud storage buckets update gs://{name} --versioning"
    )
}

fn locks(
    protection: &Protection,
    policy: LockPolicy,
    words: &Words,
    mend: String,
    found: &mut Examination,
) {
    let Words { check, feature, place, locks: [lifted, fixed] } = *words;
    match (policy, protection.object_lock) {
        (LockPolicy::None, _) => found.bad(
            check,
            "lock = \"none\": nothing that is written is locked, so whoever may delete can delete it all",
            format!("lock = \"compliance\"        # in keephold.toml, with {feature}"),
        ),
        (_, Some(false)) => found.bad(
            check,
            format!("{feature} is not enabled on {place}: backups are refused"),
            mend,
        ),
        (_, None) => found.note(
            check,
            format!(
                "not told ({}); the first write of each run is read back",
                protection.notes.join("; ")
            ),
        ),
        (LockPolicy::Governance, Some(true)) => found.ok(
            check,
            format!(
                "enabled; writes get {lifted}, which a credential with a special right can remove"
            ),
        ),
        (LockPolicy::Compliance, Some(true)) => {
            found.ok(check, format!("enabled; writes get {fixed}, which nobody can remove"));
        }
    }
}

/// Rights aren't asked for here, which is no fault of the host's: it is said, and is nothing that fails.
fn rights(section: &str, found: &mut Examination) {
    found.note(
        "rights",
        format!(
            "not checked: they can't be tried there without writing. Hold this credential's roles against those in \
             docs/OPERATIONS.md, section 2, {section}; `keephold-verify prove-lock` tries what locks hold"
        ),
    );
}
