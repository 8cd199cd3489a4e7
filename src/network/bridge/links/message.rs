//! The requests themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Bridge, Plug};
use crate::network::mac::MacAddress;

/// A message with its NLM_F_* flags.
pub type Request = (RouteNetlinkMessage, u16);

/// What the firewall marks for transparent sockets, and the table that is theirs.
const MARK: u32 = 1;
const TABLE: u8 = 100;
const PRIORITY: u32 = 100;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

pub fn bridge(bridge: &Bridge<'_>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(bridge.name.to_owned()),
        // Without one of its own a bridge takes that of a port, and another when the port goes.
        LinkAttribute::Address(gateway_mac(bridge.addresses).to_vec()),
        LinkAttribute::Mtu(bridge.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                // There are no loops, and no time to look for them.
                InfoBridge::ForwardDelay(0),
                InfoBridge::StpState(BridgeStpState::Disabled),
                // Snooping without a querier loses what IPv6 needs to find its neighbours.
                InfoBridge::MulticastSnooping(false),
            ])),
        ]),
    ];
    RouteNetlinkMessage::NewLink(message)
}

/// A locally administered address, the same for the same network.
fn gateway_mac(addresses: &[IpNet]) -> [u8; 6] {
    let [a, b, c, d] = match addresses.first().map(IpNet::addr) {
        Some(IpAddr::V4(ip)) => ip.octets(),
        Some(IpAddr::V6(ip)) => ip.octets().chunks(4).fold([0; 4], |mut sum, chunk| {
            sum.iter_mut().zip(chunk).for_each(|(sum, byte)| *sum ^= byte);
            sum
        }),
        None => [0, 0, 0, 1],
    };
    [0x66, 0x42, a, b, c, d]
}

/// Makes a pair, one end under its last name in the container's namespace at once.
pub fn veth(plug: &Plug<'_>, namespace: BorrowedFd<'_>) -> RouteNetlinkMessage {
    // A queue for each processor, the default, takes memory and time and serves nothing but XDP.
    let one_queue = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(plug.interface.to_owned()),
        LinkAttribute::Address(plug.mac.0.to_vec()),
        LinkAttribute::Mtu(plug.mtu),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    peer.attributes.extend(one_queue.clone());
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(plug.host_interface.to_owned()), LinkAttribute::Mtu(plug.mtu)];
    message.attributes.extend(one_queue);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

/// Makes an interface a bridge's port, and brings it up.
pub fn into_bridge(index: u32, bridge: u32) -> RouteNetlinkMessage {
    let mut message = with_up(index);
    message.attributes = vec![LinkAttribute::Controller(bridge)];
    RouteNetlinkMessage::SetLink(message)
}

pub fn up(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(with_up(index))
}

pub fn mtu(index: u32, mtu: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Mtu(mtu)];
    RouteNetlinkMessage::SetLink(message)
}

/// Gives an interface the address that it has: the kernel takes that for news, and tells the neighbours (ip-sysctl.rst,
/// arp_notify and ndisc_notify).
pub fn announce(index: u32, mac: MacAddress) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Address(mac.0.to_vec())];
    RouteNetlinkMessage::SetLink(message)
}

fn with_up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

pub fn get(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(named(name))
}

pub fn get_index(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::GetLink(message)
}

pub fn remove(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(named(name))
}

/// All interfaces, with NLM_F_DUMP.
pub fn list() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    message
}

/// An address that nobody else has: it is not asked for.
pub fn address(index: u32, net: &IpNet) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.flags = AddressHeaderFlags::Nodad;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Address(net.addr()),
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    if let IpNet::V4(net) = net
        && net.prefix_len() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
    }
    RouteNetlinkMessage::NewAddress(message)
}

pub fn default_route(index: u32, gateway: IpAddr, metric: u32) -> RouteNetlinkMessage {
    let mut message = route(gateway.is_ipv6());
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
        RouteAttribute::Oif(index),
        RouteAttribute::Priority(metric),
    ];
    RouteNetlinkMessage::NewRoute(message)
}

/// What the kernel's IPv6 prefers its own routes by (IP6_RT_PRIO_ADDRCONF); those of IPv4 have no number.
const OF_AN_ADDRESS: u32 = 256;

/// The route that the kernel has made for an address of an interface, with packets of at most `mtu` bytes.
pub fn network_route(index: u32, net: &IpNet, mtu: u32) -> RouteNetlinkMessage {
    let mut message = direct(index, net.network(), net.prefix_len());
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    match net.addr() {
        address @ IpAddr::V4(_) => {
            message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(address)));
        }
        IpAddr::V6(_) => message.attributes.push(RouteAttribute::Priority(OF_AN_ADDRESS)),
    }
    RouteNetlinkMessage::NewRoute(message)
}

/// To one neighbour, with packets as long as the interface lets through.
pub fn neighbour_route(index: u32, address: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewRoute(direct(index, address, if address.is_ipv6() { 128 } else { 32 }))
}

fn direct(index: u32, to: IpAddr, prefix: u8) -> RouteMessage {
    let mut message = route(to.is_ipv6());
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Kernel;
    message.header.scope = if to.is_ipv6() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Destination(RouteAddress::from(to)), RouteAttribute::Oif(index)];
    message
}

/// `ip rule add fwmark 1 lookup 100` and `ip route add local default dev lo table 100`.
pub fn transparent(ipv6: bool) -> Vec<Request> {
    let mut rule = RuleMessage::default();
    rule.header.family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    rule.header.table = TABLE;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![RuleAttribute::Priority(PRIORITY), RuleAttribute::FwMark(MARK)];
    let mut route = route(ipv6);
    route.header.table = TABLE;
    route.header.scope = RouteScope::Host;
    route.header.kind = RouteType::Local;
    route.attributes = vec![RouteAttribute::Oif(LOOPBACK)];
    vec![
        (RouteNetlinkMessage::NewRule(rule), NLM_F_CREATE | NLM_F_EXCL),
        (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE),
    ]
}

/// All routes of a family, with NLM_F_DUMP.
pub fn routes(ipv6: bool) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    RouteNetlinkMessage::GetRoute(message)
}

/// Which way a packet to `address` would go.
pub fn route_to(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv6() { 128 } else { 32 };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address))];
    RouteNetlinkMessage::GetRoute(message)
}

/// To everywhere.
fn route(ipv6: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.protocol = RouteProtocol::Static;
    let everywhere: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    message.header.address_family = family(everywhere);
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
