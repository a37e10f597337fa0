//! What every check needs.

use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::read::{Opener, Vault};
use keephold_vault::store::StoreError;

use crate::check::Progress;
use crate::settings::Settings;
use crate::stop::Stop;

/// What every check needs.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) vault: Vault,
    pub(super) opener: Opener,
    pub(super) stop: &'a Stop,
    pub(super) progress: &'a Progress,
    /// When the verification began: the one moment that ages and locks are held against.
    pub(super) now: Timestamp,
}

impl<'a> Context<'a> {
    /// A verification that begins now.
    pub(super) fn new(
        settings: &'a Settings,
        vault: Vault,
        stop: &'a Stop,
        progress: &'a Progress,
    ) -> Self {
        let opener = Opener::with_identities(vault.id(), settings.identities.clone());
        Self { settings, vault, opener, stop, progress, now: Timestamp::now() }
    }
}

/// Whether an error says something about one object, and not about the target or this host: then the object is at
/// fault, and a finding; otherwise nothing is known about it.
pub(super) fn is_about_object(error: &Error) -> bool {
    match error {
        Error::Store(error) => matches!(
            error,
            StoreError::NotFound { .. }
                | StoreError::Truncated { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Altered { .. }
        ),
        Error::Local { .. } | Error::BadKey { .. } | Error::Stopped(_) => false,
        _ => true,
    }
}

/// An error with its causes, each once, as one line.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
