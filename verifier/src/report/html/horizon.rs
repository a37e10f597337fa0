//! The lock horizon: for each snapshot, a bar from when it was taken to when the first of its objects can be deleted.

use crate::report::model::{Job, Run};
use crate::report::words;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

const LABEL_WIDTH: f64 = 96.0;
const PLOT_WIDTH: f64 = 530.0;
const RIGHT_WIDTH: f64 = 99.0;
const PITCH: f64 = 9.5;
const HEAD_HEIGHT: f64 = 20.0;
const ROWS_MAX: usize = 40;
/// Bars that end later are cut, and say when they end: otherwise one kept for ten years would flatten all others.
const AHEAD_DAYS_MAX: i64 = 400;

/// The chart, in places of the drawing.
pub(super) struct Horizon {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) description: String,
    pub(super) now_x: String,
    pub(super) plot_bottom: String,
    pub(super) ticks: Vec<Tick>,
    pub(super) rows: Vec<Row>,
    pub(super) more: usize,
    pub(super) unlocked: usize,
}

/// A month's beginning.
pub(super) struct Tick {
    pub(super) x: String,
    pub(super) text: String,
}

/// One snapshot.
pub(super) struct Row {
    pub(super) text_y: String,
    pub(super) bar_y: String,
    pub(super) label: String,
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) bar_width: String,
    pub(super) expires_x: Option<String>,
    pub(super) expires_y2: String,
    pub(super) end: String,
    pub(super) title: String,
}

impl Horizon {
    /// The chart of the job's unexpired snapshots; `None` if it has none.
    pub(super) fn of(job: &Job, now: Timestamp) -> Option<Self> {
        let kept: Vec<&Run> = job
            .runs
            .shown
            .iter()
            .filter(|run| {
                run.status.has_snapshot() && run.expires.is_none_or(|expires| expires > now)
            })
            .collect();
        let from = kept.iter().map(|run| run.started).min()?;
        let limit = now + SignedDuration::from_hours(24 * AHEAD_DAYS_MAX);
        let until = kept
            .iter()
            .flat_map(|run| [run.lock_until, run.expires])
            .flatten()
            .max()
            .unwrap_or(now)
            .clamp(now + SignedDuration::from_hours(24), limit);
        let axis = Axis { from, until };
        let rows: Vec<_> = kept
            .iter()
            .take(ROWS_MAX)
            .enumerate()
            .map(|(index, run)| row(run, index, &axis))
            .collect();
        let bottom = HEAD_HEIGHT + rows.len() as f64 * PITCH + 2.0;
        let unlocked = kept.iter().filter(|run| run.is_locked() == Some(false)).count();
        Some(Self {
            width: LABEL_WIDTH + PLOT_WIDTH + RIGHT_WIDTH,
            height: bottom + 14.0,
            description: format!(
                "Lock horizon of {}/{}: {} unexpired snapshots, {unlocked} of them not locked until they expire",
                job.host,
                job.job,
                kept.len()
            ),
            now_x: place(axis.x(now)),
            plot_bottom: place(bottom),
            ticks: axis.ticks(),
            rows,
            more: kept.len().saturating_sub(ROWS_MAX),
            unlocked,
        })
    }
}

fn row(run: &Run, index: usize, axis: &Axis) -> Row {
    let y = HEAD_HEIGHT + index as f64 * PITCH;
    let start = axis.x(run.started);
    let (class, end_time, end) = match (run.is_locked(), run.lock_until) {
        (None, _) => ("unknown", run.expires, "not checked".to_owned()),
        (Some(_), None) => ("open", run.expires, "not locked".to_owned()),
        (Some(fully), Some(until)) => {
            (if fully { "locked" } else { "short" }, Some(until), words::day(until))
        }
    };
    let end_x = axis.x(end_time.unwrap_or(run.finished));
    let cut = end_time.is_some_and(|time| time > axis.until);
    Row {
        text_y: place(y + 7.2),
        bar_y: place(y + 1.5),
        label: format!("#{} {}", run.seq, run.started.strftime("%d %b")),
        class,
        x: place(start),
        bar_width: place((end_x - start).max(1.0)),
        // Where the lock ends as it should, the end of the bar says it already.
        expires_x: run
            .expires
            .filter(|time| class == "short" && *time <= axis.until)
            .map(|time| place(axis.x(time))),
        expires_y2: place(y + 8.5),
        end: if cut { format!("→ {end}") } else { end.clone() },
        title: format!(
            "#{} of {}: expires {}, locked until {end}",
            run.seq,
            words::minute(run.started),
            run.expires.map_or_else(|| "at no set time".to_owned(), words::day),
        ),
    }
}

/// A number as an SVG attribute: with one decimal, so that the page doesn't fill with digits.
fn place(value: f64) -> String {
    format!("{value:.1}")
}

struct Axis {
    from: Timestamp,
    until: Timestamp,
}

impl Axis {
    fn x(&self, time: Timestamp) -> f64 {
        let span = self.until.duration_since(self.from).as_secs_f64().max(1.0);
        let part = time.duration_since(self.from).as_secs_f64() / span;
        LABEL_WIDTH + part.clamp(0.0, 1.0) * PLOT_WIDTH
    }

    /// The beginnings of months, as many as can be read.
    fn ticks(&self) -> Vec<Tick> {
        let days = self.until.duration_since(self.from).as_hours() / 24;
        let step = match days {
            ..240 => 1,
            240..600 => 2,
            600..1200 => 6,
            _ => 12,
        };
        let first = self.from.to_zoned_datetime(TimeZone::UTC).date().first_of_month();
        first
            .series(step.months())
            .skip(1)
            .map_while(|month| {
                let time = month.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp();
                (time < self.until).then(|| Tick {
                    x: place(self.x(time)),
                    text: month.strftime("%b %Y").to_string(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Horizon;
    use crate::report::samples;

    #[test]
    fn a_lock_that_ends_early_is_not_drawn_as_one_that_holds() {
        let good = Horizon::of(&samples::good().jobs[0], samples::good().finished).unwrap();
        assert!(good.rows.iter().all(|row| row.class == "locked"));
        let failing = samples::failing();
        let bad = Horizon::of(&failing.jobs[0], failing.finished).unwrap();
        assert!(bad.rows.iter().any(|row| row.class == "open" && row.end == "not locked"));
        assert!(bad.unlocked > 0);
    }

    #[test]
    fn one_snapshot_kept_for_decades_does_not_flatten_the_rest() {
        let mut report = samples::good();
        report.jobs[0].runs.shown[0].lock_until = Some("2066-01-01T00:00:00Z".parse().unwrap());
        let horizon = Horizon::of(&report.jobs[0], report.finished).unwrap();
        assert_eq!(horizon.rows[0].end, "→ 2066-01-01");
        assert!(horizon.rows[1].bar_width.parse::<f64>().unwrap() > 40.0);
    }

    #[test]
    fn without_snapshots_there_is_no_chart() {
        let failing = samples::failing();
        assert!(Horizon::of(&failing.jobs[1], failing.finished).is_none());
    }
}
