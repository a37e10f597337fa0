//! Each step of the pipeline by itself: how fast it is, or, for `tests/instructions`, how much work it is.
//!
//! ```text
//! cargo bench -p keephold-vault --features testing      a table of MB/s, one core
//! steps --once STEP                                     one step over fixed bytes, once, and nothing else
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use keephold_vault::Error;
use keephold_vault::testing::steps::{Steps, text};

/// Under the instruction counter everything takes fifty times as long.
const ONCE_LEN: usize = 2 << 20;
const BENCH_LEN: usize = 16 << 20;
/// The fastest of so many rounds: what else the machine does only ever adds.
const ROUNDS: usize = 10;

#[expect(clippy::print_stdout, reason = "a program that prints what it measured")]
fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [once, step] = words.as_slice()
        && once == "--once"
    {
        let mut steps = Steps::new(text(ONCE_LEN))?;
        // Making ready counts too, and is the same for all: the step `none` tells how much that is.
        if step != "none" {
            black_box(steps.run(step)?);
        }
        return Ok(());
    }
    let mut steps = Steps::new(text(BENCH_LEN))?;
    println!("{:10} {:>9}", "step", "MB/s");
    for step in Steps::ALL {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            black_box(steps.run(step)?);
            best = best.min(begun.elapsed());
        }
        let speed = steps.length() as f64 / best.as_secs_f64() / 1e6;
        println!("{step:10} {speed:9.0}");
    }
    Ok(())
}
