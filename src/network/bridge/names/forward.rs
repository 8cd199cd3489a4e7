//! Questions that are asked outside: many at once, each from a socket of its own, so that whoever wants to guess an
//! answer has to guess number and port.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::answer::{Worth, judge};
use super::stream::Stream;
use super::watch::{Token, Watch};

/// A server that has not answered for so long is given up for the next, or asked again where there is none.
const STEP: Duration = Duration::from_millis(1500);
/// An asker waits five seconds (resolv.conf(5), `timeout`); it learns of a failure before that.
const PATIENCE: Duration = Duration::from_millis(4500);
/// For so long a server that was silent is asked last.
const DISTRUST: Duration = Duration::from_secs(30);
/// Servers that are asked for one question.
const MOST_SERVERS: usize = 8;
/// Datagrams taken from one socket at a time: all but one are somebody's guesses.
const TURN: usize = 16;

/// A question on its way, `origin` being whatever the caller wants to have back with the answer.
#[derive(Debug)]
pub struct Question<O> {
    pub origin: O,
    /// As the container has sent it.
    pub message: Vec<u8>,
    /// Bytes of the asked name, type and class.
    pub length: usize,
    pub servers: Vec<IpAddr>,
    /// The asker takes long messages.
    pub over_tcp: bool,
}

#[derive(Debug)]
pub struct Finished<O> {
    pub origin: O,
    pub question: Vec<u8>,
    /// With the number that the container has sent. None: nobody has answered.
    pub answer: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Pending<O> {
    question: Question<O>,
    /// Our own number for it.
    id: u16,
    /// The next of the servers.
    next: usize,
    links: Vec<Token>,
    /// What is better than nothing: a failure, or an answer that was cut.
    spare: Option<Vec<u8>>,
    deadline: Instant,
}

#[derive(Debug)]
struct Link {
    pending: Token,
    server: IpAddr,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Datagrams(UdpSocket),
    Stream(Stream),
}

#[derive(Debug)]
pub struct Forwards<O> {
    /// Where servers listen: 53, but for tests.
    port: u16,
    pending: HashMap<Token, Pending<O>>,
    links: HashMap<Token, Link>,
    /// Servers that gave no answer, and when.
    silent: HashMap<IpAddr, Instant>,
    finished: Vec<Finished<O>>,
    buffer: Vec<u8>,
}

impl<O> Forwards<O> {
    pub fn new(port: u16) -> Self {
        Self {
            port,
            pending: HashMap::new(),
            links: HashMap::new(),
            silent: HashMap::new(),
            finished: Vec::new(),
            buffer: vec![0; 1 << 16],
        }
    }

    /// The next question that is through.
    pub fn finished(&mut self) -> Option<Finished<O>> {
        self.finished.pop()
    }

    /// Asks. The outcome comes from [`Self::finished`], perhaps at once.
    pub fn ask(&mut self, mut question: Question<O>, watch: &mut Watch) {
        let now = Instant::now();
        self.silent.retain(|_, since| now.duration_since(*since) < DISTRUST);
        question.servers.sort_by_key(|server| self.silent.contains_key(server));
        question.servers.truncate(MOST_SERVERS);
        let token = watch.fresh();
        let mut id = [0; 2];
        if crate::sys::random::fill(&mut id).is_err() {
            question.servers.clear();
        }
        let id = u16::from_ne_bytes(id);
        let deadline = now + PATIENCE;
        self.pending
            .insert(token, Pending { question, id, next: 0, links: Vec::new(), spare: None, deadline });
        watch.alarm(now + STEP, token);
        self.ask_next(token, watch);
    }

    /// Asks the next server that can be asked. Where none is left and nobody is waited for, the question is through.
    fn ask_next(&mut self, token: Token, watch: &mut Watch) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        while let Some(&server) = pending.question.servers.get(pending.next) {
            pending.next += 1;
            let mut message = pending.question.message.clone();
            message[..2].copy_from_slice(&pending.id.to_be_bytes());
            let opened = ask_by_datagram(SocketAddr::new(server, self.port), &message)
                .and_then(|socket| watch.add(&socket, EventFlags::IN).map(|link| (socket, link)));
            if let Ok((socket, link)) = opened {
                pending.links.push(link);
                self.links.insert(link, Link { pending: token, server, socket: Socket::Datagrams(socket) });
                return;
            }
        }
        if pending.links.is_empty() {
            let spare = pending.spare.take();
            self.finish(token, spare);
        }
    }

    fn ask_by_stream(&mut self, token: Token, server: IpAddr, watch: &mut Watch) -> io::Result<()> {
        let Some(pending) = self.pending.get_mut(&token) else { return Ok(()) };
        let mut stream = Stream::new(connect_to(SocketAddr::new(server, self.port))?);
        let mut message = pending.question.message.clone();
        message[..2].copy_from_slice(&pending.id.to_be_bytes());
        stream.push(&message);
        let link = watch.add(stream.socket(), EventFlags::IN | EventFlags::OUT)?;
        pending.links.push(link);
        pending.deadline = Instant::now() + PATIENCE;
        watch.alarm(pending.deadline, token);
        self.links.insert(link, Link { pending: token, server, socket: Socket::Stream(stream) });
        Ok(())
    }

