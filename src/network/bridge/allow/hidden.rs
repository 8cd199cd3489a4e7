//! The network of a container with a list: it is in no store, and nobody else is in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::network::bridge::Membership;
use crate::network::bridge::protocol::{Allowed, Wanted};
use crate::network::named::{DRIVER, NamedNetwork, Subnet};
use crate::sys::time::Utc;

/// The name under which it is shown.
pub const NAME: &str = "net-allow";
/// Where the first ranges are taken from, a `/29` for each container: below podman's and docker's own.
const POOLS: [[u8; 2]; 8] =
    [[10, 87], [10, 86], [10, 85], [10, 84], [172, 30], [172, 29], [192, 168], [10, 250]];

/// The network of the container with this ID: the one that it had before, where that is free. `live` are the ranges of
/// all networks that are in use, hidden ones too.
///
/// # Errors
/// No range is free.
pub fn wanted(id: &str, allowed: &Allowed, live: &[IpNet]) -> Result<Wanted> {
    let is_free = |one: &IpNet, occupied: &[IpNet]| {
        !occupied.iter().any(|other| one.contains(other) || other.contains(one))
    };
    let before: Vec<IpNet> = allowed.before.iter().map(IpNet::trunc).collect();
    let ranges = match before.is_empty() || !before.iter().all(|range| is_free(range, live)) {
        true => {
            let occupied = [&allowed.occupied, live].concat();
            vec![choose(|range| is_free(range, &occupied))?, unique_local(id)]
        }
        false => before,
    };
    let network = NamedNetwork {
        id: id.to_owned(),
        name: NAME.to_owned(),
        created: Utc::now(),
        driver: DRIVER.to_owned(),
        labels: BTreeMap::new(),
        subnets: ranges.into_iter().map(subnet).collect(),
        internal: false,
        dns: true,
        dns_servers: Vec::new(),
        options: BTreeMap::new(),
        interface: bridge(id),
        reserved: BTreeMap::new(),
    };
    let membership = Membership { mac_address: allowed.mac_address, ..membership(id) };
    Ok(Wanted { membership, network, before: allowed.before.iter().map(IpNet::addr).collect() })
}

fn choose(is_free: impl Fn(&IpNet) -> bool) -> Result<IpNet> {
    POOLS
        .iter()
        .flat_map(|[a, b]| (0..=u16::MAX).step_by(8).map(move |rest| (*a, *b, rest.to_be_bytes())))
        .filter_map(|(a, b, [c, d])| Ipv4Net::new(Ipv4Addr::new(a, b, c, d), 29).ok())
        .map(IpNet::V4)
        .find(is_free)
        .ok_or_else(|| {
            Error::new("cannot find addresses for a container with `--net-allow`")
                .because("every range that sbx takes for that is in use")
        })
}

/// That of the container with this ID in its network.
pub fn membership(id: &str) -> Membership {
    Membership {
        id: id.to_owned(),
        name: NAME.to_owned(),
        aliases: Vec::new(),
        ip: None,
        ip6: None,
        mac_address: None,
        interface: None,
    }
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
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let allowed = |occupied, before| Allowed { list: Vec::new(), occupied, before, mac_address: None };
        let id = "0123456789abcdef".repeat(4);
        let shown = |wanted: &Wanted| {
            let each = wanted.network.subnets.iter().map(|one| format!("{} {}", one.subnet, one.gateway));
            each.collect::<Vec<_>>()
        };
        let live = ranges(&["10.87.1.0/29"]);
        let first = wanted(&id, &allowed(ranges(&["10.87.0.0/24"]), Vec::new()), &live).unwrap();
        let expected = ["10.87.1.8/29 10.87.1.9", "fd01:2345:6789:abcd::/64 fd01:2345:6789:abcd::1"];
        assert_eq!(shown(&first), expected);
        assert_eq!((first.network.interface.as_str(), &first.membership.id), ("a0123456789ab", &id));

        let before = ranges(&["10.87.1.10/29", "fd01:2345:6789:abcd::2/64"]);
        let again = wanted(&id, &allowed(ranges(&["10.87.0.0/16"]), before.clone()), &live).unwrap();
        assert_eq!(shown(&again), expected, "what it had before");
        assert_eq!(again.before.len(), 2);
        let taken = wanted(&id, &allowed(Vec::new(), before), &ranges(&["10.87.1.8/29"])).unwrap();
        assert_eq!(shown(&taken)[0], "10.87.0.0/29 10.87.0.1", "another has it");
        assert!(wanted(&id, &allowed(ranges(&["0.0.0.0/0"]), Vec::new()), &[]).is_err());
    }
}
