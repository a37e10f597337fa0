//! Whose signatures are believed, for whom, and when: OpenSSH's allowed-signers files (`ssh-keygen(1)`, ALLOWED SIGNERS).

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::{Algorithm, Fingerprint, HashAlg, LineEnding, PublicKey, SshSig};

use super::{Purpose, VerifyingKey};
use crate::error::Error;

/// The form of times in such files, for [`Timestamp::strftime`]: to the second, in UTC.
const TIME: &str = "%Y%m%d%H%M%SZ";

/// Whose signatures are believed: the lines of an OpenSSH allowed-signers file.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<Entry>);

/// One line.
#[derive(Debug, Clone)]
struct Entry {
    principal: String,
    key: VerifyingKey,
    validity: Validity,
    /// For which purposes; any if none are named.
    namespaces: Option<Vec<String>>,
}

/// When a key may sign. Both ends belong to it, as with `ssh-keygen`.
#[derive(Debug, Clone, Copy, Default)]
struct Validity {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The names in the allowed signers, with commas between them.
    pub principal: String,
    /// The key's fingerprint (`SHA256:…`).
    pub fingerprint: String,
}

impl Validity {
    fn holds(self, at: Timestamp) -> bool {
        self.after.is_none_or(|after| at >= after) && self.before.is_none_or(|before| at <= before)
    }
}

impl AllowedSigners {
    /// Reads `PRINCIPALS [OPTIONS] ssh-ed25519 KEY [COMMENT]` lines, and plain `.pub` lines (whose comment then is
    /// the principal). Options are `valid-after`, `valid-before` and `namespaces`; any other is refused, since a
    /// reader that passed it over would believe more than was written.
    ///
    /// # Errors
    /// [`Error::BadKey`] naming the line that is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            entries.push(Entry::parse(line).map_err(|why| Error::BadKey {
                what: format!("line {} of the allowed signers", number + 1),
                why,
            })?);
        }
        Ok(Self(entries))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks an armoured signature of `message`; answers whose it is.
    ///
    /// `at` is when the message was there at the latest, by a clock that its signer doesn't hold: keys whose time had not
    /// come, or was over, are not believed. Without it their times aren't looked at.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is broken, made for another purpose, or by nobody in the list;
    /// [`Error::SignedOutOfTime`] if the key may not have signed then.
    pub fn check(
        &self,
        purpose: Purpose,
        message: &[u8],
        signature: &str,
        what: &str,
        at: Option<Timestamp>,
    ) -> Result<Signer, Error> {
        let bad = |why: String| Error::Signature { what: what.into(), why };
        let text = signature;
        let signature =
            SshSig::from_pem(text).map_err(|e| bad(format!("it can't be read ({e})")))?;
        // Another spelling of the same signature would make a twin of what it stands in, without any key.
        if signature.to_pem(LineEnding::LF).ok().as_deref() != Some(text) {
            return Err(bad("it is not spelt as such signatures are".into()));
        }
        let found: Fingerprint =
            PublicKey::from(signature.public_key().clone()).fingerprint(HashAlg::Sha256);
        let listed: Vec<&Entry> = self
            .0
            .iter()
            .filter(|entry| {
                entry.key.0.key_data() == signature.public_key() && entry.is_for(purpose)
            })
            .collect();
        let Some(first) = listed.first() else {
            return Err(bad(format!("its key {found} is not among the allowed signers")));
        };
        first.key.0.verify(purpose.namespace(), message, &signature).map_err(|_| {
            bad(format!("it does not fit the bytes, or was made for another purpose (key {found})"))
        })?;
        // A key may stand in several lines: for several names, or for several times.
        let names: Vec<&str> = listed
            .iter()
            .filter(|entry| at.is_none_or(|at| entry.validity.holds(at)))
            .map(|entry| entry.principal.as_str())
            .collect();
        match at {
            Some(at) if names.is_empty() => Err(Error::SignedOutOfTime {
                what: what.into(),
                why: format!("{} (key {found})", first.validity.told(at)),
            }),
            _ => Ok(Signer { principal: names.join(","), fingerprint: found.to_string() }),
        }
    }
}

