//! From figures to the one limit, and to the settings that would move it.

use serde::Serialize;

use super::figures::{Figures, Level};
use crate::performance::Performance;

/// A setting is only worth changing for so much more.
const WORTH: f64 = 1.10;
/// Rates that lie this close are the same.
const SAME: f64 = 0.95;
/// Data that shrinks by so much more is worth a higher level where that costs no time.
const SMALLER: f64 = 0.97;

/// What a backup or a restore waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    Disk,
    Cpu,
    Target,
}

impl Limit {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Disk => "reading the source limits it",
            Self::Cpu => "the CPU limits it",
            Self::Target => "the way to the target limits it",
        }
    }
}

/// A bound on a backup, in bytes of the source a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Bound {
    pub(super) limit: Limit,
    pub(super) bytes_s: f64,
}

/// A setting to change, and what comes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Change {
    /// As it stands in the table `[performance]`.
    pub(super) setting: String,
    pub(super) effect: String,
}

/// What the figures come to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Advice {
    /// What bounds a first backup, the lowest bound first.
    pub(super) backup: Vec<Bound>,
    /// What bounds a restore.
    pub(super) restore: Vec<Bound>,
    pub(super) changes: Vec<Change>,
}

impl Advice {
    pub(super) fn of(figures: &Figures, settings: Performance) -> Self {
        let Some(level) = figures.level(settings.compression) else {
            return Self { backup: Vec::new(), restore: Vec::new(), changes: Vec::new() };
        };
        let uploads = settings.uploads;
        let backup = bounds(figures, level, uploads);
        let mut restore = Vec::new();
        if let Some(rate) = at(&figures.target.reads, settings.downloads) {
            restore.push(Bound { limit: Limit::Target, bytes_s: rate / level.ratio.max(0.001) });
        }
        let mut changes = Vec::new();
        if let Some(first) = backup.first() {
            changes.extend(threads(figures, settings, first));
            changes.extend(more(
                &figures.target.writes,
                uploads,
                first.limit,
                "uploads",
                "backups",
            ));
            let tried = changes.last().and_then(|c| c.setting.strip_prefix("uploads = "));
            let uploads = tried.and_then(|n| n.parse().ok()).unwrap_or(uploads);
            changes.extend(compression(figures, level, uploads));
        }
        let reads = &figures.target.reads;
        changes.extend(more(reads, settings.downloads, Limit::Target, "downloads", "restores"));
        Self { backup, restore, changes }
    }
}

/// The bounds of a first backup at one level, the lowest first.
fn bounds(figures: &Figures, level: &Level, uploads: usize) -> Vec<Bound> {
    let mut bounds = vec![Bound { limit: Limit::Cpu, bytes_s: figures.cpu(level) }];
    if let Some(disk) = &figures.disk {
        bounds.push(Bound { limit: Limit::Disk, bytes_s: disk.read_bytes_s });
    }
    if let Some(rate) = at(&figures.target.writes, uploads) {
        bounds.push(Bound { limit: Limit::Target, bytes_s: rate / level.ratio.max(0.001) });
    }
    bounds.sort_by(|a, b| a.bytes_s.total_cmp(&b.bytes_s));
    bounds
}

/// The rate with so many requests at once: that of the nearest number below which was measured, or the least.
fn at(rates: &[(usize, f64)], requests: usize) -> Option<f64> {
    let below = rates.iter().rfind(|(n, _)| *n <= requests);
    below.or(rates.first()).map(|(_, rate)| *rate)
}

fn threads(figures: &Figures, settings: Performance, first: &Bound) -> Option<Change> {
    let cores = figures.cores;
    (first.limit == Limit::Cpu && settings.threads < cores).then(|| Change {
        setting: format!("threads = {cores}"),
        effect: format!("this host has {cores} cores, and {} are used", settings.threads),
    })
}

/// More requests at once, where these raise the throughput of what limits.
fn more(
    rates: &[(usize, f64)],
    now: usize,
    limit: Limit,
    setting: &str,
    what: &str,
) -> Option<Change> {
    let current = at(rates, now).filter(|_| limit == Limit::Target)?;
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let (n, rate) = rates.iter().find(|(_, rate)| *rate >= best * SAME)?;
    (*n > now && *rate > current * WORTH).then(|| Change {
        setting: format!("{setting} = {n}"),
        effect: format!("the target then takes part in {what} {:.1} times as fast", rate / current),
    })
}

