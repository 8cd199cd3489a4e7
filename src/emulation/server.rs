//! The process that answers. It is a child of the monitor, outside the container but for its user namespace,
//! and ends when nobody is left to ask, or with the monitor.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::DumpableBehavior;
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::credentials::Credentials;
use super::owners::Owners;
use super::sidecar::{Places, Sidecar};
use super::target::Target;
use crate::container::process::ProcessRef;
use crate::error::{Error, Result, Step};
use crate::sys::channel::Channel;
use crate::sys::memory::poll_idly;
use crate::sys::notify::{self, Answer};
use crate::sys::process::{Fork, close_all_but, die_with_parent, exit_now, fork, wait_for};

/// Threads at most. An answer may wait for a file system that a process of the container serves, which asks
/// something itself: as long as there is one more thread, that is answered.
const MOST_THREADS: usize = 64;
/// Threads that wait for work.
const SPARE_THREADS: usize = 2;

/// How long it may write down what it recorded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Exit codes that tell what failed.
const CANNOT_JOIN: i32 = 99;
const CANNOT_SERVE: i32 = 98;

/// To the server.
#[derive(Debug, Serialize, Deserialize)]
enum ToServer {
    /// Carries the listener of a filter; with the user that the process which installed it believes to be, if that
    /// is not root.
    Serve(Option<Credentials>),
}

/// The running server, as its monitor sees it.
#[derive(Debug)]
pub struct Emulator {
    pid: i32,
    channel: Channel,
}

