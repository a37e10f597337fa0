//! Finding out what a credential may do, harmlessly. Servers look at rights before they look at what a request asks
//! for, so each probe is a request that would be right for who may, and yet can't change anything: a write whose
//! checksum is wrong, a document that isn't XML, the deletion of a version that doesn't exist. A refusal (403) then
//! means that the right is lacking, and any other complaint that it is there.
//!
//! Reads are tried on objects that exist, where there are any: Ceph says that a key is missing before it looks at rights.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::S3Store;
use super::locking;
use super::refusal::Refusal;
use super::write::version_in;
use crate::store::http::{self, Answer, Call, Node, Sums, named};
use crate::store::{
    Lock, LockMode, LockPolicy, ObjectKey, Permissions, Right, Store as _, StoreError, Verdict,
};

/// Base64 of sixteen zero bytes: no MD5 of anything that is sent here.
const WRONG_MD5: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

/// No document of any kind: neither XML nor JSON.
const MALFORMED: Bytes = Bytes::from_static(b"<keephold-doctor");

/// The lock on a write that no server should accept: should one do so all the same, it soon ends.
const SHORT_LOCK: SignedDuration = SignedDuration::from_secs(60);

/// A lock that no run needs.
const DECADES: SignedDuration = SignedDuration::from_hours(24 * 365 * 50);

impl S3Store {
    /// Tries every right once. `longest` is the end of the longest lock that a run of now would set.
    ///
    /// # Errors
    /// [`StoreError`] where the target can't be asked at all: unreachable, no such bucket, an unknown credential.
    pub(in crate::store) async fn permissions(
        &self,
        longest: Timestamp,
    ) -> Result<Permissions, StoreError> {
        let (list, server) = self.may_list().await?;
        let may_list = list == Verdict::Allowed;
        let probe = Probe { store: self, may_list, rights_first: checks_rights_first(&server) };
        let config = ObjectKey::vault_config();
        let mut found = vec![(Right::List, list)];
        found.push((Right::ListVersions, probe.list_versions().await?));
        found.push((Right::ReadConfig, probe.read(config.as_str()).await?));
        found.push((Right::ReadIndex, probe.read_any("index/").await?));
        found.push((Right::ReadRuns, probe.read_any("runs/").await?));
        found.push((Right::ReadLocks, probe.read_lock(&config).await?));
        let write = probe.write("packs/00/", Timestamp::now() + SHORT_LOCK).await?;
        // Where a wrong checksum is not complained of, a long lock would stay.
        let careful = self.policy != LockPolicy::None && write.1;
        found.push((Right::Write, write.0));
        if careful {
            found.push((Right::WriteLongest, probe.write("packs/00/", longest).await?.0));
        }
        found.push((Right::Extend, probe.change_object(&config, "retention").await?));
        found.push((Right::ReadPacks, probe.read_any("packs/").await?));
        let elsewhere = probe.write("reports/", Timestamp::now() + SHORT_LOCK).await?.0;
        found.push((Right::WriteElsewhere, elsewhere));
        if careful {
            let decades = probe.write("packs/00/", Timestamp::now() + DECADES).await?.0;
            found.push((Right::LockForDecades, decades));
        }
        found.push((Right::DeleteVersions, probe.delete().await?));
        let (hide, marker_left) = probe.hide().await?;
        found.push((Right::Hide, hide));
        if self.policy == LockPolicy::Governance {
            found.push((Right::Bypass, probe.bypass(&config).await?));
        }
        found.push((Right::LegalHold, probe.change_object(&config, "legal-hold").await?));
        for (right, what) in [
            (Right::ChangePolicy, "policy"),
            (Right::ChangeVersioning, "versioning"),
            (Right::ChangeObjectLock, "object-lock"),
            (Right::ChangeLifecycle, "lifecycle"),
        ] {
            found.push((right, probe.change_bucket(what).await?));
        }
        Ok(Permissions { found, marker_left, server })
    }

    async fn may_list(&self) -> Result<(Verdict, Option<String>), StoreError> {
        let call = Call::new("GET", None, "list", "the bucket")
            .query("list-type", "2")
            .query("max-keys", "1")
            .query("prefix", &*self.root);
        let answer = self.client.send(&call).await?;
        let server = answer.header("server").map(str::to_owned);
        Ok((self.verdict(&call, &answer, Missing::Unclear)?, server))
    }

