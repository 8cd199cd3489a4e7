//! The caller's terminal: raw while the container has it, restored whatever way the client ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::client::streams::write_all;
use crate::error::{Result, Step};
use crate::sys::terminal::{next_signal, signal_descriptor};

/// Rows and columns of the caller's terminal, if there is one.
pub fn caller_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Restores the caller's terminal when dropped.
pub struct Raw {
    saved: Arc<Mutex<Option<Termios>>>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.saved);
    }
}

fn restore(saved: &Mutex<Option<Termios>>) {
    if let Ok(mut saved) = saved.lock()
        && let Some(saved) = saved.take()
    {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &saved);
    }
}

/// Connects the caller's terminal with the container's: keys (with `keys`) and window sizes.
pub fn take_over(master: OwnedFd, keys: bool) -> Result<Option<Raw>> {
    let master = Arc::new(master);
    follow_size(Arc::clone(&master))?;
    if !keys {
        return Ok(None);
    }
    let raw = if isatty(stdin()) { Some(make_raw()?) } else { None };
    thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        loop {
            match rustix::io::read(stdin(), &mut buffer[..]) {
                Ok(0) => {
                    // End of a pipe: the line discipline's own end of file.
                    write_all(master.as_fd(), &[4]);
                    return;
                }
                Ok(read) => {
                    if !write_all(master.as_fd(), &buffer[..read]) {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
    Ok(raw)
}

fn make_raw() -> Result<Raw> {
    let failed = || "cannot set the terminal to raw mode";
    let saved = tcgetattr(stdin()).step(failed)?;
    let mut raw = saved.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Flush, &raw).step(failed)?;
    Ok(Raw { saved: Arc::new(Mutex::new(Some(saved))) })
}

fn follow_size(master: Arc<OwnedFd>) -> Result<()> {
    let changes = signal_descriptor(&[libc::SIGWINCH]).step(|| "cannot follow the terminal's size")?;
    // The size may have changed while the container was set up.
    copy_size(&master);
    thread::spawn(move || {
        loop {
            let mut polled = [PollFd::new(&changes, PollFlags::IN)];
            let _ = poll(&mut polled, None);
            while next_signal(changes.as_fd()).is_some() {
                copy_size(&master);
            }
        }
    });
    Ok(())
}

fn copy_size(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout()))
        && size.ws_row > 0
    {
        let _ = tcsetwinsize(master, size);
    }
}
