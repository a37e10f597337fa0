//! What a command does with evidence that it has just written: it is stored under lock, or that it isn't is said loudly.

use std::path::Path;

use anyhow::{Result, bail};

use crate::evidence::keep;
use crate::settings::EvidenceTarget;

/// Stores what the folder of reports holds, where a target for it is configured, and says where that is, if it is to.
///
/// # Errors
/// That it is not stored, and where it is instead: the command then ends with 1, whatever it found.
pub(super) async fn store(out: &Path, to: Option<&EvidenceTarget>, say: bool) -> Result<()> {
    let Some(to) = to else { return Ok(()) };
    match keep(out, to).await {
        Ok(kept) => {
            #[expect(clippy::print_stdout, reason = "what the command is for")]
            if say {
                println!("Stored: {}", kept.line());
            }
            Ok(())
        }
        // As text: a hint of the store would be about the agent.
        Err(why) => bail!(
            "the evidence is NOT STORED at {}: {why:#}\n  It is in {}, and the next command that leaves evidence stores it.",
            to.target.url,
            out.display()
        ),
    }
}
