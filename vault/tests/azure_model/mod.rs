//! A loopback server that answers as the reference of Azure's Blob service documents it, as far as Keephold asks: a
//! container with version-level immutability, in memory. It is our reading of that reference, not the real thing,
//! which no test has met. Each request is kept, so that its line and headers can be held against a fixed text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};

use crate::model_server::{Reply, Request, Server, http_date};

/// How it differs from a container that does everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// Doesn't tell whether it has version-level immutability (as Azurite).
    pub silent: bool,
    /// Says that it has none.
    pub without: bool,
    /// Takes the headers that lock, and keeps nothing (as Azurite).
    pub forgets: bool,
    /// This credential may not read objects, nor their properties.
    pub unreadable: bool,
    /// Nor list them.
    pub unlistable: bool,
}

#[derive(Debug, Clone)]
struct Blob {
    id: String,
    data: Vec<u8>,
    modified: Timestamp,
    current: bool,
    lock: Option<(String, Timestamp)>,
}

#[derive(Debug, Default)]
struct Container {
    blobs: BTreeMap<String, Vec<Blob>>,
    written: u64,
}

fn refusal(status: u16, code: &'static str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>No.</Message></Error>"
    );
    Reply { status, headers: vec![("x-ms-error-code", code.into())], body: body.into_bytes() }
}

impl Blob {
    fn locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|(_, until)| *until > Timestamp::now())
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("x-ms-version-id", self.id.clone()),
            ("x-ms-is-current-version", self.current.to_string()),
            ("etag", format!("\"{}\"", self.id)),
            ("last-modified", http_date(self.modified)),
        ];
        if let Some((mode, until)) = &self.lock {
            headers.push(("x-ms-immutability-policy-mode", mode.clone()));
            headers.push(("x-ms-immutability-policy-until-date", http_date(*until)));
        }
        headers
    }
}

/// Starts one.
pub fn start(quirks: Quirks) -> Server {
    let container = Arc::<Mutex<Container>>::default();
    Server::start(SignedDuration::ZERO, move |request| {
        container.lock().unwrap().answer(request, quirks)
    })
}

impl Container {
    fn answer(&mut self, request: &Request, quirks: Quirks) -> Reply {
        let asked = |name: &str| request.asked(name);
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let name = request.path.strip_prefix("/backups").unwrap().trim_start_matches('/');
        if name.is_empty() {
            assert_eq!(asked("restype"), Some("container"));
            if asked("comp") == Some("list") {
                if quirks.unlistable {
                    return refusal(403, "AuthorizationPermissionMismatch");
                }
                return self.list(asked("prefix"), asked("include"), asked("marker"));
            }
            let told =
                ("x-ms-immutable-storage-with-versioning-enabled", (!quirks.without).to_string());
            let headers = if quirks.silent { Vec::new() } else { vec![told] };
            return Reply { status: 200, headers, body: Vec::new() };
        }
        if reads && quirks.unreadable {
            return refusal(403, "AuthorizationPermissionMismatch");
        }
        match (request.method.as_str(), asked("comp")) {
            ("PUT", None) => self.put(name, request, quirks.forgets),
            ("PUT", Some("immutabilityPolicies")) if quirks.forgets => {
                refusal(501, "APINotImplemented")
            }
            (method @ ("PUT" | "DELETE"), Some("immutabilityPolicies")) => {
                self.relock(name, asked("versionid"), request, method == "DELETE")
            }
            ("GET" | "HEAD", None) => self.read(name, asked("versionid"), request),
            ("DELETE", None) => self.delete(name, asked("versionid"), request),
            other => panic!("nothing answers {other:?}"),
        }
    }
}

fn lock_in(request: &Request) -> Option<(String, Timestamp)> {
    let mode = request.headers.get("x-ms-immutability-policy-mode")?;
    assert!(matches!(mode.as_str(), "locked" | "unlocked"), "{mode}");
    let until = request.headers.get("x-ms-immutability-policy-until-date").unwrap();
    assert!(until.ends_with(" GMT"), "{until}");
    let until = jiff::fmt::rfc2822::parse(until).unwrap().timestamp();
    Some((mode.clone(), until))
}

impl Container {
    fn find(&mut self, name: &str, version: Option<&str>) -> Option<&mut Blob> {
        self.blobs.get_mut(name)?.iter_mut().find(|blob| match version {
            Some(version) => blob.id == version,
            None => blob.current,
        })
    }

