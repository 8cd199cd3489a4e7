//! The caller's side of a container: terminal, streams, signals, exit code.
//!
//! The first thread waits for signals and for the monitor; each stream is copied by a thread of its own, which starts
//! when the container says something there. By that time the monitor has been forked; the client itself forks no more.

pub mod attached;
pub mod keys;
pub mod signals;
mod streams;
pub mod terminal;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::monitor::Connection;
use crate::monitor::message::{Standard, ToClient, ToMonitor};
use crate::sys::channel::Channel;
use crate::sys::terminal::next_signal;
use keys::DetachKeys;
use signals::Action;
use terminal::Terminal;

pub use terminal::{caller_size, is_terminal};

/// How long a client that leaves waits for output that was on its way.
const LAST_WORDS: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };

/// What the caller wants of the container's streams.
pub struct Options {
    pub stdin: bool,
    pub terminal: bool,
    /// Forward signals to the container (`--sig-proxy`).
    pub signal_proxy: bool,
    /// Typed on a terminal, they leave the container running.
    pub detach_keys: DetachKeys,
    /// The command is one of `sbx exec`: the container goes on when it has ended, and others may hold its streams.
    pub brought_in: bool,
}

/// Serves the container until it ends; its exit code.
///
/// # Errors
/// Why it never started, or that its monitor was killed.
///
/// `besides` is done once the container is on its way, with one thread still: until then the processors are
/// needed elsewhere.
pub fn serve(connection: Connection, options: &Options, besides: impl FnOnce()) -> Result<u8> {
    let Connection { monitor, control, stdin, stdout, stderr, terminal } = connection;
    // Before the first thread, so that every thread inherits the mask and the signals come here alone.
    let signals = signals::catch().step(|| "cannot catch signals")?;
    let mut client = Client {
        control,
        options,
        terminal: None,
        commands_signals: options.signal_proxy,
        calling: None,
        leaves: false,
        outcome: None,
        silent: Vec::new(),
    };
    if monitor.is_some() {
        client.until_news(&signals);
    }
    besides();
    crate::sys::memory::share_heap();
    if let Some(master) = terminal {
        client.terminal = Some(Terminal::take_over(master, client.keys())?);
    }
    let served = client
        .start_copying(stdin, stdout, stderr)
        .and_then(|all_written| client.until_the_end(&signals, &all_written));
    if let Err(error) = served {
        // Without its client the container is stopped.
        drop(client);
        if let Some(monitor) = monitor {
            let _ = crate::sys::process::wait_for(monitor);
        }
        return Err(error);
    }
    client.terminal = None;
    if monitor.is_some() && !client.leaves {
        client.until_let_go(&signals);
    }
    // The monitor is not waited for: what it says last holds, and what it then removes nobody sees.
    client.outcome.unwrap_or_else(|| Err(monitor_killed()))
}

/// Serves a container that runs already: the monitor, at the other end of `control`, was asked for its streams.
///
/// # Errors
/// Why the streams are not to be had, or that the monitor was killed.
pub fn attach(control: Channel, options: &Options) -> Result<u8> {
    match connect(control)? {
        Connected::Yes(connection) => serve(connection, options, || {}),
        Connected::Ended(Some(code)) => Ok(u8::try_from(code).unwrap_or(EXIT_SBX)),
        Connected::Ended(None) => Err(monitor_killed()),
    }
}

/// Serves a command of `sbx exec` as [`attach`] serves a container; none: the container went down before the command
/// was started.
///
/// # Errors
/// As [`attach`].
pub fn exec(control: Channel, options: &Options) -> Result<Option<u8>> {
    match connect(control)? {
        Connected::Yes(connection) => serve(connection, options, || {}).map(Some),
        Connected::Ended(_) => Ok(None),
    }
}

