//! The network of a container with a list: it is in no store, and nobody else is in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::network::bridge::Membership;
use crate::network::named::{DRIVER, NamedNetwork, Subnet};
use crate::sys::time::Utc;

/// The name under which it is shown.
pub const NAME: &str = "net-allow";
/// Where the first ranges are taken from, a `/29` for each container: below podman's and docker's own.
const POOLS: [[u8; 2]; 8] =
    [[10, 87], [10, 86], [10, 85], [10, 84], [172, 30], [172, 29], [192, 168], [10, 250]];

/// The network of the container with this ID, and its membership. `occupied` are ranges that are in use: those of
/// networks, hidden ones too, of uplinks, and of the host's routes.
///
/// # Errors
/// No range is free.
pub fn network(id: &str, occupied: &[IpNet]) -> Result<(NamedNetwork, Membership)> {
    let overlaps = |one: &IpNet| occupied.iter().any(|other| one.contains(other) || other.contains(one));
    let four = POOLS
        .iter()
        .flat_map(|[a, b]| (0..=u16::MAX).step_by(8).map(move |rest| (*a, *b, rest.to_be_bytes())))
        .filter_map(|(a, b, [c, d])| Ipv4Net::new(Ipv4Addr::new(a, b, c, d), 29).ok())
        .map(IpNet::V4)
        .find(|range| !overlaps(range))
        .ok_or_else(|| {
            Error::new("cannot find addresses for a container with `--net-allow`")
                .because("every range that sbx takes for that is in use")
        })?;
    let subnets = vec![subnet(four), subnet(unique_local(id))];
    let network = NamedNetwork {
        id: id.to_owned(),
        name: NAME.to_owned(),
        created: Utc::now(),
        driver: DRIVER.to_owned(),
        labels: BTreeMap::new(),
        subnets,
        internal: false,
        dns: true,
        dns_servers: Vec::new(),
        options: BTreeMap::new(),
        interface: bridge(id),
        reserved: BTreeMap::new(),
    };
    let membership = Membership {
        id: id.to_owned(),
        name: NAME.to_owned(),
        aliases: Vec::new(),
        ip: None,
        ip6: None,
        mac_address: None,
        interface: None,
    };
    Ok((network, membership))
}

/// The name of its bridge.
pub fn bridge(id: &str) -> String {
    format!("a{}", id.get(..12).unwrap_or(id))
}

fn subnet(range: IpNet) -> Subnet {
    let gateway = match range.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + 1)),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + 1)),
    };
    Subnet { subnet: range, gateway, range: None }
}

/// A range of unique local addresses (RFC 4193) out of the random digits of an ID.
fn unique_local(id: &str) -> IpNet {
    let digits = id.get(..14).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let high = 0xfd << 56 | (digits & ((1 << 56) - 1));
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::from(high) << 64), 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_gets_a_range_that_is_free() {
        let occupied: Vec<IpNet> =
            ["10.87.0.0/24", "10.87.1.0/29"].iter().map(|range| range.parse().unwrap()).collect();
        let id = "0123456789abcdef".repeat(4);
        let (network, membership) = network(&id, &occupied).unwrap();
        let shown: Vec<_> =
            network.subnets.iter().map(|one| format!("{} {}", one.subnet, one.gateway)).collect();
        assert_eq!(shown, ["10.87.1.8/29 10.87.1.9", "fd01:2345:6789:abcd::/64 fd01:2345:6789:abcd::1"]);
        assert_eq!((network.interface.as_str(), &membership.id), ("a0123456789ab", &id));
        assert!(super::network(&id, &["0.0.0.0/0".parse().unwrap()]).is_err());
    }
}