    /// What an answer says about the right that the request needs.
    fn verdict(
        &self,
        call: &Call<'_>,
        answer: &Answer,
        missing: Missing,
    ) -> Result<Verdict, StoreError> {
        if answer.is_success() {
            return Ok(Verdict::Allowed);
        }
        let refusal = Refusal::of(answer);
        let unclear = |why: &str| Ok(Verdict::Unclear(format!("{why}: {}", refusal.words())));
        if refusal.is_no_bucket() {
            return Err(self.error(call, &refusal));
        }
        if refusal.is_denied() {
            // A wrong key is refused everywhere: that tells nothing about rights.
            return match refusal.code.as_str() {
                "AccessDenied" | "AllAccessDisabled" | "" => Ok(Verdict::Refused),
                _ => Err(self.error(call, &refusal)),
            };
        }
        match (answer.status, missing) {
            (405 | 501, _) => unclear("the server doesn't know this request"),
            (404, Missing::Allowed) if refusal.is_missing() => Ok(Verdict::Allowed),
            (404, _) => unclear("there is nothing yet to try it on"),
            // Rights first, then this: the request got as far as to be found wrong.
            (400 | 409 | 411 | 412, _) => Ok(Verdict::Allowed),
            _ => unclear("an answer that doesn't tell"),
        }
    }
}

/// What it says that an object isn't there.
#[derive(Debug, Clone, Copy)]
enum Missing {
    /// That the right is there: the server looks at rights first.
    Allowed,
    /// Nothing.
    Unclear,
}

/// Servers that are known to look at rights before they say that a key is missing.
fn checks_rights_first(server: &Option<String>) -> bool {
    server.as_deref().is_some_and(|s| s.starts_with("AmazonS3") || s.starts_with("MinIO"))
}

/// A name that no object has.
fn nobody() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

/// The probes, one method a kind.
struct Probe<'a> {
    store: &'a S3Store,
    may_list: bool,
    rights_first: bool,
}

