//! `-p` as docker and podman write it: words become requests (pure), requests become mappings ([`resolve`]).

use std::net::{IpAddr, Ipv6Addr};

pub use super::free_ports::{Reserved, resolve};
use super::{PortMapping, Protocol};
use crate::error::{Error, Result};

/// One port to publish, before its host port is known to be free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// None: every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    pub host_port: HostPort,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl From<&PortMapping> for PortRequest {
    fn from(mapping: &PortMapping) -> Self {
        Self {
            host_ip: mapping.host_ip,
            host_port: HostPort::Fixed(mapping.host_port),
            container_port: mapping.container_port,
            protocol: mapping.protocol,
        }
    }
}

/// What was said about the port on the host's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    Fixed(u16),
    /// A free port of the kernel's ephemeral range.
    Random,
    /// The first free one of these, both ends included (`8000-8010:80`).
    Within(u16, u16),
}

/// Reads one `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, where HOST and CONTAINER are ports or ranges `A-B`, and an
/// IPv6 address stands in brackets. A range gives a request for each of its ports.
pub fn parse(text: &str) -> Result<Vec<PortRequest>> {
    read(text).map_err(|cause| {
        Error::new(format!("invalid port `{text}`")).because(cause).hint(
            "write `-p [[IP:]HOST:]CONTAINER[/tcp|/udp]`, such as `8080:80`, `127.0.0.1:8080:80` or `80`",
        )
    })
}

fn read(text: &str) -> Result<Vec<PortRequest>, String> {
    let (addresses, protocol) = match text.split_once('/') {
        Some((addresses, protocol)) => (addresses, read_protocol(protocol)?),
        None => (text, Protocol::Tcp),
    };
    let (host, container) = match addresses.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, addresses),
    };
    let (host_ip, host) = match host {
        Some(host) => split_address(host)?,
        None => (None, ""),
    };
    let (first, last) = read_range(container, "container")?;
    if first == 0 {
        return Err("a container port is a number from 1 to 65535".to_owned());
    }
    let request = |host_port, container_port| PortRequest { host_ip, host_port, container_port, protocol };
    if host.is_empty() || host == "0" {
        return Ok((first..=last).map(|port| request(HostPort::Random, port)).collect());
    }
    let (host_first, host_last) = read_range(host, "host")?;
    if host_first == 0 {
        return Err("a range of host ports starts at 1 or above".to_owned());
    }
    if first == last && host_first != host_last {
        return Ok(vec![request(HostPort::Within(host_first, host_last), first)]);
    }
    if host_last - host_first != last - first {
        return Err(format!(
            "the ranges differ in length: {} host ports for {} container ports",
            u32::from(host_last - host_first) + 1,
            u32::from(last - first) + 1
        ));
    }
    Ok((host_first..=host_last)
        .zip(first..=last)
        .map(|(host, port)| request(HostPort::Fixed(host), port))
        .collect())
}

fn read_protocol(word: &str) -> Result<Protocol, String> {
    match word.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err("neither slirp4netns nor pasta forwards SCTP".to_owned()),
        _ => Err(format!("the protocol `{word}` is neither tcp nor udp")),
    }
}

/// Splits `IP:HOST`, `IP:`, `[IP]:HOST` or `HOST` into the address and the rest.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']').ok_or("the bracket before the IPv6 address is not closed")?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| format!("`{ip}` is not an IPv6 address"))?;
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => "",
            None => return Err(format!("`{port}` after the bracket is not a port")),
        };
        return Ok((Some(IpAddr::V6(ip)), port));
    }
    match text.rsplit_once(':') {
        None => Ok((None, text)),
        Some(("", port)) => Ok((None, port)),
        Some((ip, _)) if ip.contains(':') => {
            Err("an IPv6 address stands in brackets, as in `[::1]:8080:80`".to_owned())
        }
        Some((ip, port)) => {
            let ip = ip.parse().map_err(|_| format!("`{ip}` is not an IP address"))?;
            Ok((Some(IpAddr::V4(ip)), port))
        }
    }
}

fn read_range(text: &str, side: &str) -> Result<(u16, u16), String> {
    let port = |word: &str| match word.parse::<u16>() {
        Ok(port) if word.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ if word.is_empty() => Err(format!("the {side} port is missing")),
        _ => Err(format!("the {side} port `{word}` is not a number from 1 to 65535")),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the {side} range `{text}` ends before it starts"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> PortRequest {
        let mut all = parse(text).expect(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn tcp(ip: Option<&str>, host_port: HostPort, container_port: u16) -> PortRequest {
        let host_ip = ip.map(|ip| ip.parse().expect("an address"));
        PortRequest { host_ip, host_port, container_port, protocol: Protocol::Tcp }
    }

    #[test]
    fn single_ports_in_every_form() {
        assert_eq!(one("80"), tcp(None, HostPort::Random, 80));
        assert_eq!(one(":80"), tcp(None, HostPort::Random, 80));
        assert_eq!(one("0:80"), tcp(None, HostPort::Random, 80));
        assert_eq!(one("8080:80"), tcp(None, HostPort::Fixed(8080), 80));
        assert_eq!(one("8080:80/TCP"), tcp(None, HostPort::Fixed(8080), 80));
        assert_eq!(one("127.0.0.1:8080:80"), tcp(Some("127.0.0.1"), HostPort::Fixed(8080), 80));
        assert_eq!(one("127.0.0.1::80"), tcp(Some("127.0.0.1"), HostPort::Random, 80));
        assert_eq!(one("[::1]:8080:80"), tcp(Some("::1"), HostPort::Fixed(8080), 80));
        assert_eq!(one("[::1]::80"), tcp(Some("::1"), HostPort::Random, 80));
        assert_eq!(one("8000-8010:80"), tcp(None, HostPort::Within(8000, 8010), 80));
        assert_eq!(one("53:53/udp").protocol, Protocol::Udp);
    }

    #[test]
    fn ranges_are_expanded_in_pairs() {
        let all = parse("0.0.0.0:7000-7002:8000-8002/udp").expect("a range");
        let pairs: Vec<_> = all.iter().map(|r| (r.host_port, r.container_port)).collect();
        assert_eq!(
            pairs,
            [(HostPort::Fixed(7000), 8000), (HostPort::Fixed(7001), 8001), (HostPort::Fixed(7002), 8002)]
        );
        assert!(all.iter().all(|r| r.protocol == Protocol::Udp));
        assert_eq!(parse("9000-9003").expect("container range").len(), 4);
        assert_eq!(parse("1-65535:1-65535").expect("all").len(), 65535);
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "missing"),
            ("8080:", "missing"),
            ("0", "1 to 65535"),
            ("65536", "1 to 65535"),
            ("+80", "1 to 65535"),
            ("80:80/sctp", "SCTP"),
            ("80/icmp", "neither"),
            ("::1:8080:80", "brackets"),
            ("[::1:8080:80", "closed"),
            ("[1.2.3.4]:8080:80", "IPv6"),
            ("[::1]8080:80", "bracket"),
            ("localhost:8080:80", "not an IP"),
            ("7000-7005:80-82", "length"),
            ("8080:80-82", "length"),
            ("82-80", "ends before"),
            ("0-5:0-5", "1 to 65535"),
            ("0-5:1-6", "1 or above"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert_eq!(error.code(), 125);
        }
    }
}
