//! What `--net-allow` lists: hosts by name or address, with ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::network::Protocol;
use crate::network::bridge::rules;

/// The port of name servers (RFC 1035, section 4.2).
const DNS: u16 = 53;
/// Of a name, and of each of its labels (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// One value of `--net-allow`: `HOST[:PORT[-PORT]][/tcp|/udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub host: Host,
    /// Both ends included; none: every port, and what has no ports.
    pub ports: Option<(u16, u16)>,
    /// None: both TCP and UDP; without ports also what is neither.
    pub protocol: Option<Protocol>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Range(IpNet),
    /// Lower case, no dot at the end.
    Name(String),
    /// `*.example.org`: every name below this one, but not itself.
    Below(String),
}

/// Everything that one container may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    pub items: Vec<Item>,
}

impl List {
    /// # Errors
    /// The first item that is wrong.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let items = texts.iter().map(|text| Item::parse(text)).collect::<Result<_>>()?;
        Ok(Self { items })
    }

    /// Whether the addresses of a name may be asked for. `name` is in lower case, without a dot at the end.
    pub fn has_name(&self, name: &str) -> bool {
        self.entries_of(name).next().is_some()
    }

    /// The numbers of the items that a name belongs to.
    pub fn entries_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.items.iter().enumerate().filter(|(_, item)| item.host.matches(name)).map(|(number, _)| number)
    }

    /// The same for the packet filter, item by item.
    pub fn limit(&self) -> rules::Limit {
        rules::Limit { entries: self.items.iter().map(Item::entry).collect() }
    }
}

impl Item {
    /// # Errors
    /// It is not of that form, or names what no list can give.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|cause| {
            Error::new(format!("invalid value of `--net-allow`: `{}`", text.escape_debug()))
                .because(cause)
                .hint("write NAME, `*.NAME`, an address or CIDR range, then `:PORT` or `:FIRST-LAST`, then `/tcp` or `/udp`")
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("it is a URL, of which the host and its port are wanted".to_owned());
        }
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
            Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
            _ => (text, None),
        };
        let (host, ports) = split(rest)?;
        let ports = ports.map(read_ports).transpose()?;
        if ports == Some((DNS, DNS)) {
            return Err(
                "names are answered by the sandbox's own name server alone: port 53 of others is never \
                        reached"
                    .to_owned(),
            );
        }
        Ok(Self { host: Host::read(host)?, ports, protocol })
    }

    fn entry(&self) -> rules::Entry {
        let range = match &self.host {
            Host::Range(range) => Some(*range),
            Host::Name(_) | Host::Below(_) => None,
        };
        let protocols = match (self.protocol, self.ports) {
            (Some(one), _) => Some(vec![one]),
            (None, Some(_)) => Some(vec![Protocol::Tcp, Protocol::Udp]),
            (None, None) => None,
        };
        rules::Entry { range, protocols, ports: self.ports }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Range(IpNet::V6(range)) => write!(f, "[{range}]")?,
            Host::Range(range) => write!(f, "{range}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Below(name) => write!(f, "*.{name}")?,
        }
        match self.ports {
            Some((first, last)) if first == last => write!(f, ":{first}")?,
            Some((first, last)) => write!(f, ":{first}-{last}")?,
            None => {}
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

impl Host {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Range(_) => false,
            Self::Name(own) => own == name,
            Self::Below(own) => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        if let Some(range) = range(text) {
            return match range.addr() {
                address if address.is_loopback() => {
                    Err("the container's loopback interface is its own, and never filtered".to_owned())
                }
                address if address.is_multicast() => Err("multicast does not leave the container".to_owned()),
                _ => Ok(Self::Range(range)),
            };
        }
        if text.contains('/') {
            return Err("what stands before the slash is no address, or what follows it no length".to_owned());
        }
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Self::Below(name(rest)?)),
            None if text == "*" => Err("a list that allows every name is none".to_owned()),
            None => Ok(Self::Name(name(text)?)),
        }
    }
}

/// Parts the host from the ports. IPv6 addresses with ports have brackets, or a length.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        if range(host).is_none_or(|range| range.addr().is_ipv4()) {
            return Err("what is in brackets is no IPv6 address".to_owned());
        }
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after the bracket comes a colon".to_owned()),
        };
    }
    if range(text).is_some() {
        return Ok((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.contains('/') => {
            Err("an IPv6 address with a port is written in brackets".to_owned())
        }
        Some((host, ports)) => Ok((host, Some(ports))),
        None => Ok((text, None)),
    }
}

fn range(text: &str) -> Option<IpNet> {
    if let Ok(range) = text.parse::<IpNet>() {
        return Some(range.trunc());
    }
    match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => Some(Ipv4Net::from(address as Ipv4Addr).into()),
        IpAddr::V6(address) => Some(match address.to_ipv4_mapped() {
            Some(inner) => Ipv4Net::from(inner).into(),
            None => Ipv6Net::from(address as Ipv6Addr).into(),
        }),
    }
}

