//! The bucket's settings as found, held against those of the report before.

use anyhow::Result;
use keephold_vault::store::{BucketSettings, SettingState};

use super::context::{Context, told};
use super::findings::Findings;
use super::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::{BucketSetting, Finding, SettingResult, Severity};

/// Longest text of a setting that stands in a report, in characters; its hash is over all of it.
const VALUE_MAX: usize = 20_000;
/// Longest text of a setting in a finding.
const SHOWN_MAX: usize = 400;

/// Reads the settings; adds what has changed, and what deletes backups.
///
/// # Errors
/// Only a signal to stop.
pub(super) async fn check(
    context: &Context<'_>,
    previous: &Previous,
    findings: &mut Findings,
) -> Result<Vec<BucketSetting>> {
    let store = context.vault.store();
    let url = store.url();
    let found = match context.stop.unless_set(store.settings()).await? {
        Ok(found) => found,
        Err(error) => {
            let why = told(&error);
            tracing::warn!("the bucket's settings can't be read: {why}");
            // The level of locks says so itself: it asks the same bucket.
            BucketSettings::default()
        }
    };
    for rule in &found.expiring {
        let summary = format!("A lifecycle rule acts on the vault: {rule}.");
        findings.add(&code::LIFECYCLE_EXPIRES, rule, summary, None);
    }
    let now: Vec<BucketSetting> = found
        .settings
        .into_iter()
        .map(|setting| {
            let (result, value) = match setting.state {
                SettingState::Set(text) => (SettingResult::Set, Some(text)),
                SettingState::NotSet => (SettingResult::NotSet, None),
                SettingState::NotReadable(why) => (SettingResult::NotReadable, Some(why)),
            };
            BucketSetting {
                name: setting.name.to_owned(),
                result,
                blake3: value
                    .as_ref()
                    .filter(|_| result == SettingResult::Set)
                    .map(|text| blake3::hash(text.as_bytes()).to_hex().to_string()),
                value: value.map(|text| cut(&text, VALUE_MAX)),
            }
        })
        .collect();
    changed(&url, previous.settings(&url), &now, findings);
    Ok(now)
}

/// Says what changed, from what to what. Other words of a server that doesn't tell are no change.
fn changed(url: &str, before: &[BucketSetting], now: &[BucketSetting], findings: &mut Findings) {
    for new in now {
        let Some(old) = before.iter().find(|old| old.name == new.name) else { continue };
        if old.result == new.result && old.blake3 == new.blake3 {
            continue;
        }
        // Whoever gets the right to read sees nothing that was other before, as far as anyone knows.
        if old.result == SettingResult::NotReadable {
            continue;
        }
        let name = new.name.replace('_', " ");
        let summary = if new.result == SettingResult::NotReadable {
            format!("The bucket's {name} could be read for the previous report, and can't be now.")
        } else {
            format!("The bucket's {name} is not what the previous report found.")
        };
        let code = &code::SETTINGS_CHANGED;
        let weighty = matches!(new.name.as_str(), "versioning" | "object_lock" | "lifecycle");
        let finding = Finding {
            severity: if weighty { Severity::High } else { code.severity },
            detail: Some(format!("from {} to {}", shown(old), shown(new))),
            ..code.about(format!("{url}: {name}"), summary)
        };
        findings.push(code, finding);
    }
}

fn shown(setting: &BucketSetting) -> String {
    let value = setting.value.as_deref().unwrap_or_default();
    match (setting.result, &setting.blake3) {
        (SettingResult::NotSet, _) => "none".to_owned(),
        (SettingResult::NotReadable, _) => format!("not readable ({value})"),
        (SettingResult::Set, Some(hash)) if value.chars().count() > SHOWN_MAX => {
            format!("`{}` (BLAKE3 {hash})", cut(value, SHOWN_MAX))
        }
        (SettingResult::Set, _) => format!("`{value}`"),
    }
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, result: SettingResult, value: &str) -> BucketSetting {
        let hash = blake3::hash(value.as_bytes()).to_hex().to_string();
        BucketSetting {
            name: name.into(),
            result,
            value: Some(value.into()),
            blake3: (result == SettingResult::Set).then_some(hash),
        }
    }

    #[test]
    fn a_change_is_told_from_what_to_what() {
        use SettingResult::{NotReadable, NotSet, Set};
        let found = |old: &BucketSetting, new: &BucketSetting| {
            let mut findings = Findings::default();
            changed("s3://b", std::slice::from_ref(old), std::slice::from_ref(new), &mut findings);
            findings.finish()
        };
        let on = setting("versioning", Set, "Status=Enabled");
        let off = setting("versioning", Set, "Status=Suspended");
        let told = found(&on, &off);
        assert_eq!(told[0].severity, Severity::High);
        assert_eq!(told[0].detail.as_deref(), Some("from `Status=Enabled` to `Status=Suspended`"));
        assert_eq!(found(&on, &on), []);
        let denied = |why| setting("versioning", NotReadable, why);
        assert!(found(&on, &denied("no")).first().unwrap().summary.contains("can't be now"));
        assert_eq!(found(&denied("no"), &denied("never")), []);
        let none = setting("policy", NotSet, "");
        let policy = setting("policy", Set, "{}");
        assert_eq!(found(&policy, &none)[0].detail.as_deref(), Some("from `{}` to none"));
    }
}
