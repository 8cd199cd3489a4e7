//! The thread that answers: one for all networks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::answer;
use super::clients::{Clients, Turn, accept};
use super::forward::{Finished, Forwards, Question};
use super::limits::Limits;
use super::policy::{Asker, Found, Policy, Teller};
use super::query::{Code, Query, Unreadable, kind};
use super::reply::{self, Reason, Record, Reply, complaint};
use super::sockets::Sockets;
use super::table::Table;
use super::verdict::{Verdict, decide};
use super::watch::{Token, Watch};

/// Datagrams and connections taken from one socket before the others have their turn.
const TURN: usize = 128;
/// Nothing can be accepted for want of descriptors: for so long nobody tries.
const BREATHER: Duration = Duration::from_millis(100);

/// What the thread and those who direct it share.
#[derive(Debug)]
pub struct Shared {
    pub table: RwLock<Arc<Table>>,
    /// Who is asked for other names where neither container nor network says.
    pub servers: RwLock<Vec<IpAddr>>,
    pub orders: Mutex<Vec<Order>>,
    /// An eventfd, which wakes the thread.
    pub wake: OwnedFd,
}

#[derive(Debug)]
pub enum Order {
    Listen(String, Sockets),
    /// Answered when the sockets are closed.
    Silence(String, Sender<()>),
    /// The policy knows of the answer.
    Told(Token),
    Stop,
}

