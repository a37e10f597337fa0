//! Which entries and which stretches of which files make the next batch.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::content::{Content, Extent};
use crate::error::Error;
use crate::read::content::{BATCH_EXTENTS_MAX, HashCheck};
use crate::read::fetch::Wanted;
use crate::read::restore::RestoreSink;
use crate::read::versions::concerns_object;
use crate::read::{Selection, SnapshotReader};
use crate::tree::{Entry, EntryKind, TreePath};

/// Most entries in a batch.
const BATCH_ENTRIES_MAX: usize = 8192;
/// Most hard links that are remembered for later: by files outside the selection, or that come in another order than
/// is usual. Beyond it each such name becomes a file of its own, or an error.
const LINKS_MAX: usize = 100_000;

/// What is done in one go.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Folders, made first.
    pub(super) dirs: Vec<Entry>,
    /// Files and parts of files: the first may go on from the batch before, the last go on in the next.
    pub(super) files: Vec<FilePart>,
    /// Links and devices, made last.
    pub(super) others: Vec<Entry>,
    /// Entries that can't be restored.
    pub(super) broken: Vec<(Option<TreePath>, Error)>,
    /// Everything to be fetched.
    pub(super) wanted: Wanted,
    /// How many extents there are in all files, and how many bytes they cover, holes left out.
    extents: usize,
    bytes: u64,
}

/// A stretch of one file.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) entry: Arc<Entry>,
    /// Set in the first part.
    pub(super) begin: Option<HashCheck>,
    /// Where it begins.
    pub(super) start: u64,
    pub(super) extents: Vec<Extent>,
    pub(super) end: PartEnd,
}

#[derive(Debug)]
pub(super) enum PartEnd {
    /// It goes on in the next batch.
    GoesOn,
    /// It ends here.
    Whole,
    /// The rest can't be read.
    Broken(Error),
}

/// Makes plans of the entries of a snapshot.
pub(super) struct Planner {
    reader: SnapshotReader,
    selection: Selection,
    sink: Arc<dyn RestoreSink>,
    plan: Plan,
    /// Files outside the selection that were restored under a hard link's name, and that name.
    outside: HashMap<TreePath, TreePath>,
    /// Hard links to files that come after them.
    late: Vec<Entry>,
}

type Plans = mpsc::Sender<Result<Plan, Error>>;

/// Whoever waits for plans is gone.
struct Gone;

impl Plan {
    fn entries(&self) -> usize {
        self.dirs.len() + self.files.len() + self.others.len() + self.broken.len()
    }

    fn is_full(&self, batch_bytes: usize) -> bool {
        self.bytes.max(self.wanted.bytes()) >= batch_bytes as u64
            || self.extents >= BATCH_EXTENTS_MAX
            || self.entries() >= BATCH_ENTRIES_MAX
    }
}

impl Planner {
    pub(super) fn new(
        reader: SnapshotReader,
        selection: Selection,
        sink: Arc<dyn RestoreSink>,
    ) -> Self {
        let (plan, outside, late) = (Plan::default(), HashMap::new(), Vec::new());
        Self { reader, selection, sink, plan, outside, late }
    }

    /// Plans everything; ends early where nobody wants more.
    pub(super) async fn run(mut self, plans: Plans) {
        let mut entries = self.reader.entries(self.selection.clone());
        while let Some(entry) = entries.next().await {
            let planned = match entry {
                Ok(entry) => self.add(entry, &plans).await,
                Err(error) if concerns_object(&error) => {
                    self.plan.broken.push((None, error));
                    Ok(())
                }
                Err(error) => {
                    let _ = plans.send(Err(error)).await;
                    return;
                }
            };
            if planned.is_err() {
                return;
            }
        }
        // Their files stand in this batch or in one before it.
        self.plan.others.append(&mut self.late);
        let _ = plans.send(Ok(self.plan)).await;
    }

