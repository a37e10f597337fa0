//! Immutability, encryption, copies and coverage: statements in plain words, and what they rest on.

use super::facts::{Fact, classed, fact, or_unknown};
use super::findings::state_class;
use crate::report::model::{
    Level, LevelState, OffsiteCopy, ProbeResult, ProofVerdict, Report, SettingResult, Strength,
};
use crate::report::words;

/// Snapshots that the table of copies shows, the newest first; the JSON has more.
const COPIED_MAX: usize = 100;

/// A statement that can be quoted.
pub(super) struct Statement {
    pub(super) title: &'static str,
    pub(super) text: String,
    pub(super) class: &'static str,
}

/// A row of one of the tables.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) class: &'static str,
    pub(super) word: &'static str,
}

/// A criterion, and where its evidence is.
pub(super) struct Criterion {
    pub(super) id: &'static str,
    pub(super) asks: &'static str,
    pub(super) sections: &'static str,
    pub(super) states: Vec<(&'static str, &'static str, &'static str)>,
}

pub(super) fn statements(report: &Report) -> Vec<Statement> {
    vec![immutability(report), encryption(report), separation(report)]
}

fn immutability(report: &Report) -> Statement {
    let strength = report.target.strength;
    let broken = report.lock_probes.iter().any(|probe| probe.result == ProbeResult::Broken);
    let text = if broken {
        "NOT IMMUTABLE. A lock was broken when it was tried (below): this target's locks do not hold.".to_owned()
    } else {
        words::strength_meaning(strength).to_owned()
    };
    Statement {
        title: "Immutability",
        text,
        class: match strength {
            _ if broken => "bad",
            Strength::None | Strength::Advisory => "bad",
            Strength::ImmutableFile | Strength::Governance => "warn",
            Strength::Compliance => "ok",
        },
    }
}

fn encryption(report: &Report) -> Statement {
    let encryption = &report.encryption;
    let Some(algorithm) = &encryption.algorithm else {
        return Statement {
            title: "Encryption",
            text: "NOT SHOWN. No encrypted data was seen in this run, so nothing can be said about it.".to_owned(),
            class: "bad",
        };
    };
    Statement {
        title: "Encryption",
        text: format!(
            "Encrypted before it leaves the host: {algorithm}, data keys sealed with {}. The ciphertext of {} packs was authenticated in this run.",
            or_unknown(encryption.key_sealing.clone()),
            words::count(encryption.packs_authenticated),
        ),
        class: if encryption.packs_authenticated > 0 { "ok" } else { "warn" },
    }
}

fn separation(report: &Report) -> Statement {
    let (text, class) = match report.encryption.writer_can_read {
        _ if report.encryption.algorithm.is_none() => {
            ("Not shown, since no encrypted data was seen.", "warn")
        }
        Some(false) => (
            "By their configuration, the hosts that write backups hold no key that reads them: a host that is taken over can add, and cannot read what it stored.",
            "ok",
        ),
        Some(true) => (
            "A HOST CAN READ its own backups: an identity that opens them is on the host that writes them.",
            "bad",
        ),
        None => ("Whether the hosts hold a key that reads backups is not known.", "warn"),
    };
    Statement { title: "Separation of keys", text: text.to_owned(), class }
}

pub(super) fn facts(report: &Report) -> Vec<Fact> {
    let target = &report.target;
    let switch = |label, on: Option<bool>| match on {
        Some(true) => classed(label, "on", "ok"),
        Some(false) => classed(label, "off", "bad"),
        None => fact(label, "not known, or not a bucket"),
    };
    let mut facts = vec![
        classed(
            "Protection",
            words::strength(target.strength),
            if target.strength <= Strength::Advisory { "bad" } else { "" },
        ),
        switch("Versioning", target.versioning),
        switch("Object Lock", target.object_lock),
        fact(
            "Bucket's default retention",
            target.default_retention.as_ref().map_or_else(
                || "none (each object carries its own)".to_owned(),
                |default| format!("{}, {} days", words::lock_mode(default.mode), default.days),
            ),
        ),
        fact(
            "Region, account",
            format!(
                "{}; {}",
                or_unknown(target.region.clone()),
                or_unknown(target.account.clone())
            ),
        ),
        if target.fingerprint_pinned {
            classed("Vault's fingerprint", "pinned, and the same", "ok")
        } else {
            classed("Vault's fingerprint", "not pinned", "warn")
        },
        fact("Transport", or_unknown(report.encryption.transport.clone())),
    ];
    facts.extend(target.notes.iter().map(|note| fact("Note", note)));
    facts
}

pub(super) fn probes(report: &Report) -> Vec<Row> {
    report
        .lock_probes
        .iter()
        .map(|probe| Row {
            cells: vec![
                words::minute(probe.tried),
                probe.action.clone(),
                probe.credential.clone(),
                probe.expected.clone(),
                probe.actual.clone(),
            ],
            class: match probe.result {
                ProbeResult::Held => "ok",
                ProbeResult::Broken => "bad",
                ProbeResult::NotProven => "warn",
                ProbeResult::Control => "none",
            },
            word: words::probe_result(probe.result),
        })
        .collect()
}

/// The proof that the attempts are from, in one sentence.
pub(super) fn proof(report: &Report) -> Option<Row> {
    let proof = report.lock_proof.as_ref()?;
    let (class, word) = match proof.verdict {
        ProofVerdict::Held => ("ok", "held"),
        ProofVerdict::Broken => ("bad", "BROKEN"),
        ProofVerdict::NotProven => ("warn", "not proven"),
        ProofVerdict::Advisory => ("warn", "advisory"),
    };
    let text = format!("{}, at {}.", proof.headline, words::minute(proof.finished));
    Some(Row { cells: vec![text, proof.proof_id.clone(), proof.blake3.clone()], class, word })
}

pub(super) fn settings(report: &Report) -> Vec<Row> {
    report
        .target
        .settings
        .iter()
        .map(|setting| Row {
            cells: vec![
                setting.name.replace('_', " "),
                setting.value.clone().unwrap_or_default(),
                setting.blake3.as_deref().unwrap_or_default().chars().take(12).collect(),
            ],
            class: if setting.result == SettingResult::NotReadable { "warn" } else { "none" },
            word: words::setting_result(setting.result),
        })
        .collect()
}

pub(super) fn recipients(report: &Report) -> Vec<Row> {
    report
        .encryption
        .recipients
        .iter()
        .map(|recipient| Row {
            cells: vec![
                recipient.public_key.clone(),
                recipient.label.clone().unwrap_or_default(),
                recipient.jobs.join(", "),
                recipient.last_used.map_or_else(|| "not known".to_owned(), words::day),
            ],
            class: if recipient.label.is_some() { "ok" } else { "bad" },
            word: if recipient.label.is_some() { "known" } else { "WHOSE?" },
        })
        .collect()
}

pub(super) fn copies(report: &Report) -> Vec<Row> {
    let whole = |copy: &OffsiteCopy| match (copy.objects_present, copy.objects_needed) {
        (Some(present), Some(needed)) => Some(present >= needed),
        _ => None,
    };
    report
        .copies
        .iter()
        .map(|copy| {
            let locked = copy.strength.is_some_and(|strength| strength > Strength::Advisory);
            let (class, word) = match whole(copy) {
                None => ("bad", "NOT CHECKED"),
                _ if copy.objects_damaged.is_some_and(|damaged| damaged > 0) => ("bad", "DAMAGED"),
                Some(false) => ("warn", "behind"),
                Some(true) if !locked => ("warn", "not immutable"),
                Some(true) => ("ok", "complete"),
            };
            let of = |part: Option<u64>, all: Option<u64>| match (part, all) {
                (Some(part), Some(all)) => {
                    format!("{} of {}", words::count(part), words::count(all))
                }
                _ => "not known".to_owned(),
            };
            let read = copy
                .objects_read
                .map_or_else(String::new, |read| format!("; {} read again", words::count(read)));
            let place = match &copy.region {
                Some(region) => format!("{}, {} ({region})", copy.name, copy.url),
                None => format!("{}, {}", copy.name, copy.url),
            };
            let until = || copy.locked_until.map_or_else(|| "no".to_owned(), words::minute);
            Row {
                cells: vec![
                    place,
                    copy.strength
                        .map_or_else(|| "not known".to_owned(), |s| words::strength(s).to_owned()),
                    of(copy.objects_present, copy.objects_needed) + &read,
                    of(copy.snapshots_complete, Some(copy.snapshots.total())),
                    copy.newest_complete.map_or_else(|| "none".to_owned(), words::minute),
                    copy.strength.map_or_else(|| "not known".to_owned(), |_| until()),
                ],
                class,
                word,
            }
        })
        .collect()
}

/// Each snapshot, newest first, and which copies have it whole.
pub(super) fn copied_snapshots(report: &Report) -> Vec<Row> {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for copy in &report.copies {
        for snapshot in &copy.snapshots.shown {
            let key = snapshot.record_key.as_str();
            let at = rows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                rows.push((key, Vec::new()));
                rows.len() - 1
            });
            if let Some((_, names)) = rows.get_mut(at).filter(|_| snapshot.complete) {
                names.push(&copy.name);
            }
        }
    }
    rows.truncate(COPIED_MAX);
    rows.into_iter()
        .map(|(key, names)| Row {
            class: if names.len() == report.copies.len() { "ok" } else { "warn" },
            word: match names.len() {
                0 => "in no copy",
                n if n == report.copies.len() => "in all",
                _ => "in some",
            },
            cells: vec![key.to_owned(), names.join(", ")],
        })
        .collect()
}

