//! Child programs that end when this process does, however it ends.
//!
//! A `pg_dump` that outlives its agent holds locks and a snapshot on the server; a throw-away server that outlives its
//! verifier fills a disk. Destructors don't run after `SIGKILL`, and Linux's parent-death signal needs unsafe code and follows
//! the starting *thread*. So each program is started on a **leash**: through a shell that first starts a guard in the
//! program's own process group. The guard reads from a pipe of which only this process has the other end. When this process dies,
//! the kernel closes the pipe, and the guard kills the group, then removes the program's folder, if it has one.

use crate::{Error, Result, connect};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin},
    task::JoinHandle,
};

/// How much of a program's messages is kept, in bytes: the end, where programs say why they stopped.
const TAIL: usize = 64 << 10;

/// `$1` is a folder to remove or empty, `$2` seconds between asking and killing; then the program and its arguments.
/// Shells give background jobs /dev/null as input, hence the detour by descriptor 3. `$$` is the group, since the shell
/// was started as its leader and becomes the program.
const LEASH: &str = r#"
exec 3<&0
(
    trap '' HUP INT QUIT TERM
    read -r _ <&3
    if [ "$2" != 0 ]; then kill -QUIT $$; fi
    left=$2
    while [ "$left" -gt 0 ] && kill -0 $$; do
        sleep 1
        left=$((left - 1))
    done
    if [ -n "$1" ]; then rm -rf -- "$1"; fi
    kill -KILL -$$
) >/dev/null 2>&1 &
shift 2
exec "$@" 3<&- </dev/null
"#;

/// What is removed, and how patiently, if this process dies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastWill<'a> {
    /// A folder to remove.
    pub(crate) folder: Option<&'a Path>,
    /// How long the program may take to stop its own children, in seconds; 0 kills at once.
    pub(crate) grace_seconds: u32,
}

/// The end of a program's messages, growing while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        if kept.len() > 2 * TAIL {
            let surplus = kept.len() - TAIL;
            kept.drain(..surplus);
        }
    }
}

/// A program on its leash. Dropping it kills its whole process group.
#[derive(Debug)]
pub(crate) struct Running {
    program: PathBuf,
    child: Child,
    group: Option<Pid>,
    /// The end of the guard's pipe; nothing is ever written.
    _leash: Option<ChildStdin>,
    stderr: Tail,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a program; its output goes to `stdout`, and its messages are collected.
    pub(crate) fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        stdout: Stdio,
        will: LastWill<'_>,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LEASH, "keephold"]);
        command
            .arg(will.folder.map_or(OsStr::new(""), Path::as_os_str))
            .arg(will.grace_seconds.to_string());
        command.arg(program).args(arguments);
        connect::forget_inherited(&mut command);
        prepare(&mut command)?;
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let mut command = tokio::process::Command::from(command);
        let started = command.kill_on_drop(true).spawn();
        let mut child =
            started.map_err(|source| Error::Start { program: program.to_owned(), source })?;
        let stderr = Tail::default();
        let reader = child.stderr.take().map(|pipe| tokio::spawn(collect(pipe, stderr.clone())));
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let leash = child.stdin.take();
        Ok(Self { program: program.to_owned(), child, group, _leash: leash, stderr, reader })
    }

    /// The messages so far.
    pub(crate) fn messages(&self) -> Tail {
        self.stderr.clone()
    }

    /// Whether the program has ended already.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        // Its number can't have been given to another process: it isn't reaped yet, or its group still has the guard.
        if let Some(pid) = self.group {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the program's end, and then ends what it left behind.
    pub(crate) async fn wait(&mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait().await.map_err(|error| Error::io(&self.program, error))?;
        if let Some(reader) = self.reader.take() {
            // A grandchild may still hold the pipe; what it says no longer matters.
            let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
        }
        self.kill();
        Ok((status, self.stderr.text()))
    }

    /// Waits for success: the messages.
    pub(crate) async fn succeed(&mut self) -> Result<String> {
        let (status, stderr) = self.wait().await?;
        if status.success() {
            return Ok(stderr);
        }
        let program = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let status = status.to_string();
        let stderr = stderr
            .get(stderr.floor_char_boundary(stderr.len().saturating_sub(TAIL))..)
            .unwrap_or_default();
        Err(Error::Failed { program, status, stderr: stderr.to_owned() })
    }

    /// Kills the whole group. The group's number is taken only once, so that it can't hit a later one.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn collect(mut pipe: impl AsyncRead + Unpin, tail: Tail) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        tail.push(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn start(script: &str, will: LastWill<'_>) -> Running {
        Running::start(Path::new("/bin/sh"), &["-c", script], Stdio::null(), will, |_| Ok(()))
            .unwrap()
    }

    async fn dies(pid: i32) {
        let start = Instant::now();
        let pid = Pid::from_raw(pid).unwrap();
        // Until the last process of the group is gone.
        while rustix::process::test_kill_process_group(pid).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10), "the process group lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn output_messages_and_status_come_through() {
        let (stdout, mut output) = crate::pieces::Pieces::pipe().unwrap();
        let script = "echo out; echo err >&2; read -r line; exit 3";
        let arguments = ["-c", script];
        let shell = Path::new("/bin/sh");
        let mut running =
            Running::start(shell, &arguments, stdout, LastWill::default(), |_| Ok(())).unwrap();
        assert_eq!(output.collect(100).await.unwrap(), b"out\n");
        let error = running.succeed().await.unwrap_err().to_string();
        assert!(error.contains("sh failed (exit status: 3): err"), "{error}");
        let mut running =
            start("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo end >&2", LastWill::default());
        let messages = running.succeed().await.unwrap();
        assert!(messages.len() <= 2 * TAIL && messages.ends_with("xend\n"));
    }

    #[tokio::test]
    async fn dropping_kills_the_whole_group() {
        let running = start("sleep 100 & sleep 100", LastWill::default());
        let pid = running.group.unwrap().as_raw_pid();
        drop(running);
        dies(pid).await;
    }

    /// Closing the pipe is all that the kernel does for a process that was killed.
    #[tokio::test]
    async fn the_guard_kills_and_removes_when_the_pipe_closes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.keep();
        let mut running =
            start("sleep 100 & sleep 100", LastWill { folder: Some(&folder), grace_seconds: 1 });
        let pid = running.group.unwrap().as_raw_pid();
        tokio::time::sleep(Duration::from_millis(200)).await;
        running._leash.take();
        let _ = running.child.wait().await;
        running.group = None;
        dies(pid).await;
        assert!(!folder.exists());
    }
}
