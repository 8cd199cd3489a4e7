//! The container's /etc/hosts and /etc/hostname.
//!
//! The base is generated, as docker does, not the host's file, as podman does: the host's entries name the host
//! itself (often by 127.0.1.1) and its neighbours, which inside are wrong or nobody's business. With the host's
//! network the host's file is right, and kept.

use std::net::{IpAddr, Ipv4Addr};

/// Names under which docker and podman show the host.
pub const HOST_NAMES: &str = "host.containers.internal host.docker.internal";

/// All that the file is made of.
#[derive(Debug, Default)]
pub struct Hosts<'a> {
    /// The host's file, with its network; none: a generated base.
    pub base: Option<&'a str>,
    pub hostname: &'a str,
    /// Another name of the container's own address.
    pub container_name: Option<&'a str>,
    /// The container's addresses; none: 127.0.0.1 carries its name, so that it resolves.
    pub own: &'a [IpAddr],
    /// Where the host is reached from inside; none: it isn't.
    pub gateway: Option<IpAddr>,
    /// `--add-host`, before everything else, because the first match counts (hosts(5)).
    pub added: &'a [(String, IpAddr)],
}

impl Hosts<'_> {
    pub fn compose(&self) -> String {
        let mut text = String::new();
        for (name, ip) in self.added {
            text.push_str(&format!("{ip}\t{name}\n"));
        }
        if let Some(base) = self.base {
            text.push_str(base);
            if !base.is_empty() && !base.ends_with('\n') {
                text.push('\n');
            }
        } else {
            text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
            text.push_str("fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n");
            text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
            let mut names = vec![self.hostname];
            names.extend(self.container_name.filter(|name| *name != self.hostname));
            names.retain(|name| !name.is_empty() && *name != "localhost");
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
            let own = if self.own.is_empty() { &loopback } else { self.own };
            if !names.is_empty() {
                for ip in own {
                    text.push_str(&format!("{ip}\t{}\n", names.join(" ")));
                }
            }
        }
        if let Some(gateway) = self.gateway {
            text.push_str(&format!("{gateway}\t{HOST_NAMES}\n"));
        }
        text
    }
}

/// The text of /etc/hostname.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_generated_file_has_the_containers_names() {
        let own = [ip("10.0.2.100")];
        let added = [("db".to_owned(), ip("192.0.2.1")), ("six".to_owned(), ip("2001:db8::1"))];
        let hosts = Hosts {
            hostname: "0123456789ab",
            container_name: Some("web"),
            own: &own,
            gateway: Some(ip("192.0.2.2")),
            added: &added,
            base: None,
        };
        let text = hosts.compose();
        assert!(
            text.starts_with("192.0.2.1\tdb\n2001:db8::1\tsix\n127.0.0.1\tlocalhost\n::1\tlocalhost "),
            "{text}"
        );
        assert!(
            text.ends_with(
                "10.0.2.100\t0123456789ab web\n192.0.2.2\thost.containers.internal host.docker.internal\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_name_without_an_address_is_local_and_said_once() {
        let text = Hosts { hostname: "web", container_name: Some("web"), ..Hosts::default() }.compose();
        assert!(text.ends_with("\n127.0.0.1\tweb\n"), "{text}");
        assert!(!text.contains("internal"), "{text}");
    }

    #[test]
    fn the_hosts_own_file_is_kept() {
        let text =
            Hosts { base: Some("127.0.0.1 localhost"), hostname: "machine", ..Hosts::default() }.compose();
        assert_eq!(text, "127.0.0.1 localhost\n");
    }

    #[test]
    fn the_hostname_is_a_line() {
        assert_eq!(hostname_file("web"), "web\n");
    }
}
