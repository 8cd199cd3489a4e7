//! What holds from the start, before there is a network.

use std::fmt::Write;
use std::net::IpAddr;

use super::{Endpoint, TRANSPARENT_MARK, Uplinks, limit, link_local};

/// Begins the text; nothing else contains it.
pub const HEAD: &str = "add table inet sbx\ndelete table inet sbx\n";

/// What a helper would connect to its host's loopback interface, whatever it was told: it has the addresses from the
/// packet, and asks the host's kernel. An unspecified address means loopback there, and so does an IPv4 address in an
/// IPv6 one (RFC 4291, 2.5.5), which this namespace would route like any other. No program asks for these: only
/// packets out of a raw socket have them.
const OF_THE_HOST_4: &[&str] = &["0.0.0.0/8", "127.0.0.0/8"];
const OF_THE_HOST_6: &[&str] = &["::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "fe80::/10"];

/// The base ruleset.
///
/// In table `bridge sbx` a frame passes only when its port is known and everything in it that says where it comes
/// from is that port's: the sender's MAC and IP address, those in ARP, and what neighbour advertisements announce.
/// So it holds for containers with CAP_NET_RAW and CAP_NET_ADMIN too. Frames with a VLAN tag and of other protocols
/// do not pass: their insides would not have been looked at.
///
/// A bridge hands frames for the group addresses 01:80:c2:00:00:0X to the port itself, past that chain
/// (`br_handle_frame`), and a port that is in no bridge yet, or no more, keeps all of its frames: so table `inet sbx`
/// takes nothing that came in by a port.
pub fn text(uplinks: &Uplinks) -> String {
    let Uplinks { interfaces, host_loopback } = uplinks;
    let mut blocked = String::new();
    let ways = interfaces.iter().map(|uplink| &uplink.interface);
    for interface in ways.chain(host_loopback.as_ref().map(|way| &way.interface)) {
        for (family, ranges) in [("ip", OF_THE_HOST_4), ("ip6", OF_THE_HOST_6)] {
            let _ = writeln!(
                blocked,
                "    oifname \"{interface}\" {family} daddr {{ {} }} goto refuse",
                ranges.join(", ")
            );
        }
    }
    let mut ranges = String::new();
    for uplink in interfaces {
        for range in &uplink.ranges {
            let (family, interface) = (family(range.addr()), &uplink.interface);
            let _ = writeln!(ranges, "    oifname \"{interface}\" {family} daddr {range} goto refuse");
        }
    }
    let quoted = |name: &String| format!("\"{name}\"");
    let names: Vec<String> = interfaces.iter().map(|uplink| quoted(&uplink.interface)).collect();
    let mut all = names.clone();
    let loopback = host_loopback.as_ref().map_or_else(String::new, |way| {
        all.push(quoted(&way.interface));
        format!(
            "    oifname \"{0}\" iifname @to_host_loopback ip daddr {1} accept\n    oifname \"{0}\" goto refuse\n",
            way.interface, way.address
        )
    });
    let mut entries = all.clone();
    entries.push("lo".to_owned());
    let entries = set(&entries).unwrap_or_default();
    let (names, all) = (set(&names), set(&all));
    let out = names
        .as_ref()
        .map_or_else(String::new, |names| format!("{ranges}    iifname @outward oifname {names} accept\n"));
    let masquerade = all.as_ref().map_or_else(String::new, |all| format!("    oifname {all} masquerade\n"));
    let from_uplinks = all.as_ref().map_or_else(String::new, |all| {
        format!(
            "    iifname {all} icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept\n"
        )
    });
    let refuse = limit::REFUSE;
    format!(
        "{HEAD}\
add table bridge sbx
delete table bridge sbx
table bridge sbx {{
  set ports {{ type ifname . ether_addr; }}
  set addresses4 {{ type ifname . ipv4_addr; }}
  set addresses6 {{ type ifname . ipv6_addr; }}
  map neighbours {{ type ifname : verdict; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy drop;
    iifname . ether saddr != @ports drop
    ether type arp goto arp_frames
    ether type ip goto ip_frames
    ether type ip6 goto ip6_frames
  }}
  chain arp_frames {{
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 jump arp_senders
    drop
  }}
  chain arp_senders {{
    iifname . arp saddr ether != @ports drop
    arp operation request arp saddr ip 0.0.0.0 accept
    iifname . arp saddr ip @addresses4 accept
  }}
  chain ip_frames {{
    iifname . ip saddr != @addresses4 drop
    udp sport 67 drop
    icmp type redirect drop
    accept
  }}
  chain ip6_frames {{
    icmpv6 type {{ nd-router-advert, nd-redirect }} drop
    udp sport 547 drop
    icmpv6 type nd-neighbor-advert iifname vmap @neighbours
    icmpv6 type nd-neighbor-advert drop
    iifname . ip6 saddr @addresses6 accept
    ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname vmap @neighbours
    ip6 saddr :: icmpv6 type mld2-listener-report accept
  }}
}}
table inet sbx {{
  set bridges {{ type ifname; }}
  set outward {{ type ifname; }}
  set to_host_loopback {{ type ifname; }}
  set between {{ type ifname . ifname; }}
  set gateways4 {{ type ifname . ipv4_addr; }}
  set gateways6 {{ type ifname . ipv6_addr; }}
  map limited {{ type ifname : verdict; }}
  map limited_input {{ type ifname : verdict; }}
  chain entry {{
    type filter hook prerouting priority raw; policy drop;
    iifname {entries} accept
    iifname @bridges accept
  }}
  chain transparent {{
    type filter hook prerouting priority mangle; policy accept;
    socket transparent 1 meta mark set {TRANSPARENT_MARK}
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname lo accept
    ct state established,related accept
    ct state invalid drop
{from_uplinks}    iifname @bridges icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname . ip daddr @gateways4 jump services
    iifname . ip6 daddr @gateways6 jump services
    meta pkttype {{ broadcast, multicast }} drop
    iifname vmap @limited_input
    iifname @bridges goto refuse
  }}
  chain services {{
    meta l4proto {{ tcp, udp }} th dport 53 accept
    icmp type echo-request accept
    icmpv6 type echo-request accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname . oifname @between accept
    iifname vmap @limited
{loopback}{blocked}{out}    iifname @bridges goto refuse
  }}
  chain refuse {{
{refuse}  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{masquerade}  }}
}}
"
    )
}

/// The name of the chain for one port.
pub fn chain(interface: &str) -> String {
    format!("of_{interface}")
}

/// What this port may announce, or look for before it has an address: its own addresses. The target is
/// at the eighth byte of both messages (RFC 4861, 4.3 and 4.4); nft before 1.0.8 has no word for it.
pub fn neighbour_chain(endpoint: &Endpoint) -> String {
    let name = chain(&endpoint.host_interface);
    let own = endpoint.addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    let own: Vec<String> = std::iter::once(link_local(endpoint.mac_address))
        .chain(own)
        .map(|address| format!("{:#x}", address.to_bits()))
        .collect();
    let own = own.join(", ");
    format!(
        "add chain bridge sbx {name}\nflush chain bridge sbx {name}\n\
         add rule bridge sbx {name} icmpv6 type nd-neighbor-advert iifname . ip6 saddr != @addresses6 drop\n\
         add rule bridge sbx {name} @th,64,128 {{ {own} }} accept\n\
         add rule bridge sbx {name} drop\n"
    )
}

pub fn no_neighbour_chain(endpoint: &Endpoint) -> String {
    let name = chain(&endpoint.host_interface);
    format!("flush chain bridge sbx {name}\ndelete chain bridge sbx {name}\n")
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

/// An anonymous set; none: nothing to choose from.
fn set(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("{{ {} }}", names.join(", ")))
}
