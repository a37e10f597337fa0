//! What the Terraform module makes of each bucket, resource by resource: whoever leaves a part out hears of it.

use std::collections::BTreeMap;
use std::process::Command;

use hcl_edit::structure::{Block, Body, Structure};

use crate::terraform::{blocks, folder, label, module};

/// The attributes of a body, those of the blocks in it among them: `rule.default_retention.mode`, and what is written there.
fn attributes(body: &Body, above: &str, found: &mut BTreeMap<String, Vec<String>>) {
    let below = |name: &str| {
        if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
    };
    for part in body {
        match part {
            Structure::Attribute(one) => {
                let text = one.value.to_string();
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                found.entry(below(one.key.as_str())).or_default().push(text);
            }
            Structure::Block(block) => attributes(&block.body, &below(&block.ident), found),
        }
    }
}

fn of(block: &Block) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    attributes(&block.body, "", &mut found);
    found
}

/// What the module makes, by kind and name.
fn made() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let module = module();
    let resources = blocks(&module).filter(|block| block.ident.as_str() == "resource");
    resources.map(|one| (format!("{}.{}", label(one, 0), label(one, 1)), of(one))).collect()
}

/// What is wrong with what is made: each resource that is missing, and each attribute that isn't as it must be.
fn wrong(
    made: &BTreeMap<String, BTreeMap<String, Vec<String>>>,
    wanted: &[(String, Vec<(&str, String)>)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, attributes) in wanted {
        let Some(has) = made.get(name) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        for (attribute, value) in attributes {
            let all = has.get(*attribute).cloned().unwrap_or_default();
            if !all.contains(value) {
                wrong.push(format!("{name}: {attribute} is {all:?}, not {value}"));
            }
        }
    }
    let known = |name: &String| wanted.iter().any(|(wanted, _)| wanted == name);
    wrong.extend(
        made.keys().filter(|name| !known(name)).map(|name| format!("{name} is unknown here")),
    );
    wrong
}

fn text(words: &str) -> String {
    format!("\"{words}\"")
}

