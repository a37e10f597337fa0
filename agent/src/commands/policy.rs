//! `keephold policy`: the least that each role needs, filled in for one bucket.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use keephold_cli::config::find;
use keephold_cli::exit::{Exit, usage};
use keephold_vault::store::TargetUrl;
use serde_json::Value;

use crate::config::{Config, FILE};
use crate::retention::needs::{Needs, days};

/// The policies as they are shipped; Terraform fills in the same files.
mod templates {
    pub(super) const WRITER: &str = include_str!("../../../packaging/iam/role-writer.json");
    pub(super) const VERIFIER: &str = include_str!("../../../packaging/iam/role-verifier.json");
    pub(super) const PRUNER: &str = include_str!("../../../packaging/iam/role-pruner.json");
    pub(super) const PROBER: &str = include_str!("../../../packaging/iam/role-prober.json");
    pub(super) const BUCKET_AWS: &str = include_str!("../../../packaging/iam/bucket-aws.json");
    pub(super) const BUCKET_CEPH: &str = include_str!("../../../packaging/iam/bucket-ceph.json");
    pub(super) const EVIDENCE: &str = include_str!("../../../packaging/iam/evidence-ceph.json");
}

/// Print an access policy: the least that a role needs, with the bucket's name filled in.
///
/// A role's policy is for servers where users have policies (Amazon's IAM, MinIO). A bucket's policy names the roles'
/// users, and refuses what none of them may ever do; roles that aren't named are left out of it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold policy writer --vault s3://acme-backups/db1 > writer.json\n  \
    keephold policy bucket --vault s3://acme-backups/db1 --writer arn:aws:iam::123456789012:role/db1 > bucket.json\n  \
    keephold policy bucket --server ceph --vault s3://acme-backups/db1 --writer arn:aws:iam:::user/db1 > bucket.json\n  \
    aws s3api put-bucket-policy --bucket acme-backups --policy file://bucket.json")]
pub(crate) struct PolicyArgs {
    /// Whose policy.
    #[arg(value_enum)]
    what: What,
    /// The vault: s3://bucket/prefix.
    #[arg(long, env = "KEEPHOLD_VAULT", hide_env_values = true, value_name = "URL")]
    vault: String,
    /// Whose policy language a bucket's policy is in.
    #[arg(long, value_enum, value_name = "KIND", default_value = "aws")]
    server: Server,
    /// The user or role that backs up, as its ARN.
    #[arg(long, value_name = "ARN")]
    writer: Option<String>,
    /// The user or role of keephold-verify.
    #[arg(long, value_name = "ARN")]
    verifier: Option<String>,
    /// The user or role that prunes.
    #[arg(long, value_name = "ARN")]
    pruner: Option<String>,
    /// The user or role that tries to break canaries' locks.
    #[arg(long, value_name = "ARN")]
    prober: Option<String>,
    /// The verifier's own bucket, for its reports.
    #[arg(long, value_name = "BUCKET")]
    evidence: Option<String>,
    /// Longest lock that the writer may set, in days. By default a little more than the configuration's longest class
    /// and its records need (450 without a configuration); fewer than they need are refused.
    #[arg(long, value_name = "DAYS")]
    max_lock: Option<u32>,
    /// Configuration file of the host, for how long it locks; the usual one if that is about this vault.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The host that backs up.
    Writer,
    /// keephold-verify.
    Verifier,
    /// Who prunes.
    Pruner,
    /// Who tries to break canaries' locks.
    Prober,
    /// The vault's bucket.
    Bucket,
    /// The verifier's own bucket (Ceph).
    Evidence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    /// Amazon S3.
    Aws,
    /// Ceph's gateway.
    Ceph,
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn run(args: &PolicyArgs) -> Result<Exit> {
    println!("{:#}", args.render(&args.config()?)?);
    Ok(Exit::Done)
}

impl PolicyArgs {
    /// What the host that writes to this vault is told: of another vault's host nothing is taken over.
    fn config(&self) -> Result<Config> {
        let Some(path) = find(self.config.as_deref(), FILE) else { return Ok(Config::default()) };
        if self.config.is_some() {
            return Config::read(&path);
        }
        // A file that is only found may be another user's, and wrong in ways that don't matter here.
        let found = Config::read(&path).ok().filter(|c| {
            c.vault.url.as_deref().map(|u| u.trim_end_matches('/'))
                == Some(self.vault.trim_end_matches('/'))
        });
        Ok(found.unwrap_or_default())
    }

    /// The bound on locks, in days.
    fn max_lock(&self, config: &Config) -> Result<i64> {
        let needs = Needs::of(config)?;
        let least = days(needs.longest);
        match self.max_lock.map(i64::from) {
            Some(given) if given < least => Err(usage(format!(
                "--max-lock {given} is too short: the runs of this configuration set locks of up to {least} days, and \
                 would be refused; give {} or more, or leave it out",
                needs.cap_days()
            ))),
            Some(given) => Ok(given),
            None => Ok(needs.cap_days()),
        }
    }

