//! Who is called what, in which network: a value, which the responder's holder replaces as a whole.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::name;
use crate::container::store::short;
use crate::network::bridge::Endpoint;
use crate::network::bridge::protocol::Joiner;
use crate::network::named::NamedNetwork;

/// A network, as far as names are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Its ID.
    pub id: String,
    pub name: String,
    /// Addresses in these that nobody has are nobody's: nobody outside is asked about them.
    pub subnets: Vec<IpNet>,
    /// Whoever is in internal networks alone gets no answer from outside.
    pub internal: bool,
    /// Its containers have names in it.
    pub has_names: bool,
    /// Who is asked for other names; empty: the responder's own servers.
    pub servers: Vec<IpAddr>,
}

impl From<&NamedNetwork> for Network {
    fn from(network: &NamedNetwork) -> Self {
        Self {
            id: network.id.clone(),
            name: network.name.clone(),
            subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
            internal: network.internal,
            has_names: network.dns,
            servers: network.dns_servers.clone(),
        }
    }
}

/// A container in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The container's ID.
    pub container: String,
    /// The first is what its addresses are called. What cannot be a name in DNS is left out.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Who is asked for other names instead of the networks' servers (`--dns`).
    pub servers: Vec<IpAddr>,
}

impl Member {
    /// The container with its name, the aliases that it has there, its short ID and its hostname.
    pub fn new(joiner: &Joiner, endpoint: &Endpoint) -> Self {
        let mut names = vec![joiner.name.clone()];
        names.extend(endpoint.aliases.iter().cloned());
        names.push(short(&joiner.id).to_owned());
        names.push(joiner.hostname.clone());
        Self {
            container: joiner.id.clone(),
            names,
            addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
            servers: joiner.dns.clone(),
        }
    }
}

/// All networks with their members.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// By ID.
    zones: BTreeMap<String, Zone>,
    /// The container that has an address.
    owners: HashMap<IpAddr, Arc<str>>,
}

#[derive(Debug, Clone, Default)]
struct Zone {
    network: Network,
    /// The network's name as DNS has it.
    suffix: Option<String>,
    /// By container.
    members: BTreeMap<String, Member>,
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

impl Zone {
    fn index(&mut self) {
        self.suffix = name::canonical(&self.network.name);
        self.addresses.clear();
        self.names.clear();
        if !self.network.has_names {
            return;
        }
        for member in self.members.values() {
            let names: Vec<String> = member.names.iter().filter_map(|name| name::canonical(name)).collect();
            for &address in &member.addresses {
                for name in &names {
                    let known = self.addresses.entry(name.clone()).or_default();
                    if !known.contains(&address) {
                        known.push(address);
                    }
                }
                if let Some(first) = names.first() {
                    self.names.insert(address, first.clone());
                }
            }
        }
    }
}

impl Table {
    /// Adds a network, or replaces what is known of it; its members stay.
    pub fn set_network(&mut self, network: Network) {
        let zone = self.zones.entry(network.id.clone()).or_default();
        zone.network = network;
        zone.index();
    }

    /// Forgets a network and who is in it.
    pub fn remove_network(&mut self, id: &str) {
        self.zones.remove(id);
        self.index();
    }

    /// Adds a container to a network that is known, or replaces what is known of it there.
    pub fn join(&mut self, network: &str, member: Member) {
        if let Some(zone) = self.zones.get_mut(network) {
            zone.members.insert(member.container.clone(), member);
            zone.index();
            self.index();
        }
    }

    pub fn leave(&mut self, network: &str, container: &str) {
        if let Some(zone) = self.zones.get_mut(network) {
            zone.members.remove(container);
            zone.index();
            self.index();
        }
    }

    /// Out of every network.
    pub fn forget(&mut self, container: &str) {
        for zone in self.zones.values_mut() {
            if zone.members.remove(container).is_some() {
                zone.index();
            }
        }
        self.index();
    }

    fn index(&mut self) {
        self.owners.clear();
        for member in self.zones.values().flat_map(|zone| zone.members.values()) {
            let owner: Arc<str> = member.container.as_str().into();
            self.owners.extend(member.addresses.iter().map(|&address| (address, owner.clone())));
        }
    }

    /// The ID of the container that has an address.
    pub fn owner(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.owners.get(&address)
    }

    /// What the container that has `address` may know; none: nobody has it.
    pub fn view(&self, address: IpAddr) -> Option<View<'_>> {
        let container = self.owner(address)?;
        let zones = self.zones.values().filter(|zone| zone.members.contains_key(&**container)).collect();
        Some(View { container, zones })
    }
}

/// The networks that one container is in.
#[derive(Debug)]
pub struct View<'a> {
    pub container: &'a Arc<str>,
    zones: Vec<&'a Zone>,
}

/// The name below which podman has the names of its containers.
const PODMANS_DOMAIN: &str = ".dns.podman";

