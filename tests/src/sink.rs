//! An S3 server for benchmarks that costs next to nothing: objects in memory, no signature or checksum checked, no lock enforced. No
//! test of a lock may rest on it. It knows as much of S3 as Keephold and its peers ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// When packs that aren't there came.
const PHANTOM_MODIFIED: &str = "2026-11-01T00:00:00.000Z";
const MODIFIED_HTTP: &str = "Sun, 01 Nov 2026 00:00:00 GMT";
/// Most keys in one page of a listing, as with S3.
const PAGE: usize = 1000;

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    mode: String,
    until: String,
    modified: String,
}

type Objects = Arc<Mutex<BTreeMap<String, Object>>>;

/// Packs that are listed, and have locks, but no content: their names' hexadecimal digits, sorted.
type Phantoms = Arc<Vec<[u8; 32]>>;

/// How long each of them is said to be.
pub const PACK_LEN: u32 = 16 << 20;
/// When the locks of these end.
const PHANTOM_UNTIL: &str = "2100-01-01T00:00:00Z";

/// The name of phantom pack `n`.
pub fn pack_id(n: u64) -> [u8; 32] {
    *blake3::hash(&n.to_le_bytes()).as_bytes()
}

/// A pack's key, below the vault's prefix.
fn pack_key(prefix: &str, id: &[u8; 32]) -> String {
    let id = hex::encode(id);
    format!("{prefix}packs/{}/{id}", &id[..2])
}

/// Memory for bodies that was touched before anything is measured: on a virtual machine a page that its host has yet to find
/// costs several times what copying into it does, and a server elsewhere wouldn't take that from the client's cores.
#[derive(Debug, Clone)]
struct Room(Arc<Mutex<BytesMut>>);

impl Room {
    fn new(len: usize) -> Self {
        let mut room = BytesMut::zeroed(len);
        room.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        Self(Arc::new(Mutex::new(room)))
    }

    /// Takes a piece of it, or fresh memory once it is used up.
    fn take(&self, len: usize) -> BytesMut {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if len <= room.len() { room.split_to(len) } else { BytesMut::zeroed(len) }
    }
}

/// Serves one bucket of any name until the program ends; answers where. `phantoms` packs are listed below `prefix` without
/// being there. The first `room` bytes that are stored cost no fresh memory.
///
/// # Panics
/// If there is no port left.
pub fn serve(prefix: &'static str, phantoms: u64, room: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let objects = Objects::default();
    let mut ids: Vec<_> = (0..phantoms).map(pack_id).collect();
    ids.sort_unstable();
    let phantoms = Phantoms::new(ids);
    let room = Room::new(room);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (objects, phantoms, room) = (objects.clone(), phantoms.clone(), room.clone());
            // Else the body of an answer would wait until its head is acknowledged.
            let _ = client.set_nodelay(true);
            std::thread::spawn(move || {
                let mut reader = BufReader::with_capacity(256 << 10, client);
                while let Ok(true) = answer(&mut reader, &objects, prefix, &phantoms, &room) {}
            });
        }
    });
    endpoint
}

