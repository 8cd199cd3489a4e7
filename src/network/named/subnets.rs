//! Ranges of addresses for networks: one is chosen that nobody uses, or one that was asked for is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{NamedNetwork, NamedNetworks, Subnet};
use crate::error::{Error, Result, Step};
use crate::network::bridge::links;

/// docker's words, which its users look for.
const OVERLAPS: &str = "Pool overlaps with other one on this address space";
/// The network of slirp4netns, and of the one that reaches the host's loopback interface.
const UPLINKS: [Ipv4Net; 2] = [v4(10, 0, 2, 0, 24), v4(10, 0, 3, 0, 24)];
/// podman's choice (podman-network-create(1)) for its first network.
const BUILT_IN: Ipv4Net = v4(10, 88, 0, 0, 16);
/// Where `/24`s are taken from in turn: podman's pools, then docker's.
const POOLS: [(Ipv4Addr, Ipv4Addr); 3] = [
    (Ipv4Addr::new(10, 89, 0, 0), Ipv4Addr::new(10, 255, 255, 0)),
    (Ipv4Addr::new(172, 17, 0, 0), Ipv4Addr::new(172, 31, 255, 0)),
    (Ipv4Addr::new(192, 168, 0, 0), Ipv4Addr::new(192, 168, 255, 0)),
];
/// Ranges in which no network can be: this host, loopback, link-local, multicast and beyond (RFC 6890).
const UNUSABLE: [Ipv4Net; 4] =
    [v4(0, 0, 0, 0, 8), v4(127, 0, 0, 0, 8), v4(169, 254, 0, 0, 16), v4(224, 0, 0, 0, 3)];
/// So many ranges in use are told to whoever chooses one for a single container.
const MOST_OCCUPIED: usize = 256;
/// With longer prefixes there is no room for a gateway and a container.
const LONGEST_V4: u8 = 30;
const LONGEST_V6: u8 = 126;
/// How often random ranges are drawn; the first is free.
const DRAWS: usize = 16;

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

/// What is in use already.
#[derive(Debug, Default)]
pub(super) struct Occupied {
    /// The networks of the store, by name.
    networks: Vec<(String, IpNet)>,
    routes: Vec<IpNet>,
}

impl NamedNetworks {
    /// Ranges of private addresses that are in use: those of networks, and of the host's routes.
    ///
    /// # Errors
    /// The networks cannot be read.
    pub fn occupied(&self) -> Result<Vec<IpNet>> {
        let Occupied { networks, routes } = Occupied::now(&self.list()?);
        let private = |range: &IpNet| match range.addr() {
            IpAddr::V4(address) => address.is_private(),
            IpAddr::V6(address) => address.is_unique_local(),
        };
        let mut all: Vec<IpNet> = networks.into_iter().map(|(_, range)| range).chain(routes).collect();
        all.retain(private);
        // They are to fit into one message.
        Ok(IpNet::aggregate(&all).into_iter().take(MOST_OCCUPIED).collect())
    }
}

impl Occupied {
    pub(super) fn now(networks: &[NamedNetwork]) -> Self {
        let each = networks
            .iter()
            .flat_map(|network| network.subnets.iter().map(|subnet| (network.name.clone(), subnet.subnet)));
        Self {
            networks: each.collect(),
            // What the kernel does not tell hides nothing.
            routes: links::routes().unwrap_or_default(),
        }
    }

    fn is_free(&self, range: IpNet) -> bool {
        let mut used = self.networks.iter().map(|(_, used)| used).chain(&self.routes);
        !used.any(|used| overlap(*used, range))
            && !UPLINKS.iter().any(|uplink| overlap(IpNet::V4(*uplink), range))
    }

    /// A range for the network that is always there.
    ///
    /// # Errors
    /// As [`Self::choose_v4`].
    pub(super) fn choose_built_in(&self) -> Result<IpNet> {
        let others = (17..=31).map(|second| v4(172, second, 0, 0, 16));
        let mut all = std::iter::once(BUILT_IN).chain(others).map(IpNet::V4);
        all.find(|range| self.is_free(*range)).map_or_else(|| self.choose_v4(), Ok)
    }

