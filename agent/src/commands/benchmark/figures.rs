//! What was measured; rates in bytes a second.

use serde::Serialize;

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    /// Cores of this host that this process may use.
    pub(super) cores: usize,
    /// Where the data for the steps came from.
    pub(super) sample: String,
    pub(super) disk: Option<Disk>,
    pub(super) cpu: Cpu,
    /// Compression at several levels, the lowest first.
    pub(super) levels: Vec<Level>,
    pub(super) target: TargetFigures,
    /// What could not be measured, and why.
    pub(super) missing: Vec<String>,
}

/// Reading the source.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Disk {
    pub(super) entries_s: f64,
    pub(super) read_bytes_s: f64,
    pub(super) files_s: f64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) threads: usize,
}

/// The steps beside compression, on all threads.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cpu {
    pub(super) cut: f64,
    pub(super) seal: f64,
    /// Only where a body needs them: not in a local folder.
    pub(super) checksums: Option<f64>,
}

/// Compression at one of zstd's levels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Level {
    pub(super) level: i32,
    pub(super) bytes_s: f64,
    /// Stored bytes for each byte.
    pub(super) ratio: f64,
}

/// The target.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct TargetFigures {
    /// How long a small read takes: the median and the slowest, in milliseconds.
    pub(super) latency_ms: Option<(f64, f64)>,
    /// Requests at once, and bytes a second.
    pub(super) writes: Vec<(usize, f64)>,
    pub(super) reads: Vec<(usize, f64)>,
    pub(super) written: Option<Written>,
}

/// What was written to the target.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Written {
    pub(super) packs: usize,
    pub(super) bytes: u64,
    /// Until when it is locked; `None` if it isn't.
    pub(super) locked_until: Option<jiff::Timestamp>,
    /// Whether it was deleted again.
    pub(super) deleted: bool,
}

impl Figures {
    pub(super) fn level(&self, level: i32) -> Option<&Level> {
        self.levels.iter().find(|measured| measured.level == level)
    }

    /// All steps together, in bytes of the source: they share the cores.
    pub(super) fn cpu(&self, level: &Level) -> f64 {
        let per_stored = 1.0 / self.cpu.seal + self.cpu.checksums.map_or(0.0, |rate| 1.0 / rate);
        1.0 / (1.0 / self.cpu.cut + 1.0 / level.bytes_s + level.ratio * per_stored)
    }
}
