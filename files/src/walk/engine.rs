//! Which folder is read next, by whom, and how their entries come out in order.
//!
//! Folders that wait are kept by path; threads take the first of them, which is the one that will be needed soonest.
//! Once the window is full they pause. The consumer goes through the tree in order; a folder that no thread has begun
//! when it gets there, it reads itself, so that a full window can't block it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use keephold_vault::tree::TreePath;

use super::filter::{Excluded, Filter, pattern_lines};
use super::roots::{Named, Plan};
use super::scan::{Ground, Inside, Item, Scanner, problem};
use super::{Options, Step, WalkError};
use crate::{Base, Problem, ProblemKind};

/// Most threads that read ahead when none are asked for.
const THREADS_MAX: usize = 8;

/// A folder to be read, and its entries once it was.
#[derive(Debug)]
pub(super) struct Folder {
    /// `None` for the base.
    pub path: Option<TreePath>,
    pub plan: Option<Arc<Plan>>,
    /// `None` on the way to a root.
    pub inside: Option<Inside>,
    slot: Mutex<Slot>,
    ready: Condvar,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    Running,
    /// Its items, and whether they count as read ahead.
    Done(Vec<Item>, bool),
}

impl Folder {
    pub(super) fn waiting(
        path: Option<TreePath>,
        plan: Option<Arc<Plan>>,
        inside: Option<Inside>,
    ) -> Arc<Self> {
        Arc::new(Self {
            path,
            plan,
            inside,
            slot: Mutex::new(Slot::Waiting),
            ready: Condvar::new(),
        })
    }

    /// Nothing to read: what is to be said after the entry stands already.
    pub(super) fn said(said: Problem) -> Arc<Self> {
        let folder = Self::waiting(None, None, None);
        folder.set(vec![problem(said)], false);
        folder
    }

    pub(super) fn set(&self, items: Vec<Item>, ahead: bool) {
        *lock(&self.slot) = Slot::Done(items, ahead);
        self.ready.notify_all();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.path.as_ref().map_or(b"", TreePath::as_bytes)
    }

    pub(super) fn is_root(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_root())
    }

    /// Whether it still waits; if so, it is the caller's to read.
    fn claim(&self) -> bool {
        let mut slot = lock(&self.slot);
        let waits = matches!(*slot, Slot::Waiting);
        if waits {
            *slot = Slot::Running;
        }
        waits
    }

    fn wait(&self) -> (Vec<Item>, bool) {
        let mut slot = lock(&self.slot);
        loop {
            if let Slot::Done(items, ahead) = &mut *slot {
                return (std::mem::take(items), *ahead);
            }
            slot = self.ready.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Folders in a heap come by path, the first first.
struct ByPath(Arc<Folder>);

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}
impl Eq for ByPath {}
impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.path.cmp(&other.0.path)
    }
}

#[derive(Default)]
struct Queue {
    folders: BinaryHeap<Reverse<ByPath>>,
    /// Entries read and not yet handed to the consumer.
    ahead: usize,
    closed: bool,
}

struct Shared {
    ground: Ground,
    window: usize,
    queue: Mutex<Queue>,
    work: Condvar,
}

impl Shared {
    /// Reads a folder that the caller has claimed, and puts up the folders in it.
    fn read(&self, scanner: &mut Scanner, folder: &Folder, ahead: bool) {
        let items = catch_unwind(AssertUnwindSafe(|| scanner.scan(&self.ground, folder)))
            .unwrap_or_else(|_| {
                let text = "reading it failed within Keephold; please report this";
                vec![problem(Problem::said(folder.path.clone(), ProblemKind::Io, text))]
            });
        let children: Vec<_> = items
            .iter()
            .filter_map(|item| item.child.as_ref())
            .filter(|child| matches!(*lock(&child.slot), Slot::Waiting))
            .map(|child| Reverse(ByPath(Arc::clone(child))))
            .collect();
        let mut queue = lock(&self.queue);
        if ahead {
            queue.ahead += items.len();
        }
        let more = !children.is_empty();
        queue.folders.extend(children);
        drop(queue);
        folder.set(items, ahead);
        if more {
            self.work.notify_all();
        }
    }

