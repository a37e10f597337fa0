//! What of a walk must be read, in batches: each is read by one thread, and its small files are one frame.

use crossbeam_channel::{Receiver, Sender, bounded};
use keephold_files::meta::LinkTracker;
use keephold_files::walk::{Step, Walk, Walked};
use keephold_files::{Kind, Problem};
use keephold_vault::limits::SMALL_FILE_MAX;
use keephold_vault::tree::TreePath;
use keephold_vault::write::{SmallFiles, SmallReads};

use super::read::Read;
use crate::unchanged::{self, Seen};

/// How many steps a batch has at most, in memory of about half a KiB each.
const BATCH_STEPS: usize = 1024;

/// One step of the walk. `R` is what reading it gave; nothing as long as that is planned.
pub(super) enum Planned<R> {
    Problem(Box<Problem>),
    /// As the last run saw it.
    Seen(Walked, Box<Seen>),
    /// A file that is too large to be read ahead.
    Large(Walked),
    /// Anything else; with the first name of a file, where this is a further one.
    Read(Walked, Option<TreePath>, R),
    /// The end of the walk: so many entries were left out.
    Excluded(u64),
}

/// Consecutive steps.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) steps: Vec<Planned<()>>,
    /// How large its small files were when they were walked.
    pub(super) bytes: u64,
}

/// Consecutive steps, read.
pub(super) struct ReadBatch {
    pub(super) steps: Vec<Planned<Read>>,
    pub(super) files: SmallFiles,
}

/// A batch for a reader, and where it gives it back.
pub(super) type Work = (Batch, Sender<ReadBatch>);

/// Hands batches to the readers, and to the ingest thread, in the order of the walk, where to await each.
pub(super) struct Queues {
    pub(super) work: Sender<Work>,
    pub(super) ingest: Sender<Receiver<ReadBatch>>,
}

impl Queues {
    /// Whether there is still someone to take it.
    fn hand_over(&self, batch: Batch) -> bool {
        let (answer, read) = bounded(1);
        self.work.send((batch, answer)).is_ok() && self.ingest.send(read).is_ok()
    }
}

/// Decides, in the order of the walk, what must be read.
pub(super) fn plan(mut walk: Walk, mut before: unchanged::Reader, queues: &Queues) {
    let mut links = LinkTracker::new();
    let mut batch = Batch::default();
    let mut bytes = 0;
    for step in walk.by_ref() {
        let step = match step {
            Step::Problem(problem) => Planned::Problem(problem),
            Step::Entry(walked) => {
                let first = links.see(&walked);
                let seen = before.find(&walked);
                match (first, seen) {
                    (None, Some(seen)) => Planned::Seen(walked, Box::new(seen)),
                    (None, None) if is_large(&walked) => Planned::Large(walked),
                    (first, _) => {
                        if walked.kind == Kind::File && first.is_none() {
                            batch.bytes += walked.stat.size;
                        }
                        Planned::Read(walked, first, ())
                    }
                }
            }
        };
        batch.steps.push(step);
        let full = batch.bytes >= SmallReads::target(bytes) as u64;
        if full || batch.steps.len() >= BATCH_STEPS {
            bytes += batch.bytes;
            if !queues.hand_over(std::mem::take(&mut batch)) {
                return;
            }
        }
    }
    batch.steps.push(Planned::Excluded(walk.excluded().total()));
    // Nobody takes it once the run is given up.
    let _ = queues.hand_over(batch);
}

pub(super) fn is_large(walked: &Walked) -> bool {
    walked.kind == Kind::File && walked.stat.size > SMALL_FILE_MAX as u64
}
