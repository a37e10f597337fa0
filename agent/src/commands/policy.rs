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
    pub(super) const REPLICATOR: &str = include_str!("../../../packaging/iam/role-replicator.json");
    pub(super) const WRITER_MINIO: &str =
        include_str!("../../../packaging/iam/role-writer-minio.json");
    pub(super) const PRUNER_MINIO: &str =
        include_str!("../../../packaging/iam/role-pruner-minio.json");
    pub(super) const PROBER_MINIO: &str =
        include_str!("../../../packaging/iam/role-prober-minio.json");
    pub(super) const REPLICATOR_MINIO: &str =
        include_str!("../../../packaging/iam/role-replicator-minio.json");
    pub(super) const BUCKET_AWS: &str = include_str!("../../../packaging/iam/bucket-aws.json");
    pub(super) const BUCKET_CEPH: &str = include_str!("../../../packaging/iam/bucket-ceph.json");
    pub(super) const COPY_AWS: &str = include_str!("../../../packaging/iam/copy-aws.json");
    pub(super) const COPY_CEPH: &str = include_str!("../../../packaging/iam/copy-ceph.json");
    pub(super) const EVIDENCE_AWS: &str = include_str!("../../../packaging/iam/evidence-aws.json");
    pub(super) const EVIDENCE_CEPH: &str =
        include_str!("../../../packaging/iam/evidence-ceph.json");
}

/// Print an access policy: the least that a role needs, with the bucket's name filled in.
///
/// A role's policy is for servers where users have policies (Amazon's IAM, MinIO). A bucket's policy names the roles'
/// users, and refuses what none of them may ever do; roles that aren't named are left out of it. What a policy says of
/// a place that isn't named (`--vault`, `--copy`, `--evidence`) is left out as well.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold policy writer --vault s3://acme-backups/db1 > writer.json\n  \
    keephold policy bucket --vault s3://acme-backups/db1 --writer arn:aws:iam::123456789012:role/db1 > bucket.json\n  \
    keephold policy bucket --server ceph --vault s3://acme-backups/db1 --writer arn:aws:iam:::user/db1 > bucket.json\n  \
    keephold policy writer --server minio --vault s3://acme-backups/db1 > writer.json\n  \
    keephold policy replicator --vault s3://acme-backups/db1 --copy s3://acme-copy/db1 > replicator.json\n  \
    keephold policy copy --copy s3://acme-copy/db1 --replicator arn:aws:iam::123456789012:role/copier > copy.json\n  \
    aws s3api put-bucket-policy --bucket acme-backups --policy file://bucket.json")]
pub(crate) struct PolicyArgs {
    /// Whose policy.
    #[arg(value_enum)]
    what: What,
    /// The vault: s3://bucket/prefix.
    #[arg(
        long,
        env = "KEEPHOLD_VAULT",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "copy"
    )]
    vault: Option<String>,
    /// The copy that `keephold replicate` makes: s3://bucket/prefix.
    #[arg(long, value_name = "URL")]
    copy: Option<String>,
    /// Whose policy language it is to be in.
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
    /// The user or role that copies a vault to another bucket.
    #[arg(long, value_name = "ARN")]
    replicator: Option<String>,
    /// The verifier's own bucket, for its reports.
    #[arg(long, value_name = "BUCKET")]
    evidence: Option<String>,
    /// Longest lock that the writer, or the replicator at the copy, may set, in days. By default a little more than the configuration's longest class
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
    /// Who copies the vault to another bucket.
    Replicator,
    /// The vault's bucket.
    Bucket,
    /// The copy's bucket.
    Copy,
    /// The verifier's own bucket.
    Evidence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    /// Amazon S3.
    Aws,
    /// Ceph's gateway.
    Ceph,
    /// MinIO.
    Minio,
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
            let trimmed = |url: &Option<String>| {
                url.as_deref().map(|url| url.trim_end_matches('/').to_owned())
            };
            self.vault.is_some() && trimmed(&c.vault.url) == trimmed(&self.vault)
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
        let (bucket, prefix) = place("vault", self.vault.as_deref())?;
        let (copy, copy_prefix) = place("copy", self.copy.as_deref())?;
        let days = Some(self.max_lock(config)?.to_string());
        let names = [
            ("${bucket}", &bucket),
            ("${prefix}", &prefix),
            ("${copy}", &copy),
            ("${copy_prefix}", &copy_prefix),
            ("${max_lock_days}", &days),
            ("${evidence}", &self.evidence),
            ("${writer}", &self.writer),
            ("${verifier}", &self.verifier),
            ("${pruner}", &self.pruner),
            ("${prober}", &self.prober),
            ("${replicator}", &self.replicator),
        ];
        let mut policy: Value =
            serde_json::from_str(self.template()?).context("a policy that is built in")?;
        fill(&mut policy, &names);
        let statements = policy["Statement"].as_array_mut().context("a policy that is built in")?;
        statements.retain(|statement| !unfilled(statement));
        let names_nobody = statements.iter().all(|s| s["Principal"] == "*");
        match self.what {
            What::Bucket if names_nobody => Err(usage(
                "name the vault, and the users or roles that the policy is about: --vault URL and at least --writer ARN \
                 (Amazon: arn:aws:iam::ACCOUNT:role/NAME; Ceph: arn:aws:iam:::user/NAME)",
            )),
            What::Copy if names_nobody => Err(usage(
                "name the copy and who makes it or reads it: --copy URL, --replicator ARN, --verifier ARN",
            )),
            What::Evidence if names_nobody => {
                Err(usage("name the verifier's bucket and user: --evidence BUCKET --verifier ARN"))
            }
            _ if statements.is_empty() => {
                Err(usage("name the vault that the policy is about: --vault URL"))
            }
            _ => Ok(policy),
        }
    }

    fn template(&self) -> Result<&'static str> {
        Ok(match (self.what, self.server) {
            (What::Writer, Server::Minio) => templates::WRITER_MINIO,
            (What::Writer, _) => templates::WRITER,
            (What::Verifier, _) => templates::VERIFIER,
            (What::Pruner, Server::Minio) => templates::PRUNER_MINIO,
            (What::Pruner, _) => templates::PRUNER,
            (What::Prober, Server::Minio) => templates::PROBER_MINIO,
            (What::Prober, _) => templates::PROBER,
            (What::Replicator, Server::Minio) => templates::REPLICATOR_MINIO,
            (What::Replicator, _) => templates::REPLICATOR,
            (What::Bucket, Server::Aws) => templates::BUCKET_AWS,
            (What::Bucket, Server::Ceph) => templates::BUCKET_CEPH,
            (What::Copy, Server::Aws) => templates::COPY_AWS,
            (What::Copy, Server::Ceph) => templates::COPY_CEPH,
            (What::Evidence, Server::Aws) => templates::EVIDENCE_AWS,
            (What::Evidence, Server::Ceph) => templates::EVIDENCE_CEPH,
            (What::Bucket | What::Copy | What::Evidence, Server::Minio) => {
                return Err(usage(
                    "on MinIO policies belong to users, not to buckets: print one for each role (writer, verifier, \
                     pruner, prober, replicator)",
                ));
            }
        })
    }
}

