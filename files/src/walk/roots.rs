//! From roots to a plan: which folders are only passed through, and which are taken whole.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, readlinkat, statat};

use super::WalkError;
use super::filter::Filter;
use crate::Base;

/// How many symbolic links the way to a root may hold; the kernel's own bound.
const LINKS_MAX: usize = 40;

/// What the plan says of one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Why it is named, if it is.
    pub named: Option<Named>,
    /// What lies below it and is named, or on the way to what is.
    pub children: BTreeMap<Vec<u8>, Arc<Plan>>,
}

/// Why a path is named in the plan.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// It is a root; the outermost ones carry the filter for all that lies below.
    Root(Option<Arc<Filter>>),
    /// It is a symbolic link on the way to a root, which stands at the path given.
    Way(Vec<u8>),
}

impl Plan {
    /// Lays out the plan for `roots`, absolute paths in `base`.
    pub(super) fn new(
        base: &Base,
        roots: &[PathBuf],
        filter: impl Fn(&[u8]) -> Result<Filter, WalkError>,
    ) -> Result<Self, WalkError> {
        if roots.is_empty() {
            return Err(WalkError::NoRoot);
        }
        let mut plan = Self::default();
        for root in roots {
            let parts = absolute_parts(root)?;
            let (real, ways) = resolve(base, parts);
            for (link, to) in ways {
                let node = plan.node(&link);
                if node.named.is_none() {
                    node.named = Some(Named::Way(to));
                }
            }
            plan.node(&real).named = Some(Named::Root(None));
        }
        plan.give_filters(&mut Vec::new(), &filter)?;
        Ok(plan)
    }

    /// Whether it is a root itself.
    pub(super) fn is_root(&self) -> bool {
        matches!(self.named, Some(Named::Root(_)))
    }

    fn node(&mut self, parts: &[Vec<u8>]) -> &mut Self {
        let mut here = self;
        for part in parts {
            here = Arc::make_mut(here.children.entry(part.clone()).or_default());
        }
        here
    }

    /// Each outermost root gets its filter; roots within it are merged into it.
    fn give_filters(
        &mut self,
        path: &mut Vec<u8>,
        filter: &impl Fn(&[u8]) -> Result<Filter, WalkError>,
    ) -> Result<(), WalkError> {
        if self.is_root() {
            self.named = Some(Named::Root(Some(Arc::new(filter(path)?))));
            return Ok(());
        }
        for (name, child) in &mut self.children {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            Arc::make_mut(child).give_filters(path, filter)?;
            path.truncate(length);
        }
        Ok(())
    }

    /// The paths of all roots in this plan, itself included, below `path`.
    pub(super) fn roots_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        if self.is_root() {
            found.push(path.to_vec());
        }
        for (name, child) in &self.children {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            found.append(&mut child.roots_below(&below));
        }
        found
    }
}

fn absolute_parts(root: &Path) -> Result<Vec<Vec<u8>>, WalkError> {
    let bad = || WalkError::BadRoot { root: root.to_owned() };
    if !root.is_absolute() {
        return Err(bad());
    }
    let mut parts = Vec::new();
    for part in root.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => parts.push(name.as_bytes().to_vec()),
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => return Err(bad()),
        }
    }
    Ok(parts)
}

/// A link on the way and where the root then stands.
type Way = (Vec<Vec<u8>>, Vec<u8>);

/// Follows the symbolic links on the way to a root, but not the root itself. What can't be looked at stays as it is:
/// the walk says why when it gets there.
fn resolve(base: &Base, parts: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Way>) {
    let mut links: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut todo: std::collections::VecDeque<_> = parts.into();
    while let Some(part) = todo.pop_front() {
        if todo.is_empty() || links.len() >= LINKS_MAX {
            done.push(part);
            continue;
        }
        if let Some(to) = read_link(base, &done, &part) {
            let mut link = done.clone();
            link.push(part);
            links.push(link);
            if to.first() == Some(&b'/') {
                done.clear();
            }
            for piece in to.split(|&b| b == b'/').rev().filter(|p| !p.is_empty() && *p != b".") {
                todo.push_front(piece.to_vec());
            }
            continue;
        }
        if part == b".." {
            done.pop();
        } else {
            done.push(part);
        }
    }
    let real = done.join(&b'/');
    let ways = links.into_iter().map(|link| (link, real.clone())).collect();
    (done, ways)
}

fn read_link(base: &Base, folder: &[Vec<u8>], name: &[u8]) -> Option<Vec<u8>> {
    if name == b".." {
        return None;
    }
    let folder = base.open_at(&folder.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let (kind, _) = crate::stat::from_raw(&stat)?;
    if kind != crate::Kind::Symlink {
        return None;
    }
    Some(readlinkat(&folder, name, Vec::new()).ok()?.into_bytes())
}