impl Emulator {
    /// Starts the server of the container whose first process is `init`. It waits for [`Self::serve`].
    ///
    /// # Errors
    /// No process or socket is to be had.
    pub fn start(init: i32, places: Places) -> Result<Self> {
        let failed = || "cannot start the server of emulated root";
        let parent = std::process::id();
        // Here, since the process closes itself to everybody before it executes the command.
        let namespace = File::open(format!("/proc/{init}/ns/user")).step(failed)?;
        let init = File::open(format!("/proc/{init}")).step(failed)?;
        let (ours, theirs) = Channel::pair().step(failed)?;
        match fork().step(failed)? {
            Fork::Parent(pid) => Ok(Self { pid, channel: ours }),
            Fork::Child => {
                drop(ours);
                let _ = rustix::process::setpgid(None, None);
                let _ = rustix::thread::set_name(c"sbx-emulate");
                let (channel, joined) = (theirs.as_fd().as_raw_fd(), namespace.as_raw_fd());
                close_all_but(&mut [0, 1, 2, channel, joined, init.as_raw_fd()]);
                exit_now(match join(&namespace, parent) {
                    Ok(()) => serve(&theirs, places, init),
                    Err(_) => CANNOT_JOIN,
                })
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Has the calls of a filter answered, until nobody is left whom it filters.
    ///
    /// # Errors
    /// The server has ended.
    pub fn serve(&self, listener: BorrowedFd<'_>, user: Option<Credentials>) -> Result<()> {
        self.channel
            .send_with(&ToServer::Serve(user), listener)
            .step(|| "cannot talk to the server of emulated root")
    }

    /// Waits for the server, which ends when nobody is left in the container, and kills it if it does not.
    pub fn end(self) {
        drop(self.channel);
        if let Some(process) = ProcessRef::of(self.pid)
            && !process.ends_within(PATIENCE)
        {
            process.kill(PATIENCE);
        }
        let _ = wait_for(self.pid);
    }

    /// What an exit code of the server says.
    pub fn explain(code: i32) -> String {
        let ended = "the server of emulated root, without which owners and users are unknown, ended";
        match code {
            CANNOT_JOIN => format!("{ended}: it cannot enter the container's user namespace"),
            CANNOT_SERVE => format!("{ended}: it has no more threads or descriptors"),
            code => format!("{ended} with code {code}"),
        }
    }
}

/// Enters the user namespace of the container, for the rights that its root has over its files, and sees to
/// it that nobody inside may look into this process.
fn join(namespace: &File, parent: u32) -> Result<()> {
    let failed = || "cannot enter the container's user namespace";
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWUSER).step(failed)?;
    crate::sandbox::userns::become_root()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(failed)?;
    rustix::thread::set_no_new_privs(true).step(failed)?;
    // Set last: changing IDs clears it (prctl(2), PR_SET_PDEATHSIG).
    die_with_parent(parent).step(failed)
}

/// Answers until the listeners have nobody left, or the monitor is gone; the exit code.
fn serve(channel: &Channel, places: Places, init: File) -> i32 {
    raise_descriptor_limit();
    // Callers' own masks are applied.
    rustix::process::umask(rustix::fs::Mode::empty());
    let Ok(Some((ToServer::Serve(user), Some(first)))) = channel.receive() else { return 0 };
    let natural = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owners = Owners::new(Sidecar::new(places, init), natural);
    let Ok(answers) = Answers::new(owners).map(Arc::new) else { return CANNOT_SERVE };
    let mut listeners = Vec::new();
    let mut next = Some((first, user));
    loop {
        if let Some((listener, user)) = next.take() {
            match Crew::hire(listener, user.map(Arc::new), &answers) {
                Ok(crew) => listeners.push(crew),
                Err(_) => return CANNOT_SERVE,
            }
        }
        let mut polled: Vec<PollFd<'_>> = listeners
            .iter()
            .map(|crew| PollFd::from_borrowed_fd(crew.listener.as_fd(), PollFlags::empty()))
            .collect();
        polled.push(PollFd::new(channel, PollFlags::IN));
        if poll_idly(&mut polled, None).is_err() {
            continue;
        }
        let left: Vec<bool> = polled.iter().map(|fd| fd.revents().contains(PollFlags::HUP)).collect();
        let asked = polled.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(polled);
        if asked {
            match channel.receive() {
                Ok(Some((ToServer::Serve(user), listener))) => next = listener.map(|fd| (fd, user)),
                _ => break,
            }
        }
        let mut gone = left.into_iter();
        listeners.retain(|_| !gone.next().unwrap_or(false));
        if listeners.is_empty() && next.is_none() {
            break;
        }
    }
    answers.save();
    0
}

/// Every file with an owner in the sidecar stays open.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The threads that answer the calls of one listener.
struct Crew {
    listener: OwnedFd,
    first: Option<Arc<Credentials>>,
    answers: Arc<Answers>,
    threads: AtomicUsize,
    waiting: AtomicUsize,
}

impl Crew {
    fn hire(
        listener: OwnedFd,
        first: Option<Arc<Credentials>>,
        answers: &Arc<Answers>,
    ) -> std::io::Result<Arc<Self>> {
        notify::wake_synchronously(listener.as_fd());
        let crew = Arc::new(Self {
            listener,
            first,
            answers: Arc::clone(answers),
            threads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        });
        crew.grow()?;
        Ok(crew)
    }

    fn grow(self: &Arc<Self>) -> std::io::Result<()> {
        let crew = Arc::clone(self);
        self.threads.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let started = std::thread::Builder::new().stack_size(256 << 10).spawn(move || crew.work());
        if started.is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        started.map(|_| ())
    }

    fn work(self: &Arc<Self>) {
        let listener = self.listener.as_fd();
        loop {
            let Ok(call) = notify::receive(listener) else {
                // The caller was killed, or nobody is left; the main thread knows which.
                let mut polled = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
                if poll(&mut polled, None).is_ok() && polled[0].revents().contains(PollFlags::HUP) {
                    return;
                }
                continue;
            };
            if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1
                && self.threads.load(Ordering::Relaxed) < MOST_THREADS
            {
                // Without one more the others wait a little longer.
                let _ = self.grow();
            }
            let target = Target::new(listener, call.id, call.tid, self.first.as_ref());
            let answer = match call.tid {
                // It is in no PID namespace that this one sees.
                0 => Some(Answer::Continue),
                _ => self.answers.to(&call, &target),
            };
            if let Some(answer) = answer {
                let _ = notify::answer(listener, call.id, answer);
            }
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= SPARE_THREADS {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.threads.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// The error for a kernel or an outer container that has no listener to give.
pub fn refused(error: &std::io::Error) -> Error {
    Error::new("cannot emulate root").because(why_refused(error))
}

/// Why the filter could not be installed with a listener.
pub fn why_refused(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            "outside of this container system calls are answered already, and the kernel has one \
                              listener for all; if that is another sbx, it serves here too"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
