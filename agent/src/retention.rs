//! Retention classes: for how long a run is kept, decided when it starts.
//!
//! The first run of a calendar year, month or ISO week (all in UTC) that stores a snapshot gets that period's class, the
//! longest one that is due; every other run gets the shortest class there is. What counts is the job's chain of
//! records, by the time at which each run started: a failed run has no snapshot and uses no class up, and a clock that
//! was set back finds the classes of that time taken.

pub(crate) mod needs;

use anyhow::Result;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use keephold_cli::exit::usage;

use crate::config;

/// A class, shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// Its word in records and in the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// The class that a record names; `None` for `keep`, and for words of other versions.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// Whether two times lie in the same period of this class.
    pub(crate) fn same_period(self, a: Timestamp, b: Timestamp) -> bool {
        let (a, b) = (date(a), date(b));
        match self {
            Self::Daily => a == b,
            Self::Weekly => {
                let week = |d: Date| (d.iso_week_date().year(), d.iso_week_date().week());
                week(a) == week(b)
            }
            Self::Monthly => (a.year(), a.month()) == (b.year(), b.month()),
            Self::Yearly => a.year() == b.year(),
        }
    }
}

fn date(time: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(time).date()
}

/// What a job's retention settings say, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings<'a> {
    pub(crate) keep: Option<&'a str>,
    /// By class, in the order of [`Class::ALL`].
    pub(crate) classes: [Option<&'a str>; 4],
}

impl Settings<'_> {
    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Understands them; `place` says where they stand, for messages.
    pub(crate) fn read(&self, place: &str) -> Result<Lengths> {
        let named: Vec<(Class, &str)> = Class::ALL
            .into_iter()
            .zip(self.classes)
            .filter_map(|(class, text)| Some((class, text?)))
            .collect();
        if let (Some(_), Some((class, _))) = (self.keep, named.first()) {
            return Err(usage(format!(
                "{place}: `keep` and `{}` contradict each other: set either one length for all runs, or classes",
                class.word()
            )));
        }
        if named.is_empty() {
            let text = self.keep.unwrap_or(config::KEEP_DEFAULT);
            return Ok(Lengths::All(config::keep(text, &format!("{place}: keep"))?));
        }
        let mut lengths: Vec<(Class, SignedDuration)> = Vec::new();
        for (class, text) in named {
            let length = config::keep(text, &format!("{place}: {}", class.word()))?;
            if let Some((smaller, least)) = lengths.last()
                && length < *least
            {
                return Err(usage(format!(
                    "{place}: {} = \"{text}\" is shorter than `{}` is; a longer class must be kept at least as long",
                    class.word(),
                    smaller.word()
                )));
            }
            lengths.push((class, length));
        }
        Ok(Lengths::Classes(lengths))
    }
}

/// For how long the runs of a job are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// All for as long.
    All(SignedDuration),
    /// By class, shortest first, at least one; lengths don't fall.
    Classes(Vec<(Class, SignedDuration)>),
}

impl Lengths {
    /// The class and length of a run that gets no longer one: the shortest. Also of what is never stored.
    pub(crate) fn base(&self) -> (&'static str, SignedDuration) {
        match self {
            Self::All(length) => ("keep", *length),
            Self::Classes(classes) => classes
                .first()
                .map_or(("keep", SignedDuration::ZERO), |(class, length)| (class.word(), *length)),
        }
    }