impl Validity {
    fn told(self, at: Timestamp) -> String {
        match (self.before, self.after) {
            (Some(before), _) if at > before => {
                format!(
                    "it was there at {at} at the latest, and its key was believed until {before} only"
                )
            }
            (_, Some(after)) => {
                format!("it was there at {at}, and its key is believed from {after} on only")
            }
            _ => format!("its key was not believed at {at}"),
        }
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Self, String> {
        let words = words(line)?;
        // Where a key begins, a name can't: `ssh-gateway` is a fine host.
        let Some((at, _)) =
            words.iter().enumerate().take(3).find(|(_, (_, word))| is_key_type(word))
        else {
            return Err("no ssh-… key stands in it".into());
        };
        let start = words[at].0;
        let key = PublicKey::from_str(&line[start..]).map_err(|e| e.to_string())?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(format!("keys of type {} are not used by Keephold", key.algorithm()));
        }
        let principal = match words.first() {
            Some((_, name)) if at > 0 => name.trim_matches('"').to_owned(),
            _ => key.comment().to_owned(),
        };
        let mut entry = Self {
            principal,
            key: VerifyingKey(key),
            validity: Validity::default(),
            namespaces: None,
        };
        if at == 2 {
            for option in options(words[1].1) {
                entry.option(option)?;
            }
        }
        Ok(entry)
    }

    fn option(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "valid-after" => self.validity.after = Some(time(value)?),
            "valid-before" => self.validity.before = Some(time(value)?),
            "namespaces" => {
                self.namespaces = Some(value.split(',').map(|n| n.trim().to_owned()).collect());
            }
            _ => {
                return Err(format!(
                    "the option '{name}' is not understood; valid-after, valid-before and namespaces are"
                ));
            }
        }
        Ok(())
    }

    fn is_for(&self, purpose: Purpose) -> bool {
        let named = |names: &Vec<String>| {
            names.iter().any(|name| name == "*" || name == purpose.namespace())
        };
        self.namespaces.as_ref().is_none_or(named)
    }
}

impl Signer {
    /// Whether this is who may sign for a host: a principal in the allowed signers is a list of names with commas
    /// between them; `*` stands for any host, and `keephold@db1` for `db1`.
    pub fn speaks_for(&self, host: &str) -> bool {
        self.principal
            .split(',')
            .any(|name| name == "*" || name.strip_prefix("keephold@").unwrap_or(name) == host)
    }
}

/// The allowed-signers line of a key, valid from and until the times that are given.
pub fn line(
    principal: &str,
    key: &VerifyingKey,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
) -> String {
    let named = [("valid-after", after), ("valid-before", before)];
    let options: Vec<String> =
        named.iter().filter_map(|(name, at)| Some(time_option(name, (*at)?))).collect();
    let space = if options.is_empty() { "" } else { " " };
    format!("{principal} {}{space}{}", options.join(","), key.to_openssh())
}

/// `valid-before="20261123194403Z"`.
pub fn time_option(name: &str, at: Timestamp) -> String {
    format!("{name}=\"{}\"", at.strftime(TIME))
}

fn is_key_type(word: &str) -> bool {
    matches!(word, "ssh-ed25519" | "ssh-rsa" | "ssh-dss")
        || word.starts_with("ecdsa-sha2-")
        || (word.starts_with("sk-") && word.contains('@'))
}

