//! `keephold prune`: takes away what nothing needs any more. Run elsewhere than backups, with a credential of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use jiff::SignedDuration;
use keephold_cli::exit::{Exit, usage};
use keephold_cli::human;
use keephold_cli::keys::{HostKeys, read_secret, write_new};
use keephold_cli::target::TargetArgs;
use keephold_vault::keys::PrunerKey;
use keephold_vault::prune::{Amount, Kind, Report, Settings, Tally, prune};
use keephold_vault::record::RecordKey;
use keephold_vault::sign::AllowedSigners;
use keephold_vault::store::{LockPolicy, ensure_lockable, open_prune};

use super::table::table;
use crate::config::{Config, keep};
use crate::reading::read_signers;

/// Delete what no backup needs any more, once its lock has ended.
///
/// Kept are: what unexpired runs need, the newest good snapshots of each job however old they are, what was stored
/// within the grace period, and whatever is locked. It is meant for another machine than those that back up, with a
/// credential that may delete versions but not bypass locks, and with a pruner key, which opens records and index but no data.
///
/// Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 done, but something was refused or needs a look.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold prune --export-key pruner.key                 on a host that backs up: make the pruner's key, once\n  \
    keephold prune --vault s3://b/p --key pruner.key --signers allowed_signers --dry-run\n  \
    keephold prune --vault s3://b/p --key pruner.key --signers allowed_signers")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Configuration file; only its `[vault]` table is used.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only say what would be deleted.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How many of each job's newest good snapshots to keep, however long ago they expired.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    keep_newest: u16,
    /// Leave what was stored more recently than this: runs that are going on have no record yet.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    grace: String,
    /// Go on although this record (runs/…) can't be read, or what it names: it then holds nothing. May be given several times.
    #[arg(long, value_name = "RECORD")]
    disregard: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// File with the pruner key.
    #[arg(
        long,
        env = "KEEPHOLD_PRUNER_KEY",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Keys"
    )]
    key: Option<PathBuf>,
    /// Whose records to believe: public keys in the form of ssh-keygen's allowed_signers, or one key a line.
    #[arg(
        long,
        env = "KEEPHOLD_SIGNERS",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Keys"
    )]
    signers: Option<PathBuf>,
    /// Write the pruner key of this host's vault to a new file, and do nothing else.
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    export_key: Option<PathBuf>,
    /// Folder with this host's keys, for --export-key.
    #[arg(
        long,
        env = "KEEPHOLD_KEYS",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Keys"
    )]
    keys: Option<PathBuf>,
}

