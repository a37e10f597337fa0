//! libpq's two files: connection services and passwords.

use super::dsn::Settings;
use crate::{Error, Result};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What a password is looked up by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The settings of a service: the first of the files that defines it counts.
pub(super) fn service(name: &str, files: Vec<PathBuf>) -> Result<Settings> {
    for file in &files {
        match fs::read_to_string(file) {
            Ok(text) => {
                if let Some(settings) = service_section(&text, name) {
                    return Ok(settings);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(file, error)),
        }
    }
    Err(Error::NoService { service: name.to_owned(), tried: files })
}

fn service_section(text: &str, name: &str) -> Option<Settings> {
    let mut settings = None;
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if settings.is_some() {
                break;
            }
            settings = (section == name).then(Settings::new);
        } else if let (Some(settings), Some((key, value))) = (&mut settings, line.split_once('=')) {
            // The first definition counts, as in libpq.
            settings
                .entry(key.trim_end().to_owned())
                .or_insert_with(|| value.trim_start().to_owned());
        }
    }
    settings
}

/// The password that a password file has. Like libpq, a file that others may read isn't used, with a warning.
pub(super) fn password(file: &Path, wanted: Wanted<'_>) -> Result<Option<String>> {
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(file, error)),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "password file {} isn't used: others may read it; run `chmod 600` on it",
            file.display()
        );
        return Ok(None);
    }
    let text = fs::read_to_string(file).map_err(|error| Error::io(file, error))?;
    Ok(text.lines().find_map(|line| password_line(line, wanted)))
}

/// `host:port:database:user:password`; `*` stands for anything, a backslash escapes.
fn password_line(line: &str, wanted: Wanted<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let port = wanted.port.to_string();
    let mut rest = line;
    for value in [wanted.host, &port, wanted.database, wanted.user] {
        let (field, tail) = field(rest)?;
        if rest.split(':').next() != Some("*") && field != value {
            return None;
        }
        rest = tail;
    }
    // The password runs to the end of the line or to the next colon.
    Some(field(rest).map_or_else(|| unescape(rest), |(password, _)| password))
        .filter(|password| !password.is_empty())
}

/// The text up to the next colon, without escapes, and what is behind it.
fn field(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, letter)| {
        let is_end = *letter == ':' && !escaped;
        escaped = *letter == '\\' && !escaped;
        is_end
    })?;
    Some((unescape(&text[..end.0]), &text[end.0 + 1..]))
}

fn unescape(text: &str) -> String {
    let mut letters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted { host: "db", port: 5432, database: "shop", user: "alice" };

    #[test]
    fn password_lines_match_in_order() {
        let found = |line: &str| password_line(line, WANTED);
        assert_eq!(found("db:5432:shop:alice:secret").as_deref(), Some("secret"));
        assert_eq!(found("*:*:*:*:se\\:cr\\\\et").as_deref(), Some("se:cr\\et"));
        assert_eq!(found("*:*:*:alice:pass:rest").as_deref(), Some("pass"));
        assert_eq!(found("db:5433:*:*:secret"), None);
        assert_eq!(found("#*:*:*:*:secret"), None);
        assert_eq!(found("db:5432:shop"), None);
        // A star that is escaped is only a star.
        assert_eq!(found("\\*:*:*:*:secret"), None);
        let odd = Wanted { database: "a:b\\c", ..WANTED };
        assert_eq!(password_line("db:*:a\\:b\\\\c:*:x", odd).as_deref(), Some("x"));
    }

    #[test]
    fn a_password_file_that_others_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pass");
        assert_eq!(password(&file, WANTED).unwrap(), None);
        fs::write(&file, "other:*:*:*:no\ndb:*:*:*:yes\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password(&file, WANTED).unwrap(), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&file, WANTED).unwrap().as_deref(), Some("yes"));
    }

    #[test]
    fn services_are_sections() {
        let text =
            "# mine\n[a]\nhost=one\n\n[b]\nhost = two\nhost=three\nport=6000\n[c]\nhost=four\n";
        let settings = service_section(text, "b").unwrap();
        assert_eq!((settings["host"].as_str(), settings["port"].as_str()), ("two", "6000"));
        assert_eq!(service_section(text, "d"), None);
    }
}
