//! Hooks: programs that whoever wrote the bundle wants to have run, with the container's state on standard input (OCI
//! runtime specification, config.md, POSIX-platform Hooks).

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::container::listed::Hook;
use crate::container::spec::Spec;
use crate::error::{Error, Result, Step};
use crate::oci::config::VERSION;

/// Bytes of what a failed hook said that are shown.
const LONGEST_OUTPUT: u64 = 4096;

/// The state of the container (runtime.md, State), as far as it is a spec's.
pub fn document(spec: &Spec, status: &str, pid: i32) -> Value {
    let bundle = spec.listed.as_ref().map(|listed| listed.bundle.clone()).unwrap_or_default();
    let mut document = json!({
        "ociVersion": VERSION,
        "id": spec.id,
        "status": status,
        "bundle": bundle,
    });
    if status != "stopped" {
        document["pid"] = json!(pid);
    }
    if !spec.annotations.is_empty() {
        document["annotations"] = json!(spec.annotations);
    }
    document
}

/// What hooks find when they are run, besides the container's state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// The working directory, where it is there and can be entered; else it is that of whoever runs them.
    pub directory: Option<&'a Path>,
    /// The environment of a hook that lists none; else it is that of whoever runs them.
    pub env: Option<&'a [String]>,
    /// Somebody at the other end of a channel, or a process: when that has ended, a hook is killed.
    pub for_the_sake_of: Option<BorrowedFd<'a>>,
}

impl<'a> Place<'a> {
    /// The bundle's directory, and the environment of whoever runs them: the specification leaves both open.
    pub fn of_bundle(spec: &'a Spec) -> Self {
        Self { directory: spec.listed.as_ref().map(|listed| listed.bundle.as_path()), ..Self::default() }
    }
}

/// Runs the hooks of one moment, one after the other.
///
/// # Errors
/// The first that fails, with what it said.
pub fn run(moment: &str, hooks: &[Hook], place: Place<'_>, state: impl Fn() -> Value) -> Result<()> {
    one_by_one(moment, hooks, place, state).collect()
}

/// Runs each of them, whatever became of those before; gives what went wrong.
pub fn run_all(moment: &str, hooks: &[Hook], place: Place<'_>, state: impl Fn() -> Value) -> Vec<Error> {
    one_by_one(moment, hooks, place, state).filter_map(Result::err).collect()
}

fn one_by_one(
    moment: &str,
    hooks: &[Hook],
    place: Place<'_>,
    state: impl Fn() -> Value,
) -> impl Iterator<Item = Result<()>> {
    let state = if hooks.is_empty() { String::new() } else { state().to_string() };
    hooks.iter().enumerate().map(move |(number, hook)| {
        run_one(hook, place, &state).map_err(|error| {
            let path = hook.path.display();
            error.while_doing(format!("the {moment} hook number {} failed (`{path}`)", number + 1))
        })
    })
}

/// The streams are files in memory: a hook that reads nothing, or leaves somebody behind, holds nothing up.
fn run_one(hook: &Hook, place: Place<'_>, state: &str) -> Result<()> {
    let failed = || "cannot start it";
    let mut input = in_memory().step(failed)?;
    input.write_all(state.as_bytes()).and_then(|()| input.rewind()).step(failed)?;
    let mut output = in_memory().step(failed)?;
    let copy = || output.try_clone().map(Stdio::from).step(failed);
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(env) = hook.env.as_deref().or(place.env) {
        command.env_clear();
        // The variables as they stand there: those without `=` are nothing that a program could look up.
        command
            .envs(env.iter().filter_map(|entry| entry.split_once('=')).filter(|(name, _)| !name.is_empty()));
    }
    // The bundle may be gone when the container is deleted, and out of reach for root of a user namespace.
    if let Some(directory) = place.directory.filter(|directory| access(*directory, Access::EXEC_OK).is_ok()) {
        command.current_dir(directory);
    }
    command.stdin(input).stdout(copy()?).stderr(copy()?);
    let mut child = command.spawn().step(failed)?;
    let kill = |child: &mut Child| {
        let _ = child.kill();
        let _ = child.wait();
    };
    let timeout = hook.timeout.map(Duration::from_secs);
    let status = match wait_for(&child, timeout, place.for_the_sake_of) {
        Waited::Ended => child.wait().step(|| "cannot wait for it")?,
        Waited::TooLong => {
            kill(&mut child);
            let seconds = hook.timeout.unwrap_or_default();
            return Err(Error::new(format!("it was killed after its timeout of {seconds} s")));
        }
        Waited::InVain => {
            kill(&mut child);
            return Err(Error::new("it was killed, since nobody makes the container any more"));
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if output.rewind().is_ok() {
        let mut bytes = Vec::new();
        let _ = output.take(LONGEST_OUTPUT).read_to_end(&mut bytes);
        said = String::from_utf8_lossy(&bytes).trim().to_owned();
    }
    let error = Error::new(shown(status));
    Err(if said.is_empty() { error } else { error.because(format!("it said: {said}")) })
}

fn shown(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with the exit code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        _ => "it ended".to_owned(),
    }
}

fn in_memory() -> std::io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(c"sbx-hook", rustix::fs::MemfdFlags::CLOEXEC)?))
}

/// What a hook was waited for.
enum Waited {
    Ended,
    TooLong,
    InVain,
}

fn wait_for(child: &Child, patience: Option<Duration>, for_the_sake_of: Option<BorrowedFd<'_>>) -> Waited {
    let Some(pidfd) =
        Pid::from_raw(child.id().cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return Waited::Ended;
    };
    let until = patience.map(|patience| std::time::Instant::now() + patience);
    let mut polled = vec![PollFd::new(&pidfd, PollFlags::IN)];
    polled.extend(for_the_sake_of.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
    loop {
        let left = until.map(|until| {
            let left = until.saturating_duration_since(std::time::Instant::now());
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut polled, left.as_ref()) {
            Ok(0) => return Waited::TooLong,
            Ok(_) if !polled[0].revents().is_empty() => return Waited::Ended,
            Ok(_) => return Waited::InVain,
            Err(_) => {}
        }
    }
}
