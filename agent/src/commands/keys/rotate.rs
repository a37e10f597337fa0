//! `keephold keys rotate`: a new signing key; what the old one signed in its time stays good.

use std::fs;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use keephold_cli::exit::usage;
use keephold_cli::keys::{HostKeys, replace};
use keephold_vault::sign::{AllowedSigners, SigningKey, line, time_option};

/// For how long the old key still counts: a run that goes on now loaded it when it began.
const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);
const AFTER: &str = "valid-after";
const BEFORE: &str = "valid-before";
/// The target's clock may be behind this host's by so much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// Replace this host's signing key, and print the lines that the verifier's allowed signers need.
///
/// What the old key signed stays good. It is believed for seven more days, for the sake of a run that goes on now; if it
/// was stolen, say since when, and every record that reached the vault after that, signed with it or with one before it,
/// is a critical finding.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The old key may be in other hands since then, for example 2026-11-20T08:00Z.
    #[arg(long, value_name = "TIME")]
    compromised_since: Option<Timestamp>,
}

pub(super) fn run(args: &RotateArgs, folder: &Path) -> Result<String> {
    let old = HostKeys::load(folder)?.signing.public();
    let now = Timestamp::now();
    if args.compromised_since.is_some_and(|since| since > now) {
        return Err(usage("--compromised-since is still to come"));
    }
    let until = match args.compromised_since {
        Some(since) => since,
        None => now.checked_add(OVERLAP)?,
    };
    let new = SigningKey::generate(old.comment())?;
    let principal = if old.comment().is_empty() { "*" } else { old.comment() };
    let history = folder.join("allowed_signers");
    // Since when the old key counts was noted when it was made, if it wasn't the first.
    let known = fs::read_to_string(&history).unwrap_or_default();
    let body = old.to_openssh();
    let (replaced, earlier): (Vec<&str>, Vec<&str>) =
        known.lines().partition(|line| line.ends_with(&body));
    let mut lines: Vec<String> = earlier
        .into_iter()
        .map(|line| match args.compromised_since {
            Some(since) => capped(line, since),
            None => line.to_owned(),
        })
        .collect();
    let after = replaced.first().and_then(|line| time(line, AFTER));
    lines.push(line(principal, &old, after, Some(until)));
    lines.push(line(principal, &new.public(), Some(now.checked_sub(CLOCK_SLACK)?), None));
    let text = format!("{}\n", lines.join("\n"));
    AllowedSigners::parse(&text)?;
    replace(&history, &text, 0o644)?;
    replace(&folder.join("signing_key"), &new.to_openssh()?, 0o600)?;
    let public = format!("{}\n", new.public().to_openssh());
    replace(&folder.join("signing_key.pub"), &public, 0o644)?;
    Ok(format!(
        "The signing key was replaced; the old one is gone from this host.\n  old  {}, believed until {until}\n  new  {}\n\n\
         Put these lines into the verifier's allowed signers, in place of the old key's line, before the next run:\n\n{text}\n\
         They are also in {}.\n",
        old.fingerprint(),
        new.public().fingerprint(),
        history.display()
    ))
}

/// The line of a key that was replaced earlier, believed until `since` at the longest: whoever could read the key that
/// took its place may have read it before.
fn capped(line: &str, since: Timestamp) -> String {
    match time(line, BEFORE) {
        Some(until) if until > since => {
            line.replace(&time_option(BEFORE, until), &time_option(BEFORE, since))
        }
        _ => line.to_owned(),
    }
}

/// A time among the options of a line that this program wrote.
fn time(line: &str, option: &str) -> Option<Timestamp> {
    let (_, rest) = line.split_once(&format!("{option}=\""))?;
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", rest.split('"').next()?).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(at).ok()
}
