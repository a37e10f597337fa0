//! A bucket's settings, each asked for by its own request: what is there may differ from what was configured once.

use super::client::Client;
use super::refusal::Refusal;
use crate::store::http::{Call, Node};
use crate::store::{BucketSettings, Setting, SettingState, StoreError};

/// What is asked for: the name, the query, and the codes that say that there is none.
const ASKED: [(&str, &str, &[&str]); 6] = [
    ("versioning", "versioning", &[]),
    ("object_lock", "object-lock", &["ObjectLockConfigurationNotFoundError"]),
    ("lifecycle", "lifecycle", &["NoSuchLifecycleConfiguration"]),
    ("policy", "policy", &["NoSuchBucketPolicy"]),
    (
        "public_access_block",
        "publicAccessBlock",
        &["NoSuchPublicAccessBlockConfiguration", "NoSuchPublicAccessBlock"],
    ),
    ("acl", "acl", &[]),
];

/// The prober's objects end by themselves, so a rule that only clears those is no danger.
const HARMLESS: &str = crate::store::CANARIES;

/// Asks for all of them.
///
/// # Errors
/// [`StoreError`] where the bucket can't be asked at all.
pub(super) async fn ask(client: &Client, root: &str) -> Result<BucketSettings, StoreError> {
    let mut found = BucketSettings::default();
    for (name, query, absent) in ASKED {
        let call = Call::new("GET", None, "read the bucket's", name).query(query, "");
        let answer = client.send(&call).await?;
        let state = if answer.is_success() {
            if name == "lifecycle" {
                found.expiring = expiring(&Node::parse(&answer.body).unwrap_or_default(), root);
            }
            told(name, &answer.body)
        } else {
            let refusal = Refusal::of(&answer);
            if refusal.is_no_bucket() {
                return Err(refusal.error(&client.target, &call.action, "the bucket"));
            }
            if absent.contains(&refusal.code.as_str()) {
                SettingState::NotSet
            } else {
                SettingState::NotReadable(refusal.words())
            }
        };
        found.settings.push(Setting { name, state });
    }
    Ok(found)
}

/// A setting as text that depends on nothing but the setting: no spaces, no namespaces, no order of names.
fn told(name: &str, body: &[u8]) -> SettingState {
    if name == "policy" {
        return match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(policy) => SettingState::Set(policy.to_string()),
            Err(_) if body.is_empty() => SettingState::NotSet,
            Err(_) => SettingState::Set(String::from_utf8_lossy(body).into_owned()),
        };
    }
    match Node::parse(body) {
        Some(doc) if doc.children.is_empty() => SettingState::NotSet,
        Some(doc) => SettingState::Set(flat(&doc.children)),
        None => SettingState::NotReadable("the answer isn't XML".into()),
    }
}

/// `Rule(Expiration(Days=30) ID=old Status=Enabled)`, sorted: servers may give elements in any order.
fn flat(nodes: &[Node]) -> String {
    let mut parts: Vec<String> = nodes
        .iter()
        .map(|node| match (node.children.is_empty(), node.text.trim()) {
            (false, _) => format!("{}({})", node.name, flat(&node.children)),
            (true, "") => node.name.clone(),
            (true, text) => format!("{}={text}", node.name),
        })
        .collect();
    parts.sort();
    parts.join(" ")
}

/// The rules of a lifecycle configuration that end what a vault below `root` holds.
fn expiring(doc: &Node, root: &str) -> Vec<String> {
    doc.children.iter().filter(|rule| rule.name == "Rule").filter_map(|r| ends(r, root)).collect()
}

fn ends(rule: &Node, root: &str) -> Option<String> {
    if rule.text_at(&["Status"]) != Some("Enabled") {
        return None;
    }
    let prefix = [&["Filter", "And", "Prefix"][..], &["Filter", "Prefix"], &["Prefix"]]
        .into_iter()
        .find_map(|path| rule.text_at(path))
        .unwrap_or_default();
    let touches = prefix.starts_with(root) || root.starts_with(prefix);
    if !touches || prefix.starts_with(&format!("{root}{HARMLESS}")) {
        return None;
    }
    let after = |of: &str, unit: &str| {
        Some(format!("after {} days", rule.text_at(&[of, unit]).filter(|days| !days.is_empty())?))
    };
    let on = rule.text_at(&["Expiration", "Date"]).map(|date| format!("on {date}"));
    let current = after("Expiration", "Days").or(on).map(|when| format!("objects expire {when}"));
    let noncurrent = after("NoncurrentVersionExpiration", "NoncurrentDays")
        .or_else(|| rule.child("NoncurrentVersionExpiration").map(|_| "at some time".to_owned()))
        .map(|when| format!("older versions are removed {when}"));
    let what: Vec<_> = [current, noncurrent].into_iter().flatten().collect();
    if what.is_empty() {
        return None;
    }
    let id = rule.text_at(&["ID"]).filter(|id| !id.is_empty()).unwrap_or("without a name");
    let place =
        if prefix.is_empty() { "everywhere".to_owned() } else { format!("below `{prefix}`") };
    Some(format!("rule {id}: {place}, {}", what.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(inner: &str) -> Vec<String> {
        let text = format!("<LifecycleConfiguration>{inner}</LifecycleConfiguration>");
        expiring(&Node::parse(text.as_bytes()).unwrap(), "main/")
    }

    #[test]
    fn rules_that_end_what_the_vault_holds_are_told_from_harmless_ones() {
        let rule =
            |inner: &str| rules(&format!("<Rule><ID>x</ID><Status>Enabled</Status>{inner}</Rule>"));
        let days = "<Expiration><Days>30</Days></Expiration>";
        assert_eq!(rule(days), ["rule x: everywhere, objects expire after 30 days"]);
        for place in [
            "<Filter><Prefix>main/packs/</Prefix></Filter>",
            "<Prefix>ma</Prefix>",
            "<Filter><And><Prefix>main/</Prefix></And></Filter>",
        ] {
            assert_eq!(rule(&format!("{place}{days}")).len(), 1, "{place}");
        }
        for harmless in [
            "<Prefix>other/</Prefix><Expiration><Days>30</Days></Expiration>",
            "<Prefix>main/canary/</Prefix><Expiration><Days>1</Days></Expiration>",
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload>",
        ] {
            assert_eq!(rule(harmless), [""; 0], "{harmless}");
        }
        let noncurrent = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
                          </NoncurrentVersionExpiration>";
        assert_eq!(
            rule(noncurrent),
            ["rule x: everywhere, older versions are removed after 1 days"]
        );
        let off = format!("<Rule><ID>x</ID><Status>Disabled</Status>{days}</Rule>");
        assert_eq!(rules(&off), [""; 0]);
    }

    #[test]
    fn the_same_settings_give_the_same_text() {
        let one =
            told("lifecycle", b"<L xmlns='x'><Rule><ID>a</ID> <Status>On</Status></Rule></L>");
        let other = told("lifecycle", b"<L><Rule><Status>On</Status><ID>a</ID></Rule></L>");
        assert_eq!(one, other);
        assert_eq!(one, SettingState::Set("Rule(ID=a Status=On)".into()));
        let one = told("policy", br#"{"Version": "x", "Statement": []}"#);
        assert_eq!(one, told("policy", br#"{"Statement":[],"Version":"x"}"#));
        assert_eq!(told("versioning", b"<V/>"), SettingState::NotSet);
    }
}
