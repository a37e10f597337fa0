//! What a run has to say: named, counted, and bounded.

use keephold_vault::record::{Level, Message, Record, Status};

/// Messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) list: Vec<Message>,
    pub(crate) total: u64,
    warned: bool,
    failed: bool,
}

impl Notes {
    /// Adds a message; logs it at once, so that whoever watches sees it when it happens.
    pub(crate) fn add(&mut self, level: Level, code: &str, text: impl Into<String>) {
        let text = text.into();
        match level {
            Level::Note => tracing::info!(code, "{text}"),
            Level::Warning => tracing::warn!(code, "{text}"),
            Level::Error => tracing::error!(code, "{text}"),
        }
        self.warned |= level == Level::Warning;
        self.failed |= level == Level::Error;
        self.total += 1;
        let message = Message { level, code: code.into(), text };
        if self.list.len() < Record::MESSAGES_MAX {
            self.list.push(message);
        } else if level == Level::Error
            && let Some(minor) = self.list.iter_mut().rev().find(|m| m.level != Level::Error)
        {
            // An error is never the one that is left out.
            *minor = message;
        }
    }

    /// What the messages make of the run.
    pub(crate) fn status(&self) -> Status {
        match (self.failed, self.warned) {
            (true, _) => Status::Failed,
            (false, true) => Status::Warning,
            (false, false) => Status::Success,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_kept_however_many_warnings_there_were() {
        let mut notes = Notes::default();
        for n in 0..1000 {
            notes.add(Level::Warning, "changed", n.to_string());
        }
        assert_eq!(notes.status(), Status::Warning);
        notes.add(Level::Error, "root_missing", "/srv is not there");
        assert_eq!(
            (notes.list.len(), notes.total, notes.status()),
            (Record::MESSAGES_MAX, 1001, Status::Failed)
        );
        assert!(notes.list.iter().any(|m| m.level == Level::Error));
    }
}
