//! The forwarder between real network namespaces, as any user: a neighbour of the host, the host, the holder's
//! namespace with its firewall, and a container. Needs unshare, ip and nft.

mod limits;
mod ports;
mod tcp;
mod udp;

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::publish::Published;
use super::{Forwarder, Target};
use crate::network::{PortMapping, Protocol};

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
    let wait = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(server, PollFlags::IN)], Some(&wait));
    assert_eq!(ready, Ok(1), "nobody reaches the server");
    let (stream, client) = server.accept().expect("a client");
    (patient(stream), client)
}

/// A client at a port of the host, and the server that it reached.
fn pair(from: &Net, ip: &str, port: u16, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(from, ip, port);
    (client, accept(server).0)
}

/// Runs `body` in a user and network namespace of its own, by another process of this very test.
fn in_namespaces<F: FnOnce(&World)>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&World::new());
    }
    // The test's name is that of the function that `body` is in.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").expect("a module");
    let outcome = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("this test needs `unshare` (util-linux) and user namespaces");
    let said = String::from_utf8_lossy(&outcome.stdout);
    let complaint = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success() && said.contains("1 passed"), "{said}\n{complaint}");
}

/// Of this process.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
