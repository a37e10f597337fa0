//! `keephold keys add-recipient` and `retire-recipient`: whom the next run is sealed to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::usage;
use keephold_cli::keys::replace;
use keephold_vault::envelope::Recipients;

const FILE: &str = "recipients";

/// Seal to one more recipient from the next run on.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The recipient (age1…), never the identity.
    recipient: String,
    /// Whose it is, for people.
    #[arg(long, value_name = "WORDS")]
    label: Option<String>,
}

/// Stop sealing to a recipient from the next run on.
#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The recipient (age1…).
    recipient: String,
}

pub(super) fn add(args: &AddArgs, folder: &Path) -> Result<String> {
    let path = folder.join(FILE);
    let text = read(&path)?;
    let one = Recipients::parse(&args.recipient)?;
    let [name] = one.names() else { return Err(usage("name one recipient")) };
    if Recipients::parse(&text)?.names().contains(name) {
        return Ok(format!("{name} is a recipient already; nothing was changed.\n"));
    }
    let mut new = text.trim_end().to_owned();
    if let Some(label) = &args.label {
        new.push_str(&format!("\n# {}", label.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    new.push_str(&format!("\n{name}\n"));
    write(&path, &new)?;
    Ok(format!(
        "{name} was added.\n\
         The next run stores everything once more, sealed to all of:\n{}\
         Runs before it stay closed to the new one. Do the same on every host of this vault.\n",
        list(&new)?
    ))
}

pub(super) fn retire(args: &RetireArgs, folder: &Path) -> Result<String> {
    let path = folder.join(FILE);
    let text = read(&path)?;
    let name = args.recipient.trim();
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(at) = lines.iter().position(|line| line.trim() == name) else {
        return Err(usage(format!(
            "{name} is no recipient of this host; there are:\n{}",
            list(&text)?.trim_end()
        )));
    };
    lines.remove(at);
    // Its label goes with it.
    if at > 0 && lines[at - 1].starts_with('#') {
        lines.remove(at - 1);
    }
    let new = format!("{}\n", lines.join("\n").trim());
    write(&path, &new)?;
    Ok(format!(
        "{name} was retired.\n\
         The next run stores everything once more, sealed to:\n{}\
         Earlier runs stay open to the retired one: keep its identity until the last of them has expired, and if it \
         leaked, take its holder's read access to the vault away. Do the same on every host of this vault.\n",
        list(&new)?
    ))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

fn list(text: &str) -> Result<String> {
    Ok(Recipients::parse(text)?.names().iter().map(|name| format!("  {name}\n")).collect())
}

/// Writes what every later run can use: a set that is empty, or of which a plugin is missing, isn't taken.
fn write(path: &Path, text: &str) -> Result<()> {
    Recipients::parse(text).context("nothing was changed")?;
    replace(path, text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keephold_vault::envelope::Identities;

    #[test]
    fn recipients_come_and_go_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (old, secret) = Identities::generate();
        let (new, _) = Identities::generate();
        fs::write(&path, format!("# restore\n{old}\n")).unwrap();
        let add = |recipient: &str| {
            let args = AddArgs { recipient: recipient.into(), label: Some("escrow\nbank".into()) };
            add(&args, dir.path())
        };
        let retire =
            |recipient: &str| retire(&RetireArgs { recipient: recipient.into() }, dir.path());
        assert!(add(&new).unwrap().contains("stores everything once more"));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("# restore\n{old}\n# escrow bank\n{new}\n")
        );
        assert!(add(&new).unwrap().contains("already"));
        assert!(format!("{:#}", add(&secret).unwrap_err()).contains("secret identity"));
        retire(&old).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("# escrow bank\n{new}\n"));
        assert!(retire(&old).unwrap_err().to_string().contains("there are:"));
        assert!(format!("{:#}", retire(&new).unwrap_err()).contains("nobody could restore"));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("# escrow bank\n{new}\n"));
    }
}
