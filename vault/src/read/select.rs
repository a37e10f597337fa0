//! Which entries of a snapshot are wanted.

use crate::tree::TreePath;

/// Paths that are wanted, each with all below it, and the folders above them, so that a restore can make those as
/// they were. Empty means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Sorted, none within another.
    wanted: Vec<TreePath>,
    /// Folders above the wanted paths, sorted.
    above: Vec<TreePath>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// The given paths with all below them; everything if there are none.
    pub fn of(paths: impl IntoIterator<Item = TreePath>) -> Self {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort();
        let mut wanted: Vec<TreePath> = Vec::new();
        for path in paths {
            // A folder's entries follow it directly, so only the last one can hold the next.
            if !wanted.last().is_some_and(|last| path.is_within(last)) {
                wanted.push(path);
            }
        }
        let mut above: Vec<_> = wanted
            .iter()
            .flat_map(|path| std::iter::successors(path.parent(), TreePath::parent))
            .collect();
        above.sort();
        above.dedup();
        Self { wanted, above }
    }

    /// Whether everything is wanted.
    pub fn is_all(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The paths that were asked for.
    pub fn paths(&self) -> &[TreePath] {
        &self.wanted
    }

    /// Whether a path is wanted itself or below a wanted one.
    pub fn covers(&self, path: &TreePath) -> bool {
        let after = self.wanted.partition_point(|wanted| wanted <= path);
        self.is_all() || after.checked_sub(1).is_some_and(|i| path.is_within(&self.wanted[i]))
    }

    /// Whether a path is a folder above a wanted one.
    pub fn leads_to(&self, path: &TreePath) -> bool {
        self.above.binary_search(path).is_ok()
    }

    /// Whether anything wanted, or above it, may stand at `first` or later and before `end`.
    pub(crate) fn meets(&self, first: &TreePath, end: Option<&TreePath>) -> bool {
        if self.is_all() || self.covers(first) {
            return true;
        }
        let next = |paths: &[TreePath]| {
            let at = paths.partition_point(|path| path < first);
            paths.get(at).is_some_and(|path| end.is_none_or(|end| path < end))
        };
        next(&self.wanted) || next(&self.above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn paths_within_others_fall_away_and_folders_above_are_known() {
        let selection = Selection::of(["a/b", "a/b/c", "d", "a/b-c/x"].map(path));
        assert_eq!(selection.paths(), ["a/b", "a/b-c/x", "d"].map(path));
        for (text, covered, above) in [
            ("a", false, true),
            ("a/b", true, false),
            ("a/b/z", true, false),
            ("a/b-c", false, true),
            ("a/c", false, false),
            ("d/e", true, false),
            ("dd", false, false),
        ] {
            assert_eq!(
                (selection.covers(&path(text)), selection.leads_to(&path(text))),
                (covered, above),
                "{text}"
            );
        }
        assert!(Selection::all().covers(&path("x")));
    }

    #[test]
    fn only_stretches_that_hold_something_wanted_are_met() {
        let selection = Selection::of([path("b/c")]);
        for (first, end, meets) in [
            ("a", Some("b"), false),
            ("a", Some("b/a"), true), // `b` itself, the folder above
            ("b/a", Some("b/b"), false),
            ("b/a", Some("b/d"), true),
            ("b/c/x", Some("b/c/y"), true),
            ("b/d", None, false),
        ] {
            let end = end.map(path);
            assert_eq!(selection.meets(&path(first), end.as_ref()), meets, "{first}");
        }
    }
}
