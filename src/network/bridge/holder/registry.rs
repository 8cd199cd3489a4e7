//! Who is in which network with which addresses. The kernel is not asked, and nothing is made here.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::container::store::short;
use crate::error::{Error, Result};
use crate::network::bridge::addresses::{Choice, mac_address};
use crate::network::bridge::protocol::{Joiner, Wanted};
use crate::network::bridge::{Endpoint, Membership};
use crate::network::mac::MacAddress;
use crate::network::named::{NamedNetwork, Subnet, check_interface};

use super::uplink::Uplink;

/// A connection to a monitor.
pub type SessionId = u64;

/// A network that somebody is in.
#[derive(Debug)]
pub struct Active {
    pub network: NamedNetwork,
    /// The addresses that were given last, one for each family.
    last: Vec<IpAddr>,
}

#[derive(Debug)]
pub struct Member {
    pub joiner: Joiner,
    pub endpoints: Vec<Endpoint>,
    /// The number of its next interface, from which its default route's metric follows: no two may have the same.
    pub next: usize,
}

#[derive(Debug, Default)]
pub struct Registry {
    pub networks: HashMap<String, Active>,
    pub members: HashMap<SessionId, Member>,
    /// For names of interfaces, which are never used twice.
    interfaces: u32,
    /// The addresses of containers that an earlier holder had, by their IDs, until they come or the moment is there.
    expected: HashMap<String, Vec<IpAddr>>,
    until: Option<Instant>,
}

/// Time for a container that an earlier holder had to come back for its addresses.
const RETURN: Duration = Duration::from_secs(10);

impl Registry {
    /// For a while these addresses are given to nobody else.
    pub fn expecting(expected: HashMap<String, Vec<IpAddr>>) -> Self {
        Self { expected, until: Some(Instant::now() + RETURN), ..Self::default() }
    }

    /// Everything that `joiner` asks for, or nothing.
    ///
    /// # Errors
    /// An address or a name is not to be had.
    pub fn join(&mut self, session: SessionId, joiner: Joiner) -> Result<&Member> {
        let wanted = joiner.wanted.clone();
        self.members.insert(session, Member { joiner, endpoints: Vec::new(), next: 0 });
        for wanted in &wanted {
            if let Err(error) = self.connect(session, wanted, &[]) {
                self.members.remove(&session);
                return Err(error);
            }
        }
        if let Some(member) = self.members.get(&session) {
            self.expected.remove(&member.joiner.id);
        }
        self.members.get(&session).ok_or_else(gone)
    }

