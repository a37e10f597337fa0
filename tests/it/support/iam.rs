//! What policies allow, by the rules that Amazon publishes for its own, as far as the packaged policies use them. Whatever
//! it doesn't know it refuses to judge: a test that rests on it fails then, rather than passes by accident.
//!
//! It is no evaluator of Amazon's or MinIO's. What it says of the policies for Ceph is what Ceph's gateway was seen to do,
//! call by call.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Actions that policies may name: a misspelt one would be about nothing, and no server says so.
const ACTIONS: [&str; 35] = [
    "s3:AbortMultipartUpload",
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion",
    "s3:DeleteObjectVersionTagging",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketPolicy",
    "s3:GetBucketVersioning",
    "s3:GetLifecycleConfiguration",
    "s3:GetObject",
    "s3:GetObjectAcl",
    "s3:GetObjectLegalHold",
    "s3:GetObjectRetention",
    "s3:GetObjectVersion",
    "s3:GetObjectVersionAcl",
    "s3:GetObjectVersionForReplication",
    "s3:GetObjectVersionTagging",
    "s3:GetReplicationConfiguration",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:PutBucketAcl",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionAcl",
    "s3:PutObjectVersionTagging",
];

/// What a request brings with it, by the condition keys that policies may ask for. What isn't there is absent.
pub(crate) type Context = BTreeMap<&'static str, String>;
const KEYS: [&str; 4] = [
    "aws:SecureTransport",
    "s3:if-none-match",
    "s3:object-lock-remaining-retention-days",
    "s3:versionid",
];

/// Which conditions MinIO lets a statement about an action have; a policy with another is refused whole
/// (`IAMActionConditionKeyMap` in its `pkg/policy`). It knows `aws:SecureTransport` for all.
const MINIO_TAKES: [(&str, &[&str]); 3] = [
    (
        "s3:object-lock-remaining-retention-days",
        &["s3:PutObjectRetention", "s3:BypassGovernanceRetention"],
    ),
    (
        "s3:versionid",
        &["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:GetObjectVersion"],
    ),
    ("s3:if-none-match", &[]),
];

/// A right that a call needs.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// ARN of who asks.
    pub(crate) principal: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) context: &'a Context,
}

/// What the statements of some policies together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement refuses it, whatever others say.
    Denied,
}

/// What policies say of a request.
///
/// # Panics
/// At anything in a policy that isn't known here.
pub(crate) fn ruling(policies: &[&Value], request: &Request<'_>) -> Ruling {
    let mut ruling = Ruling::NotAllowed;
    for statement in policies.iter().flat_map(|policy| statements(policy)) {
        let applies = applies(statement, request);
        match text(&statement["Effect"]) {
            "Deny" if applies => return Ruling::Denied,
            "Allow" if applies => ruling = Ruling::Allowed,
            "Allow" | "Deny" => {}
            other => panic!("an unknown effect: {other}"),
        }
    }
    ruling
}

/// Why MinIO would refuse to take a policy.
pub(crate) fn minio_refuses(policy: &Value) -> Option<String> {
    for statement in statements(policy) {
        for (key, _) in conditions(statement).into_iter().flat_map(|(_, keys)| keys) {
            let Some((_, takes)) = MINIO_TAKES.iter().find(|(known, _)| known == key) else {
                continue;
            };
            let actions = list(&statement["Action"]);
            if let Some(action) = actions.iter().find(|action| !takes.contains(action)) {
                return Some(format!("{key} can't be asked of {action}"));
            }
        }
    }
    None
}

fn statements(policy: &Value) -> &Vec<Value> {
    assert_eq!(policy["Version"], "2012-10-17", "{policy}");
    for member in policy.as_object().unwrap().keys() {
        assert!(["Version", "Statement"].contains(&member.as_str()), "unknown: {member}");
    }
    policy["Statement"].as_array().unwrap()
}

