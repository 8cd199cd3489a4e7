//! Datagrams.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{OWNER, both, in_namespaces, patient_udp, target};
use crate::network::Protocol;
use crate::network::bridge::forward::Forwarder;

#[test]
fn datagrams_of_any_length_come_from_their_sender_and_go_back() {
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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

#[test]
fn conversations_go_on_where_nothing_moves() {
    in_namespaces(|world| {
        let server = world.bind("0.0.0.0:53");
        let port = world.publish(Protocol::Udp, 53, both());
        let client = patient_udp(world.host.run(|| UdpSocket::bind("127.0.0.1:0").expect("a client")));
        let ask = || {
            client.send_to(b"?", ("127.0.0.1", port)).expect("sent");
            server.recv_from(&mut [0; 8]).expect("received").1
        };
        let first = ask();
        world.forwarder.retarget(OWNER, both()).expect("told");
        assert_eq!(ask(), first);
        world.forwarder.retarget(OWNER, target(&["10.88.0.3/16"])).expect("told");
        assert_ne!(ask(), first, "the conversation led to the former address");
    });
}