    /// Puts a member into another network; `there` are the interfaces that the container has made itself, too.
    ///
    /// # Errors
    /// It is there already; an address is not to be had.
    pub fn connect(&mut self, session: SessionId, wanted: &Wanted, there: &[String]) -> Result<Endpoint> {
        let Wanted { membership, network, before } = wanted;
        let failed = || format!("cannot connect the container to the network `{}`", network.name);
        let member = self.members.get(&session).ok_or_else(gone)?;
        if member.joiner.allowed.is_some() && !member.endpoints.is_empty() {
            return Err(Error::new(failed())
                .because("it has `--net-allow`, and another network would lead past the list"));
        }
        if member.endpoints.iter().any(|endpoint| endpoint.network == network.id) {
            return Err(Error::new(failed()).because("it is in that network already"));
        }
        let interface =
            interface(&member.endpoints, there, membership).map_err(|error| error.while_doing(failed()))?;
        self.check_apart(network).map_err(|error| error.while_doing(failed()))?;
        let id = member.joiner.id.clone();
        if self.until.is_some_and(|until| until <= Instant::now()) {
            (self.expected, self.until) = (HashMap::new(), None);
        }
        let mut taken = self.taken(&network.id);
        taken
            .extend(self.expected.iter().filter(|(one, _)| **one != id).flat_map(|(_, addresses)| addresses));
        taken.extend(network.reserved.values());
        let active = self
            .networks
            .entry(network.id.clone())
            .or_insert_with(|| Active { network: network.clone(), last: Vec::new() });
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let address = choose(subnet, &taken, membership, before, &active.last)
                .map_err(|error| error.while_doing(failed()))?;
            active.last.retain(|last| last.is_ipv4() != address.is_ipv4());
            active.last.push(address);
            addresses.push(IpNet::new_assert(address, subnet.subnet.prefix_len()));
        }
        let Some(first) = addresses.first() else {
            return Err(Error::new(failed()).because("the network has no addresses").hint("make it anew"));
        };
        let mac_address = membership.mac_address.unwrap_or_else(|| mac_address(first.addr()));
        self.check_mac(&network.id, mac_address).map_err(|error| error.while_doing(failed()))?;
        self.interfaces = self.interfaces.wrapping_add(1);
        let member = self.members.get_mut(&session).ok_or_else(gone)?;
        let gateways: Vec<IpAddr> = network.subnets.iter().map(|subnet| subnet.gateway).collect();
        let endpoint = Endpoint {
            network: network.id.clone(),
            network_name: network.name.clone(),
            aliases: membership.aliases.clone(),
            interface,
            host_interface: format!("v{}.{:x}", &short(&member.joiner.id)[..6], self.interfaces & 0xff_ffff),
            mac_address,
            addresses,
            name_servers: if network.dns { gateways.clone() } else { Vec::new() },
            gateways: if network.internal { Vec::new() } else { gateways },
        };
        member.endpoints.push(endpoint.clone());
        member.next += 1;
        Ok(endpoint)
    }

    /// The addresses of all networks that somebody is in.
    pub fn ranges(&self) -> Vec<IpNet> {
        let networks = self.networks.values().map(|active| &active.network);
        networks.flat_map(|network| network.subnets.iter().map(|subnet| subnet.subnet)).collect()
    }

    /// Takes a member out of one network.
    pub fn disconnect(&mut self, session: SessionId, network: &str) -> Option<Endpoint> {
        let member = self.members.get_mut(&session)?;
        let at = member.endpoints.iter().position(|endpoint| endpoint.network == network)?;
        Some(member.endpoints.remove(at))
    }

    pub fn leave(&mut self, session: SessionId) -> Option<Member> {
        self.members.remove(&session)
    }

    /// The networks that nobody is in any more; they are forgotten.
    pub fn retire(&mut self) -> Vec<NamedNetwork> {
        let used: BTreeSet<&str> = self
            .members
            .values()
            .flat_map(|member| member.endpoints.iter().map(|endpoint| endpoint.network.as_str()))
            .collect();
        let unused: Vec<String> =
            self.networks.keys().filter(|id| !used.contains(id.as_str())).cloned().collect();
        unused.iter().filter_map(|id| self.networks.remove(id)).map(|active| active.network).collect()
    }

    /// A record that was copied or changed by hand must not lead a container to the bridge of others.
    fn check_apart(&self, network: &NamedNetwork) -> Result<()> {
        let wrong = |cause: String| {
            Err(Error::new(format!("the record of the network `{}` cannot be used", network.name))
                .because(cause)
                .hint("remove one of the two with `sbx network rm`, and make it anew"))
        };
        check_interface(&network.interface)?;
        if [Uplink::World, Uplink::Loopback].iter().any(|uplink| uplink.interface() == network.interface) {
            return wrong(format!("its bridge has the name of the uplink, `{}`", network.interface));
        }
        for Active { network: other, .. } in self.networks.values() {
            let overlaps = |a: &Subnet, b: &Subnet| {
                a.subnet.contains(&b.subnet.network()) || b.subnet.contains(&a.subnet.network())
            };
            let name = &other.name;
            if other.id == network.id && (name, &other.interface) == (&network.name, &network.interface) {
                continue;
            }
            if other.id == network.id {
                return wrong(format!("it has the ID of the network `{name}`"));
            }
            if other.interface == network.interface {
                return wrong(format!("its bridge `{}` is that of the network `{name}`", other.interface));
            }
            let shared =
                network.subnets.iter().find(|one| other.subnets.iter().any(|two| overlaps(one, two)));
            if let Some(Subnet { subnet, .. }) = shared {
                return wrong(format!("addresses of {subnet} are those of the network `{name}`"));
            }
        }
        Ok(())
    }

    fn endpoints_in<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.members
            .values()
            .flat_map(|member| &member.endpoints)
            .filter(move |endpoint| endpoint.network == network)
    }

    fn taken(&self, network: &str) -> BTreeSet<IpAddr> {
        self.endpoints_in(network).flat_map(|endpoint| &endpoint.addresses).map(IpNet::addr).collect()
    }

    fn check_mac(&self, network: &str, address: MacAddress) -> Result<()> {
        match self.endpoints_in(network).any(|endpoint| endpoint.mac_address == address) {
            true => Err(Error::new(format!("cannot use the MAC address {address}"))
                .because("another container of the network has it")),
            false => Ok(()),
        }
    }
}

