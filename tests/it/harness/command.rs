//! One command of a test: what it is given, how long it may take, and what it must have said.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::leftovers::Leftovers;
use super::prerequisites::patience;
use super::world::Sbx;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A command to be run; nothing is started before one of the last four methods.
#[must_use]
pub struct Run<'w> {
    world: &'w Sbx,
    command: Command,
    stdin: Input,
    stdout_captured: bool,
    timeout: Duration,
}

enum Input {
    Bytes(Vec<u8>),
    Other(Stdio),
}

impl<'w> Run<'w> {
    pub(super) fn new(world: &'w Sbx, program: &OsStr) -> Self {
        let mut command = world.command(program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { world, command, stdin: Input::Other(Stdio::null()), stdout_captured: true, timeout: TIMEOUT }
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Bytes on standard input, then its end. Without it standard input is /dev/null.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Input::Bytes(bytes.as_ref().to_owned());
        self
    }

    /// A file, a pipe, or `Stdio::piped()` to be written through [`Running::stdin`].
    pub fn stdin_from(mut self, source: impl Into<Stdio>) -> Self {
        self.stdin = Input::Other(source.into());
        self
    }

    /// Sends standard output to a file or pipe instead of keeping it in memory.
    pub fn stdout_to(mut self, target: impl Into<Stdio>) -> Self {
        self.command.stdout(target);
        self.stdout_captured = false;
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts in this directory instead of the world's work directory.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Instead of 60 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn spawn(mut self) -> Running<'w> {
        let shown = show(&self.command);
        let bytes = match self.stdin {
            Input::Bytes(bytes) => {
                self.command.stdin(Stdio::piped());
                Some(bytes)
            }
            Input::Other(stdio) => {
                self.command.stdin(stdio);
                None
            }
        };
        self.command.process_group(0);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        // The command keeps its own ends of the pipes that were handed to it until it is dropped.
        drop(self.command);
        let writer = bytes.map(|bytes| {
            let mut pipe = child.stdin.take().expect("stdin is piped");
            // A command may end without having read everything: its exit code decides, not our EPIPE.
            thread::spawn(move || pipe.write_all(&bytes).unwrap_or(()))
        });
        let stdout = self.stdout_captured.then(|| collect(child.stdout.take().expect("stdout is piped")));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        Running {
            world: self.world,
            child,
            shown,
            started: Instant::now(),
            timeout: patience(self.timeout),
            writer,
            stdout,
            stderr,
        }
    }

    #[must_use]
    pub fn finish(self) -> Finished {
        self.spawn().finish()
    }

    /// Runs it and fails with everything it said unless it exits with `code` (128+N for signal N).
    pub fn expect_code(self, code: i32) -> Finished {
        self.finish().code_is(code)
    }

    /// `expect_code(0)` with nothing on standard error; returns standard output without its last newline.
    pub fn succeed(self) -> String {
        let finished = self.expect_code(0).stderr_is("");
        finished.stdout().trim_end_matches('\n').to_owned()
    }
}

/// A command under way.
pub struct Running<'w> {
    world: &'w Sbx,
    child: Child,
    shown: String,
    started: Instant,
    timeout: Duration,
    writer: Option<JoinHandle<()>>,
    stdout: Option<Collector>,
    stderr: Collector,
}

impl Running<'_> {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Standard input, if it was asked for with `stdin_from(Stdio::piped())`.
    pub fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("stdin_from(Stdio::piped()) was not called")
    }

    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// To the process alone, not to its group.
    pub fn signal(&self, signal: Signal) {
        signal::kill(self.pid(), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.shown));
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Standard output so far.
    pub fn stdout_now(&self) -> String {
        self.stdout.as_ref().map(Collector::text_now).unwrap_or_default()
    }

    /// Waits until standard output contains `text`.
    pub fn wait_for_stdout(&mut self, text: &str) {
        while !self.stdout_now().contains(text) {
            let over = !self.is_running() && !self.stdout_now().contains(text);
            if over || self.started.elapsed() > self.timeout {
                self.give_up(&format!("never printed {text:?}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[must_use]
    pub fn finish(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("cannot wait for a child") {
                break status;
            }
            if self.started.elapsed() > self.timeout {
                self.give_up(&format!("still running after {:?}", self.timeout));
            }
            thread::sleep(Duration::from_millis(1));
        };
        let elapsed = self.started.elapsed();
        // What holds the pipes after the command is gone is a leak that would hang every script.
        let deadline = Instant::now() + Duration::from_secs(10);
        let done = |running: &Self| {
            running.stderr.is_finished() && running.stdout.as_ref().is_none_or(Collector::is_finished)
        };
        while !done(&self) {
            if Instant::now() > deadline {
                self.give_up("the command ended but something still holds its output open");
            }
            thread::sleep(Duration::from_millis(1));
        }
        if let Some(writer) = self.writer {
            writer.join().expect("the writer of standard input panicked");
        }
        Finished {
            shown: self.shown,
            status,
            elapsed,
            stdout: self.stdout.map(|out| out.bytes_now()).unwrap_or_default(),
            stderr: self.stderr.bytes_now(),
        }
    }

    /// Ends the process group and everything else of this world, and fails with all output.
    fn give_up(&mut self, why: &str) -> ! {
        let left = Leftovers::find(self.world);
        let _ = signal::killpg(self.pid(), Signal::SIGKILL);
        left.end();
        let _ = self.child.wait();
        panic!(
            "{}: {why}\n--- stdout\n{}\n--- stderr\n{}\n--- processes then\n{left}",
            self.shown,
            self.stdout_now(),
            self.stderr.text_now()
        );
    }
}

/// A command that has ended.
pub struct Finished {
    shown: String,
    status: ExitStatus,
    pub elapsed: Duration,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Finished {
    /// The exit code, or 128+N for a death by signal N, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    #[track_caller]
    pub fn code_is(self, code: i32) -> Self {
        self.check(self.code() == code, &format!("exit code {code}"));
        self
    }

    #[track_caller]
    pub fn stdout_is(self, text: &str) -> Self {
        self.check(self.stdout == text.as_bytes(), &format!("standard output {text:?}"));
        self
    }

    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        self.check(self.stdout().contains(text), &format!("{text:?} on standard output"));
        self
    }

    #[track_caller]
    pub fn stdout_has_not(self, text: &str) -> Self {
        self.check(!self.stdout().contains(text), &format!("no {text:?} on standard output"));
        self
    }

    #[track_caller]
    pub fn stderr_is(self, text: &str) -> Self {
        self.check(self.stderr == text.as_bytes(), &format!("standard error {text:?}"));
        self
    }

    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        self.check(self.stderr().contains(text), &format!("{text:?} on standard error"));
        self
    }

    #[track_caller]
    fn check(&self, holds: bool, wanted: &str) {
        assert!(
            holds,
            "{}: wanted {wanted}\n--- exit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.code(),
            self.stdout(),
            self.stderr()
        );
    }
}

/// A command with a world's mark. prlimit(1) sets it and becomes the program: a limit of this process's own, even
/// for a moment, would mark what other tests start meanwhile.
pub(super) fn marked(mark: u64, program: &OsStr) -> Command {
    let mut command = Command::new("/usr/bin/prlimit");
    command.arg(format!("--locks={mark}:")).arg(program);
    command
}

/// Reads a pipe to its end beside the test, so that no child blocks on a full one.
struct Collector {
    seen: std::sync::Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn bytes_now(&self) -> Vec<u8> {
        self.seen.lock().expect("the collector panicked").clone()
    }

    fn text_now(&self) -> String {
        String::from_utf8_lossy(&self.bytes_now()).into_owned()
    }

    fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Collector {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let target = seen.clone();
    let thread = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            target.lock().expect("the test panicked").extend_from_slice(&buffer[..count]);
        }
    });
    Collector { seen, thread }
}

