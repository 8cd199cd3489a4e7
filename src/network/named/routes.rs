//! The routes of the host: a new network that takes the addresses of one would hide what lies there.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Wider routes than this lead everywhere, as the default route does, though a VPN divides it into halves.
const WIDEST: u8 = 7;

/// Those of the caller's network namespace; what cannot be read has none.
pub(super) fn of_the_host() -> Vec<IpNet> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut routes = parse_v4(&read("/proc/self/net/route"));
    routes.extend(parse_v6(&read("/proc/self/net/ipv6_route")));
    routes
}

/// Linux net/ipv4/fib_trie.c, fib_route_seq_show: `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, the
/// addresses as hexadecimal numbers in the order of the machine's bytes.
fn parse_v4(text: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (destination, mask) = (number(fields.nth(1)?)?, number(fields.nth(5)?)?);
        let net = Ipv4Net::with_netmask(destination, mask).ok()?;
        (net.prefix_len() > WIDEST).then_some(IpNet::V4(net.trunc()))
    };
    text.lines().skip(1).filter_map(route).collect()
}

fn number(text: &str) -> Option<Ipv4Addr> {
    u32::from_str_radix(text, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()))
}

/// Linux net/ipv6/route.c, rt6_info_route: destination and length of its prefix, both hexadecimal, then the rest.
fn parse_v6(text: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let destination = fields.next().filter(|digits| digits.len() == 32)?;
        let destination = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
        let net = Ipv6Net::new(destination, u8::from_str_radix(fields.next()?, 16).ok()?).ok()?;
        (net.prefix_len() > WIDEST).then_some(IpNet::V6(net.trunc()))
    };
    text.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_of_both_families_are_read_and_the_default_is_left_out() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
            tun0\t0000590A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            broken\tzz\n";
        let shown = |routes: Vec<IpNet>| routes.iter().map(IpNet::to_string).collect::<Vec<_>>();
        assert_eq!(shown(parse_v4(v4)), ["192.168.2.0/24", "10.89.0.0/16"]);
        let v6 = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001 eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n";
        assert_eq!(shown(parse_v6(v6)), ["2001:db8::/64"]);
        assert!(parse_v4("").is_empty() && parse_v6("x y\n").is_empty());
    }
}
