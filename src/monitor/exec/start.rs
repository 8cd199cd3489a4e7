//! How the monitor starts them, and serves their clients.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Error, Result, Step};
use crate::monitor::message::{Standard, ToClient, ToMonitor};
use crate::monitor::run::Monitor;
use crate::monitor::sessions::Role;
use crate::monitor::wires::{null, pipe};
use crate::sandbox::child::Stdio;
use crate::sandbox::enter::{self, Entering, Progress, Source};
use crate::sys::process::send_signal;

use super::{Exec, NOT_RUNNING, Reader, Request, Stage, Wake};

/// The pipes of one process.
struct Pipes {
    stdio: Stdio,
    /// What the process writes.
    outputs: Vec<(Standard, OwnedFd)>,
    /// What it reads.
    input: Option<OwnedFd>,
}

impl Pipes {
    fn lay(request: &Request) -> Result<Self> {
        if request.terminal {
            let stdio = Stdio::Terminal { size: request.size };
            return Ok(Self { stdio, outputs: Vec::new(), input: None });
        }
        if request.detach {
            let stdio = Stdio::Pipes { stdin: null()?, stdout: null()?, stderr: null()? };
            return Ok(Self { stdio, outputs: Vec::new(), input: None });
        }
        let (stdin, input) = if request.stdin {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            (null()?, None)
        };
        let (output, stdout) = pipe()?;
        let (error, stderr) = pipe()?;
        Ok(Self {
            stdio: Stdio::Pipes { stdin, stdout, stderr },
            outputs: vec![(Standard::Output, output), (Standard::Error, error)],
            input,
        })
    }
}