fn read_ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|port| digits && *port > 0)
            .ok_or("a port is a number from 1 to 65535".to_owned())
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err("the first port is above the last".to_owned());
    }
    Ok((first, last))
}

fn name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err("there is no host in it".to_owned());
    }
    if !name.is_ascii() {
        return Err("a name outside ASCII is written as the name server knows it: `xn--…`".to_owned());
    }
    if name.contains('*') {
        return Err("an asterisk stands for the first part of a name alone: `*.example.org`".to_owned());
    }
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > LONGEST_NAME || !name.split('.').all(good) {
        return Err("that is neither a name nor an address".to_owned());
    }
    // inet_aton(3) takes such names for addresses, and no name server is ever asked for them.
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Err("the last part of a name is no number, and an IPv4 address has four".to_owned());
    }
    Ok(name)
}

/// The list as typed, with the addresses of those names in it that the container's hosts file has: nobody asks a name
/// server for them.
///
/// # Errors
/// An item is wrong.
pub fn with_hosts(texts: &[String], hosts: &[(String, IpAddr)]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for text in texts {
        let item = Item::parse(text)?;
        all.push(item.to_string());
        let known = hosts.iter().filter(|(name, _)| item.host.matches(&name.to_ascii_lowercase()));
        let known = known.map(|(_, address)| Item { host: Host::Range((*address).into()), ..item.clone() });
        all.extend(known.map(|item| item.to_string()));
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_protocols_are_read() {
        for (text, shown) in [
            ("Git.Example.ORG.:443", "git.example.org:443"),
            ("example.org", "example.org"),
            ("example.org:8000-8010/tcp", "example.org:8000-8010/tcp"),
            ("*.example.org:443", "*.example.org:443"),
            ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.1:123/udp", "192.0.2.1/32:123/udp"),
            ("192.0.2.1/tcp", "192.0.2.1/32/tcp"),
            ("[2001:db8::1]:443", "[2001:db8::1/128]:443"),
            ("2001:db8::/32:443", "[2001:db8::/32]:443"),
            ("2001:db8::1", "[2001:db8::1/128]"),
            ("[2001:db8::/32]:443/udp", "[2001:db8::/32]:443/udp"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("localhost:80", "localhost:80"),
        ] {
            let item = Item::parse(text).unwrap();
            assert_eq!(item.to_string(), shown);
            assert_eq!(Item::parse(shown).unwrap(), item, "what is shown is read again");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "no host"),
            (":443", "no host"),
            ("*", "none"),
            ("*:443", "none"),
            ("a.*.org", "asterisk"),
            ("*.", "no host"),
            ("example.org:0", "65535"),
            ("example.org:65536", "65535"),
            ("example.org:+80", "65535"),
            ("example.org:", "65535"),
            ("example.org:90-80", "above"),
            ("example.org:53", "port 53"),
            ("192.0.2.53:53/udp", "port 53"),
            ("example.org/sctp", "slash"),
            ("10.0.0.0/33", "slash"),
            ("10.0.0:80", "four"),
            ("127.0.0.1:80", "its own"),
            ("[::1]:80", "its own"),
            ("224.0.0.1", "multicast"),
            ("[example.org]:80", "brackets"),
            ("[2001:db8::1", "closed"),
            ("bücher.example:443", "xn--"),
            ("a b.org", "neither"),
            ("https://example.org", "URL"),
        ] {
            let error = Item::parse(text).expect_err(text);
            assert!(error.causes().join(" ").contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_belongs_to_its_items_and_to_no_other() {
        let texts = ["example.org:443", "*.example.org", "192.0.2.1"].map(str::to_owned);
        let list = List::parse(&texts).unwrap();
        for (name, entries) in [
            ("example.org", &[0][..]),
            ("www.example.org", &[1]),
            ("a.b.example.org", &[1]),
            (".example.org", &[]),
            ("notexample.org", &[]),
            ("example.org.evil.net", &[]),
            ("192.0.2.1", &[]),
        ] {
            assert_eq!(list.entries_of(name).collect::<Vec<_>>(), entries, "{name}");
        }
    }

    #[test]
    fn names_of_the_hosts_file_come_with_their_addresses() {
        let texts = ["db.local:5432/tcp", "other.local"].map(str::to_owned);
        let hosts = [("DB.local".to_owned(), "192.0.2.7".parse().unwrap())];
        let all = with_hosts(&texts, &hosts).unwrap();
        assert_eq!(all, ["db.local:5432/tcp", "192.0.2.7/32:5432/tcp", "other.local"]);
    }
}