/// What each bucket must have.
fn bucket(name: &str, days: &str) -> Vec<(String, Vec<(&'static str, String)>)> {
    let kind = |kind: &str| format!("aws_s3_bucket{kind}.{name}");
    let provider = (name == "replica").then(|| ("provider", "aws.replica".to_owned()));
    let with = |more: Vec<(&'static str, String)>| -> Vec<(&'static str, String)> {
        provider.clone().into_iter().chain(more).collect()
    };
    let about = |more: Vec<(&'static str, String)>| {
        with([vec![("bucket", format!("aws_s3_bucket.{name}.id"))], more].concat())
    };
    let yes = || "true".to_owned();
    let variable = if name == "vault" { "bucket".to_owned() } else { format!("{name}_bucket") };
    vec![
        (
            kind(""),
            with(vec![
                ("bucket", format!("var.{variable}")),
                ("object_lock_enabled", yes()),
                ("lifecycle.prevent_destroy", yes()),
            ]),
        ),
        (kind("_versioning"), about(vec![("versioning_configuration.status", text("Enabled"))])),
        (
            kind("_object_lock_configuration"),
            about(vec![
                ("rule.default_retention.mode", text("COMPLIANCE")),
                ("rule.default_retention.days", format!("var.{days}")),
            ]),
        ),
        (
            kind("_public_access_block"),
            about(vec![
                ("block_public_acls", yes()),
                ("block_public_policy", yes()),
                ("ignore_public_acls", yes()),
                ("restrict_public_buckets", yes()),
            ]),
        ),
        (
            kind("_ownership_controls"),
            about(vec![("rule.object_ownership", text("BucketOwnerEnforced"))]),
        ),
        (
            kind("_lifecycle_configuration"),
            about(vec![
                ("rule.status", text("Enabled")),
                ("rule.expiration.expired_object_delete_marker", yes()),
                ("rule.abort_incomplete_multipart_upload.days_after_initiation", "2".to_owned()),
            ]),
        ),
        (kind("_policy"), about(vec![])),
    ]
}

fn wanted() -> Vec<(String, Vec<(&'static str, String)>)> {
    let template =
        |name: &str| format!("templatefile(\"${{path.module}}/../iam/{name}.json\", local.names)");
    let mut wanted = [
        bucket("vault", "default_retention_days"),
        bucket("evidence", "evidence_retention_days"),
        bucket("replica", "default_retention_days"),
    ]
    .concat();
    for (name, attributes) in &mut wanted {
        match name.as_str() {
            "aws_s3_bucket_policy.vault" => attributes.push(("policy", template("bucket-aws"))),
            "aws_s3_bucket_policy.evidence" => {
                attributes.push(("policy", template("evidence-aws")));
            }
            _ => {}
        }
    }
    let role = || "aws_iam_role.replication".to_owned();
    wanted.extend([
        (
            "aws_s3_bucket_replication_configuration.vault".to_owned(),
            vec![
                ("bucket", "aws_s3_bucket.vault.id".to_owned()),
                ("role", format!("{}.arn", role())),
                ("rule.status", text("Enabled")),
                ("rule.delete_marker_replication.status", text("Disabled")),
                ("rule.destination.bucket", "aws_s3_bucket.replica.arn".to_owned()),
                ("rule.destination.account", "var.replica_account".to_owned()),
                ("rule.destination.access_control_translation.owner", text("Destination")),
            ],
        ),
        ("aws_iam_role.replication".to_owned(), vec![]),
        ("aws_iam_role_policy.replication".to_owned(), vec![("role", format!("{}.id", role()))]),
        (
            "aws_iam_role.role".to_owned(),
            vec![("assume_role_policy", "var.trust[each.key]".to_owned())],
        ),
        (
            "aws_iam_role_policy.role".to_owned(),
            vec![
                ("for_each", "aws_iam_role.role".to_owned()),
                ("policy", template("role-${each.key}")),
            ],
        ),
        (
            "aws_iam_role.copy_verifier".to_owned(),
            vec![
                ("provider", "aws.replica".to_owned()),
                ("assume_role_policy", "var.trust[\"copy_verifier\"]".to_owned()),
            ],
        ),
        (
            "aws_iam_role_policy.copy_verifier".to_owned(),
            vec![
                ("provider", "aws.replica".to_owned()),
                ("role", "aws_iam_role.copy_verifier.id".to_owned()),
            ],
        ),
    ]);
    wanted
}

#[test]
fn each_bucket_and_role_has_all_that_belongs_to_it() {
    assert_eq!(wrong(&made(), &wanted()), [""; 0]);
}

#[test]
fn whatever_is_left_out_or_turned_off_is_seen() {
    let wanted = wanted();
    for (name, attributes) in &wanted {
        let mut less = made();
        less.remove(name);
        assert_eq!(wrong(&less, &wanted), [format!("{name} is missing")]);
        for (attribute, _) in attributes {
            let mut other = made();
            other.get_mut(name).unwrap().remove(*attribute);
            let found = wrong(&other, &wanted);
            assert!(
                found.len() == 1 && found[0].starts_with(&format!("{name}: {attribute}")),
                "{found:?}"
            );
        }
    }
}

/// Policies that are written in the module itself.
#[test]
fn only_s3_replicates_for_this_bucket_alone_and_the_copy_takes_tls_only() {
    let made = made();
    let written = |name: &str, attribute: &str| made[name][attribute].join("\n");
    let trust = written("aws_iam_role.replication", "assume_role_policy");
    for words in [
        "Principal = { Service = \"s3.amazonaws.com\" }",
        "\"aws:SourceAccount\" = data.aws_caller_identity.current.account_id",
        "\"aws:SourceArn\" = aws_s3_bucket.vault.arn",
    ] {
        assert!(trust.contains(words), "{words}: {trust}");
    }
    let copies = written("aws_iam_role_policy.replication", "policy");
    for words in
        ["s3:GetObjectRetention", "s3:GetObjectVersionForReplication", "s3:ReplicateObject"]
    {
        assert!(copies.contains(words), "{words}: {copies}");
    }
    for policy in [&copies, &written("aws_s3_bucket_policy.replica", "policy")] {
        for never in ["s3:*", "Delete", "Bypass", "PutBucket", "PutObject"] {
            assert!(!policy.contains(never), "{never}: {policy}");
        }
    }
    // TLS only stands in that file (`policies.rs` tries it), for the copy as for the two other buckets.
    let replica = written("aws_s3_bucket_policy.replica", "policy");
    assert!(replica.contains("iam/copy-aws.json"), "{replica}");
    for file in ["bucket-aws", "copy-aws", "evidence-aws"] {
        let text = std::fs::read_to_string(folder(&format!("iam/{file}.json"))).unwrap();
        assert!(
            text.contains(r#""Condition": {"Bool": {"aws:SecureTransport": "false"}}"#),
            "{file}"
        );
    }
    let verifier = written("aws_iam_role_policy.copy_verifier", "policy");
    assert!(
        verifier.contains("iam/role-verifier.json") && verifier.contains("\"TheCopy\""),
        "{verifier}"
    );
}

/// Where Terraform is installed; what its provider knows of the attributes can't be asked here.
#[test]
fn terraform_finds_it_well_formed_where_it_is_installed() {
    let checked = Command::new("terraform")
        .args(["fmt", "-check", "-diff", "-no-color"])
        .arg(folder("terraform"))
        .output();
    match checked {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        Err(error) => println!("terraform fmt wasn't run: {error}"),
    }
}