impl Monitor<'_> {
    /// A client wants a process; `entry` says which.
    pub(in crate::monitor) fn exec(&mut self, session: u64, request: &Request, entry: Option<OwnedFd>) {
        let begun = entry
            .ok_or_else(|| {
                Error::new("cannot start a process in the container").because("there is no command")
            })
            .and_then(|entry| self.start_exec(session, request, Source::File(File::from(entry))));
        match begun {
            Ok(()) => self.sessions.set_role(session, Role::Exec),
            Err(error) => self.sessions.dismiss(session, &ToClient::Failed(error)),
        }
    }

    fn start_exec(&mut self, session: u64, request: &Request, source: Source) -> Result<()> {
        let Pipes { stdio, outputs, input } = Pipes::lay(request)?;
        let entering = self.enter(&stdio, source)?;
        if let Some(client) = self.sessions.get(session) {
            for (name, end) in &outputs {
                client.tell_with(&ToClient::Stream(*name), end.as_fd());
            }
            if let Some(end) = &input {
                client.tell_with(&ToClient::Stream(Standard::Input), end.as_fd());
            }
        }
        let number = self.add_exec(entering, Reader::Session(session), outputs);
        if let Some(exec) = self.execs.get(number) {
            (exec.terminal, exec.detached) = (request.terminal, request.detach);
        }
        Ok(())
    }

    /// Starts a process whose output the monitor itself reads, as much of it as `most` bytes; its number.
    pub(in crate::monitor) fn start_own(&mut self, entry: enter::Entry, most: usize) -> Result<u64> {
        let (output, stdout) = pipe()?;
        let stderr = stdout.try_clone().step(|| "cannot copy a descriptor")?;
        let stdio = Stdio::Pipes { stdin: null()?, stdout, stderr };
        let entering = self.enter(&stdio, Source::Value(Box::new(entry)))?;
        let reader = Reader::Monitor { output: Vec::new(), most };
        Ok(self.add_exec(entering, reader, vec![(Standard::Output, output)]))
    }

    fn enter(&self, stdio: &Stdio, source: Source) -> Result<Entering> {
        let not_running = || {
            Error::new("can only create exec sessions on running containers")
                .because(format!("container {} is down", self.spec.name))
                .exit_code(NOT_RUNNING)
        };
        if self.record.paused {
            return Err(Error::new("can only create exec sessions on running containers")
                .because(format!("container {} is paused", self.spec.name))
                .hint(format!("let it go on first: `sbx unpause {}`", self.spec.name))
                .exit_code(NOT_RUNNING));
        }
        let life = self.life.as_ref().ok_or_else(not_running)?;
        let namespaces = life.sandbox.namespaces.as_ref().ok_or_else(not_running)?;
        enter::start(self.spec, namespaces, stdio, source)
    }

    fn add_exec(&mut self, entering: Entering, reader: Reader, kept: Vec<(Standard, OwnedFd)>) -> u64 {
        self.execs.last += 1;
        let number = self.execs.last;
        self.execs.all.push(Exec {
            number,
            stage: Stage::SetUp(entering),
            code: None,
            reader,
            terminal: false,
            detached: false,
            given_up: false,
            kept,
        });
        number
    }

    /// A descriptor of [`Execs::descriptors`] can be read.
    pub(in crate::monitor) fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Output(number, name) => {
                if let Some(exec) = self.execs.get(number) {
                    exec.read(name);
                }
            }
            Wake::SetUp(number) => {
                self.set_up_goes_on(number);
                while self.execs.get(number).is_some_and(|exec| exec.has_news()) {
                    self.set_up_goes_on(number);
                }
            }
        }
    }

    fn set_up_goes_on(&mut self, number: u64) {
        let emulator = self.life.as_ref().and_then(|life| life.sandbox.emulator.as_ref());
        let strays = std::mem::take(&mut self.execs.strays);
        let Some(exec) = self.execs.get(number) else { return };
        let Stage::SetUp(entering) = &mut exec.stage else { return };
        let progress = entering.advance(emulator);
        let pid = entering.pid();
        let session = match exec.reader {
            Reader::Session(session) => self.sessions.get(session),
            Reader::Nobody | Reader::Monitor { .. } => None,
        };
        match progress {
            Progress::Goes | Progress::Calls(_) => {}
            Progress::Entered => {
                exec.code = strays.iter().find(|(stray, _)| Some(*stray) == pid).map(|(_, code)| *code);
                let group = self.life.as_ref().and_then(|life| life.sandbox.cgroup.as_ref());
                let moved = group.zip(pid).map_or(Ok(()), |(group, pid)| group.adopt(pid));
                let confined = group.is_some_and(|group| group.needed);
                match moved {
                    _ if exec.given_up => exec.end(),
                    // One that is gone already cannot be moved, and needs no more.
                    Err(error) if confined && error.raw_os_error() != Some(libc::ESRCH) => {
                        exec.end();
                        let failed = Error::new("cannot move the process into the container's control group");
                        self.execs.fail(number, failed.because(error), &mut self.sessions);
                        return self.execs.strays.extend(strays);
                    }
                    Err(error) => {
                        ::log::debug!("cannot move a process into the container's cgroup: {error}");
                        entering.go();
                    }
                    Ok(()) => entering.go(),
                }
            }
            Progress::Notice(notice) => {
                if let Some(session) = session {
                    session.tell(&ToClient::Notice(notice));
                }
            }
            Progress::Terminal(master) => {
                if let Some(session) = session.filter(|_| !exec.detached) {
                    session.tell_with(&ToClient::Terminal, master.as_fd());
                    session.tell_with(&ToClient::Stream(Standard::Output), master.as_fd());
                }
                exec.kept.push((Standard::Output, master));
            }
            Progress::Executed => {
                // The PID is known by now.
                exec.stage = Stage::Runs { pid: pid.unwrap_or_default() };
                if let Some(session) = session {
                    session.tell(&ToClient::Started { pid: pid.unwrap_or_default() });
                    let id = session.id;
                    if exec.detached {
                        exec.reader = Reader::Nobody;
                        self.sessions.remove(id);
                    }
                }
                self.execs.settle(number, &mut self.sessions);
            }
            Progress::Failed(error) => self.execs.fail(number, error, &mut self.sessions),
        }
        let more = self.execs.all.iter();
        if more.into_iter().any(|exec| matches!(&exec.stage, Stage::SetUp(one) if one.pid().is_none())) {
            self.execs.strays.extend(strays);
        }
    }

    /// The client of a process has something to say, or is gone.
    pub(in crate::monitor) fn serve_exec(&mut self, session: u64, message: Option<ToMonitor>) {
        let exec = self.execs.of_session(session);
        match (message, exec) {
            (Some(ToMonitor::Signal(signal)), Some(exec)) => {
                if let (Stage::Runs { pid }, None) = (&exec.stage, exec.code) {
                    let _ = send_signal(*pid, signal);
                }
            }
            (Some(ToMonitor::Deaf(name)), Some(exec)) => exec.kept.retain(|(own, _)| *own != name),
            (Some(ToMonitor::Detach), exec) => {
                if let Some(exec) = exec {
                    exec.reader = Reader::Nobody;
                }
                self.sessions.remove(session);
            }
            (None, exec) => {
                if let Some(exec) = exec {
                    exec.lose_client();
                }
                self.sessions.remove(session);
            }
            (Some(_), None) => {}
        }
    }
}
