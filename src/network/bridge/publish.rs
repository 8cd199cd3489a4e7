//! The host's sockets of published ports. The container's monitor binds them, once for all lives of the container:
//! they stay bound while this lives, whatever becomes of those who serve them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::Result;
use crate::network::free_ports::refused;
use crate::network::{PortMapping, Protocol, host_socket};

/// Connections that may wait to be taken; `net.core.somaxconn` may say fewer.
const BACKLOG: i32 = 4096;

/// Bound sockets, one for each mapping; those of TCP listen.
#[derive(Debug)]
pub struct Published(Vec<(PortMapping, OwnedFd)>);

impl Published {
    /// Binds all of them or none.
    ///
    /// # Errors
    /// A port is taken, needs privilege, or is of an address that this host does not have.
    pub fn bind(mappings: &[PortMapping]) -> Result<Self> {
        let bound = mappings.iter().map(|mapping| match bind(mapping) {
            Ok(socket) => Ok((mapping.clone(), socket)),
            Err(cause) => Err(refused(&mapping.into(), mapping.host_port, &cause)),
        });
        bound.collect::<Result<_>>().map(Self)
    }

    /// What is to be handed to the forwarder.
    pub fn iter(&self) -> impl Iterator<Item = (&PortMapping, BorrowedFd<'_>)> {
        self.0.iter().map(|(mapping, socket)| (mapping, socket.as_fd()))
    }
}

fn bind(mapping: &PortMapping) -> io::Result<OwnedFd> {
    let socket = host_socket::bind(mapping.protocol, mapping.host_ip, mapping.host_port, true)?;
    if mapping.protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn mapping(host_ip: Option<&str>, host_port: u16, protocol: Protocol) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
        PortMapping { host_ip, host_port, container_port: 80, protocol }
    }

    fn port_of(published: &Published) -> u16 {
        let (_, socket) = published.iter().next().expect("a socket");
        let socket = socket.try_clone_to_owned().expect("a copy");
        TcpListener::from(socket).local_addr().expect("an address").port()
    }

    #[test]
    fn every_address_means_both_families() {
        let published = Published::bind(&[mapping(None, 0, Protocol::Tcp)]).expect("a port");
        let port = port_of(&published);
        TcpStream::connect(("127.0.0.1", port)).expect("IPv4");
        TcpStream::connect(("::1", port)).expect("IPv6");
        drop(published);
        TcpStream::connect(("127.0.0.1", port)).expect_err("let go");
    }

    #[test]
    fn one_address_means_that_one() {
        let published = Published::bind(&[mapping(Some("127.0.0.2"), 0, Protocol::Tcp)]).expect("a port");
        let port = port_of(&published);
        TcpStream::connect(("127.0.0.2", port)).expect("the address");
        TcpStream::connect(("127.0.0.1", port)).expect_err("another one");
        let published = Published::bind(&[mapping(Some("::"), 0, Protocol::Tcp)]).expect("a port");
        let port = port_of(&published);
        TcpStream::connect(("::1", port)).expect("IPv6");
        TcpStream::connect(("127.0.0.1", port)).expect_err("IPv4");
    }

    #[test]
    fn a_taken_port_names_its_process() {
        for (ip, protocol) in [
            (None, Protocol::Tcp),
            (Some("127.0.0.1"), Protocol::Tcp),
            (None, Protocol::Udp),
            (Some("127.0.0.1"), Protocol::Udp),
        ] {
            let (_tcp, _udp, port) = match protocol {
                Protocol::Tcp => {
                    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
                    let port = taken.local_addr().expect("an address").port();
                    (Some(taken), None, port)
                }
                Protocol::Udp => {
                    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
                    let port = taken.local_addr().expect("an address").port();
                    (None, Some(taken), port)
                }
            };
            let error = Published::bind(&[mapping(ip, port, protocol)]).expect_err("taken").to_string();
            assert!(error.contains(&format!("process {}", std::process::id())), "{protocol}: {error}");
            assert!(error.contains(&format!("{port}/{protocol}")), "{protocol}: {error}");
        }
    }

    #[test]
    fn a_published_port_cannot_be_published_again() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = Published::bind(&[mapping(None, 0, protocol)]).expect("a port");
            let (_, socket) = first.iter().next().expect("a socket");
            let address =
                SocketAddr::try_from(rustix::net::getsockname(socket).expect("a name")).expect("IP");
            for ip in [None, Some("127.0.0.1"), Some("::1"), Some("0.0.0.0")] {
                Published::bind(&[mapping(ip, address.port(), protocol)]).expect_err("taken");
            }
        }
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let error = Published::bind(&[mapping(Some("192.0.2.7"), 8080, Protocol::Tcp)]).expect_err("foreign");
        assert!(error.to_string().contains("this host does not have that address"), "{error}");
    }
}