impl View<'_> {
    /// The addresses of a name in its canonical form: `web`, `web.NETWORK` as docker has it, `web.dns.podman`. None:
    /// nobody is called so.
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let plain = name.strip_suffix(PODMANS_DOMAIN).unwrap_or(name);
        let mut found: Vec<IpAddr> =
            self.zones.iter().filter_map(|zone| zone.addresses.get(plain)).flatten().copied().collect();
        if found.is_empty() {
            found = self.zones.iter().filter_map(|zone| qualified(zone, name)).flatten().copied().collect();
        }
        (!found.is_empty()).then_some(found)
    }

    /// What an address is called.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.zones.iter().find_map(|zone| zone.names.get(&address)).map(String::as_str)
    }

    /// Nobody outside can know this name.
    pub fn is_ours_alone(&self, name: &str) -> bool {
        name.ends_with(PODMANS_DOMAIN)
    }

    /// The address belongs to one of the container's networks.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.zones.iter().flat_map(|zone| &zone.network.subnets).any(|subnet| subnet.contains(&address))
    }

    /// Other names may be asked outside.
    pub fn reaches_outside(&self) -> bool {
        self.zones.iter().any(|zone| !zone.network.internal)
    }

    /// Who is asked for other names: the container's own choice, or else that of its networks. Empty: neither has one.
    pub fn servers(&self) -> Vec<IpAddr> {
        let members = self.zones.iter().filter_map(|zone| zone.members.get(&**self.container));
        let own: Vec<IpAddr> = without_repeats(members.flat_map(|member| &member.servers));
        if !own.is_empty() {
            return own;
        }
        without_repeats(
            self.zones.iter().filter(|zone| !zone.network.internal).flat_map(|zone| &zone.network.servers),
        )
    }
}

fn qualified<'a>(zone: &'a Zone, name: &str) -> Option<&'a Vec<IpAddr>> {
    let name = name.strip_suffix(zone.suffix.as_deref()?)?.strip_suffix('.')?;
    zone.addresses.get(name)
}

fn without_repeats<'a>(servers: impl Iterator<Item = &'a IpAddr>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for &server in servers {
        if !found.contains(&server) {
            found.push(server);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(id: &str, subnet: &str) -> Network {
        Network {
            id: id.to_owned(),
            name: format!("Net.{id}"),
            subnets: vec![subnet.parse().unwrap()],
            has_names: true,
            ..Network::default()
        }
    }

    fn member(container: &str, names: &[&str], addresses: &[&str]) -> Member {
        Member {
            container: container.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            servers: Vec::new(),
        }
    }

    /// `web` in a and b, `db` in a, `other` in b.
    fn table() -> Table {
        let mut table = Table::default();
        table.set_network(network("a", "10.89.0.0/24"));
        table.set_network(network("b", "10.89.1.0/24"));
        table.join("a", member("1", &["Web", "www"], &["10.89.0.2", "fd00::2"]));
        table.join("b", member("1", &["web"], &["10.89.1.2"]));
        table.join("a", member("2", &["db"], &["10.89.0.3"]));
        table.join("b", member("3", &["other"], &["10.89.1.3"]));
        table
    }

    #[test]
    fn a_container_knows_the_names_of_its_own_networks() {
        let table = table();
        let db = table.view(ip("10.89.0.3")).unwrap();
        assert_eq!(db.addresses("web"), Some(vec![ip("10.89.0.2"), ip("fd00::2")]));
        assert_eq!(db.addresses("www"), db.addresses("web"));
        assert_eq!(db.addresses("other"), None);
        assert_eq!(db.name(ip("10.89.1.3")), None);
        let web = table.view(ip("fd00::2")).unwrap();
        assert_eq!(web.addresses("other"), Some(vec![ip("10.89.1.3")]));
        assert_eq!(web.addresses("db"), Some(vec![ip("10.89.0.3")]));
        assert_eq!(web.name(ip("10.89.0.2")), Some("web"));
        assert!(table.view(ip("10.89.0.9")).is_none());
    }

    #[test]
    fn names_are_found_below_the_network_and_below_podmans_domain() {
        let table = table();
        let db = table.view(ip("10.89.0.3")).unwrap();
        assert_eq!(db.addresses("web.net.a"), db.addresses("web"));
        assert_eq!(db.addresses("web.dns.podman"), db.addresses("web"));
        assert_eq!(db.addresses("web.net.b"), None);
        assert_eq!(db.addresses("webnet.a"), None);
        assert!(db.is_ours_alone("nobody.dns.podman") && !db.is_ours_alone("dns.podman.example"));
    }

    #[test]
    fn who_leaves_is_forgotten_in_that_network_alone() {
        let mut table = table();
        table.leave("a", "1");
        assert!(table.view(ip("10.89.0.2")).is_none());
        assert_eq!(table.view(ip("10.89.0.3")).unwrap().addresses("web"), None);
        assert!(table.view(ip("10.89.1.3")).unwrap().addresses("web").is_some());
        table.remove_network("b");
        assert!(table.view(ip("10.89.1.3")).is_none());
    }

    #[test]
    fn a_network_without_names_answers_none() {
        let mut table = table();
        table.set_network(Network { has_names: false, ..network("a", "10.89.0.0/24") });
        let db = table.view(ip("10.89.0.3")).unwrap();
        assert_eq!((db.addresses("web"), db.name(ip("10.89.0.2"))), (None, None));
    }

    #[test]
    fn servers_are_the_containers_then_those_of_its_open_networks() {
        let mut table = table();
        table.set_network(Network {
            servers: vec![ip("9.9.9.9")],
            internal: true,
            ..network("a", "10.89.0.0/24")
        });
        table.set_network(Network { servers: vec![ip("8.8.8.8")], ..network("b", "10.89.1.0/24") });
        assert_eq!(table.view(ip("10.89.0.2")).unwrap().servers(), [ip("8.8.8.8")]);
        assert!(table.view(ip("10.89.0.2")).unwrap().reaches_outside());
        assert!(!table.view(ip("10.89.0.3")).unwrap().reaches_outside());
        table.join("b", Member { servers: vec![ip("1.1.1.1")], ..member("1", &[], &["10.89.1.2"]) });
        assert_eq!(table.view(ip("10.89.0.2")).unwrap().servers(), [ip("1.1.1.1")]);
    }
}
