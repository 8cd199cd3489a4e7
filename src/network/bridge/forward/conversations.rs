//! Clients of one UDP port, each with a socket of its own towards the container, ended by silence.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::slots::Key;

/// A conversation without a datagram for so long is over (as docker's proxy has it).
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Conversations of one port at once; the oldest makes room.
pub(super) const MOST: usize = 2048;
/// How exactly the order of the last datagrams is kept.
const GRAIN: Duration = Duration::from_secs(1);

/// One client that sends to one of the host's addresses.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) listener: Key,
    pub(super) client: SocketAddr,
    /// What the client sent to, and is to get its answers from.
    pub(super) local: Local,
    pub(super) inside: OwnedFd,
}

/// An address of the host as a datagram came to it, with the interface where the address needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Local {
    pub(super) ip: IpAddr,
    pub(super) interface: u32,
}

/// Which conversations there are, and in which order they may have to go.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    known: HashMap<(SocketAddr, Local), (Key, Instant)>,
    /// The last datagram of each, within a grain.
    order: BTreeSet<(Instant, Key)>,
}

impl Conversations {
    pub(super) fn find(&self, client: SocketAddr, local: Local) -> Option<Key> {
        self.known.get(&(client, local)).map(|(key, _)| *key)
    }

    pub(super) fn add(&mut self, client: SocketAddr, local: Local, key: Key, now: Instant) {
        self.known.insert((client, local), (key, now));
        self.order.insert((now, key));
    }

    /// A datagram went either way.
    pub(super) fn touch(&mut self, client: SocketAddr, local: Local, now: Instant) {
        if let Some((key, last)) = self.known.get_mut(&(client, local))
            && now.saturating_duration_since(*last) >= GRAIN
        {
            self.order.remove(&(*last, *key));
            *last = now;
            self.order.insert((now, *key));
        }
    }

    pub(super) fn remove(&mut self, client: SocketAddr, local: Local) {
        if let Some((key, last)) = self.known.remove(&(client, local)) {
            self.order.remove(&(last, key));
        }
    }

    /// The one that was silent for longest, and since when.
    pub(super) fn oldest(&self) -> Option<(Instant, Key)> {
        self.order.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;

    #[test]
    fn the_most_silent_one_is_the_oldest() {
        let mut slots = Slots::default();
        let mut conversations = Conversations::default();
        let local = Local { ip: [192, 0, 2, 1].into(), interface: 0 };
        let client = |number: u16| SocketAddr::from(([198, 51, 100, 1], number));
        let start = Instant::now();
        let keys: Vec<Key> = (0..3).map(|number| slots.insert(number)).collect();
        for (number, key) in (0..3).zip(&keys) {
            conversations.add(client(number), local, *key, start + Duration::from_millis(number.into()));
        }
        assert_eq!(conversations.oldest().map(|(_, key)| key), Some(keys[0]));
        conversations.touch(client(0), local, start + Duration::from_secs(5));
        assert_eq!(conversations.oldest(), Some((start + Duration::from_millis(1), keys[1])));
        conversations.remove(client(1), local);
        assert_eq!(conversations.oldest().map(|(_, key)| key), Some(keys[2]));
        conversations.remove(client(2), local);
        assert_eq!(conversations.oldest(), Some((start + Duration::from_secs(5), keys[0])));
        assert_eq!(conversations.find(client(0), local), Some(keys[0]));
        let elsewhere = Local { ip: [192, 0, 2, 2].into(), interface: 0 };
        assert_eq!(conversations.find(client(0), elsewhere), None);
        assert_eq!(conversations.len(), 1);
    }
}
