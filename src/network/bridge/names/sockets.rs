//! Where a network's name server is reached.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind, set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that the kernel makes before we know of them.
const BACKLOG: i32 = 64;

/// The sockets of one network.
#[derive(Debug, Default)]
pub struct Sockets {
    pub datagrams: Vec<UdpSocket>,
    /// They listen.
    pub listeners: Vec<TcpListener>,
}

impl Sockets {
    /// Binds both kinds on each address.
    ///
    /// # Errors
    /// The port is taken; the kernel has no such family.
    pub fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut sockets = Self::default();
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            sockets.datagrams.push(bound(address, SocketType::DGRAM)?.into());
            let listener = bound(address, SocketType::STREAM)?;
            listen(&listener, BACKLOG)?;
            sockets.listeners.push(listener.into());
        }
        Ok(sockets)
    }
}

fn bound(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // The bridge may get the address a moment later, and an IPv6 address is tentative at first.
    match address {
        SocketAddr::V4(_) => set_ip_freebind(&socket, true)?,
        SocketAddr::V6(_) => {
            set_ipv6_freebind(&socket, true)?;
            set_ipv6_v6only(&socket, true)?;
        }
    }
    if kind == SocketType::STREAM {
        set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}
