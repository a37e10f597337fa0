//! The copies of the vault that runs write to as well: `also` in the configuration.
//!
//! A copy never fails a run. What it lacks at the end of one is a warning, which says what happens next.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keephold_cli::exit::{hint, usage};
use keephold_cli::human;
use keephold_cli::target::{Target, TargetArgs};
use keephold_vault::config::VaultConfig;
use keephold_vault::record::{CopyReport, Level};
use keephold_vault::write::{AtCopy, Copy, CopySettings, CopyStatus};

use crate::config::{self, Config};
use crate::notes::Notes;
use crate::open::OpenVault;
use crate::prices::{Prices, requests};

/// The code of the message that a copy lacks something.
pub(crate) const BEHIND: &str = "copy_behind";

/// So much of the disk is left free by what is kept for copies.
const SPOOL_FREE: u64 = 1 << 30;

/// A copy, as it is configured.
#[derive(Debug, Clone)]
pub(crate) struct Also {
    pub(crate) name: String,
    pub(crate) target: Target,
    keep: Option<SignedDuration>,
    spool_max: u64,
    pub(crate) prices: Prices,
}

/// Those of the configuration; `first` is the target that they are copies of.
///
/// # Errors
/// A usage error if one can't be meant.
pub(crate) fn configured(config: &Config, first: &Target) -> Result<Vec<Also>> {
    let mut all: Vec<Also> = Vec::new();
    for table in config.also() {
        let name = table.name.clone();
        let target = TargetArgs::default().resolve(&table.vault)?;
        if target.is_at(first) {
            return Err(usage(format!(
                "replica '{name}' is the vault itself, {}: take it out of also, or correct its url",
                first.url
            )));
        }
        if let Some(other) = all.iter().find(|other| other.target.is_at(&target)) {
            return Err(usage(format!(
                "replicas '{}' and '{name}' are one place, {}: take one out of also",
                other.name, target.url
            )));
        }
        let keep = table.keep.as_ref();
        let keep = keep.map(|text| config::keep(text, "keep of the copy")).transpose()?;
        all.push(Also {
            name,
            target,
            keep,
            spool_max: table.spool_max()?,
            prices: table.prices.clone(),
        });
    }
    Ok(all)
}

impl Also {
    /// Reaches the copy; one that can't be reached is down, and says why, also where its settings are wrong: that is no
    /// reason to go without a backup. A new one gets its `vault.json`, locked until `until`.
    async fn open(&self, vault: &OpenVault, until: Timestamp) -> Arc<Copy> {
        let settings = CopySettings {
            name: self.name.clone(),
            policy: self.target.options.lock,
            keep: self.keep,
            spool_max: self.spool_max,
            spool_free: SPOOL_FREE,
            dir: vault.cache.join("copies").join(self.folder()),
        };
        let opened = || {
            let (config, fingerprint) = vault.config.to_bytes()?;
            anyhow::ensure!(
                fingerprint == vault.keys.fingerprint,
                "this program would write another vault.json than the vault has: update it"
            );
            Ok((self.target.open()?, Bytes::from(config)))
        };
        Arc::new(match opened() {
            Ok((store, config)) => Copy::open(settings, store, config, until).await,
            Err(error) => {
                let hint = hint(&error).map(|hint| format!(" ({hint})")).unwrap_or_default();
                Copy::closed(settings, format!("{error:#}{hint}"))
            }
        })
    }

    /// What is noted of a copy holds for its place: another place under the same name has notes of its own.
    fn folder(&self) -> String {
        let endpoint = self.target.options.endpoint.as_deref().unwrap_or_default();
        let place = format!("{}\n{endpoint}", self.target.url);
        format!("{}-{}", self.name, &VaultConfig::fingerprint(place.as_bytes()).to_string()[..16])
    }
}

/// Reaches all copies at once.
pub(crate) async fn open(all: &[Also], vault: &OpenVault, until: Timestamp) -> Vec<Arc<Copy>> {
    futures::future::join_all(all.iter().map(|also| also.open(vault, until))).await
}

