//! Connections: accepted, continued towards the container, ended.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::connection::{Connection, Next, Side, WATCHED, reset};
use super::engine::{Engine, Listener};
use super::slots::{Key, Token};
use super::source::{self, Way};
use crate::network::Protocol;

/// Connections taken from one socket before others have their turn.
const TURN: usize = 64;
/// A container that answers nothing for so long is not there, as far as its client is concerned.
const CONNECT: Duration = Duration::from_secs(30);

impl Engine {
    /// Takes those who wait at a port.
    pub(super) fn accept(&mut self, key: Key) {
        for _ in 0..TURN {
            if !self.has_room(2) {
                return self.pause();
            }
            let Some(listener) = self.listeners.get(key) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(&listener.socket, flags) {
                Ok((client, address)) => {
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    match address.and_then(|address| connect(listener, &client, address)) {
                        Some((inside, way)) => self.begin(key, client, inside, way),
                        None => reset(&client),
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return self.pause(),
                // The client has gone already, or a network error waited for it (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn begin(&mut self, listener: Key, client: OwnedFd, inside: OwnedFd, way: Way) {
        let key = self.connections.insert(Connection::new(listener, client, inside, way.to.ip()));
        let Some(connection) = self.connections.get(key) else { return };
        let [client, inside] = connection.ends();
        let watched = self
            .watch(client, Token::Client(key), WATCHED)
            .and_then(|()| self.watch(inside, Token::Inside(key), WATCHED));
        match watched {
            Ok(()) => self.connecting.push_back((Instant::now() + CONNECT, key)),
            Err(_) => self.end(key, true),
        }
    }

    pub(super) fn client_event(&mut self, key: Key, flags: EventFlags) {
        self.advance(key, Side::Client, flags);
    }

    pub(super) fn inside_event(&mut self, key: Key, flags: EventFlags) {
        self.advance(key, Side::Inside, flags);
    }

    fn advance(&mut self, key: Key, side: Side, flags: EventFlags) {
        if let Some(connection) = self.connections.get_mut(key) {
            let next = connection.advance(side, flags, &mut self.buffer);
            self.follow(key, next);
        }
    }

    /// Its turn has come again.
    pub(super) fn go_on(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.queued = false;
            let next = connection.pump(&mut self.buffer);
            self.follow(key, next);
        }
    }

    fn follow(&mut self, key: Key, next: Next) {
        match next {
            Next::Wait => {}
            Next::Again => {
                if let Some(connection) = self.connections.get_mut(key)
                    && !std::mem::replace(&mut connection.queued, true)
                {
                    self.again.push_back(key);
                }
            }
            Next::Over => self.end(key, false),
            Next::Abort => self.end(key, true),
        }
    }

    /// Closes both sides, with a reset where it was not their own wish.
    pub(super) fn end(&mut self, key: Key, abort: bool) {
        if let Some(mut connection) = self.connections.remove(key) {
            if abort {
                connection.abort();
            }
            connection.release(&mut self.buffer);
        }
    }

    pub(super) fn connect_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, key)) = self.connecting.front() {
            if self.connections.get(*key).is_some_and(|c| !c.is_established()) {
                return Some(*deadline);
            }
            self.connecting.pop_front();
        }
        None
    }

    pub(super) fn give_up_connecting(&mut self, now: Instant) {
        while self.connect_deadline().is_some_and(|deadline| deadline <= now) {
            if let Some((_, key)) = self.connecting.pop_front() {
                self.end(key, true);
            }
        }
    }
}

/// Begins the connection that continues that of a client. None: it can't be continued.
fn connect(listener: &Listener, client: &OwnedFd, address: SocketAddr) -> Option<(OwnedFd, Way)> {
    let local = SocketAddr::try_from(rustix::net::getsockname(client).ok()?).ok()?;
    let way = Way::choose(address, local.ip(), &listener.target, listener.port)?;
    source::open(Protocol::Tcp, &way).ok().map(|inside| (inside, way))
}
