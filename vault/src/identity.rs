//! Identities: the secret keys of those who read, in age's files. A file may itself be protected by a passphrase, as
//! `age -p` writes it, and a line may stand for a hardware key that a plugin speaks with (`AGE-PLUGIN-…`).

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use std::sync::Arc;

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::Error;

/// Longest identity file in bytes.
pub const IDENTITY_FILE_MAX: u64 = 64 * 1024;
/// How hard guessing a passphrase is made: scrypt with 2^18 rounds, as the `age` program uses. Takes 256 MiB and about a second.
const WORK_FACTOR: u8 = 18;
/// The most that a file may ask for: each step doubles memory and time, and 2^20 take 1 GiB.
const WORK_FACTOR_MAX: u8 = 20;
/// Shortest passphrase in characters that is taken for a new file.
const PASSPHRASE_MIN: usize = 12;

/// Who is asked where a key needs a person: a PIN, a touch, an answer.
pub trait Ask: Send + Sync {
    /// Shows something, such as "touch the key".
    fn tell(&self, text: &str);
    /// Asks for something secret; `None` if there is nobody to ask.
    fn secret(&self, prompt: &str) -> Option<Zeroizing<String>>;
    /// Asks for something that may be seen.
    fn text(&self, prompt: &str) -> Option<String>;
    /// Asks a question that has one or two answers; `None` if there is nobody to ask.
    fn confirm(&self, question: &str, yes: &str, no: Option<&str>) -> Option<bool>;
}

/// Nobody is there: in a scheduled run.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn tell(&self, _: &str) {}

    fn secret(&self, _: &str) -> Option<Zeroizing<String>> {
        None
    }

    fn text(&self, _: &str) -> Option<String> {
        None
    }

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }
}

/// [`Ask`] as age's plugins want it.
#[derive(Clone)]
struct Callbacks(Arc<dyn Ask>);

impl age::Callbacks for Callbacks {
    fn display_message(&self, message: &str) {
        self.0.tell(message);
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.0.confirm(message, yes, no)
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.text(description)
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.secret(description).map(|answer| SecretString::from(answer.as_str().to_owned()))
    }
}

/// Who reads: the secret identities of restore, verifier or escrow.
#[derive(Clone)]
pub struct Identities {
    keys: Arc<[Box<dyn age::Identity + Send + Sync>]>,
    public: Vec<String>,
    plugins: usize,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({} …)", self.len())
    }
}

impl Identities {
    /// Reads an age identity file: `AGE-SECRET-KEY-1…` or `AGE-PLUGIN-…` lines, `#` comments. Nobody can be asked for a
    /// PIN.
    ///
    /// # Errors
    /// As [`parse_asking`](Self::parse_asking).
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_asking(text, &(Arc::new(Nobody) as Arc<dyn Ask>))
    }

    /// The same; plugins ask `ask` for a PIN or a touch when something is opened.
    ///
    /// # Errors
    /// [`Error::BadKey`] if a line is none, if there is none at all, or if a plugin's program isn't installed. The
    /// message never holds key material.
    pub fn parse_asking(text: &str, ask: &Arc<dyn Ask>) -> Result<Self, Error> {
        let mut keys: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
        let mut plugins: Vec<age::plugin::Identity> = Vec::new();
        let mut public = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Ok(key) = age::x25519::Identity::from_str(line) {
                public.push(key.to_public().to_string());
                keys.push(Box::new(key));
            } else if let Ok(key) = age::plugin::Identity::from_str(line) {
                plugins.push(key);
            } else {
                let why = if line.starts_with("age1") {
                    "it is a public recipient, not the secret identity (AGE-SECRET-KEY-1…)"
                } else if is_protected(line.as_bytes()) {
                    "it is protected by a passphrase, and stands among others: name it as a file of its own"
                } else {
                    "it is no age identity (AGE-SECRET-KEY-1…), or it has a typing error"
                };
                return Err(Error::BadKey {
                    what: format!("the identity in line {}", number + 1),
                    why: why.into(),
                });
            }
        }
        let mut kinds: Vec<String> = plugins.iter().map(|p| p.plugin().to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let callbacks = Callbacks(ask.clone());
            let plugin =
                age::plugin::IdentityPluginV1::new(&kind, &plugins, callbacks).map_err(|e| {
                    Error::BadKey {
                        what: format!("an identity of the plugin age-plugin-{kind}"),
                        why: missing_plugin(&e),
                    }
                })?;
            keys.push(Box::new(plugin));
        }
        if keys.is_empty() {
            return Err(Error::BadKey {
                what: "the identity".into(),
                why: "the file holds none".into(),
            });
        }
        Ok(Self { keys: keys.into(), public, plugins: plugins.len() })
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.public.len() + self.plugins
    }

    /// The recipients (`age1…`) that belong to them; those of plugins aren't known.
    pub fn public(&self) -> &[String] {
        &self.public
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(dyn age::Identity + Send + Sync)> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// Draws a new identity; answers its recipient and the identity as text.
    pub fn generate() -> (String, Zeroizing<String>) {
        let identity = age::x25519::Identity::generate();
        (
            identity.to_public().to_string(),
            Zeroizing::new(identity.to_string().expose_secret().to_owned()),
        )
    }
}

