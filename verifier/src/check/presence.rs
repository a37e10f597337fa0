//! Presence: each needed object is listed, of its recorded size, and a plain read finds it.

use keephold_vault::store::Version;

use super::findings::Findings;
use super::history::History;
use super::needed::Needed;
use super::object::{Kind, Object};
use crate::report::catalogue as code;
use crate::report::model::{Count, Level, LevelResult, LevelState, Objects};
use crate::report::words;

/// Counts what is there.
#[derive(Debug)]
pub(super) struct Presence {
    needed: u64,
    present: u64,
    bytes: u64,
    zero_byte: u64,
    missing: u64,
    hidden: u64,
    surplus: u64,
    packs: (u64, u64),
    unlisted: u64,
    unread: u64,
}

impl Presence {
    pub(super) fn new(needed: &Needed) -> Self {
        Self {
            needed: 0,
            present: 0,
            bytes: 0,
            zero_byte: 0,
            missing: 0,
            hidden: 0,
            surplus: 0,
            packs: (0, 0),
            unlisted: 0,
            unread: needed.unread,
        }
    }

    /// Looks at the objects of a batch as they were listed.
    pub(super) fn check(&mut self, batch: &[Object], history: &History, findings: &mut Findings) {
        for object in batch {
            self.needed += 1;
            if matches!(object.kind, Kind::Pack(..)) {
                self.packs.0 += 1;
                self.packs.1 += object.size.unwrap_or(0);
            }
            let Some(versions) = &object.versions else {
                self.unlisted += 1;
                continue;
            };
            match object.truth() {
                Some(truth) => self.found(object, versions, truth, history, findings),
                None => self.lost(object, versions, history, findings),
            }
        }
    }

    fn lost(
        &mut self,
        object: &Object,
        versions: &[Version],
        history: &History,
        findings: &mut Findings,
    ) {
        self.missing += 1;
        let by = object.needed_by(history);
        let summary = if versions.is_empty() {
            format!("It is {by}, and is not there.")
        } else {
            format!("It is {by}, and nothing but a delete marker is there.")
        };
        findings.add(&code::OBJECT_MISSING, object.key.as_str(), summary, None);
    }

    fn found(
        &mut self,
        object: &Object,
        versions: &[Version],
        truth: &Version,
        history: &History,
        findings: &mut Findings,
    ) {
        self.surplus += (versions.len() - 1) as u64;
        let key = object.key.as_str();
        let by = object.needed_by(history);
        if let Some(newest) = versions.first().filter(|newest| *newest != truth) {
            let version =
                newest.version.as_ref().map_or_else(String::new, |v| format!("version {v}, "));
            if newest.delete_marker {
                self.hidden += 1;
                let summary = format!(
                    "A delete marker of {} hides it; it is {by}.",
                    words::minute(newest.modified)
                );
                findings.add(
                    &code::OBJECT_HIDDEN,
                    key,
                    summary,
                    Some(format!("{version}over {}", described(truth))),
                );
            } else {
                let summary = format!(
                    "A version of {} lies over it; it is {by}.",
                    words::minute(newest.modified)
                );
                let detail = format!("{version}{} bytes, over {}", newest.size, described(truth));
                findings.add(&code::OBJECT_OVERWRITTEN, key, summary, Some(detail));
            }
        }
        let expected = object.size.unwrap_or(truth.size);
        let detail = object.size.map(|size| {
            format!(
                "{} bytes are recorded, {} are there",
                words::count(size),
                words::count(truth.size)
            )
        });
        if truth.size == 0 {
            self.zero_byte += 1;
            findings.add(
                &code::OBJECT_EMPTY,
                key,
                format!("It has no bytes at all; it is {by}."),
                detail,
            );
        } else if truth.size < expected {
            findings.add(
                &code::OBJECT_TRUNCATED,
                key,
                format!("It is shorter than recorded; it is {by}."),
                detail,
            );
        } else if truth.size > expected {
            findings.add(
                &code::OBJECT_SIZE,
                key,
                format!("It is longer than recorded; it is {by}."),
                detail,
            );
        } else {
            self.present += 1;
            self.bytes += truth.size;
        }
    }

    /// Packs that are needed, and the bytes in them.
    pub(super) fn packs(&self) -> (u64, u64) {
        self.packs
    }

    pub(super) fn objects(&self) -> Objects {
        let known = |number| (self.unlisted == 0).then_some(number);
        Objects {
            needed: Some(self.needed),
            present: known(self.present),
            bytes: known(self.bytes),
            zero_byte: known(self.zero_byte),
            missing: known(self.missing),
            hidden: known(self.hidden),
            surplus_versions: known(self.surplus),
            ..Objects::default()
        }
    }

    /// What came of it; `failed` says why the target could not be listed to its end.
    pub(super) fn level(&self, failed: Option<&String>) -> LevelResult {
        let listed = self.needed - self.unlisted;
        let count = match self.unlisted {
            0 => Count::all("objects", self.needed),
            _ => Count::some("objects", listed, self.needed),
        };
        let (state, reason) = if let Some(why) = failed {
            (
                LevelState::CouldNotCheck,
                Some(format!("the vault's versions can't be listed: {why}")),
            )
        } else if self.unread > 0 {
            let segments = words::counted(self.unread, "index segment");
            (
                LevelState::Findings,
                Some(format!("{segments} can't be read, so some needed packs aren't known")),
            )
        } else {
            (LevelState::Passed, None)
        };
        LevelResult { level: Level::Presence, state, checked: vec![count], reason }
    }
}

fn described(version: &Version) -> String {
    match &version.version {
        Some(id) => format!("version {id} of {} bytes", version.size),
        None => format!("{} bytes", version.size),
    }
}