    /// The first range that is free.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn choose_v4(&self) -> Result<IpNet> {
        let all = POOLS.iter().flat_map(|(first, last)| (u32::from(*first)..=u32::from(*last)).step_by(256));
        all.filter_map(|first| Ipv4Net::new(first.into(), 24).ok())
            .map(IpNet::V4)
            .find(|range| self.is_free(*range))
            .ok_or_else(|| {
                Error::new("cannot find addresses for the network")
                    .because("every private range is that of another network, or the host has a route to it")
                    .hint("name one with `--subnet`")
            })
    }

    /// A random range of unique local addresses (RFC 4193).
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(super) fn choose_v6(&self) -> Result<IpNet> {
        for _ in 0..DRAWS {
            let mut bytes = [0_u8; 16];
            crate::sys::random::fill(&mut bytes[1..8])
                .step(|| "cannot draw IPv6 addresses for the network")?;
            bytes[0] = 0xfd;
            let range = Ipv6Net::new(Ipv6Addr::from(bytes), 64).map(IpNet::V6);
            if let Some(range) = range.ok().filter(|range| self.is_free(*range)) {
                return Ok(range);
            }
        }
        Err(Error::new("cannot find IPv6 addresses for the network").hint("name a range with `--subnet`"))
    }

    /// Checks a range that was asked for. A warning: the host has a route to something there.
    ///
    /// # Errors
    /// It is no network, too small, not usable, or another's.
    pub(super) fn check(&self, asked: IpNet) -> Result<Option<String>> {
        let wrong = |cause: String| Error::new(format!("cannot use the subnet {asked}")).because(cause);
        if asked != asked.trunc() {
            return Err(wrong("it is not the first address of the network".to_owned())
                .hint(format!("write `--subnet {}`", asked.trunc())));
        }
        let longest = if asked.addr().is_ipv4() { LONGEST_V4 } else { LONGEST_V6 };
        if asked.prefix_len() > longest {
            return Err(wrong(format!(
                "it is too small: a gateway and a container need a prefix of at most {longest} bits"
            )));
        }
        let unusable = match asked {
            IpNet::V4(range) => UNUSABLE.iter().any(|no| overlap(IpNet::V4(*no), IpNet::V4(range))),
            IpNet::V6(range) => !is_unicast(range),
        };
        if unusable {
            return Err(wrong("addresses there are no hosts' of a network".to_owned()).hint(
                "take one of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16, or of fd00::/8, or leave `--subnet` out",
            ));
        }
        if UPLINKS.iter().any(|uplink| overlap(IpNet::V4(*uplink), asked)) {
            return Err(wrong(OVERLAPS.to_owned())
                .because("10.0.2.0/24 and 10.0.3.0/24 lead from the bridges to the host"));
        }
        if let Some((name, used)) = self.networks.iter().find(|(_, used)| overlap(*used, asked)) {
            return Err(wrong(OVERLAPS.to_owned()).because(format!("the network `{name}` has {used}")));
        }
        let route = self.routes.iter().find(|route| overlap(**route, asked));
        Ok(route.map(|route| {
            format!("the host has a route to {route}: what is there is not reached from the network {asked}")
        }))
    }
}

fn is_unicast(range: Ipv6Net) -> bool {
    let first = range.addr();
    range.prefix_len() >= 8
        && !first.is_multicast()
        && !first.is_unicast_link_local()
        && first.segments()[0] != 0
}

pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A range with its gateway: the first address of a host, unless one is asked for.
///
/// # Errors
/// Gateway or range are not of the subnet.
pub(super) fn subnet(
    subnet: IpNet,
    gateway: Option<IpAddr>,
    range: Option<(IpAddr, IpAddr)>,
) -> Result<Subnet> {
    if let Some(gateway) = gateway {
        let reserved = check_host(subnet, gateway);
        reserved.map_err(|cause| Error::new(format!("cannot use the gateway {gateway}")).because(cause))?;
    }
    if let Some((first, last)) = range {
        let wrong =
            |cause: String| Err(Error::new(format!("cannot use the range {first}-{last}")).because(cause));
        if !subnet.contains(&first) || !subnet.contains(&last) {
            return wrong(format!("it is not inside of the subnet {subnet}"));
        }
        if first > last {
            return wrong("its end lies before its beginning".to_owned());
        }
    }
    let gateway = gateway.unwrap_or_else(|| first_host(subnet));
    Ok(Subnet { subnet, gateway, range })
}

fn first_host(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(1)).into(),
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).wrapping_add(1)).into(),
    }
}

