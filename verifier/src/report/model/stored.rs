//! Totals over stored objects, and how much of them was read back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Totals over the objects that unexpired runs need. A number that wasn't counted in this run is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// Objects that unexpired runs need.
    pub needed: Option<u64>,
    /// Those that were listed with their recorded size.
    pub present: Option<u64>,
    /// Bytes in those that are present.
    pub bytes: Option<u64>,
    /// Needed objects of no bytes at all.
    pub zero_byte: Option<u64>,
    /// Needed objects that aren't there.
    pub missing: Option<u64>,
    /// Needed objects hidden by a delete marker.
    pub hidden: Option<u64>,
    /// Versions stored over or beside a needed one.
    pub surplus_versions: Option<u64>,
    /// Packs and index segments that no unexpired run needs; `null` if they were not told apart, as where only some jobs
    /// were verified.
    #[serde(default)]
    pub unneeded: Option<Unneeded>,
    /// Needed objects locked in the required mode until their runs expire.
    pub locked: Option<u64>,
    /// Needed objects that are not.
    pub unlocked: Option<u64>,
    /// The earliest end of a lock among needed objects.
    pub soonest_lock_end: Option<Timestamp>,
}

/// Packs and index segments that no unexpired run needs, by what explains that they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unneeded {
    /// Named by the records of expired runs, or left over in segments that unexpired runs need: it waits for `keephold prune`.
    pub expired: Left,
    /// Of this vault's form, named by no record, and young: perhaps of a run that is under way.
    pub recent: Left,
    /// The same, but older: of runs that never came to their end, or forged.
    pub unfinished: Left,
    /// Named like a pack or an index segment, and not one of this vault: no run leaves such things.
    pub foreign: Left,
}

/// A number of packs and index segments that nothing needs, all their versions counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Packs, or what is named like one.
    pub packs: u64,
    /// Index segments, or what is named like one.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// How much of the stored data was read back, now and by the rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integrity {
    /// Packs whose stored bytes were hashed again.
    pub packs_checked: u64,
    /// Packs that unexpired runs need.
    pub packs_total: u64,
    /// Bytes downloaded and hashed again.
    pub bytes_checked: u64,
    /// Bytes in all needed packs.
    pub bytes_total: u64,
    /// Packs that were also opened, decrypted and decompressed.
    pub packs_opened: u64,
    /// Blobs whose keyed id was recomputed.
    pub blobs_checked: u64,
    /// Blobs in all needed packs, where known.
    pub blobs_total: Option<u64>,
    /// The number of days in which the rotation must read everything once.
    pub rotation_days: Option<u32>,
    /// The longest time in days since any needed pack was last read; `null` if some never was.
    pub oldest_check_days: Option<u32>,
    /// How the packs were chosen, where only some were read.
    pub sampling: Option<Sampling>,
}

/// How a sample was drawn, so that anyone can draw it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// The method, in plain words.
    pub method: String,
    /// The seed, in hex, of a random choice.
    pub seed: Option<String>,
    /// How many there were to choose from.
    pub population: u64,
    /// How many were chosen.
    pub selected: u64,
}
