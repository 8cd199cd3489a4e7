//! The whole name server on the loopback interface: 127.N.0.1 is the gateway, 127.N.0.x are containers, and 127.N.9.x
//! servers outside, which say what a test wants.

mod load;
mod neighbours;
mod outside;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE};

use super::query::kind::{A, AAAA, PTR};
use super::{Asker, Found, Member, Network, Policy, Responder, Table, Unrestricted, name};

const LONG: Duration = Duration::from_secs(10);

/// The addresses and ports of one test.
#[derive(Clone, Copy)]
struct Place {
    net: u8,
    port: u16,
    upstream_port: u16,
}

impl Place {
    fn new() -> Self {
        static LAST: AtomicU8 = AtomicU8::new(20);
        let net = LAST.fetch_add(1, Ordering::Relaxed);
        // Below those that the kernel draws, and not those of another run.
        let port = 10_000 + (std::process::id() % 20_000) as u16;
        Self { net, port, upstream_port: port + 1 }
    }

    fn ip(self, third: u8, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.net, third, last).into()
    }

    fn gateway(self) -> SocketAddr {
        (self.ip(0, 1), self.port).into()
    }

    fn member(self, last: u8, name: &str) -> Member {
        Member {
            container: format!("id-{last}"),
            names: vec![name.to_owned()],
            addresses: vec![self.ip(0, last)],
            servers: Vec::new(),
        }
    }

    fn network(self) -> Network {
        Network {
            id: "a".to_owned(),
            name: "a".to_owned(),
            subnets: vec![format!("127.{}.0.0/24", self.net).parse().unwrap()],
            has_names: true,
            ..Network::default()
        }
    }

    /// `web` is 127.N.0.2, `db` 127.N.0.3; the server outside is 127.N.9.1.
    fn start(self) -> Responder {
        self.start_with(Arc::new(Unrestricted), self.network(), &[1])
    }

    fn start_with(self, policy: Arc<dyn Policy>, network: Network, servers: &[u8]) -> Responder {
        let servers = servers.iter().map(|&last| self.ip(9, last)).collect();
        let responder = Responder::start_on(policy, servers, self.port, self.upstream_port).unwrap();
        let mut table = Table::default();
        table.set_network(network);
        table.join("a", self.member(2, "web"));
        table.join("a", self.member(3, "db"));
        responder.set_table(table);
        responder.listen("a", &[self.ip(0, 1)]).unwrap();
        responder
    }

    fn socket(self, last: u8) -> UdpSocket {
        let socket = UdpSocket::bind((self.ip(0, last), 0)).unwrap();
        socket.connect(self.gateway()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }

    /// Asks as 127.N.0.`last`.
    fn ask(self, last: u8, name: &str, kind: u16) -> Heard {
        self.ask_message(last, &asks(name, kind, 0x1234)).unwrap()
    }

    fn ask_message(self, last: u8, message: &[u8]) -> Option<Heard> {
        let socket = self.socket(last);
        socket.send(message).unwrap();
        receive(&socket)
    }

    fn connect(self, last: u8) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((self.ip(0, last), 0))).unwrap();
        connect(&socket, &self.gateway()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn ask_by_tcp(self, last: u8, name: &str, kind: u16) -> Heard {
        let mut stream = self.connect(last);
        stream.write_all(&framed(&asks(name, kind, 0x4321))).unwrap();
        hear(&mut stream).unwrap()
    }
}

fn asks(asked: &str, kind: u16, id: u16) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    name::write(asked, &mut message);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn receive(socket: &UdpSocket) -> Option<Heard> {
    let mut buffer = vec![0; 1 << 16];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Heard(buffer[..length].to_vec()))
}

fn hear(stream: &mut TcpStream) -> Option<Heard> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(Heard(message))
}

/// An answer, read by other code than ours.
#[derive(Debug)]
struct Heard(Vec<u8>);

impl Heard {
    fn packet(&self) -> Packet<'_> {
        Packet::parse(&self.0).unwrap()
    }

    fn code(&self) -> RCODE {
        self.packet().rcode()
    }

    fn is_cut(&self) -> bool {
        self.packet().has_flags(PacketFlag::TRUNCATION)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let read = |data: &RData<'_>| match data {
            RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
            RData::AAAA(a) => Some(IpAddr::from(a.address.to_be_bytes())),
            _ => None,
        };
        let mut found: Vec<IpAddr> = self.packet().answers.iter().filter_map(|r| read(&r.rdata)).collect();
        found.sort_unstable();
        found
    }
}

/// What a server says to a question, which came by TCP or not. Nothing: it is silent.
type Script = dyn Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync;

/// Questions, each with the port that it came from.
type Questions = Vec<(u16, Vec<u8>)>;

/// A server outside.
struct Upstream {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Questions>>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    fn start(
        place: Place,
        last: u8,
        script: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let address = SocketAddr::from((place.ip(9, last), place.upstream_port));
        let script: Arc<Script> = Arc::new(script);
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::<Mutex<Questions>>::default();
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let by_datagram = {
            let (script, stop, heard) = (script.clone(), stop.clone(), heard.clone());
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                    heard.lock().unwrap().push((peer.port(), buffer[..length].to_vec()));
                    for message in script(&buffer[..length], false) {
                        socket.send_to(&message, peer).unwrap();
                    }
                }
            })
        };
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let by_stream = {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = listener.accept() else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    stream.set_nonblocking(false).unwrap();
                    let Some(question) = hear(&mut stream) else { continue };
                    for message in script(&question.0, true) {
                        // In two pieces, as it may come.
                        let bytes = framed(&message);
                        stream.write_all(&bytes[..1]).unwrap();
                        thread::sleep(Duration::from_millis(5));
                        stream.write_all(&bytes[1..]).unwrap();
                    }
                }
            })
        };
        Self { stop, heard, threads: vec![by_datagram, by_stream] }
    }

    fn heard(&self) -> Questions {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The answer to a question with `count` addresses, 192.0.2.1 and following.
fn answer(question: &[u8], count: u32) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&(count as u16).to_be_bytes());
    for n in 1..=count {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend((0xc000_0200 + n).to_be_bytes());
    }
    message
}

fn failed(question: &[u8], code: u8) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    message
}

fn outside(count: u32) -> Vec<IpAddr> {
    (1..=count).map(|n| IpAddr::from((0xc000_0200 + n).to_be_bytes())).collect()
}
