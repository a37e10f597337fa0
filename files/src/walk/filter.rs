//! What is left out: patterns, tagged caches, marked folders, other file systems.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Options, WalkError};

/// The name that marks a cache folder, by the Cache Directory Tagging Specification (bford.info/cachedir).
pub(super) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How such a file must begin.
pub(super) const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The lines of all patterns, files of patterns read in.
pub(super) fn pattern_lines(options: &Options) -> Result<Vec<String>, WalkError> {
    let mut lines = options.exclude.clone();
    for file in &options.exclude_files {
        let bytes = fs::read(file).map_err(|error| WalkError::PatternFile {
            file: file.clone(),
            error: error.to_string(),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| WalkError::PatternFile {
            file: file.clone(),
            error: "it isn't UTF-8 text; write other bytes of a name as '?'".to_owned(),
        })?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}

/// What is left out below one root.
#[derive(Debug)]
pub(super) struct Filter {
    matcher: Option<Gitignore>,
    /// Length of the root's path with the slash after it.
    prefix: usize,
    pub caches: bool,
    pub markers: Vec<Vec<u8>>,
    pub one_file_system: bool,
}

impl Filter {
    /// The filter for the root at `root`, a tree path (empty for the base itself).
    pub(super) fn new(root: &[u8], lines: &[String], options: &Options) -> Result<Self, WalkError> {
        let mut builder = GitignoreBuilder::new("");
        // A slip is better told than taken for a name with a bracket in it, which can be written as `\[`.
        builder.allow_unclosed_class(false);
        for line in lines {
            let anchored = anchor(line, root);
            builder.add_line(None, anchored.as_deref().unwrap_or(line)).map_err(|error| {
                WalkError::Pattern { pattern: line.clone(), error: error.to_string() }
            })?;
        }
        let matcher = builder.build().map_err(|error| WalkError::Pattern {
            pattern: lines.join(", "),
            error: error.to_string(),
        })?;
        Ok(Self {
            matcher: (!matcher.is_empty()).then_some(matcher),
            prefix: if root.is_empty() { 0 } else { root.len() + 1 },
            caches: options.exclude_caches,
            markers: options
                .exclude_if_present
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect(),
            one_file_system: options.one_file_system,
        })
    }

    /// Whether there are patterns at all.
    pub(super) fn has_patterns(&self) -> bool {
        self.matcher.is_some()
    }

    /// Whether a pattern leaves out the entry at `path`, a tree path below this filter's root.
    pub(super) fn leaves_out(&self, path: &[u8], is_dir: bool) -> bool {
        let Some(matcher) = &self.matcher else { return false };
        let relative = path.get(self.prefix..).unwrap_or_default();
        let relative = Path::new(std::ffi::OsStr::from_bytes(relative));
        matcher.matched(relative, is_dir).is_ignore()
    }
}

/// A pattern that spells out an absolute path within the root means that path, where a `.gitignore` in the root would
/// take it as relative to the root: `/var/cache` leaves out `/var/cache`, also when the root is `/var`.
fn anchor(line: &str, root: &[u8]) -> Option<String> {
    let (sign, body) = line.strip_prefix('!').map_or(("", line), |body| ("!", body));
    let root = std::str::from_utf8(root).ok().filter(|root| !root.is_empty())?;
    let rest = body.strip_prefix('/')?.strip_prefix(root)?;
    (rest.len() > 1 && rest.starts_with('/')).then(|| format!("{sign}{rest}"))
}

/// How many entries were left out, by reason. Of a folder that is left out, only the folder itself is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Left out by a pattern.
    pub by_pattern: u64,
    /// Left out because their folder is tagged as a cache.
    pub by_cache_tag: u64,
    /// Left out because their folder holds a marker such as `.nobackup`.
    pub by_marker: u64,
    /// Folders of another file system that were not descended into.
    pub other_file_systems: u64,
}

impl Excluded {
    /// All together.
    pub fn total(&self) -> u64 {
        self.by_pattern + self.by_cache_tag + self.by_marker + self.other_file_systems
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub by_pattern: AtomicU64,
    pub by_cache_tag: AtomicU64,
    pub by_marker: AtomicU64,
    pub other_file_systems: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Excluded {
        Excluded {
            by_pattern: self.by_pattern.load(Ordering::Relaxed),
            by_cache_tag: self.by_cache_tag.load(Ordering::Relaxed),
            by_marker: self.by_marker.load(Ordering::Relaxed),
            other_file_systems: self.other_file_systems.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(root: &str, lines: &[&str]) -> Filter {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Filter::new(root.as_bytes(), &lines, &Options::default()).unwrap()
    }

    #[test]
    fn patterns_are_those_of_a_gitignore_in_the_root() {
        let filter = filter(
            "srv/www",
            &["*.log", "!keep.log", "/top", "logs/", "a/**/z", "# note", r"\#odd", "sp\\ "],
        );
        for (path, is_dir, out) in [
            ("srv/www/x.log", false, true),
            ("srv/www/deep/er/x.log", false, true),
            ("srv/www/keep.log", false, false),
            ("srv/www/top", true, true),
            ("srv/www/sub/top", true, false),
            ("srv/www/logs", true, true),
            ("srv/www/logs", false, false),
            ("srv/www/a/b/c/z", false, true),
            ("srv/www/a/z", false, true),
            ("srv/www/#odd", false, true),
            ("srv/www/# note", false, false),
            ("srv/www/sp ", false, true),
        ] {
            assert_eq!(filter.leaves_out(path.as_bytes(), is_dir), out, "{path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        assert!(filter("srv", &["*.tmp"]).leaves_out(b"srv/\xff\xfe.tmp", false));
    }

    #[test]
    fn an_absolute_path_within_the_root_means_that_path() {
        let inner = filter("var", &["/var/cache", "!/var/cache/keep", "/lib"]);
        assert!(inner.leaves_out(b"var/cache", true));
        assert!(!inner.leaves_out(b"var/cache/keep", true));
        assert!(inner.leaves_out(b"var/lib", true));
        assert!(!inner.leaves_out(b"var/various", true));
        assert!(filter("", &["/var/cache"]).leaves_out(b"var/cache", true));
    }
}
