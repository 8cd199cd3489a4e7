//! One TCP connection of a client, and the one that it is continued by: bytes, ends and aborts are passed on in both
//! directions.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

use super::slots::Key;

/// What one direction may read in a row before other connections have their turn, in bytes.
const TURN: usize = 2 << 20;

/// What both ends are watched for: changes only (epoll(7), edge-triggered), so that no connection is registered again
/// however often its direction changes.
pub(super) const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// Memory for what is read, shared by all connections.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes that connections keep because the other side takes no more.
    held: usize,
}

/// What is read at once, in bytes.
const READ: usize = 256 << 10;
/// What is read at once while so many receivers are slow that more than [`PLENTY`] is held.
const READ_LITTLE: usize = 8 << 10;
const PLENTY: usize = 64 << 20;

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; READ], held: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Inside,
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next event.
    Wait,
    /// There is more to do, after the others had their turn.
    Again,
    /// Both sides have ended.
    Over,
    /// One side has broken off: the other one is to learn it the same way.
    Abort,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// The listener that it came by.
    pub(super) listener: Key,
    /// The container's address that it goes to.
    pub(super) to: IpAddr,
    /// Waits for its turn.
    pub(super) queued: bool,
    client: OwnedFd,
    inside: OwnedFd,
    established: bool,
    up: Flow,
    down: Flow,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// There may be something to read.
    readable: bool,
    /// The other side may take something.
    writable: bool,
    /// A short read does not mean that nothing is left: the end, an error or urgent data came, too.
    unsure: bool,
    /// The writer has broken off. What it wrote before is still there to read.
    broken: bool,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows.
    finished: bool,
    /// Read and not yet written, from `at`.
    rest: Vec<u8>,
    at: usize,
}

impl Connection {
    /// `inside` is connecting.
    pub(super) fn new(listener: Key, client: OwnedFd, inside: OwnedFd, to: IpAddr) -> Self {
        let (up, down) = (Flow::default(), Flow::default());
        Self { listener, to, queued: false, client, inside, established: false, up, down }
    }

    /// The client's, and the container's.
    pub(super) fn ends(&self) -> [&OwnedFd; 2] {
        [&self.client, &self.inside]
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Takes note of an event.
    fn note(&mut self, side: Side, flags: EventFlags) {
        let (reads, writes) = match side {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Inside => (&mut self.down, &mut self.up),
        };
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let end = broken || flags.intersects(EventFlags::RDHUP | EventFlags::PRI);
        reads.unsure |= end;
        reads.broken |= flags.contains(EventFlags::ERR);
        reads.readable |= end || flags.contains(EventFlags::IN);
        writes.writable |= broken || flags.contains(EventFlags::OUT);
    }

    /// Passes on what can be.
    pub(super) fn advance(&mut self, side: Side, flags: EventFlags, buffer: &mut Buffer) -> Next {
        self.note(side, flags);
        if !self.established {
            match side {
                // Nobody to connect for any more.
                Side::Client if flags.intersects(EventFlags::HUP | EventFlags::ERR) => return Next::Abort,
                Side::Client => return Next::Wait,
                Side::Inside => {}
            }
            match sockopt::socket_error(&self.inside) {
                Ok(Ok(())) if flags.contains(EventFlags::OUT) => self.established = true,
                Ok(Ok(())) => return Next::Wait,
                _ => return Next::Abort,
            }
        }
        self.pump(buffer)
    }

    /// Goes on after [`Next::Again`].
    pub(super) fn pump(&mut self, buffer: &mut Buffer) -> Next {
        let up = self.up.pump(&self.client, &self.inside, buffer);
        let down = self.down.pump(&self.inside, &self.client, buffer);
        match (up, down) {
            (Ok(_), Ok(_)) if self.up.finished && self.down.finished => Next::Over,
            (Ok(false), Ok(false)) => Next::Wait,
            (Ok(_), Ok(_)) => Next::Again,
            _ => Next::Abort,
        }
    }

    /// Ends it as if either side had broken off: both get a reset (socket(7), SO_LINGER of 0).
    pub(super) fn abort(&self) {
        for socket in [&self.client, &self.inside] {
            reset(socket);
        }
    }

    /// To be called before it is dropped.
    pub(super) fn release(&mut self, buffer: &mut Buffer) {
        for flow in [&mut self.up, &mut self.down] {
            flow.let_go(buffer);
        }
    }
}

/// Lets the end of `socket` be a reset.
pub(super) fn reset(socket: &OwnedFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

impl Flow {
    /// Whether there is more to do at once.
    ///
    /// # Errors
    /// Either side has broken off.
    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut Buffer) -> Result<bool, Errno> {
        let mut left = TURN;
        while !self.finished {
            if !self.rest.is_empty() {
                if !self.writable {
                    // A reader that takes nothing must not hide that the writer is gone.
                    return if self.broken { Err(Errno::CONNRESET) } else { Ok(false) };
                }
                match write(to, &self.rest[self.at..])? {
                    None => self.writable = false,
                    Some(written) => {
                        self.at += written;
                        if self.at == self.rest.len() {
                            self.let_go(buffer);
                        }
                    }
                }
            } else if self.ended {
                // ENOTCONN: it is gone already; its own direction tells how.
                match rustix::net::shutdown(to, Shutdown::Write) {
                    Ok(()) | Err(Errno::NOTCONN) => self.finished = true,
                    Err(errno) => return Err(errno),
                }
            } else if !self.readable || !self.writable {
                return Ok(false);
            } else if left == 0 {
                return Ok(true);
            } else {
                let most = if buffer.held > PLENTY { READ_LITTLE } else { READ };
                let space = &mut buffer.bytes[..most.min(left)];
                let asked = space.len();
                match read(from, space)? {
                    None => self.readable = false,
                    Some(0) => self.ended = true,
                    Some(read) => {
                        left -= read;
                        // What comes from now on is another event.
                        self.readable = read == asked || self.unsure;
                        let written = write(to, &buffer.bytes[..read])?.unwrap_or_default();
                        if written < read {
                            self.rest = buffer.bytes[written..read].to_vec();
                            buffer.held += self.rest.len();
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    fn let_go(&mut self, buffer: &mut Buffer) {
        buffer.held -= self.rest.len();
        self.rest = Vec::new();
        self.at = 0;
    }
}

/// None: nothing is there.
fn read(from: &OwnedFd, space: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match rustix::net::recv(from, &mut *space, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            outcome => return outcome.map(|(_, length)| Some(length)),
        }
    }
}

/// None: nothing is taken.
fn write(to: &OwnedFd, bytes: &[u8]) -> Result<Option<usize>, Errno> {
    loop {
        match rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            outcome => return outcome.map(Some),
        }
    }
}
