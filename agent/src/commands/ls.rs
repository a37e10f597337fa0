//! `keephold ls`: what is in a snapshot.

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use keephold_cli::exit::Exit;
use keephold_cli::human;
use keephold_vault::Error;
use keephold_vault::read::{Listed, Selection, SnapshotReader};
use keephold_vault::tree::{Entry, EntryKind, TreePath};

use super::json::EntryLine;
use crate::reading::{Choice, ReadArgs, ReadVault, tree_path};

/// List what is in a snapshot.
///
/// Without a path the top is listed. Only what is needed is read, however large the snapshot is.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold ls latest                  the top of the newest snapshot\n  \
    keephold ls -l db1/etc /etc/nginx   a folder, in full\n  \
    keephold ls -r 3f9a2c | grep pg_hba  everything in the snapshot with this id")]
pub(crate) struct LsArgs {
    /// latest, HOST/JOB, HOST/JOB@NUMBER, or the first digits of an id, as `keephold snapshots` shows them.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Choice,
    /// File or folder in it.
    #[arg(value_name = "PATH", default_value = "")]
    pub(crate) path: OsString,
    /// Modes, owners, sizes and times too.
    #[arg(short, long)]
    pub(crate) long: bool,
    /// Everything below, with whole paths.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Print one JSON object for each entry.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// Lists a snapshot of an open vault.
pub(crate) async fn run(args: &LsArgs, open: &ReadVault, out: &mut dyn Write) -> Result<Exit> {
    let run = open.choose(&args.snapshot).await?;
    let reader = open.snapshot(&run)?;
    let path = tree_path(&args.path)?;
    if args.recursive {
        recursive(args, &reader, path, out).await?;
    } else {
        folder(args, &reader, path, out).await?;
    }
    out.flush()?;
    Ok(open.finish(Exit::Done))
}

async fn recursive(
    args: &LsArgs,
    reader: &SnapshotReader,
    path: Option<TreePath>,
    out: &mut dyn Write,
) -> Result<()> {
    let selection = Selection::of(path.clone());
    let mut entries = reader.entries(selection.clone());
    let mut any = path.is_none();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        if selection.covers(&entry.path) {
            any = true;
            print(args, &entry, &entry.path.to_string(), out)?;
        }
    }
    match path {
        Some(path) if !any => Err(Error::NotInSnapshot { path }.into()),
        _ => Ok(()),
    }
}

async fn folder(
    args: &LsArgs,
    reader: &SnapshotReader,
    path: Option<TreePath>,
    out: &mut dyn Write,
) -> Result<()> {
    if let Some(path) = &path {
        match reader.entry(path).await {
            // A folder of which only what lies deeper was backed up has no entry of its own.
            Ok(Entry { kind: EntryKind::Directory, .. }) | Err(Error::NotInSnapshot { .. }) => {}
            Ok(entry) => return print(args, &entry, &entry.path.to_string(), out),
            Err(error) => return Err(error.into()),
        }
    }
    let mut items = reader.list(path.as_ref());
    let mut any = false;
    while let Some(item) = items.next().await {
        any = true;
        let item = item?;
        let name = TreePath::new(item.path().name())
            .map_or_else(|_| item.path().to_string(), |n| n.to_string());
        match &item {
            Listed::Entry(entry) => print(args, entry, &name, out)?,
            Listed::Above(path) if args.json => {
                writeln!(out, "{}", serde_json::to_string(&EntryLine::above(path))?)?;
            }
            Listed::Above(_) if args.long => {
                writeln!(out, "{:<51}{name}/", "d (not backed up itself)")?;
            }
            Listed::Above(_) => writeln!(out, "{name}/")?,
        }
    }
    match path {
        // An empty folder is listed as nothing; what isn't there is an error.
        Some(path) if !any => Ok(reader.entry(&path).await.map(|_| ())?),
        _ => Ok(()),
    }
}

fn print(args: &LsArgs, entry: &Entry, name: &str, out: &mut dyn Write) -> Result<()> {
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&EntryLine::of(entry))?)?;
    } else if args.long {
        writeln!(out, "{}", long(entry, name))?;
    } else {
        let mark = if entry.kind == EntryKind::Directory { "/" } else { "" };
        writeln!(out, "{name}{mark}")?;
    }
    Ok(())
}

