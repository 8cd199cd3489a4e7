//! The packet filter of the shared network namespace: a ruleset as a value, applied by nft(8) in one transaction.
//!
//! [`base`] is what always holds. Networks, endpoints and allow-lists are collected by [`Rules`] and reach the kernel
//! together, by [`Rules::commit`]: either all of them or, when nft refuses one, none.
//!
//! What the rules lean on and others set up, for each family: a routing rule that sends mark [`TRANSPARENT_MARK`] to a
//! table with `local default dev lo`, and forwarding (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`). Where
//! there is `net.bridge.bridge-nf-call-iptables` and its kin, they are better 0: bridged packets then pass
//! `bridge sbx` alone, which suffices.

mod base;
mod limit;
mod nft;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod tests_hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::Result;
use crate::network::mac::MacAddress;

pub use limit::{Entry, GROUP, Limit};
pub use nft::Nft;

/// Put on packets that belong to a transparent socket of this namespace: they are delivered locally although their
/// address is somebody else's.
pub const TRANSPARENT_MARK: u32 = 1;

/// The ways out of the namespace.
#[derive(Debug, Clone)]
pub struct Uplinks {
    pub interfaces: Vec<Uplink>,
    /// The helper that may reach the host's loopback.
    pub host_loopback: Option<HostLoopback>,
}

#[derive(Debug, Clone)]
pub struct Uplink {
    pub interface: String,
    /// The helper's own ranges (slirp4netns: 10.0.2.0/24 and fd00::/64). Containers do not reach them: the helper's
    /// gateway and name server are for the namespace alone.
    pub ranges: Vec<IpNet>,
}

#[derive(Debug, Clone)]
pub struct HostLoopback {
    pub interface: String,
    /// What stands for the host's loopback there.
    pub address: Ipv4Addr,
}

/// A network whose bridge is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub bridge: String,
    /// The bridge's own addresses.
    pub gateways: Vec<IpAddr>,
    /// Nothing outside is reached.
    pub internal: bool,
    /// Other networks are not reached. Those that are not isolated reach each other.
    pub isolated: bool,
    /// The host's loopback is reached at the address of [`HostLoopback`].
    pub host_loopback: bool,
}

/// A port of a bridge, with everything that may come from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The end in this namespace.
    pub host_interface: String,
    pub mac_address: MacAddress,
    /// Without the link-local address, which follows from the MAC address.
    pub addresses: Vec<IpAddr>,
}

/// What the kernel has, and the changes that it is to get next.
#[derive(Debug)]
pub struct Rules {
    nft: Nft,
    uplinks: Uplinks,
    committed: State,
    wanted: State,
    text: String,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// By bridge.
    networks: BTreeMap<String, Network>,
    /// By interface.
    endpoints: BTreeMap<String, Endpoint>,
    /// By bridge.
    limits: BTreeMap<String, Limit>,
}

impl Rules {
    /// With the base ruleset pending. What an earlier holder has left in the namespace is replaced.
    pub fn new(nft: Nft, uplinks: Uplinks) -> Self {
        let text = base::text(&uplinks);
        Self { nft, uplinks, committed: State::default(), wanted: State::default(), text }
    }

    /// A network whose bridge was made. One with the same bridge is replaced.
    pub fn add_network(&mut self, network: Network) {
        if self.wanted.networks.get(&network.bridge) == Some(&network) {
            return;
        }
        self.forget_network(&network.bridge);
        let others: Vec<&Network> = self.wanted.networks.values().collect();
        self.text.push_str(&elements(Change::Add, &of_network(&network, &others, &self.uplinks)));
        self.wanted.networks.insert(network.bridge.clone(), network);
    }

    /// A network whose bridge goes, and its list. Its endpoints are removed by themselves.
    pub fn remove_network(&mut self, bridge: &str) {
        self.remove_limit(bridge);
        self.forget_network(bridge);
    }

    fn forget_network(&mut self, bridge: &str) {
        let Some(network) = self.wanted.networks.remove(bridge) else { return };
        let others: Vec<&Network> = self.wanted.networks.values().collect();
        self.text.push_str(&elements(Change::Delete, &of_network(&network, &others, &self.uplinks)));
    }

    /// A port of a bridge. Until it is added nothing comes through it. One of the same name is replaced.
    pub fn add_endpoint(&mut self, endpoint: Endpoint) {
        if self.wanted.endpoints.get(&endpoint.host_interface) == Some(&endpoint) {
            return;
        }
        self.remove_endpoint(&endpoint.host_interface);
        self.text.push_str(&base::neighbour_chain(&endpoint));
        self.text.push_str(&elements(Change::Add, &of_endpoint(&endpoint)));
        self.wanted.endpoints.insert(endpoint.host_interface.clone(), endpoint);
    }

    pub fn remove_endpoint(&mut self, host_interface: &str) {
        let Some(endpoint) = self.wanted.endpoints.remove(host_interface) else { return };
        self.text.push_str(&elements(Change::Delete, &of_endpoint(&endpoint)));
        self.text.push_str(&base::no_neighbour_chain(&endpoint));
    }

    /// The network with this bridge reaches what is listed and nothing else. An earlier list is replaced.
    pub fn add_limit(&mut self, bridge: &str, limit: Limit) {
        self.remove_limit(bridge);
        self.text.push_str(&limit.chains(bridge));
        self.text.push_str(&elements(Change::Add, &Limit::elements(bridge)));
        self.wanted.limits.insert(bridge.to_owned(), limit);
    }

