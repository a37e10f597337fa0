//! How long data is expected to be needed: data of different expected life goes into different packs.
//!
//! A lock holds a whole pack, and as long as anything in it is needed it is extended, or what is needed is stored again
//! and the pack drained. Where all of a pack goes out of use at about the same time, neither costs much. What is known of a
//! file is when it last changed, and that says much: what has been left alone for long mostly goes on being left
//! alone, and what changed lately changes again (Rosenblum and Ousterhout, *The Design and Implementation of a
//! Log-Structured File System*, 1992, whose cleaner separates data by age for that reason). What outlives its pack is
//! read again when that is drained, and by then counts as lasting.
//!
//! Only packing depends on it: a wrong guess costs bytes, nothing else.

/// What wasn't changed for so long counts as lasting, in seconds: two weeks, so that what is worked on each workday, and
/// what is rotated each week, isn't.
const LASTING_AGE_S: i64 = 14 * 86_400;

/// How long data is expected to be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Life {
    /// Not long after it was backed up: it changed lately, or is a stream, such as a dump, that comes anew each time.
    #[default]
    Passing,
    /// For many runs.
    Lasting,
}

impl Life {
    pub(super) const ALL: [Self; 2] = [Self::Passing, Self::Lasting];

    /// What is to be expected of a file that was last changed at `changed_s`, in seconds since 1970 as `now_s` is.
    pub fn expected(changed_s: i64, now_s: i64) -> Self {
        if now_s.saturating_sub(changed_s) >= LASTING_AGE_S { Self::Lasting } else { Self::Passing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_alone_for_two_weeks_lasts() {
        let now = 1_795_000_000;
        for (changed, life) in [
            (now - LASTING_AGE_S, Life::Lasting),
            (now - LASTING_AGE_S + 1, Life::Passing),
            (now, Life::Passing),
            // A clock that is wrong, and a file that says nothing.
            (now + 1, Life::Passing),
            (0, Life::Lasting),
            (i64::MIN, Life::Lasting),
            (i64::MAX, Life::Passing),
        ] {
            assert_eq!(Life::expected(changed, now), life, "{changed}");
        }
    }
}
