//! The forwarder between real network namespaces, as any user: a neighbour of the host, the host, the holder's
//! namespace with its firewall, and a container. Needs unshare, ip and nft.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::publish::Published;
use super::*;
use crate::network::PortMapping;

const PATIENCE: Duration = Duration::from_secs(10);
const INSIDE: &str = "SBX_TEST_IN_NAMESPACES";
const OWNER: &str = "owner";

/// What the holder sets up for its containers, as far as published ports need it: answers to our sockets are for us,
/// and nothing else from a container is. Connection tracking puts fragments together before they are looked at.
const FIREWALL: &str = "
    nft -f - <<END
    table inet sbx {
        chain answers {
            type filter hook prerouting priority mangle;
            socket transparent 1 meta mark set 1
        }
        chain input {
            type filter hook input priority filter; policy drop;
            meta mark 1 ct state established,related,new accept
            meta l4proto icmpv6 accept
        }
    }
END
    ip rule add fwmark 1 lookup 100
    ip route add local default dev lo table 100
    ip -6 rule add fwmark 1 lookup 100
    ip -6 route add local default dev lo table 100";

/// A network namespace. Sockets made in it stay in it.
struct Net(File);

impl Net {
    fn own() -> Self {
        Self(File::open("/proc/thread-self/ns/net").expect("our namespace"))
    }

    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            Self::own()
        });
        made.join().expect("a network namespace")
    }

    fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
                body()
            });
            inside.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }

    fn shell(&self, script: &str) {
        let outcome = self.run(|| Command::new("sh").args(["-euc", script]).output().expect("sh"));
        let complaint = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "this test needs ip (iproute2) and nft (nftables): {complaint}");
    }

    /// As `ip` takes it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// ```text
/// neighbour 192.0.2.7 ── 192.0.2.1, .2 host    holder 10.88.0.1 ── 10.88.0.2, .3 container
///      2001:db8::7 ── 2001:db8::1                 fd00:88::1 ── fd00:88::2
/// ```
struct World {
    neighbour: Net,
    host: Net,
    holder: Net,
    container: Net,
    forwarder: Forwarder,
}

impl World {
    fn new() -> Self {
        let (neighbour, host, holder, container) = (Net::new(), Net::own(), Net::new(), Net::new());
        host.shell(&format!(
            "ip link set lo up; ip link add h0 type veth peer name eth0 netns {}; ip link set h0 up
             ip address add 192.0.2.1/24 dev h0; ip address add 192.0.2.2/24 dev h0
             ip address add 2001:db8::1/64 dev h0 nodad",
            neighbour.path()
        ));
        neighbour.shell(
            "ip link set lo up; ip link set eth0 up
             ip address add 192.0.2.7/24 dev eth0; ip address add 2001:db8::7/64 dev eth0 nodad",
        );
        holder.shell(&format!(
            "ip link set lo up; ip link add sbx0 type bridge; ip link set sbx0 up
             ip link add v0 mtu 65520 type veth peer name eth0 mtu 65520 netns {}; ip link set v0 master sbx0 up
             ip address add 10.88.0.1/16 dev sbx0; ip address add fd00:88::1/64 dev sbx0 nodad",
            container.path()
        ));
        holder.shell(FIREWALL);
        container.shell(
            "ip link set lo up; ip link set eth0 up
             ip address add 10.88.0.2/16 dev eth0; ip address add 10.88.0.3/16 dev eth0
             ip address add fd00:88::2/64 dev eth0 nodad
             ip route add default via 10.88.0.1; ip -6 route add default via fd00:88::1",
        );
        let forwarder = holder.run(|| Forwarder::start().expect("a forwarder"));
        Self { neighbour, host, holder, container, forwarder }
    }

    fn publish(&self, protocol: Protocol, port: u16, target: Target) -> u16 {
        self.publish_with(&self.forwarder, protocol, port, target)
    }