/// Prunes, or makes the key for it.
pub(crate) async fn run(args: &PruneArgs, out: &mut dyn Write) -> Result<Exit> {
    let config = Config::chosen(args.config.as_deref(), args.target.vault.is_some())?;
    if let Some(path) = &args.export_key {
        return export(path, &config.vault.key_folder(args.keys.as_deref()), out);
    }
    let settings = Settings {
        newest: usize::from(args.keep_newest),
        grace: grace(&args.grace)?,
        dry_run: args.dry_run,
        disregard: args.disregard.iter().map(|text| record(text)).collect::<Result<_>>()?,
    };
    let key = pruner_key(args.key.as_deref())?;
    let signers = signers(args.signers.as_deref())?;
    let target = args.target.resolve(&config.vault)?;
    let store = open_prune(&target.url, &target.options, &|name| std::env::var(name).ok())?;
    // Nothing is judged by a clock that is wrong.
    if target.options.lock != LockPolicy::None {
        ensure_lockable(&*store, target.options.lock).await?;
    }
    let report = prune(store, &key, &signers, &settings).await.context("pruning")?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        out.write_all(told(&report, &target.url.to_string()).as_bytes())?;
    }
    out.flush()?;
    Ok(if report.concerns.is_empty() && report.total(|t| t.refused).objects == 0 {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn export(path: &Path, folder: &Path, out: &mut dyn Write) -> Result<Exit> {
    let keys = HostKeys::load(folder)?;
    let key = PrunerKey { vault: keys.fingerprint, metadata: keys.secret.metadata_key() };
    let text = format!(
        "# Keephold pruner key: opens records and index of one vault, names no contents, reads no data\n\
         # vault: {}\n{}\n",
        keys.fingerprint,
        *key.to_text()
    );
    write_new(path, &text, 0o600)?;
    writeln!(
        out,
        "Wrote {}: carry it to the machine that prunes, with this host's signing_key.pub.",
        path.display()
    )?;
    out.flush()?;
    Ok(Exit::Done)
}

fn grace(text: &str) -> Result<SignedDuration> {
    keep(text, "grace")
}

fn record(text: &str) -> Result<RecordKey> {
    text.parse().map_err(|_| {
        usage(format!(
            "--disregard {text}: give a record's whole key, as this command names it (runs/…)"
        ))
    })
}

fn pruner_key(path: Option<&Path>) -> Result<PrunerKey> {
    let Some(path) = path else {
        return Err(usage(
            "pruning takes a pruner key: make it on a host that backs up (keephold prune --export-key FILE), and give it with --key FILE",
        ));
    };
    PrunerKey::from_text(&read_secret(path)?).with_context(|| format!("in {}", path.display()))
}

fn signers(path: Option<&Path>) -> Result<AllowedSigners> {
    let Some(path) = path else {
        return Err(usage(
            "pruning must know whose records to believe: put each host's signing_key.pub in a file, and give it with --signers FILE",
        ));
    };
    let signers = read_signers(path)?;
    if signers.is_empty() {
        return Err(usage(format!(
            "{} lists nobody, so no record can be believed: put each host's signing_key.pub in it",
            path.display()
        )));
    }
    Ok(signers)
}

/// The report, for people.
fn told(report: &Report, url: &str) -> String {
    let mut out = String::new();
    let mut say = |line: String| {
        out.push_str(line.trim_end());
        out.push('\n');
    };
    let deleted = report.total(|t| t.deleted);
    let how_much =
        format!("{}, {}", human::count(deleted.objects, "object"), human::bytes(deleted.bytes));
    say(match (report.blocked, report.dry_run) {
        (true, _) => format!(
            "NOTHING WAS DELETED from {url}: what the records below need isn't known. Otherwise: {how_much}."
        ),
        (false, true) => format!("Would delete from {url}: {how_much}."),
        (false, false) => format!("Deleted from {url}: {how_much}."),
    });
    say(format!(
        "{} read: {} unexpired; {} expired, but among the newest good ones of their job.",
        human::count(report.records, "record"),
        human::number(report.unexpired),
        human::number(report.newest)
    ));
    say(String::new());
    let acted = !report.dry_run && !report.blocked;
    let heads = [
        "",
        if acted { "DELETED" } else { "WOULD GO" },
        "LOCKED",
        "WAITING",
        "REFUSED",
        "KEPT",
        "UNKNOWN",
    ];
    let mut rows = vec![heads.map(String::from).to_vec()];
    let cell = |amount: Amount| match amount.objects {
        0 => "-".to_owned(),
        n => format!("{} ({})", human::number(n), human::bytes(amount.bytes)),
    };
    for (kind, t) in &report.kinds {
        let Tally { deleted, locked, waiting, refused, kept, unknown } = *t;
        let amounts = [deleted, locked, waiting, refused, kept, unknown].map(cell);
        rows.push([word(*kind).to_owned()].into_iter().chain(amounts).collect());
    }
    say(table(&rows, &[1, 2, 3, 4, 5, 6]));
    if !report.locked_until.is_empty() {
        say("Not needed, but locked until some day of:".into());
        for (month, amount) in &report.locked_until {
            let objects = human::count(amount.objects, "object");
            say(format!("  {month}  {objects}, {}", human::bytes(amount.bytes)));
        }
        say(String::new());
    }
    for refusal in &report.refusals {
        say(format!("refused: {refusal}"));
    }
    for concern in &report.concerns {
        say(format!(
            "{}{}: {}",
            if concern.kind.blocks() { "BLOCKS: " } else { "" },
            concern.what,
            concern.why
        ));
    }
    if report.blocked {
        say("Mend what blocks (a newer keephold, a copy of the bucket), or give --disregard RECORD for each.".into());
    }
    out
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Pack => "packs",
        Kind::Segment => "index segments",
        Kind::Record => "run records",
        Kind::Surplus => "bytes put over objects",
        Kind::Marker => "delete markers over nothing",
    }
}

#[cfg(test)]
mod tests {
    use keephold_vault::prune::{Concern, ConcernKind};

    use super::*;

    #[test]
    fn a_report_says_what_how_much_and_until_when() {
        let amount = |objects| Amount { objects, bytes: objects * (16 << 20) };
        let some = Tally {
            deleted: amount(12),
            locked: amount(3),
            kept: amount(400),
            refused: amount(1),
            ..Tally::default()
        };
        let mut report = Report {
            at: "2026-11-23T00:00:00Z".parse().unwrap(),
            dry_run: true,
            blocked: false,
            records: 1200,
            unexpired: 35,
            newest: 2,
            kinds: [
                (Kind::Pack, some),
                (Kind::Segment, Tally { deleted: amount(1), ..Tally::default() }),
            ]
            .into(),
            locked_until: [("2026-12".into(), amount(2)), ("2027-03".into(), amount(1))].into(),
            concerns: vec![],
            refusals: vec!["s3://b refused to delete packs/…: AccessDenied".into()],
        };
        let text = told(&report, "s3://backups/main");
        for words in [
            "Would delete from s3://backups/main: 13 objects, 208 MiB.",
            "1,200 records read: 35 unexpired; 2 expired",
            "WOULD GO",
            "2026-12  2 objects, 32.0 MiB",
            "refused: s3://b refused to delete",
        ] {
            assert!(text.contains(words), "{words:?} is missing:\n{text}");
        }
        report.dry_run = false;
        report.blocked = true;
        report.concerns = vec![Concern {
            kind: ConcernKind::Unreadable,
            what: "runs/db1/etc/20261123T181500Z-7-00000000000000000000000000000000".into(),
            why: "its bytes are not those that its name is the hash of".into(),
        }];
        let text = told(&report, "s3://backups/main");
        assert!(
            text.starts_with("NOTHING WAS DELETED") && text.contains("BLOCKS: runs/db1"),
            "{text}"
        );
    }
}
