//! Connections of containers that ask over TCP, several questions after another or at once (RFC 7766).

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::policy::Asker;
use super::stream::Stream;
use super::watch::{Token, Watch};

/// A connection on which nothing happens for so long is closed, also in the middle of a message.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection under way; further ones wait.
const MOST_ASKED: usize = 16;
/// Bytes of answers that nobody takes, before further questions wait.
const MOST_UNSENT: usize = 1 << 17;
/// A length and the longest message.
const MOST_WAITING: usize = 2 + u16::MAX as usize;

#[derive(Debug)]
pub struct Client {
    asker: Asker,
    stream: Stream,
    /// Questions that have no answer yet.
    asked: usize,
    /// More may come.
    open: bool,
    deadline: Instant,
}

#[derive(Debug, Default)]
pub struct Clients {
    clients: HashMap<Token, Client>,
}

/// What a turn of a connection has brought.
#[derive(Debug)]
pub enum Turn {
    /// Messages to be answered, each with [`Clients::answer`].
    Messages(Asker, Vec<Vec<u8>>),
    Closed(Asker),
}

impl Clients {
    /// Takes a connection over.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn add(&mut self, socket: TcpStream, asker: Asker, watch: &mut Watch) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let token = watch.add(&socket, EventFlags::IN)?;
        let deadline = Instant::now() + IDLE;
        watch.alarm(deadline, token);
        let stream = Stream::new(socket);
        self.clients.insert(token, Client { asker, stream, asked: 0, open: true, deadline });
        Ok(())
    }

    /// Takes and sends what there is. None: it is no connection of ours.
    pub fn turn(&mut self, token: Token, watch: &Watch) -> Option<Turn> {
        let client = self.clients.get_mut(&token)?;
        match client.turn() {
            Ok(messages) if !messages.is_empty() => Some(Turn::Messages(client.asker.clone(), messages)),
            Ok(_) if client.is_through() => self.close(token),
            Ok(_) => {
                watch.change(client.stream.socket(), token, client.wanted());
                Some(Turn::Messages(client.asker.clone(), Vec::new()))
            }
            Err(_) => self.close(token),
        }
    }

    /// Answers one of the messages; none: it gets no answer. A turn has to follow.
    pub fn answer(&mut self, token: Token, message: Option<&[u8]>) {
        if let Some(client) = self.clients.get_mut(&token) {
            client.asked -= 1;
            if let Some(message) = message {
                client.stream.push(message);
            }
        }
    }

    /// An alarm has rung. None: it is none of ours, or too early.
    pub fn rung(&mut self, token: Token, now: Instant, watch: &mut Watch) -> Option<Turn> {
        let client = self.clients.get_mut(&token)?;
        if client.asked > 0 {
            client.deadline = now + IDLE;
        }
        if now < client.deadline {
            watch.alarm(client.deadline, token);
            return None;
        }
        self.close(token)
    }

    fn close(&mut self, token: Token) -> Option<Turn> {
        self.clients.remove(&token).map(|client| Turn::Closed(client.asker))
    }
}

impl Client {
    fn reads(&self) -> bool {
        self.open && self.stream.waiting() < MOST_WAITING
    }

    fn may_ask(&self) -> bool {
        self.asked < MOST_ASKED && self.stream.unsent() < MOST_UNSENT
    }

    fn turn(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let before = self.stream.unsent();
        self.stream.send()?;
        if self.reads() {
            self.open = self.stream.receive()?;
        }
        let mut messages = Vec::new();
        while self.may_ask()
            && let Some(message) = self.stream.next()
        {
            self.asked += 1;
            messages.push(message);
        }
        if !messages.is_empty() || self.stream.unsent() < before {
            self.deadline = Instant::now() + IDLE;
        }
        Ok(messages)
    }

    /// Nothing more comes, and everything has gone.
    fn is_through(&self) -> bool {
        !self.open && self.asked == 0 && self.stream.unsent() == 0
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.reads() && self.may_ask());
        wanted.set(EventFlags::OUT, self.stream.unsent() > 0);
        wanted
    }
}

/// Connections that wait at `listener`. An error: no more can be taken for a while.
///
/// # Errors
/// No more descriptors, or no memory.
pub fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => return Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // Of the connection that was to be taken (accept(2)).
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Ipv4Addr;

    use super::*;

    fn connected(clients: &mut Clients, watch: &mut Watch) -> (TcpStream, Token) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let outer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = Ipv4Addr::LOCALHOST.into();
        let inner = accept(&listener).unwrap().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&inner, 1).unwrap();
        clients.add(inner, Asker { container: "1".into(), address }, watch).unwrap();
        (outer, *clients.clients.keys().next().unwrap())
    }

    fn turn(clients: &mut Clients, token: Token, watch: &Watch) -> usize {
        match clients.turn(token, watch) {
            Some(Turn::Messages(_, messages)) => messages.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_without_a_whole_message_is_closed_in_time() {
        let (mut clients, mut watch) = (Clients::default(), Watch::new().unwrap());
        let (mut outer, token) = connected(&mut clients, &mut watch);
        outer.write_all(&[0, 10, 1, 2]).unwrap();
        assert_eq!(turn(&mut clients, token, &watch), 0);
        let now = Instant::now();
        assert!(clients.rung(token, now + IDLE / 2, &mut watch).is_none());
        assert!(matches!(clients.rung(token, now + IDLE, &mut watch), Some(Turn::Closed(_))));
        assert!(clients.turn(token, &watch).is_none());
    }

    #[test]
    fn who_waits_for_an_answer_is_no_idler() {
        let (mut clients, mut watch) = (Clients::default(), Watch::new().unwrap());
        let (mut outer, token) = connected(&mut clients, &mut watch);
        outer.write_all(&[0, 1, 7]).unwrap();
        assert_eq!(turn(&mut clients, token, &watch), 1);
        assert!(clients.rung(token, Instant::now() + IDLE, &mut watch).is_none());
        clients.answer(token, Some(b"answer"));
        assert!(clients.rung(token, Instant::now() + 3 * IDLE, &mut watch).is_some());
    }

    #[test]
    fn further_questions_wait_for_their_turn() {
        let (mut clients, mut watch) = (Clients::default(), Watch::new().unwrap());
        let (mut outer, token) = connected(&mut clients, &mut watch);
        outer.write_all(&[0, 1, 7].repeat(MOST_ASKED + 3)).unwrap();
        assert_eq!(turn(&mut clients, token, &watch), MOST_ASKED);
        assert_eq!(turn(&mut clients, token, &watch), 0);
        clients.answer(token, None);
        assert_eq!(turn(&mut clients, token, &watch), 1);
        for _ in 0..MOST_ASKED {
            clients.answer(token, Some(&[0; u16::MAX as usize]));
        }
        assert_eq!(turn(&mut clients, token, &watch), 0, "nobody takes the answers");
    }
}
