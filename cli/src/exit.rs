//! How a program ends: exit codes, and errors in words that help.

use std::process::ExitCode;

use keephold_vault::Error as VaultError;
use keephold_vault::store::StoreError;

/// What came of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 3: done, with warnings or findings.
    Findings,
    /// 1: failed.
    Failed,
    /// 2: the command line or the configuration is wrong; nothing was tried.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
        })
    }
}

/// An error of the command line or the configuration: ends with [`Exit::Usage`].
#[derive(Debug)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Makes an error with something to do about it.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    UsageError(text.into()).into()
}

/// A remedy that goes with an error.
#[derive(Debug)]
pub struct Hint(pub String);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hint {}

/// The remedy for an error, where one of its causes knows one.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let vault = cause.downcast_ref::<VaultError>().and_then(VaultError::hint);
        let store = cause.downcast_ref::<StoreError>().and_then(StoreError::hint);
        vault.or(store).map(str::to_owned)
    })
}

/// An error as it is shown: what failed, why (each cause once), what to do.
pub fn render(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Transparent errors repeat what they wrap.
        if !lines.iter().any(|line| line.ends_with(&text)) {
            lines.push(text);
        }
    }
    let mut out = String::new();
    for (depth, line) in lines.iter().enumerate() {
        out.push_str(if depth == 0 { "error: " } else { "  cause: " });
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if let Some(hint) = hint(error) {
        out.push_str("  hint: ");
        out.push_str(&hint);
        out.push('\n');
    }
    out
}

/// The exit that an error ends with.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    // One that `usage` made and that stands as the context of another is no link of the chain of its own.
    if error.downcast_ref::<anyhow::Error>().is_some_and(|context| exit_of(context) == Exit::Usage)
    {
        return Exit::Usage;
    }
    let is_usage = error.chain().any(|cause| {
        cause.is::<UsageError>()
            || matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::Config { .. }))
            || matches!(
                cause.downcast_ref::<VaultError>(),
                Some(VaultError::Store(StoreError::Config { .. }))
            )
    });
    if is_usage { Exit::Usage } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_are_said_once_and_the_remedy_last() {
        let store = StoreError::NoTarget { target: "s3://backups".into() };
        let error = Err::<(), _>(VaultError::from(store)).context("job 'etc' failed").unwrap_err();
        assert_eq!(
            render(&error),
            "error: job 'etc' failed\n  cause: s3://backups does not exist\n  hint: make the bucket (with Object \
             Lock) or the folder first, or correct the vault's URL\n"
        );
        assert_eq!(exit_of(&error), Exit::Failed);
        assert_eq!(exit_of(&usage("no")), Exit::Usage);
        let missing = std::fs::read("/there/is/no/such/file").with_context(|| usage("no file"));
        let missing = missing.context("job 'etc'").unwrap_err();
        assert_eq!(exit_of(&missing), Exit::Usage);
        assert!(render(&missing).contains("  cause: no file\n  cause: No such file"));
    }
}
