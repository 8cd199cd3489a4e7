//! Connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, accept, both, connect, in_namespaces, pair, patient, processor_time, target};
use crate::network::Protocol;

#[test]
fn the_server_sees_its_client() {
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
        while served.take_error().expect("an option").is_none() {
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
                assert!(all < 64 << 20, "{all} bytes were taken for somebody who reads nothing");
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
    in_namespaces(|world| {
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
    in_namespaces(|world| {
        let server = world.listen("0.0.0.0:80");
        let port = world.publish(Protocol::Tcp, 80, both());
        let (client, mut served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        // What all the buffers on the way take: two sockets' on each side, and ours.
        let blocked = fill(&client);
        // Others are not held back.
        let (mut other, mut other_served) = pair(&world.neighbour, "192.0.2.1", port, &server);
        other.write_all(b"x").expect("written");
        other_served.read_exact(&mut [0; 1]).expect("read");
        let (before, start) = (processor_time(), Instant::now());
        thread::sleep(Duration::from_millis(500));
        let used = processor_time() - before;
        assert!(used < start.elapsed() / 10, "the forwarder spins: {used:?}");
        // Nothing but the reading sets it going again.
        let mut all = vec![0; blocked];
        served.read_exact(&mut all).expect("all of it");
        assert!(all.iter().all(|byte| *byte == 7));
        client.shutdown(Shutdown::Write).expect("an end");
        assert_eq!(served.read(&mut [0; 1]).expect("the end"), 0);
    });
}

#[test]
fn much_goes_both_ways_at_once() {
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
