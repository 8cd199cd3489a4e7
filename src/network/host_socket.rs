//! Sockets bound to ports of the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::Protocol;

/// Binds a port, or one that the kernel chooses if it is 0. No address means every one of both families, or of IPv4
/// where the host has no IPv6; an IPv6 address never means IPv4, too.
///
/// With `reuse` a TCP port may be one that connections of a former socket still have in TIME_WAIT, or that another
/// socket has bound with it and does not listen at (SO_REUSEADDR, ip(7)). With UDP two sockets would share the port,
/// so it means nothing there.
pub fn bind(protocol: Protocol, ip: Option<IpAddr>, port: u16, reuse: bool) -> io::Result<OwnedFd> {
    let at = |ip: IpAddr, dual: bool| open(protocol, SocketAddr::new(ip, port), dual, reuse);
    let bound = match ip {
        Some(ip) => at(ip, false),
        None => match at(Ipv6Addr::UNSPECIFIED.into(), true) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => at(Ipv4Addr::UNSPECIFIED.into(), false),
            outcome => outcome,
        },
    };
    Ok(bound?)
}

fn open(protocol: Protocol, address: SocketAddr, dual: bool, reuse: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual)?;
    }
    if reuse && protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The port of a bound socket.
pub fn port(socket: &OwnedFd) -> io::Result<u16> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?.port())
}
