//! What the locks of a configuration's runs come to: the shortest and the longest, and the bound that a policy may set.

use anyhow::Result;
use jiff::SignedDuration;

use super::Lengths;
use crate::config::{self, Config};

/// Bounds are of whole steps of so many days, so that a small change of the configuration needs no new policy.
const CAP_STEP: i64 = 50;
/// What a clock that is ahead, and the time that a run takes, may add, in days.
const CAP_MARGIN: i64 = 7;

/// By how much the locks of packs go beyond their run's expiry: a quarter of its keeping time (an hour at least, thirty
/// days at most), so that what later runs use again needs a new lock only now and then.
pub(crate) fn slack(keep: SignedDuration) -> SignedDuration {
    (keep / 4).clamp(SignedDuration::from_hours(1), SignedDuration::from_hours(30 * 24))
}

/// What runs ask of the vault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// The shortest time for which any job keeps its runs.
    pub(crate) shortest: SignedDuration,
    /// The longest lock that any run sets.
    pub(crate) longest: SignedDuration,
    /// For how long records are locked at least.
    pub(crate) evidence: SignedDuration,
}

impl Needs {
    /// Those of all jobs; without jobs, those of a run on the command line.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let evidence = config::keep(&config.retention.evidence, "retention.evidence")?;
        let default = config.lengths()?;
        let keeps: Vec<_> = config.jobs()?.into_iter().map(|job| job.keep).collect();
        let longest = keeps.iter().map(Lengths::longest).max().unwrap_or(default.longest());
        Ok(Self {
            shortest: keeps.iter().map(|k| k.base().1).min().unwrap_or(default.base().1),
            longest: (longest + slack(longest)).max(evidence),
            evidence,
        })
    }

    /// The longest lock in days that a policy should allow: all that runs need, and little more.
    pub(crate) fn cap_days(&self) -> i64 {
        let least = days(self.longest) + CAP_MARGIN;
        (least + CAP_STEP - 1) / CAP_STEP * CAP_STEP
    }
}

/// Whole days, rounded up.
pub(crate) fn days(length: SignedDuration) -> i64 {
    (length.as_secs() + 86_399) / 86_400
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_policy_s_bound_has_room_for_the_longest_class_and_its_slack() {
        for (text, longest, cap) in [
            ("", 400, 450),
            ("[retention]\nkeep = '100d'\nevidence = '50d'\n", 125, 150),
            ("[retention]\ndaily = '14d'\nyearly = '2500d'\n", 2530, 2550),
            (
                "[[directory]]\nname = 'a'\npaths = ['/etc']\nkeep = '900d'\n[[directory]]\nname = 'b'\npaths = ['/srv']\n",
                930,
                950,
            ),
        ] {
            let config = keephold_cli::config::parse(text, Path::new("keephold.toml")).unwrap();
            let needs = Needs::of(&config).unwrap();
            assert_eq!((days(needs.longest), needs.cap_days()), (longest, cap), "{text}");
        }
    }
}