/// What the record says of each copy; the same is told as messages. `at` tells of the run's snapshot, if it has one;
/// `prices` are those of each copy.
pub(crate) fn report(
    copies: &[Arc<Copy>],
    at: &[AtCopy],
    prices: &[Prices],
    notes: &mut Notes,
) -> Vec<CopyReport> {
    let mut reports = Vec::new();
    for (n, copy) in copies.iter().enumerate() {
        let (status, at) = (copy.status(), at.get(n));
        let name = copy.name();
        let (packs, records) = status.caught_up;
        if packs + records > 0 {
            let text = format!(
                "'{name}' got {} and {} that it had missed",
                human::count(packs, "pack"),
                human::count(records, "record")
            );
            notes.add(Level::Note, "copy_caught_up", text);
        }
        if status.bytes_again > 0 {
            let text = format!(
                "{} stored again, everywhere, since '{name}' lacked them",
                human::bytes(status.bytes_again)
            );
            notes.add(Level::Note, "copy_stored_again", text);
        }
        let behind = behind(name, &status, at);
        if let Some(behind) = &behind {
            notes.add(Level::Warning, BEHIND, format!("'{name}' {behind}"));
        }
        let (whole, locked_until) = match at {
            Some(AtCopy::Whole(until)) => (true, *until),
            _ => (false, None),
        };
        reports.push(CopyReport {
            name: name.into(),
            whole,
            locked_until,
            behind,
            snapshots_missing: status.waiting,
            bytes_spooled: status.spooled.1,
            bytes_again: status.bytes_again,
            bytes_stored: status.bytes_stored,
            calls: status.calls,
            cost: prices.get(n).and_then(|p| p.cost(status.calls.as_ref(), status.bytes_stored)),
        });
    }
    reports
}

/// What a copy lacks, why, and what happens next.
fn behind(name: &str, status: &CopyStatus, at: Option<&AtCopy>) -> Option<String> {
    let replicate = format!("`keephold replicate {name}` copies it");
    let mut text = match (&status.down, &status.overflow, at) {
        (Some(why), None, _) => {
            let (packs, bytes) = status.spooled;
            format!(
                "is down: {why}; what it misses is kept on this host ({}, {}), and the next run that reaches it delivers it",
                human::count(packs, "pack"),
                human::bytes(bytes)
            )
        }
        (Some(why), Some(room), _) => format!(
            "is down: {why}; not all that it misses could be kept on this host: {room}; the next run that reaches it stores \
             again what it lacks; this run's snapshot comes there only if {replicate}"
        ),
        (None, _, Some(AtCopy::Lacks(objects))) => format!(
            "lacks {} that this snapshot needs; the next run stores again what they held; this snapshot comes there only if \
             {replicate}",
            human::count(*objects, "object")
        ),
        _ if status.waiting > 0 => String::new(),
        _ => return None,
    };
    if status.waiting > 0 {
        if !text.is_empty() {
            text.push_str("; it also ");
        }
        text.push_str(&format!(
            "lacks {}, some of whose objects are missing there, until {replicate} or they expire",
            human::count(status.waiting, "earlier snapshot")
        ));
    }
    Some(text)
}

/// What happened to a copy after the record was sealed, which says nothing of it.
pub(crate) fn late(copy: &Copy) -> Option<String> {
    behind(copy.name(), &copy.status(), None).map(|behind| format!("'{}' {behind}", copy.name()))
}

/// The lines of a run's output about copies.
pub(crate) fn lines(copies: &[CopyReport]) -> String {
    let line = |copy: &CopyReport| {
        let state = match (&copy.behind, copy.whole, copy.locked_until) {
            (Some(_), false, _) => "BEHIND: see the messages".to_owned(),
            (Some(_), true, _) => "has this snapshot, but is BEHIND: see the messages".to_owned(),
            (None, true, Some(until)) => format!("locked until {}", until.strftime("%Y-%m-%d")),
            (None, true, None) => "locked NOT AT ALL".to_owned(),
            (None, false, _) => "no snapshot to copy".to_owned(),
        };
        let calls = copy.calls.as_ref();
        let calls = calls.map(|calls| format!("; {}", requests(calls, copy.cost.as_ref())));
        format!("  copy      {}: {state}{}\n", copy.name, calls.unwrap_or_default())
    };
    copies.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_lacks_is_said_with_what_happens_next() {
        let down = CopyStatus {
            down: Some("it can't be reached".into()),
            spooled: (3, 3 << 20),
            ..CopyStatus::default()
        };
        let text = behind("far", &down, Some(&AtCopy::Down)).unwrap();
        assert!(text.contains("(3 packs, 3.00 MiB), and the next run"), "{text}");
        let full = CopyStatus { overflow: Some("its spool is full".into()), ..down.clone() };
        let text = behind("far", &full, None).unwrap();
        assert!(
            text.contains("stores again") && text.contains("`keephold replicate far`"),
            "{text}"
        );
        let waiting = CopyStatus { waiting: 2, ..CopyStatus::default() };
        let text = behind("far", &waiting, Some(&AtCopy::Whole(None))).unwrap();
        assert!(text.starts_with("lacks 2 earlier snapshots"), "{text}");
        let fine = CopyStatus::default();
        assert_eq!(behind("far", &fine, Some(&AtCopy::Whole(None))), None);
        assert!(behind("far", &fine, Some(&AtCopy::Lacks(1))).unwrap().contains("1 object "));
    }
}