impl Shared {
    pub fn order(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A question that is asked outside.
#[derive(Debug)]
struct Origin {
    from: From,
    asker: Asker,
    name: String,
    /// Bytes of the question.
    length: usize,
    /// The answer may hold addresses.
    wants_addresses: bool,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// The socket that it came to, the sender, and the bytes that the sender takes.
    Datagram(Token, SocketAddr, usize),
    Stream(Token),
}

impl From {
    /// Bytes that an answer may have.
    fn room(self) -> usize {
        match self {
            Self::Datagram(_, _, room) => room,
            Self::Stream(_) => reply::LONGEST,
        }
    }
}

/// What becomes of a message.
enum Step {
    Answer(Vec<u8>),
    /// Not a word.
    Nothing,
    /// It is asked outside.
    Later,
}

pub struct Server {
    shared: Arc<Shared>,
    policy: Arc<dyn Policy>,
    teller: Teller,
    watch: Watch,
    wake: Token,
    datagrams: HashMap<Token, (String, UdpSocket)>,
    listeners: HashMap<Token, (String, TcpListener)>,
    clients: Clients,
    forwards: Forwards<Origin>,
    /// Answers that the policy is being told of.
    told: HashMap<Token, (Origin, Vec<u8>)>,
    limits: Limits,
    random: u64,
    buffer: Vec<u8>,
}

impl Server {
    /// `upstream_port` is where servers outside are asked.
    ///
    /// # Errors
    /// No more descriptors, or no memory.
    pub fn new(shared: Arc<Shared>, policy: Arc<dyn Policy>, upstream_port: u16) -> std::io::Result<Self> {
        let mut watch = Watch::new()?;
        let wake = watch.add(&shared.wake, EventFlags::IN)?;
        let mut seed = [0; 8];
        crate::sys::random::fill(&mut seed).map_err(std::io::Error::other)?;
        let done = shared.clone();
        Ok(Self {
            teller: Teller::new(policy.clone(), Arc::new(move |token| done.order(Order::Told(token)))),
            shared,
            policy,
            watch,
            wake,
            datagrams: HashMap::new(),
            listeners: HashMap::new(),
            clients: Clients::default(),
            forwards: Forwards::new(upstream_port),
            told: HashMap::new(),
            limits: Limits::default(),
            random: u64::from_ne_bytes(seed) | 1,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Answers until it is told to stop.
    pub fn serve(mut self) {
        loop {
            let tokens = self.watch.wait();
            for token in tokens {
                if token == self.wake {
                    if !self.follow_orders() {
                        return;
                    }
                } else {
                    self.ready(token);
                }
                self.deliver_finished();
            }
            let now = Instant::now();
            while let Some(token) = self.watch.due(now) {
                self.rung(token, now);
                self.deliver_finished();
            }
        }
    }

    /// False: the order was to stop.
    fn follow_orders(&mut self) -> bool {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        let orders = std::mem::take(&mut *self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        for order in orders {
            match order {
                Order::Listen(network, sockets) => self.listen(&network, sockets),
                Order::Silence(network, done) => {
                    self.datagrams.retain(|_, (of, _)| *of != network);
                    self.listeners.retain(|_, (of, _)| *of != network);
                    let _ = done.send(());
                }
                Order::Told(token) => {
                    if let Some((origin, message)) = self.told.remove(&token) {
                        self.deliver(&origin, Some(message));
                    }
                }
                Order::Stop => return false,
            }
        }
        true
    }

    fn listen(&mut self, network: &str, sockets: Sockets) {
        for socket in sockets.datagrams {
            if let Ok(token) = self.watch.add(&socket, EventFlags::IN) {
                self.datagrams.insert(token, (network.to_owned(), socket));
            }
        }
        for socket in sockets.listeners {
            if let Ok(token) = self.watch.add(&socket, EventFlags::IN) {
                self.listeners.insert(token, (network.to_owned(), socket));
            }
        }
    }

    fn ready(&mut self, token: Token) {
        if self.forwards.ready(token, &mut self.watch) {
        } else if self.datagrams.contains_key(&token) {
            self.take_datagrams(token);
        } else if self.listeners.contains_key(&token) {
            self.take_connections(token);
        } else {
            self.serve_client(token);
        }
    }

    fn rung(&mut self, token: Token, now: Instant) {
        if self.forwards.rung(token, now, &mut self.watch) {
        } else if let Some((_, listener)) = self.listeners.get(&token) {
            self.watch.change(listener, token, EventFlags::IN);
            self.take_connections(token);
        } else if let Some(Turn::Closed(asker)) = self.clients.rung(token, now, &mut self.watch) {
            self.limits.disconnected(&asker.container);
        }
    }

    fn take_datagrams(&mut self, token: Token) {
        let now = Instant::now();
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..TURN {
            let Some((_, socket)) = self.datagrams.get(&token) else { break };
            let (message, peer) = match socket.recv_from(&mut buffer) {
                Ok((length, peer)) => (&buffer[..length], peer),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // The report of an answer that could not be delivered.
                Err(_) => continue,
            };
            // Only now: who has changed the table before this was sent sees it answered by the new one.
            let table = self.shared.table();
            if let Some(container) = table.owner(peer.ip())
                && !self.limits.takes(container, now)
            {
                continue;
            }
            let from = |query: &Query<'_>| From::Datagram(token, peer, query.room());
            if let Step::Answer(answer) = self.consider(message, peer.ip(), &table, from)
                && let Some((_, socket)) = self.datagrams.get(&token)
            {
                let _ = socket.send_to(&answer, peer);
            }
        }
        self.buffer = buffer;
    }

    fn take_connections(&mut self, token: Token) {
        for _ in 0..TURN {
            let Some((_, listener)) = self.listeners.get(&token) else { return };
            let socket = match accept(listener) {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(error) => {
                    log::warn!("the name server takes no connections for a moment: {error}");
                    self.watch.change(listener, token, EventFlags::empty());
                    self.watch.alarm(Instant::now() + BREATHER, token);
                    return;
                }
            };
            let Ok(address) = socket.peer_addr().map(|peer| peer.ip()) else { continue };
            let table = self.shared.table();
            let Some(container) = table.owner(address) else { continue };
            if self.limits.connect(container) {
                let asker = Asker { container: container.clone(), address };
                if self.clients.add(socket, asker, &mut self.watch).is_err() {
                    self.limits.disconnected(container);
                }
            }
        }
    }

    fn serve_client(&mut self, token: Token) {
        loop {
            match self.clients.turn(token, &self.watch) {
                None => return,
                Some(Turn::Closed(asker)) => return self.limits.disconnected(&asker.container),
                Some(Turn::Messages(_, messages)) if messages.is_empty() => return,
                Some(Turn::Messages(asker, messages)) => {
                    let (now, table) = (Instant::now(), self.shared.table());
                    for message in messages {
                        let step = match self.limits.takes(&asker.container, now) {
                            true => self.consider(&message, asker.address, &table, |_| From::Stream(token)),
                            false => Step::Nothing,
                        };
                        match step {
                            Step::Answer(answer) => self.clients.answer(token, Some(&answer)),
                            Step::Nothing => self.clients.answer(token, None),
                            Step::Later => {}
                        }
                    }
                }
            }
        }
    }

    /// Answers what can be answered at once, and asks outside for the rest.
    fn consider(
        &mut self,
        message: &[u8],
        address: IpAddr,
        table: &Table,
        from: impl FnOnce(&Query<'_>) -> From,
    ) -> Step {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unreadable::Mute) => return Step::Nothing,
            Err(Unreadable::Told(code)) => {
                let code = if table.owner(address).is_some() { code } else { Code::Refused };
                return complaint(message, code).map_or(Step::Nothing, Step::Answer);
            }
        };
        let from = from(&query);
        match self.reply(&query, address, table, from) {
            None => Step::Later,
            Some(reply) => Step::Answer(reply.write(&query, from.room())),
        }
    }

    /// None: it is asked outside.
    fn reply(&mut self, query: &Query<'_>, address: IpAddr, table: &Table, from: From) -> Option<Reply> {
        let (container, mut servers) = match decide(table, address, query) {
            Verdict::Forward { container, servers } => (container, servers),
            Verdict::Reply(mut reply) => {
                self.shuffle(&mut reply.records);
                return Some(reply);
            }
        };
        let asker = Asker { container, address };
        if self.policy.restricts(&asker.container) && !self.policy.allows(&asker, &query.name) {
            return Some(Reply::error(Code::NxDomain).because(Reason::NOT_ALLOWED));
        }
        if servers.is_empty() {
            servers.clone_from(&self.shared.servers.read().unwrap_or_else(PoisonError::into_inner));
        }
        if !self.limits.forward(&asker.container) {
            return Some(Reply::error(Code::ServFail).because(Reason::TOO_MANY));
        }
        let origin = Origin {
            from,
            asker,
            name: query.name.clone(),
            length: query.question.len(),
            wants_addresses: [kind::A, kind::AAAA, kind::ANY].contains(&query.kind),
        };
        let over_tcp = matches!(from, From::Stream(_));
        let question = Question {
            origin,
            message: query.message.to_vec(),
            length: query.question.len(),
            servers,
            over_tcp,
        };
        self.forwards.ask(question, &mut self.watch);
        None
    }

    /// Puts records into any order (Fisher and Yates), so that the askers spread over the addresses.
    fn shuffle(&mut self, records: &mut [Record]) {
        for last in (1..records.len()).rev() {
            // Marsaglia's xorshift64: nobody gains by a guess.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            records.swap(last, (self.random % (last as u64 + 1)) as usize);
        }
    }

    fn deliver_finished(&mut self) {
        while let Some(Finished { origin, question, answer }) = self.forwards.finished() {
            let Some(answer) = answer else {
                self.deliver(&origin, failure(&question, Reason::UNREACHABLE));
                continue;
            };
            let found = self.to_be_told(&origin, &answer);
            if found.addresses.is_empty() {
                self.deliver(&origin, Some(answer));
                continue;
            }
            let token = self.watch.fresh();
            if self.teller.tell(token, origin.asker.clone(), found) {
                self.told.insert(token, (origin, answer));
            } else {
                self.deliver(&origin, failure(&question, Reason::TOO_MANY));
            }
        }
    }

    fn to_be_told(&self, origin: &Origin, answer: &[u8]) -> Found {
        let told = origin.wants_addresses && self.policy.restricts(&origin.asker.container);
        let addresses = if told { answer::addresses(answer, &origin.name) } else { Vec::new() };
        Found { name: origin.name.clone(), addresses }
    }

    /// Sends an answer from outside to whoever asked, if that is there still.
    fn deliver(&mut self, origin: &Origin, message: Option<Vec<u8>>) {
        self.limits.forwarded(&origin.asker.container);
        let is_there = self.shared.table().owner(origin.asker.address) == Some(&origin.asker.container);
        let message = message.filter(|_| is_there);
        match origin.from {
            From::Datagram(token, peer, room) => {
                if let (Some(message), Some((_, socket))) = (message, self.datagrams.get(&token)) {
                    let _ = socket.send_to(&reply::fit(message, origin.length, room), peer);
                }
            }
            From::Stream(token) => {
                self.clients.answer(token, message.as_deref());
                self.serve_client(token);
            }
        }
    }
}

fn failure(question: &[u8], reason: Reason) -> Option<Vec<u8>> {
    let query = Query::read(question).ok()?;
    Some(Reply::error(Code::ServFail).because(reason).write(&query, query.room()))
}
