//! A bucket's settings as it told them, and the lifecycle rules that end what a vault holds.

use serde_json::{Map, Value};

use super::locking::Bucket;
use crate::store::{BucketSettings, CANARIES, Setting, SettingState};

/// What reports hold: the stable name, and where the bucket's document has it.
const TOLD: [(&str, &str); 6] = [
    ("versioning", "/versioning"),
    ("object_lock", "/objectRetention"),
    ("lifecycle", "/lifecycle"),
    ("public_access_block", "/iamConfiguration/publicAccessPrevention"),
    ("retention_policy", "/retentionPolicy"),
    ("soft_delete", "/softDeletePolicy"),
];

/// The settings in what the bucket told of itself.
pub(super) fn told(bucket: &Bucket, root: &str) -> BucketSettings {
    let state = |path: &str| match &bucket.document {
        None => SettingState::NotReadable(bucket.notes.join("; ")),
        Some(document) => match document.pointer(path) {
            // Names are in order, so the same settings always give the same text.
            Some(value) => SettingState::Set(value.to_string()),
            None => SettingState::NotSet,
        },
    };
    let settings = TOLD.map(|(name, path)| Setting { name, state: state(path) }).into();
    let rules = bucket.document.as_ref().and_then(|d| d.pointer("/lifecycle/rule")?.as_array());
    let expiring = rules
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(number, rule)| ends(number + 1, rule, root))
        .collect();
    BucketSettings { settings, expiring }
}

/// A rule that deletes what a vault below `root` holds, in words. The prober's objects end by themselves, so a rule that
/// only clears those is no danger.
fn ends(number: usize, rule: &Value, root: &str) -> Option<String> {
    if rule.pointer("/action/type")? != "Delete" {
        return None;
    }
    let nothing = Map::new();
    let conditions = rule.get("condition").and_then(Value::as_object).unwrap_or(&nothing);
    let prefixes = conditions.get("matchesPrefix").and_then(Value::as_array);
    let canaries = format!("{root}{CANARIES}");
    let touches = |prefix: &str| {
        (prefix.starts_with(root) || root.starts_with(prefix)) && !prefix.starts_with(&canaries)
    };
    // What can't be read is taken to match all.
    let touched =
        prefixes.is_none_or(|all| all.iter().any(|one| touches(one.as_str().unwrap_or_default())));
    if !touched {
        return None;
    }
    let when: Vec<_> = conditions.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let when =
        if when.is_empty() { "at once".to_owned() } else { format!("by {}", when.join(", ")) };
    Some(format!("rule {number}: objects are deleted {when}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expiring(rule: &Value) -> Vec<String> {
        let document = json!({ "lifecycle": { "rule": [rule] } });
        told(&Bucket { document: Some(document), ..Bucket::default() }, "main/").expiring
    }

    #[test]
    fn rules_that_end_what_the_vault_holds_are_told_from_harmless_ones() {
        let delete = |condition: Value| {
            expiring(&json!({ "action": { "type": "Delete" }, "condition": condition }))
        };
        assert_eq!(delete(json!({ "age": 30 })), ["rule 1: objects are deleted by age 30"]);
        assert_eq!(delete(json!({})), ["rule 1: objects are deleted at once"]);
        for prefix in ["main/packs/", "ma", "main/"] {
            let rule = json!({ "age": 1, "matchesPrefix": ["other/", prefix] });
            assert_eq!(delete(rule).len(), 1, "{prefix}");
        }
        for prefix in ["other/", "main/canary/"] {
            let rule = json!({ "age": 1, "matchesPrefix": [prefix] });
            assert_eq!(delete(rule), [""; 0], "{prefix}");
        }
        let colder = json!({ "action": { "type": "SetStorageClass" }, "condition": { "age": 1 } });
        assert_eq!(expiring(&colder), [""; 0]);
    }

    #[test]
    fn what_is_told_has_one_text_and_what_is_not_says_why() {
        let document = json!({ "versioning": { "enabled": true } });
        let found = told(&Bucket { document: Some(document), ..Bucket::default() }, "");
        let state = |name| found.settings.iter().find(|s| s.name == name).map(|s| s.state.clone());
        assert_eq!(state("versioning"), Some(SettingState::Set(r#"{"enabled":true}"#.into())));
        assert_eq!(state("lifecycle"), Some(SettingState::NotSet));
        let denied = told(&Bucket { notes: vec!["no".into()], ..Bucket::default() }, "");
        assert!(denied.settings.iter().all(|s| s.state == SettingState::NotReadable("no".into())));
    }
}