/// What to say where a plugin can't be had.
pub(crate) fn missing_plugin(error: &age::plugin::ResolveError) -> String {
    match error {
        age::plugin::ResolveError::MissingPlugin { binary_name } => {
            format!("install the program {binary_name}, or put it into the PATH: it isn't there")
        }
        other => other.to_string(),
    }
}

/// Whether an identity file is protected by a passphrase.
pub fn is_protected(file: &[u8]) -> bool {
    let file = file.trim_ascii_start();
    file.starts_with(b"age-encryption.org/")
        || file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

/// Protects an identity file by a passphrase; what comes out is armoured text that `age -d` opens, too.
///
/// # Errors
/// [`Error::BadKey`] if the passphrase is too short to protect anything.
pub fn protect(identity: &str, passphrase: &str) -> Result<String, Error> {
    let bad = |why: String| Error::BadKey { what: "the passphrase".into(), why };
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(bad(format!(
            "it has fewer than {PASSPHRASE_MIN} characters; take several words"
        )));
    }
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(WORK_FACTOR);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _))
        .map_err(|e| bad(e.to_string()))?;
    let io = |e: std::io::Error| bad(e.to_string());
    let mut armour = armour(Vec::new()).map_err(io)?;
    let mut writer = encryptor.wrap_output(&mut armour).map_err(io)?;
    writer.write_all(identity.as_bytes()).map_err(io)?;
    writer.finish().map_err(io)?;
    String::from_utf8(armour.finish().map_err(io)?).map_err(|e| bad(e.to_string()))
}

/// Opens an identity file that is protected by a passphrase.
///
/// # Errors
/// [`Error::BadKey`] if the passphrase is wrong, the file damaged or no such file, or if it would take more than a machine has.
pub fn unprotect(file: &[u8], passphrase: &str) -> Result<Zeroizing<String>, Error> {
    let bad = |why: &str| Error::BadKey { what: "the protected identity".into(), why: why.into() };
    let reader = age::armor::ArmoredReader::new(file.trim_ascii_start());
    let decryptor = age::Decryptor::new_buffered(reader)
        .map_err(|_| bad("the file is cut or damaged; take another copy"))?;
    if !decryptor.is_scrypt() {
        return Err(bad("it is encrypted to a key, not with a passphrase; open it with `age -d`"));
    }
    let mut key = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    key.set_max_work_factor(WORK_FACTOR_MAX);
    let reader = decryptor.decrypt(std::iter::once(&key as _)).map_err(|e| match e {
        age::DecryptError::ExcessiveWork { required, .. } => bad(&format!(
            "opening it takes 2^{required} rounds of scrypt, and no more than 2^{WORK_FACTOR_MAX} are done; protect it \
             anew with `age -d` and `keephold keys protect`"
        )),
        age::DecryptError::NoMatchingKeys
        | age::DecryptError::DecryptionFailed
        | age::DecryptError::KeyDecryptionFailed => bad("the passphrase is wrong"),
        _ => bad("the file is cut or damaged; take another copy"),
    })?;
    let mut text = Zeroizing::new(String::new());
    reader
        .take(IDENTITY_FILE_MAX)
        .read_to_string(&mut text)
        .map_err(|_| bad("the file is cut or damaged; take another copy"))?;
    Ok(text)
}

