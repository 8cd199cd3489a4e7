//! Processes that are brought into the running container: those of `sbx exec`, and health checks.
//!
//! Their streams are the client's own; the monitor keeps copies of its ends, so that a process goes on as it would
//! when its client is gone. Nothing here waits for the container, which may hold a set-up up for as long as it likes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};
use crate::monitor::message::{Standard, ToClient, ToMonitor};
use crate::monitor::run::Monitor;
use crate::monitor::sessions::{Role, Sessions};
use crate::monitor::wires::{null, pipe};
use crate::sandbox::child::Stdio;
use crate::sandbox::enter::{self, Entering, Progress, Source};
use crate::sys::process::{send_signal, wait_for};

/// podman's exit code where a container does not run (podman-exec(1) names none; 255 is what it gives).
pub const NOT_RUNNING: u8 = 255;

/// What is read at once of a stream that nobody wants any more.
const CHUNK: usize = 64 * 1024;

/// What `sbx exec` asks for. With it comes a file: the [`enter::Entry`], which may be too long for a message.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Of this execution, 64 hexadecimal digits: the client's choice.
    pub id: String,
    pub stdin: bool,
    pub terminal: bool,
    /// Rows and columns of the client's terminal.
    pub size: Option<(u16, u16)>,
    /// The streams lead nowhere, and the client goes as soon as the command runs.
    pub detach: bool,
}

/// What has happened to one of the descriptors of [`Execs::descriptors`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Wake {
    SetUp(u64),
    Output(u64, Standard),
}

/// One process, from the launcher's start to its end.
struct Exec {
    number: u64,
    stage: Stage,
    /// Its exit code, once it was reaped.
    code: Option<i32>,
    reader: Reader,
    terminal: bool,
    /// Its client goes as soon as it runs.
    detached: bool,
    /// Nobody wants it any more: it ends as soon as it is known what to kill.
    given_up: bool,
    /// The monitor's copies of the reading ends of its output.
    kept: Vec<(Standard, OwnedFd)>,
}

enum Stage {
    SetUp(Entering),
    Runs { pid: i32 },
}

/// Who takes the output.
enum Reader {
    Session(u64),
    /// The client has gone; what is written is thrown away.
    Nobody,
    /// The monitor itself, up to so many bytes.
    Monitor {
        output: Vec<u8>,
        most: usize,
    },
}

/// How a process ended that the monitor started for itself.
pub(super) struct Outcome {
    pub number: u64,
    /// The exit code, or why the command was not executed.
    pub code: Result<i32>,
    pub output: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Execs {
    all: Vec<Exec>,
    last: u64,
    /// Children that were reaped before it was known what they were.
    strays: Vec<(i32, i32)>,
    /// Of the monitor's own.
    outcomes: Vec<Outcome>,
}

impl Execs {
    /// What to wait for, until it can be read.
    pub fn descriptors(&self) -> impl Iterator<Item = (Wake, BorrowedFd<'_>)> {
        self.all.iter().flat_map(|exec| {
            let set_up = match &exec.stage {
                Stage::SetUp(entering) => Some((Wake::SetUp(exec.number), entering.descriptor())),
                Stage::Runs { .. } => None,
            };
            // Two who read one pipe would each get a part.
            let read = !matches!(exec.reader, Reader::Session(_));
            let outputs = exec.kept.iter().filter(move |_| read);
            let outputs = outputs.map(|(name, end)| (Wake::Output(exec.number, *name), end.as_fd()));
            set_up.into_iter().chain(outputs)
        })
    }

    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// A child was reaped. Whether it is known here.
    pub fn reaped(&mut self, pid: i32, code: i32, sessions: &mut Sessions) -> bool {
        let mut awaited = false;
        let (mut found, mut lost) = (None, None);
        for exec in &mut self.all {
            match &mut exec.stage {
                Stage::SetUp(entering) => {
                    if entering.reaped(pid) {
                        // Killed before it could tell whom it had made: that one waits, and ends with the channel.
                        let silent = entering.pid().is_none() && !can_be_read(entering.descriptor());
                        if silent {
                            lost = Some(exec.number);
                            break;
                        }
                        return true;
                    }
                    awaited |= entering.pid().is_none();
                    if entering.pid() == Some(pid) {
                        // What it said last is yet to be read.
                        exec.code = Some(code);
                        return true;
                    }
                }
                Stage::Runs { pid: own } if *own == pid => {
                    exec.code = Some(code);
                    found = Some(exec.number);
                }
                Stage::Runs { .. } => {}
            }
        }
        if let Some(number) = lost {
            let error = Error::new("cannot start a process in the container")
                .because("what should start it was killed");
            self.fail(number, error, sessions);
            return true;
        }
        if let Some(number) = found {
            self.settle(number, sessions);
        } else if awaited {
            self.strays.push((pid, code));
        }
        found.is_some()
    }

    fn get(&mut self, number: u64) -> Option<&mut Exec> {
        self.all.iter_mut().find(|exec| exec.number == number)
    }

    fn of_session(&mut self, session: u64) -> Option<&mut Exec> {
        self.all.iter_mut().find(|exec| matches!(exec.reader, Reader::Session(own) if own == session))
    }

    fn remove(&mut self, number: u64) -> Option<Exec> {
        let at = self.all.iter().position(|exec| exec.number == number)?;
        let exec = self.all.swap_remove(at);
        if !self.all.iter().any(|exec| matches!(&exec.stage, Stage::SetUp(one) if one.pid().is_none())) {
            self.strays.clear();
        }
        Some(exec)
    }

