//! Profiles: the AWS configuration files, as far as a backup needs them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::store::StoreError;
use crate::store::open::Env;

/// The settings of one profile; the credentials file wins over the configuration file.
#[derive(Default, Clone)]
pub(super) struct Profile {
    /// Its name, for messages.
    pub(super) name: String,
    values: BTreeMap<String, String>,
}

impl Profile {
    /// Reads the profile that is named, or `AWS_PROFILE`, or `default`. `None` if nobody asked for one and there
    /// is no default.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] if a profile was named that is in neither file, or a file can't be read.
    pub(super) fn load(
        named: Option<&str>,
        env: Env<'_>,
        target: &str,
    ) -> Result<Option<Self>, StoreError> {
        let fail = |detail: String| StoreError::NoCredential { target: target.to_owned(), detail };
        let named =
            named.map(str::to_owned).or_else(|| env("AWS_PROFILE").filter(|p| !p.is_empty()));
        let name = named.clone().unwrap_or_else(|| "default".into());
        let mut profile = Self { name: name.clone(), values: BTreeMap::new() };
        let mut found = false;
        let mut looked = Vec::new();
        for (variable, file, header) in [
            ("AWS_CONFIG_FILE", "config", config_header(&name)),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name.clone()),
        ] {
            let Some(path) = file_of(variable, file, env) else { continue };
            looked.push(path.display().to_string());
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                // Without a named profile an unreadable file in some home folder shouldn't stop a role.
                Err(_) if named.is_none() => continue,
                Err(e) => return Err(fail(format!("{} can't be read: {e}", path.display()))),
            };
            if let Some(values) = section(&text, &header) {
                found = true;
                profile.values.extend(values);
            }
        }
        match (found, named) {
            (true, _) => Ok(Some(profile)),
            (false, None) => Ok(None),
            (false, Some(name)) => {
                let files = if looked.is_empty() {
                    "no file (HOME isn't set)".into()
                } else {
                    looked.join(", ")
                };
                Err(fail(format!("there is no profile `{name}`; looked in {files}")))
            }
        }
    }

    /// A setting, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

fn config_header(name: &str) -> String {
    if name == "default" { "default".into() } else { format!("profile {name}") }
}

fn file_of(variable: &str, file: &str, env: Env<'_>) -> Option<PathBuf> {
    if let Some(path) = env(variable).filter(|p| !p.is_empty()) {
        return Some(path.into());
    }
    let home = env("HOME").filter(|p| !p.is_empty())?;
    Some(PathBuf::from(home).join(".aws").join(file))
}

/// The settings below `[header]`; `None` if there is no such section.
fn section(text: &str, header: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None::<BTreeMap<String, String>>;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            inside = name.split_whitespace().eq(header.split_whitespace());
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        // Indented lines belong to a nested group (`s3 =`), none of which matters here.
        let nested = line.starts_with([' ', '\t']);
        if let (true, false, Some((key, value))) = (inside, nested, trimmed.split_once('=')) {
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.split(" ;").next().unwrap_or_default();
            found
                .get_or_insert_default()
                .insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_apart() {
        let text = "# a comment\n[default]\nregion = one\n[profile  backup]\n\
                    Region=two # here\ns3 =\n  region = nested\nendpoint_url = https://h/#x\n[other]\nregion=three\n";
        let backup = section(text, "profile backup").unwrap();
        assert_eq!(backup.get("region").map(String::as_str), Some("two"));
        assert_eq!(backup.get("endpoint_url").map(String::as_str), Some("https://h/#x"));
        assert_eq!(section(text, "default").unwrap()["region"], "one");
        assert!(section(text, "backup").is_none());
    }

    #[test]
    fn a_named_profile_must_exist_and_the_credentials_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("c");
        let config = dir.path().join("f");
        std::fs::write(&credentials, "[b]\naws_access_key_id=AK\nregion=late\n").unwrap();
        std::fs::write(&config, "[profile b]\nregion=early\nendpoint_url=https://h\n").unwrap();
        let env = |name: &str| match name {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.display().to_string()),
            "AWS_CONFIG_FILE" => Some(config.display().to_string()),
            _ => None,
        };
        let profile = Profile::load(Some("b"), &env, "t").unwrap().unwrap();
        assert_eq!(profile.get("region"), Some("late"));
        assert_eq!(profile.get("endpoint_url"), Some("https://h"));
        assert!(Profile::load(None, &env, "t").unwrap().is_none());
        let Err(error) = Profile::load(Some("zzz"), &env, "t") else { panic!("found") };
        assert!(error.to_string().contains("no profile `zzz`"), "{error}");
    }
}