    async fn add(&mut self, entry: Entry, plans: &Plans) -> Result<(), Gone> {
        match &entry.kind {
            EntryKind::Directory => self.plan.dirs.push(entry),
            EntryKind::File(content) => {
                let content = content.clone();
                self.file(entry, &content, plans).await?;
            }
            EntryKind::HardLink(target) => match TreePath::new(target.clone()) {
                Ok(target) => self.link(entry, target, plans).await?,
                Err(error) => {
                    let error = Error::damaged(format!("the hard link '{}'", entry.path), error);
                    self.plan.broken.push((Some(entry.path), error));
                }
            },
            _ => self.plan.others.push(entry),
        }
        self.send_if_full(plans).await
    }

    async fn send_if_full(&mut self, plans: &Plans) -> Result<(), Gone> {
        if !self.plan.is_full(self.reader.settings().batch_bytes) {
            return Ok(());
        }
        let plan = std::mem::take(&mut self.plan);
        plans.send(Ok(plan)).await.map_err(|_| Gone)
    }

    async fn file(&mut self, entry: Entry, content: &Content, plans: &Plans) -> Result<(), Gone> {
        if !self.sink.wants(&entry) {
            return Ok(());
        }
        let entry = Arc::new(entry);
        let mut all = self.reader.extents(content);
        let (mut offset, mut begin) = (0, Some(HashCheck::new(content)));
        loop {
            let (start, mut extents) = (offset, Vec::new());
            let end = loop {
                match all.next().await {
                    None => break PartEnd::Whole,
                    Some(Ok(extent)) => {
                        self.plan.wanted.add(&extent);
                        offset += extent.length();
                        if extent.blob().is_some() {
                            self.plan.bytes += extent.length();
                        }
                        // Holes count too: a list of nothing else must not grow without end.
                        self.plan.extents += 1;
                        extents.push(extent);
                    }
                    Some(Err(error)) => break PartEnd::Broken(error),
                }
                if self.plan.is_full(self.reader.settings().batch_bytes) {
                    break PartEnd::GoesOn;
                }
            };
            let goes_on = matches!(end, PartEnd::GoesOn);
            let (entry, begin) = (Arc::clone(&entry), begin.take());
            let part = FilePart { entry, begin, start, extents, end };
            self.plan.files.push(part);
            if !goes_on {
                return Ok(());
            }
            self.send_if_full(plans).await?;
        }
    }

    /// Plans a further name of a file: as a link where the first name is restored too, else as the file itself.
    async fn link(&mut self, entry: Entry, target: TreePath, plans: &Plans) -> Result<(), Gone> {
        if self.selection.covers(&target) {
            if target < entry.path {
                self.plan.others.push(entry);
            } else if self.late.len() < LINKS_MAX {
                self.late.push(entry);
            } else {
                let error =
                    Error::damaged("the snapshot's tree", "hard links stand before their files");
                self.plan.broken.push((Some(entry.path), error));
            }
            return Ok(());
        }
        if let Some(restored) = self.outside.get(&target) {
            let kind = EntryKind::HardLink(restored.as_bytes().to_vec());
            self.plan.others.push(Entry { kind, ..entry });
            return Ok(());
        }
        let path = entry.path;
        match self.reader.entry(&target).await {
            Ok(Entry { kind: EntryKind::File(content), meta, .. }) => {
                if self.outside.len() < LINKS_MAX {
                    self.outside.insert(target, path.clone());
                }
                let kind = EntryKind::File(content.clone());
                self.file(Entry { path, kind, meta }, &content, plans).await
            }
            Ok(_) => {
                let why = format!("it is a further name of '{target}', which is no file");
                let error = Error::damaged(format!("the hard link '{path}'"), why);
                self.plan.broken.push((Some(path), error));
                Ok(())
            }
            Err(error)
                if concerns_object(&error) || matches!(error, Error::NotInSnapshot { .. }) =>
            {
                self.plan.broken.push((Some(path), error));
                Ok(())
            }
            Err(error) => {
                let _ = plans.send(Err(error)).await;
                Err(Gone)
            }
        }
    }
}
