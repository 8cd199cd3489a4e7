//! Which signals the client catches, and what each means.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::signals::is_ignored;
use crate::sys::terminal::signal_descriptor;

/// Signals that go to the command (`--sig-proxy`), and otherwise end the client.
///
/// SIGCHLD, SIGPIPE and SIGURG are the client's own business, faults can't be passed on, and SIGWINCH tells
/// of the caller's terminal alone: servers take it as a request to shut down.
const COMMANDS: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

pub enum Action {
    /// It is the command's, or the client's end.
    Command,
    /// The terminal has another size.
    Resize,
    /// The client is a job of the caller's shell.
    Stop,
    Continue,
}

/// A descriptor of the signals, which are blocked; those that the caller ignores stay ignored.
pub fn catch() -> io::Result<OwnedFd> {
    let own = [libc::SIGWINCH, libc::SIGTSTP, libc::SIGCONT];
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let caught: Vec<i32> = own
        .into_iter()
        .chain(COMMANDS.iter().copied())
        .chain(real_time)
        .filter(|n| !is_ignored(*n))
        .collect();
    signal_descriptor(&caught)
}

pub fn action(signal: i32) -> Action {
    match signal {
        libc::SIGWINCH => Action::Resize,
        libc::SIGTSTP => Action::Stop,
        libc::SIGCONT => Action::Continue,
        _ => Action::Command,
    }
}
