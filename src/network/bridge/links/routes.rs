//! Where the host's own routes lead, so that no network hides one of them.

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;

use super::{failure, message, read};
use crate::error::{Result, Step};
use crate::sys::netlink::Socket;

/// The networks to which the calling thread's network namespace has routes, in any table. Left out are default
/// routes, also those in parts (a VPN's `0.0.0.0/1`), and addresses of this machine and link.
///
/// # Errors
/// The kernel does not tell.
pub fn routes() -> Result<Vec<IpNet>> {
    let what = || "cannot read the routes of the host".to_owned();
    let mut socket = Socket::open().step(what)?;
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        match socket.ask(message::routes(ipv6), NLM_F_DUMP) {
            Ok(answer) => found.extend(answer.iter().filter_map(|body| read::destination(body))),
            // A kernel without IPv6.
            Err(refusal) if ipv6 && matches!(refusal.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            Err(refusal) => return Err(failure::meaning(what(), &refusal)),
        }
    }
    found.retain(|net| !everywhere(net) && !near(net));
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// No network is that large: fc00::/7 are all that sites may choose from.
fn everywhere(net: &IpNet) -> bool {
    net.prefix_len() < 8
}

fn near(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_loopback() || net.addr().is_multicast(),
        IpNet::V6(net) => {
            net.addr().is_loopback() || net.addr().is_multicast() || net.addr().is_unicast_link_local()
        }
    }
}
