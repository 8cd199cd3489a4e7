//! The real helpers against a real namespace, as any user. Needs slirp4netns, pasta, unshare and /dev/net/tun.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;

use nix::sys::wait::{WaitStatus, waitpid};
use tempfile::TempDir;

use super::super::{Protocol, inside, ports};
use super::*;

const MOMENT: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// Forked children hold copies of each other's pipes: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A process in a user and network namespace of its own, set up as a container's child does it.
struct Namespace {
    process: Child,
    folder: TempDir,
    cache: PathBuf,
}

impl Namespace {
    fn new() -> Self {
        let process = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "60"])
            .spawn()
            .expect("this test needs `unshare` (util-linux) and user namespaces");
        let folder = TempDir::new().expect("a folder");
        let namespace = Self { process, cache: folder.path().join("helpers.json"), folder };
        let comm = format!("/proc/{}/comm", namespace.pid());
        eventually("a namespace", || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep"));
        namespace.run(|| {
            let proc = File::open("/proc").map_err(text)?;
            let mut skipped = inside::set_up(proc.as_fd(), true);
            crate::sys::net::loopback_up().map_err(text)?;
            skipped.extend(inside::allow_ping(proc.as_fd(), (0, 0)));
            skipped.is_empty().then_some(()).ok_or(format!("{skipped:?}"))
        });
        namespace
    }

    fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    fn target(&self) -> Target<'_> {
        Target { pid: self.pid(), runtime_dir: self.folder.path(), cache: &self.cache }
    }

    /// Starts `body` in the namespaces.
    fn fork(&self, body: impl FnOnce() -> Result<(), String>) -> i32 {
        sys::net::fork_into(self.pid(), &[], || match body() {
            Ok(()) => 0,
            Err(cause) => {
                // Not through the test's own capture, whose lock another thread may have held at the fork.
                let _ = nix::unistd::write(io::stderr(), format!("inside: {cause}\n").as_bytes());
                1
            }
        })
        .expect("fork")
    }

    fn run(&self, body: impl FnOnce() -> Result<(), String>) {
        ended_well(self.fork(body));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ended_well(child: i32) {
    let status = waitpid(Pid::from_raw(child), None).expect("a child");
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "in the namespace: {status:?}");
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        sleep(MOMENT);
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn network(mode: &str, publish: &[&str]) -> Network {
    let mode = match super::super::mode::parse(&[mode.to_owned()]).expect(mode) {
        super::super::mode::Requested::Decided(mode) => mode,
        other => panic!("{other:?}"),
    };
    let requests: Vec<_> = publish.iter().flat_map(|text| ports::parse(text).expect(text)).collect();
    let (ports, _) = ports::resolve(&requests).expect("free ports");
    Network { mode, ports, ..Network::private_slirp4netns() }
}

fn start_ready(network: &Network, namespace: &Namespace) -> Helper {
    let mut helper = start(network, &namespace.target()).expect("a start").expect("a helper");
    helper.wait_ready(PATIENCE).expect("this test needs slirp4netns, pasta and /dev/net/tun");
    helper
}

/// Answers one TCP connection and one datagram with what came, doubled.
fn echo_twice(port: u16) -> Result<(), String> {
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).map_err(text)?;
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(text)?;
    let mut four = [0; 4];
    let (mut stream, _) = tcp.accept().map_err(text)?;
    stream.read_exact(&mut four).map_err(text)?;
    stream.write_all(&[four, four].concat()).map_err(text)?;
    let (_, peer) = udp.recv_from(&mut four).map_err(text)?;
    udp.send_to(&[four, four].concat(), peer).map_err(text)?;
    Ok(())
}

fn speak(mappings: &[PortMapping]) {
    let port = |protocol| mappings.iter().find(|m| m.protocol == protocol).expect("a mapping").host_port;
    let mut answer = [0; 8];
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port(Protocol::Tcp))).expect("the TCP port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"ping").expect("sent");
    stream.read_exact(&mut answer).expect("an answer by TCP");
    assert_eq!(&answer, b"pingping");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect((Ipv4Addr::LOCALHOST, port(Protocol::Udp))).expect("connected");
    socket.send(b"pong").expect("sent");
    assert_eq!(socket.recv(&mut answer).expect("an answer by UDP"), 8);
    assert_eq!(&answer, b"pongpong");
}