    fn work(&self) {
        let mut scanner = Scanner::default();
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return;
            }
            if queue.ahead < self.window
                && let Some(Reverse(ByPath(folder))) = queue.folders.pop()
            {
                drop(queue);
                if folder.claim() {
                    self.read(&mut scanner, &folder, true);
                }
                queue = lock(&self.queue);
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// A walk under way: an iterator over entries and problems in the order of paths.
///
/// Parents of roots come as entries too, so that a restore makes them again with their modes. The base itself (`/`)
/// has no entry. Dropping the walk ends it.
pub struct Walk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    scanner: Scanner,
    /// From the base down to where the walk is.
    stack: Vec<std::vec::IntoIter<Item>>,
}

impl Walk {
    /// Begins a walk of `roots`, absolute paths within `base`. `/` stands for the whole base.
    ///
    /// Roots that lie within one another are merged. Symbolic links on the way to a root are followed and backed up
    /// beside it; a root that is itself a link is taken as a link, with a problem that says so.
    ///
    /// # Errors
    /// [`WalkError`] if the roots or patterns are wrong. What is wrong with the tree comes as [`Step::Problem`].
    pub fn start(base: &Base, roots: &[PathBuf], options: &Options) -> Result<Self, WalkError> {
        let lines = pattern_lines(options)?;
        let plan = Arc::new(Plan::new(base, roots, |root| Filter::new(root, &lines, options))?);
        let inside = match &plan.named {
            Some(Named::Root(Some(filter))) => {
                let device =
                    rustix::fs::fstat(base.fd()).map_or(0, |raw| crate::stat::numbers(&raw).device);
                Some(Inside { filter: Arc::clone(filter), device, passing: false })
            }
            _ => None,
        };
        let top = Folder::waiting(None, Some(plan), inside);
        let shared = Arc::new(Shared {
            ground: Ground { base: base.clone(), counters: super::filter::Counters::default() },
            window: options.window.max(1),
            queue: Mutex::default(),
            work: Condvar::new(),
        });
        let count = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            count => count,
        };
        let spawn = |number| {
            let shared = Arc::clone(&shared);
            // A thread that can't be had costs speed only: the consumer reads what no thread does.
            thread::Builder::new().name(format!("walk-{number}")).spawn(move || shared.work()).ok()
        };
        let threads = (0..count).filter_map(spawn).collect();
        let mut walk = Self {
            shared: Arc::clone(&shared),
            threads,
            scanner: Scanner::default(),
            stack: Vec::new(),
        };
        walk.enter(&top);
        Ok(walk)
    }

    /// How many entries were left out so far; final once the walk has ended.
    pub fn excluded(&self) -> Excluded {
        self.shared.ground.counters.read()
    }

    fn enter(&mut self, folder: &Folder) {
        if folder.claim() {
            self.shared.read(&mut self.scanner, folder, false);
        }
        let (items, ahead) = folder.wait();
        if ahead {
            self.make_room(items.len());
        }
        self.stack.push(items.into_iter());
    }

    fn make_room(&self, count: usize) {
        let mut queue = lock(&self.shared.queue);
        let was_full = queue.ahead >= self.shared.window;
        queue.ahead = queue.ahead.saturating_sub(count);
        let has_room = queue.ahead < self.shared.window;
        drop(queue);
        if was_full && has_room {
            self.shared.work.notify_all();
        }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            match self.stack.last_mut()?.next() {
                Some(Item { step, child }) => {
                    if let Some(child) = child {
                        self.enter(&child);
                    }
                    return Some(step);
                }
                None => {
                    self.stack.pop();
                }
            }
        }
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("base", &self.shared.ground.base).finish_non_exhaustive()
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in a thread was already turned into a problem.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
