//! A process in the foreground: its terminal and signals are the caller's, and so is its end.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use crate::client::keys::DetachKeys;
use crate::client::signals::{self, Action};
use crate::client::terminal::Terminal;
use crate::error::{Result, Step};
use crate::sys::process::{send_signal_to, wait_for};
use crate::sys::terminal::next_signal;

/// Catches the caller's signals: before there is a process, so that none of them is lost.
///
/// # Errors
/// No descriptor is to be had.
pub fn catch_signals() -> Result<OwnedFd> {
    signals::catch().step(|| "cannot catch signals")
}

/// Waits for a child and gives its exit code as a shell has it. `master` is that of its terminal, which the caller's own
/// is connected with. Threads are started: nothing forks afterwards.
///
/// # Errors
/// The terminal or the child cannot be attended to.
pub fn wait(pid: i32, pidfd: BorrowedFd<'_>, master: Option<OwnedFd>, signals: &OwnedFd) -> Result<u8> {
    let output = master.as_ref().map(OwnedFd::try_clone).transpose().step(|| "cannot copy a descriptor")?;
    let terminal = match master {
        // No keys leave it running: that is what `--detach` is for.
        Some(master) => Some(Terminal::take_over(master, Some(&DetachKeys::default()))?),
        None => None,
    };
    let copying = output.map(copy_out).transpose().step(|| "cannot start a thread")?;
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).step(|| "cannot wait for the container"),
        }
        let ended = !polled[0].revents().is_empty();
        while let Some(signal) = next_signal(signals.as_fd()) {
            match (signals::action(signal), &terminal) {
                (Action::Resize, Some(terminal)) => terminal.copy_size(),
                (Action::Resize, None) => {}
                _ => {
                    let _ = send_signal_to(pidfd, signal);
                }
            }
        }
        if ended {
            break;
        }
    }
    let code = wait_for(pid).step(|| "cannot wait for the container")?;
    if let Some(copying) = copying {
        let _ = copying.join();
    }
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// What the terminal has to say, up to the last who could say something.
fn copy_out(master: OwnedFd) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().spawn(move || {
        let _ = std::io::copy(&mut File::from(master), &mut std::io::stdout());
    })
}