    fn render(&self, config: &Config) -> Result<Value> {
        let TargetUrl::S3 { bucket, prefix } = TargetUrl::parse(&self.vault)? else {
            return Err(usage(
                "policies are for buckets of S3 and its compatibles: name the vault as s3://bucket/prefix; \
                 docs/OPERATIONS.md has the roles on Google and Azure",
            ));
        };
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
        let days = self.max_lock(config)?.to_string();
        let names = [
            ("${bucket}", Some(&bucket)),
            ("${prefix}", Some(&prefix)),
            ("${max_lock_days}", Some(&days)),
            ("${evidence}", self.evidence.as_ref()),
            ("${writer}", self.writer.as_ref()),
            ("${verifier}", self.verifier.as_ref()),
            ("${pruner}", self.pruner.as_ref()),
            ("${prober}", self.prober.as_ref()),
        ];
        let mut policy: Value =
            serde_json::from_str(self.template()).context("a policy that is built in")?;
        fill(&mut policy, &names);
        let statements = policy["Statement"].as_array_mut().context("a policy that is built in")?;
        statements.retain(|statement| !unfilled(statement));
        let names_nobody = statements.iter().all(|s| s["Principal"] == "*");
        match self.what {
            What::Bucket if names_nobody => Err(usage(
                "name the users or roles that the policy is about, at least --writer ARN (Amazon: \
                 arn:aws:iam::ACCOUNT:role/NAME; Ceph: arn:aws:iam:::user/NAME)",
            )),
            What::Evidence if statements.is_empty() => {
                Err(usage("name the verifier's bucket and user: --evidence BUCKET --verifier ARN"))
            }
            _ => Ok(policy),
        }
    }

    fn template(&self) -> &'static str {
        match (self.what, self.server) {
            (What::Writer, _) => templates::WRITER,
            (What::Verifier, _) => templates::VERIFIER,
            (What::Pruner, _) => templates::PRUNER,
            (What::Prober, _) => templates::PROBER,
            (What::Bucket, Server::Aws) => templates::BUCKET_AWS,
            (What::Bucket, Server::Ceph) => templates::BUCKET_CEPH,
            (What::Evidence, _) => templates::EVIDENCE,
        }
    }
}

/// Fills in what has a value.
fn fill(value: &mut Value, names: &[(&str, Option<&String>)]) {
    match value {
        Value::String(text) => {
            for (name, with) in names {
                if let Some(with) = with {
                    *text = text.replace(name, with);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| fill(v, names)),
        Value::Object(map) => map.values_mut().for_each(|v| fill(v, names)),
        _ => {}
    }
}

/// Whether something in it has no value.
fn unfilled(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(list) => list.iter().any(unfilled),
        Value::Object(map) => map.values().any(unfilled),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(what: What) -> PolicyArgs {
        PolicyArgs {
            what,
            vault: "s3://acme/db1/".into(),
            server: Server::Aws,
            writer: None,
            verifier: None,
            pruner: None,
            prober: None,
            evidence: None,
            max_lock: None,
            config: None,
        }
    }

    #[test]
    fn roles_are_filled_in() {
        for what in [What::Writer, What::Verifier, What::Pruner, What::Prober] {
            let text = args(what).render(&Config::default()).unwrap().to_string();
            assert!(text.contains("arn:aws:s3:::acme/db1/") && !text.contains('$'), "{text}");
        }
        let whole = PolicyArgs { vault: "s3://acme".into(), ..args(What::Writer) };
        assert!(
            whole
                .render(&Config::default())
                .unwrap()
                .to_string()
                .contains("arn:aws:s3:::acme/packs/*")
        );
    }

    #[test]
    fn a_bucket_s_policy_is_about_those_who_are_named() {
        let error = args(What::Bucket).render(&Config::default()).unwrap_err().to_string();
        assert!(error.contains("--writer"), "{error}");
        for server in [Server::Aws, Server::Ceph] {
            let one = PolicyArgs { writer: Some("arn:w".into()), server, ..args(What::Bucket) };
            let text = one.render(&Config::default()).unwrap().to_string();
            assert!(text.contains("arn:w") && !text.contains('$'), "{text}");
            assert!(!text.contains("Pruner"), "{text}");
        }
        assert!(args(What::Evidence).render(&Config::default()).is_err());
        assert!(
            PolicyArgs { vault: "/srv/vault".into(), ..args(What::Writer) }
                .render(&Config::default())
                .is_err()
        );
    }

    #[test]
    fn the_bound_on_locks_comes_from_the_longest_class() {
        let text = "[retention]\ndaily = '14d'\nyearly = '2500d'\n";
        let config = keephold_cli::config::parse(text, std::path::Path::new(FILE)).unwrap();
        let policy = args(What::Writer).render(&config).unwrap().to_string();
        assert!(policy.contains(r#""s3:object-lock-remaining-retention-days":"2550""#), "{policy}");
        let short = PolicyArgs { max_lock: Some(450), ..args(What::Writer) };
        let error = short.render(&config).unwrap_err().to_string();
        assert!(error.contains("up to 2530 days"), "{error}");
        assert!(PolicyArgs { max_lock: Some(2530), ..args(What::Writer) }.render(&config).is_ok());
    }

    /// The one that decides what a stolen credential can do, word for word.
    #[test]
    fn the_writer_s_policy_is_as_agreed() {
        insta::assert_snapshot!(
            "writer-policy",
            format!("{:#}", args(What::Writer).render(&Config::default()).unwrap())
        );
    }
}
