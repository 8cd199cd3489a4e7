//! Ports that come, move and go.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{OWNER, PATIENCE, accept, both, connect, in_namespaces, pair, target};
use crate::network::bridge::publish::Published;
use crate::network::{PortMapping, Protocol};

#[test]
fn a_withdrawn_port_is_closed_with_its_connections() {
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
    in_namespaces(|world| {
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
