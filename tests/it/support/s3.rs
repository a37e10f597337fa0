//! What tests do to the S3 servers behind Keephold's back, through boto3: another client than ours.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Place, variable};

struct Helper {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// boto3 takes half a second to start: one process serves all tests, and ends when its input does.
fn helper() -> &'static Mutex<Helper> {
    static HELPER: OnceLock<Mutex<Helper>> = OnceLock::new();
    HELPER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/it/support/s3.py");
        let mut child = Command::new(variable("KEEPHOLD_TEST_PYTHON"))
            .arg(script)
            .env_remove("AWS_PROFILE")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python of KEEPHOLD_TEST_PYTHON starts");
        let (to, from) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Mutex::new(Helper { _child: child, to, from })
    })
}

/// Asks; gives what the server answered, or the code with which it refused.
fn ask(place: Place, role: &str, request: Value) -> Result<Value, String> {
    let Value::Object(mut request) = request else { panic!("a request is an object") };
    let [id, secret] = place.credential(role);
    for (name, value) in [("endpoint", place.endpoint()), ("id", id), ("secret", secret)] {
        request.insert(name.into(), value.into());
    }
    let mut helper = helper().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    writeln!(helper.to, "{}", Value::Object(request)).expect("s3.py listens");
    let mut line = String::new();
    helper.from.read_line(&mut line).unwrap();
    let answer: Value =
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("s3.py answered {line:?}: {e}"));
    match answer.get("error") {
        Some(code) => Err(code.as_str().unwrap().to_owned()),
        None => Ok(answer["ok"].clone()),
    }
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) size: u64,
    pub(crate) latest: bool,
    pub(crate) marker: bool,
}

/// One object of a vault, named by its whole key.
#[derive(Debug, Clone)]
pub(crate) struct Object<'a> {
    pub(crate) place: Place,
    pub(crate) bucket: &'a str,
    pub(crate) key: String,
}

/// A fresh bucket.
pub(crate) fn bucket(place: Place, lock: bool) -> String {
    let name = format!("it-{:016x}", rand::random::<u64>());
    ask(place, "", json!({"do": "make_bucket", "bucket": name, "lock": lock})).unwrap();
    name
}

pub(crate) fn policy(place: Place, bucket: &str, policy: &Value) {
    ask(place, "", json!({"do": "policy", "bucket": bucket, "policy": policy})).unwrap();
}

/// A rule that ends what lies below a prefix.
pub(crate) fn lifecycle(place: Place, bucket: &str, prefix: &str, days: u32) {
    let request = json!({"do": "lifecycle", "bucket": bucket, "prefix": prefix, "days": days});
    ask(place, "", request).unwrap();
}

/// Any of boto3's calls, as a role. Gives the version that a PutObject answered.
pub(crate) fn call(
    place: Place,
    role: &str,
    operation: &str,
    arguments: &Value,
) -> Result<Value, String> {
    ask(place, role, json!({"do": "call", "operation": operation, "arguments": arguments}))
}

/// All versions whose keys begin so, newest first for each key.
pub(crate) fn versions(place: Place, bucket: &str, prefix: &str) -> Vec<Version> {
    let found =
        ask(place, "", json!({"do": "versions", "bucket": bucket, "prefix": prefix})).unwrap();
    serde_json::from_value(found).unwrap()
}