    /// Publishes a port of the container at every address of the host; the host's port.
    fn publish_with(&self, forwarder: &Forwarder, protocol: Protocol, port: u16, target: Target) -> u16 {
        let mapping = PortMapping { host_ip: None, host_port: 0, container_port: port, protocol };
        let published = self.host.run(|| Published::bind(&[mapping]).expect("a port"));
        let (_, socket) = published.iter().next().expect("a socket");
        let socket = socket.try_clone_to_owned().expect("a copy");
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).expect("a name")).expect("IP");
        forwarder.publish(OWNER, socket, protocol, port, target).expect("published");
        address.port()
    }

    fn listen(&self, address: &str) -> TcpListener {
        self.container.run(|| TcpListener::bind(address).expect("a server"))
    }

    fn bind(&self, address: &str) -> UdpSocket {
        patient_udp(self.container.run(|| UdpSocket::bind(address).expect("a server")))
    }
}

fn target(addresses: &[&str]) -> Target {
    Target {
        addresses: addresses.iter().map(|net| net.parse().expect("a network")).collect(),
        gateways: ["10.88.0.1", "fd00:88::1"].map(|ip| ip.parse().expect("an address")).into(),
    }
}

fn both() -> Target {
    target(&["10.88.0.2/16", "fd00:88::2/64"])
}

fn connect(from: &Net, ip: &str, port: u16) -> TcpStream {
    let address = SocketAddr::new(ip.parse().expect("an address"), port);
    patient(from.run(|| TcpStream::connect_timeout(&address, PATIENCE).expect("connected")))
}

/// No test waits for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn patient_udp(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn accept(server: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, client) = server.accept().expect("a client");
    (patient(stream), client)
}

/// A client at a port of the host, and the server that it reached.
fn pair(from: &Net, ip: &str, port: u16, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(from, ip, port);
    (client, accept(server).0)
}

/// Runs `body` in a user and network namespace of its own, by another process of this very test.
fn in_namespaces(name: &str, body: impl FnOnce(&World)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&World::new());
    }
    let (_, module) = module_path!().split_once("::").expect("a module");
    let outcome = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("{module}::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("this test needs `unshare` (util-linux) and user namespaces");
    let said = String::from_utf8_lossy(&outcome.stdout);
    let complaint = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success() && said.contains("1 passed"), "{said}\n{complaint}");
}

#[test]
fn the_server_sees_its_client() {
    in_namespaces("the_server_sees_its_client", |world| {
        let server = world.listen("[::]:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        for (from, ip, seen) in [
            (&world.neighbour, "192.0.2.1", None),
            (&world.neighbour, "192.0.2.2", None),
            (&world.neighbour, "2001:db8::1", None),
            (&world.host, "127.0.0.1", Some("10.88.0.1")),
            (&world.host, "127.0.0.5", Some("10.88.0.1")),
            (&world.host, "192.0.2.1", Some("10.88.0.1")),
            (&world.host, "::1", Some("fd00:88::1")),
            (&world.host, "2001:db8::1", Some("fd00:88::1")),
        ] {
            let mut client = connect(from, ip, port);
            let (mut served, address) = accept(&server);
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            match seen {
                Some(gateway) => {
                    assert_eq!(address.ip(), gateway.parse::<IpAddr>().expect("an address"), "{ip}");
                }
                None => assert_eq!(address, client.local_addr().expect("an address"), "{ip}"),
            }
            client.write_all(b"question").expect("written");
            let mut question = [0; 8];
            served.read_exact(&mut question).expect("read");
            served.write_all(b"answer").expect("written");
            drop(served);
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("read");
            assert_eq!((&question, answer.as_str()), (b"question", "answer"), "{ip}");
        }
    });
}

