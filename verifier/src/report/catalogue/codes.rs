//! All codes, by family. Add at a family's end; never change what a code means.

use super::{Code, Level, Severity};

/// Defines each code as a constant whose documentation is also its meaning on the page for readers, and [`ALL`].
macro_rules! catalogue {
    ($(#[doc = $meaning:literal] $name:ident = $id:literal, $level:ident, $severity:ident, $title:literal, $remedy:literal;)+) => {
        $(
            #[doc = $meaning]
            pub const $name: Code = Code {
                id: $id,
                level: Level::$level,
                severity: Severity::$severity,
                title: $title,
                // A doc comment begins with a space.
                meaning: $meaning.trim_ascii_start(),
                remedy: $remedy,
            };
        )+

        /// Every code, in the order of the page.
        pub const ALL: &[&Code] = &[$(&$name),+];
    };
}

catalogue! {
    // Freshness: jobs against their schedule.
    /// The newest successful run of a job is older than its RPO.
    STALE = "KH-FRESH-001", Freshness, High, "Newest backup is older than the RPO",
        "Run the job by hand with `keephold backup` and read its output; then see why the timer or cron line did not run it.";
    /// A configured job has no successful snapshot in the vault.
    NO_SUCCESS = "KH-FRESH-002", Freshness, Critical, "No successful snapshot for a job",
        "Run the job by hand and read its output. Until it succeeds, this job protects nothing.";
    /// The schedule asked for a run and no record of one exists, not even of a failed one.
    MISSED_RUN = "KH-FRESH-003", Freshness, Warning, "A scheduled run left no record",
        "Look at the timer or cron log of that host for that time: the agent was not started, was killed, or could not reach the target.";
    /// A run ended without a snapshot, and said so in its record.
    FAILED_RUN = "KH-FRESH-004", Freshness, Warning, "A run failed",
        "Read the message in the run's record, correct the cause and run the job again with `keephold backup`.";
    /// A run left a snapshot from which something is missing that the source could not give.
    RUN_WARNINGS = "KH-FRESH-005", Freshness, Warning, "A run ended with warnings",
        "Read the warnings in the run's record: give the agent the right to read what it could not, or exclude it on purpose.";
    /// The clocks of the verifier, of the host or of the target disagree, so ages and lock times can't be relied on.
    CLOCK_SKEW = "KH-FRESH-006", Freshness, High, "Clocks disagree",
        "Correct the clock that is wrong (`chronyc tracking`), then verify again.";

    // Records: what the runs left, signed and chained.
    /// A run's record does not match its signature: it was changed after it was written.
    SIGNATURE_BAD = "KH-REC-001", Freshness, Critical, "Record's signature is wrong",
        "Treat the target or the host's key as compromised: keep the evidence, rotate the credential, and restore only from records that verify.";
    /// A run's record is signed by a key that the verifier's configuration doesn't list.
    SIGNER_UNKNOWN = "KH-REC-002", Freshness, Critical, "Record is signed by an unknown key",
        "If the host's key was replaced on purpose, add the new one to the verifier's allowed signers, with the host's name as the records have it in front; otherwise someone else writes to this vault.";
    /// A record does not carry the hash of the record before it: history was rewritten, or a record replaced.
    CHAIN_BROKEN = "KH-REC-003", Freshness, Critical, "Chain of records is broken",
        "Compare the records around the break with an earlier report, which names their hashes, and find out who could write there.";
    /// A sequence number is missing between two records: a run's record was removed or never arrived.
    SEQUENCE_MISSING = "KH-REC-004", Freshness, High, "A record is missing from the sequence",
        "List the versions under the job's `runs/` prefix for a delete marker. If there is none, see the host's log for that run.";
    /// Two different records claim the same sequence number.
    SEQUENCE_FORKED = "KH-REC-005", Freshness, Critical, "Two records claim the same place",
        "The host was cloned or restored with its state, or its key is used elsewhere: find the second writer and give it a name and key of its own.";
    /// A run's record can't be decoded, so it isn't known what the run stored.
    RECORD_UNREADABLE = "KH-REC-006", Freshness, High, "Record can't be read",
        "If the object is damaged, see the findings for it; if a newer agent wrote it, upgrade the verifier.";

    /// A run's record reached the target when its key had been revoked, or before the key's time had come.
    SIGNER_REVOKED = "KH-REC-007", Freshness, Critical, "Record is signed by a revoked key",
        "Someone else has the host's old key and a credential for the vault: revoke the credential. Restore from runs before it, or from those that the new key signed.";
    /// From this run on, a job's backups are sealed to other recipients than before: others can open them, or some no longer can.
    RECIPIENTS_CHANGED = "KH-REC-008", Freshness, High, "Recipients have changed",
        "See whether the change was approved (`keephold keys show` on the host, against the list of who may open backups). If it was not, the host is in other hands: revoke its credential and key, and treat what it backed up since as known to them.";

    // Keys that are kept elsewhere.
    /// No escrow drill was done for longer than the configuration allows, so nobody knows whether the offline identity still opens the backups.
    ESCROW_OVERDUE = "KH-KEY-001", Freshness, Warning, "The escrow drill is overdue",
        "Fetch the offline identity and run `keephold-verify escrow-drill --identity FILE`.";
    /// In the last escrow drill the offline identity did not open the newest snapshot of every job.
    ESCROW_FAILED = "KH-KEY-002", Freshness, High, "The escrow drill failed",
        "Read the drill's evidence. Add the identity's recipient on the hosts with `keephold keys add-recipient`, back up, and drill again.";
    /// The evidence of an escrow drill was changed, or another verifier made it, so it counts for nothing.
    ESCROW_UNBELIEVED = "KH-KEY-003", Freshness, High, "Evidence of an escrow drill can't be believed",
        "Find out who changed the folder of reports, and drill again.";

    // The vault as a whole.
    /// The fingerprint of `vault.json` is not the pinned one: the vault was replaced or its settings were changed.
    VAULT_ALTERED = "KH-VAULT-001", Presence, Critical, "vault.json is not the pinned one",
        "Stop the agents, compare the versions of `vault.json`, and restore the true one. Never pin a new fingerprint without knowing who changed it.";
    /// The verifier's configuration doesn't pin the vault's fingerprint, so a replaced vault would not be noticed.
    VAULT_UNPINNED = "KH-VAULT-002", Presence, Warning, "The vault's fingerprint is not pinned",
        "Compare the fingerprint in this report with the one that `keephold init` printed, and put it into the verifier's configuration.";
    /// The vault holds an object that isn't part of the format.
    UNKNOWN_OBJECT = "KH-VAULT-003", Presence, Warning, "Unknown object in the vault",
        "Find out who wrote it. Nothing but Keephold should have write access to the vault's prefix.";
    /// The configuration that this verification used is not the one of the previous report.
    CONFIG_CHANGED = "KH-VAULT-004", Presence, Info, "The verifier's configuration has changed",
        "Check that the change was approved.";
    /// The previous report is gone, or is not the one that the verifier remembers.
    REPORT_CHAIN_BROKEN = "KH-VAULT-005", Presence, High, "Chain of reports is broken",
        "Look for the missing report in the evidence bucket's versions, and find out who could delete it.";
    /// Packs or index segments that no run needs, and that neither expired runs nor crashes explain, fill the vault.
    UNEXPLAINED = "KH-VAULT-006", Presence, Warning, "The vault holds objects that nothing explains",
        "Find in the access log who wrote them, and revoke that credential. Once their locks have ended, `keephold prune` takes away the packs that nothing needs; index segments that don't open it leaves to you.";

    // Evidence, at the target that locks it.
    /// Reports, proofs or drills could not be stored at the evidence target: they lie in the verifier's folder only, where they can be changed.
    EVIDENCE_NOT_STORED = "KH-EVID-001", Presence, High, "Evidence is not stored",
        "See the reason given, and mend it: `keephold policy evidence` prints what the credential needs. The next run stores what this one could not; keep the folder of reports until then.";
    /// The target at which evidence is stored does not keep anyone from changing or deleting it.
    EVIDENCE_UNLOCKED = "KH-EVID-002", Presence, Warning, "The evidence target is not immutable",
        "Name a bucket with versioning and Object Lock in `[evidence]`, with `lock = \"compliance\"`.";
    /// Stored evidence was hidden by a delete marker or written over, or isn't as it is in the verifier's folder. In a bucket, what was stored first is still under its lock.
    EVIDENCE_TOUCHED = "KH-EVID-003", Presence, High, "Stored evidence was touched",
        "In a bucket, read the first version of that key: it is the one that was stored. In a folder, the verifier's own copy and its signature tell what was stored. Find out who else has the verifier's credential, or owns the target, and replace the credential.";

    // Presence: stored objects as listed.
    /// An object that an unexpired run needs is not in the vault.
    OBJECT_MISSING = "KH-PRES-001", Presence, Critical, "A needed object is missing",
        "The runs named can't be restored whole. Take it from the second target if there is one, then run the job again: the agent stores what is missing anew.";
    /// A needed object is listed with no bytes at all.
    OBJECT_EMPTY = "KH-PRES-002", Presence, Critical, "A needed object has no bytes",
        "Look for an older version with the recorded size. If there is none, the runs named can't be restored whole: run the job again.";
    /// A needed object is shorter than its record says.
    OBJECT_TRUNCATED = "KH-PRES-003", Presence, Critical, "A needed object is truncated",
        "Look for an older version with the recorded size. If there is none, the runs named can't be restored whole: run the job again.";
    /// A needed object is longer than its record says.
    OBJECT_SIZE = "KH-PRES-004", Presence, High, "A needed object has another size",
        "Look at the object's versions: the true one has the recorded size and a BLAKE3 equal to its name.";
    /// A delete marker lies over a needed object. The locked version below it is intact and still used.
    OBJECT_HIDDEN = "KH-PRES-005", Presence, High, "A needed object is hidden by a delete marker",
        "Find in the access log who deleted it, and revoke that credential; then remove the marker.";
    /// A newer version lies over a needed object. The locked version below it is intact and still used.
    OBJECT_OVERWRITTEN = "KH-PRES-006", Presence, High, "A needed object has a newer version over it",
        "Find in the access log who wrote it, and revoke that credential: Keephold never writes a key twice.";

    // Copies at other targets.
    /// A snapshot is older than a copy may lag behind, and the copy hasn't all objects that it needs.
    COPY_BEHIND = "KH-COPY-001", Presence, High, "A copy lacks a snapshot",
        "Run `keephold replicate`, see what it says, and whether its timer or cron line runs.";
    /// An object in a copy isn't locked there until the runs that need it expire.
    COPY_LOCK_SHORT = "KH-COPY-002", Lock, High, "A snapshot isn't locked in a copy for as long as it is kept",
        "Run `keephold replicate` after the next backup: it makes locks as long as the source's. If that changes nothing, see the copy's bucket settings.";
    /// A copy could not be listed, or its locks not read.
    COPY_UNCHECKED = "KH-COPY-003", Presence, High, "A copy could not be checked",
        "See the reason given: usually the copy is down, or the verifier's credential there lacks `s3:ListBucketVersions` or `s3:GetObjectRetention`.";

    /// `vault.json` in the copy is not the source's.
    COPY_OTHER_VAULT = "KH-COPY-004", Presence, Critical, "Another vault lies where a copy should be",
        "Check the copy's URL. If it is right, find in the access log who wrote `vault.json` there, and replicate to an empty bucket or prefix.";
    /// An object in a copy has other bytes than its name says, or another size.
    COPY_DAMAGED = "KH-COPY-005", IntegrityKeyless, High, "An object in a copy is damaged",
        "Delete the wrong version in the copy and run `keephold replicate` again. If it is locked there, replicate to another prefix and keep this copy for what is whole in it.";
    /// A delete marker or a newer version lies over an object in a copy.
    COPY_HIDDEN = "KH-COPY-006", Presence, High, "An object in a copy is hidden or has a newer version over it",
        "Readers find the true version; find in the copy's access log who wrote over it, revoke that credential, then delete the marker or the newer version by its version id.";

    // Lock: until when, and how strongly.
    /// A needed object has no lock, so whoever has the right to delete can delete it.
    LOCK_MISSING = "KH-LOCK-001", Lock, High, "A needed object is not locked",
        "Run the job again with `keephold backup`, which extends the locks of all that it uses. If the object stays unlocked, the target doesn't keep lock headers: use another.";
    /// A needed object's lock ends before the last run that needs it expires.
    LOCK_SHORT = "KH-LOCK-002", Lock, High, "A lock ends before its run expires",
        "Run the job again with `keephold backup`, which extends the locks of all that it uses; see also whether the bucket's policy bounds how long the agent may lock.";
    /// A lock ends sooner than an earlier report saw, or is gone: someone shortened it, or took it away.
    LOCK_SHORTENED = "KH-LOCK-003", Lock, Critical, "A lock was shortened",
        "Only a governance lock and a bypass permission allow this: find out who has it, take it away, and move to compliance mode.";
    /// The lock of the newest good snapshot of a job ends soon, and no newer one takes its place.
    LOCK_ENDS_SOON = "KH-LOCK-004", Lock, Warning, "The newest snapshot's lock ends soon",
        "Bring the job back to success with `keephold backup`; until then extend the locks of its last good snapshot by hand, or copy it to another vault.";
    /// An object is locked in governance mode where the policy asks for compliance, so it can be unlocked by a privileged user.
    LOCK_MODE = "KH-LOCK-005", Lock, High, "Governance lock where compliance was asked",
        "Set `lock = \"compliance\"` in the agent's configuration and run `keephold backup`; what isn't used again keeps its governance lock until it expires.";
    /// The target protects its files by permission only: whoever controls that machine can delete them.
    TARGET_ADVISORY = "KH-LOCK-006", Lock, Warning, "The target is not immutable (advisory only)",
        "Use a target with object locks, or give the agent's service the right to set the immutable attribute.";
    /// The target has no protection against deletion at all.
    TARGET_UNLOCKED = "KH-LOCK-007", Lock, High, "The target is not immutable (no lock)",
        "Create a bucket with versioning and Object Lock, and replicate the vault there.";
    /// A probe object under lock could be deleted, shortened or bypassed: this target's locks do not hold.
    PROBE_SUCCEEDED = "KH-LOCK-008", Lock, Critical, "A lock did not hold",
        "Do not rely on this target. Check its version against the list of stores in the documentation, and move the vault.";
    /// Versioning is suspended, or Object Lock is not enabled on the bucket.
    BUCKET_SETTINGS = "KH-LOCK-010", Lock, High, "The bucket's settings do not allow locks",
        "Enable versioning and Object Lock; where that's only possible at creation, create a new bucket and replicate.";
    /// Locks were tried with a credential that was not seen to have the right to break them, or none was tried for longer than the configuration allows. So that locks hold is not known.
    LOCK_NOT_PROVEN = "KH-LOCK-011", Lock, Warning, "It is not proven that locks hold",
        "Run `keephold-verify prove-lock` with the prober's credential, which may put, delete, set locks and bypass governance below `canary/`.";
    /// The target accepted an object that was to be locked and kept no lock, or can't lock at all.
    LOCK_NOT_KEPT = "KH-LOCK-012", Lock, Critical, "The target keeps no locks",
        "Do not rely on this target: make a bucket with Object Lock, and move the vault there.";
    /// What a snapshot needs will lose its lock soon, and before the snapshot expires: it can then be deleted.
    LOCK_RUNS_OUT = "KH-LOCK-013", Lock, High, "A snapshot's protection runs out before it expires",
        "Run the job again with `keephold backup`, which extends the locks of all that it uses; extend those of the rest by hand, or copy the snapshot to another vault.";
    /// A setting of the bucket is not as the previous report found it.
    SETTINGS_CHANGED = "KH-LOCK-014", Lock, Warning, "The bucket's settings have changed",
        "Check that the change was approved, and who made it; undo it if not.";
    /// A lifecycle rule expires or removes what lies in the vault, as soon as no lock forbids it any more.
    LIFECYCLE_EXPIRES = "KH-LOCK-015", Lock, High, "A lifecycle rule deletes what is in the vault",
        "Take the rule away, or bound it to a prefix outside the vault: only `keephold prune` knows what is still needed.";
    /// Locks reach much further than any run asked for, which costs money, as nobody can shorten them.
    LOCK_FAR = "KH-LOCK-016", Lock, Warning, "Locks reach absurdly far",
        "Find out which credential extended them and revoke it; bound what a writer may do: keephold policy --max-lock.";

    // Integrity: bytes read back.
    /// The stored bytes of an object do not hash to its name: it is corrupt or was replaced.
    HASH_DIFFERS = "KH-INT-001", IntegrityKeyless, Critical, "Stored bytes are corrupt",
        "Look for another version whose BLAKE3 is the name, or take it from the second target; then run the job again.";
    /// A pack's bytes are as they were stored, but it can't be opened, decrypted or decompressed.
    PACK_UNREADABLE = "KH-INT-002", IntegrityDeep, Critical, "A pack can't be opened",
        "Check that the verifier's identity is among the recipients of that run. If it is, keep the pack for analysis, run the job again and report a bug.";
    /// A blob's content does not match its keyed id: what was stored is not what was read at the source, or it is forged.
    BLOB_DIFFERS = "KH-INT-003", IntegrityDeep, Critical, "A blob's id differs",
        "Restore from another snapshot. Check the host's memory, since this is what failing memory looks like, and who else can write to the vault.";
    /// An index segment is damaged. The data is intact, and its index can be rebuilt from the packs.
    INDEX_CORRUPT = "KH-INT-004", IntegrityKeyless, High, "An index segment is corrupt",
        "Restore what is needed from a snapshot whose index is sound, then run the job again with `keephold backup`. The packs are enough to rebuild the index by hand (docs/FORMAT.md).";
    /// Some objects have not been read back within the number of days that the rotation is set to.
    ROTATION_BEHIND = "KH-INT-005", IntegrityKeyless, Warning, "Integrity rotation is behind",
        "Raise the verifier's byte budget, or the number of days.";

    // Content: whether what was stored is plausible.
    /// A directory snapshot has no entries.
    TREE_EMPTY = "KH-CONT-001", Content, High, "A directory snapshot is empty",
        "Check that the path is mounted and readable on the host at the time of the backup.";
    /// A dump holds no data.
    DUMP_EMPTY = "KH-CONT-002", Content, Critical, "A dump is empty",
        "Check which database the job connects to, and as whom; then run it again.";
    /// A dump does not parse to its proper end.
    DUMP_INCOMPLETE = "KH-CONT-003", Content, Critical, "A dump is incomplete",
        "Restore from the snapshot before it, see the agent's log for that run, and run the job again.";
    /// A snapshot is much smaller than those before it.
    SHRUNK = "KH-CONT-004", Content, Warning, "A snapshot has shrunk implausibly",
        "If data was deleted on purpose, note it. If not, keep the earlier snapshots: extend their locks before they expire.";
    /// A snapshot is much larger than those before it.
    GROWN = "KH-CONT-005", Content, Warning, "A snapshot has grown implausibly",
        "See which paths or tables grew; a log or a second copy of the data is the usual cause.";
    /// Much of what used to compress no longer does, which is what encryption by an attacker looks like.
    ENTROPY = "KH-CONT-006", Content, High, "Content has become incompressible",
        "Look at the host before anything else, and extend the locks of the snapshots taken before the change.";

    // Test restores.
    /// A snapshot could not be restored.
    RESTORE_FAILED = "KH-REST-001", TestRestore, Critical, "A test restore failed",
        "Read the failure in the restore test, correct the cause and restore again; try the snapshot before it.";
    /// A restored tree is not the one that was recorded.
    TREE_DIFFERS = "KH-REST-002", TestRestore, Critical, "The restored tree differs",
        "See the differences listed in the restore test. If all are of one kind (owners, ACLs), the scratch file system may not support them.";
    /// A restored table has another number of rows than passed through the agent when it was dumped.
    ROWS_DIFFER = "KH-REST-003", TestRestore, Critical, "The restored database has other row counts",
        "See the tables listed in the restore test. Do not rely on this snapshot for them; restore the one before it and compare.";
    /// A restored table has the right number of rows, and other contents than the dump had.
    ROW_HASH_DIFFERS = "KH-REST-004", TestRestore, Critical, "The restored database has other contents",
        "See the tables listed in the restore test, and check that the versions of both servers are the same.";
    /// The restored database's schema is not the one that was recorded.
    SCHEMA_DIFFERS = "KH-REST-005", TestRestore, High, "The restored schema differs",
        "See the differences in the restore test: a missing extension or role on the verifier's server is the usual cause.";
    /// `amcheck` found a damaged index or table in the restored database.
    AMCHECK_FAILED = "KH-REST-006", TestRestore, High, "amcheck found damage",
        "Check the verifier's own disk and memory first, since a logical restore builds new indexes; then run `pg_amcheck` on the source.";
    /// A validation query gave something other than what it should, or failed.
    QUERY_FAILED = "KH-REST-007", TestRestore, High, "A validation query failed",
        "Run the query on the restored database by hand, as the role that is named.";
    /// A test restore took longer than the RTO.
    RTO_MISSED = "KH-REST-008", TestRestore, High, "The RTO was missed",
        "See which part took the time: a faster link for the download, more jobs for the restore; or agree on another RTO.";
    /// A job's restore has not been tested for longer than the policy allows.
    RESTORE_OVERDUE = "KH-REST-009", TestRestore, Warning, "A restore test is overdue",
        "Run `keephold-verify run --level restore --job HOST/JOB`.";
    /// The restored copy could not be removed after the test. It holds real data.
    NOT_TORN_DOWN = "KH-REST-010", TestRestore, Warning, "The restored copy is still there",
        "Remove what the restore test's clean-up line names.";

    // Coverage: what is in no job.
    /// A database or path exists on a host, and no job backs it up.
    UNPROTECTED = "KH-COV-001", Coverage, Warning, "Something is in no job",
        "Add it to a job, or to the opt-outs with a reason and the name of who approved it.";
    /// Something is left out on purpose, and nobody has said why.
    OPT_OUT_UNEXPLAINED = "KH-COV-002", Coverage, Warning, "An opt-out has no reason",
        "Add a reason and the name of who approved it to the opt-out.";

    // Levels that could not be checked, which is never good news.
    /// The runs' records could not be read, so it isn't known whether the backups are fresh.
    UNCHECKED_FRESHNESS = "KH-CHECK-001", Freshness, High, "Freshness could not be checked",
        "See the reason given, usually a missing permission to list or read `runs/`, and verify again.";
    /// The vault could not be listed, so it isn't known whether all objects are there.
    UNCHECKED_PRESENCE = "KH-CHECK-002", Presence, High, "Presence could not be checked",
        "See the reason given, usually a missing permission to list versions, and verify again.";
    /// The locks could not be read, so it isn't known whether the objects are protected.
    UNCHECKED_LOCK = "KH-CHECK-003", Lock, High, "Locks could not be checked",
        "Give the verifier's credential `s3:GetObjectRetention` and `s3:GetBucketObjectLockConfiguration`, and verify again.";
    /// The stored bytes could not be downloaded, so it isn't known whether they are intact.
    UNCHECKED_KEYLESS = "KH-CHECK-004", IntegrityKeyless, High, "Stored bytes could not be checked",
        "See the reason given, usually a missing permission to read versions or a network fault, and verify again.";
    /// Packs could not be opened for a reason that lies with the verifier, so it isn't known whether their content is intact.
    UNCHECKED_DEEP = "KH-CHECK-005", IntegrityDeep, High, "Content of packs could not be checked",
        "See the reason given, usually an identity that can't be read, and verify again.";
    /// The snapshots could not be looked into, so it isn't known whether they are plausible.
    UNCHECKED_CONTENT = "KH-CHECK-006", Content, Warning, "Plausibility could not be checked",
        "See the reason given and verify again.";
    /// The test restore could not be done for a reason that lies with the verifier, so it isn't known whether the backup can be restored.
    UNCHECKED_RESTORE = "KH-CHECK-007", TestRestore, High, "Restore could not be tested",
        "See the reason given, usually no room in the scratch folder or no PostgreSQL of that version, and verify again.";
    /// No inventory of the host could be had, so it isn't known whether something is in no job.
    UNCHECKED_COVERAGE = "KH-CHECK-008", Coverage, Warning, "Coverage could not be checked",
        "See the reason given and verify again.";
}
