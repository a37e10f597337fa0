//! The calendar of runs: a row for each month, a cell for each day, so that any day of an audit period is found at a glance.
//! Each state has a sign as well as a colour, since pages are printed in grey.

use crate::report::model::{Job, Period, Run, RunStatus};
use crate::report::words;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const LABEL_WIDTH: i32 = 74;
const PITCH: i32 = 21;
const HEAD_HEIGHT: i32 = 16;
/// A calendar longer than this is cut at its older end: the page must stay a page whatever the period.
const MONTHS_MAX: usize = 26;

/// The calendar, in places of the drawing.
pub(super) struct Calendar {
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) description: String,
    pub(super) heads: Vec<Head>,
    pub(super) months: Vec<Label>,
    pub(super) cells: Vec<Cell>,
}

/// The number of a day above its column.
pub(super) struct Head {
    pub(super) x: i32,
    pub(super) day: i32,
}

/// The name of a month beside its row.
pub(super) struct Label {
    pub(super) y: i32,
    pub(super) text: String,
}

/// One day.
pub(super) struct Cell {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) class: &'static str,
    pub(super) sign: String,
    pub(super) title: String,
}

impl Calendar {
    pub(super) fn of(job: &Job, period: &Period) -> Self {
        let (first, last) = (date(period.from), date(period.until));
        let mut months: Vec<Date> = first
            .first_of_month()
            .series(jiff::Span::new().months(1))
            .take_while(|month| *month <= last)
            .collect();
        let surplus = months.len().saturating_sub(MONTHS_MAX);
        months.drain(..surplus);
        let mut cells = Vec::new();
        let mut labels = Vec::new();
        let mut y = HEAD_HEIGHT;
        for month in &months {
            labels.push(Label { y: y + 13, text: month.strftime("%b %Y").to_string() });
            for day in month
                .series(jiff::Span::new().days(1))
                .take_while(|day| day.month() == month.month())
            {
                if day >= first && day <= last {
                    cells.push(cell(job, day, y, period.until));
                }
            }
            y += PITCH;
        }
        Self {
            width: LABEL_WIDTH + 31 * PITCH,
            height: y,
            description: format!(
                "Calendar of the runs of {}/{} from {first} to {last}: {} seen, {} succeeded",
                job.host, job.job, job.runs_seen, job.runs_succeeded
            ),
            heads: (1..=31)
                .map(|day| Head { x: LABEL_WIDTH + (day - 1) * PITCH + 9, day })
                .collect(),
            months: labels,
            cells,
        }
    }
}

fn date(time: Timestamp) -> Date {
    time.to_zoned_datetime(TimeZone::UTC).date()
}

fn cell(job: &Job, day: Date, y: i32, now: Timestamp) -> Cell {
    let runs: Vec<&Run> = job.runs.shown.iter().filter(|run| date(run.started) == day).collect();
    let (class, sign) = state(job, day, &runs, now);
    let title = if runs.is_empty() {
        format!("{day}: {}", if class == "missed" { "no backup within the RPO" } else { "no run" })
    } else {
        let named: Vec<_> = runs
            .iter()
            .map(|run| format!("#{} {}", run.seq, words::run_status(run.status)))
            .collect();
        format!("{day}: {}", named.join(", "))
    };
    Cell { x: LABEL_WIDTH + (i32::from(day.day()) - 1) * PITCH, y, class, sign, title }
}

fn state(job: &Job, day: Date, runs: &[&Run], now: Timestamp) -> (&'static str, String) {
    let untrusted = runs.iter().any(|run| !run.signature_ok || !run.chain_ok);
    let failed = runs.iter().any(|run| !run.status.has_snapshot());
    let succeeded = runs.iter().any(|run| run.status.has_snapshot());
    let warned = runs.iter().any(|run| run.status == RunStatus::Warnings);
    let sign = |sign: &str| sign.to_owned();
    match (runs.len(), untrusted, failed, succeeded) {
        (0, ..) if missed(job, day, now) => ("missed", sign("?")),
        (0, ..) => ("empty", String::new()),
        (_, true, ..) => ("bad", sign("≠")),
        (_, _, true, false) => ("bad", sign("×")),
        (_, _, true, true) => ("warn", sign("!")),
        _ if warned => ("warn", sign("!")),
        (1, ..) => ("ok", String::new()),
        (number, ..) => ("ok", if number < 100 { number.to_string() } else { sign("…") }),
    }
}

/// Whether the job should have had a good backup on that day and had none.
fn missed(job: &Job, day: Date, now: Timestamp) -> bool {
    if job.rpo_s.is_none() || !job.expected {
        return false;
    }
    if job.newest_success.is_none() {
        return true;
    }
    let Ok(start) = day.to_zoned_datetime(TimeZone::UTC).map(|zoned| zoned.timestamp()) else {
        return false;
    };
    let end = start + SignedDuration::from_hours(24);
    job.gaps.iter().any(|gap| gap.from < end && gap.until.unwrap_or(now) > start)
}

#[cfg(test)]
mod tests {
    use super::Calendar;
    use crate::report::samples;

    #[test]
    fn a_cell_for_each_day_of_the_period() {
        let report = samples::good();
        let calendar = Calendar::of(&report.jobs[0], &report.period);
        assert_eq!(calendar.cells.len(), 36);
        assert_eq!(calendar.months.len(), 2);
        assert_eq!(calendar.cells.iter().filter(|cell| cell.class == "ok").count(), 35);
        assert_eq!(calendar.cells[0].class, "empty", "the 19th is before the first run and no gap");
    }

    #[test]
    fn a_day_without_a_good_backup_is_not_blank() {
        let report = samples::failing();
        let shop = Calendar::of(&report.jobs[0], &report.period);
        let class = |calendar: &Calendar, day: &str| {
            calendar.cells.iter().find(|cell| cell.title.starts_with(day)).unwrap().class
        };
        assert_eq!(class(&shop, "2026-11-21"), "missed");
        assert_eq!(class(&shop, "2026-11-19"), "bad");
        let never = Calendar::of(&report.jobs[1], &report.period);
        assert!(never.cells.iter().all(|cell| cell.class == "missed"));
    }

    #[test]
    fn a_period_of_many_years_stays_a_page() {
        let mut report = samples::good();
        report.period.from = "1999-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(Calendar::of(&report.jobs[0], &report.period).months.len(), super::MONTHS_MAX);
    }
}