#[test]
fn a_client_of_the_other_family_appears_as_the_gateway() {
    in_namespaces("a_client_of_the_other_family_appears_as_the_gateway", |world| {
        let server = world.listen("[::]:80");
        for (addresses, ip, seen) in [
            ("10.88.0.2/16", "2001:db8::1", "::ffff:10.88.0.1"),
            ("fd00:88::2/64", "192.0.2.1", "fd00:88::1"),
        ] {
            let port = world.publish(Protocol::Tcp, 80, target(&[addresses]));
            let _client = connect(&world.neighbour, ip, port);
            assert_eq!(accept(&server).1.ip(), seen.parse::<IpAddr>().expect("an address"));
        }
    });
}

#[test]
fn a_client_uses_one_port_for_two_published_ones() {
    in_namespaces("a_client_uses_one_port_for_two_published_ones", |world| {
        let server = world.listen("0.0.0.0:80");
        let other = world.listen("0.0.0.0:81");
        let ports = [world.publish(Protocol::Tcp, 80, both()), world.publish(Protocol::Tcp, 81, both())];
        let same = world.publish(Protocol::Tcp, 80, both());
        let from = |port: u16| {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                    .expect("a socket");
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
            rustix::net::bind(&socket, &SocketAddr::from(([192, 0, 2, 7], 5000))).expect("a port");
            rustix::net::connect(&socket, &SocketAddr::from(([192, 0, 2, 1], port))).expect("connected");
            socket
        };
        let clients = ports.map(|port| world.neighbour.run(|| from(port)));
        assert_eq!(accept(&server).1, SocketAddr::from(([192, 0, 2, 7], 5000)));
        assert_eq!(accept(&other).1, SocketAddr::from(([192, 0, 2, 7], 5000)));
        // To the same port of the container, where the two would be one connection.
        let _client = world.neighbour.run(|| from(same));
        let (_served, third) = accept(&server);
        assert_eq!(third.ip(), IpAddr::from([192, 0, 2, 7]));
        assert_ne!(third.port(), 5000);
        drop(clients);
    });
}

#[test]
fn either_side_may_end_first() {
    in_namespaces("either_side_may_end_first", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        for client_first in [true, false] {
            let (client, served) = pair(&world.neighbour, "192.0.2.1", port, &server);
            let (mut first, mut second) = if client_first { (client, served) } else { (served, client) };
            first.write_all(b"all I have").expect("written");
            first.shutdown(Shutdown::Write).expect("an end");
            let mut text = String::new();
            second.read_to_string(&mut text).expect("read to the end");
            assert_eq!(text, "all I have");
            // The other direction is open still.
            for _ in 0..3 {
                second.write_all(b"more").expect("written");
                let mut more = [0; 4];
                first.read_exact(&mut more).expect("read");
                thread::sleep(Duration::from_millis(20));
            }
            drop(second);
            assert_eq!(first.read(&mut [0; 1]).expect("the end"), 0);
        }
    });
}

