//! Restore time against RTO: one bar against its limit, and one that says where the time went.

use crate::report::model::RestoreTest;
use crate::report::words;

const WIDTH: f64 = 725.0;

/// The chart, in places of the drawing.
pub(super) struct RtoChart {
    pub(super) description: String,
    pub(super) limit: Option<Limit>,
    pub(super) top: f64,
    pub(super) height: f64,
    pub(super) parts: Vec<Part>,
}

/// The bar against the RTO.
pub(super) struct Limit {
    pub(super) track_width: String,
    pub(super) within_width: String,
    pub(super) beyond_width: Option<String>,
    pub(super) text_x: String,
    pub(super) anchor: &'static str,
    pub(super) text: String,
    pub(super) taken: String,
    pub(super) class: &'static str,
}

/// One part of the time.
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) width: String,
    pub(super) key_x: i32,
    pub(super) text: String,
}

impl RtoChart {
    pub(super) fn of(test: &RestoreTest) -> Self {
        let limit = test.rto_target_s.map(|target_s| limit(test, target_s));
        let top = if limit.is_some() { 46.0 } else { 0.0 };
        Self {
            description: format!(
                "{} took {}{}",
                test.job,
                words::seconds(test.durations.total_s),
                test.rto_target_s.map_or_else(String::new, |target| format!(
                    ", RTO {}",
                    words::whole_seconds(target)
                ))
            ),
            limit,
            top,
            height: top + 34.0,
            parts: parts(test),
        }
    }
}

fn limit(test: &RestoreTest, target_s: u64) -> Limit {
    let (total, target) = (test.durations.total_s.max(0.0), (target_s as f64).max(1.0));
    let scale = WIDTH / total.max(target);
    let target_x = target * scale;
    let used = total / target * 100.0;
    // A restore that stopped early used little time, and that is nothing to be proud of.
    let class = if test.rto_met == Some(true) { "ok" } else { "bad" };
    Limit {
        track_width: place(target_x),
        within_width: place((total.min(target) * scale).max(2.0)),
        beyond_width: (total > target).then(|| place((total - target) * scale)),
        text_x: place(target_x),
        anchor: "end",
        text: format!("RTO {}", words::whole_seconds(target_s)),
        taken: match test.rto_met {
            None => format!("{} until it stopped", words::seconds(total)),
            Some(_) => format!("{}, {used:.0} % of the RTO", words::seconds(total)),
        },
        class,
    }
}

fn parts(test: &RestoreTest) -> Vec<Part> {
    let durations = &test.durations;
    let parts = [
        ("download", "download and decrypt", durations.download_s),
        ("restore", "restore", durations.restore_s),
        ("checks", "compare", durations.checks_s),
    ];
    let sum: f64 = parts.iter().map(|(_, _, length)| length.max(0.0)).sum();
    let mut x = 0.0;
    parts
        .into_iter()
        .zip([0, 260, 440])
        .map(|((class, name, length), key_x)| {
            let width = if sum > 0.0 { length.max(0.0) / sum * WIDTH } else { 0.0 };
            let part = Part {
                class,
                x: place(x),
                width: place(width),
                key_x,
                text: format!("{name} {}", words::seconds(length)),
            };
            x += width;
            part
        })
        .collect()
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::RtoChart;
    use crate::report::samples;

    #[test]
    fn what_is_beyond_the_limit_is_drawn_beyond_it() {
        let good = samples::good();
        let met = RtoChart::of(&good.restore_tests[0]).limit.unwrap();
        assert!(met.beyond_width.is_none() && met.class == "ok");
        let failing = samples::failing();
        let missed = RtoChart::of(&failing.restore_tests[0]).limit.unwrap();
        assert!(missed.beyond_width.is_some() && missed.class == "bad");
        assert_eq!(missed.taken, "1 h 14 min, 125 % of the RTO");
        let stopped = RtoChart::of(&failing.restore_tests[1]).limit.unwrap();
        assert_eq!((stopped.class, stopped.taken.as_str()), ("bad", "12 s until it stopped"));
    }
}