fn choose(
    subnet: &Subnet,
    taken: &BTreeSet<IpAddr>,
    membership: &Membership,
    before: &[IpAddr],
    last: &[IpAddr],
) -> Result<IpAddr> {
    let ipv4 = subnet.gateway.is_ipv4();
    let asked = match ipv4 {
        true => membership.ip.map(IpAddr::V4),
        false => membership.ip6.map(IpAddr::V6),
    };
    let last = last.iter().copied().find(|last| last.is_ipv4() == ipv4);
    Choice { subnet, taken, asked, before, last }.make()
}

/// The name that was asked for, or the first free `ethN`.
fn interface(endpoints: &[Endpoint], there: &[String], membership: &Membership) -> Result<String> {
    let taken = |name: &str| {
        endpoints.iter().any(|endpoint| endpoint.interface == name) || there.iter().any(|one| one == name)
    };
    match &membership.interface {
        Some(name) if taken(name) => {
            Err(Error::new(format!("cannot name the interface `{name}`")).because("another one has the name"))
        }
        Some(name) => Ok(name.clone()),
        None => (0..=endpoints.len() + there.len())
            .map(|number| format!("eth{number}"))
            .find(|name| !taken(name))
            .ok_or_else(|| Error::new("no name is left for the interface")),
    }
}

