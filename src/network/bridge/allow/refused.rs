//! Packets that were refused, as NFLOG tells of them (linux/netfilter/nfnetlink_log.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attributes::{Message, attribute, put, request};
use crate::network::bridge::rules::GROUP;

/// NFNL_SUBSYS_ULOG, and its messages NFULNL_MSG_PACKET and NFULNL_MSG_CONFIG.
const SUBSYSTEM: u8 = 4;
const PACKET: u8 = 0;
const CONFIG: u8 = 1;
/// Attributes of a packet: NFULA_PAYLOAD and NFULA_PREFIX.
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// Attributes of a configuration: NFULA_CFG_CMD with NFULNL_CFG_CMD_BIND, NFULA_CFG_MODE with NFULNL_COPY_PACKET, and
/// NFULA_CFG_QTHRESH, the packets that the kernel gathers before it tells.
const COMMAND: u16 = 1;
const BIND: u8 = 1;
const MODE: u16 = 2;
const COPY_PACKET: u8 = 2;
const THRESHOLD: u16 = 5;
/// NLM_F_REQUEST and NLM_F_ACK (netlink(7)).
const FLAGS: u16 = 1 | 4;
/// Bytes of a packet that are told: the headers, with the extensions of IPv6.
const SNAP: u32 = 128;
/// Protocol numbers (RFC 9293, 768, 792, 4443).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a refused packet was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    pub protocol: u8,
    pub address: IpAddr,
    /// Where the protocol has ports and the packet has its beginning.
    pub port: Option<u16>,
}

/// A refused packet, and the prefix of the rule that refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub prefix: String,
    pub target: Target,
}

/// What makes a socket the listener of [`GROUP`], as two messages.
pub fn listen() -> [Vec<u8>; 2] {
    let (mut bind, mut mode) = (Vec::new(), Vec::new());
    put(&mut bind, COMMAND, &[BIND]);
    let [a, b, c, d] = SNAP.to_be_bytes();
    put(&mut mode, MODE, &[a, b, c, d, COPY_PACKET, 0]);
    put(&mut mode, THRESHOLD, &1_u32.to_be_bytes());
    [bind, mode].map(|attributes| request(SUBSYSTEM, CONFIG, FLAGS, 0, GROUP, &attributes))
}

/// Reads a message; none: it is about something else, or makes no sense.
pub fn read(message: &Message<'_>) -> Option<Refused> {
    if (message.subsystem, message.kind) != (SUBSYSTEM, PACKET) {
        return None;
    }
    let prefix = attribute(message.attributes, PREFIX)?;
    let prefix = String::from_utf8_lossy(prefix).trim_end_matches('\0').to_owned();
    Some(Refused { prefix, target: target(attribute(message.attributes, PAYLOAD)?)? })
}

/// Where a packet was to go: the headers of IPv4 (RFC 791) and IPv6 (RFC 8200).
pub fn target(packet: &[u8]) -> Option<Target> {
    match packet.first()? >> 4 {
        4 => {
            let head = packet.first_chunk::<20>()?;
            let address = Ipv4Addr::from(*head[16..].first_chunk::<4>()?);
            let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x1fff;
            let body = packet.get(usize::from(head[0] & 15) * 4..).filter(|_| fragment == 0);
            Some(Target { protocol: head[9], address: address.into(), port: port(head[9], body) })
        }
        6 => {
            let head = packet.first_chunk::<40>()?;
            let address = Ipv6Addr::from(*head[24..].first_chunk::<16>()?);
            let (protocol, body) = beyond_extensions(head[6], &packet[40..]);
            Some(Target { protocol, address: address.into(), port: port(protocol, body) })
        }
        _ => None,
    }
}

fn port(protocol: u8, body: Option<&[u8]>) -> Option<u16> {
    match protocol {
        TCP | UDP => body?.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]])),
        _ => None,
    }
}

/// Skips hop-by-hop and destination options, routing headers and the header of a first fragment. Each takes eight
/// bytes at least, so that this ends.
fn beyond_extensions(first: u8, packet: &[u8]) -> (u8, Option<&[u8]>) {
    let (mut kind, mut rest) = (first, Some(packet));
    while let (0 | 43 | 44 | 60, Some(bytes)) = (kind, rest) {
        let Some(head) = bytes.first_chunk::<8>() else { return (kind, None) };
        let length = if kind == 44 { 8 } else { 8 + usize::from(head[1]) * 8 };
        let later = kind == 44 && u16::from_be_bytes([head[2], head[3]]) >> 3 != 0;
        kind = head[0];
        rest = bytes.get(length..).filter(|_| !later);
    }
    (kind, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7];
        packet.extend(body);
        packet
    }

    fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend([0; 16]);
        packet.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(body);
        packet
    }

    #[test]
    fn targets_are_read() {
        let ports = [0x80, 0, 1, 0xbb];
        let found = target(&ipv4(TCP, &ports)).unwrap();
        assert_eq!(
            (found.protocol, found.address.to_string(), found.port),
            (6, "192.0.2.7".into(), Some(443))
        );
        assert_eq!(target(&ipv4(1, &ports)).unwrap().port, None, "ICMP has no ports");
        let mut options = ipv4(UDP, &[0; 4]);
        options[0] = 0x46;
        options.extend(ports);
        assert_eq!(target(&options).unwrap().port, Some(443));
        let mut fragment = ipv4(UDP, &ports);
        fragment[7] = 1;
        assert_eq!(target(&fragment).unwrap().port, None, "a later fragment");
        assert_eq!(target(&ipv6(UDP, &ports)).unwrap().port, Some(443));
        let extended = ipv6(0, &[&[60, 0, 0, 0, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0], &ports[..]].concat());
        assert_eq!(target(&extended).unwrap().port, Some(443));
        assert_eq!(target(&extended).unwrap().protocol, TCP);
    }

    #[test]
    fn no_length_of_a_hostile_packet_is_believed() {
        let ports = [0x80, 0, 1, 0xbb];
        let long = ipv6(0, &[&[6, 255, 0, 0, 0, 0, 0, 0], &ports[..]].concat());
        for packet in [ipv4(TCP, &ports), ipv6(44, &[&[17, 0, 0, 0, 0, 0, 0, 0], &ports[..]].concat()), long]
        {
            for length in 0..packet.len() {
                let _ = target(&packet[..length]);
            }
        }
        let mut short = ipv4(TCP, &ports);
        short[0] = 0x4f;
        assert_eq!(target(&short).unwrap().port, None);
        assert_eq!(target(&[0x50; 60]), None);
    }
}