#[test]
fn udp_serves_several_clients_of_both_families() {
    let _alone = alone();
    let namespace = Namespace::new();
    let network = network("slirp4netns", &["71/udp"]);
    let port = network.ports[0].host_port;
    let helper = start_ready(&network, &namespace);
    assert!(helper.relay_pid().is_some());
    let server = namespace.fork(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 71)).map_err(text)?;
        let mut datagrams = Vec::new();
        let mut buffer = [0; 2048];
        for _ in 0..4 {
            let (length, peer) = socket.recv_from(&mut buffer).map_err(text)?;
            datagrams.push((buffer[..length].to_vec(), peer));
        }
        // In another order than they came, so that an answer to the wrong client shows.
        datagrams
            .iter()
            .rev()
            .try_for_each(|(bytes, peer)| socket.send_to(bytes, *peer).map(drop))
            .map_err(text)
    });
    let table = format!("/proc/{}/net/udp", namespace.pid());
    eventually("server", || fs::read_to_string(&table).is_ok_and(|table| table.contains(":0047 ")));
    let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let clients: Vec<UdpSocket> = [local, local]
        .concat()
        .into_iter()
        .map(|ip| {
            let socket = UdpSocket::bind((ip, 0)).expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.connect((ip, port)).expect("connected");
            socket
        })
        .collect();
    let message = |number: usize| vec![b'0' + number as u8; 500 + number];
    for (number, client) in clients.iter().enumerate() {
        client.send(&message(number)).expect("sent");
    }
    for (number, client) in clients.iter().enumerate() {
        let mut buffer = [0; 2048];
        let length = client.recv(&mut buffer).expect("an answer");
        assert_eq!(buffer[..length], message(number));
    }
    ended_well(server);
    let relay = format!("/proc/{}", helper.relay_pid().expect("a relay"));
    helper.stop();
    assert!(!Path::new(&relay).exists(), "the relay lives on");
}

/// The router of the namespace's default route, from /proc/net/route (in hexadecimals of the host's byte order).
fn router() -> Result<Ipv4Addr, String> {
    let table = fs::read_to_string("/proc/self/net/route").map_err(text)?;
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields.get(1) == Some(&"00000000")).then(|| u32::from_str_radix(fields[2], 16).ok())?
        })
        .map(|ip| Ipv4Addr::from(ip.to_ne_bytes()))
        .next()
        .ok_or_else(|| format!("no default route:\n{table}"))
}

/// Connects from inside to a port of the host's loopback interface, as far as the router stands for it.
fn reaches_host_loopback(namespace: &Namespace) -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let child = namespace.fork(|| {
        let address = SocketAddr::new(router()?.into(), port);
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).map_err(text)?;
        stream.write_all(b"x").map_err(text)
    });
    matches!(waitpid(Pid::from_raw(child), None), Ok(WaitStatus::Exited(_, 0)))
}

fn connects(mode: &str, own: IpAddr) {
    let _alone = alone();
    let namespace = Namespace::new();
    let network = network(mode, &["127.0.0.1::70", "127.0.0.1::70/udp"]);
    let helper = start_ready(&network, &namespace);
    let server = namespace.fork(|| echo_twice(70));
    namespace.run(|| {
        let found = super::super::plan::outgoing(Ipv4Addr::UNSPECIFIED.into());
        (found == Some(own)).then_some(()).ok_or(format!("the address is {found:?}, not {own}"))
    });
    eventually("server", || {
        fs::read_to_string(format!("/proc/{}/net/udp", namespace.pid()))
            .is_ok_and(|table| table.contains(":0046 "))
    });
    speak(&network.ports);
    ended_well(server);
    assert!(
        !reaches_host_loopback(&namespace),
        "{mode} lets the container reach the host's loopback interface"
    );
    let process = format!("/proc/{}", helper.pid());
    assert!(Path::new(&process).exists());
    helper.stop();
    assert!(!Path::new(&process).exists(), "{mode} lives on");
    for mapping in &network.ports {
        ports::resolve(&[mapping.into()]).expect("the port is free again");
    }
}

#[test]
fn slirp4netns_connects_and_ends() {
    connects("slirp4netns", "10.0.2.100".parse().expect("ip"));
    connects("slirp4netns:cidr=10.77.0.0/16,mtu=1500", "10.77.0.100".parse().expect("ip"));
}

#[test]
fn pasta_connects_and_ends() {
    let own = super::super::plan::outgoing(Ipv4Addr::UNSPECIFIED.into());
    connects("pasta", own.expect("this test needs a default route on the host"));
}

