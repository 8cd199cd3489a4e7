//! A process that is brought into a running container: it joins every namespace of the first one, and takes user,
//! limits and privileges as the container's spec says.
//!
//! A launcher joins the namespaces and clones the process into them as a child of the monitor. It is closed to the
//! container's processes before the first of them could see it, and so is the process until its exec
//! (CVE-2016-9962, CVE-2019-5736). Nothing here waits: the container may hold up whatever is done inside.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::process::DumpableBehavior;
use serde::{Deserialize, Serialize};

use crate::container::capabilities::CapSet;
use crate::container::spec::{Process, Seccomp, Spec};
use crate::emulation::{self, Emulation, Emulator};
use crate::error::{Error, Result, Step};
use crate::sandbox::child::Stdio;
use crate::sandbox::command::{self, AccountFiles, Command, die_with_monitor, lost};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::listed;
use crate::sandbox::message::{FromChild, ToChild};
use crate::sandbox::namespaces::Held;
use crate::sandbox::terminal;
use crate::seccomp;
use crate::seccomp::bpf::Instruction;
use crate::sys::channel::Channel;
use crate::sys::process::{self, Clone, Fork, clone3, exit_now, fork, send_signal, wait_for};

/// The most that is read of an [`Entry`]: execve(2) takes no more words, whatever the stack is.
const LONGEST_ENTRY: u64 = 16 << 20;

/// What is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Complete: the environment is all that the command gets, but for HOME.
    pub process: Process,
    /// All capabilities of the user namespace, and no filter.
    pub privileged: bool,
}

/// Where the [`Entry`] is to be had.
pub enum Source {
    Value(Box<Entry>),
    /// A file that holds it as JSON: it may be too long for a message.
    File(File),
}

impl Entry {
    /// A file in memory, for [`Source::File`].
    ///
    /// # Errors
    /// No memory or descriptor is to be had.
    pub fn to_file(&self) -> Result<File> {
        let failed = || "cannot hand over the command";
        let file = rustix::fs::memfd_create(c"sbx-exec", rustix::fs::MemfdFlags::CLOEXEC).step(failed)?;
        let mut file = File::from(file);
        serde_json::to_writer(std::io::BufWriter::new(&file), self).step(failed)?;
        file.rewind().step(failed)?;
        Ok(file)
    }
}

impl Source {
    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Value(_) => None,
            Self::File(file) => Some(file.as_raw_fd()),
        }
    }

    /// What of the caller's descriptors a process of a bundle inherits.
    fn handed_on(&self) -> std::ops::Range<RawFd> {
        let exact = match self {
            Self::Value(entry) => entry.process.exact.as_deref(),
            Self::File(_) => None,
        };
        command::handed_on(exact)
    }

    fn entry(self) -> Result<Entry> {
        match self {
            Self::Value(entry) => Ok(*entry),
            Self::File(file) => {
                let failed = || "cannot understand the command";
                let mut text = Vec::new();
                file.take(LONGEST_ENTRY).read_to_end(&mut text).step(failed)?;
                serde_json::from_slice(&text).step(failed)
            }
        }
    }
}

/// A process on its way into the container.
pub struct Entering {
    channel: Channel,
    /// None once it has ended and was reaped.
    launcher: Option<i32>,
    pid: Option<i32>,
}

/// What became of it by now.
pub enum Progress {
    /// Nothing that the caller need know.
    Goes,
    /// It has a PID, from here on it can be reaped and signalled, and it waits for [`Entering::go`].
    Entered,
    Notice(String),
    /// Of a bundle: the listener on which calls arrive that its filter hands to somebody else.
    Calls(OwnedFd),
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// The last: the command is being executed, or the process was killed.
    Executed,
    /// The last: why the command is not executed. A process that there is already ends.
    Failed(Error),
}

