//! The pipes between a container, its monitor and the one who starts it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::container::spec::{LogDriver, Spec};
use crate::error::{Error, Result, Step};
use crate::logs::Name;
use crate::sandbox::child::Stdio;

/// Of one life of a container.
pub(super) struct Wires {
    /// The container's ends.
    pub stdio: Stdio,
    /// What the container writes, and where the first client sees it.
    pub outputs: Vec<Output>,
    /// Where the first client sees what the container writes to its terminal.
    pub terminal_client: Option<OwnedFd>,
    /// The container's standard input, where no client has taken it yet.
    pub stdin: Option<OwnedFd>,
}

pub(super) struct Output {
    pub name: Name,
    pub source: OwnedFd,
    pub client: Option<OwnedFd>,
}

/// The ends of the one who starts the container.
#[derive(Default)]
pub(super) struct Client {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Wires {
    /// Between container and monitor alone.
    pub fn lay(spec: &Spec, size: Option<(u16, u16)>) -> Result<Self> {
        if spec.process.terminal {
            return Ok(Self::terminal(size, None));
        }
        if spec.log_driver == LogDriver::Passthrough {
            return Self::pass_through(spec);
        }
        let (stdin, writer) = stdin(spec)?;
        let (stdout_source, stdout) = pipe()?;
        let (stderr_source, stderr) = pipe()?;
        Ok(Self {
            stdio: Stdio::Pipes { stdin, stdout, stderr },
            outputs: vec![
                Output { name: Name::Stdout, source: stdout_source, client: None },
                Output { name: Name::Stderr, source: stderr_source, client: None },
            ],
            terminal_client: None,
            stdin: writer,
        })
    }

    /// The same with ends for the calling process.
    pub fn lay_to_caller(spec: &Spec, size: Option<(u16, u16)>, stdin: bool) -> Result<(Self, Client)> {
        if spec.process.terminal {
            let (stdout, monitor) = pipe()?;
            return Ok((
                Self::terminal(size, Some(monitor)),
                Client { stdout: Some(stdout), ..Client::default() },
            ));
        }
        if spec.log_driver == LogDriver::Passthrough {
            return Ok((Self::pass_through(spec)?, Client::default()));
        }
        let mut wires = Self::lay(spec, size)?;
        let stdin = if stdin { give_stdin(&mut wires.stdin, spec)? } else { None };
        let mut client = Client { stdin, ..Client::default() };
        if spec.log_driver == LogDriver::None {
            // Nobody else wants to see it: the caller reads what the container writes without a copy.
            let mut sources = wires.outputs.drain(..).map(|output| output.source);
            (client.stdout, client.stderr) = (sources.next(), sources.next());
            drop(sources);
            return Ok((wires, client));
        }
        for output in &mut wires.outputs {
            let (theirs, ours) = pipe()?;
            output.client = Some(ours);
            match output.name {
                Name::Stdout => client.stdout = Some(theirs),
                Name::Stderr => client.stderr = Some(theirs),
            }
        }
        Ok((wires, client))
    }

    fn terminal(size: Option<(u16, u16)>, client: Option<OwnedFd>) -> Self {
        let stdio = Stdio::Terminal { size };
        Self { stdio, outputs: Vec::new(), terminal_client: client, stdin: None }
    }

    /// The caller's own streams.
    fn pass_through(spec: &Spec) -> Result<Self> {
        let own = |fd: BorrowedFd<'static>| {
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
        let (stdout, stderr) = (own(rustix::stdio::stdout())?, own(rustix::stdio::stderr())?);
        let stdio = Stdio::Pipes { stdin, stdout, stderr };
        Ok(Self { stdio, outputs: Vec::new(), terminal_client: None, stdin: None })
    }

    /// Every descriptor, for a process that closes all others.
    pub fn descriptors(&self) -> Vec<i32> {
        let mut all: Vec<&OwnedFd> = Vec::new();
        if let Stdio::Pipes { stdin, stdout, stderr } = &self.stdio {
            all.extend([stdin, stdout, stderr]);
        }
        for output in &self.outputs {
            all.push(&output.source);
            all.extend(&output.client);
        }
        all.extend(self.terminal_client.iter().chain(&self.stdin));
        all.into_iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// The writing end of a container's standard input for one client: with the client goes the end, unless it is to stay
/// open for others.
pub(super) fn give_stdin(stdin: &mut Option<OwnedFd>, spec: &Spec) -> Result<Option<OwnedFd>> {
    if spec.process.stdin_once {
        return Ok(stdin.take());
    }
    stdin.as_ref().map(|end| end.try_clone().step(|| "cannot copy a descriptor")).transpose()
}

fn stdin(spec: &Spec) -> Result<(OwnedFd, Option<OwnedFd>)> {
    if !spec.process.stdin {
        return Ok((null()?, None));
    }
    let (container, writer) = pipe()?;
    Ok((container, Some(writer)))
}

/// The reading and the writing end, close-on-exec.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")
}

pub(super) fn null() -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).step(|| "cannot open /dev/null")
}