/// Waits until a command of `sbx exec` runs that nobody is to serve; false: the container went down before.
///
/// # Errors
/// Why the command does not run.
pub fn exec_detached(control: Channel) -> Result<bool> {
    Ok(matches!(connect(control)?, Connected::Yes(_)))
}

/// What came of a request for streams.
enum Connected {
    Yes(Connection),
    /// The container ended instead, with this code where its monitor could still say.
    Ended(Option<i32>),
}

fn connect(control: Channel) -> Result<Connected> {
    let (mut stdin, mut stdout, mut stderr, mut terminal) = (None, None, None, None);
    loop {
        match control.receive().step(|| "cannot talk to the container's monitor")? {
            Some((ToClient::Stream(Standard::Input), end)) => stdin = end,
            Some((ToClient::Stream(Standard::Output), end)) => stdout = end,
            Some((ToClient::Stream(Standard::Error), end)) => stderr = end,
            Some((ToClient::Terminal, master)) => terminal = master,
            Some((ToClient::Notice(notice), _)) => log::warn!("{notice}"),
            Some((ToClient::Started { .. }, _)) => break,
            Some((ToClient::Failed(error), _)) => return Err(error),
            Some((ToClient::Exited { code, .. }, _)) => return Ok(Connected::Ended(Some(code))),
            Some((ToClient::Done | ToClient::Ended, _)) => {}
            None => return Ok(Connected::Ended(None)),
        }
    }
    Ok(Connected::Yes(Connection { monitor: None, control, stdin, stdout, stderr, terminal }))
}

/// Waits until the container's command runs.
///
/// # Errors
/// Why it does not.
pub fn until_started(control: &Channel) -> Result<()> {
    loop {
        match control.receive().step(|| "cannot talk to the container's monitor")? {
            Some((ToClient::Started { .. }, _)) => return Ok(()),
            Some((ToClient::Notice(notice), _)) => log::warn!("{notice}"),
            Some((ToClient::Failed(error), _)) => return Err(error),
            // It ran, and is over.
            Some((ToClient::Exited { .. }, _)) => return Ok(()),
            Some(_) => {}
            None => return Err(monitor_killed()),
        }
    }
}

/// For streams that others may hold open when the command has ended, and whose writers are told by the monitor that
/// nobody listens.
struct LastCall {
    /// Reads its end when the command has ended.
    called: OwnedFd,
    control: Channel,
}

impl LastCall {
    fn of(&self, name: Standard) -> Result<streams::LastCall> {
        let failed = || "cannot copy a descriptor";
        let control = self.control.try_clone().step(failed)?;
        Ok(streams::LastCall {
            called: self.called.try_clone().step(failed)?,
            deaf: Box::new(move || drop(control.send(&ToMonitor::Deaf(name)))),
        })
    }
}

/// An output of the container on which nothing was said yet, and where it goes.
struct Silent {
    from: OwnedFd,
    to: BorrowedFd<'static>,
    /// Closed when all is written.
    writing: OwnedFd,
}

struct Client<'a> {
    control: Channel,
    options: &'a Options,
    /// The caller's terminal while the container has it.
    terminal: Option<Terminal>,
    /// Whether signals are meant for the command: while it runs, and with `--sig-proxy`.
    commands_signals: bool,
    /// Closed when the command has ended: see [`LastCall`].
    calling: Option<OwnedFd>,
    /// The detach keys were typed.
    leaves: bool,
    outcome: Option<Result<u8>>,
    /// Many a command says nothing: a thread for that would only be waited for.
    silent: Vec<Silent>,
}

