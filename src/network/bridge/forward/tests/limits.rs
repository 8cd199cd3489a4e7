//! Where descriptors run out.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{accept, both, connect, in_namespaces, pair, processor_time};
use crate::network::Protocol;
use crate::network::bridge::forward::Forwarder;

#[test]
fn a_full_forwarder_lets_new_clients_wait() {
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