fn applies(statement: &Value, request: &Request<'_>) -> bool {
    let members = statement.as_object().unwrap();
    let one_of = |a: &str, b: &str| {
        assert!(members.contains_key(a) != members.contains_key(b), "{a} or {b}: {statement}");
    };
    one_of("Action", "NotAction");
    one_of("Resource", "NotResource");
    // Every member is looked at, also where another has told already: unknown ones are never passed over.
    let found = members.iter().map(|(member, value)| match member.as_str() {
        "Sid" | "Effect" => true,
        "Principal" => is_principal(value, request.principal),
        "Action" => names_action(value, request.action),
        "NotAction" => !names_action(value, request.action),
        "Resource" => list(value).iter().any(|pattern| like(pattern, request.resource)),
        "NotResource" => !list(value).iter().any(|pattern| like(pattern, request.resource)),
        "Condition" => {
            let held: Vec<bool> =
                conditions(statement).iter().map(|(op, keys)| hold(op, keys, request)).collect();
            held.iter().all(|held| *held)
        }
        other => panic!("a member that isn't known: {other}"),
    });
    let found: Vec<bool> = found.collect();
    found.iter().all(|found| *found)
}

fn is_principal(value: &Value, principal: &str) -> bool {
    if value == "*" {
        return true;
    }
    let members = value.as_object().unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["AWS"], "{value}");
    list(&value["AWS"]).contains(&principal)
}

fn names_action(value: &Value, action: &str) -> bool {
    let patterns = list(value);
    for pattern in &patterns {
        let known = ACTIONS.contains(pattern);
        assert!(known || *pattern == "s3:*", "an unknown action: {pattern}");
    }
    patterns.iter().any(|pattern| like(pattern, action))
}

fn conditions(statement: &Value) -> Vec<(&String, &Map<String, Value>)> {
    let Some(conditions) = statement.get("Condition") else { return Vec::new() };
    let operators = conditions.as_object().unwrap().iter();
    operators.map(|(operator, keys)| (operator, keys.as_object().unwrap())).collect()
}

/// Whether all keys under an operator have a value that it wants.
fn hold(operator: &str, keys: &Map<String, Value>, request: &Request<'_>) -> bool {
    let held = keys.iter().map(|(key, wanted)| {
        assert!(KEYS.contains(&key.as_str()), "an unknown condition key: {key}");
        let found = request.context.get(key.as_str());
        let any = |fits: &dyn Fn(&str, &str) -> bool| {
            found.is_some_and(|found| list(wanted).iter().any(|wanted| fits(found, wanted)))
        };
        let compared = |fits: fn(&f64, &f64) -> bool| {
            let number = |text: &str| text.parse::<f64>().unwrap_or_else(|e| panic!("{text}: {e}"));
            any(&|found, wanted| fits(&number(found), &number(wanted)))
        };
        match operator {
            "Bool" | "StringEquals" => any(&|found, wanted| found == wanted),
            "StringLike" => any(&|found, wanted| like(wanted, found)),
            "NumericGreaterThan" => compared(f64::gt),
            "NumericGreaterThanEquals" => compared(f64::ge),
            "NumericLessThan" => compared(f64::lt),
            "NumericLessThanEquals" => compared(f64::le),
            "Null" => match text(wanted) {
                "true" => found.is_none(),
                "false" => found.is_some(),
                other => panic!("Null can't be {other}"),
            },
            other => panic!("an unknown operator: {other}"),
        }
    });
    let held: Vec<bool> = held.collect();
    held.iter().all(|held| *held)
}

/// Whether a text is as a pattern says: `*` stands for any text, `?` for any one letter.
fn like(pattern: &str, text: &str) -> bool {
    assert!(!pattern.contains("${"), "a variable in {pattern}");
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| like(rest, &text[at..]))
        }
        Some(first) => text.chars().next().is_some_and(|found| {
            (first == '?' || first == found)
                && like(&pattern[first.len_utf8()..], &text[found.len_utf8()..])
        }),
    }
}

fn list(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(all) => all.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