impl Client<'_> {
    /// Has each stream copied. The result reads its end once all output of the container is taken.
    ///
    /// # Errors
    /// No pipe or thread is to be had.
    fn start_copying(
        &mut self,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Result<OwnedFd> {
        let last_call = self.last_call()?;
        let (all_written, writing) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")?;
        let outputs = [
            (stdout, rustix::stdio::stdout(), Standard::Output),
            (stderr, rustix::stdio::stderr(), Standard::Error),
        ];
        for (from, to, name) in outputs {
            let Some(from) = from else { continue };
            let writing = writing.try_clone().step(|| "cannot make a pipe")?;
            match &last_call {
                None => self.silent.push(Silent { from, to, writing }),
                Some(last_call) => streams::copy_out(from, to, writing, Some(last_call.of(name)?))
                    .step(|| "cannot start a thread")?,
            }
        }
        if let Some(stdin) = stdin {
            streams::copy_in(stdin).step(|| "cannot start a thread")?;
        }
        Ok(all_written)
    }

    /// Has those copied that are `heard`; what is closed without a word is done with.
    fn listen(&mut self, heard: &[PollFlags]) -> Result<()> {
        let mut heard = heard.iter();
        for stream in std::mem::take(&mut self.silent) {
            match heard.next() {
                Some(said) if said.contains(PollFlags::IN) => {
                    let Silent { from, to, writing } = stream;
                    streams::copy_out(from, to, writing, None).step(|| "cannot start a thread")?;
                }
                Some(said) if !said.is_empty() => {}
                _ => self.silent.push(stream),
            }
        }
        Ok(())
    }

    fn last_call(&mut self) -> Result<Option<LastCall>> {
        if !self.options.brought_in {
            return Ok(None);
        }
        let (called, calling) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")?;
        self.calling = Some(calling);
        let control = self.control.try_clone().step(|| "cannot copy a descriptor")?;
        Ok(Some(LastCall { called, control }))
    }

    /// What is typed goes to the container, but for these keys; none: nothing does.
    fn keys(&self) -> Option<&DetachKeys> {
        self.options.stdin.then_some(&self.options.detach_keys)
    }

    /// Serves signals until the monitor has something to say.
    fn until_news(&mut self, signals: &OwnedFd) {
        while !self.serve_signals(signals, None).unwrap_or(true) {}
    }

    /// Waits for a signal or first words, and serves them, or for `awaited` (none: the monitor); whether that has come.
    ///
    /// # Errors
    /// There is no thread for what the container says.
    fn serve_signals(&mut self, signals: &OwnedFd, awaited: Option<&OwnedFd>) -> Result<bool> {
        let awaited = awaited.map_or(self.control.as_fd(), AsFd::as_fd);
        let mut polled =
            vec![PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(awaited, PollFlags::IN)];
        polled.extend(self.silent.iter().map(|stream| PollFd::new(&stream.from, PollFlags::IN)));
        let left = self.terminal.as_ref().and_then(Terminal::left);
        polled.extend(left.map(|left| PollFd::from_borrowed_fd(left, PollFlags::IN)));
        if crate::sys::memory::poll_idly(&mut polled, None).is_err() {
            return Ok(false);
        }
        let happened: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        let outputs = 2..2 + self.silent.len();
        let [signalled, arrived, typed] =
            [0, 1, outputs.end].map(|at| happened.get(at).is_some_and(|flags| !flags.is_empty()));
        drop(polled);
        self.listen(&happened[outputs])?;
        if typed && let Some(terminal) = &mut self.terminal {
            self.leaves = terminal.was_left();
        }
        if signalled {
            while let Some(signal) = next_signal(signals.as_fd()) {
                self.signalled(signal);
            }
        }
        Ok(arrived)
    }

    /// Serves signals and the monitor, and once the container has ended, waits for its output to be taken.
    fn until_the_end(&mut self, signals: &OwnedFd, all_written: &OwnedFd) -> Result<()> {
        loop {
            let awaited = self.outcome.is_some().then_some(all_written);
            if self.serve_signals(signals, awaited)? {
                if self.outcome.is_some() {
                    return Ok(());
                }
                self.outcome = self.told();
                if self.outcome.is_some() {
                    self.calling = None;
                }
            }
            if self.leaves && self.outcome.is_none() {
                self.leave(all_written);
                return Ok(());
            }
        }
    }

    /// The monitor has told how the container ended; it lets go of the client when the container's mounts are gone, too.
    fn until_let_go(&mut self, signals: &OwnedFd) {
        loop {
            let said = self.serve_signals(signals, None).unwrap_or(true);
            if said && !matches!(self.control.receive::<ToClient>(), Ok(Some(_))) {
                return;
            }
        }
    }

    /// The container goes on without this client.
    fn leave(&mut self, all_written: &OwnedFd) {
        let _ = self.control.send(&ToMonitor::Detach);
        self.calling = None;
        // What the monitor had for this client by then.
        let _ = self.listen(&vec![PollFlags::IN; self.silent.len()]);
        let mut polled = [PollFd::new(all_written, PollFlags::IN)];
        let _ = rustix::event::poll(&mut polled, Some(&LAST_WORDS));
        self.terminal = None;
        let who = if self.options.brought_in { "command" } else { "container" };
        eprintln!("\nDetached: the {who} goes on.");
        self.outcome = Some(Ok(0));
    }

    /// The monitor's next message, and the outcome where it is the last.
    fn told(&mut self) -> Option<Result<u8>> {
        let message = match self.control.receive().step(|| "cannot talk to the container's monitor") {
            Ok(message) => message,
            Err(error) => return Some(Err(error)),
        };
        match message {
            Some((ToClient::Started { .. } | ToClient::Stream(_), _)) | Some((ToClient::Terminal, None)) => {
                None
            }
            Some((ToClient::Terminal, Some(master))) => match Terminal::take_over(master, self.keys()) {
                Ok(terminal) => {
                    self.terminal = Some(terminal);
                    None
                }
                Err(error) => Some(Err(error)),
            },
            Some((ToClient::Ended, _)) => {
                self.commands_signals = false;
                None
            }
            // A guest whose own output was closed (`| head -1`) has nothing more to do.
            Some((ToClient::Done, _)) => Some(Ok(0)),
            Some((ToClient::Notice(notice), _)) => {
                log::warn!("{notice}");
                None
            }
            Some((ToClient::Failed(error), _)) => Some(Err(error)),
            Some((ToClient::Exited { code, error }, _)) => {
                self.commands_signals = false;
                if let Some(error) = error {
                    log::warn!("the container has ended: {error}");
                }
                Some(Ok(u8::try_from(code).unwrap_or(EXIT_SBX)))
            }
            None => Some(Err(monitor_killed())),
        }
    }

    fn signalled(&mut self, signal: i32) {
        match signals::action(signal) {
            Action::Resize => {
                if let Some(terminal) = &self.terminal {
                    terminal.copy_size();
                }
            }
            Action::Stop => {
                if let Some(terminal) = &self.terminal {
                    terminal.restore();
                }
                let _ = crate::sys::signals::take(signal);
            }
            Action::Continue => {
                if let Some(terminal) = &self.terminal {
                    terminal.resume();
                }
                self.forward(signal);
            }
            Action::Command if self.commands_signals && !self.hung_up(signal) => self.forward(signal),
            Action::Command => {
                if let Some(terminal) = &self.terminal {
                    terminal.restore();
                }
                // The monitor ends the container of a client that is gone.
                let _ = crate::sys::signals::take(signal);
            }
        }
    }

    /// A terminal that is gone can't bring the command's end: the client goes, and the container with it.
    fn hung_up(&self, signal: i32) -> bool {
        signal == libc::SIGHUP && self.terminal.as_ref().is_some_and(Terminal::is_gone)
    }

    fn forward(&self, signal: i32) {
        if self.commands_signals {
            let _ = self.control.send(&ToMonitor::Signal(signal));
        }
    }
}

fn monitor_killed() -> Error {
    Error::new("the monitor of the container was killed")
        .because("it ended without saying how the container did")
        .hint("the container is ended; the next command of sbx cleans up after it")
}
