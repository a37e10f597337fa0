//! Proving that locks hold: a canary is put under the lock that a vault's objects get, and attacked.
//!
//! ```text
//! tidy (old canaries) ─▶ controls (may this credential do it at all?) ─▶ canary ─▶ attacks ─▶ judge ─▶ LockProof
//! ```
//! A refusal proves a lock only where the same credential was seen to do the same to an object without one; otherwise it
//! may be the policy that refused, and the result is 'not proven', never good.

mod canary;
mod judge;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use keephold_cli::target::Target;
use keephold_vault::keys::random;
use keephold_vault::sign::SigningKey;
use keephold_vault::store::{Lock, LockMode, LockPolicy, Probe, TargetUrl, open_probe};

use crate::report::model::LockProof;

/// What a proof needs to know.
#[derive(Debug)]
pub struct Proving {
    /// The target, with the prober's credential.
    pub target: Target,
    /// How that credential is called in the proof.
    pub credential: String,
    /// How long the canary is locked.
    pub lock_for: SignedDuration,
    /// Signs the proof.
    pub key: SigningKey,
}

/// Tries to break a lock.
///
/// # Errors
/// What keeps it from being tried at all: a target that can't be reached, a credential that may not write a canary.
pub async fn prove(proving: &Proving) -> Result<LockProof> {
    let target = &proving.target;
    let store = open_probe(&target.url, &target.options, &|name| std::env::var(name).ok())?;
    let started = Timestamp::now();
    let mut session = canary::Session::new(store.as_ref(), proving)?;
    let removed = session.tidy().await.context("removing old canaries")?;
    let held = session.attack().await?;
    session.clear_up().await;
    judge::conclude(proving, session, &held, removed, started)
}

/// The lock that a vault's objects get on this target; `None` where none is asked for.
fn mode(target: &Target) -> Option<LockMode> {
    match (&target.url, target.options.lock) {
        (_, LockPolicy::None) => None,
        (TargetUrl::Local { .. }, _) => Some(LockMode::ImmutableFile),
        (_, LockPolicy::Compliance) => Some(LockMode::Compliance),
        (_, LockPolicy::Governance) => Some(LockMode::Governance),
    }
}

/// A name that no other proof has.
fn fresh_id() -> Result<String> {
    Ok(hex::encode(random::<6>()?))
}

/// The end of a lock that lasts so long from now.
fn lock(mode: LockMode, length: SignedDuration) -> Lock {
    Lock { mode, until: Timestamp::now() + length }
}

type Store<'a> = &'a dyn Probe;