fn gone() -> Error {
    Error::new("the container has left its networks")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sys::time::Utc;

    fn network(name: &str, subnet: &str, gateway: &str) -> NamedNetwork {
        let subnets =
            vec![Subnet { subnet: subnet.parse().unwrap(), gateway: gateway.parse().unwrap(), range: None }];
        NamedNetwork {
            id: name.repeat(64)[..64].to_owned(),
            name: name.to_owned(),
            created: Utc::now(),
            driver: "bridge".to_owned(),
            labels: BTreeMap::new(),
            subnets,
            internal: false,
            dns: true,
            dns_servers: Vec::new(),
            options: BTreeMap::new(),
            reserved: BTreeMap::new(),
            interface: format!("sbx-{name}"),
        }
    }

    fn wanted(network: &NamedNetwork) -> Wanted {
        let membership = Membership {
            id: network.id.clone(),
            name: network.name.clone(),
            aliases: Vec::new(),
            ip: None,
            ip6: None,
            mac_address: None,
            interface: None,
        };
        Wanted { membership, network: network.clone(), before: Vec::new() }
    }

    fn joiner(id: &str, wanted: Vec<Wanted>) -> Joiner {
        Joiner {
            id: id.repeat(64)[..64].to_owned(),
            name: id.to_owned(),
            hostname: id.to_owned(),
            wanted,
            allowed: None,
            dns: Vec::new(),
        }
    }

    #[test]
    fn each_container_has_an_address_and_an_interface_in_each_network() {
        let (shop, back) =
            (network("a", "10.89.0.0/24", "10.89.0.1"), network("b", "10.90.0.0/24", "10.90.0.1"));
        let mut registry = Registry::default();
        let first = registry.join(1, joiner("c", vec![wanted(&shop), wanted(&back)])).unwrap();
        let shown: Vec<String> = first
            .endpoints
            .iter()
            .map(|e| format!("{} {} {}", e.interface, e.addresses[0], e.mac_address))
            .collect();
        assert_eq!(shown, ["eth0 10.89.0.2/24 02:42:0a:59:00:02", "eth1 10.90.0.2/24 02:42:0a:5a:00:02"]);
        let second = registry.join(2, joiner("d", vec![wanted(&shop)])).unwrap();
        assert_eq!(second.endpoints[0].addresses[0].to_string(), "10.89.0.3/24");
        assert!(registry.retire().is_empty());
        registry.leave(1);
        assert_eq!(registry.retire().len(), 1);
    }

    #[test]
    fn who_cannot_have_everything_has_nothing() {
        let shop = network("a", "10.89.0.0/24", "10.89.0.1");
        let mut registry = Registry::default();
        registry.join(1, joiner("c", vec![wanted(&shop)])).unwrap();
        let mut second = wanted(&network("b", "10.90.0.0/24", "10.90.0.1"));
        second.membership.ip = Some("10.91.0.1".parse().unwrap());
        let error = registry.join(2, joiner("d", vec![wanted(&shop), second])).unwrap_err();
        assert!(error.report().contains("10.91.0.1"), "{}", error.report());
        assert_eq!(registry.members.len(), 1);
        let mut same = wanted(&shop);
        same.membership.mac_address = Some("02:42:0a:59:00:02".parse().unwrap());
        let error = registry.join(3, joiner("e", vec![same])).unwrap_err();
        assert!(error.report().contains("MAC"), "{}", error.report());
        let again = registry.connect(1, &wanted(&shop), &[]).unwrap_err();
        assert!(again.report().contains("already"), "{}", again.report());
    }

    #[test]
    fn a_free_interface_name_is_used_again() {
        let (shop, back) =
            (network("a", "10.89.0.0/24", "10.89.0.1"), network("b", "10.90.0.0/24", "10.90.0.1"));
        let mut registry = Registry::default();
        registry.join(1, joiner("c", vec![wanted(&shop), wanted(&back)])).unwrap();
        assert!(registry.disconnect(1, &shop.id).is_some());
        let there = ["lo".to_owned(), "eth0".to_owned()];
        assert_eq!(registry.connect(1, &wanted(&shop), &there).unwrap().interface, "eth2");
        assert!(registry.disconnect(1, &shop.id).is_some());
        assert_eq!(registry.connect(1, &wanted(&shop), &[]).unwrap().interface, "eth0");
    }

    #[test]
    fn a_record_that_was_changed_by_hand_leads_to_no_other_network() {
        let shop = network("a", "10.89.0.0/24", "10.89.0.1");
        let mut registry = Registry::default();
        registry.join(1, joiner("c", vec![wanted(&shop)])).unwrap();
        let other = network("b", "10.90.0.0/24", "10.90.0.1");
        let subnets = network("a", "10.88.0.0/15", "10.89.0.1").subnets;
        for (record, cause) in [
            (NamedNetwork { interface: shop.interface.clone(), ..other.clone() }, "its bridge"),
            (NamedNetwork { id: shop.id, ..other.clone() }, "the ID"),
            (NamedNetwork { subnets, ..other.clone() }, "10.88.0.0/15"),
            (NamedNetwork { interface: "tap0".to_owned(), ..other.clone() }, "uplink"),
            (NamedNetwork { interface: "lo".to_owned(), ..other.clone() }, "loopback"),
            (NamedNetwork { interface: "all".to_owned(), ..other.clone() }, "all"),
            (NamedNetwork { interface: "../x".to_owned(), ..other.clone() }, "character"),
            (NamedNetwork { interface: "x".repeat(300), ..other.clone() }, "longer"),
        ] {
            let error = registry.join(2, joiner("d", vec![wanted(&record)])).unwrap_err();
            assert!(error.report().contains(cause), "{cause}: {}", error.report());
        }
        assert_eq!((registry.members.len(), registry.networks.len()), (1, 1));
        registry.join(2, joiner("d", vec![wanted(&other)])).unwrap();
    }

    #[test]
    fn addresses_wait_for_those_who_had_them() {
        let shop = network("a", "10.89.0.0/24", "10.89.0.1");
        let address: IpAddr = "10.89.0.2".parse().unwrap();
        let mut registry = Registry::expecting(HashMap::from([("c".repeat(64), vec![address])]));
        let first = |member: &Member| member.endpoints[0].addresses[0].addr();
        let id = |id: &str, wanted| joiner(id, vec![wanted]);
        assert_ne!(first(registry.join(1, id("d", wanted(&shop))).unwrap()), address);
        let back = Wanted { before: vec![address], ..wanted(&shop) };
        assert_eq!(first(registry.join(2, id("c", back)).unwrap()), address);
        registry.leave(2);
        let mut asks = wanted(&shop);
        asks.membership.ip = Some("10.89.0.2".parse().unwrap());
        assert_eq!(first(registry.join(3, id("e", asks)).unwrap()), address, "it is not awaited any more");
    }
}
