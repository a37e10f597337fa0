//! A site: a host with its keys and cache, a vault, and the place to which the identities were carried off.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Program, binary};
use super::{s3, variable};

/// What holds the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Local,
    Ceph,
    LocalStack,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Local, Self::Ceph, Self::LocalStack];
    pub(crate) const S3: [Self; 2] = [Self::Ceph, Self::LocalStack];

    fn prefix(self) -> &'static str {
        match self {
            Self::Local => panic!("a local vault has no server"),
            Self::Ceph => "KEEPHOLD_TEST_CEPH",
            Self::LocalStack => "KEEPHOLD_TEST_LOCALSTACK",
        }
    }

    pub(crate) fn endpoint(self) -> String {
        variable(&format!("{}_ENDPOINT", self.prefix()))
    }

    /// Id and secret of the buckets' owner, or of a role of Ceph's (`WRITER`, `VERIFIER`, …).
    pub(crate) fn credential(self, role: &str) -> [String; 2] {
        let role = if role.is_empty() { String::new() } else { format!("{role}_") };
        ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"]
            .map(|what| variable(&format!("{}_{role}{what}", self.prefix())))
    }
}

/// A host and its vault.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) place: Place,
    pub(crate) url: String,
    /// Where the host reaches its vault; a test may put a proxy there.
    pub(crate) endpoint: Option<String>,
    /// The host's credential.
    pub(crate) credential: Option<[String; 2]>,
    pub(crate) bucket: String,
    pub(crate) lock: &'static str,
}

impl Site {
    /// A host, and where its vault can be: a bucket with Object Lock, or a name for a folder. No vault yet.
    pub(crate) fn bare(place: Place, lock: &'static str) -> Self {
        Self::within(&std::env::temp_dir(), place, lock)
    }

    /// The same where no other test makes folders at the same time: those above the source stand in its snapshot, and so
    /// do their times.
    pub(crate) fn alone(place: Place, lock: &'static str) -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")), place, lock)
    }