#[test]
fn a_reset_is_passed_on() {
    in_namespaces("a_reset_is_passed_on", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        for client_breaks in [true, false] {
            let (client, served) = pair(&world.neighbour, "192.0.2.1", port, &server);
            let (first, mut second) = if client_breaks { (client, served) } else { (served, client) };
            rustix::net::sockopt::set_socket_linger(&first, Some(Duration::ZERO)).expect("an option");
            drop(first);
            let error = second.read(&mut [0; 1]).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // A reader that takes nothing learns of it, too: nothing is kept for it.
        let (client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        fill(&client);
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("an option");
        drop(client);
        let start = Instant::now();
        while served.write(b"x").is_ok() {
            assert!(start.elapsed() < PATIENCE, "no reset");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(served.read(&mut [0; 1]).is_ok(), "what had arrived is there");
    });
}

/// Writes until nothing is taken any more; how much it was.
fn fill(stream: &TcpStream) -> usize {
    stream.set_nonblocking(true).expect("non-blocking");
    let (mut all, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(300) {
        match (&mut &*stream).write(&[7; 1 << 16]) {
            Ok(written) => {
                all += written;
                last = Instant::now();
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    stream.set_nonblocking(false).expect("blocking");
    all
}

#[test]
fn a_closed_port_is_told_at_once() {
    in_namespaces("a_closed_port_is_told_at_once", |world| {
        for target in [both(), target(&[])] {
            let port = world.publish(Protocol::Tcp, 80, target);
            let start = Instant::now();
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            // It may come before the client has returned from connect(2).
            let error = world
                .neighbour
                .run(|| TcpStream::connect_timeout(&address, PATIENCE))
                .and_then(|client| patient(client).read(&mut [0; 1]))
                .expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_slow_reader_holds_its_writer_back_and_loses_nothing() {
    in_namespaces("a_slow_reader_holds_its_writer_back_and_loses_nothing", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        // What all the buffers on the way take: two sockets' on each side, and ours.
        let blocked = fill(&client);
        assert!(blocked < 64 << 20, "{blocked} bytes were taken for somebody who reads nothing");
        // Others are not held back.
        let (mut other, mut other_served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        other.write_all(b"x").expect("written");
        other_served.read_exact(&mut [0; 1]).expect("read");
        client.shutdown(Shutdown::Write).expect("an end");
        let mut all = Vec::new();
        served.read_to_end(&mut all).expect("read to the end");
        assert_eq!(all.len(), blocked);
    });
}

#[test]
fn much_goes_both_ways_at_once() {
    in_namespaces("much_goes_both_ways_at_once", |world| {
        const LENGTH: usize = 24 << 20;
        fn pattern(seed: u32) -> Vec<u8> {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            (0..LENGTH).map(|_| next()).collect()
        }
        fn exchange(mut stream: TcpStream, sent: &[u8], expected: &[u8]) {
            let mut writer = stream.try_clone().expect("a copy");
            thread::scope(|scope| {
                scope.spawn(move || {
                    // Pieces of every size.
                    let mut rest = sent;
                    let mut length = 1;
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(length.min(rest.len()));
                        writer.write_all(piece).expect("written");
                        (rest, length) = (after, (length * 3) % 300_007);
                    }
                    writer.shutdown(Shutdown::Write).expect("an end");
                });
                let mut received = Vec::with_capacity(LENGTH);
                stream.read_to_end(&mut received).expect("read");
                assert!(received == expected, "{} bytes arrived, not as they were sent", received.len());
            });
        }
        let server = world.listen("[::]:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (question, answer) = (pattern(1), pattern(2));
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let (client, served) = pair(&world.neighbour, ip, port, &server);
            thread::scope(|scope| {
                scope.spawn(|| exchange(client, &question, &answer));
                exchange(served, &answer, &question);
            });
        }
    });
}

#[test]
fn urgent_data_is_data() {
    in_namespaces("urgent_data_is_data", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (mut client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        client.write_all(b"before ").expect("written");
        rustix::net::send(&client, b"urgent!", rustix::net::SendFlags::OOB).expect("sent");
        client.write_all(b" after").expect("written");
        let mut text = [0; 20];
        served.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"before urgent! after");
    });
}

#[test]
fn a_full_forwarder_lets_new_clients_wait() {
    in_namespaces("a_full_forwarder_lets_new_clients_wait", |world| {
        let server = world.listen("0.0.0.0:80");
        // A listener and ten connections.
        let forwarder = world.holder.run(|| Forwarder::start_with(21).expect("a forwarder"));
        let port = world.publish_with(&forwarder, Protocol::Tcp, 80, both());
        let mut first: Vec<_> = (0..10).map(|_| pair(&world.neighbour, "192.0.2.1", port, &server)).collect();
        let mut late = connect(&world.neighbour, "192.0.2.1", port);
        late.write_all(b"late").expect("written");
        server.set_nonblocking(true).expect("non-blocking");
        let (before, start) = (processor_time(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        assert_eq!(server.accept().expect_err("nobody").kind(), ErrorKind::WouldBlock);
        let used = processor_time() - before;
        assert!(used < start.elapsed() / 10, "the forwarder spins: {used:?}");
        let (client, served) = &mut first[9];
        client.write_all(b"x").expect("written");
        served.read_exact(&mut [0; 1]).expect("established ones go on");
        first.pop();
        server.set_nonblocking(false).expect("blocking");
        let mut text = [0; 4];
        accept(&server).0.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"late");
    });
}

#[test]
fn a_process_without_descriptors_lets_new_clients_wait() {
    in_namespaces("a_process_without_descriptors_lets_new_clients_wait", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (mut old, mut old_served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        let client = world.neighbour.run(|| {
            let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
            rustix::net::socket(family, kind, None).expect("a socket")
        });
        let limit = getrlimit(Resource::Nofile);
        // Not even one more.
        let next = File::open("/").expect("a descriptor").as_raw_fd();
        setrlimit(Resource::Nofile, Rlimit { current: Some(next as u64), ..limit }).expect("a limit");
        rustix::net::connect(&client, &SocketAddr::from(([192, 0, 2, 1], port))).expect("connected");
        rustix::net::send(&client, b"late", rustix::net::SendFlags::empty()).expect("sent");
        let (before, start) = (processor_time(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let used = processor_time() - before;
        assert!(used < start.elapsed() / 10, "the forwarder spins: {used:?}");
        old.write_all(b"x").expect("written");
        old_served.read_exact(&mut [0; 1]).expect("established ones go on");
        setrlimit(Resource::Nofile, limit).expect("a limit");
        let mut text = [0; 4];
        accept(&server).0.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"late");
    });
}

/// Of this process.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[test]
fn a_withdrawn_port_is_closed_with_its_connections() {
    in_namespaces("a_withdrawn_port_is_closed_with_its_connections", |world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (mut client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        world.forwarder.withdraw("somebody else").expect("withdrawn");
        client.write_all(b"x").expect("written");
        served.read_exact(&mut [0; 1]).expect("read");
        world.forwarder.withdraw(OWNER).expect("withdrawn");
        for end in [&mut client, &mut served] {
            assert_eq!(end.read(&mut [0; 1]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        }
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        let refused = world.neighbour.run(|| TcpStream::connect_timeout(&address, PATIENCE));
        assert_eq!(refused.expect_err("closed").kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_waits_for_who_serves_it_next() {
    in_namespaces("a_port_waits_for_who_serves_it_next", |world| {
        let server = world.listen("0.0.0.0:80");
        let mapping =
            PortMapping { host_ip: None, host_port: 0, container_port: 80, protocol: Protocol::Tcp };
        let published = world.host.run(|| Published::bind(&[mapping]).expect("a port"));
        let (_, socket) = published.iter().next().expect("a socket");
        let address = SocketAddr::try_from(rustix::net::getsockname(socket).expect("a name")).expect("IP");
        let serve = || {
            let socket = socket.try_clone_to_owned().expect("a copy");
            world.forwarder.publish(OWNER, socket, Protocol::Tcp, 80, both()).expect("published");
        };
        serve();
        drop(pair(&world.neighbour, "192.0.2.1", address.port(), &server));
        world.forwarder.withdraw(OWNER).expect("withdrawn");
        let mut client = connect(&world.neighbour, "192.0.2.1", address.port());
        client.write_all(b"x").expect("written");
        serve();
        accept(&server).0.read_exact(&mut [0; 1]).expect("read");
    });
}

#[test]
fn ports_follow_the_container_to_another_address() {
    in_namespaces("ports_follow_the_container_to_another_address", |world| {
        let server = world.listen("10.88.0.2:80");
        let moved = world.listen("10.88.0.3:80");
        let port = world.publish(Protocol::Tcp, 80, target(&["10.88.0.2/16"]));
        let (mut client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        world.forwarder.retarget(OWNER, target(&["10.88.0.2/16", "fd00:88::2/64"])).expect("told");
        client.write_all(b"x").expect("written");
        served.read_exact(&mut [0; 1]).expect("it has its address still");
        world.forwarder.retarget(OWNER, target(&["10.88.0.3/16"])).expect("told");
        assert_eq!(client.read(&mut [0; 1]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        let (mut client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &moved);
        client.write_all(b"x").expect("written");
        served.read_exact(&mut [0; 1]).expect("read");
    });
}

#[test]
fn datagrams_of_any_length_come_from_their_sender_and_go_back() {
    in_namespaces("datagrams_of_any_length_come_from_their_sender_and_go_back", |world| {
        let server = world.bind("[::]:53");
        let port = world.publish(Protocol::Udp, 53, both());
        for (from, own, ip, seen) in [
            (&world.neighbour, "192.0.2.7", "192.0.2.1", None),
            // Answers that come from another address than the asked one are not for this client.
            (&world.neighbour, "192.0.2.7", "192.0.2.2", None),
            (&world.neighbour, "2001:db8::7", "2001:db8::1", None),
            (&world.host, "127.0.0.1", "127.0.0.1", Some("10.88.0.1")),
            (&world.host, "127.0.0.1", "127.0.0.9", Some("10.88.0.1")),
            (&world.host, "192.0.2.1", "192.0.2.1", Some("10.88.0.1")),
            (&world.host, "::1", "::1", Some("fd00:88::1")),
        ] {
            let own: IpAddr = own.parse().expect("an address");
            let ip: IpAddr = ip.parse().expect("an address");
            let client = patient_udp(from.run(|| UdpSocket::bind((own, 0)).expect("a client")));
            client.connect((ip, port)).expect("connected");
            for length in [1, 0, 1400, 9000, 65_507] {
                let sent: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
                client.send(&sent).expect("sent");
                let mut buffer = vec![0; 1 << 16];
                let (received, address) =
                    server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{length} bytes to {ip}: {e}"));
                assert!(buffer[..received] == sent, "{received} of {length} bytes to {ip}");
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                match seen {
                    Some(gateway) => assert_eq!(address.ip().to_string(), gateway, "{ip}"),
                    None => assert_eq!(address, client.local_addr().expect("an address"), "{ip}"),
                }
                buffer.reverse();
                let answer = &buffer[buffer.len() - received..];
                server.send_to(answer, reach(address)).expect("sent");
                let mut buffer = vec![0; 1 << 16];
                let received =
                    client.recv(&mut buffer).unwrap_or_else(|e| panic!("{length} bytes from {ip}: {e}"));
                assert!(&buffer[..received] == answer, "{received} of {length} bytes from {ip}");
            }
        }
    });
}

/// As a socket for both families reaches it.
fn reach(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[test]
fn the_oldest_conversation_makes_room() {
    in_namespaces("the_oldest_conversation_makes_room", |world| {
        let server = world.bind("0.0.0.0:53");
        // A listener and three conversations.
        let forwarder = world.holder.run(|| Forwarder::start_with(4).expect("a forwarder"));
        let port = world.publish_with(&forwarder, Protocol::Udp, 53, both());
        let mut answers = Vec::new();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let client = world.neighbour.run(|| UdpSocket::bind("192.0.2.7:0").expect("a client"));
                client.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
                client.send_to(b"?", ("192.0.2.1", port)).expect("sent");
                answers.push(server.recv_from(&mut [0; 8]).expect("received").1);
                client
            })
            .collect();
        for address in &answers {
            server.send_to(b"!", address).expect("sent");
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.recv(&mut [0; 8]).is_ok(), number != 0, "client {number}");
        }
        // It begins again.
        clients[0].send_to(b"?", ("192.0.2.1", port)).expect("sent");
        let (_, address) = server.recv_from(&mut [0; 8]).expect("received");
        server.send_to(b"!", address).expect("sent");
        clients[0].recv(&mut [0; 8]).expect("answered");
        forwarder.withdraw(OWNER).expect("withdrawn");
        clients[1].send_to(b"?", ("192.0.2.1", port)).expect("sent");
        server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        server.recv_from(&mut [0; 8]).expect_err("withdrawn");
    });
}