/// Answers one request; whether there may be another.
fn answer(
    client: &mut BufReader<TcpStream>,
    objects: &Objects,
    prefix: &str,
    phantoms: &[[u8; 32]],
    room: &Room,
) -> std::io::Result<bool> {
    let mut first = String::new();
    if client.read_line(&mut first)? == 0 {
        return Ok(false);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    if header("expect").eq_ignore_ascii_case("100-continue") {
        client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = room.take(header("content-length").parse().unwrap_or(0));
    client.read_exact(&mut body)?;
    if header("x-amz-content-sha256").starts_with("STREAMING-") {
        unchunk(&mut body);
    }
    let body = body.freeze();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Keys in a vault need no escapes in a path.
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    let asks = |name: &str| query.split('&').any(|q| q.split('=').next() == Some(name));
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let found = objects.get(&key).cloned().or_else(|| phantom(&key, phantoms));
    let close = header("connection").eq_ignore_ascii_case("close");
    let stream = client.get_mut();
    match (method, found) {
        ("PUT", found) if asks("retention") => {
            let text = String::from_utf8_lossy(&body).into_owned();
            if let Some(object) = found {
                let until = between(&text, "<RetainUntilDate>").unwrap_or(object.until.clone());
                objects.insert(key, Object { until, ..object });
            }
            send(stream, "200 OK", "", b"")?;
        }
        ("PUT", Some(_)) if !header("if-none-match").is_empty() => {
            let text = "<Error><Code>PreconditionFailed</Code></Error>";
            send(stream, "412 Precondition Failed", "", text.as_bytes())?;
        }
        ("PUT", _) => {
            let (mode, until) =
                (header("x-amz-object-lock-mode"), header("x-amz-object-lock-retain-until-date"));
            objects.insert(key, Object { body, mode, until, modified: now() });
            let mut head = String::from("ETag: \"e\"\r\nx-amz-version-id: v1\r\n");
            // As Amazon tells back the checksum that it compared; here nothing is compared.
            if let Some(sum) = headers.get("x-amz-checksum-sha256") {
                let _ = write!(head, "x-amz-checksum-sha256: {sum}\r\n");
            }
            send(stream, "200 OK", &head, b"")?;
        }
        ("DELETE", _) => {
            objects.remove(&key);
            send(stream, "204 No Content", "", b"")?;
        }
        ("GET", Some(object)) if asks("retention") => {
            let Object { mode, until, .. } = object;
            let text = format!(
                "<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
            );
            send(stream, "200 OK", "", text.as_bytes())?;
        }
        ("GET" | "HEAD", Some(object)) => {
            drop(objects);
            send_object(stream, method, &object, &header("range"))?;
        }
        ("GET", None) if key.is_empty() => {
            let text = settings_or_list(query, &objects, prefix, phantoms);
            drop(objects);
            send(stream, "200 OK", "", text.as_bytes())?;
        }
        ("HEAD", None) if key.is_empty() => send(stream, "200 OK", "", b"")?,
        _ => {
            let text: &[u8] =
                if method == "HEAD" { b"" } else { b"<Error><Code>NoSuchKey</Code></Error>" };
            send(stream, "404 Not Found", "", text)?;
        }
    }
    Ok(!close)
}

/// Leaves the bytes of a body that was sent in signed chunks: each has its length in hexadecimal digits on a line before it.
/// What can't be read as that becomes empty.
fn unchunk(body: &mut BytesMut) {
    let (mut from, mut to) = (0, 0);
    let whole = loop {
        let rest = &body[from..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { break false };
        let digits = rest[..end].split(|c| *c == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        let Ok(length) = usize::from_str_radix(digits, 16) else { break false };
        let start = from + end + 2;
        match start.checked_add(length) {
            _ if length == 0 => break true,
            Some(stop) if stop + 2 <= body.len() => {
                body.copy_within(start..stop, to);
                (from, to) = (stop + 2, to + length);
            }
            _ => break false,
        }
    };
    body.truncate(if whole { to } else { 0 });
}

/// A pack that is not there, with its lock.
fn phantom(key: &str, phantoms: &[[u8; 32]]) -> Option<Object> {
    let mut id = [0; 32];
    hex::decode_to_slice(key.rsplit('/').next()?, &mut id).ok()?;
    phantoms.binary_search(&id).ok()?;
    Some(Object {
        body: Bytes::new(),
        mode: "COMPLIANCE".into(),
        until: PHANTOM_UNTIL.into(),
        modified: PHANTOM_MODIFIED.into(),
    })
}

/// Now, as listings write it.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Now, as HTTP writes it.
fn date() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let (date, length) = (date(), body.len());
    let head =
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn send_object(
    stream: &mut TcpStream,
    method: &str,
    object: &Object,
    range: &str,
) -> std::io::Result<()> {
    let size = object.body.len();
    let (start, end) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .map(|(start, end)| {
            (start.parse().unwrap_or(0), end.parse().map_or(size, |end: usize| end + 1).min(size))
        })
        .unwrap_or((0, size));
    let mut head = String::from("HTTP/1.1 ");
    if range.is_empty() {
        head.push_str("200 OK\r\n");
    } else {
        let last = end.saturating_sub(1);
        let _ =
            write!(head, "206 Partial Content\r\nContent-Range: bytes {start}-{last}/{size}\r\n");
    }
    let _ = write!(
        head,
        "Date: {}\r\nLast-Modified: {MODIFIED_HTTP}\r\nETag: \"e\"\r\nx-amz-version-id: v1\r\nx-amz-object-lock-mode: {}\r\n\
         x-amz-object-lock-retain-until-date: {}\r\nContent-Length: {}\r\n\r\n",
        date(),
        object.mode,
        object.until,
        end.saturating_sub(start)
    );
    stream.write_all(head.as_bytes())?;
    if method == "GET" {
        stream.write_all(object.body.get(start..end).unwrap_or_default())?;
    }
    Ok(())
}

fn settings_or_list(
    query: &str,
    objects: &BTreeMap<String, Object>,
    vault: &str,
    phantoms: &[[u8; 32]],
) -> String {
    let value = |name: &str| {
        let pair = query.split('&').find_map(|q| q.split_once('=').filter(|(n, _)| *n == name));
        pair.map_or(String::new(), |(_, value)| {
            value.replace("%2F", "/").replace("%2f", "/").replace('+', " ")
        })
    };
    let asks = |name: &str| query.split('&').any(|q| q.split('=').next() == Some(name));
    if asks("object-lock") {
        return "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
            .into();
    }
    if asks("versioning") {
        return "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            .into();
    }
    if asks("location") {
        return "<LocationConstraint>us-east-1</LocationConstraint>".into();
    }
    let versions = asks("versions");
    let after = if versions { value("key-marker") } else { value("continuation-token") };
    let prefix = value("prefix");
    let wanted = |key: &String| key.starts_with(&prefix) && (after.is_empty() || *key > after);
    let real = objects
        .range::<String, _>(prefix.clone().max(after.clone())..)
        .filter(|(key, _)| wanted(key))
        .map(|(key, object)| (key.clone(), object.body.len(), object.modified.clone()));
    let from =
        phantoms.partition_point(|id| pack_key(vault, id) < prefix.clone().max(after.clone()));
    let ghosts = phantoms[from..]
        .iter()
        .map(|id| (pack_key(vault, id), PACK_LEN as usize, PHANTOM_MODIFIED.to_owned()));
    let mut page: Vec<_> = real.take(PAGE + 1).collect();
    page.extend(ghosts.take(PAGE + 2).filter(|(key, ..)| wanted(key)));
    page.sort_unstable();
    page.dedup_by(|a, b| a.0 == b.0);
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    let last = page.last().map(|(key, ..)| key.clone()).unwrap_or_default();
    let (delimiter, mut folders) = (value("delimiter"), BTreeSet::new());
    let mut items = String::new();
    for (key, size, modified) in page {
        let below = key.strip_prefix(&prefix).unwrap_or_default();
        if let Some((folder, _)) = below.split_once(&delimiter).filter(|_| !delimiter.is_empty()) {
            folders.insert(format!("{prefix}{folder}{delimiter}"));
            continue;
        }
        let (tag, version) = if versions {
            ("Version", "<VersionId>v1</VersionId><IsLatest>true</IsLatest>")
        } else {
            ("Contents", "")
        };
        let _ = write!(
            items,
            "<{tag}><Key>{key}</Key>{version}<LastModified>{modified}</LastModified><ETag>\"e\"</ETag>\
             <Size>{size}</Size><StorageClass>STANDARD</StorageClass></{tag}>"
        );
    }
    let next = match (more, versions) {
        (false, _) => String::new(),
        (true, true) => format!(
            "<NextKeyMarker>{last}</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"
        ),
        (true, false) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
    };
    for folder in folders {
        let _ = write!(items, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    let root = if versions { "ListVersionsResult" } else { "ListBucketResult" };
    format!(
        "<{root}><Prefix>{prefix}</Prefix><IsTruncated>{more}</IsTruncated>{next}{items}</{root}>"
    )
}

/// What stands between a tag and the next one.
fn between(text: &str, tag: &str) -> Option<String> {
    Some(text.split_once(tag)?.1.split('<').next()?.to_owned())
}
