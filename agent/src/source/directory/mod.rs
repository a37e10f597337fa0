//! Directories.
//!
//! ```text
//! walk (parallel, in order) ─▶ plan: unchanged? ─▶ batches, in order ─▶ ingest: dedup, tree
//!                                      └─▶ readers: small files, links, metadata ─┘
//! ```
//! Batches keep the order of the walk while several threads read ahead, so that neighbours end up in one frame, and
//! the tree comes out sorted. Memory is bounded by the number of batches and their size.

mod ingest;
mod large;
mod plan;
mod read;

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::bounded;
use keephold_files::Base;
use keephold_files::meta::Names;
use keephold_files::walk::{Options, Walk};
use keephold_vault::record::SourceReport;
use keephold_vault::tree::TreeRoot;
use keephold_vault::write::Writer;

use crate::notes::Notes;
use crate::source::{Counters, Stop, TreeWriter};
use crate::unchanged;

use ingest::Ingest;
use large::Buffers;
use plan::{Queues, plan};
use read::{Age, Reader};

/// How many batches are read ahead beside those that readers are at.
const BATCHES_AHEAD: usize = 2;

/// A directory job.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) options: Options,
}

impl Directory {
    pub(crate) fn report(&self) -> SourceReport {
        let mut excludes = self.options.exclude.clone();
        excludes.extend(self.options.exclude_files.iter().map(|f| format!("@{}", f.display())));
        excludes.extend(self.options.exclude_caches.then(|| "CACHEDIR.TAG".into()));
        excludes.extend(
            self.options.exclude_if_present.iter().map(|n| format!("if present: {}", n.display())),
        );
        excludes.extend(self.options.one_file_system.then(|| "other file systems".into()));
        SourceReport::Directory {
            paths: self.paths.iter().map(|p| p.display().to_string()).collect(),
            excludes,
        }
    }
}

/// Lists of the last run and for the next one.
pub(crate) struct Lists {
    pub(crate) before: unchanged::Reader,
    pub(crate) after: unchanged::Writer,
}

/// Backs a directory job up. Runs on a thread of its own.
pub(crate) fn backup(
    job: &Directory,
    writer: &mut Writer,
    lists: Lists,
    notes: &mut Notes,
    counters: &Counters,
    stop: &Stop,
) -> Result<(TreeRoot, unchanged::Writer)> {
    let base = Base::host().context("the file system's root can't be opened")?;
    let Lists { before, after } = lists;
    let segments = before.segments();
    let walk = Walk::start(&base, &job.paths, &job.options)
        .map_err(|e| keephold_cli::exit::usage(e.to_string()))?;
    let readers = thread::available_parallelism().map_or(2, usize::from);
    let (ingest_in, batches) = bounded(readers + BATCHES_AHEAD);
    let (work_in, work) = bounded(readers + BATCHES_AHEAD);
    let names = Names::of_host();
    let age = Age { now_s: jiff::Timestamp::now().as_second() };
    thread::scope(|scope| {
        let reader = || Reader::new(base.clone(), names.clone(), age, writer.namer().clone());
        for _ in 0..readers {
            let (work, mut reader, spare) = (work.clone(), reader(), writer.spare_buffers());
            scope.spawn(move || reader.run(&work, &spare));
        }
        drop(work);
        let queues = Queues { work: work_in, ingest: ingest_in };
        let planner = scope.spawn(move || plan(walk, before, &queues));
        let mut ingest = Ingest {
            reader: reader(),
            writer,
            notes,
            counters,
            stop,
            segments,
            list: after,
            tree: TreeWriter::default(),
            buffers: Buffers::default(),
        };
        let result = ingest.run(&batches);
        // Whoever still plans or reads ends once nobody takes what they have.
        drop(batches);
        let planned = planner.join();
        result?;
        if planned.is_err() {
            return Err(anyhow!("the walk panicked; please report it"));
        }
        let Ingest { tree, writer, list, .. } = ingest;
        Ok((tree.finish(writer)?, list))
    })
}