    fn within(folder: &Path, place: Place, lock: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("keephold-it-").tempdir_in(folder).unwrap();
        let (url, endpoint, credential, bucket) = match place {
            Place::Local => (
                format!("file://{}", dir.path().join("vault").display()),
                None,
                None,
                String::new(),
            ),
            Place::Ceph | Place::LocalStack => {
                let bucket = s3::bucket(place, true);
                (
                    format!("s3://{bucket}/main"),
                    Some(place.endpoint()),
                    Some(place.credential("")),
                    bucket,
                )
            }
        };
        for folder in ["home", "safe", "source"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self { dir, place, url, endpoint, credential, bucket, lock }
    }

    /// A host with a vault that nobody can unlock.
    pub(crate) fn new(place: Place) -> Self {
        Self::with_lock(place, "compliance")
    }

    /// A host with a vault, its locks as asked for.
    pub(crate) fn with_lock(place: Place, lock: &'static str) -> Self {
        let site = Self::bare(place, lock);
        site.init().run().ok();
        site
    }

    /// A copy of this host's vault, seen as a vault of its own: by whoever has the identities and knows the host's keys.
    pub(crate) fn copy_at(&self, place: Place, url: &str, bucket: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("keephold-it-").tempdir().unwrap();
        for folder in ["safe", "keys"] {
            let copied =
                Command::new("cp").arg("-a").arg(self.path(folder)).arg(dir.path()).status();
            assert!(copied.unwrap().success());
        }
        let remote = place != Place::Local;
        Self {
            dir,
            place,
            url: url.to_owned(),
            endpoint: remote.then(|| place.endpoint()),
            credential: remote.then(|| place.credential("")),
            bucket: bucket.to_owned(),
            lock: self.lock,
        }
    }

    /// The lines of a configuration that give a table the credential of a role at a server, as [`Place::credential`].
    pub(crate) fn credential_lines(&self, place: Place, role: &str) -> String {
        let [id, secret] = place.credential(role);
        let path = self.path(&format!("secret-{place:?}{role}"));
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("allow_http = true\naccess_key_id = '{id}'\nsecret_file = '{}'\n", path.display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder that is backed up.
    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// The identity that restores.
    pub(crate) fn identity(&self) -> PathBuf {
        self.path("safe/restore.agekey")
    }

    /// A command of `program` at `home`, told where the vault is and with a credential for it.
    pub(crate) fn program(&self, program: &str, home: &str, arguments: &[&str]) -> Program {
        let home = self.path(home);
        std::fs::create_dir_all(&home).unwrap();
        let mut run = Program::new(binary(program), &home).args(arguments).args(self.target());
        if let Some([id, secret]) = &self.credential {
            run = run
                .env("AWS_ACCESS_KEY_ID", id)
                .env("AWS_SECRET_ACCESS_KEY", secret)
                .env("AWS_REGION", "us-east-1");
        }
        run
    }

    /// Options that say where the vault is.
    pub(crate) fn target(&self) -> Vec<String> {
        let mut options = vec!["--vault".to_owned(), self.url.clone()];
        if let Some(endpoint) = &self.endpoint {
            options.extend([
                "--endpoint".to_owned(),
                endpoint.clone(),
                "--retry".to_owned(),
                "5".to_owned(),
            ]);
        }
        if self.lock != "compliance" {
            options.extend(["--lock".to_owned(), self.lock.to_owned()]);
        }
        options
    }

    /// `keephold init`, with the identities carried off to `safe`.
    pub(crate) fn init(&self) -> Program {
        self.program("keephold", "home", &["init", "--host", "web1"])
            .arg("--keys")
            .arg(self.path("keys"))
            .arg("--identities")
            .arg(self.path("safe"))
    }

    /// `keephold backup`, on the host.
    pub(crate) fn backup_command(&self) -> Program {
        self.program("keephold", "home", &["backup", "--host", "web1"])
            .arg("--keys")
            .arg(self.path("keys"))
            .arg("--cache")
            .arg(self.path("cache"))
    }

    /// Backs `source` up, as one JSON line.
    pub(crate) fn backup(&self) -> Program {
        self.backup_command().arg("--json").arg(self.source())
    }

    /// Backs `source` up, which must go well; gives the record.
    #[track_caller]
    pub(crate) fn backs_up(&self) -> Value {
        self.backup().run().ok().json()
    }

    /// Backs up what was just backed up, with an index that can be read. Nothing is new but the times of the folders above
    /// the source, in which other tests are at work.
    pub(crate) fn backs_up_again(&self) {
        let record = self.backs_up();
        let totals = &record["totals"];
        assert_eq!(totals["packs_reused"], 1, "the index could be read: {record}");
        assert!(totals["bytes_new"].as_u64().unwrap() < 4096, "{record}");
    }

    /// Backs the databases of a server up by a configuration file, with programs of `bin_dir` where one is given.
    pub(crate) fn backup_databases(&self, dsn: &str, bin_dir: Option<&Path>) -> Program {
        let config = self.path("keephold.toml");
        let bin_dir =
            bin_dir.map(|folder| format!("bin_dir = '{}'\n", folder.display())).unwrap_or_default();
        let text = format!(
            "host = 'web1'\n[vault]\nurl = '{}'\nkeys = '{}'\n[[postgres]]\nname = 'main'\ndsn = \"{dsn}\"\ninclude = ['shop']\n{bin_dir}",
            self.url,
            self.path("keys").display()
        );
        std::fs::write(&config, text).unwrap();
        let home = self.path("home");
        let backup =
            Program::new(binary("keephold"), &home).args(["backup", "--config"]).arg(config);
        backup.arg("--cache").arg(self.path("cache"))
    }

    /// A program that a test puts in another's place.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(self.path("bin")).unwrap();
        // Made under another name first: a file that is still open for writing can't be run.
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::set_permissions(
            path.with_extension("new"),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// A reading command on another machine: only the vault and the identity, and an empty home.
    pub(crate) fn elsewhere(&self, arguments: &[&str]) -> Program {
        self.program("keephold", "elsewhere", arguments).arg("--identity").arg(self.identity())
    }

    /// Restores the newest snapshot of job `files` to a new folder `to`, on another machine.
    pub(crate) fn restore(&self, to: &str) -> Program {
        let to = self.path(to);
        self.elsewhere(&["restore", "latest"]).arg("--target").arg(to)
    }

    /// Where a path of `source` comes to lie in what [`Self::restore`] made.
    pub(crate) fn restored(&self, to: &str) -> PathBuf {
        let source = self.source();
        self.path(to).join(source.strip_prefix("/").unwrap())
    }

    /// Everything stored, by key: names and BLAKE3 of all versions, and markers. Locks' dates are not part of it.
    pub(crate) fn stored(&self) -> Vec<String> {
        match self.place {
            Place::Local => local_listing(&self.path("vault")),
            _ => s3::versions(self.place, &self.bucket, "")
                .into_iter()
                .map(|v| format!("{} {} {} {}", v.key, v.version, v.size, v.marker))
                .collect(),
        }
    }

    /// Keys of the objects whose keys begin so, sorted.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        match self.place {
            Place::Local => local_listing(&self.path("vault"))
                .into_iter()
                .map(|line| line.split(' ').next().unwrap().to_owned())
                .filter(|key| key.starts_with(prefix))
                .collect(),
            _ => {
                let mut keys: Vec<_> =
                    s3::versions(self.place, &self.bucket, &format!("main/{prefix}"))
                        .into_iter()
                        .filter(|v| v.latest && !v.marker)
                        .map(|v| v.key.trim_start_matches("main/").to_owned())
                        .collect();
                keys.sort();
                keys
            }
        }
    }

    /// For messages.
    pub(crate) fn place_and_url(&self) -> String {
        format!("{:?} {}", self.place, self.url)
    }

    /// Words that differ from run to run, for [`super::redact`].
    pub(crate) fn redact(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let endpoint = self.endpoint.clone().unwrap_or_default();
        let host = endpoint.trim_start_matches("http://").to_owned();
        super::redact(
            text,
            &[
                (&self.url, "VAULT"),
                (&dir, "DIR"),
                (&endpoint, "ENDPOINT"),
                (&host, "HOST"),
                (&self.bucket, "BUCKET"),
            ],
        )
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for vault in ["vault", "copy", "near"] {
            unlock(&self.path(vault));
        }
    }
}

/// Takes the immutable attribute from everything in a folder.
pub(crate) fn unlock(folder: &Path) {
    if folder.exists() {
        let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(folder).status();
    }
}

fn local_listing(folder: &Path) -> Vec<String> {
    fn visit(folder: &Path, below: &Path, out: &mut Vec<String>) {
        let Ok(list) = std::fs::read_dir(folder) else { return };
        for entry in list {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(below).unwrap();
            if name.starts_with(".locks") || name.starts_with(".tmp") {
                continue;
            }
            if path.is_dir() {
                visit(&path, below, out);
            } else {
                out.push(format!(
                    "{} {}",
                    name.display(),
                    blake3::hash(&std::fs::read(&path).unwrap()).to_hex()
                ));
            }
        }
    }
    let mut out = Vec::new();
    visit(folder, folder, &mut out);
    out.sort();
    out
}

/// What a test does to a local vault behind its back, as root or a failing disk would.
pub(crate) fn meddle(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    let _ = Command::new("chattr").args(["-f", "-i"]).arg(path).status();
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, mode).unwrap();
    let _ = Command::new("chattr").args(["-f", "+i"]).arg(path).status();
}
