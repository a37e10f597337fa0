//! From bucket and key to the address of a request.

use std::fmt::Write as _;

use crate::store::StoreError;

/// Where a bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Endpoint {
    /// `https://bucket.s3.eu-central-1.amazonaws.com` or `https://host/bucket`, without a slash at its end.
    base: String,
}

impl Endpoint {
    /// Settles the address.
    ///
    /// # Errors
    /// [`StoreError::Config`] for an endpoint that can't be used as it stands.
    pub(in crate::store) fn new(
        endpoint: Option<&str>,
        region: &str,
        bucket: &str,
        path_style: Option<bool>,
        allow_http: bool,
    ) -> Result<Self, StoreError> {
        let Some(endpoint) = endpoint else {
            let suffix =
                if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            // A dot in the bucket's name would not match Amazon's wildcard certificate.
            let in_path = path_style.unwrap_or(bucket.contains('.'));
            let base = if in_path {
                format!("https://s3.{region}.{suffix}/{bucket}")
            } else {
                format!("https://{bucket}.s3.{region}.{suffix}")
            };
            return Ok(Self { base });
        };
        let (scheme, place) = checked(endpoint, allow_http)?;
        let base = if path_style.unwrap_or(true) {
            format!("{scheme}://{place}/{bucket}")
        } else {
            format!("{scheme}://{bucket}.{place}")
        };
        Ok(Self { base })
    }

    /// The address of a service whose requests name the bucket in their paths.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(in crate::store) fn of_service(
        endpoint: &str,
        allow_http: bool,
    ) -> Result<Self, StoreError> {
        let (scheme, place) = checked(endpoint, allow_http)?;
        Ok(Self { base: format!("{scheme}://{place}") })
    }

    /// The address that requests go to, with the bucket in it where it belongs to the address.
    pub(in crate::store) fn base(&self) -> &str {
        &self.base
    }

    /// The address of a key (`None`: the bucket), with its query.
    pub(in crate::store) fn url(&self, key: Option<&str>, query: &[(&str, String)]) -> String {
        self.below(&format!("/{}", key.unwrap_or_default()), query)
    }

    /// The address of a path below the base, with its query; an empty path is the base itself.
    pub(in crate::store) fn below(&self, path: &str, query: &[(&str, String)]) -> String {
        let mut url = self.base.clone();
        encode_into(&mut url, path, true);
        with_query(url, query)
    }

    /// The address of a path given by its components, slashes in which are no slashes of the path.
    pub(in crate::store) fn joined(&self, components: &[&str], query: &[(&str, String)]) -> String {
        let mut url = self.base.clone();
        for component in components {
            url.push('/');
            encode_into(&mut url, component, false);
        }
        with_query(url, query)
    }
}

fn with_query(mut url: String, query: &[(&str, String)]) -> String {
    for (i, (name, value)) in query.iter().enumerate() {
        url.push(if i == 0 { '?' } else { '&' });
        encode_into(&mut url, name, false);
        url.push('=');
        encode_into(&mut url, value, false);
    }
    url
}

/// An endpoint's scheme, and its host with port and path, without a slash at its end.
fn checked(endpoint: &str, allow_http: bool) -> Result<(String, String), StoreError> {
    let wrong = |why: &str| StoreError::Config { detail: format!("endpoint `{endpoint}` {why}") };
    let Ok(url) = url::Url::parse(endpoint) else {
        return Err(wrong("isn't a URL: write https://host or https://host:port"));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreError::Config {
            detail: "credentials don't belong in `endpoint`: use a profile or the environment"
                .into(),
        });
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        "http" => return Err(wrong("isn't encrypted: use https://, or set allow_http = true")),
        _ => return Err(wrong("must begin with https://")),
    }
    let Some(host) = url.host_str().filter(|h| !h.is_empty()) else {
        return Err(wrong("names no host"));
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("may not have a `?` or `#`"));
    }
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    Ok((url.scheme().to_owned(), format!("{host}{port}{path}")))
}

/// Percent-encodes as signatures of version 4 want it: everything but unreserved characters.
fn encode_into(out: &mut String, text: &str, keep_slashes: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Undoes the encoding of keys in listings (`encoding-type=url`), where a blank may also stand as `+`.
pub(in crate::store) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(endpoint: Option<&str>, bucket: &str, path_style: Option<bool>) -> String {
        Endpoint::new(endpoint, "eu-central-1", bucket, path_style, false).unwrap().base
    }

    #[test]
    fn addresses_follow_the_style() {
        assert_eq!(base(None, "abc", None), "https://abc.s3.eu-central-1.amazonaws.com");
        assert_eq!(base(None, "a.b", None), "https://s3.eu-central-1.amazonaws.com/a.b");
        assert_eq!(base(Some("https://h:9/"), "abc", None), "https://h:9/abc");
        assert_eq!(base(Some("https://h:9/s3/"), "abc", None), "https://h:9/s3/abc");
        assert_eq!(base(Some("https://h"), "abc", Some(false)), "https://abc.h");
    }

    #[test]
    fn unusable_endpoints_are_refused() {
        for (bad, word) in [
            ("h:9000", "must begin"),
            ("http://h", "allow_http"),
            ("https://u:p@h", "don't belong"),
            ("https://h?x", "?"),
            ("nonsense", "isn't a URL"),
        ] {
            let error = Endpoint::new(Some(bad), "r", "abc", None, false).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn keys_are_encoded_strictly_and_back() {
        let endpoint = Endpoint { base: "https://h/b".into() };
        let url = endpoint.url(
            Some("p/a=b+c%d@e"),
            &[("versionId", "x+/=".into()), ("retention", String::new())],
        );
        assert_eq!(url, "https://h/b/p/a%3Db%2Bc%25d%40e?versionId=x%2B%2F%3D&retention=");
        let within = Endpoint::of_service("https://h/x/", false).unwrap();
        assert_eq!(within.joined(&["b", "o", "p/a b"], &[]), "https://h/x/b/o/p%2Fa%20b");
        assert_eq!(decode("p/a%3Db%2Bc%25d%40e").as_deref(), Some("p/a=b+c%d@e"));
        assert_eq!(decode("a%2"), None);
    }
}
