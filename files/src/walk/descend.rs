//! How the walk goes on below an entry: by what the plan says of it, and whether it is left out.

use std::io;
use std::sync::Arc;

use keephold_vault::tree::TreePath;
use rustix::fs::OFlags;

use super::engine::Folder;
use super::roots::{Named, Plan};
use super::scan::{Ground, Inside, Item, bump, join, look_at, problem};
use super::{Step, Walked};
use crate::{Kind, Problem, ProblemKind};

/// Decides whether and how to descend.
pub(super) fn go_on(
    ground: &Ground,
    inside: &Inside,
    walked: Walked,
    plan: Option<&Arc<Plan>>,
    left_out: bool,
) -> Item {
    if walked.kind != Kind::Directory || plan.is_some_and(|plan| plan.named.is_some()) {
        return with_plan(walked, plan, Some(inside));
    }
    let other = inside.filter.one_file_system && walked.stat.device != inside.device;
    if other {
        bump(&ground.counters.other_file_systems);
    }
    let pseudo = ground.base.is_host() && is_pseudo(walked.path.as_bytes());
    if !(other || pseudo || left_out) {
        return with_plan(walked, plan, Some(inside));
    }
    if plan.is_some() {
        return with_plan(walked, plan, Some(&Inside { passing: true, ..inside.clone() }));
    }
    let child = pseudo.then(|| Folder::said(Problem::said(
        Some(walked.path.clone()),
        ProblemKind::PseudoSkipped,
        "holds no files of its own, so it isn't descended into; name it as a root to back it up all the same",
    )));
    Item { step: Step::Entry(walked), child }
}

/// A folder on the way to roots: only what is named in it.
pub(super) fn scan_way(ground: &Ground, folder: &Folder, items: &mut Vec<Item>) {
    let Some(plan) = folder.plan.as_ref().filter(|plan| !plan.children.is_empty()) else { return };
    let fd = match ground.base.open_at(folder.bytes(), OFlags::PATH | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(error) => {
            // Otherwise the failure to list it has already been told.
            if items.is_empty() {
                items.push(problem(Problem::new(folder.path.clone(), error)));
            }
            items.extend(
                plan.children.iter().flat_map(|(name, below)| missing(folder, name, below)),
            );
            return;
        }
    };
    for (name, below) in &plan.children {
        let path = match join(folder, name) {
            Ok(path) => path,
            Err(too_deep) => {
                items.push(problem(too_deep));
                continue;
            }
        };
        let Ok(c_name) = std::ffi::CString::new(name.as_slice()) else { continue };
        match look_at(&fd, &c_name, path) {
            Ok(walked) => items.push(with_plan(walked, Some(below), folder.inside.as_ref())),
            Err(gone) if gone.kind == ProblemKind::Vanished => {
                items.extend(missing(folder, name, below));
            }
            Err(other) => items.push(problem(*other)),
        }
    }
}

/// An entry and how the walk goes on below it, by what the plan says of it.
fn with_plan(walked: Walked, plan: Option<&Arc<Plan>>, inside: Option<&Inside>) -> Item {
    let path = walked.path.clone();
    let named = plan.and_then(|plan| plan.named.as_ref());
    let child = match (walked.kind, named) {
        (Kind::Directory, _) => {
            let inside = match named {
                Some(Named::Root(Some(filter))) => Some(Inside {
                    filter: Arc::clone(filter),
                    device: walked.stat.device,
                    passing: false,
                }),
                // A root within a root: merged into it, but on the device that it lies on itself.
                Some(Named::Root(None)) => inside.map(|i| Inside {
                    device: walked.stat.device,
                    passing: false,
                    ..i.clone()
                }),
                _ => inside.cloned(),
            };
            Some(Folder::waiting(Some(path), plan.cloned(), inside))
        }
        (Kind::Symlink, Some(Named::Root(_))) => Some(Folder::said(Problem::said(
            Some(path),
            ProblemKind::RootIsLink,
            "is a symbolic link: the link is backed up, not what it leads to; name the true path as well",
        ))),
        (Kind::Symlink, Some(Named::Way(to))) => Some(Folder::said(Problem::said(
            Some(path),
            ProblemKind::RootThroughLink,
            format!(
                "is a symbolic link on the way to a root, which is backed up as /{}",
                String::from_utf8_lossy(to)
            ),
        ))),
        // Something on the way that is no folder: what was named below it isn't there.
        (_, _) => plan.filter(|plan| !plan.children.is_empty()).map(|plan| {
            let folder = Folder::waiting(Some(path), Some(Arc::clone(plan)), None);
            let gone = plan
                .children
                .iter()
                .flat_map(|(name, below)| missing(&folder, name, below))
                .collect();
            folder.set(gone, false);
            folder
        }),
    };
    Item { step: Step::Entry(walked), child }
}

pub(super) fn missing(folder: &Folder, name: &[u8], below: &Plan) -> Vec<Item> {
    let mut path = folder.bytes().to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let missing = |root: Vec<u8>| Problem {
        path: TreePath::new(root).ok(),
        kind: ProblemKind::RootMissing,
        error: io::Error::new(
            io::ErrorKind::NotFound,
            "doesn't exist, though it is to be backed up; mount it, or take it out of the job",
        ),
    };
    below.roots_below(&path).into_iter().map(|root| problem(missing(root))).collect()
}

fn is_pseudo(path: &[u8]) -> bool {
    matches!(path, b"proc" | b"sys" | b"dev")
}
