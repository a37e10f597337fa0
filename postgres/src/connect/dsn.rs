//! Reads a connection string in either of libpq's forms.

use crate::{Error, Result};
use std::collections::BTreeMap;

/// Settings by libpq's names.
pub(super) type Settings = BTreeMap<String, String>;

/// Parses `key=value …` or `postgresql://…`. An empty string has no settings.
pub(super) fn parse(dsn: &str) -> Result<Settings> {
    let dsn = dsn.trim();
    match dsn.strip_prefix("postgresql://").or_else(|| dsn.strip_prefix("postgres://")) {
        Some(rest) => parse_uri(rest),
        None => parse_pairs(dsn),
    }
}

/// `key = value`, where a value may stand in single quotes, with a backslash before a quote or backslash.
fn parse_pairs(dsn: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    let mut letters = dsn.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(settings);
        }
        let mut key = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace())
        {
            key.push(letter);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.next() != Some('=') {
            // The word may be a stray part of a password: don't repeat it.
            return Err(Error::settings("the connection string has a word without `=`"));
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let quoted = letters.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match letters.next() {
                Some('\\') => value.extend(letters.next()),
                Some('\'') if quoted => break,
                Some(letter) if !quoted && letter.is_whitespace() => break,
                Some(letter) => value.push(letter),
                None if quoted => {
                    return Err(Error::settings(format!(
                        "the value of {key} has no closing quote"
                    )));
                }
                None => break,
            }
        }
        settings.insert(key, value);
    }
}

/// `user:password@host:port/database?key=value&…`, with percent-encoding everywhere.
fn parse_uri(rest: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = address.split_once('/').unwrap_or((address, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed
                .split_once(']')
                .ok_or_else(|| Error::settings("an IPv6 address has no closing bracket"))?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None if host.contains(',') => (host, ""),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let parts = [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ];
    for (key, value) in parts {
        if !value.is_empty() {
            settings.insert(key.to_owned(), decode(key, value)?);
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::settings("a parameter behind the `?` of the connection URI has no value")
        })?;
        let (mut key, mut value) = (decode("a parameter's name", key)?, decode(key, value)?);
        // What JDBC calls it.
        if key == "ssl" && value == "true" {
            (key, value) = ("sslmode".to_owned(), "require".to_owned());
        }
        settings.insert(key, value);
    }
    Ok(settings)
}

fn decode(what: &str, text: &str) -> Result<String> {
    let bad =
        || Error::settings(format!("{what} in the connection URI isn't percent-encoded properly"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (pair, tail) = tail.split_at_checked(2).ok_or_else(bad)?;
        bytes.extend(hex::decode(pair).map_err(|_| bad())?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(dsn: &str) -> Vec<(String, String)> {
        parse(dsn).unwrap().into_iter().collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_may_be_quoted_and_spaced() {
        assert_eq!(
            pairs(r"host=db  port = 5433 dbname='my \'db\\' user=a\ b password=''"),
            owned(&[
                ("dbname", r"my 'db\"),
                ("host", "db"),
                ("password", ""),
                ("port", "5433"),
                ("user", "a b")
            ])
        );
        assert_eq!(pairs("  "), []);
    }

    #[test]
    fn uris_are_taken_apart() {
        assert_eq!(
            pairs(
                "postgresql://al%69ce:p%40ss%2F@db.example:6432/sh%20op?sslmode=verify-full&application_name=x"
            ),
            owned(&[
                ("application_name", "x"),
                ("dbname", "sh op"),
                ("host", "db.example"),
                ("password", "p@ss/"),
                ("port", "6432"),
                ("sslmode", "verify-full"),
                ("user", "alice"),
            ])
        );
        assert_eq!(pairs("postgres://[::1]:5433/"), owned(&[("host", "::1"), ("port", "5433")]));
        assert_eq!(
            pairs("postgres://%2Fvar%2Frun%2Fpg/d"),
            owned(&[("dbname", "d"), ("host", "/var/run/pg")])
        );
        assert_eq!(pairs("postgresql:///?ssl=true"), owned(&[("sslmode", "require")]));
    }

    #[test]
    fn errors_do_not_repeat_secrets() {
        for dsn in [
            "password='s3cret",
            "host=a s3cret",
            "postgres://u:s3cret%4@h",
            "postgres://u:%zzs3cret@h",
            "postgres://h?s3cret",
        ] {
            let error = parse(dsn).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