    fn put(&mut self, name: &str, request: &Request, forgets: bool) -> Reply {
        assert_eq!(request.headers.get("x-ms-blob-type").map(String::as_str), Some("BlockBlob"));
        if request.headers.get("content-md5") != Some(&STANDARD.encode(Md5::digest(&request.body)))
        {
            return refusal(400, "Md5Mismatch");
        }
        if request.headers.contains_key("if-none-match") && self.find(name, None).is_some() {
            return refusal(409, "BlobAlreadyExists");
        }
        self.written += 1;
        let blob = Blob {
            id: format!("2026-01-01T00:00:00.{:07}Z", self.written),
            data: request.body.clone(),
            modified: Timestamp::now(),
            current: true,
            lock: lock_in(request).filter(|_| !forgets),
        };
        let headers = vec![("x-ms-version-id", blob.id.clone()), ("etag", blob.id.clone())];
        let versions = self.blobs.entry(name.to_owned()).or_default();
        versions.iter_mut().for_each(|older| older.current = false);
        versions.push(blob);
        Reply { status: 201, headers, body: Vec::new() }
    }

    fn relock(
        &mut self,
        name: &str,
        version: Option<&str>,
        request: &Request,
        lift: bool,
    ) -> Reply {
        let Some(blob) = self.find(name, version) else { return refusal(404, "BlobNotFound") };
        let fixed = blob.lock.as_ref().filter(|(mode, _)| mode == "locked" && blob.locked());
        let wanted = lock_in(request);
        let weaker = match (fixed, &wanted) {
            (Some((_, held)), Some((mode, until))) => mode != "locked" || until < held,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if weaker {
            return refusal(409, "BlobImmutableDueToPolicy");
        }
        assert_eq!(wanted.is_none(), lift);
        blob.lock = wanted;
        Reply { status: 200, headers: blob.headers(), body: Vec::new() }
    }

    fn read(&mut self, name: &str, version: Option<&str>, request: &Request) -> Reply {
        let Some(blob) = self.find(name, version) else { return refusal(404, "BlobNotFound") };
        match request.ranged(&blob.data) {
            Some((status, body)) => Reply { status, headers: blob.headers(), body },
            None => refusal(416, "InvalidRange"),
        }
    }

    fn delete(&mut self, name: &str, version: Option<&str>, request: &Request) -> Reply {
        let Some(blob) = self.find(name, version) else { return refusal(404, "BlobNotFound") };
        let accepted = Reply { status: 202, headers: Vec::new(), body: Vec::new() };
        if version.is_none() {
            let etag = format!("\"{}\"", blob.id);
            if request.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
                return refusal(412, "ConditionNotMet");
            }
            blob.current = false;
            return accepted;
        }
        if blob.current {
            return refusal(403, "OperationNotAllowedOnRootBlob");
        }
        if blob.locked() {
            return refusal(409, "BlobImmutableDueToPolicy");
        }
        let versions = self.blobs.get_mut(name).unwrap();
        versions.retain(|blob| Some(blob.id.as_str()) != version);
        accepted
    }

    fn list(&self, prefix: Option<&str>, include: Option<&str>, marker: Option<&str>) -> Reply {
        let include = include.unwrap_or_default();
        let mut blobs = String::new();
        let mut next = String::new();
        let below =
            self.blobs.iter().filter(|(name, _)| name.starts_with(prefix.unwrap_or_default()));
        let after = below.filter(|(name, _)| marker.is_none_or(|marker| name.as_str() >= marker));
        for (count, (name, versions)) in after.enumerate() {
            if count == 16 {
                next = name.clone();
                break;
            }
            for blob in versions.iter().filter(|b| b.current || include.contains("versions")) {
                write!(blobs, "<Blob><Name>{name}</Name><VersionId>{}</VersionId>", blob.id)
                    .unwrap();
                if blob.current {
                    blobs.push_str("<IsCurrentVersion>true</IsCurrentVersion>");
                }
                write!(
                    blobs,
                    "<Properties><Last-Modified>{}</Last-Modified><Content-Length>{}</Content-Length>",
                    http_date(blob.modified),
                    blob.data.len()
                )
                .unwrap();
                if let Some((mode, until)) =
                    blob.lock.as_ref().filter(|_| include.contains("immutability"))
                {
                    write!(
                        blobs,
                        "<ImmutabilityPolicyUntilDate>{}</ImmutabilityPolicyUntilDate>\
                         <ImmutabilityPolicyMode>{mode}</ImmutabilityPolicyMode>",
                        http_date(*until)
                    )
                    .unwrap();
                }
                blobs.push_str("</Properties></Blob>");
            }
        }
        let body = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>{blobs}</Blobs>\
             <NextMarker>{next}</NextMarker></EnumerationResults>"
        );
        Reply { status: 200, headers: Vec::new(), body: body.into_bytes() }
    }
}