/// Bucket and prefix of a vault that an option names.
fn place(option: &str, url: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(url) = url else { return Ok((None, None)) };
    let TargetUrl::S3 { bucket, prefix } = TargetUrl::parse(url)? else {
        return Err(usage(format!(
            "--{option} {url}: policies are for buckets of S3 and its compatibles, named as s3://bucket/prefix; \
             docs/OPERATIONS.md has the roles on Google and Azure"
        )));
    };
    let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
    Ok((Some(bucket), Some(prefix)))
}

/// Fills in what has a value.
fn fill(value: &mut Value, names: &[(&str, &Option<String>)]) {
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
            vault: Some("s3://acme/db1/".into()),
            copy: None,
            server: Server::Aws,
            writer: None,
            verifier: None,
            pruner: None,
            prober: None,
            replicator: None,
            evidence: None,
            max_lock: None,
            config: None,
        }
    }

    #[test]
    fn roles_are_filled_in() {
        for what in [What::Writer, What::Verifier, What::Pruner, What::Prober, What::Replicator] {
            for server in [Server::Aws, Server::Minio] {
                let role = PolicyArgs { server, ..args(what) };
                let text = role.render(&Config::default()).unwrap().to_string();
                assert!(text.contains("arn:aws:s3:::acme/db1/") && !text.contains('$'), "{text}");
            }
        }
        let whole = PolicyArgs { vault: Some("s3://acme".into()), ..args(What::Writer) };
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
            PolicyArgs { vault: Some("/srv/vault".into()), ..args(What::Writer) }
                .render(&Config::default())
                .is_err()
        );
        let minio = PolicyArgs { server: Server::Minio, ..args(What::Bucket) };
        let error = minio.render(&Config::default()).unwrap_err().to_string();
        assert!(error.contains("on MinIO"), "{error}");
    }

    #[test]
    fn a_replicator_s_policy_is_about_the_sides_that_are_named() {
        let both = PolicyArgs { copy: Some("s3://far".into()), ..args(What::Replicator) };
        let copy = PolicyArgs { vault: None, ..both.clone() };
        let nothing = PolicyArgs { copy: None, ..copy.clone() };
        let sids = |args: &PolicyArgs| {
            let policy = args.render(&Config::default()).unwrap();
            let statements = policy["Statement"].as_array().unwrap();
            statements.iter().map(|s| s["Sid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let source = ["LookAtTheVault", "ReadTheVault"];
        let far = ["LookAtTheCopy", "AddToTheCopy", "ReadAllButDataOfTheCopy", "NoEndlessLocks"];
        assert_eq!(sids(&args(What::Replicator)), source);
        assert_eq!(sids(&copy), far);
        assert_eq!(sids(&both), [&source[..], &far[..]].concat());
        assert!(nothing.render(&Config::default()).unwrap_err().to_string().contains("--vault"));
        for server in [Server::Aws, Server::Ceph] {
            let bucket = PolicyArgs { what: What::Copy, server, ..copy.clone() };
            assert!(bucket.render(&Config::default()).is_err(), "nobody is named");
            let bucket = PolicyArgs { replicator: Some("arn:r".into()), ..bucket };
            let text = bucket.render(&Config::default()).unwrap().to_string();
            assert!(text.contains("arn:aws:s3:::far/packs/*") && !text.contains('$'), "{text}");
        }
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
