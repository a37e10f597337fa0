//! A loopback server that answers as the reference of Azure's Blob service documents it, as far as Keephold asks: a
//! container with version-level immutability, in memory. It is our reading of that reference, not the real thing,
//! which no test has met. Each request is kept, so that its line and headers can be held against a fixed text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
    requests: Vec<String>,
}

/// The running server.
#[derive(Clone)]
pub struct Model {
    pub endpoint: String,
    quirks: Quirks,
    container: Arc<Mutex<Container>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn refusal(status: u16, code: &'static str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>No.</Message></Error>"
    );
    Reply { status, headers: vec![("x-ms-error-code", code.into())], body: body.into_bytes() }
}

fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
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

impl Model {
    pub async fn start(quirks: Quirks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let model = Self { endpoint, quirks, container: Arc::default() };
        let served = model.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let model = served.clone();
                tokio::spawn(async move { model.serve(client).await.unwrap() });
            }
        });
        model
    }

    /// The requests since the last call, in order.
    pub fn requests(&self) -> String {
        std::mem::take(&mut self.container.lock().unwrap().requests).join("\n")
    }

    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut received = Vec::new();
        let end = loop {
            if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if client.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let method = first.next().unwrap().to_owned();
        let url = url::Url::parse(&format!("http://h{}", first.next().unwrap())).unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        while received.len() < end + length {
            client.read_buf(&mut received).await?;
        }
        let request = Request {
            method,
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers,
            body: received[end..].to_vec(),
        };
        let is_head = request.method == "HEAD";
        let reply = self.answer(&request, url.query());
        let mut text =
            format!("HTTP/1.1 {} X\r\nDate: {}\r\n", reply.status, http_date(Timestamp::now()));
        for (name, value) in &reply.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        write!(text, "Content-Length: {}\r\nConnection: close\r\n\r\n", reply.body.len()).unwrap();
        client.write_all(text.as_bytes()).await?;
        if !is_head {
            client.write_all(&reply.body).await?;
        }
        client.shutdown().await
    }

    fn answer(&self, request: &Request, query: Option<&str>) -> Reply {
        let mut container = self.container.lock().unwrap();
        container.requests.push(shown(request, query));
        let asked = |name: &str| request.query.get(name).map(String::as_str);
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let name = request.path.strip_prefix("/backups").unwrap().trim_start_matches('/');
        if name.is_empty() {
            assert_eq!(asked("restype"), Some("container"));
            if asked("comp") == Some("list") {
                if self.quirks.unlistable {
                    return refusal(403, "AuthorizationPermissionMismatch");
                }
                return container.list(asked("prefix"), asked("include"), asked("marker"));
            }
            let told = (
                "x-ms-immutable-storage-with-versioning-enabled",
                (!self.quirks.without).to_string(),
            );
            let headers = if self.quirks.silent { Vec::new() } else { vec![told] };
            return Reply { status: 200, headers, body: Vec::new() };
        }
        if reads && self.quirks.unreadable {
            return refusal(403, "AuthorizationPermissionMismatch");
        }
        match (request.method.as_str(), asked("comp")) {
            ("PUT", None) => container.put(name, request, self.quirks.forgets),
            ("PUT", Some("immutabilityPolicies")) if self.quirks.forgets => {
                refusal(501, "APINotImplemented")
            }
            (method @ ("PUT" | "DELETE"), Some("immutabilityPolicies")) => {
                container.relock(name, asked("versionid"), request, method == "DELETE")
            }
            ("GET" | "HEAD", None) => container.read(name, asked("versionid"), request),
            ("DELETE", None) => container.delete(name, asked("versionid"), request),
            other => panic!("nothing answers {other:?}"),
        }
    }
}

/// A request's line and headers, without what differs from one run to the next.
fn shown(request: &Request, query: Option<&str>) -> String {
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    let mut text = format!("{} {}{query}\n", request.method, request.path);
    for (name, value) in &request.headers {
        let value = match name.as_str() {
            "host" | "accept" | "user-agent" => continue,
            "authorization" => value.split(':').next().unwrap().to_owned() + ":…",
            "date" => "(now)".into(),
            _ => value.clone(),
        };
        writeln!(text, "  {name}: {value}").unwrap();
    }
    text
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
        let whole = Reply { status: 200, headers: blob.headers(), body: blob.data.clone() };
        let Some(range) = request.headers.get("range") else { return whole };
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        if from >= blob.data.len() {
            return refusal(416, "InvalidRange");
        }
        let body = blob.data[from..(to + 1).min(blob.data.len())].to_vec();
        Reply { status: 206, body, ..whole }
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
