//! Datagrams: each client of a port has a socket of its own towards the container.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::conversations::{Conversation, IDLE, Local, MOST};
use super::datagram;
use super::engine::{Engine, Listener};
use super::slots::{Key, Token};
use super::source::{self, Way};
use crate::network::Protocol;

/// Datagrams taken from one socket before others have their turn.
const TURN: usize = 64;
/// Silent conversations are not looked for more often.
const SWEEP: Duration = Duration::from_secs(1);

impl Engine {
    /// Passes on what clients sent to a port.
    pub(super) fn pass_in(&mut self, listener: Key) {
        let now = Instant::now();
        for _ in 0..TURN {
            let Some(port) = self.listeners.get_mut(listener) else { return };
            let (length, client, local) =
                match datagram::receive(&port.socket, &mut self.datagram, &mut self.control) {
                    Ok(received) => received,
                    Err(Errno::EAGAIN) => return,
                    // The report of an answer that did not arrive, which reading has cleared.
                    Err(_) => continue,
                };
            let key = match port.conversations.find(client, local) {
                Some(key) => {
                    port.conversations.touch(client, local, now);
                    key
                }
                None => match self.converse(listener, client, local, now) {
                    Some(key) => key,
                    None => continue,
                },
            };
            if let Some(conversation) = self.conversations.get(key) {
                // Lost as on any network: the port may be closed (told by the error), or its buffer full.
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = rustix::net::send(&conversation.inside, &self.datagram[..length], flags);
            }
        }
    }

    /// A client's first datagram. None: it can't be passed on.
    fn converse(&mut self, listener: Key, client: SocketAddr, local: Local, now: Instant) -> Option<Key> {
        let port = self.listeners.get(listener)?;
        let way = Way::choose(client, local.ip, &port.target, port.port)?;
        let full = port.conversations.len() >= MOST;
        if full || !self.has_room(1) {
            let (_, oldest) = self.listeners.get(listener)?.conversations.oldest()?;
            self.forget(oldest);
        }
        let inside = source::open(Protocol::Udp, &way).ok()?;
        let key = self.conversations.insert(Conversation { listener, client, local, inside });
        let conversation = self.conversations.get(key)?;
        if self.watch(&conversation.inside, Token::Conversation(key), EventFlags::IN).is_err() {
            self.conversations.remove(key);
            return None;
        }
        self.listeners.get_mut(listener)?.conversations.add(client, local, key, now);
        self.sweep.get_or_insert(now + IDLE);
        Some(key)
    }

    /// Passes on what the container answered to a client.
    pub(super) fn pass_out(&mut self, key: Key) {
        let Some(conversation) = self.conversations.get(key) else { return };
        let Some(port) = self.listeners.get_mut(conversation.listener) else { return };
        let (client, local) = (conversation.client, conversation.local);
        for _ in 0..TURN {
            match rustix::net::recv(&conversation.inside, &mut self.datagram[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let _ = datagram::send(&port.socket, &self.datagram[..length], client, local);
                    port.conversations.touch(client, local, Instant::now());
                }
                // Nothing more, or the report of a closed port (ICMP), which reading has cleared.
                Err(_) => return,
            }
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(conversation) = self.conversations.remove(key)
            && let Some(port) = self.listeners.get_mut(conversation.listener)
        {
            port.conversations.remove(conversation.client, conversation.local);
        }
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        if self.sweep.is_none_or(|sweep| sweep > now) {
            return;
        }
        let oldest = |(_, port): (Key, &Listener)| port.conversations.oldest();
        for port in self.listeners.keys(|port| port.protocol == Protocol::Udp) {
            while let Some((last, key)) =
                self.listeners.get(port).and_then(|port| port.conversations.oldest())
                && last + IDLE <= now
            {
                self.forget(key);
            }
        }
        let next = self.listeners.iter().filter_map(oldest).map(|(last, _)| last + IDLE).min();
        self.sweep = next.map(|next| next.max(now + SWEEP));
    }
}