pub(super) fn unprotected(report: &Report) -> Vec<Row> {
    report
        .coverage
        .unprotected
        .iter()
        .map(|left_out| {
            let explained = left_out.reason.is_some();
            Row {
                cells: vec![
                    left_out.host.clone(),
                    left_out.resource.clone(),
                    left_out.reason.clone().unwrap_or_else(|| "no reason given".to_owned()),
                    left_out.approved_by.clone().unwrap_or_else(|| "nobody".to_owned()),
                ],
                class: if explained { "ok" } else { "bad" },
                word: if explained { "explained" } else { "open" },
            }
        })
        .collect()
}

pub(super) fn criteria(report: &Report) -> Vec<Criterion> {
    use Level::{
        Content, Coverage, Freshness, IntegrityDeep, IntegrityKeyless, Lock, Presence, TestRestore,
    };
    let rows: [(_, _, _, &[Level]); 6] = [
        (
            "SOC 2 A1.2",
            "Data requiring backup is determined, backed up, and monitored.",
            "3, 6",
            &[Freshness, Presence, Coverage],
        ),
        (
            "SOC 2 A1.2",
            "Backups are protected in storage, and kept at another place.",
            "5, 6",
            &[Lock, Presence],
        ),
        (
            "SOC 2 A1.3",
            "Integrity and completeness of backup data are tested periodically.",
            "2, 5",
            &[IntegrityKeyless, IntegrityDeep, Content],
        ),
        ("SOC 2 A1.3", "Recovery procedures are tested.", "4", &[TestRestore]),
        (
            "SOC 2 CC6.1",
            "Stored data is encrypted, and its keys are protected.",
            "5",
            &[IntegrityDeep, Lock],
        ),
        (
            "ISO 27001 A.8.13",
            "Copies are made by a policy, and tested regularly.",
            "2, 3, 4, 7",
            &[Freshness, IntegrityDeep, TestRestore],
        ),
    ];
    let state = |level: &Level| {
        let found = report.levels.iter().find(|result| result.level == *level);
        let (class, state) = found.map_or(("none", LevelState::NotRun), |result| {
            (state_class(result, report), result.state)
        });
        (words::level(*level), class, words::level_state(state))
    };
    rows.into_iter()
        .map(|(id, asks, sections, levels)| Criterion {
            id,
            asks,
            sections,
            states: levels.iter().map(state).collect(),
        })
        .collect()
}