/// Starts the launcher. The caller has one thread.
///
/// # Errors
/// No process or socket is to be had.
pub fn start(spec: &Spec, namespaces: &Held, stdio: &Stdio, source: Source) -> Result<Entering> {
    let failed = || "cannot start a process in the container";
    let (ours, theirs) = Channel::pair().step(failed)?;
    let monitor = std::process::id();
    match fork().step(failed)? {
        Fork::Parent(launcher) => Ok(Entering { channel: ours, launcher: Some(launcher), pid: None }),
        Fork::Child => {
            drop(ours);
            match launch(spec, namespaces, stdio, source, &theirs, monitor) {
                Ok((pid, pidfd)) => {
                    let sent = theirs.send_with(&FromChild::Entered { pid }, pidfd.as_fd());
                    exit_now(if sent.is_ok() { 0 } else { 125 })
                }
                Err(error) => command::fail(&theirs, error),
            }
        }
    }
}

impl Entering {
    /// Readable when [`Self::advance`] has something to do.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Takes the next message, for which it waits. Calls of emulated root are `emulator`'s to answer.
    pub fn advance(&mut self, emulator: Option<&Emulator>) -> Progress {
        let received = match self.channel.receive() {
            Ok(received) => received,
            Err(error) => {
                return Progress::Failed(
                    Error::new("cannot talk to the process in the container").because(error),
                );
            }
        };
        match received {
            Some((FromChild::Entered { pid }, _)) => {
                self.pid = Some(pid);
                Progress::Entered
            }
            Some((FromChild::Notice(notice), _)) => Progress::Notice(notice),
            Some((FromChild::Terminal, Some(master))) => Progress::Terminal(master),
            Some((FromChild::Listener { user }, Some(listener))) => {
                // Without an answer the process would wait for ever.
                match emulator.map(|emulator| emulator.serve(listener.as_fd(), user)) {
                    Some(Err(error)) => Progress::Failed(error),
                    Some(Ok(())) => Progress::Goes,
                    None => Progress::Failed(Error::new("nobody is left to answer for emulated root")),
                }
            }
            Some((FromChild::Calls, Some(listener))) => Progress::Calls(listener),
            Some((FromChild::Failed(error), _)) => Progress::Failed(error),
            None if self.pid.is_some() => Progress::Executed,
            None => Progress::Failed(
                Error::new("cannot start a process in the container")
                    .because("the container ended, or what should start it was killed"),
            ),
            Some(_) => Progress::Failed(Error::new("the process in the container said something unexpected")),
        }
    }

    /// Lets the process go on, which waits for that once it has entered.
    pub fn go(&self) {
        // One that was killed meanwhile is reaped.
        let _ = self.channel.send(&ToChild::Go);
    }

    /// To be told of every child that was reaped, since its process ID may be another's from now on. Whether it was
    /// the launcher.
    pub fn reaped(&mut self, pid: i32) -> bool {
        let is_launcher = self.launcher == Some(pid);
        if is_launcher {
            self.launcher = None;
        }
        is_launcher
    }

    /// Ends what was started so far; it is reaped with other children. `alive`: the process has not been yet. One of
    /// which nothing was heard so far ends when the value is dropped: nobody is left to tell it to go.
    pub fn abandon(&self, alive: bool) {
        let pid = self.pid.filter(|_| alive);
        for pid in self.launcher.into_iter().chain(pid) {
            let _ = send_signal(pid, libc::SIGKILL);
        }
    }

    /// Ends what was started and waits for its end, for a caller that ends itself: what it leaves unreaped holds up the end
    /// of the whole container, until somebody else reaps it (pid_namespaces(7)).
    pub fn end(&self) {
        self.abandon(true);
        for pid in self.launcher.into_iter().chain(self.pid) {
            let _ = wait_for(pid);
        }
    }
}

