//! The running helper of one container: started beside the rest of the set-up, waited for before the command runs,
//! ended with the container.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use super::own_addresses;
use super::programs::{self, Program};
use super::relay::Relay;
use super::{Mode, Network, PortMapping, Protocol, pasta, slirp4netns};
use crate::error::{Error, Result, Step};
use crate::sys;

/// How long one answer of slirp4netns's API may take.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to connect.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A process in the container's user and network namespace, as the caller sees it, with its ID maps written. It
    /// must not leave that user namespace before [`Helper::wait_ready`] has returned: the network namespace belongs
    /// to it.
    pub pid: i32,
    /// The container's runtime directory, ours alone.
    pub runtime_dir: &'a Path,
    /// Where the options of the helpers are kept, a file of the user's runtime directory.
    pub cache: &'a Path,
}

/// slirp4netns or pasta, in a process group of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Helper {
    name: &'static str,
    child: Child,
    /// Becomes readable with the first byte when the network is ready, and with none when the helper is gone.
    ready: OwnedFd,
    /// What it writes to standard error. The writing end does not block, so that a helper with a full pipe loses
    /// messages, not packets.
    log: OwnedFd,
    /// slirp4netns ends when this is closed, so with us, however we end.
    _exit: Option<OwnedFd>,
    /// To be forwarded through the API socket once it is ready.
    forwards: Vec<PortMapping>,
    /// Serves the UDP ports that the helper can't.
    relay: Option<Relay>,
    runtime_dir: PathBuf,
    /// It holds ports of the host.
    publishes: bool,
    ended: bool,
}

/// Starts the helper of a network; None where the mode needs none. Returns at once: see [`Helper::wait_ready`].
///
/// The caller must be single-threaded (the helper dies with the thread that started it).
pub fn start(network: &Network, target: &Target<'_>) -> Result<Option<Helper>> {
    match &network.mode {
        Mode::Slirp4netns(options) => {
            start_slirp4netns(network, &slirp4netns::Options::parse(options)?, target).map(Some)
        }
        Mode::Pasta(options) => start_pasta(network, options, target).map(Some),
        // Bridges have an uplink of their own.
        Mode::None | Mode::Host | Mode::Path(_) | Mode::Container(_) | Mode::Bridge => Ok(None),
    }
}

fn program(name: &str, cache: &Path) -> Result<Program> {
    let path = programs::find(name).ok_or_else(|| Error::new(format!("`{name}` is not installed")))?;
    Program::probe(&path, cache)
}

/// The same with options that have no word on the command line.
///
/// # Errors
/// It is not installed, too old, or cannot be started.
pub(super) fn start_slirp4netns(
    network: &Network,
    options: &slirp4netns::Options,
    target: &Target<'_>,
) -> Result<Helper> {
    let program = program("slirp4netns", target.cache)?;
    let (network, relay) = relayed(network, target)?;
    let step = || "cannot make pipes for slirp4netns";
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC).step(step)?;
    let (exit_end, exit) = pipe_with(PipeFlags::CLOEXEC).step(step)?;
    let fds = slirp4netns::Descriptors { ready: ready_end.as_raw_fd(), exit: exit_end.as_raw_fd() };
    let host = slirp4netns::HostFacts::read();
    let mut command = Command::new(&program.path);
    command.args(slirp4netns::arguments(&network, options, &program, &host, &fds, target.pid)?);
    // The API socket is given by its name, because a path of any length must do.
    command.current_dir(target.runtime_dir).stdin(Stdio::null()).stdout(Stdio::null());
    sys::net::inherit(&mut command, vec![fds.ready, fds.exit]);
    let (child, log) = spawn(&mut command, &program)?;
    Ok(Helper {
        name: "slirp4netns",
        child,
        ready,
        log,
        _exit: Some(exit),
        publishes: !network.ports.is_empty(),
        forwards: network.ports,
        relay,
        runtime_dir: target.runtime_dir.to_owned(),
        ended: false,
    })
}

fn start_pasta(network: &Network, options: &[String], target: &Target<'_>) -> Result<Helper> {
    let program = program("pasta", target.cache)?;
    // The option came with the release after the one that mended its UDP forwarding.
    let (network, relay) = match program.has("--map-host-loopback") {
        true => (network.clone(), None),
        false => relayed(network, target)?,
    };
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC).step(|| "cannot make a pipe for pasta")?;
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new(&program.path);
    command.args(pasta::arguments(&network, options, &program, root, target.pid));
    command.current_dir("/").stdin(Stdio::null()).stdout(ready_end);
    let (child, log) = spawn(&mut command, &program)?;
    Ok(Helper {
        name: "pasta",
        child,
        ready,
        log,
        _exit: None,
        publishes: !(network.ports.is_empty() && options.is_empty()),
        forwards: Vec::new(),
        relay,
        runtime_dir: target.runtime_dir.to_owned(),
        ended: false,
    })
}