impl Object<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "callers make it for the call")]
    fn ask(&self, role: &str, what: &str, more: Value) -> Result<Value, String> {
        let mut request = json!({"do": what, "bucket": self.bucket, "key": self.key});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(self.place, role, request)
    }

    /// Its versions and markers.
    pub(crate) fn versions(&self) -> Vec<Version> {
        versions(self.place, self.bucket, &self.key)
            .into_iter()
            .filter(|v| v.key == self.key)
            .collect()
    }

    /// The only version of an object that nobody has touched.
    pub(crate) fn only_version(&self) -> String {
        let [one] = &self.versions()[..] else {
            panic!("{} has not just one version: {:?}", self.key, self.versions())
        };
        assert!(!one.marker);
        one.version.clone()
    }

    pub(crate) fn get(&self, version: &str) -> Vec<u8> {
        self.read_as("", version)
    }

    /// Reads a version as another user, who may.
    pub(crate) fn read_as(&self, role: &str, version: &str) -> Vec<u8> {
        let body = self.ask(role, "get", json!({"version": version})).unwrap();
        STANDARD.decode(body.as_str().unwrap()).unwrap()
    }

    /// Puts a version over it, without a lock.
    pub(crate) fn put(&self, body: &[u8]) -> String {
        self.ask("", "put", json!({"body": STANDARD.encode(body)}))
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Puts a version over it, with a lock.
    pub(crate) fn put_locked(&self, body: &[u8], mode: &str, until: &str) -> String {
        let request = json!({"body": STANDARD.encode(body), "mode": mode, "until": until});
        self.ask("", "put", request).unwrap().as_str().unwrap().to_owned()
    }

    /// Deletes without naming a version: a marker.
    pub(crate) fn hide(&self) {
        self.ask("", "delete", json!({})).unwrap();
    }

    /// Tries to delete a version, with the right to bypass governance.
    pub(crate) fn delete(&self, version: &str, bypass: bool) -> Result<(), String> {
        self.ask("", "delete", json!({"version": version, "bypass": bypass})).map(drop)
    }

    /// Tries to delete a version as another user.
    pub(crate) fn delete_as(&self, role: &str, version: &str) -> Result<(), String> {
        self.ask(role, "delete", json!({"version": version, "bypass": true})).map(drop)
    }

    /// Puts a version over it as another user, without a lock; gives the version.
    pub(crate) fn put_as(&self, role: &str, body: &[u8]) -> Result<String, String> {
        let done = self.ask(role, "put", json!({"body": STANDARD.encode(body)}))?;
        Ok(done.as_str().unwrap_or_default().to_owned())
    }

    /// Deletes as another user without naming a version: a marker.
    pub(crate) fn hide_as(&self, role: &str) -> Result<(), String> {
        self.ask(role, "delete", json!({})).map(drop)
    }

    /// Moves the end of a version's lock as another user.
    pub(crate) fn extend_as(
        &self,
        role: &str,
        version: &str,
        mode: &str,
        until: &str,
    ) -> Result<(), String> {
        let request = json!({"version": version, "mode": mode, "until": until});
        self.ask(role, "set_retention", request).map(drop)
    }

    /// Moves the end of a version's lock as another user, with the right to bypass governance; without a mode, takes the
    /// lock away.
    pub(crate) fn bypass_as(
        &self,
        role: &str,
        version: &str,
        mode: &str,
        until: &str,
    ) -> Result<(), String> {
        let request = json!({"version": version, "mode": mode, "until": until, "bypass": true});
        self.ask(role, "set_retention", request).map(drop)
    }

    /// Tries to read a version as another user.
    pub(crate) fn get_as(&self, role: &str, version: &str) -> Result<(), String> {
        self.ask(role, "get", json!({"version": version})).map(drop)
    }

    /// Mode and end of a version's lock.
    pub(crate) fn retention(&self, version: &str) -> Result<(String, jiff::Timestamp), String> {
        self.retention_as("", version)
    }

    /// The same as another user.
    pub(crate) fn retention_as(
        &self,
        role: &str,
        version: &str,
    ) -> Result<(String, jiff::Timestamp), String> {
        let found = self.ask(role, "retention", json!({"version": version}))?;
        let text = |name: &str| found[name].as_str().unwrap().to_owned();
        Ok((text("mode"), text("until").parse().unwrap()))
    }

    pub(crate) fn set_retention(
        &self,
        version: &str,
        mode: &str,
        until: &str,
        bypass: bool,
    ) -> Result<(), String> {
        let request = json!({"version": version, "mode": mode, "until": until, "bypass": bypass});
        self.ask("", "set_retention", request).map(drop)
    }
}