impl Probe<'_> {
    fn missing(&self) -> Missing {
        if self.rights_first { Missing::Allowed } else { Missing::Unclear }
    }

    async fn ask(&self, call: &Call<'_>, missing: Missing) -> Result<Verdict, StoreError> {
        let answer = self.store.client.send(call).await?;
        self.store.verdict(call, &answer, missing)
    }

    async fn list_versions(&self) -> Result<Verdict, StoreError> {
        let call = Call::new("GET", None, "list the versions of", "the bucket")
            .query("versions", "")
            .query("max-keys", "1")
            .query("prefix", &*self.store.root);
        self.ask(&call, Missing::Unclear).await
    }

    /// Reads one byte.
    async fn read(&self, key: &str) -> Result<Verdict, StoreError> {
        let path = format!("{}{key}", self.store.root);
        let call = Call::new("GET", Some(&path), "read", key).header("range", "bytes=0-0");
        let verdict = self.ask(&call, self.missing()).await?;
        // Without the right to list, what is missing is refused too.
        Ok(match verdict {
            Verdict::Refused if !self.may_list => {
                Verdict::Unclear("refused, but it may only be missing".into())
            }
            other => other,
        })
    }

    /// Reads one byte of some object below a folder, or of one that isn't there.
    async fn read_any(&self, folder: &str) -> Result<Verdict, StoreError> {
        let below = format!("{}{folder}", self.store.root);
        let call = Call::new("GET", None, "list", folder)
            .query("list-type", "2")
            .query("max-keys", "1")
            .query("prefix", &*below);
        let answer = self.store.client.send(&call).await?;
        let doc = answer.is_success().then(|| Node::parse(&answer.body)).flatten();
        let key = doc
            .as_ref()
            .and_then(|doc| doc.text_at(&["Contents", "Key"])?.strip_prefix(&self.store.root))
            .and_then(ObjectKey::parse);
        match key {
            Some(key) => Ok(match self.read(key.as_str()).await? {
                // It was listed, so it is there.
                Verdict::Unclear(_) if !self.may_list => Verdict::Refused,
                other => other,
            }),
            None => self.read(&format!("{folder}{}", nobody())).await,
        }
    }

    async fn read_lock(&self, key: &ObjectKey) -> Result<Verdict, StoreError> {
        let path = self.store.path(key);
        let call =
            Call::new("GET", Some(&path), "read the lock of", key.as_str()).query("retention", "");
        let answer = self.store.client.send(&call).await?;
        if !answer.is_success() && locking::says_no_lock(&Refusal::of(&answer)) {
            return Ok(Verdict::Allowed);
        }
        self.store.verdict(&call, &answer, self.missing())
    }

    /// Sends bytes with a wrong checksum, and says whether that is what the server complained of.
    async fn write(&self, folder: &str, until: Timestamp) -> Result<(Verdict, bool), StoreError> {
        let key = format!("{folder}{}", nobody());
        let path = format!("{}{key}", self.store.root);
        let body = Bytes::from_static(b"keephold doctor: this must not be stored");
        let sha256 = Sums::now(&body).sha256;
        let mut call = Call::new("PUT", Some(&path), "write", &key)
            .header("content-type", "application/octet-stream")
            .body_without_md5(body, sha256)
            .header("content-md5", WRONG_MD5)
            .header("if-none-match", "*");
        if let Some(mode) = http::mode_of(self.store.policy) {
            call = call
                .header(locking::MODE_HEADER, locking::word(mode))
                .header(locking::UNTIL_HEADER, http::whole_seconds(until).to_string());
        }
        let answer = self.store.client.send(&call).await?;
        let complained =
            matches!(Refusal::of(&answer).code.as_str(), "BadDigest" | "InvalidDigest");
        let verdict = self.store.verdict(&call, &answer, Missing::Unclear)?;
        if answer.is_success() {
            // The server takes no notice of checksums. What can be tidied away is.
            let version = answer.header("x-amz-version-id").unwrap_or("null");
            let tidy = Call::new("DELETE", Some(&path), "delete", &key).query("versionId", version);
            let _ = self.store.client.send(&tidy).await;
        }
        Ok((verdict, complained))
    }

    /// Sends a document that can't be read to `?retention` or `?legal-hold` of an object.
    async fn change_object(
        &self,
        key: &ObjectKey,
        what: &'static str,
    ) -> Result<Verdict, StoreError> {
        let path = self.store.path(key);
        let sums = Sums::now(&MALFORMED);
        let call = Call::new("PUT", Some(&path), &format!("change the {what} of"), key.as_str())
            .query(what, "")
            .body(MALFORMED, &sums);
        self.ask(&call, self.missing()).await
    }

    /// The same to a setting of the bucket.
    async fn change_bucket(&self, what: &'static str) -> Result<Verdict, StoreError> {
        let sums = Sums::now(&MALFORMED);
        let call = Call::new("PUT", None, &format!("change the bucket's {what}"), "")
            .query(what, "")
            .body(MALFORMED, &sums);
        self.ask(&call, Missing::Unclear).await
    }

    /// Deletes an object that never was, without naming a version, on the condition that it is there. Where servers know
    /// that condition (Amazon), nothing comes of it. Others leave a delete marker with whoever has the right, over
    /// nothing, which is taken away again where that is allowed; otherwise its key is given. It lies where `keephold prune`
    /// tidies such markers up.
    async fn hide(&self) -> Result<(Verdict, Option<String>), StoreError> {
        let name = nobody();
        let key = format!("packs/{}/{name}", &name[..2]);
        let path = format!("{}{key}", self.store.root);
        let call = Call::new("DELETE", Some(&path), "hide", &key).header("if-match", "*");
        let answer = self.store.client.send(&call).await?;
        let verdict = self.store.verdict(&call, &answer, Missing::Allowed)?;
        let Some(marker) = answer.is_success().then(|| version_in(&answer)).flatten() else {
            return Ok((verdict, None));
        };
        let tidy = Call::new("DELETE", Some(&path), "delete the marker over", &key)
            .query("versionId", &marker.0);
        let tidied = self.store.client.send(&tidy).await?.is_success();
        Ok((verdict, (!tidied).then_some(key)))
    }

    /// Deletes versions that don't exist of keys that don't exist.
    async fn delete(&self) -> Result<Verdict, StoreError> {
        let mut worst = Verdict::Refused;
        for folder in ["packs/00/", "index/", "runs/"] {
            let key = format!("{folder}{}", nobody());
            let path = format!("{}{key}", self.store.root);
            let call = Call::new("DELETE", Some(&path), "delete", &key).query("versionId", "null");
            match self.ask(&call, Missing::Allowed).await? {
                Verdict::Allowed => return Ok(Verdict::Allowed),
                Verdict::Refused => {}
                unclear @ Verdict::Unclear(_) => worst = unclear,
            }
        }
        Ok(worst)
    }

    /// Lengthens a governance lock by two seconds, then tries to take one of them back: the lock never ends sooner
    /// than it did before. Nothing less tells, for servers ask for this right only where a lock stands in the way.
    async fn bypass(&self, key: &ObjectKey) -> Result<Verdict, StoreError> {
        let unclear = |why: &str| Ok(Verdict::Unclear(why.to_owned()));
        let path = self.store.path(key);
        let head = Call::new("HEAD", Some(&path), "look at", key.as_str());
        let answer = self.store.client.send(&head).await?;
        let Some(version) = version_in(&answer).filter(|_| answer.is_success()) else {
            return unclear("there is no version of vault.json to try it on");
        };
        let held = match self.store.retention(key, Some(&version)).await {
            Ok(Some(held)) if held.mode == LockMode::Governance => held,
            Ok(_) | Err(StoreError::Denied { .. }) => {
                return unclear("vault.json has no governance lock to try it on");
            }
            Err(error) => return Err(error),
        };
        let later = |seconds| Lock {
            mode: LockMode::Governance,
            until: http::whole_seconds(held.until + SignedDuration::from_secs(seconds)),
        };
        match self.store.put_retention(key, &version, later(2)).await {
            Ok(()) => {}
            Err(StoreError::Denied { .. }) => {
                return unclear("locks can't be lengthened, so not tried");
            }
            Err(error) => return Err(error),
        }
        let document = locking::retention_document(Some(later(1)));
        let sums = Sums::now(&document);
        let call =
            Call::new("PUT", Some(&path), "shorten the lock of", &named(key, Some(&version)))
                .query("retention", "")
                .query("versionId", &version.0)
                .header("x-amz-bypass-governance-retention", "true")
                .body(document, &sums);
        self.ask(&call, Missing::Unclear).await
    }
}
