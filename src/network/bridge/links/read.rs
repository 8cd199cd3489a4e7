//! What is of interest in the kernel's answers. Only that is decoded, so that no later kernel can say too much.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::NlasIterator;

/// Lengths of `struct ifinfomsg` and `struct rtmsg` (rtnetlink(7)).
const LINK: usize = 16;
const ROUTE: usize = 12;

const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
/// RFC 2863, ifOperStatus, as linux/if.h numbers it.
const IF_OPER_UP: u8 = 6;

const RTA_DST: u16 = 1;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// RTM_F_CLONED: what the kernel has noted for itself.
const CLONED: u32 = 0x200;

pub fn index(link: &[u8]) -> Option<u32> {
    link.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)
}

pub fn is_up(link: &[u8]) -> bool {
    let flags = link.get(8..12).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_ne_bytes);
    flags & libc::IFF_UP as u32 != 0
}

pub fn name(link: &[u8]) -> Option<String> {
    let name = attribute(link.get(LINK..)?, IFLA_IFNAME)?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(&name)).into_owned())
}

pub fn has_carrier(link: &[u8]) -> bool {
    let attributes = link.get(LINK..).unwrap_or_default();
    attribute(attributes, IFLA_OPERSTATE).is_some_and(|state| state == [IF_OPER_UP])
}

/// Whether a route leads to this machine.
pub fn is_local(route: &[u8]) -> bool {
    route.get(7) == Some(&RTN_LOCAL)
}

/// Where a route of `rtmsg` leads, unless it is to this machine, to a group, or the kernel's own note.
pub fn destination(route: &[u8]) -> Option<IpNet> {
    let (header, attributes) = route.split_at_checked(ROUTE)?;
    let flags = u32::from_ne_bytes(header.get(8..12)?.try_into().ok()?);
    if header[7] != RTN_UNICAST || flags & CLONED != 0 {
        return None;
    }
    let ip = match (i32::from(header[0]), attribute(attributes, RTA_DST)) {
        (libc::AF_INET, None) => Ipv4Addr::UNSPECIFIED.into(),
        (libc::AF_INET6, None) => Ipv6Addr::UNSPECIFIED.into(),
        (libc::AF_INET, Some(bytes)) => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        (libc::AF_INET6, Some(bytes)) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    IpNet::new(ip, header[1]).ok()
}

fn attribute(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let found = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == kind)?;
    Some(found.value().to_vec())
}
