//! The caller's terminal: raw while the container has it, restored whatever way the client ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

use crate::client::streams::{wait_for, write_all};
use crate::error::{Result, Step};

/// Whether the caller's standard input is a terminal.
pub fn is_terminal() -> bool {
    isatty(stdin())
}

/// Rows and columns of the caller's terminal, if there is one.
pub fn caller_size() -> Option<(u16, u16)> {
    let size = size()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

fn size() -> Option<Winsize> {
    [stdin(), stdout(), stderr()].into_iter().find_map(|stream| tcgetwinsize(stream).ok())
}

/// The caller's terminal on the one side, the container's on the other.
pub struct Terminal {
    master: Arc<OwnedFd>,
    /// The modes of the caller, where keys are passed on.
    saved: Option<Termios>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

impl Terminal {
    /// Connects the two: window sizes, and with `keys` what is typed.
    ///
    /// # Errors
    /// A terminal that can't be set to raw mode.
    pub fn take_over(master: OwnedFd, keys: bool) -> Result<Self> {
        let master = Arc::new(master);
        let failed = || "cannot set the terminal to raw mode";
        let saved = if keys && isatty(stdin()) { Some(tcgetattr(stdin()).step(failed)?) } else { None };
        let terminal = Self { master: Arc::clone(&master), saved };
        terminal.resume();
        if keys {
            thread::Builder::new().spawn(move || pass_keys(&master)).step(|| "cannot start a thread")?;
        }
        Ok(terminal)
    }

    /// Raw mode and the size as it is now: at the start, and after the client was stopped. A client in the
    /// background leaves the terminal alone: it is somebody else's.
    pub fn resume(&self) {
        self.copy_size();
        if let Some(saved) = &self.saved
            && is_ours()
        {
            let mut raw = saved.clone();
            raw.make_raw();
            let _ = tcsetattr(stdin(), OptionalActions::Now, &raw);
        }
    }

    pub fn restore(&self) {
        if let Some(saved) = &self.saved
            && is_ours()
        {
            let _ = tcsetattr(stdin(), OptionalActions::Now, saved);
        }
    }

    pub fn copy_size(&self) {
        if let Some(size) = size()
            && size.ws_row > 0
            && size.ws_col > 0
        {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// The caller's terminal was closed (ioctl_tty(2): EIO of a terminal that hung up).
    pub fn is_gone(&self) -> bool {
        self.saved.is_some() && tcgetattr(stdin()).is_err()
    }
}

/// Whether this is the foreground job, or the terminal has no jobs to speak of.
fn is_ours() -> bool {
    tcgetpgrp(stdin()).map_or(true, |foreground| foreground == getpgrp())
}

fn pass_keys(master: &OwnedFd) {
    let mut buffer = [0_u8; 4096];
    let mut at_line_start = true;
    loop {
        match rustix::io::read(stdin(), &mut buffer[..]) {
            Ok(0) => {
                // The end of a pipe or file becomes what ends a terminal's input; after an unfinished line
                // the first one only hands over that line (termios(3), VEOF).
                let end = tcgetattr(master).map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
                let ends = [end, end];
                write_all(master.as_fd(), if at_line_start { &ends[..1] } else { &ends });
                return;
            }
            Ok(read) => {
                at_line_start = buffer[read - 1] == b'\n';
                if !write_all(master.as_fd(), &buffer[..read]) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(stdin(), rustix::event::PollFlags::IN),
            Err(_) => return,
        }
    }
}
