//! What each step of the pipeline costs, over data in memory.

use std::time::Duration;

use anyhow::Result;
use keephold_vault::chunk::ChunkBounds;
use keephold_vault::write::measure::Measure;

use super::figures::{Cpu, Level};
use crate::performance::Performance;

/// How long one step is measured.
const STEP_TIME: Duration = Duration::from_millis(600);
/// Levels that are tried beside the one that is set.
const LEVELS: [i32; 5] = [1, 3, 6, 9, 12];

/// Measures all steps on all threads; the checksums only where the target wants them.
pub(super) fn measure(
    sample: &[u8],
    settings: Performance,
    bounds: ChunkBounds,
    checksums: bool,
) -> Result<(Cpu, Vec<Level>)> {
    let measure = Measure { sample, threads: settings.threads, time: STEP_TIME };
    let cpu = Cpu {
        cut: measure.cut(bounds)?.bytes_s,
        seal: measure.seal()?.bytes_s,
        checksums: checksums.then(|| measure.checksums()).transpose()?.map(|rate| rate.bytes_s),
    };
    let mut wanted = LEVELS.to_vec();
    wanted.push(settings.compression);
    wanted.sort_unstable();
    wanted.dedup();
    let mut levels = Vec::new();
    for level in wanted {
        let rate = measure.compress(level)?;
        levels.push(Level { level, bytes_s: rate.bytes_s, ratio: rate.ratio });
    }
    Ok((cpu, levels))
}