/// A protected identity file as text: armoured, if it isn't yet.
///
/// # Errors
/// [`Error::BadKey`] if it can't be written so.
pub fn armoured(file: &[u8]) -> Result<String, Error> {
    let bad = |why: String| Error::BadKey { what: "the protected identity".into(), why };
    if file.trim_ascii_start().starts_with(b"-----") {
        return String::from_utf8(file.trim_ascii().to_vec()).map_err(|e| bad(e.to_string()));
    }
    let io = |e: std::io::Error| bad(e.to_string());
    let mut writer = armour(Vec::new()).map_err(io)?;
    writer.write_all(file).map_err(io)?;
    let text = writer.finish().map_err(io)?;
    String::from_utf8(text).map(|text| text.trim().to_owned()).map_err(|e| bad(e.to_string()))
}

fn armour(out: Vec<u8>) -> std::io::Result<age::armor::ArmoredWriter<Vec<u8>>> {
    age::armor::ArmoredWriter::wrap_output(out, age::armor::Format::AsciiArmor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `protect`, with other work.
    fn protected_with(identity: &str, passphrase: &str, work: u8) -> Vec<u8> {
        let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        recipient.set_work_factor(work);
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _)).unwrap();
        let mut file = Vec::new();
        let mut writer = encryptor.wrap_output(&mut file).unwrap();
        writer.write_all(identity.as_bytes()).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn a_passphrase_protects_and_opens() {
        let (public, identity) = Identities::generate();
        let file = protect(&identity, "correct horse battery").unwrap();
        assert!(is_protected(file.as_bytes()) && !is_protected(identity.as_bytes()));
        assert!(!file.contains("AGE-SECRET-KEY"));
        let opened = unprotect(file.as_bytes(), "correct horse battery").unwrap();
        assert_eq!(*opened, *identity);
        assert_eq!(Identities::parse(&opened).unwrap().public(), [public]);
        let error = unprotect(file.as_bytes(), "correct horse batteri").unwrap_err().to_string();
        assert!(error.contains("the passphrase is wrong"), "{error}");
        assert!(protect(&identity, "short").unwrap_err().to_string().contains("fewer than 12"));
    }

    #[test]
    fn damage_and_excessive_work_are_told() {
        let file = protected_with("AGE-SECRET-KEY-…", "pass", 4);
        assert_eq!(*unprotect(&file, "pass").unwrap(), "AGE-SECRET-KEY-…");
        let text = armoured(&file).unwrap();
        assert_eq!(*unprotect(text.as_bytes(), "pass").unwrap(), "AGE-SECRET-KEY-…");
        assert_eq!(armoured(text.as_bytes()).unwrap(), text);
        for cut in [10, file.len() / 2, file.len() - 1] {
            let error = unprotect(&file[..cut], "pass").unwrap_err().to_string();
            assert!(error.contains("cut or damaged"), "{cut}: {error}");
        }
        // The header alone is changed, so nothing is worked: as a hostile file would ask for hours.
        let at = file.windows(3).position(|w| w == b" 4\n").unwrap();
        let mut huge = file[..at].to_vec();
        huge.extend_from_slice(b" 30\n");
        huge.extend_from_slice(&file[at + 3..]);
        let error = unprotect(&huge, "pass").unwrap_err().to_string();
        assert!(error.contains("2^30 rounds"), "{error}");
        let (public, _) = Identities::generate();
        let key = age::x25519::Recipient::from_str(&public).unwrap();
        let sealed = age::encrypt(&key, b"x").unwrap();
        assert!(unprotect(&sealed, "pass").unwrap_err().to_string().contains("encrypted to a key"));
    }

    #[test]
    fn a_plugin_that_is_not_installed_is_named() {
        let identity = age::plugin::Identity::default_for_plugin("nowhere").unwrap().to_string();
        let error = Identities::parse(&identity).unwrap_err().to_string();
        assert!(error.contains("install the program age-plugin-nowhere"), "{error}");
    }
}