    /// Something has happened to one of the sockets. False: it is none of them.
    pub fn ready(&mut self, link: Token, watch: &mut Watch) -> bool {
        let Some(Link { pending: token, server, socket }) = self.links.get_mut(&link) else { return false };
        let (token, server) = (*token, *server);
        let Some(pending) = self.pending.get(&token) else { return true };
        let question = &pending.question.message[super::query::HEADER..][..pending.question.length];
        let received = match socket {
            Socket::Datagrams(socket) => from_datagrams(socket, pending.id, question, &mut self.buffer),
            Socket::Stream(stream) => from_stream(stream, pending.id, question, link, watch),
        };
        match received {
            Ok(None) => {}
            Ok(Some((Worth::Failure, message))) => {
                self.silent.remove(&server);
                // An answer without its question is none to the asker.
                let spare = (super::query::number(&message, 4) == 1).then_some(message);
                self.give_up(link, token, spare, watch);
            }
            Ok(Some((Worth::Cut, message))) if pending.question.over_tcp => {
                self.silent.remove(&server);
                self.drop_link(link, token);
                if let Some(pending) = self.pending.get_mut(&token) {
                    pending.spare = Some(message);
                }
                if self.ask_by_stream(token, server, watch).is_err() {
                    self.ask_next(token, watch);
                }
            }
            Ok(Some((_, message))) => {
                self.silent.remove(&server);
                self.finish(token, Some(message));
            }
            Err(error) => {
                log::debug!("the name server {server} cannot be asked: {error}");
                self.distrust(server);
                self.give_up(link, token, None, watch);
            }
        }
        true
    }

    /// This server has failed; the next one is asked at once.
    fn give_up(&mut self, link: Token, token: Token, spare: Option<Vec<u8>>, watch: &mut Watch) {
        self.drop_link(link, token);
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.spare = pending.spare.take().or(spare);
        }
        self.ask_next(token, watch);
    }

    fn drop_link(&mut self, link: Token, token: Token) {
        self.links.remove(&link);
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.links.retain(|other| *other != link);
        }
    }

    fn distrust(&mut self, server: IpAddr) {
        self.silent.insert(server, Instant::now());
    }

    /// An alarm has rung. False: it is none of ours.
    pub fn rung(&mut self, token: Token, now: Instant, watch: &mut Watch) -> bool {
        let Some(pending) = self.pending.get_mut(&token) else { return false };
        let waited_for: Vec<IpAddr> =
            pending.links.iter().filter_map(|link| self.links.get(link)).map(|link| link.server).collect();
        if now >= pending.deadline {
            let spare = pending.spare.take();
            waited_for.into_iter().for_each(|server| self.distrust(server));
            self.finish(token, spare);
            return true;
        }
        watch.alarm((now + STEP).min(pending.deadline), token);
        if pending.next < pending.question.servers.len() {
            waited_for.into_iter().for_each(|server| self.distrust(server));
            self.ask_next(token, watch);
            return true;
        }
        // Datagrams get lost.
        let mut message = pending.question.message.clone();
        message[..2].copy_from_slice(&pending.id.to_be_bytes());
        for link in &pending.links {
            if let Some(Link { socket: Socket::Datagrams(socket), .. }) = self.links.get(link) {
                let _ = socket.send(&message);
            }
        }
        true
    }

    fn finish(&mut self, token: Token, answer: Option<Vec<u8>>) {
        let Some(pending) = self.pending.remove(&token) else { return };
        for link in pending.links {
            self.links.remove(&link);
        }
        let Question { origin, message: question, .. } = pending.question;
        let answer = answer.map(|mut message| {
            message[..2].copy_from_slice(&question[..2]);
            message
        });
        self.finished.push(Finished { origin, question, answer });
    }
}

/// A socket of its own, on a port that the kernel draws, which takes datagrams of that server alone.
fn ask_by_datagram(server: SocketAddr, message: &[u8]) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(message)?;
    Ok(socket)
}

fn connect_to(server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}

type Received = io::Result<Option<(Worth, Vec<u8>)>>;

fn from_datagrams(socket: &UdpSocket, id: u16, question: &[u8], buffer: &mut [u8]) -> Received {
    for _ in 0..TURN {
        let message = match socket.recv(buffer) {
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        match judge(message, id, question) {
            Worth::Nothing => {}
            worth => return Ok(Some((worth, message.to_vec()))),
        }
    }
    Ok(None)
}

fn from_stream(stream: &mut Stream, id: u16, question: &[u8], link: Token, watch: &Watch) -> Received {
    if stream.unsent() > 0 {
        match stream.send() {
            Ok(true) => watch.change(stream.socket(), link, EventFlags::IN),
            Ok(false) => {}
            // Not connected yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let open = match stream.receive() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => true,
        outcome => outcome?,
    };
    match stream.next().map(|message| (judge(&message, id, question), message)) {
        Some((Worth::Nothing, _)) => Err(io::Error::other("it answers something else")),
        Some(answer) => Ok(Some(answer)),
        None if open => Ok(None),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
