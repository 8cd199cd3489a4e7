//! The caller's terminal: raw while the container has it, restored whatever way the client ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

use crate::client::keys::{DetachKeys, Watch};
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
    /// Can be read when the detach keys were typed, or nothing is typed any more.
    left: Option<OwnedFd>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

impl Terminal {
    /// Connects the two: window sizes, and, unless `keys` is none, what is typed, up to these keys.
    ///
    /// # Errors
    /// A terminal that can't be set to raw mode.
    pub fn take_over(master: OwnedFd, keys: Option<&DetachKeys>) -> Result<Self> {
        let master = Arc::new(master);
        let failed = || "cannot set the terminal to raw mode";
        let saved =
            if keys.is_some() && isatty(stdin()) { Some(tcgetattr(stdin()).step(failed)?) } else { None };
        let mut terminal = Self { master: Arc::clone(&master), saved, left: None };
        terminal.resume();
        if let Some(keys) = keys {
            let (left, leaving) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")?;
            let mut watch = Watch::new(keys);
            let pass = move || {
                if pass_keys(&master, &mut watch) {
                    write_all(leaving.as_fd(), b"!");
                }
                drop(leaving);
            };
            thread::Builder::new().spawn(pass).step(|| "cannot start a thread")?;
            terminal.left = Some(left);
        }
        Ok(terminal)
    }

    /// Can be read when there is something to ask [`Self::was_left`] about.
    pub fn left(&self) -> Option<BorrowedFd<'_>> {
        self.left.as_ref().map(AsFd::as_fd)
    }

    /// Whether the detach keys were typed.
    pub fn was_left(&mut self) -> bool {
        let left = self.left.take();
        left.is_some_and(|left| rustix::io::read(left, &mut [0_u8; 1]) == Ok(1))
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

/// Until nobody takes them, nothing is typed any more, or, then true, the detach keys were.
fn pass_keys(master: &OwnedFd, watch: &mut Watch) -> bool {
    let mut passed = Vec::new();
    let mut buffer = [0_u8; 4096];
    let mut at_line_start = true;
    loop {
        match rustix::io::read(stdin(), &mut buffer[..]) {
            Ok(0) => {
                write_all(master.as_fd(), watch.give_up());
                // The end of a pipe or file becomes what ends a terminal's input; after an unfinished line
                // the first one only hands over that line (termios(3), VEOF).
                let end = tcgetattr(master).map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
                let ends = [end, end];
                write_all(master.as_fd(), if at_line_start { &ends[..1] } else { &ends });
                return false;
            }
            Ok(read) => {
                at_line_start = buffer[read - 1] == b'\n';
                passed.clear();
                let leaves = watch.typed(&buffer[..read], &mut passed);
                if !write_all(master.as_fd(), &passed) {
                    return false;
                }
                if leaves {
                    return true;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(stdin(), rustix::event::PollFlags::IN),
            Err(_) => return false,
        }
    }
}