    pub fn remove_limit(&mut self, bridge: &str) {
        let Some(limit) = self.wanted.limits.remove(bridge) else { return };
        self.text.push_str(&elements(Change::Delete, &Limit::elements(bridge)));
        self.text.push_str(&limit.no_chains(bridge));
    }

    /// Lets these addresses stand for the names of an entry, for `seconds` from the commit on.
    pub fn allow(&mut self, bridge: &str, entry: usize, addresses: &[IpAddr], seconds: u32) {
        if self.wanted.limits.contains_key(bridge) {
            self.text.push_str(&limit::answered(bridge, entry, addresses, seconds));
        }
    }

    /// Whether a commit would do nothing.
    pub fn is_settled(&self) -> bool {
        self.text.is_empty()
    }

    /// Gives the kernel everything since the last commit, in one transaction, or where it is too much for one in
    /// several, in the order in which it came.
    ///
    /// # Errors
    /// nft(8) is missing or refuses the changes: then the changes are forgotten. What the kernel has of them goes with
    /// the next commit.
    pub fn commit(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        for (number, part) in parts(&text).into_iter().enumerate() {
            let Err(error) = self.nft.apply(part) else { continue };
            self.wanted = self.committed.clone();
            if number > 0 || text.contains(base::HEAD) {
                self.text = self.everything();
            }
            return Err(error);
        }
        self.committed = self.wanted.clone();
        Ok(())
    }

    /// What makes the kernel's rules those that were committed, whatever they are.
    fn everything(&self) -> String {
        let mut again = Self::new(self.nft.clone(), self.uplinks.clone());
        let State { networks, endpoints, limits } = self.committed.clone();
        networks.into_values().for_each(|network| again.add_network(network));
        limits.into_iter().for_each(|(bridge, limit)| again.add_limit(&bridge, limit));
        endpoints.into_values().for_each(|endpoint| again.add_endpoint(endpoint));
        again.text
    }
}

/// What nft is given at once, in bytes. It sends one datagram, which in a user's own namespace takes twice
/// `net.core.wmem_max` at most (socket(7)), some 400 KiB: short rules are ten times as long there.
const AT_ONCE: usize = 16 << 10;

/// The text in pieces that nft takes; nearly always one. It is cut between commands.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut end, mut depth) = (Vec::new(), 0, 0, 0_usize);
    for line in text.split_inclusive('\n') {
        if depth == 0 && end > begin && end - begin + line.len() > AT_ONCE {
            parts.push(&text[begin..end]);
            begin = end;
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        end += line.len();
    }
    parts.push(&text[begin..]);
    parts
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Delete,
}

/// An element of a set or map: the family, the set, the element.
struct Element(&'static str, &'static str, String);

fn elements(change: Change, elements: &[Element]) -> String {
    let word = match change {
        Change::Add => "add",
        Change::Delete => "delete",
    };
    elements
        .iter()
        .map(|Element(family, set, text)| match change {
            // A map's element is deleted by its key.
            Change::Delete => {
                let key = text.split_once(" : ").map_or(text.as_str(), |(key, _)| key);
                format!("{word} element {family} sbx {set} {{ {key} }}\n")
            }
            Change::Add => format!("{word} element {family} sbx {set} {{ {text} }}\n"),
        })
        .collect()
}

fn of_network(network: &Network, others: &[&Network], uplinks: &Uplinks) -> Vec<Element> {
    let Network { bridge, gateways, internal, isolated, host_loopback } = network;
    let mut all = vec![Element("inet", "bridges", format!("\"{bridge}\""))];
    all.extend(gateways.iter().map(|gateway| match gateway {
        IpAddr::V4(address) => Element("inet", "gateways4", format!("\"{bridge}\" . {address}")),
        IpAddr::V6(address) => Element("inet", "gateways6", format!("\"{bridge}\" . {address}")),
    }));
    if !internal {
        all.push(Element("inet", "outward", format!("\"{bridge}\"")));
    }
    if *host_loopback && uplinks.host_loopback.is_some() {
        all.push(Element("inet", "to_host_loopback", format!("\"{bridge}\"")));
    }
    // Within one bridge, where br_netfilter shows bridged packets to this table.
    let mut pairs = BTreeSet::from([(bridge, bridge)]);
    if !isolated {
        for other in others.iter().filter(|other| !other.isolated) {
            pairs.extend([(bridge, &other.bridge), (&other.bridge, bridge)]);
        }
    }
    all.extend(pairs.into_iter().map(|(a, b)| Element("inet", "between", format!("\"{a}\" . \"{b}\""))));
    all
}

fn of_endpoint(endpoint: &Endpoint) -> Vec<Element> {
    let Endpoint { host_interface: name, mac_address: mac, addresses } = endpoint;
    let mut all = vec![
        Element("bridge", "ports", format!("\"{name}\" . {mac}")),
        Element("bridge", "addresses6", format!("\"{name}\" . {}", link_local(*mac))),
        Element("bridge", "neighbours", format!("\"{name}\" : jump {}", base::chain(name))),
    ];
    all.extend(addresses.iter().map(|address| match address {
        IpAddr::V4(address) => Element("bridge", "addresses4", format!("\"{name}\" . {address}")),
        IpAddr::V6(address) => Element("bridge", "addresses6", format!("\"{name}\" . {address}")),
    }));
    all
}

/// The address that an interface gives itself (RFC 4291, appendix A).
fn link_local(MacAddress([a, b, c, d, e, f]): MacAddress) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