/// A line as `ls -l` has it.
pub(crate) fn long(entry: &Entry, name: &str) -> String {
    let meta = &entry.meta;
    let owner = |name: &[u8], number: u32| match name {
        [] => number.to_string(),
        name => TreePath::new(name).map_or_else(|_| number.to_string(), |name| name.to_string()),
    };
    let (size, tail) = match &entry.kind {
        EntryKind::File(content) => (human::bytes(content.size), String::new()),
        EntryKind::Directory => (String::new(), "/".to_owned()),
        EntryKind::Symlink(to) => (String::new(), format!(" -> {}", super::json::shown(to))),
        EntryKind::HardLink(to) => (String::new(), format!(" = {}", super::json::shown(to))),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            (format!("{major}, {minor}"), String::new())
        }
        EntryKind::Fifo | EntryKind::Socket => (String::new(), String::new()),
    };
    let time = Timestamp::from_second(meta.mtime.seconds)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string());
    let (user, group) = (owner(&meta.user, meta.uid), owner(&meta.group, meta.gid));
    format!("{} {user:<8} {group:<8} {size:>10} {time:>16} {name}{tail}", mode(entry))
}

/// Kind and permissions as `ls` writes them.
fn mode(entry: &Entry) -> String {
    let mut text = String::from(match entry.kind {
        EntryKind::Directory => 'd',
        EntryKind::File(_) | EntryKind::HardLink(_) => '-',
        EntryKind::Symlink(_) => 'l',
        EntryKind::CharDevice { .. } => 'c',
        EntryKind::BlockDevice { .. } => 'b',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
    });
    let mode = entry.meta.mode;
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keephold_vault::testing::{VaultMaker, entry};

    use super::*;
    use crate::reading::testing::opened;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: LsArgs,
    }

    async fn printed(maker: &VaultMaker, options: &[&str]) -> Result<String> {
        let cli = Cli::parse_from(["ls", "latest"].iter().chain(options));
        let mut out = Vec::new();
        run(&cli.args, &opened(maker).await, &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    #[tokio::test]
    async fn folders_are_listed_as_ls_does() {
        let mut maker = VaultMaker::new().await.unwrap();
        let content = maker.content(&[7; 5000]).await.unwrap();
        let mut odd = entry("srv/www/x", EntryKind::File(content.clone())).unwrap();
        odd.path = TreePath::new(b"srv/www/\xff\x1b[2J".to_vec()).unwrap();
        odd.meta.mode = 0o4711;
        odd.meta.user = Vec::new();
        let entries = vec![
            entry("etc", EntryKind::Directory).unwrap(),
            entry("etc/empty", EntryKind::Directory).unwrap(),
            entry("etc/hosts", EntryKind::File(content)).unwrap(),
            entry("etc/link", EntryKind::Symlink(b"../srv".to_vec())).unwrap(),
            entry("etc/name", EntryKind::HardLink(b"etc/hosts".to_vec())).unwrap(),
            entry("etc/null", EntryKind::CharDevice { major: 1, minor: 3 }).unwrap(),
            odd,
        ];
        maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
        insta::assert_snapshot!("top", printed(&maker, &["-l"]).await.unwrap());
        insta::assert_snapshot!("folder", printed(&maker, &["-l", "/etc/"]).await.unwrap());
        insta::assert_snapshot!("recursive", printed(&maker, &["-r"]).await.unwrap());
        insta::assert_snapshot!("json", printed(&maker, &["--json", "-r"]).await.unwrap());
        assert_eq!(printed(&maker, &["srv"]).await.unwrap(), "www/\n");
        assert_eq!(printed(&maker, &["etc/hosts"]).await.unwrap(), "etc/hosts\n");
        assert_eq!(printed(&maker, &["etc/empty"]).await.unwrap(), "");
        for options in [&["none"][..], &["-r", "none"]] {
            let error = printed(&maker, options).await.unwrap_err();
            assert_eq!(error.to_string(), "'none' is not in the snapshot");
        }
    }
}
