//! What interrupted runs of this host left: packs that are stored, and that no segment describes.

use crate::error::Error;
use crate::index::SegmentBuilder;
use crate::record::PackSet;
use crate::store::ObjectKey;
use crate::write::RunContext;
use crate::write::journal;
use crate::write::known::Known;

/// Indexes packs that interrupted runs of this host left.
pub(super) async fn recover(context: &RunContext, known: &mut Known) -> Result<(), Error> {
    for left in journal::left_behind(&known.journal_dir())? {
        if !left.notes.is_empty() {
            tracing::info!(packs = left.notes.len(), "using what an interrupted run has stored");
            let mut segment = SegmentBuilder::default();
            for note in &left.notes {
                segment.add(note.row.clone(), &note.envelope, note.recipients, &note.frames);
            }
            let built = segment.finish(context.vault, &context.secret, &context.envelope)?;
            for copy in &context.copies {
                copy.owe(&built.id, &[], context.retain_until);
            }
            let stored = context
                .store
                .put(&ObjectKey::segment(&built.id), built.bytes.clone(), context.retain_until)
                .await?;
            let mut foreign = PackSet::default();
            for (number, note) in (0u32..).zip(&left.notes) {
                if note.recipients != context.recipients {
                    foreign.insert(number);
                }
            }
            let lock = stored.lock.map(|l| l.until);
            known.stored(&built, stored.version, lock, foreign, Vec::new())?;
            known.unuse(&built.id);
            known.give_all_owed().await;
        }
        left.remove();
    }
    Ok(())
}