/// The words of a line and where they begin; white space in quotes doesn't end one.
fn words(line: &str) -> Result<Vec<(usize, &str)>, String> {
    let (mut words, mut start, mut quoted) = (Vec::new(), None, false);
    for (at, c) in line.char_indices() {
        if c == '"' {
            quoted = !quoted;
        }
        if c.is_whitespace() && !quoted {
            if let Some(start) = start.take() {
                words.push((start, &line[start..at]));
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if quoted {
        return Err("a quotation mark isn't closed".into());
    }
    words.extend(start.map(|start| (start, &line[start..])));
    Ok(words)
}

/// Options, split at commas that aren't in quotes.
fn options(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .collect()
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`; in UTC with a `Z` behind it, else in this machine's time zone.
fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("'{text}' is no time of the form YYYYMMDD[HHMM[SS]][Z]");
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole = format!("{digits:0<14}");
    let civil = DateTime::strptime("%Y%m%d%H%M%S", &whole).map_err(|_| wrong())?;
    zone.to_timestamp(civil).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SigningKey;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn plain_pub_lines_will_do() {
        let key = SigningKey::generate("db2").unwrap();
        let signature = key.sign(Purpose::Record, b"m").unwrap();
        let of = |text: &str| {
            let signers = AllowedSigners::parse(text).unwrap();
            signers.check(Purpose::Record, b"m", &signature, "it", None).unwrap().principal
        };
        let public = key.public().to_openssh();
        assert_eq!(of(&public), "db2");
        assert_eq!(of(&format!("ssh-gateway {public}")), "ssh-gateway");
        assert_eq!(of(&format!("\"db1,db3\" {public}\ndb4 {public}")), "db1,db3,db4");
        assert!(AllowedSigners::parse("nonsense\n").is_err());
    }

    #[test]
    fn a_key_is_believed_in_its_time_only() {
        let key = SigningKey::generate("keephold@db1").unwrap();
        let signature = key.sign(Purpose::Record, b"m").unwrap();
        let text =
            line("db1", &key.public(), at("2026-01-01T00:00:00Z"), at("2026-11-23T19:44:03Z"));
        assert!(
            text.starts_with(
                "db1 valid-after=\"20260101000000Z\",valid-before=\"20261123194403Z\" ssh-ed25519 "
            ),
            "{text}"
        );
        let signers = AllowedSigners::parse(&text).unwrap();
        let check = |at| signers.check(Purpose::Record, b"m", &signature, "it", at);
        for good in ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-11-23T19:44:03Z"] {
            assert_eq!(check(at(good)).unwrap().principal, "db1");
        }
        for (bad, words) in [
            ("2025-12-31T23:59:59Z", "from 2026-01-01T00:00:00Z on"),
            ("2026-11-23T19:44:04Z", "until 2026-11-23T19:44:03Z only"),
        ] {
            let error = check(at(bad)).unwrap_err();
            assert!(matches!(error, Error::SignedOutOfTime { .. }), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(check(None).is_ok());
        // The same key again, later: a second line, for a second time.
        let twice =
            format!("{text}\n{}", line("db1", &key.public(), at("2027-01-01T00:00:00Z"), None));
        let twice = AllowedSigners::parse(&twice).unwrap();
        let check = |at| twice.check(Purpose::Record, b"m", &signature, "it", at);
        assert!(
            check(at("2027-02-01T00:00:00Z")).is_ok() && check(at("2026-12-01T00:00:00Z")).is_err()
        );
    }

    #[test]
    fn namespaces_bind_and_what_is_not_understood_is_refused() {
        let key = SigningKey::generate("x").unwrap();
        let public = key.public().to_openssh();
        let signature = key.sign(Purpose::Record, b"m").unwrap();
        let check = |options: &str| {
            let signers = AllowedSigners::parse(&format!("x {options} {public}"))?;
            signers.check(Purpose::Record, b"m", &signature, "it", None)
        };
        assert!(check("namespaces=\"keephold-report,keephold-record\"").is_ok());
        assert!(check("namespaces=\"keephold-report\"").is_err());
        for bad in [
            "cert-authority",
            "valid-befor=20260101",
            "valid-before=2026",
            "valid-before=20261301Z",
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains("line 1"), "{bad}: {error}");
        }
        assert!(check("namespaces=\"keephold-record").unwrap_err().to_string().contains("closed"));
    }

    #[test]
    fn times_are_as_ssh_keygen_reads_them() {
        for (text, is) in [
            ("20261123Z", "2026-11-23T00:00:00Z"),
            ("202611231944Z", "2026-11-23T19:44:00Z"),
            ("20261123194403Z", "2026-11-23T19:44:03Z"),
        ] {
            assert_eq!(Some(time(text).unwrap()), at(is), "{text}");
        }
        assert!(time("20261123").is_ok());
        assert!(time("2026112319Z").is_err() && time("").is_err() && time("２０２６").is_err());
    }
}
