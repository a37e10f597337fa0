//! Identities: who reads. A file may be protected by a passphrase, and a plugin may ask for a PIN or a touch.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use console::Term;
use keephold_vault::identity::{Ask, IDENTITY_FILE_MAX, Identities, is_protected, unprotect};
use zeroize::Zeroizing;

use crate::exit::usage;

/// The systemd credential (`LoadCredential=`) that holds a passphrase.
const CREDENTIAL: &str = "keephold-passphrase";

/// Whose key opens what was sealed.
#[derive(Debug, Clone, Default, Args)]
pub struct IdentityArgs {
    /// File with an age identity (AGE-SECRET-KEY-1… or AGE-PLUGIN-…), perhaps protected by a passphrase; may be given
    /// several times.
    #[arg(
        short,
        long = "identity",
        env = "KEEPHOLD_IDENTITY",
        hide_env_values = true,
        value_name = "FILE",
        value_delimiter = ':'
    )]
    pub identities: Vec<PathBuf>,
    /// Where the passphrase of a protected one comes from.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

/// Where a passphrase comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// File whose first line is the passphrase of a protected identity; asked for on the terminal otherwise.
    #[arg(long, env = "KEEPHOLD_PASSPHRASE_FILE", hide_env_values = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl IdentityArgs {
    /// Reads the identities.
    ///
    /// # Errors
    /// A usage error if none is given; an error that names the file otherwise.
    pub fn load(&self) -> Result<Identities> {
        if self.identities.is_empty() {
            return Err(usage(
                "reading a backup takes an identity: give --identity FILE (the restore.agekey that `keephold init` made)",
            ));
        }
        let mut text = Zeroizing::new(String::new());
        for path in &self.identities {
            let one = self.passphrase.open(path)?;
            Identities::parse(&one).with_context(|| format!("in {}", path.display()))?;
            text.push_str(&one);
            text.push('\n');
        }
        Ok(Identities::parse_asking(&text, &(Arc::new(Person) as Arc<dyn Ask>))?)
    }
}

impl PassphraseArgs {
    /// The text of an identity file; one that is protected is opened.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(&self, path: &Path) -> Result<Zeroizing<String>> {
        let file = read_identity(path)?;
        if is_protected(&file) {
            let what = format!("Passphrase of {}", path.display());
            let passphrase = self.get(&what)?;
            return unprotect(&file, &passphrase).with_context(|| format!("in {}", path.display()));
        }
        let text = std::str::from_utf8(&file)
            .map_err(|_| usage(format!("{} is no identity file: it is no text", path.display())))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The passphrase: from its file, from systemd, or from whoever sits at the terminal.
    ///
    /// # Errors
    /// Names the file that can't be read; a usage error if there is nobody to ask.
    pub fn get(&self, prompt: &str) -> Result<Zeroizing<String>> {
        match self.stored()? {
            Some(passphrase) => Ok(passphrase),
            None => typed(prompt),
        }
    }

    /// A new passphrase: typed twice, if it is typed.
    ///
    /// # Errors
    /// As [`get`](Self::get); if the two aren't the same.
    pub fn get_new(&self, prompt: &str) -> Result<Zeroizing<String>> {
        if let Some(passphrase) = self.stored()? {
            return Ok(passphrase);
        }
        let first = typed(prompt)?;
        if *typed("The same again")? != *first {
            bail!("the two passphrases differ; nothing was changed");
        }
        Ok(first)
    }

    /// The first line of the passphrase's file, or of systemd's.
    fn stored(&self) -> Result<Option<Zeroizing<String>>> {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| PathBuf::from(folder).join(CREDENTIAL))
            .filter(|path| path.is_file());
        let Some(path) = self.passphrase_file.clone().or(credential) else { return Ok(None) };
        let text = Zeroizing::new(std::fs::read_to_string(&path).with_context(|| {
            usage(format!("the passphrase file {} can't be read", path.display()))
        })?);
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(usage(format!("the first line of {} is empty", path.display())));
        }
        Ok(Some(Zeroizing::new(line.to_owned())))
    }
}

/// A passphrase from whoever sits at the terminal.
fn typed(prompt: &str) -> Result<Zeroizing<String>> {
    Person.secret(prompt).ok_or_else(|| {
        usage(format!(
            "a passphrase is needed, and there is no terminal to ask for it: give --passphrase-file FILE, or the \
             systemd credential {CREDENTIAL}"
        ))
    })
}

/// Reads an identity file, which is never long.
///
/// # Errors
/// Names the file.
pub fn read_identity(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    use std::io::Read;
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(IDENTITY_FILE_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("the identity file {} can't be read", path.display()))?;
    if bytes.len() as u64 > IDENTITY_FILE_MAX {
        return Err(usage(format!("{} is too long for an identity file", path.display())));
    }
    Ok(bytes)
}

/// Whoever sits at the terminal.
#[derive(Debug, Clone, Copy)]
struct Person;

impl Person {
    fn ask(prompt: &str, secret: bool) -> Option<Zeroizing<String>> {
        let term = Term::stderr();
        if !term.is_term() || !std::io::stdin().is_terminal() {
            return None;
        }
        term.write_str(&format!("{prompt}: ")).ok()?;
        let answer = if secret {
            term.read_secure_line().ok()?
        } else {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).ok()?;
            line
        };
        Some(Zeroizing::new(answer.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl Ask for Person {
    fn tell(&self, text: &str) {
        // Nobody to tell is no failure: the plugin goes on, or says what it lacks.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn secret(&self, prompt: &str) -> Option<Zeroizing<String>> {
        Self::ask(prompt, true)
    }

    fn text(&self, prompt: &str) -> Option<String> {
        Self::ask(prompt, false).map(|answer| answer.to_string())
    }

    fn confirm(&self, question: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.unwrap_or("no");
        let answer = Self::ask(&format!("{question} [y = {yes}, n = {no}]"), false)?;
        Some(answer.trim().eq_ignore_ascii_case("y"))
    }
}
