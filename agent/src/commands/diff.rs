//! `keephold diff`: what changed between two snapshots.

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use keephold_cli::exit::Exit;
use keephold_cli::human;
use keephold_vault::content::Content;
use keephold_vault::read::{Difference, Selection};
use keephold_vault::tree::{Entry, EntryKind, FileTime, Metadata, TreePath};
use serde::Serialize;

use super::json::{EntryLine, kind_word, shown};
use crate::reading::{Choice, ReadArgs, ReadVault, tree_path};

/// Show what changed from one snapshot to another.
///
/// Lines begin with + for what was added, - for what was removed, ~ for what changed, followed by what did. Parts of
/// the tree that both share aren't read, so that two snapshots of millions of files compare in seconds.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold diff db1/etc@40 db1/etc@41\n  \
    keephold diff 3f9a2c db1/home /home/alice --json")]
pub(crate) struct DiffArgs {
    /// The earlier one: HOST/JOB@NUMBER or the first digits of an id, as `keephold snapshots` shows them.
    #[arg(value_name = "FROM")]
    pub(crate) from: Choice,
    /// The later one.
    #[arg(value_name = "TO")]
    pub(crate) to: Choice,
    /// Only what lies in this folder.
    #[arg(value_name = "PATH", default_value = "")]
    pub(crate) path: OsString,
    /// Print one JSON object for each difference.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Serialize)]
struct Line<'a> {
    change: &'a str,
    what: &'a [&'static str],
    before: Option<EntryLine>,
    after: Option<EntryLine>,
}

/// One thing that changed: a word for programs, a phrase for people.
struct Changed {
    word: &'static str,
    text: String,
}

/// Compares two snapshots of an open vault.
pub(crate) async fn run(args: &DiffArgs, open: &ReadVault, out: &mut dyn Write) -> Result<Exit> {
    let (from, to) = (open.choose(&args.from).await?, open.choose(&args.to).await?);
    let (from, to) = (open.snapshot(&from)?, open.snapshot(&to)?);
    let path = tree_path(&args.path)?;
    let selection = Selection::of(path.clone());
    let mut differences = from.differences(&to, &selection);
    let (mut added, mut removed, mut changed) = (0_u64, 0_u64, 0_u64);
    while let Some(difference) = differences.next().await {
        let Difference { before, after } = difference?;
        // Folders above the path are not what was asked about.
        if before.as_ref().or(after.as_ref()).is_some_and(|entry| !selection.covers(&entry.path)) {
            continue;
        }
        let what = match (&before, &after) {
            (Some(before), Some(after)) => compare(before, after),
            _ => Vec::new(),
        };
        let (change, mark, count) = match (&before, &after) {
            (None, _) => ("added", '+', &mut added),
            (_, None) => ("removed", '-', &mut removed),
            // Cut differently, for example, but with the same bytes.
            _ if what.is_empty() => continue,
            _ => ("changed", '~', &mut changed),
        };
        *count += 1;
        if args.json {
            let what: Vec<_> = what.iter().map(|changed| changed.word).collect();
            let [before, after] = [&before, &after].map(|e| e.as_ref().map(EntryLine::of));
            writeln!(
                out,
                "{}",
                serde_json::to_string(&Line { change, what: &what, before, after })?
            )?;
        } else if let Some(entry) = after.or(before) {
            let texts: Vec<_> = what.into_iter().map(|changed| changed.text).collect();
            let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
            let tail =
                if texts.is_empty() { String::new() } else { format!("  ({})", texts.join(", ")) };
            writeln!(out, "{mark} {}{slash}{tail}", entry.path)?;
        }
    }
    if !args.json {
        writeln!(
            out,
            "{} added, {} removed, {} changed",
            human::number(added),
            human::number(removed),
            human::number(changed)
        )?;
    }
    out.flush()?;
    Ok(open.finish(Exit::Done))
}