/// The launcher's life, up to the process that it makes.
fn launch(
    spec: &Spec,
    namespaces: &Held,
    stdio: &Stdio,
    source: Source,
    channel: &Channel,
    monitor: u32,
) -> Result<(i32, OwnedFd)> {
    let _ = rustix::thread::set_name(c"sbx-launcher");
    // Those of other clients, and the lock of the container.
    let mut kept = vec![0, 1, 2, channel.as_fd().as_raw_fd()];
    kept.extend(source.handed_on());
    kept.extend(namespaces.descriptors());
    kept.extend(source.descriptor());
    if let Stdio::Pipes { stdin, stdout, stderr } = stdio {
        kept.extend([stdin, stdout, stderr].map(AsRawFd::as_raw_fd));
    }
    process::close_all_but(&mut kept);
    process::die_with_parent(monitor).step(lost)?;

    let spec = of_the_process(spec, source.entry()?);
    let filter =
        seccomp::program(&spec.security.seccomp, spec.security.capabilities, seccomp::running_kernel())?;
    let emulation = match spec.emulation {
        Emulation::Off => None,
        Emulation::IfPossible | Emulation::Required => Some(emulation::program()?),
    };
    // A process that is closed to others may not.
    command::set_oom_score(&spec)?;
    process::forget_arguments(c"sbx").step(|| "cannot hide the command line")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .step(|| "cannot close the process to others")?;
    namespaces.enter()?;
    match clone3(libc::CLONE_PARENT).map_err(|error| clone_failed(&error))? {
        Clone::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Clone::Child => {
            let _ = rustix::thread::set_name(c"sbx-exec");
            let inside = Inside { spec: &spec, stdio, channel, seccomp: filter, emulation };
            let error = match inside.set_up() {
                Ok(user) => inside.last_steps().execute(&user),
                Err(error) => error,
            };
            command::fail(channel, error)
        }
    }
}

/// The spec as it would be if this process were the container's first.
fn of_the_process(spec: &Spec, entry: Entry) -> Spec {
    let mut spec = spec.clone();
    let account = spec.process.account.take();
    spec.process = Process { account, ..entry.process };
    if let Some(exact) = &spec.process.exact {
        spec.security.capabilities = exact.capabilities.bounding;
    }
    spec.init = false;
    if entry.privileged {
        spec.security.capabilities = CapSet::all();
        spec.security.seccomp = Seccomp::Unconfined;
    }
    spec
}

fn clone_failed(error: &std::io::Error) -> Error {
    let failed = Error::new("cannot start a process in the container");
    match error.raw_os_error() {
        // pid_namespaces(7): of one whose init has ended.
        Some(libc::ENOMEM) => failed.because("the container has ended, or memory has run out"),
        _ => failed.because(error),
    }
}

/// What the process starts with.
struct Inside<'a> {
    spec: &'a Spec,
    stdio: &'a Stdio,
    channel: &'a Channel,
    seccomp: Option<Vec<Instruction>>,
    emulation: Option<Vec<Instruction>>,
}

impl Inside<'_> {
    fn set_up(&self) -> Result<crate::container::user::ResolvedUser> {
        if self.spec.listed.is_none() {
            die_with_monitor()?;
        }
        match self.channel.receive().step(lost)? {
            Some((ToChild::Go, _)) => {}
            _ => exit_now(125),
        }
        rustix::process::setsid().step(|| "cannot make a session for the process")?;
        let root = InRoot::open(Path::new("/"))?;
        let user = match &self.spec.listed {
            None => AccountFiles::read(&root).user(self.spec)?,
            Some(listed) => {
                listed::be_of_personality(listed)?;
                listed::exact_user(self.spec, &root)?
            }
        };
        let slave = match self.stdio {
            Stdio::Pipes { .. } | Stdio::Inherited => None,
            Stdio::Terminal { size } => {
                let terminal = terminal::open(&root, *size)?;
                self.channel.send_with(&FromChild::Terminal, terminal.master.as_fd()).step(lost)?;
                Some(terminal.slave)
            }
        };
        command::set_rlimits(self.spec)?;
        self.last_steps().take_streams(self.stdio, slave, &user)?;
        Ok(user)
    }

    fn last_steps(&self) -> Command<'_> {
        Command {
            spec: self.spec,
            channel: self.channel,
            seccomp: self.seccomp.as_deref(),
            emulation: self.emulation.as_deref(),
            secrets: None,
            inside: None,
        }
    }
}
