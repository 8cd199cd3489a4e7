//! Copying the container's output: each chunk goes to the log, then to the client. A client that does not
//! read holds the container back, as a pipe would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::logs::{Log, Name};
use crate::sys::time::Utc;

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// The most that can lie in a pipe; more than a terminal holds where it is none.
fn capacity(source: &OwnedFd) -> usize {
    rustix::pipe::fcntl_getpipe_size(source).unwrap_or(1 << 20)
}

/// One stream of the container.
pub struct Stream {
    name: Name,
    source: Option<OwnedFd>,
    client: Option<OwnedFd>,
    /// The client does not read any more, and the container was not told so yet.
    deaf: bool,
    /// `buffer[taken..filled]` is read, logged, and not yet taken by the client.
    buffer: Box<[u8]>,
    taken: usize,
    filled: usize,
}

impl Stream {
    /// Both ends become non-blocking: they are the monitor's own.
    pub fn new(name: Name, source: OwnedFd, client: Option<OwnedFd>) -> Result<Self> {
        for end in std::iter::once(&source).chain(&client) {
            let flags = rustix::fs::fcntl_getfl(end).step(|| "cannot set up a stream")?;
            rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK)
                .step(|| "cannot set up a stream")?;
        }
        let buffer = vec![0; CHUNK].into_boxed_slice();
        Ok(Self { name, source: Some(source), client, deaf: false, buffer, taken: 0, filled: 0 })
    }

    fn backlog(&self) -> bool {
        self.taken < self.filled
    }

    /// Whether the client has stopped reading since this was asked last.
    pub fn client_went_deaf(&mut self) -> bool {
        std::mem::take(&mut self.deaf)
    }

    /// Reads no more: what the container writes from here on fails, as on any closed pipe.
    pub fn close(&mut self) {
        self.source = None;
        self.taken = self.filled;
    }

    /// What to wait for: input, or room at the client.
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, rustix::event::PollFlags)> {
        use rustix::event::PollFlags;
        match (&self.client, &self.source) {
            (Some(client), _) if self.backlog() => Some((client.as_fd(), PollFlags::OUT)),
            (_, Some(source)) => Some((source.as_fd(), PollFlags::IN)),
            _ => None,
        }
    }

    /// Moves what can be moved without blocking; false when nothing was.
    pub fn advance(&mut self, log: &mut Option<Log>) -> bool {
        if self.backlog() {
            return self.flush();
        }
        let Some(source) = &self.source else { return false };
        match rustix::io::read(source, &mut self.buffer[..]) {
            Ok(read @ 1..) => {
                (self.taken, self.filled) = (0, read);
                if let Some(log) = log {
                    // A full disk loses the log's line, not the container.
                    let _ = log.write(self.name, &self.buffer[..read], Utc::now());
                }
                self.flush();
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // EIO: the last process that had the terminal open is gone.
            Ok(0) | Err(_) => {
                self.source = None;
                false
            }
        }
    }

    fn flush(&mut self) -> bool {
        let Some(client) = &self.client else {
            self.taken = self.filled;
            return true;
        };
        match rustix::io::write(client, &self.buffer[self.taken..self.filled]) {
            Ok(written) => {
                self.taken += written;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                self.client = None;
                self.deaf = true;
                self.taken = self.filled;
                true
            }
        }
    }

    /// The container has ended: takes what still lies in the pipe, and no more than it can hold. One who was
    /// handed its other end (unix(7), SCM_RIGHTS) could go on writing for ever.
    pub fn drain(&mut self, log: &mut Option<Log>) {
        let mut left = self.source.as_ref().map_or(0, capacity) + self.filled;
        loop {
            if left == 0 && !self.backlog() {
                self.source = None;
                return;
            }
            let backlog = self.backlog();
            if self.advance(log) {
                if !backlog {
                    left = left.saturating_sub(self.filled);
                }
                continue;
            }
            if !self.backlog() {
                return;
            }
            let Some((client, flags)) = self.waits_for() else { return };
            let mut polled = [rustix::event::PollFd::from_borrowed_fd(client, flags)];
            let _ = rustix::event::poll(&mut polled, None);
        }
    }
}
