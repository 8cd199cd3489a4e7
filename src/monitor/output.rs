//! Copying the container's output: each chunk goes to the log, then to the client. A client that does not
//! read holds the container back, as a pipe would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::monitor::log::{Log, Name};
use crate::sys::time::Utc;

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// One stream of the container.
pub struct Stream {
    name: Name,
    source: Option<OwnedFd>,
    client: Option<OwnedFd>,
    /// Read, logged, and not yet taken by the client.
    pending: Vec<u8>,
    taken: usize,
}

impl Stream {
    /// Both ends become non-blocking: they are the monitor's own.
    pub fn new(name: Name, source: OwnedFd, client: Option<OwnedFd>) -> Result<Self> {
        for end in std::iter::once(&source).chain(&client) {
            let flags = rustix::fs::fcntl_getfl(end).step(|| "cannot set up a stream")?;
            rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK)
                .step(|| "cannot set up a stream")?;
        }
        Ok(Self { name, source: Some(source), client, pending: Vec::new(), taken: 0 })
    }

    fn backlog(&self) -> bool {
        self.taken < self.pending.len()
    }

    /// Whether the container may write more or the client has something to come.
    pub fn is_open(&self) -> bool {
        self.source.is_some() || self.backlog()
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
        self.pending.resize(CHUNK, 0);
        match rustix::io::read(source, &mut self.pending[..]) {
            Ok(read @ 1..) => {
                self.pending.truncate(read);
                self.taken = 0;
                if let Some(log) = log {
                    // A full disk loses the log's line, not the container.
                    let _ = log.write(self.name, &self.pending, Utc::now());
                }
                if self.client.is_none() {
                    self.taken = read;
                }
                self.flush();
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.pending.clear();
                false
            }
            // EIO: the last process that had the terminal open is gone.
            Ok(0) | Err(_) => {
                self.pending.clear();
                self.source = None;
                false
            }
        }
    }

    fn flush(&mut self) -> bool {
        let Some(client) = &self.client else {
            self.taken = self.pending.len();
            return true;
        };
        match rustix::io::write(client, &self.pending[self.taken..]) {
            Ok(written) => {
                self.taken += written;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The client closed its side; the container goes on, as if its output were read.
            Err(_) => {
                self.client = None;
                self.taken = self.pending.len();
                true
            }
        }
    }

    /// Nobody writes any more: takes what still lies in the pipe.
    pub fn drain(&mut self, log: &mut Option<Log>) {
        loop {
            if self.advance(log) {
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