#[test]
fn the_hosts_loopback_is_reached_on_request() {
    let _alone = alone();
    for mode in ["slirp4netns:allow_host_loopback=true", "pasta:--map-gw"] {
        let namespace = Namespace::new();
        let _helper = start_ready(&network(mode, &[]), &namespace);
        assert!(reaches_host_loopback(&namespace), "{mode}");
    }
}

#[test]
fn ipv6_has_an_address_soon() {
    let _alone = alone();
    assert!(Path::new("/proc/net/if_inet6").exists(), "this test needs a kernel with IPv6");
    let namespace = Namespace::new();
    let _helper = start_ready(&network("slirp4netns", &[]), &namespace);
    let ready = Instant::now();
    namespace.run(|| {
        while ready.elapsed() < Duration::from_millis(900) {
            if super::super::plan::outgoing(Ipv6Addr::UNSPECIFIED.into()).is_some() {
                return Ok(());
            }
            sleep(MOMENT);
        }
        fs::read_to_string("/proc/self/net/if_inet6")
            .map_err(text)
            .and_then(|table| Err(format!("addresses:\n{table}")))
    });
}

#[test]
fn the_mac_address_is_the_asked_one() {
    let _alone = alone();
    let mac = "02:42:ac:11:00:99";
    for mode in ["slirp4netns", "pasta"] {
        let namespace = Namespace::new();
        let network = Network { mac_address: Some(mac.to_owned()), ..network(mode, &[]) };
        let _helper = start_ready(&network, &namespace);
        // The addresses made of it hold it (RFC 4291, appendix A).
        eventually("address", || {
            fs::read_to_string(format!("/proc/{}/net/if_inet6", namespace.pid()))
                .is_ok_and(|table| table.contains("0042acfffe110099"))
        });
    }
}

#[test]
fn the_loopback_interface_and_its_sysctls_are_open() {
    let _alone = alone();
    let namespace = Namespace::new();
    namespace.run(|| {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let listener = TcpListener::bind((ip, 80)).map_err(text)?;
            TcpStream::connect((ip, 80)).map_err(text)?;
            listener.accept().map_err(text)?;
        }
        for (sysctl, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0\t0")] {
            let found = fs::read_to_string(format!("/proc/sys/net/ipv4/{sysctl}")).map_err(text)?;
            if found.trim() != value {
                return Err(format!("{sysctl} is {found}"));
            }
        }
        Ok(())
    });
}

#[test]
fn a_helper_that_cannot_start_says_why() {
    let _alone = alone();
    for mode in ["slirp4netns", "pasta"] {
        let mut namespace = Namespace::new();
        namespace.process.kill().expect("killed");
        namespace.process.wait().expect("reaped");
        let mut helper = start(&network(mode, &[]), &namespace.target()).expect("a start").expect("a helper");
        let error = helper.wait_ready(PATIENCE).expect_err("nothing to connect");
        assert_eq!(error.message(), format!("{mode} failed to connect the container"));
        assert!(error.to_string().to_lowercase().contains("no such"), "{error}");
    }
}

#[test]
fn a_port_that_was_taken_meanwhile_is_named() {
    let _alone = alone();
    for mode in ["slirp4netns", "pasta"] {
        let namespace = Namespace::new();
        let udp = network(mode, &["127.0.0.1::80/udp"]);
        let taken = (Ipv4Addr::LOCALHOST, udp.ports[0].host_port);
        let _socket = UdpSocket::bind(taken).expect("a socket");
        let started = start(&udp, &namespace.target())
            .and_then(|helper| helper.expect("a helper").wait_ready(PATIENCE));
        assert!(started.expect_err("taken").to_string().contains(&taken.1.to_string()), "{mode}");
        let network = network(mode, &["127.0.0.1::80"]);
        let port = network.ports[0].host_port;
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a listener");
        let mut helper = start(&network, &namespace.target()).expect("a start").expect("a helper");
        let error = helper.wait_ready(PATIENCE).expect_err("taken");
        assert!(error.to_string().contains(&port.to_string()), "{mode}: {error}");
    }
}

#[test]
fn modes_without_a_helper_start_none() {
    for mode in ["none", "host", "ns:/proc/self/ns/net", "container:x"] {
        let target =
            Target { pid: 1, runtime_dir: Path::new("/nonexistent"), cache: Path::new("/nonexistent") };
        assert!(start(&network(mode, &[]), &target).expect(mode).is_none());
    }
}
