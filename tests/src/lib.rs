//! End-to-end tests of Keephold; they are all under `it/`. Here is what they share with the benchmarks: servers and lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on must fail"
)]

pub mod proxy;
pub mod sink;
