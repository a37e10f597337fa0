//! End to end: the real programs against real folders, real PostgreSQL and real S3 servers.
//!
//! Each module is a promise. `tests/run` builds the programs and starts the servers; a test that lacks something that it
//! needs fails and says what.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on must fail"
)]

mod add_only;
mod also;
mod attacks;
mod azure;
mod bad_input;
mod benchmark;
mod classes;
mod come_back;
mod damage;
mod doctor;
mod dumps;
mod evidence;
#[allow(unreachable_pub, dead_code)]
#[path = "../../vault/tests/gcs_model/mod.rs"]
mod gcs_model;
mod golden;
mod google;
mod interrupted;
mod key_words;
mod keys;
mod least_privilege;
mod memory;
mod mends;
#[allow(unreachable_pub, dead_code)]
#[path = "../../vault/tests/model_server/mod.rs"]
mod model_server;
mod packaging;
mod plugin;
mod policies;
mod prove;
mod prune;
mod prune_beside;
mod replicate;
mod requests;
mod roles;
mod row_deltas;
mod support;
mod terraform;
mod terraform_resources;
mod tidy;
mod two_copies;