/// What differs between two entries of one path.
fn compare(before: &Entry, after: &Entry) -> Vec<Changed> {
    let mut all = Vec::new();
    let mut add = |word, text: String| all.push(Changed { word, text });
    match (&before.kind, &after.kind) {
        (EntryKind::File(a), EntryKind::File(b)) => {
            if a.size != b.size {
                add(
                    "content",
                    format!("content {} → {}", human::bytes(a.size), human::bytes(b.size)),
                );
            } else if !same_bytes(a, b) {
                add("content", "content".into());
            }
        }
        (EntryKind::Symlink(a), EntryKind::Symlink(b))
        | (EntryKind::HardLink(a), EntryKind::HardLink(b))
            if a != b =>
        {
            add("target", format!("target {} → {}", shown(a), shown(b)));
        }
        (a, b) if a != b => add("kind", format!("{} → {}", kind_word(a), kind_word(b))),
        _ => {}
    }
    let (a, b) = (&before.meta, &after.meta);
    if a.mode != b.mode {
        add("mode", format!("mode {:04o} → {:04o}", a.mode, b.mode));
    }
    if (a.uid, a.gid, &a.user, &a.group) != (b.uid, b.gid, &b.user, &b.group) {
        add("owner", format!("owner {} → {}", owner(a), owner(b)));
    }
    if a.mtime != b.mtime {
        add("mtime", format!("mtime {} → {}", time(a.mtime), time(b.mtime)));
    }
    if a.xattrs != b.xattrs {
        add("xattrs", "extended attributes".into());
    }
    all
}

/// Whether two contents of one size have the same bytes, however they are cut.
fn same_bytes(a: &Content, b: &Content) -> bool {
    match (a.hash, b.hash) {
        // The hash leaves out holes: with as many bytes in all, only their places could differ.
        (Some(x), Some(y)) if x != y => false,
        _ => {
            a.extents == b.extents
                || (a.hash.is_some() && a.hash == b.hash && !holes(a) && !holes(b))
        }
    }
}

fn holes(content: &Content) -> bool {
    use keephold_vault::content::{Extent, Extents};
    match &content.extents {
        Extents::Inline(extents) => extents.iter().any(|e| matches!(e, Extent::Hole { .. })),
        // Not known without reading the lists: take them for changed where the lists differ.
        Extents::Lists { .. } => true,
    }
}

fn owner(meta: &Metadata) -> String {
    let name = |name: &[u8], number: u32| match TreePath::new(name) {
        Ok(name) => format!("{name}({number})"),
        Err(_) => number.to_string(),
    };
    format!("{}:{}", name(&meta.user, meta.uid), name(&meta.group, meta.gid))
}

fn time(time: FileTime) -> String {
    match Timestamp::new(time.seconds, i32::try_from(time.nanos).unwrap_or(0)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{} s", time.seconds),
    }
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
        args: DiffArgs,
    }

    async fn printed(maker: &VaultMaker, options: &[&str]) -> String {
        let cli = Cli::parse_from(["diff", "db1/files@1", "db1/files@2"].iter().chain(options));
        let mut out = Vec::new();
        run(&cli.args, &opened(maker).await, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn what_was_added_removed_and_changed_is_told() {
        let mut maker = VaultMaker::new().await.unwrap();
        let short = maker.content(b"short").await.unwrap();
        let long = maker.content(&[1; 2000]).await.unwrap();
        let other = maker.content(b"ahort").await.unwrap();
        let file =
            |path: &str, content: &Content| entry(path, EntryKind::File(content.clone())).unwrap();
        let link = |to: &str| entry("d/link", EntryKind::Symlink(to.into())).unwrap();
        let mut before = vec![
            entry("d", EntryKind::Directory).unwrap(),
            file("d/edited", &short),
            file("d/gone", &short),
            file("d/grown", &short),
            link("a"),
            file("d/same", &short),
            file("x", &short),
        ];
        maker.snapshot(before.clone(), "2026-11-20T01:00:00Z").await.unwrap();
        before.remove(2);
        before[1] = file("d/edited", &other);
        before[2] = file("d/grown", &long);
        before[2].meta.mode = 0o600;
        before[2].meta.mtime.seconds += 60;
        before[3] = link("b");
        before[5] = entry("x", EntryKind::Directory).unwrap();
        before[5].meta.uid = 0;
        before[5].meta.user = b"root".to_vec();
        before.push(file("x/new", &short));
        maker.snapshot(before, "2026-11-21T01:00:00Z").await.unwrap();
        insta::assert_snapshot!("text", printed(&maker, &[]).await);
        insta::assert_snapshot!("below", printed(&maker, &["/x/"]).await);
        let json = printed(&maker, &["--json"]).await;
        let lines: Vec<serde_json::Value> =
            json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[2]["what"], serde_json::json!(["content", "mode", "mtime"]));
    }
}