    /// The classes that must be earned by being the first of a period, longest first.
    pub(crate) fn earned(&self) -> impl Iterator<Item = (Class, SignedDuration)> + '_ {
        let classes: &[_] = match self {
            Self::All(_) => &[],
            Self::Classes(classes) => classes,
        };
        classes.iter().skip(1).rev().copied()
    }

    /// The length of the longest class.
    pub(crate) fn longest(&self) -> SignedDuration {
        match self {
            Self::All(length) => *length,
            Self::Classes(classes) => {
                classes.last().map_or(SignedDuration::ZERO, |(_, length)| *length)
            }
        }
    }

    /// For people: `35d`, or `daily 14d, weekly 56d`.
    pub(crate) fn in_words(&self) -> String {
        let days = |length: SignedDuration| match length.as_hours() {
            hours if hours % 24 == 0 => format!("{}d", hours / 24),
            _ => format!("{length:#}"),
        };
        match self {
            Self::All(length) => days(*length),
            Self::Classes(classes) => classes
                .iter()
                .map(|(class, length)| format!("{} {}", class.word(), days(*length)))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn settings<'a>(keep: Option<&'a str>, classes: [&'a str; 4]) -> Settings<'a> {
        Settings { keep, classes: classes.map(|c| (!c.is_empty()).then_some(c)) }
    }

    #[test]
    fn periods_end_where_the_calendar_says_in_utc() {
        for (class, a, b, same) in [
            (Class::Yearly, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", false),
            (Class::Yearly, "2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z", true),
            // Already the new year where it was written, not in UTC.
            (Class::Yearly, "2027-01-01T00:30:00+01:00", "2026-06-01T00:00:00Z", true),
            (Class::Monthly, "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z", false),
            (Class::Monthly, "2025-03-05T00:00:00Z", "2026-03-05T00:00:00Z", false),
            // 2024-12-30 is a Monday: the first week of 2025 begins in 2024.
            (Class::Weekly, "2024-12-30T00:00:00Z", "2025-01-05T23:59:59Z", true),
            (Class::Weekly, "2024-12-29T23:59:59Z", "2024-12-30T00:00:00Z", false),
            // 2026 has 53 weeks: 2027-01-03 is the Sunday of the last.
            (Class::Weekly, "2026-12-28T00:00:00Z", "2027-01-03T12:00:00Z", true),
            (Class::Weekly, "2027-01-03T12:00:00Z", "2027-01-04T00:00:00Z", false),
            // The first weeks of two years.
            (Class::Weekly, "2024-12-31T00:00:00Z", "2024-01-02T00:00:00Z", false),
        ] {
            assert_eq!(class.same_period(at(a), at(b)), same, "{class:?} {a} {b}");
        }
    }

    #[test]
    fn settings_that_contradict_themselves_are_refused_by_name() {
        for (settings, words) in [
            (settings(Some("35d"), ["14d", "", "", ""]), "`keep` and `daily` contradict"),
            (settings(None, ["14d", "", "10d", ""]), "monthly = \"10d\" is shorter than `daily`"),
            (settings(None, ["", "8w", "", "50d"]), "yearly = \"50d\" is shorter than `weekly`"),
            (settings(None, ["", "soon", "", ""]), "no length of time"),
            (settings(None, ["", "", "", "30y"]), "at most 20 years"),
        ] {
            let error = format!("{:#}", settings.read("[retention]").unwrap_err());
            assert!(error.contains(words) && error.contains("[retention]"), "{error}");
        }
    }

    #[test]
    fn classes_are_read_shortest_first() {
        let lengths = settings(None, ["14d", "8w", "13mo", "7y"]).read("x").unwrap();
        assert_eq!(lengths.base(), ("daily", SignedDuration::from_hours(14 * 24)));
        let earned: Vec<_> = lengths.earned().map(|(class, _)| class).collect();
        assert_eq!(earned, [Class::Yearly, Class::Monthly, Class::Weekly]);
        assert!(lengths.in_words().starts_with("daily 14d, weekly 56d, monthly "), "{lengths:?}");
        // Without the shortest, the next is what all other runs get.
        let lengths = settings(None, ["", "8w", "", "7y"]).read("x").unwrap();
        assert_eq!(lengths.base().0, "weekly");
        assert_eq!(settings(Some("90d"), [""; 4]).read("x").unwrap().in_words(), "90d");
        assert_eq!(Settings::default().read("x").unwrap().in_words(), "35d");
    }

    proptest! {
        /// Whatever is configured: a longer class never keeps a run for less.
        #[test]
        fn classes_only_lengthen(days in prop::array::uniform4(prop::option::of(1_u32..7_000))) {
            let texts = days.map(|d| d.map(|d| format!("{d}d")));
            let classes = texts.each_ref().map(|t| t.as_deref());
            let set: Vec<u32> = days.into_iter().flatten().collect();
            match (Settings { keep: None, classes }).read("x") {
                Ok(lengths) => {
                    prop_assert!(set.is_sorted());
                    let base = lengths.base().1;
                    let earned: Vec<_> = lengths.earned().map(|(_, length)| length).collect();
                    prop_assert!(earned.iter().all(|length| *length >= base));
                    prop_assert!(earned.is_sorted_by(|a, b| a >= b));
                }
                Err(_) => prop_assert!(!set.is_sorted()),
            }
        }
    }
}
