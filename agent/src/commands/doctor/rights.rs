//! What the credential may do: whether that is enough, and whether it is too much.

use keephold_vault::store::{LockPolicy, Permissions, Right, Verdict};

use super::check::Examination;
use super::mend::Mender;

/// Rights that runs can't do without, or not well.
const NEEDED: [(Right, &str, Need); 9] = [
    (Right::List, "list keys", Need::Must),
    (
        Right::ListVersions,
        "list versions",
        Need::Should("an overwritten vault.json or record would not be passed over"),
    ),
    (Right::ReadConfig, "read vault.json", Need::Must),
    (Right::ReadIndex, "read index/", Need::Must),
    (Right::ReadRuns, "read runs/", Need::Must),
    (Right::Write, "write with a lock", Need::Must),
    (Right::WriteLongest, "write with the longest lock", Need::Must),
    (Right::Extend, "lengthen locks", Need::Must),
    (
        Right::ReadLocks,
        "see locks",
        Need::Should("that locks are kept is taken from the server's word alone"),
    ),
];

/// How much a right is missed.
#[derive(Clone, Copy)]
enum Need {
    Must,
    /// And what comes of its lack.
    Should(&'static str),
}

/// Rights that a stolen credential would be worth having for.
const TOO_MUCH: [(Right, &str, &str); 10] = [
    (Right::DeleteVersions, "delete versions", "it could delete whatever isn't locked"),
    (
        Right::Hide,
        "hide objects behind delete markers",
        "other tools would take the backups for lost (Keephold looks behind markers)",
    ),
    (Right::Bypass, "bypass governance locks", "it could remove any lock of this vault"),
    (Right::LegalHold, "set legal holds", "it could hold objects for ever"),
    (Right::ReadPacks, "read packs", "it could carry off every sealed backup"),
    (
        Right::WriteElsewhere,
        "write to reports/",
        "it could put files where the verifier's reports belong",
    ),
    (Right::ChangePolicy, "change the bucket's policy", "it could give itself every right"),
    (Right::ChangeVersioning, "change versioning", "it could have overwritten versions vanish"),
    (
        Right::ChangeObjectLock,
        "change default retention",
        "it could lock every later write for decades",
    ),
    (
        Right::ChangeLifecycle,
        "change lifecycle rules",
        "it could have objects deleted as soon as their locks end",
    ),
];

/// Turns what was found into checks: one for what is needed and right, one for what is rightly refused, and one for
/// each exception.
pub(super) fn judge(
    permissions: &Permissions,
    policy: LockPolicy,
    longest_days: i64,
    cap_days: i64,
    mender: &Mender,
    found: &mut Examination,
) {
    let mend = || mender.policy(cap_days);
    let (mut has, mut lacks_rightly) = (Vec::new(), Vec::new());
    for (right, name, need) in NEEDED {
        match (permissions.of(right), need) {
            (Some(Verdict::Allowed), _) => has.push(name),
            (Some(Verdict::Refused), Need::Must) if right == Right::WriteLongest => found.bad(
                "may not",
                format!(
                    "lock for {longest_days} days, as long as a run needs: the policy's bound \
                     (s3:object-lock-remaining-retention-days) is too low, or writing is refused at all"
                ),
                mend(),
            ),
            (Some(Verdict::Refused), Need::Must) => {
                found.bad("may not", format!("{name}: backups fail without"), mend());
            }
            (Some(Verdict::Refused), Need::Should(why)) => {
                found.warn("may not", format!("{name}: {why}"), mend());
            }
            (Some(Verdict::Unclear(why)), _) => found.note("can't tell", format!("{name}: {why}")),
            (None, _) => {}
        }
    }
    if !has.is_empty() {
        found.ok("may", has.join(", "));
    }
    for (right, name, why) in TOO_MUCH {
        match permissions.of(right) {
            Some(Verdict::Allowed) => found.warn("too wide", format!("may {name}: {why}"), mend()),
            Some(Verdict::Refused) => lacks_rightly.push(name),
            Some(Verdict::Unclear(why)) => found.note("can't tell", format!("{name}: {why}")),
            None => {}
        }
    }
    if !lacks_rightly.is_empty() {
        found.ok("may not, rightly", lacks_rightly.join(", "));
    }
    if policy == LockPolicy::Compliance {
        found.ok(
            "bypass",
            "not tried: compliance locks know none (`keephold-verify prove-lock` tries it)",
        );
    }
    match permissions.of(Right::LockForDecades) {
        Some(Verdict::Allowed) if mender.can_bound_locks() => found.warn(
            "lock bound",
            "none: a stolen credential could lock garbage for decades, at your cost",
            mend(),
        ),
        Some(Verdict::Allowed) => found.note(
            "lock bound",
            "none, and this kind of server may know no such condition for writes: a stolen credential could lock garbage for decades",
        ),
        Some(Verdict::Refused) => found.ok("lock bound", "locks of decades are refused"),
        Some(Verdict::Unclear(why)) => found.note("lock bound", format!("can't tell: {why}")),
        None => {}
    }
    if let Some(key) = &permissions.marker_left {
        found.note(
            "delete marker",
            format!(
                "trying that left one over nothing, at {key}, which this credential may not take away again; \
                 `keephold prune` does"
            ),
        );
    }
}
