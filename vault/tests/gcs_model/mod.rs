//! A loopback server that answers as the reference of Google Cloud Storage's JSON interface documents it, as far as
//! Keephold asks: a bucket with object retention and versions, in memory. It is our reading of that reference, not the
//! real thing, which no test has met. Where the reference names no reason for a refusal, none is to be relied on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::model_server::{Reply, Request, Server};

/// The token that it takes.
pub const TOKEN: &str = "ya29.model";

/// How it differs from a bucket that does everything.
#[derive(Debug, Clone, Default)]
pub struct Quirks {
    /// This credential may not read the bucket's settings.
    pub silent: bool,
    /// It has no object retention.
    pub without: bool,
    /// Takes locks, and keeps none.
    pub forgets: bool,
    /// This credential may not read objects, nor what there is to know of them.
    pub unreadable: bool,
    /// Nor list them.
    pub unlistable: bool,
    /// This credential may not delete, which replacing takes too.
    pub undeletable: bool,
    /// It keeps no noncurrent generations.
    pub unversioned: bool,
    /// How far its clock is ahead.
    pub ahead: SignedDuration,
    /// How the first requests end: a status and its reason.
    pub fails: Vec<(u16, &'static str)>,
    /// The bytes of each upload arrive damaged.
    pub damages: bool,
    /// More of what the bucket tells of itself.
    pub settings: Value,
}

#[derive(Debug, Clone)]
struct Object {
    generation: u64,
    data: Vec<u8>,
    created: Timestamp,
    deleted: Option<Timestamp>,
    lock: Option<(String, Timestamp)>,
}

struct Bucket {
    quirks: Quirks,
    objects: BTreeMap<String, Vec<Object>>,
    written: u64,
}

/// Starts one, whose bucket is called `backups`.
pub fn start(quirks: Quirks) -> Server {
    let ahead = quirks.ahead;
    let bucket = Mutex::new(Bucket { quirks, objects: BTreeMap::new(), written: 0 });
    let bucket = Arc::new(bucket);
    Server::start(ahead, move |request| bucket.lock().unwrap().answer(request))
}

fn document(status: u16, value: &Value) -> Reply {
    let headers = vec![("content-type", "application/json; charset=UTF-8".to_owned())];
    Reply { status, headers, body: value.to_string().into_bytes() }
}

fn refusal(status: u16, reason: &str, message: &str) -> Reply {
    let detail = json!({ "domain": "global", "reason": reason, "message": message });
    document(
        status,
        &json!({ "error": { "code": status, "message": message, "errors": [detail] } }),
    )
}

fn forbidden(right: &str) -> Reply {
    refusal(403, "forbidden", &format!("somebody does not have storage.{right} access."))
}

fn retained() -> Reply {
    refusal(403, "retentionPolicyNotMet", "The object is subject to object retention.")
}

fn lock_in(document: &Value) -> Option<(String, Timestamp)> {
    let retention = document.get("retention").filter(|r| !r.is_null())?;
    let mode = retention["mode"].as_str().unwrap();
    assert!(matches!(mode, "Locked" | "Unlocked"), "{mode}");
    Some((mode.to_owned(), retention["retainUntilTime"].as_str().unwrap().parse().unwrap()))
}

impl Object {
    fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|(_, until)| *until > Timestamp::now())
    }

    fn told(&self, name: &str) -> Value {
        let mut told = json!({
            "kind": "storage#object",
            "name": name,
            "bucket": "backups",
            "generation": self.generation.to_string(),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "size": self.data.len().to_string(),
            "md5Hash": STANDARD.encode(Md5::digest(&self.data)),
            "timeCreated": self.created.to_string(),
            "updated": self.created.to_string(),
        });
        if let Some(deleted) = self.deleted {
            told["timeDeleted"] = json!(deleted.to_string());
        }
        if let Some((mode, until)) = &self.lock {
            told["retention"] = json!({ "mode": mode, "retainUntilTime": until.to_string() });
        }
        told
    }
}

