//! A network that reaches only what a list names (`--net-allow`).

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Element;
use crate::network::Protocol;

/// The group of NFLOG that refused packets are reported to; the prefix of each is the bridge's name.
pub const GROUP: u16 = 1;

/// How a packet is refused so that its sender learns of it at once.
pub const REFUSE: &str = "    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
";

/// Packets of one network that are reported, for each second and at once. What goes beyond is refused all the same.
const REPORTED: &str = "limit rate 50/second burst 100 packets";

/// What may be reached, entry by entry. An entry's number is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// None: the addresses that a name server answered, given by [`super::Rules::allow`].
    pub range: Option<IpNet>,
    /// None: every protocol; then there are no ports either.
    pub protocols: Option<Vec<Protocol>>,
    /// Both ends included; none: all ports.
    pub ports: Option<(u16, u16)>,
}

impl Limit {
    pub(super) fn chains(&self, bridge: &str) -> String {
        let (mut text, name) = (String::new(), chain(bridge));
        let _ = writeln!(text, "add chain inet sbx {name}\nadd chain inet sbx {name}_refused");
        // Names are answered by the namespace's own server alone, which knows what it may answer.
        let _ = writeln!(
            text,
            "add rule inet sbx {name} meta l4proto {{ tcp, udp }} th dport 53 goto {name}_refused"
        );
        for (number, entry) in self.entries.iter().enumerate() {
            let what = entry.what();
            match entry.range {
                Some(range) => {
                    let family = if range.addr().is_ipv4() { "ip" } else { "ip6" };
                    let _ = writeln!(text, "add rule inet sbx {name} {family} daddr {range} {what}return");
                }
                None => {
                    for (family, kind) in [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")] {
                        let set = set(bridge, number, family == "ip6");
                        let _ = writeln!(
                            text,
                            "add set inet sbx {set} {{ type {kind}; flags timeout; }}\n\
                             add rule inet sbx {name} {family} daddr @{set} {what}return"
                        );
                    }
                }
            }
        }
        let _ = writeln!(
            text,
            "add rule inet sbx {name} goto {name}_refused\n\
             add rule inet sbx {name}_refused {REPORTED} log prefix \"{bridge}\" group {GROUP} snaplen 128"
        );
        for line in REFUSE.lines() {
            let _ = writeln!(text, "add rule inet sbx {name}_refused {}", line.trim());
        }
        text
    }

    pub(super) fn no_chains(&self, bridge: &str) -> String {
        let name = chain(bridge);
        let mut text = String::new();
        for what in ["flush", "delete"] {
            let _ = writeln!(text, "{what} chain inet sbx {name}\n{what} chain inet sbx {name}_refused");
        }
        for (number, _) in self.entries.iter().enumerate().filter(|(_, entry)| entry.range.is_none()) {
            for six in [false, true] {
                let _ = writeln!(text, "delete set inet sbx {}", set(bridge, number, six));
            }
        }
        text
    }

    pub(super) fn elements(bridge: &str) -> Vec<Element> {
        let name = chain(bridge);
        vec![
            Element("inet", "limited", format!("\"{bridge}\" : jump {name}")),
            Element("inet", "limited_input", format!("\"{bridge}\" : goto {name}_refused")),
        ]
    }
}

impl Entry {
    fn what(&self) -> String {
        let Some(protocols) = &self.protocols else { return String::new() };
        let words: Vec<String> = protocols.iter().map(Protocol::to_string).collect();
        let protocols = format!("meta l4proto {{ {} }} ", words.join(", "));
        match self.ports {
            Some((first, last)) if first == last => format!("{protocols}th dport {first} "),
            Some((first, last)) => format!("{protocols}th dport {first}-{last} "),
            None => protocols,
        }
    }
}

/// An address that is there already gets the new time: kernels before 6.12 keep the old one where it is only added.
pub(super) fn answered(bridge: &str, entry: usize, addresses: &[IpAddr], seconds: u32) -> String {
    let mut text = String::new();
    for address in addresses {
        let set = set(bridge, entry, address.is_ipv6());
        let _ = writeln!(
            text,
            "add element inet sbx {set} {{ {address} }}\ndelete element inet sbx {set} {{ {address} }}\n\
             add element inet sbx {set} {{ {address} timeout {seconds}s }}"
        );
    }
    text
}

fn chain(bridge: &str) -> String {
    format!("to_{bridge}")
}

fn set(bridge: &str, entry: usize, six: bool) -> String {
    format!("{}_{entry}_{}", chain(bridge), if six { 6 } else { 4 })
}
