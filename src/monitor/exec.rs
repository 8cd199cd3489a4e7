//! Processes that are brought into the running container: those of `sbx exec`, and health checks.
//!
//! Their streams are the client's own; the monitor keeps copies of its ends, so that a process goes on as it would
//! when its client is gone. Nothing here waits for the container, which may hold a set-up up for as long as it likes.

mod start;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::monitor::message::{Standard, ToClient};
use crate::monitor::sessions::Sessions;
use crate::sandbox::enter::Entering;
use crate::sys::process::{send_signal, wait_for};

/// podman's exit code where a container does not run (podman-exec(1) names none; 255 is what it gives).
pub const NOT_RUNNING: u8 = 255;

/// What is read at once of a stream that nobody wants any more.
const CHUNK: usize = 64 * 1024;

/// What `sbx exec` asks for. With it comes a file: the [`crate::sandbox::enter::Entry`], which may be too long for a message.
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