/// Another level, where it makes backups faster, or what is stored smaller for nothing.
fn compression(figures: &Figures, now: &Level, uploads: usize) -> Option<Change> {
    let speed = |level: &Level| bounds(figures, level, uploads).first().map_or(0.0, |b| b.bytes_s);
    let current = speed(now);
    let faster = figures
        .levels
        .iter()
        .filter(|level| speed(level) > current * WORTH)
        .max_by(|a, b| speed(a).total_cmp(&speed(b)));
    if let Some(level) = faster {
        let size = (level.ratio / now.ratio.max(0.001) - 1.0) * 100.0;
        let size = if size >= 0.5 {
            format!("{size:.0} % more bytes")
        } else if size <= -0.5 {
            format!("{:.0} % fewer bytes", -size)
        } else {
            "as many bytes".to_owned()
        };
        return Some(Change {
            setting: format!("compression = {}", level.level),
            effect: format!(
                "first backups {:.1} times as fast, {size} stored",
                speed(level) / current
            ),
        });
    }
    // What the target takes isn't known: then the CPU always seems to have nothing else to do.
    figures.target.writes.first()?;
    let smaller = figures
        .levels
        .iter()
        .filter(|level| speed(level) >= current * SAME && level.ratio < now.ratio * SMALLER)
        .min_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    Some(Change {
        setting: format!("compression = {}", smaller.level),
        effect: format!(
            "{:.0} % fewer bytes stored in the same time",
            (1.0 - smaller.ratio / now.ratio) * 100.0
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Cpu, Disk, TargetFigures};
    use super::*;

    const MB: f64 = 1e6;

    fn settings() -> Performance {
        Performance { threads: 2, compression: 3, uploads: 3, downloads: 4 }
    }

    fn figures() -> Figures {
        let level = |level, rate, ratio| Level { level, bytes_s: rate * MB, ratio };
        Figures {
            cores: 2,
            disk: Some(Disk { read_bytes_s: 2000.0 * MB, ..Disk::default() }),
            cpu: Cpu { cut: 2000.0 * MB, seal: 4000.0 * MB, checksums: Some(500.0 * MB) },
            levels: vec![level(1, 800.0, 0.5), level(3, 400.0, 0.4), level(9, 60.0, 0.35)],
            target: TargetFigures {
                writes: vec![(1, 40.0 * MB), (3, 100.0 * MB), (8, 104.0 * MB)],
                reads: vec![(1, 30.0 * MB), (4, 100.0 * MB), (8, 190.0 * MB)],
                ..TargetFigures::default()
            },
            ..Figures::default()
        }
    }

    #[test]
    fn the_slowest_step_is_the_limit_and_settings_move_only_it() {
        // CPU at level 3: 1/2000 + 1/400 + 0.4 × (1/4000 + 1/500), inverted: about 256. The target: 100 / 0.4 = 250.
        let advice = Advice::of(&figures(), settings());
        assert_eq!(advice.backup[0].limit, Limit::Target);
        assert!((advice.backup[0].bytes_s - 250.0 * MB).abs() < MB, "{advice:?}");
        let words: Vec<_> = advice.changes.iter().map(|c| c.setting.as_str()).collect();
        assert_eq!(words, ["downloads = 8"], "{advice:?}");
        assert!((advice.restore[0].bytes_s - 250.0 * MB).abs() < MB);

        // A target ten times as fast: the CPU limits, and a lower level helps.
        let mut fast = figures();
        fast.target.writes.iter_mut().for_each(|(_, rate)| *rate *= 10.0);
        fast.target.reads.clear();
        let advice = Advice::of(&fast, Performance { threads: 1, ..settings() });
        assert_eq!(advice.backup[0].limit, Limit::Cpu);
        assert_eq!(advice.changes[0].setting, "threads = 2");
        assert_eq!(advice.changes[1].setting, "compression = 1");

        // A target ten times as slow: a higher level makes backups faster.
        let mut slow = figures();
        slow.target.writes.iter_mut().for_each(|(_, rate)| *rate /= 10.0);
        let advice = Advice::of(&slow, settings());
        assert_eq!(advice.changes[0].setting, "compression = 9", "{advice:?}");

        // Packs go one by one, and more at once would help.
        let advice = Advice::of(&slow, Performance { uploads: 1, ..settings() });
        assert_eq!(advice.changes[0].setting, "uploads = 3", "{advice:?}");

        // A disk that is slower than all else: the level costs nothing, other settings change nothing.
        let mut disk = figures();
        disk.disk = Some(Disk { read_bytes_s: 50.0 * MB, ..Disk::default() });
        disk.target.reads.clear();
        let advice = Advice::of(&disk, settings());
        assert_eq!(advice.backup[0].limit, Limit::Disk);
        assert_eq!(advice.changes.len(), 1);
        assert!(advice.changes[0].effect.contains("fewer bytes stored in the same time"));
    }

    #[test]
    fn what_was_not_measured_bounds_nothing_and_suggests_nothing() {
        let mut unknown = figures();
        unknown.disk = None;
        unknown.target = TargetFigures::default();
        let advice = Advice::of(&unknown, settings());
        assert_eq!(advice.backup.len(), 1);
        assert!(advice.restore.is_empty());
        // Without the target's figures only the CPU is known, and only a lower level can be said to help.
        assert!(advice.changes.iter().all(|c| c.setting == "compression = 1"), "{advice:?}");
    }
}
