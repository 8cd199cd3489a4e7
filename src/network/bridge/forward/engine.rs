//! The thread's loop: what the kernel reports, what it is told to do, and what time brings.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::connection::{Buffer, Connection};
use super::conversations::{Conversation, Conversations};
use super::slots::{Key, Slots, Token};
use super::{Command, Target, datagram};
use crate::network::Protocol;

/// Events taken at once.
const EVENTS: usize = 512;
/// Descriptors that are left to the rest of the process.
const RESERVE: u64 = 256;
/// When the kernel had no descriptor or memory for another connection, it is asked again after so long.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket of the host.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) owner: String,
    pub(super) socket: OwnedFd,
    pub(super) protocol: Protocol,
    /// The container's.
    pub(super) port: u16,
    pub(super) target: Target,
    pub(super) conversations: Conversations,
}

#[derive(Debug)]
pub(super) struct Engine {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    commands: Receiver<(Command, SyncSender<()>)>,
    pub(super) listeners: Slots<Listener>,
    pub(super) connections: Slots<Connection>,
    pub(super) conversations: Slots<Conversation>,
    /// Connections that are not established, in the order of their deadlines.
    pub(super) connecting: VecDeque<(Instant, Key)>,
    /// Connections with more to do.
    pub(super) again: VecDeque<Key>,
    pub(super) buffer: Buffer,
    /// When conversations are next looked through for silent ones.
    pub(super) sweep: Option<Instant>,
    pub(super) datagram: Vec<u8>,
    pub(super) control: Vec<u8>,
    /// Descriptors that we may have open.
    most: usize,
    /// No connection is accepted, until some end or this moment comes.
    paused: Option<Instant>,
}

