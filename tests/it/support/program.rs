//! Running the real programs, with nothing of this process's environment but what a test gives them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that any one command may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// One of the programs under test: beside the folder that this test program is in.
pub(crate) fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} isn't built: run tests/run, or `cargo build --workspace` first",
        path.display()
    );
    path
}

/// A command in the making.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Command,
}

impl Program {
    /// A command whose environment is only `PATH` and folders of its own below `home`.
    pub(crate) fn new(program: impl AsRef<OsStr>, home: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", home.join("tmp"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        std::fs::create_dir_all(home.join("tmp")).unwrap();
        Self { command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Takes an argument away again.
    pub(crate) fn without(self, arg: &str) -> Self {
        let mut bare = Command::new(self.command.get_program());
        bare.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        bare.args(self.command.get_args().filter(|own| *own != arg));
        bare.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bare.current_dir(self.command.get_current_dir().unwrap_or(Path::new("/")));
        Self { command: bare }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts it; whoever holds it can send signals.
    #[track_caller]
    pub(crate) fn start(mut self) -> Started {
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{:?} can't be started: {e}", self.command));
        let out = drain(child.stdout.take());
        let err = drain(child.stderr.take());
        Started { what: format!("{:?}", self.command), child: Kept(child), out, err }
    }
}

type Drain = std::thread::JoinHandle<Vec<u8>>;

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> Drain {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Started {
    what: String,
    child: Kept,
    out: Drain,
    err: Drain,
}

/// A process that ends with the test, also with one that fails.
#[derive(Debug)]
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(self.child.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let (began, mut peak_bytes) = (Instant::now(), 0);
        let status = loop {
            peak_bytes = peak_bytes.max(peak(self.child.0.id()));
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                panic!("still running after {} s: {}", PATIENCE.as_secs(), self.what);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Output {
            what: self.what,
            code: status.code(),
            peak_bytes,
            bytes: self.out.join().unwrap(),
            stderr: String::from_utf8_lossy(&self.err.join().unwrap()).into_owned(),
        }
    }
}

/// The most memory that a process has held, by the kernel's own count; 0 once it has ended.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) what: String,
    /// The most memory that it held, as seen every few milliseconds.
    pub(crate) peak_bytes: u64,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Must have ended with this status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\nexit status\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.stdout(),
            self.stderr
        );
        self
    }

    /// Must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Must have this in what it printed.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        let all = format!("{}{}", self.stdout(), self.stderr);
        assert!(all.contains(words), "{}\ndoesn't say {words:?}:\n{all}", self.what);
        self
    }

    /// Each line of standard output as JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no JSON: {e}"))
        };
        self.stdout().lines().map(parse).collect()
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = self.stdout();
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{}\nprinted no JSON ({e}): {text}", self.what))
    }
}

/// Makes what differs from run to run the same: each text of `replace`, hex strings of 32 digits and more, times.
pub(crate) fn redact(text: &str, replace: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in replace {
        if !from.is_empty() {
            text = text.replace(from, to);
        }
    }
    let lines = text.lines().map(|line| {
        let mut line = hide_hex(line.trim_end());
        if let Some(at) = line.find("packs/").filter(|at| line[at + 8..].starts_with("/HEX")) {
            line.replace_range(at + 6..at + 8, "XX");
        }
        // `web1/files: FAILED in 4 ms`
        if let Some((before, after)) = line.rsplit_once(" in ")
            && (after.ends_with(" ms") || after.ends_with(" s"))
        {
            line = format!("{before} in TIME");
        }
        // `runs/web1/files/20261123T194403Z-1-96c6…`, whatever stands behind it.
        if let Some((before, key)) = line.split_once("runs/")
            && let [host, job, rest] = key.splitn(3, '/').collect::<Vec<_>>()[..]
        {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-');
            line = format!("{before}runs/{host}/{job}/RUN{rest}");
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn hide_hex(line: &str) -> String {
    let (mut out, mut digits) = (String::new(), String::new());
    for c in line.chars().map(Some).chain([None]) {
        match c {
            Some(c @ ('0'..='9' | 'a'..='f')) => digits.push(c),
            _ => {
                out.push_str(if digits.len() >= 32 { "HEX" } else { &digits });
                digits.clear();
                out.extend(c);
            }
        }
    }
    out
}