fn show(command: &Command) -> String {
    // What gives it its mark is not shown.
    let words = command.get_args().skip(1);
    format!("`{}`", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::sbx;
    use super::*;

    fn panic_text(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let cause = std::panic::catch_unwind(test).expect_err("it did not fail");
        cause.downcast_ref::<String>().cloned().expect("a panic with a message")
    }

    #[test]
    fn streams_and_codes_arrive() {
        let world = sbx();
        let script = "cat; echo no >&2; exit 3";
        world
            .program("sh")
            .args(["-c", script])
            .stdin("hello")
            .expect_code(3)
            .stdout_is("hello")
            .stderr_has("no");
        world.program("sh").args(["-c", "kill -9 $$"]).expect_code(137).stdout_is("");
    }

    #[test]
    fn more_than_a_pipe_holds_passes() {
        let world = sbx();
        let million = vec![b'x'; 1 << 20];
        assert_eq!(world.program("cat").stdin(&million).expect_code(0).stdout_bytes(), &million);
    }

    #[test]
    fn a_wrong_code_fails_with_all_output() {
        let text = panic_text(|| {
            let _ = sbx().program("sh").args(["-c", "echo out; echo err >&2; exit 1"]).expect_code(0);
        });
        assert!(text.contains("out") && text.contains("err") && text.contains("exit code 1"), "{text}");
    }

    #[test]
    fn a_hanging_command_is_ended_with_its_children() {
        let text = panic_text(|| {
            let world = sbx();
            let script = "echo begun; setsid sleep 1000 & sleep 1000";
            let short = Duration::from_millis(300);
            let _ = world.program("sh").args(["-c", script]).timeout(short).finish();
        });
        assert!(text.contains("still running") && text.contains("begun"), "{text}");
        assert!(text.contains("sleep 1000"), "{text}");
    }

    #[test]
    fn signals_reach_a_running_command() {
        let world = sbx();
        let script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let mut running = world.program("sh").args(["-c", script]).spawn();
        running.wait_for_stdout("ready");
        running.signal(Signal::SIGTERM);
        running.finish().code_is(7).stdout_is("ready\ngot it\n");
    }

    #[test]
    fn standard_output_goes_to_a_file() {
        let world = sbx();
        let path = world.file("out", "");
        let file = File::create(&path).expect("a file");
        world.program("echo").arg("x").stdout_to(file).expect_code(0).stdout_is("");
        assert_eq!(std::fs::read(path).expect("the file"), b"x\n");
    }
}