/// Starts the relay of the UDP ports, if there are any; the rest of the network is the helper's.
fn relayed(network: &Network, target: &Target<'_>) -> Result<(Network, Option<Relay>)> {
    let (udp, rest): (Vec<_>, Vec<_>) =
        network.ports.iter().cloned().partition(|m| m.protocol == Protocol::Udp);
    let relay = if udp.is_empty() { None } else { Some(Relay::start(&udp, target.pid)?) };
    Ok((Network { ports: rest, ..network.clone() }, relay))
}

/// Starts the program with its standard error in a pipe; the command's own copies of descriptors close with it.
fn spawn(command: &mut Command, program: &Program) -> Result<(Child, OwnedFd)> {
    let (log, log_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).step(|| "cannot make a pipe")?;
    command.stderr(log_end);
    sys::process::bind_to_parent(command);
    let child = command.spawn().step(|| format!("cannot start `{}`", program.path.display()))?;
    // What is kept for another start holds the writing ends open, and nobody would see the helper's end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((child, log))
}

impl Helper {
    /// The helper's process, the leader of its group.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The process that relays published UDP ports, if there is one; in a group of its own, too.
    pub fn relay_pid(&self) -> Option<i32> {
        self.relay.as_ref().map(Relay::pid)
    }

    /// Waits until the network is up, and forwards the published ports.
    ///
    /// # Errors
    /// The helper ended, with what it said; it wasn't ready in time; a port was refused. The helper is of no use then.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        self.wait_readable(timeout)?;
        let mut byte = [0; 64];
        match rustix::io::read(&self.ready, &mut byte) {
            Ok(0) | Err(_) => return Err(self.died()),
            Ok(_) => {}
        }
        if self.name == "slirp4netns"
            && let Err(cause) = own_addresses::keep_from(self.pid())
        {
            log::info!("raw sockets reach the host's loopback interface by way of slirp4netns: {cause}");
        }
        for mapping in std::mem::take(&mut self.forwards) {
            slirp4netns::forward(&self.runtime_dir, &mapping, API_TIMEOUT)?;
        }
        self.relay.as_ref().map_or(Ok(()), Relay::check)
    }

    fn wait_readable(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a rest below a millisecond must not become a busy loop.
            let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(0) => {
                    let error =
                        Error::new(format!("{} was not ready after {} s", self.name, timeout.as_secs_f32()));
                    return Err(self.with_log(error));
                }
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(cause) => return Err(Error::new(format!("cannot wait for {}", self.name)).because(cause)),
            }
        }
    }

    fn died(&mut self) -> Error {
        let status = self.child.wait().ok();
        self.ended = status.is_some();
        let error = Error::new(format!("{} failed to connect the container", self.name));
        let error = self.with_log(error);
        let error = match status {
            Some(status) if status.signal().is_some() => error.because(status),
            _ if error.causes().is_empty() => error.because("it ended without a word"),
            _ => error,
        };
        error.hint("use `--network host` (the host's own network) or `--network none`")
    }

    /// Adds the last lines that the helper wrote, without its greetings.
    fn with_log(&self, error: Error) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log
            .lines()
            .map(str::trim)
            .filter(|line| {
                !line.is_empty() && !line.starts_with("WARNING: Support for") && pasta::is_worth_showing(line)
            })
            .collect();
        match lines.as_slice() {
            [] => error,
            lines => error.because(lines[lines.len().saturating_sub(4)..].join("; ")),
        }
    }

    /// What the helper has written to standard error since the last call.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(fd) = self.log.try_clone() {
            // The pipe holds 64 KiB and does not block: an error means that this was all.
            let _ = File::from(fd).take(1 << 16).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// To be told by a caller that reaps all its children which one it was: the process ID of the helper may be
    /// another's from now on. Says what the container has lost.
    pub fn reaped(&mut self, pid: i32) -> Option<String> {
        if pid == self.pid() {
            self.ended = true;
            return Some(format!("{} has ended: the container goes on without a network", self.name));
        }
        (self.relay_pid() == Some(pid))
            .then(|| "the relay of the published UDP ports has ended: they go nowhere now".to_owned())
    }

    /// Kills the helper with everything that it started, and does not wait. The kernel takes some 15 ms to remove
    /// the tap interface.
    fn kill(&mut self) {
        if !self.ended {
            // ESRCH: all of the group are gone. Nothing else can be done about a failure.
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        }
        self.relay = None;
    }

    /// Ends the helper with everything that it started. Published ports are free when this returns. Where there are
    /// none nobody has to wait for the kernel, and the dying helper is left to the caller's end: init reaps it.
    pub fn stop(mut self) {
        self.kill();
        self.ended |= !self.publishes;
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
        if !self.ended {
            // ECHILD: somebody has reaped it.
            let _ = self.child.wait();
        }
        match std::fs::remove_file(self.runtime_dir.join(slirp4netns::API_SOCKET)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => log::debug!("API socket: {cause}"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "helper_tests.rs"]
mod tests;
