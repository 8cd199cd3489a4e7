//! Whom the container sees as its client, and the socket that makes it so.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Target, datagram};
use crate::network::Protocol;

/// Between which addresses a client's traffic goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// None: the kernel's choice; port 0: any. An address that is not ours needs a transparent socket.
    pub(super) from: Option<SocketAddr>,
    pub(super) to: SocketAddr,
}

impl Way {
    /// A client appears with its own address and port, wherever the container can answer that. It appears as the
    /// bridge's gateway
    /// - if it is on the host itself: the container's own loopback or host addresses would be its answer's end;
    /// - if its address is of the container's own network, where the answer would look for it;
    /// - if it speaks the other family than the container.
    ///
    /// On an internal network, which has no gateway, it appears as whatever the bridge has.
    ///
    /// `local` is the address that the client used. None: the container has no address.
    pub(super) fn choose(client: SocketAddr, local: IpAddr, target: &Target, port: u16) -> Option<Self> {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let own = target.addresses.iter().find(|net| net.addr().is_ipv4() == client.is_ipv4());
        let net = own.or(target.addresses.first())?;
        let gateway = target.gateways.iter().find(|ip| ip.is_ipv4() == net.addr().is_ipv4());
        let may_answer =
            own.is_some() && !net.contains(&client.ip()) && !on_this_host(client.ip(), local.to_canonical());
        let from = gateway.map(|gateway| if may_answer { client } else { SocketAddr::new(*gateway, 0) });
        Some(Self { from, to: SocketAddr::new(net.addr(), port) })
    }
}

/// The host talks to itself with the address that it talks to, unless a program insists on another one. Addresses of
/// one link mean nothing on ours.
fn on_this_host(client: IpAddr, local: IpAddr) -> bool {
    let of_a_link = matches!(client, IpAddr::V6(ip) if ip.is_unicast_link_local());
    client.is_loopback() || client.is_unspecified() || client == local || of_a_link
}

/// A non-blocking socket towards the container: for TCP its connection is under way, for UDP it is connected.
///
/// All of them are transparent, so that one rule of the firewall lets their answers in.
///
/// # Errors
/// Those of socket(2), bind(2) and connect(2).
pub(super) fn open(protocol: Protocol, way: &Way) -> Result<OwnedFd, Errno> {
    match way.from {
        Some(from) if from.port() != 0 => match open_from(protocol, way, Some(from)) {
            // That port of the client is in use here: an older connection of it has not quite ended.
            Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {
                open_from(protocol, way, Some(SocketAddr::new(from.ip(), 0)))
            }
            outcome => outcome,
        },
        from => open_from(protocol, way, from),
    }
}

fn open_from(protocol: Protocol, way: &Way, from: Option<SocketAddr>) -> Result<OwnedFd, Errno> {
    let family = if way.to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // These options of ip(7) hold for IPv6 sockets, too.
    let set = |outcome: nix::Result<()>| outcome.map_err(|errno| Errno::from_raw_os_error(errno as i32));
    set(setsockopt(&socket, nix_sockopt::IpTransparent, &true))?;
    if let Some(from) = from {
        if from.port() != 0 {
            // One client may use one port for several connections, to as many published ports.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        } else if protocol == Protocol::Tcp {
            set(setsockopt(&socket, nix_sockopt::IpBindAddressNoPort, &true))?;
        }
        rustix::net::bind(&socket, &from)?;
    }
    match protocol {
        Protocol::Tcp => tune(&socket)?,
        Protocol::Udp => sockopt::set_socket_recv_buffer_size(&socket, datagram::WAITING)?,
    }
    match rustix::net::connect(&socket, &way.to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// What every end of a connection has. Set for a listening socket, those that it accepts have it (socket(7), tcp(7)).
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn tune(socket: &OwnedFd) -> Result<(), Errno> {
    // Whoever writes has decided how much to send at once.
    sockopt::set_tcp_nodelay(socket, true)?;
    // A client that vanished would be held for ever: the server's own keepalive ends at us.
    sockopt::set_socket_keepalive(socket, true)?;
    // Urgent data arrives as data, as it does with any server that does not ask for it.
    sockopt::set_socket_oobinline(socket, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(addresses: &[&str], gateways: &[&str]) -> Target {
        Target {
            addresses: addresses.iter().map(|net| net.parse().expect("a network")).collect(),
            gateways: gateways.iter().map(|ip| ip.parse().expect("an address")).collect(),
        }
    }

    /// As whom a client appears, and where its traffic goes.
    fn way(client: &str, local: &str, target: &Target) -> Option<(String, String)> {
        let way =
            Way::choose(client.parse().expect("an address"), local.parse().expect("an address"), target, 80)?;
        Some((way.from.map_or("-".to_owned(), |from| from.to_string()), way.to.to_string()))
    }

    #[test]
    fn clients_appear_as_themselves_where_they_can_be_answered() {
        let both = target(&["10.88.0.2/16", "fd00::2/64"], &["10.88.0.1", "fd00::1"]);
        let only4 = target(&["10.88.0.2/16"], &["10.88.0.1"]);
        let only6 = target(&["fd00::2/64"], &["fd00::1"]);
        let internal = target(&["10.88.0.2/16"], &[]);
        let v4 = "10.88.0.2:80";
        let v6 = "[fd00::2]:80";
        for (client, local, target, from, to) in [
            ("192.0.2.7:5000", "192.0.2.1", &both, "192.0.2.7:5000", v4),
            // As a socket for both families shows it.
            ("[::ffff:192.0.2.7]:5000", "::ffff:192.0.2.1", &both, "192.0.2.7:5000", v4),
            ("[2001:db8::7]:5000", "2001:db8::1", &both, "[2001:db8::7]:5000", v6),
            // The host itself.
            ("127.0.0.1:5000", "127.0.0.1", &both, "10.88.0.1:0", v4),
            ("127.0.0.9:5000", "192.0.2.1", &both, "10.88.0.1:0", v4),
            ("[::ffff:127.0.0.1]:5000", "::ffff:127.0.0.1", &both, "10.88.0.1:0", v4),
            ("192.0.2.1:5000", "192.0.2.1", &both, "10.88.0.1:0", v4),
            ("192.0.2.1:5000", "::ffff:192.0.2.1", &both, "10.88.0.1:0", v4),
            ("[::1]:5000", "::1", &both, "[fd00::1]:0", v6),
            ("[2001:db8::1]:5000", "2001:db8::1", &both, "[fd00::1]:0", v6),
            ("[fe80::7]:5000", "fe80::1", &both, "[fd00::1]:0", v6),
            // A neighbour of the host with an address of the container's network.
            ("10.88.7.7:5000", "10.0.0.1", &both, "10.88.0.1:0", v4),
            // The other family.
            ("[2001:db8::7]:5000", "2001:db8::1", &only4, "10.88.0.1:0", v4),
            ("192.0.2.7:5000", "192.0.2.1", &only6, "[fd00::1]:0", v6),
            // Nobody there to send an answer back to a foreign address.
            ("192.0.2.7:5000", "192.0.2.1", &internal, "-", v4),
        ] {
            let expected = Some((from.to_owned(), to.to_owned()));
            assert_eq!(way(client, local, target), expected, "{client} to {local}");
        }
        assert_eq!(way("192.0.2.7:5000", "192.0.2.1", &target(&[], &["10.88.0.1"])), None);
    }
}