impl Engine {
    pub(super) fn new(
        commands: Receiver<(Command, SyncSender<()>)>,
        wake: Arc<OwnedFd>,
        most: usize,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, EventData::new_u64(Token::Wake.bits()), EventFlags::IN)?;
        Ok(Self {
            epoll,
            wake,
            commands,
            listeners: Slots::default(),
            connections: Slots::default(),
            conversations: Slots::default(),
            connecting: VecDeque::new(),
            again: VecDeque::new(),
            buffer: Buffer::default(),
            sweep: None,
            datagram: vec![0; datagram::LONGEST],
            control: datagram::control(),
            most,
            paused: None,
        })
    }

    /// Serves until nobody can give commands any more.
    pub(super) fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let wait = self.wait().map(timespec);
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                let flags = event.flags;
                match Token::from_bits(event.data.u64()) {
                    Token::Wake => {
                        if !self.obey() {
                            return;
                        }
                    }
                    Token::Tcp(key) => self.accept(key),
                    Token::Udp(key) => self.pass_in(key),
                    Token::Client(key) => self.client_event(key, flags),
                    Token::Inside(key) => self.inside_event(key, flags),
                    Token::Conversation(key) => self.pass_out(key),
                }
            }
            for _ in 0..self.again.len() {
                if let Some(key) = self.again.pop_front() {
                    self.go_on(key);
                }
            }
            let now = Instant::now();
            self.give_up_connecting(now);
            self.forget_silent(now);
            self.resume(now);
        }
    }

    /// How long nothing has to be done unless an event comes; none: for ever.
    fn wait(&mut self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = [self.connect_deadline(), self.sweep, self.paused].into_iter().flatten().min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Carries out what waits. False: nobody is left to command.
    fn obey(&mut self) -> bool {
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
        loop {
            match self.commands.try_recv() {
                Ok((command, done)) => {
                    match command {
                        Command::Publish { owner, socket, protocol, port, target } => {
                            self.publish(Listener {
                                owner,
                                socket,
                                protocol,
                                port,
                                target,
                                conversations: Conversations::default(),
                            });
                        }
                        Command::Retarget { owner, target } => self.retarget(&owner, &target),
                        Command::Withdraw { owner } => self.withdraw(&owner),
                    }
                    let _ = done.send(());
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn publish(&mut self, listener: Listener) {
        let key = self.listeners.insert(listener);
        if let Some(Listener { socket, protocol, .. }) = self.listeners.get(key) {
            let (token, flags) = match protocol {
                Protocol::Tcp if self.paused.is_some() => (Token::Tcp(key), EventFlags::empty()),
                Protocol::Tcp => (Token::Tcp(key), EventFlags::IN),
                Protocol::Udp => (Token::Udp(key), EventFlags::IN),
            };
            // ENOMEM, or more watches than a user may have: the port is not served, as if its packets were lost.
            let _ = epoll::add(&self.epoll, socket, EventData::new_u64(token.bits()), flags);
        }
    }

    fn retarget(&mut self, owner: &str, target: &Target) {
        let moved = |listener: &Listener| listener.owner == owner && listener.target != *target;
        let owned: HashSet<Key> = self.listeners.keys(moved).into_iter().collect();
        for key in &owned {
            if let Some(listener) = self.listeners.get_mut(*key) {
                listener.target = target.clone();
            }
        }
        let there = |ip| target.addresses.iter().any(|net| net.addr() == ip);
        for connection in self.connections.keys(|c| owned.contains(&c.listener) && !there(c.to)) {
            self.end(connection, true);
        }
        // The next datagram begins another one.
        self.forget_all(&owned);
    }

    fn withdraw(&mut self, owner: &str) {
        let owned = self.owned(owner);
        for connection in self.connections.keys(|c| owned.contains(&c.listener)) {
            self.end(connection, true);
        }
        self.forget_all(&owned);
        for key in owned {
            if let Some(listener) = self.listeners.remove(key) {
                // The monitor holds the same socket: closing our descriptor would not end the watch (epoll(7)).
                let _ = epoll::delete(&self.epoll, &listener.socket);
            }
        }
    }

    fn owned(&self, owner: &str) -> HashSet<Key> {
        self.listeners.keys(|listener| listener.owner == owner).into_iter().collect()
    }

    fn forget_all(&mut self, listeners: &HashSet<Key>) {
        for conversation in self.conversations.keys(|c| listeners.contains(&c.listener)) {
            self.forget(conversation);
        }
    }

    /// Watches a descriptor that nobody else holds: closing it ends the watch.
    pub(super) fn watch(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.bits()), flags)
    }

    /// Whether so many more descriptors may be opened.
    pub(super) fn has_room(&self, for_more: usize) -> bool {
        let open = self.listeners.len() + 2 * self.connections.len() + self.conversations.len();
        open + for_more <= self.most
    }

    /// Accepts no more connections for now; clients wait in the backlog. Established ones go on.
    pub(super) fn pause(&mut self) {
        if self.paused.replace(Instant::now() + PAUSE).is_none() {
            self.listen(EventFlags::empty());
        }
    }

    fn resume(&mut self, now: Instant) {
        match self.paused {
            Some(until) if until <= now && self.has_room(2) => {
                self.paused = None;
                self.listen(EventFlags::IN);
            }
            Some(until) if until <= now => self.paused = Some(now + PAUSE),
            _ => {}
        }
    }

    fn listen(&self, flags: EventFlags) {
        for (key, listener) in self.listeners.iter().filter(|(_, l)| l.protocol == Protocol::Tcp) {
            let data = EventData::new_u64(Token::Tcp(key).bits());
            let _ = epoll::modify(&self.epoll, &listener.socket, data, flags);
        }
    }
}

/// Sets the soft limit of descriptors to the hard one (getrlimit(2)); returns how many the forwarder may open.
pub(super) fn raise_descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most - RESERVE.min(most / 2)).unwrap_or(usize::MAX)
}

/// Rounded up, so that what is waited for has come.
fn timespec(wait: Duration) -> Timespec {
    let wait = wait + Duration::from_nanos(1);
    Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() }
}
