//! Which address of a network a container gets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::network::mac::MacAddress;
use crate::network::named::Subnet;

/// What is known when an address is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    pub subnet: &'a Subnet,
    /// The addresses that others have.
    pub taken: &'a BTreeSet<IpAddr>,
    /// What the user asked for.
    pub asked: Option<IpAddr>,
    /// What the container had before.
    pub before: &'a [IpAddr],
    /// The one that was given last: the next one follows it, so that an address is not another's at once.
    pub last: Option<IpAddr>,
}

impl Choice<'_> {
    /// # Errors
    /// What was asked for is another's or not to be had; all are taken.
    pub fn make(&self) -> Result<IpAddr> {
        if let Some(asked) = self.asked {
            return self.check(asked).map(|()| asked);
        }
        if let Some(before) = self.before.iter().find(|before| self.is_free(**before)) {
            return Ok(*before);
        }
        let (first, end) = self.range();
        let after = self.last.map(number).filter(|last| (first..end).contains(last)).map_or(first, |n| n + 1);
        // One more than there are addresses that cannot be had is enough.
        let enough = self.taken.len() + 4;
        (after..=end)
            .take(enough)
            .chain((first..=end).take(enough))
            .map(|candidate| self.address(candidate))
            .find(|candidate| self.is_free(*candidate))
            .ok_or_else(|| {
                Error::new(format!("no address of {} is free", self.subnet.subnet))
                    .hint("remove containers, or make a network with a larger `--subnet`")
            })
    }

    fn check(&self, asked: IpAddr) -> Result<()> {
        let failed = || Error::new(format!("cannot use the address {asked}"));
        if !self.subnet.subnet.contains(&asked) {
            return Err(failed().because(format!("it is not in the network's {}", self.subnet.subnet)));
        }
        if self.taken.contains(&asked) {
            return Err(failed().because("another container has it"));
        }
        if self.is_special(asked) {
            return Err(failed().because("it is the network's own: its gateway, its first or its last"));
        }
        Ok(())
    }

    fn is_free(&self, candidate: IpAddr) -> bool {
        self.subnet.subnet.contains(&candidate)
            && !self.taken.contains(&candidate)
            && !self.is_special(candidate)
    }

    fn is_special(&self, address: IpAddr) -> bool {
        let last = address.is_ipv4() && address == self.subnet.subnet.broadcast();
        address == self.subnet.gateway || address == self.subnet.subnet.network() || last
    }

    fn range(&self) -> (u128, u128) {
        let (first, last) =
            self.subnet.range.unwrap_or((self.subnet.subnet.network(), self.subnet.subnet.broadcast()));
        (number(first), number(last))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet.subnet {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The MAC address that follows from an IP address, so that neighbours that remember it are right when somebody has it
/// again: of local administration, as docker's are.
pub fn mac_address(address: IpAddr) -> MacAddress {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    MacAddress([0x02, if address.is_ipv4() { 0x42 } else { 0x46 }, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str, gateway: &str) -> Subnet {
        Subnet { subnet: text.parse().unwrap(), gateway: gateway.parse().unwrap(), range: None }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn choice<'a>(subnet: &'a Subnet, taken: &'a BTreeSet<IpAddr>) -> Choice<'a> {
        Choice { subnet, taken, asked: None, before: &[], last: None }
    }

    #[test]
    fn addresses_are_given_one_after_another() {
        let subnet = subnet("10.89.0.0/24", "10.89.0.1");
        let mut taken = BTreeSet::new();
        assert_eq!(choice(&subnet, &taken).make().unwrap(), ip("10.89.0.2"));
        taken.insert(ip("10.89.0.3"));
        let next = Choice { last: Some(ip("10.89.0.2")), ..choice(&subnet, &taken) };
        assert_eq!(next.make().unwrap(), ip("10.89.0.4"));
        let wrapped = Choice { last: Some(ip("10.89.0.254")), ..choice(&subnet, &taken) };
        assert_eq!(wrapped.make().unwrap(), ip("10.89.0.2"));
        let again = Choice { before: &[ip("10.89.0.77")], ..choice(&subnet, &taken) };
        assert_eq!(again.make().unwrap(), ip("10.89.0.77"));
    }

    #[test]
    fn a_full_network_says_so() {
        let subnet = subnet("10.89.0.0/30", "10.89.0.1");
        let taken = BTreeSet::from([ip("10.89.0.2")]);
        let error = choice(&subnet, &taken).make().unwrap_err();
        assert!(error.report().contains("10.89.0.0/30"), "{}", error.report());
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        let subnet = subnet("10.89.0.0/24", "10.89.0.1");
        let taken = BTreeSet::from([ip("10.89.0.9")]);
        for (asked, cause) in [
            ("10.90.0.1", "not in"),
            ("10.89.0.9", "another container"),
            ("10.89.0.1", "gateway"),
            ("10.89.0.255", "last"),
            ("10.89.0.0", "first"),
        ] {
            let error = Choice { asked: Some(ip(asked)), ..choice(&subnet, &taken) }.make().unwrap_err();
            assert!(error.report().contains(cause), "{asked}: {}", error.report());
        }
    }

    #[test]
    fn ranges_and_ipv6_are_kept_to() {
        let mut subnet = subnet("fd00:1::/64", "fd00:1::1");
        let taken = BTreeSet::new();
        assert_eq!(choice(&subnet, &taken).make().unwrap(), ip("fd00:1::2"));
        subnet.range = Some((ip("fd00:1::ff"), ip("fd00:1::100")));
        assert_eq!(choice(&subnet, &taken).make().unwrap(), ip("fd00:1::ff"));
        assert_eq!(mac_address(ip("10.89.0.2")).to_string(), "02:42:0a:59:00:02");
    }
}
