//! Copying the container's output: each chunk goes to the log, then to every client. A client that does not
//! read holds the container back, as a pipe would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::logs::{Log, Name};
use crate::sys::time::Utc;

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// How long a client other than the one who started the container may take to read what the container said last.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that can lie in a pipe; more than a terminal holds where it is none.
fn capacity(source: &OwnedFd) -> usize {
    rustix::pipe::fcntl_getpipe_size(source).unwrap_or(1 << 20)
}

/// One who sees a stream.
struct Client {
    /// The number of its session.
    session: u64,
    end: OwnedFd,
    /// How much of the buffer it has taken.
    taken: usize,
}

/// One stream of the container.
pub struct Stream {
    name: Name,
    source: Option<OwnedFd>,
    clients: Vec<Client>,
    /// Sessions whose clients do not read any more, and the container was not told so yet.
    deaf: Vec<u64>,
    /// Read, logged, and not yet taken by every client. Room for a chunk, whose pages come with what is read: most
    /// containers say little, and all of them are waited for.
    buffer: Vec<u8>,
}

impl Stream {
    /// The end becomes non-blocking: it is the monitor's own.
    pub fn new(name: Name, source: OwnedFd) -> Result<Self> {
        unblock(&source)?;
        let buffer = Vec::with_capacity(CHUNK);
        Ok(Self { name, source: Some(source), clients: Vec::new(), deaf: Vec::new(), buffer })
    }

    pub fn name(&self) -> Name {
        self.name
    }

    /// What is read from here on goes to this client, too. The end becomes non-blocking.
    pub fn connect(&mut self, session: u64, end: OwnedFd) -> Result<()> {
        unblock(&end)?;
        self.clients.push(Client { session, end, taken: self.buffer.len() });
        Ok(())
    }

    pub fn disconnect(&mut self, session: u64) {
        self.clients.retain(|client| client.session != session);
    }

    fn backlog(&self) -> bool {
        self.clients.iter().any(|client| client.taken < self.buffer.len())
    }

    /// The sessions whose clients have stopped reading since this was asked last.
    pub fn went_deaf(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.deaf)
    }

    /// Reads no more: what the container writes from here on fails, as on any closed pipe.
    pub fn close(&mut self) {
        self.source = None;
        self.buffer.clear();
        self.clients.clear();
    }

    /// What to wait for: input, or room at those clients that have not taken all.
    pub fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let source = self.source.as_ref().filter(|_| !self.backlog());
        let late = self.clients.iter().filter(|client| client.taken < self.buffer.len());
        late.map(|client| (client.end.as_fd(), PollFlags::OUT))
            .chain(source.map(|source| (source.as_fd(), PollFlags::IN)))
    }

    /// Moves what can be moved without blocking; false when nothing was.
    pub fn advance(&mut self, log: &mut Option<Log>) -> bool {
        if self.backlog() {
            return self.flush();
        }
        let Some(source) = &self.source else { return false };
        self.buffer.clear();
        match rustix::io::read(source, spare_capacity(&mut self.buffer)) {
            Ok(1..) => {
                self.clients.iter_mut().for_each(|client| client.taken = 0);
                if let Some(log) = log {
                    // A full disk loses the log's line, not the container.
                    let _ = log.write(self.name, &self.buffer, Utc::now());
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
        let mut moved = false;
        let (buffer, deaf) = (&self.buffer, &mut self.deaf);
        self.clients.retain_mut(|client| {
            if client.taken >= buffer.len() {
                return true;
            }
            match rustix::io::write(&client.end, &buffer[client.taken..]) {
                Ok(written) => {
                    client.taken += written;
                    moved = true;
                    true
                }
                Err(Errno::AGAIN | Errno::INTR) => true,
                Err(_) => {
                    deaf.push(client.session);
                    moved = true;
                    false
                }
            }
        });
        moved
    }

    /// The container has ended: takes what still lies in the pipe, and no more than it can hold. One who was
    /// handed its other end (unix(7), SCM_RIGHTS) could go on writing for ever. The client of session `patiently` is
    /// waited for without end, as a pipe's reader is.
    pub fn drain(&mut self, log: &mut Option<Log>, patiently: Option<u64>) {
        let mut left = self.source.as_ref().map_or(0, capacity) + self.buffer.len();
        let mut until = Instant::now() + PATIENCE;
        loop {
            if left == 0 && !self.backlog() {
                self.source = None;
                return;
            }
            let backlog = self.backlog();
            if self.advance(log) {
                until = Instant::now() + PATIENCE;
                if !backlog {
                    left = left.saturating_sub(self.buffer.len());
                }
                continue;
            }
            if !self.backlog() {
                return;
            }
            if until <= Instant::now() {
                let filled = self.buffer.len();
                self.clients.retain(|client| client.taken == filled || Some(client.session) == patiently);
            }
            let mut polled: Vec<PollFd<'_>> =
                self.waits_for().map(|(end, flags)| PollFd::from_borrowed_fd(end, flags)).collect();
            let step = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut polled, Some(&step));
        }
    }
}

fn unblock(end: &OwnedFd) -> Result<()> {
    let failed = || "cannot set up a stream";
    let flags = rustix::fs::fcntl_getfl(end).step(failed)?;
    rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK).step(failed)
}