    /// One that has been executed and has ended is over.
    fn settle(&mut self, number: u64, sessions: &mut Sessions) {
        let Some(exec) = self.get(number) else { return };
        if let (Stage::Runs { .. }, Some(code)) = (&exec.stage, exec.code) {
            self.finish(number, Ok(code), sessions);
        }
    }

    /// The last word about a process.
    fn finish(&mut self, number: u64, code: Result<i32>, sessions: &mut Sessions) {
        let Some(mut exec) = self.remove(number) else { return };
        exec.read_the_rest();
        match exec.reader {
            Reader::Nobody => {}
            Reader::Session(session) => {
                let last = match code {
                    Ok(code) => ToClient::Exited { code, error: None },
                    Err(error) => ToClient::Failed(error),
                };
                sessions.dismiss(session, &last);
            }
            Reader::Monitor { output, .. } => self.outcomes.push(Outcome { number, code, output }),
        }
    }

    fn fail(&mut self, number: u64, error: Error, sessions: &mut Sessions) {
        if let Some(exec) = self.get(number) {
            exec.end();
        }
        self.finish(number, Err(error), sessions);
    }

    /// Kills one that the monitor started for itself, with its process group; its outcome comes when it has ended.
    pub fn kill(&mut self, number: u64) {
        if let Some(exec) = self.get(number) {
            if let (Stage::Runs { pid }, None) = (&exec.stage, exec.code) {
                let _ = send_signal(-pid, libc::SIGKILL);
            }
            exec.end();
        }
    }

    /// The container has ended, and what was brought into it ends, too, where it has not with the PID namespace.
    pub fn end_all(&mut self, sessions: &mut Sessions) {
        while let Some(exec) = self.all.first_mut() {
            exec.end();
            let number = exec.number;
            let code = match (&mut exec.stage, exec.code) {
                (_, Some(code)) => Ok(code),
                (Stage::Runs { pid }, None) => Ok(wait_for(*pid).unwrap_or(128 + libc::SIGKILL)),
                (Stage::SetUp(_), None) => Err(Error::new("cannot start a process in the container")
                    .because("the container has ended")
                    .exit_code(NOT_RUNNING)),
            };
            self.finish(number, code, sessions);
        }
        self.strays.clear();
    }
}

impl Exec {
    /// SIGKILL to all there is of it, unless it was reaped.
    fn end(&mut self) {
        self.given_up = true;
        match &mut self.stage {
            Stage::SetUp(entering) => entering.abandon(self.code.is_none()),
            Stage::Runs { pid } => {
                if self.code.is_none() {
                    let _ = send_signal(*pid, libc::SIGKILL);
                }
            }
        }
    }

    /// Whether the set-up has more to say.
    fn has_news(&self) -> bool {
        match &self.stage {
            Stage::SetUp(entering) => can_be_read(entering.descriptor()),
            Stage::Runs { .. } => false,
        }
    }

    /// Reads a stream once; false when it has come to its end.
    fn read(&mut self, name: Standard) -> bool {
        let Some((_, end)) = self.kept.iter().find(|(own, _)| *own == name) else { return false };
        let mut buffer = [0_u8; CHUNK];
        match rustix::io::read(end, &mut buffer[..]) {
            Ok(read @ 1..) => {
                if let Reader::Monitor { output, most } = &mut self.reader {
                    let room = most.saturating_sub(output.len());
                    output.extend_from_slice(&buffer[..read.min(room)]);
                }
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Ok(0) | Err(_) => {
                self.kept.retain(|(own, _)| *own != name);
                false
            }
        }
    }

    /// What lies in the pipes when the process has ended; others may hold them open.
    fn read_the_rest(&mut self) {
        if !matches!(self.reader, Reader::Monitor { .. }) {
            return;
        }
        for name in [Standard::Output, Standard::Error] {
            // As much as a pipe holds.
            for _ in 0..16 {
                let ready = self.kept.iter().any(|(own, end)| *own == name && can_be_read(end.as_fd()));
                if !ready || !self.read(name) {
                    break;
                }
            }
        }
    }

    /// The client has gone without a word: the terminal hangs up, and what is written to pipes is thrown away.
    fn lose_client(&mut self) {
        self.reader = Reader::Nobody;
        match &mut self.stage {
            Stage::SetUp(_) => self.end(),
            Stage::Runs { .. } if self.terminal => self.kept.clear(),
            Stage::Runs { .. } => {}
        }
    }
}

/// Whether a read would give something, the end included.
fn can_be_read(end: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::from_borrowed_fd(end, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().is_empty()
}

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
    pub(super) fn exec(&mut self, session: u64, request: &Request, entry: Option<OwnedFd>) {
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
    pub(super) fn start_own(&mut self, entry: enter::Entry, most: usize) -> Result<u64> {
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
    pub(super) fn wake(&mut self, wake: Wake) {
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
            Progress::Goes => {}
            Progress::Entered => {
                exec.code = strays.iter().find(|(stray, _)| Some(*stray) == pid).map(|(_, code)| *code);
                let group = self.life.as_ref().and_then(|life| life.sandbox.cgroup.as_ref());
                let moved = group.zip(pid).map_or(Ok(()), |(group, pid)| group.adopt(pid));
                if exec.given_up {
                    exec.end();
                } else {
                    // One that is gone already cannot be moved, and needs no more.
                    if let Err(error) = moved {
                        ::log::debug!("cannot move a process into the container's cgroup: {error}");
                    }
                    entering.go();
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
    pub(super) fn serve_exec(&mut self, session: u64, message: Option<ToMonitor>) {
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