/// The two parts of an upload.
fn parts(request: &Request) -> (Value, Vec<u8>) {
    let kind = request.headers.get("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/related; boundary=").unwrap();
    let (open, close) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}--\r\n"));
    let body = request.body.strip_prefix(open.as_bytes()).unwrap();
    let body = body.strip_suffix(close.as_bytes()).unwrap();
    let between = format!("\r\n{open}");
    let at = body.windows(between.len()).position(|w| w == between.as_bytes()).unwrap();
    let content = |part: &[u8], kind: &str| {
        let head = format!("content-type: {kind}\r\n\r\n");
        part.strip_prefix(head.as_bytes()).unwrap().to_vec()
    };
    let first = content(&body[..at], "application/json; charset=UTF-8");
    let second = content(&body[at + between.len()..], "application/octet-stream");
    (serde_json::from_slice(&first).unwrap(), second)
}

impl Bucket {
    fn answer(&mut self, request: &Request) -> Reply {
        if !self.quirks.fails.is_empty() {
            let (status, reason) = self.quirks.fails.remove(0);
            return refusal(status, reason, "Not now.");
        }
        if request.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return refusal(401, "authError", "Invalid Credentials");
        }
        let parts: Vec<String> = request
            .path
            .trim_start_matches('/')
            .split('/')
            .map(|part| {
                let pairs = format!("x={}", part.replace('+', "%2B"));
                url::form_urlencoded::parse(pairs.as_bytes()).next().unwrap().1.into_owned()
            })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let generation = request.asked("generation").map(|g| g.parse().unwrap());
        match (request.method.as_str(), parts.as_slice()) {
            (
                _,
                ["upload", "storage", "v1", "b", bucket, ..] | ["storage", "v1", "b", bucket, ..],
            ) if *bucket != "backups" => {
                refusal(404, "notFound", "The specified bucket does not exist.")
            }
            ("POST", ["upload", .., "o"]) => self.insert(request),
            ("GET", ["storage", "v1", "b", _]) => self.told(),
            ("GET", ["storage", "v1", "b", _, "o"]) => self.list(request),
            ("GET", [.., "o", name]) => self.get(name, generation, request),
            ("PATCH", [.., "o", name]) => self.patch(name, generation, request),
            ("DELETE", [.., "o", name]) => self.delete(name, generation),
            other => panic!("nothing answers {other:?}"),
        }
    }

    fn told(&self) -> Reply {
        if self.quirks.silent {
            return forbidden("buckets.get");
        }
        let mut told = json!({
            "kind": "storage#bucket",
            "name": "backups",
            "versioning": { "enabled": !self.quirks.unversioned },
        });
        if !self.quirks.without {
            told["objectRetention"] = json!({ "mode": "Enabled" });
        }
        for (name, value) in self.quirks.settings.as_object().into_iter().flatten() {
            told[name] = value.clone();
        }
        document(200, &told)
    }

    fn find(&mut self, name: &str, generation: Option<u64>) -> Option<&mut Object> {
        self.objects.get_mut(name)?.iter_mut().find(|object| match generation {
            Some(generation) => object.generation == generation,
            None => object.deleted.is_none(),
        })
    }

    fn insert(&mut self, request: &Request) -> Reply {
        assert_eq!(request.asked("uploadType"), Some("multipart"));
        let (told, mut data) = parts(request);
        let name = told["name"].as_str().unwrap();
        if self.quirks.damages {
            data.push(0);
        }
        let (sent, found) =
            (told["md5Hash"].as_str().unwrap(), STANDARD.encode(Md5::digest(&data)));
        if sent != found {
            let message = format!(
                "Provided MD5 hash \"{sent}\" doesn't match calculated MD5 hash \"{found}\"."
            );
            return refusal(400, "invalid", &message);
        }
        let lock = lock_in(&told);
        if lock.is_some() && self.quirks.without {
            return refusal(400, "invalid", "The bucket does not have object retention enabled.");
        }
        let (undeletable, unversioned) = (self.quirks.undeletable, self.quirks.unversioned);
        if let Some(live) = self.find(name, None) {
            if request.asked("ifGenerationMatch") == Some("0") {
                return refusal(
                    412,
                    "conditionNotMet",
                    "At least one of the pre-conditions you specified did not hold.",
                );
            }
            if undeletable {
                return forbidden("objects.delete");
            }
            if unversioned && live.is_locked() {
                return retained();
            }
            live.deleted = Some(Timestamp::now());
        }
        self.written += 1;
        let object = Object {
            generation: 1_795_619_696_000_000 + self.written,
            data,
            created: Timestamp::now(),
            deleted: None,
            lock: lock.filter(|_| !self.quirks.forgets),
        };
        let answer = document(200, &object.told(name));
        let generations = self.objects.entry(name.to_owned()).or_default();
        if unversioned {
            generations.clear();
        }
        generations.push(object);
        answer
    }

    fn patch(&mut self, name: &str, generation: Option<u64>, request: &Request) -> Reply {
        assert_eq!(
            request.headers.get("content-type").map(String::as_str),
            Some("application/json")
        );
        let told: Value = serde_json::from_slice(&request.body).unwrap();
        let overrides = request.asked("overrideUnlockedRetention") == Some("true");
        let wanted = lock_in(&told);
        let forgets = self.quirks.forgets;
        let Some(object) = self.find(name, generation) else { return missing(name) };
        let weaker = match (&object.lock, &wanted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some((mode, held)), Some((new, until))) => mode != new || until < held,
        };
        let (fixed, shorter) = match (&object.lock, &wanted) {
            (Some((mode, held)), wanted) => (
                mode == "Locked" && object.is_locked(),
                wanted.as_ref().is_none_or(|(_, until)| until < held),
            ),
            (None, _) => (false, false),
        };
        // What is locked for good can only be lengthened; the rest wants the override.
        if weaker && (fixed || !overrides) {
            let what = if shorter { "reduced or removed" } else { "changed in its mode" };
            return refusal(403, "forbidden", &format!("The retention can't be {what}."));
        }
        if !forgets {
            object.lock = wanted;
        }
        document(200, &object.told(name))
    }

    fn get(&mut self, name: &str, generation: Option<u64>, request: &Request) -> Reply {
        if self.quirks.unreadable {
            return forbidden("objects.get");
        }
        let media = request.asked("alt") == Some("media");
        let Some(object) = self.find(name, generation) else {
            // Reads of contents are refused in plain words.
            let headers = vec![("content-type", "text/html; charset=UTF-8".to_owned())];
            let body = format!("No such object: backups/{name}").into_bytes();
            return if media { Reply { status: 404, headers, body } } else { missing(name) };
        };
        if !media {
            return document(200, &object.told(name));
        }
        let headers = vec![("x-goog-generation", object.generation.to_string())];
        match request.ranged(&object.data) {
            Some((status, body)) => Reply { status, headers, body },
            None => Reply { status: 416, headers, body: Vec::new() },
        }
    }

    fn delete(&mut self, name: &str, generation: Option<u64>) -> Reply {
        if self.quirks.undeletable {
            return forbidden("objects.delete");
        }
        let unversioned = self.quirks.unversioned;
        let Some(object) = self.find(name, generation) else { return missing(name) };
        let done = Reply { status: 204, headers: Vec::new(), body: Vec::new() };
        if generation.is_none() && !unversioned {
            object.deleted = Some(Timestamp::now());
            return done;
        }
        if object.is_locked() {
            return retained();
        }
        let gone = object.generation;
        self.objects.get_mut(name).unwrap().retain(|object| object.generation != gone);
        done
    }

    fn list(&self, request: &Request) -> Reply {
        if self.quirks.unlistable {
            return forbidden("objects.list");
        }
        let prefix = request.asked("prefix").unwrap();
        let all = request.asked("versions") == Some("true");
        let mut items = Vec::new();
        let mut page = json!({ "kind": "storage#objects" });
        let below = self.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let from = request.asked("pageToken").unwrap_or_default();
        for (count, (name, generations)) in below.filter(|(n, _)| n.as_str() >= from).enumerate() {
            if count == 16 {
                page["nextPageToken"] = json!(name);
                break;
            }
            let shown = generations.iter().filter(|object| all || object.deleted.is_none());
            items.extend(shown.map(|object| object.told(name)));
        }
        if !items.is_empty() {
            page["items"] = json!(items);
        }
        document(200, &page)
    }
}

fn missing(name: &str) -> Reply {
    refusal(404, "notFound", &format!("No such object: backups/{name}"))
}
