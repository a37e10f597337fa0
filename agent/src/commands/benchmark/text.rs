//! The report for people.

use std::fmt::Write as _;

use keephold_cli::human;

use super::Report;
use super::advice::Bound;
use super::figures::{Figures, TargetFigures};
use crate::commands::table::table;

/// A rate as people read it.
fn rate(bytes_s: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and far below 2^64"
    )]
    let whole = bytes_s.max(0.0) as u64;
    format!("{}/s", human::bytes(whole))
}

/// All of it.
pub(super) fn of(report: &Report) -> String {
    let Report { vault, host, settings, figures, advice } = report;
    let mut out = format!(
        "{vault} from host '{host}', {}\n  threads = {}, compression = {}, uploads = {}, downloads = {}\n\n",
        human::count(figures.cores as u64, "core"),
        settings.threads,
        settings.compression,
        settings.uploads,
        settings.downloads
    );
    let mut rows = Vec::new();
    source(figures, &mut rows);
    steps(report, &mut rows);
    target(&figures.target, &mut rows);
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    out.push_str(&table(&rows, &[2]));
    out.push('\n');
    bounds("a first backup of such data", &advice.backup, &mut out);
    if figures.target.writes.is_empty() {
        out.push_str("  how fast the target takes it isn't known: --write measures it\n");
    }
    bounds("a restore", &advice.restore, &mut out);
    if advice.changes.is_empty() {
        out.push_str("no setting would change much\n");
    } else {
        out.push_str("to change in the table [performance]:\n");
    }
    for change in &advice.changes {
        let _ = writeln!(out, "  {:<18} # {}", change.setting, change.effect);
    }
    left(figures, &mut out);
    for missing in &figures.missing {
        let _ = writeln!(out, "NOT MEASURED: {missing}");
    }
    out
}

fn bounds(what: &str, bounds: &[Bound], out: &mut String) {
    if let Some(first) = bounds.first() {
        let _ = writeln!(out, "{what}: at most {}; {}", rate(first.bytes_s), first.limit.words());
    }
}

type Row = [String; 4];

fn row(group: &str, what: impl Into<String>, figure: String, more: impl Into<String>) -> Row {
    [group.into(), what.into(), figure, more.into()]
}

fn source(figures: &Figures, rows: &mut Vec<Row>) {
    let Some(disk) = &figures.disk else {
        rows.push(row("source", "not read", String::new(), "no path was given"));
        return;
    };
    rows.push(row("source", "walk", format!("{:.0} entries/s", disk.entries_s), ""));
    let of = format!("{}, {}", human::count(disk.files, "file"), human::bytes(disk.bytes));
    rows.push(row("", format!("read, {} at once", disk.threads), rate(disk.read_bytes_s), of));
}

fn steps(report: &Report, rows: &mut Vec<Row>) {
    let Report { figures, settings, .. } = report;
    let sample = format!("sample {}", figures.sample);
    rows.push(row("cpu", "cut and name", rate(figures.cpu.cut), sample));
    for level in &figures.levels {
        let set = if level.level == settings.compression { ", as set" } else { "" };
        let to = format!("to {:.0} %{set}", level.ratio * 100.0);
        rows.push(row("", format!("compress, level {}", level.level), rate(level.bytes_s), to));
    }
    rows.push(row("", "seal and name packs", rate(figures.cpu.seal), ""));
    if let Some(checksums) = figures.cpu.checksums {
        rows.push(row("", "checksums of packs", rate(checksums), ""));
    }
    if let Some(level) = figures.level(settings.compression) {
        let of = format!("on {}", human::count(settings.threads as u64, "thread"));
        rows.push(row("", "all steps together", rate(figures.cpu(level)), of));
    }
}

fn target(target: &TargetFigures, rows: &mut Vec<Row>) {
    let mut group = "target";
    if let Some((median, slowest)) = target.latency_ms {
        let slowest = format!("the slowest {slowest:.1} ms");
        rows.push(row(group, "a small read", format!("{median:.1} ms"), slowest));
        group = "";
    }
    for (what, rates) in [("write", &target.writes), ("read", &target.reads)] {
        for (n, bytes_s) in rates {
            rows.push(row(group, format!("{what}, {n} at once"), rate(*bytes_s), ""));
            group = "";
        }
    }
}

/// What now lies in the vault.
fn left(figures: &Figures, out: &mut String) {
    let Some(written) = &figures.target.written else { return };
    let what = format!(
        "{} of random bytes ({})",
        human::count(written.packs as u64, "pack"),
        human::bytes(written.bytes)
    );
    let _ = match (written.deleted, written.locked_until) {
        (true, _) => writeln!(out, "written and deleted again: {what}"),
        (false, Some(until)) => writeln!(
            out,
            "left in the vault: {what}, locked until {}; `keephold prune` takes them after its grace period",
            until.strftime("%Y-%m-%d %H:%M:%S UTC")
        ),
        (false, None) => writeln!(
            out,
            "left in the vault: {what}, not locked; `keephold prune` takes them after its grace period"
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::super::advice::Advice;
    use super::super::figures::{Cpu, Disk, Level, Written};
    use super::*;
    use crate::performance::Performance;

    #[test]
    fn the_report_is_as_agreed() {
        let settings = Performance { threads: 2, compression: 3, uploads: 5, downloads: 4 };
        let figures = Figures {
            cores: 4,
            sample: "from the files that were read".into(),
            disk: Some(Disk {
                entries_s: 312_000.0,
                read_bytes_s: 4e8,
                files_s: 900.0,
                files: 1234,
                bytes: 1 << 30,
                threads: 4,
            }),
            cpu: Cpu { cut: 2e9, seal: 4e9, checksums: Some(5e8) },
            levels: vec![
                Level { level: 1, bytes_s: 8e8, ratio: 0.42 },
                Level { level: 3, bytes_s: 2e8, ratio: 0.4 },
            ],
            target: TargetFigures {
                latency_ms: Some((21.4, 60.0)),
                writes: vec![(1, 3e7), (3, 8e7)],
                reads: vec![(1, 3e7), (4, 9e7), (8, 1.6e8)],
                written: Some(Written {
                    packs: 9,
                    bytes: 9 << 23,
                    locked_until: Some("2026-11-25T12:15:00Z".parse().unwrap()),
                    deleted: false,
                }),
            },
            missing: vec!["something: why not".into()],
        };
        let advice = Advice::of(&figures, settings);
        let (vault, host) = ("s3://b/p".into(), "db1".into());
        insta::assert_snapshot!(of(&Report { vault, host, settings, figures, advice }));
    }
}
