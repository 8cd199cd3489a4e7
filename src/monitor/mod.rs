//! One process per container, outside its namespaces and the parent of its first process: it copies the
//! container's output to the log and to the client, waits for the end, records it and cleans up.
//!
//! A foreground `sbx run` is a client of the same monitor. Whatever the client shows or types goes through
//! the client's own process, so that the terminal's job control works as for any program; what the two
//! exchange besides are the [`message`]s.

pub(crate) mod files;
pub mod guard;
pub mod log;
pub mod message;
pub mod output;
mod run;

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{LogDriver, Spec};
use crate::container::store::{Claim, Store};
use crate::emulation::Places;
use crate::error::{Error, Result, Step};
use crate::sandbox::child::Stdio;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, exit_now, fork};

/// The client's side of a container.
pub struct Connection {
    pub monitor: i32,
    pub control: Channel,
    /// The container's standard input.
    pub stdin: Option<OwnedFd>,
    /// What the container writes; with a terminal all of it is in `stdout`.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// The monitor's side.
struct Job<'a> {
    store: &'a Store,
    runtime: &'a Path,
    /// Its root can be mounted.
    spec: &'a Spec,
    /// Where owners are recorded that the files do not have.
    owners: Places,
    directory: &'a ContainerDirectory,
    claim: Claim,
    control: Channel,
    stdio: Stdio,
    /// From the container to the log and the client; empty where the container writes to the client itself.
    streams: Vec<output::Stream>,
    /// Where the output of a terminal goes.
    terminal_client: Option<OwnedFd>,
}

/// Forks the monitor of a container that has just been made. The caller has one thread and `size` (rows,
/// columns) of its terminal.
///
/// # Errors
/// Where no process or pipe is to be had, or it cannot be told where the layers of the root are.
pub fn start(
    store: &Store,
    runtime: &Path,
    spec: &Spec,
    directory: &ContainerDirectory,
    claim: Claim,
    size: Option<(u16, u16)>,
) -> Result<Connection> {
    let owners = Places::of(spec, store.root(), directory);
    let located = spec.located(store.root(), directory)?;
    let spec = located.as_ref();
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    let wires = Wires::lay(spec, size)?;
    match fork().step(|| "cannot start the monitor")? {
        Fork::Parent(monitor) => Ok(Connection {
            monitor,
            control: ours,
            stdin: wires.client_stdin,
            stdout: wires.client_stdout,
            stderr: wires.client_stderr,
        }),
        Fork::Child => {
            drop((ours, wires.client_stdin, wires.client_stdout, wires.client_stderr));
            let _ = rustix::thread::set_name(c"sbx-monitor");
            let job = Job {
                store,
                runtime,
                spec,
                owners,
                directory,
                claim,
                control: theirs,
                stdio: wires.stdio,
                streams: wires.streams,
                terminal_client: wires.terminal_client,
            };
            run::run(job);
            exit_now(0)
        }
    }
}

/// All pipes between container, monitor and client.
struct Wires {
    stdio: Stdio,
    streams: Vec<output::Stream>,
    terminal_client: Option<OwnedFd>,
    client_stdin: Option<OwnedFd>,
    client_stdout: Option<OwnedFd>,
    client_stderr: Option<OwnedFd>,
}

impl Wires {
    fn lay(spec: &Spec, size: Option<(u16, u16)>) -> Result<Self> {
        if spec.process.terminal {
            let (client, monitor) = pipe()?;
            return Ok(Self {
                stdio: Stdio::Terminal { size },
                streams: Vec::new(),
                terminal_client: Some(monitor),
                client_stdin: None,
                client_stdout: Some(client),
                client_stderr: None,
            });
        }
        if spec.log_driver == LogDriver::Passthrough {
            let own = |fd: std::os::fd::BorrowedFd<'static>| {
                let failed = || "cannot pass the streams on";
                // From a directory of the host all of it can be reached (openat(2) with `..`).
                if crate::sandbox::inroot::is_directory(fd) {
                    return Err(Error::new(failed())
                        .because("a standard stream is a directory")
                        .hint("bring it into the container with `-v DIR:DIR`"));
                }
                rustix::io::fcntl_dupfd_cloexec(fd, 3).step(failed)
            };
            let stdin = if spec.process.stdin { own(rustix::stdio::stdin())? } else { null()? };
            return Ok(Self {
                stdio: Stdio::Pipes {
                    stdin,
                    stdout: own(rustix::stdio::stdout())?,
                    stderr: own(rustix::stdio::stderr())?,
                },
                streams: Vec::new(),
                terminal_client: None,
                client_stdin: None,
                client_stdout: None,
                client_stderr: None,
            });
        }
        let (stdin, client_stdin) = if spec.process.stdin {
            let (container, client) = pipe()?;
            (container, Some(client))
        } else {
            (null()?, None)
        };
        let (stdout_reader, stdout) = pipe()?;
        let (stderr_reader, stderr) = pipe()?;
        let stdio = Stdio::Pipes { stdin, stdout, stderr };
        if spec.log_driver == LogDriver::None {
            return Ok(Self {
                stdio,
                streams: Vec::new(),
                terminal_client: None,
                client_stdin,
                client_stdout: Some(stdout_reader),
                client_stderr: Some(stderr_reader),
            });
        }
        let (client_stdout, to_stdout) = pipe()?;
        let (client_stderr, to_stderr) = pipe()?;
        Ok(Self {
            stdio,
            streams: vec![
                output::Stream::new(log::Name::Stdout, stdout_reader, Some(to_stdout))?,
                output::Stream::new(log::Name::Stderr, stderr_reader, Some(to_stderr))?,
            ],
            terminal_client: None,
            client_stdin,
            client_stdout: Some(client_stdout),
            client_stderr: Some(client_stderr),
        })
    }
}

/// The reading and the writing end, close-on-exec.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")
}

fn null() -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).step(|| "cannot open /dev/null")
}
