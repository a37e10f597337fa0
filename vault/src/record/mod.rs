//! Run records: one signed object for each run, written last, whatever came of it.

mod model;
mod seal;

pub use model::{
    CopyReport, Cost, DatabaseReport, JobKind, Level, Message, PackSet, PgReport, Record,
    Retention, SegmentRef, Snapshot, SourceReport, Status, Totals,
};
pub use seal::{RecordKey, SealedRecord, seal};