/// # Errors
/// Why no host of the subnet can have the address.
pub(super) fn check_host(subnet: IpNet, address: IpAddr) -> Result<(), String> {
    match address {
        _ if !subnet.contains(&address) => Err(format!("it is not in the subnet {subnet}")),
        _ if address == subnet.network() => Err(format!("it is the address of the network {subnet} itself")),
        IpAddr::V4(_) if address == subnet.broadcast() => {
            Err(format!("it is the broadcast address of {subnet}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn occupied(networks: &[&str], routes: &[&str]) -> Occupied {
        Occupied {
            networks: networks.iter().map(|text| ("other".to_owned(), net(text))).collect(),
            routes: routes.iter().map(|text| net(text)).collect(),
        }
    }

    #[test]
    fn the_first_free_range_is_taken() {
        let chosen = |networks: &[&str], routes: &[&str]| {
            occupied(networks, routes).choose_v4().map(|range| range.to_string()).unwrap_or_default()
        };
        assert_eq!(chosen(&[], &[]), "10.89.0.0/24");
        assert_eq!(chosen(&["10.89.0.0/24", "10.89.2.0/24"], &["10.89.1.128/25"]), "10.89.3.0/24");
        assert_eq!(chosen(&["10.88.0.0/15"], &[]), "10.90.0.0/24");
        // A company's VPN.
        assert_eq!(chosen(&[], &["10.0.0.0/8"]), "172.17.0.0/24");
        assert_eq!(chosen(&[], &["10.0.0.0/8", "172.16.0.0/12"]), "192.168.0.0/24");
        let error = occupied(&[], &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]).choose_v4();
        assert!(error.expect_err("nothing is free").report().contains("--subnet"));
        let built_in =
            |networks: &[&str]| occupied(networks, &[]).choose_built_in().expect("a range").to_string();
        assert_eq!(built_in(&[]), "10.88.0.0/16");
        assert_eq!(built_in(&["10.88.5.0/24", "172.17.0.0/16"]), "172.18.0.0/16");
    }

    #[test]
    fn random_ranges_are_unique_local_and_differ() {
        let (one, other) =
            (Occupied::default().choose_v6().unwrap(), Occupied::default().choose_v6().unwrap());
        assert!(net("fd00::/8").contains(&one) && one.prefix_len() == 64 && one == one.trunc(), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        let occupied = occupied(&["10.89.0.0/24", "fd12::/64"], &["192.168.7.0/24"]);
        for good in ["10.90.0.0/24", "203.0.113.0/30", "fd13::/64", "2001:db8::/126"] {
            assert_eq!(occupied.check(net(good)).unwrap(), None, "{good}");
        }
        let warning = occupied.check(net("192.168.0.0/16")).unwrap().expect("a warning");
        assert!(warning.contains("192.168.7.0/24"), "{warning}");
        for (bad, cause) in [
            ("10.90.0.1/24", "--subnet 10.90.0.0/24"),
            ("10.90.0.0/31", "at most 30 bits"),
            ("fd13::/127", "at most 126 bits"),
            ("10.89.0.128/25", OVERLAPS),
            ("10.89.0.0/16", "`other` has 10.89.0.0/24"),
            ("fd12::/48", OVERLAPS),
            ("10.0.2.0/25", OVERLAPS),
            ("10.0.0.0/8", OVERLAPS),
            ("127.0.0.0/24", "no hosts'"),
            ("0.0.0.0/0", "no hosts'"),
            ("224.1.0.0/16", "no hosts'"),
            ("fe80::/64", "no hosts'"),
            ("ff02::/64", "no hosts'"),
            ("::/0", "no hosts'"),
        ] {
            let report = occupied.check(net(bad)).expect_err(bad).report();
            assert!(report.contains(cause), "{bad}: {report}");
        }
    }

    #[test]
    fn gateway_and_range_are_of_the_subnet() {
        let of = net("10.90.0.0/24");
        assert_eq!(subnet(of, None, None).unwrap().gateway, ip("10.90.0.1"));
        assert_eq!(subnet(net("fd00::/64"), None, None).unwrap().gateway, ip("fd00::1"));
        assert_eq!(subnet(of, Some(ip("10.90.0.254")), None).unwrap().gateway, ip("10.90.0.254"));
        for bad in ["10.90.1.1", "10.90.0.0", "10.90.0.255", "fd00::1"] {
            assert!(subnet(of, Some(ip(bad)), None).is_err(), "{bad}");
        }
        let range = |first, last| subnet(of, None, Some((ip(first), ip(last)))).map(|subnet| subnet.range);
        assert!(range("10.90.0.8", "10.90.0.15").unwrap().is_some());
        for (first, last) in [("10.90.0.8", "10.90.1.8"), ("10.90.0.9", "10.90.0.8"), ("fd00::1", "fd00::2")]
        {
            assert!(range(first, last).is_err(), "{first}");
        }
    }
}
