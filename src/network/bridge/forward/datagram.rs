//! Datagrams with the address that they were sent to (ip(7), IP_PKTINFO; ipv6(7), IPV6_RECVPKTINFO).

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::conversations::Local;

/// The longest datagram and one more.
pub(super) const LONGEST: usize = 1 << 16;
/// Bytes of datagrams that may wait in one socket; the kernel takes less where that is its limit, and never fails.
pub(super) const WAITING: usize = 4 << 20;

/// Prepares a socket of the host: [`receive`] is to tell the address, and as many datagrams may wait as the host lets
/// us have (`net.core.rmem_max`).
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn prepare(socket: &OwnedFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::RcvBuf, &WAITING)?;
    setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    match setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true) {
        // An IPv4 socket.
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => Ok(()),
        outcome => outcome,
    }
}

/// Space for what comes beside a datagram.
pub(super) fn control() -> Vec<u8> {
    nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo)
}

/// The next datagram: its length, who sent it, and to which address.
///
/// # Errors
/// EAGAIN: there is none.
pub(super) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    control: &mut [u8],
) -> nix::Result<(usize, SocketAddr, Local)> {
    let mut space = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut space, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let address = message.address.as_ref();
    let client = match (address.and_then(|a| a.as_sockaddr_in()), address.and_then(|a| a.as_sockaddr_in6())) {
        (Some(v4), _) => SocketAddr::V4(SocketAddrV4::from(*v4)),
        (_, Some(v6)) => SocketAddr::V6(SocketAddrV6::from(*v6)),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let mut local = Local { ip: Ipv4Addr::UNSPECIFIED.into(), interface: 0 };
    for beside in message.cmsgs()? {
        match beside {
            // A broadcast has another destination, but is answered from here.
            ControlMessageOwned::Ipv4PacketInfo(info) if client.is_ipv4() => {
                local.ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                local.ip = ip.into();
                local.interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            }
            _ => {}
        }
    }
    Ok((message.bytes, client, local))
}

/// Sends a datagram to `client` from the address `local`.
///
/// # Errors
/// Those of sendmsg(2).
pub(super) fn send(socket: &OwnedFd, bytes: &[u8], client: SocketAddr, local: Local) -> nix::Result<()> {
    let v4;
    let v6;
    let beside = match local.ip {
        ip if ip.is_unspecified() || ip.is_multicast() => None,
        IpAddr::V4(ip) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        IpAddr::V6(ip) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: local.interface,
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let address = SockaddrStorage::from(client);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], beside.as_slice(), flags, Some(&address)).map(|_| ())
}
