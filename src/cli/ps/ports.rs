//! Ports as docker's listing shows them: `0.0.0.0:7000-7002->80-82/tcp, 443/tcp`.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::network::PortMapping;

/// Published ports, runs of them as one, and those that the image listens on and nobody published.
pub(super) fn shown(mappings: &[PortMapping], exposed: &[String]) -> String {
    let mut runs = runs(mappings);
    runs.sort_by_key(|run| (run.first.container_port, run.first.host_port));
    let published = runs.iter().map(Run::shown);
    published.chain(exposed_runs(mappings, exposed)).collect::<Vec<_>>().join(", ")
}

/// Ports that follow one another on both sides.
pub(super) struct Run<'m> {
    pub(super) first: &'m PortMapping,
    pub(super) count: u16,
}

impl Run<'_> {
    fn shown(&self) -> String {
        let mapping = self.first;
        let mut text = match mapping.host_ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(ip) => ip.to_string(),
            None => "0.0.0.0".to_owned(),
        };
        let (host, container) =
            (range(mapping.host_port, self.count), range(mapping.container_port, self.count));
        let _ = write!(text, ":{host}->{container}/{}", mapping.protocol);
        text
    }

    fn goes_on_with(&self, next: &PortMapping) -> bool {
        let follows = |first: u16, port: u16| first.checked_add(self.count) == Some(port);
        next.host_ip == self.first.host_ip
            && next.protocol == self.first.protocol
            && follows(self.first.host_port, next.host_port)
            && follows(self.first.container_port, next.container_port)
    }
}

pub(super) fn runs(mappings: &[PortMapping]) -> Vec<Run<'_>> {
    let mut sorted: Vec<&PortMapping> = mappings.iter().collect();
    sorted.sort_by_key(|mapping| {
        (mapping.host_ip, mapping.protocol.to_string(), mapping.container_port, mapping.host_port)
    });
    let mut runs: Vec<Run<'_>> = Vec::new();
    for mapping in sorted {
        match runs.last_mut() {
            Some(run) if run.goes_on_with(mapping) => run.count += 1,
            _ => runs.push(Run { first: mapping, count: 1 }),
        }
    }
    runs
}

fn exposed_runs(mappings: &[PortMapping], exposed: &[String]) -> Vec<String> {
    let published: Vec<String> =
        mappings.iter().map(|mapping| format!("{}/{}", mapping.container_port, mapping.protocol)).collect();
    let mut others: Vec<(String, u16)> = Vec::new();
    let mut odd = Vec::new();
    for port in exposed.iter().filter(|port| !published.contains(port)) {
        match port.split_once('/').map(|(number, protocol)| (number.parse(), protocol)) {
            Some((Ok(number), protocol)) => others.push((protocol.to_owned(), number)),
            _ => odd.push(port.clone()),
        }
    }
    others.sort();
    let mut runs: Vec<(String, u16, u16)> = Vec::new();
    for (protocol, number) in others {
        match runs.last_mut() {
            Some((of, first, count)) if *of == protocol && first.checked_add(*count) == Some(number) => {
                *count += 1;
            }
            _ => runs.push((protocol, number, 1)),
        }
    }
    runs.into_iter()
        .map(|(protocol, first, count)| format!("{}/{protocol}", range(first, count)))
        .chain(odd)
        .collect()
}

fn range(first: u16, count: u16) -> String {
    match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first.saturating_add(count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Protocol;

    fn mapping(ip: Option<&str>, host: u16, container: u16, protocol: Protocol) -> PortMapping {
        let host_ip = ip.map(|ip| ip.parse().unwrap());
        PortMapping { host_ip, host_port: host, container_port: container, protocol }
    }

    #[test]
    fn neighbours_are_shown_as_one() {
        let tcp = |host, container| mapping(None, host, container, Protocol::Tcp);
        let mappings = [tcp(7001, 81), tcp(7000, 80), tcp(7002, 82), tcp(9000, 83)];
        assert_eq!(shown(&mappings, &[]), "0.0.0.0:7000-7002->80-82/tcp, 0.0.0.0:9000->83/tcp");
        let exposed = ["443", "80", "81", "82"].map(|port| format!("{port}/tcp"));
        assert_eq!(shown(&mappings[..1], &exposed), "0.0.0.0:7001->81/tcp, 80/tcp, 82/tcp, 443/tcp");
        let exposed = ["53/udp", "54/udp", "53/tcp"].map(str::to_owned);
        assert_eq!(shown(&[], &exposed), "53/tcp, 53-54/udp");
    }

    #[test]
    fn addresses_and_protocols_keep_apart() {
        let mappings = [
            mapping(Some("127.0.0.1"), 80, 80, Protocol::Tcp),
            mapping(Some("::1"), 81, 81, Protocol::Tcp),
            mapping(Some("127.0.0.1"), 81, 81, Protocol::Udp),
            mapping(Some("127.0.0.1"), 65535, 65535, Protocol::Tcp),
        ];
        assert_eq!(
            shown(&mappings, &[]),
            "127.0.0.1:80->80/tcp, 127.0.0.1:81->81/udp, [::1]:81->81/tcp, 127.0.0.1:65535->65535/tcp"
        );
    }
}
