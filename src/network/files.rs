//! The three files that every container gets: /etc/resolv.conf, /etc/hosts, /etc/hostname.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;

use super::bridge::Endpoint;
use super::hosts::{Hosts, hostname_file};
use super::programs::{self, Program};
use super::resolv::{self, HostFiles, Reach};
use super::{Mode, Network, gateway, own_addresses, pasta, uplink};
use crate::error::Result;

/// Where the host's loopback interface is found from a bridge network with `allow_host_loopback=true`: the gateway of
/// its second slirp4netns.
pub const HOST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 2);

/// The texts; they are bound over the root, and belong to no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub resolv_conf: String,
    /// None with `--no-hosts`: the image's file stays.
    pub hosts: Option<String>,
    pub hostname: String,
}

/// What is known of a container's bridge networks when it starts.
#[derive(Debug, Default)]
pub struct Bridges<'a> {
    pub endpoints: &'a [Endpoint],
    /// The host's own loopback interface is reached through one of them.
    pub host_loopback: bool,
    /// Names of other containers.
    pub links: &'a [(String, IpAddr)],
}

/// Makes the files of a container; None with [`Mode::Container`], whose files are those of the other container.
/// `cache` is the file of [`Program::probe`].
pub fn files(
    network: &Network,
    hostname: &str,
    container_name: &str,
    cache: &Path,
    bridges: &Bridges<'_>,
) -> Result<Option<Files>> {
    if let Mode::Container(_) = network.mode {
        return Ok(None);
    }
    let host = HostFiles::read();
    let helper = match &network.mode {
        Mode::Bridge => &uplink(),
        mode => mode,
    };
    let pasta_forwards = match (helper, programs::find("pasta")) {
        (Mode::Pasta(_), Some(path)) => pasta::forwards_dns(&Program::probe(&path, cache)?, &host),
        _ => false,
    };
    let hosts = if network.no_hosts {
        None
    } else {
        let host_file = (network.mode == Mode::Host).then(|| resolv::read(Path::new("/etc/hosts")));
        let own = match network.mode {
            Mode::Bridge => {
                bridges.endpoints.iter().flat_map(|one| &one.addresses).map(IpNet::addr).collect()
            }
            ref mode => own_addresses(mode),
        };
        let added: Vec<_> = network.hosts.iter().chain(bridges.links).cloned().collect();
        let hosts = Hosts {
            base: host_file.as_deref(),
            hostname,
            container_name: Some(container_name),
            own: &own,
            gateway: match bridges.host_loopback {
                true => Some(HOST_LOOPBACK.into()),
                false => gateway(&network.mode, cache)?,
            },
            added: &added,
        };
        Some(hosts.compose())
    };
    let responders: Vec<IpAddr> = bridges.endpoints.iter().flat_map(|one| one.name_servers.clone()).collect();
    let reach = Reach { helper, pasta_forwards, responders: &responders };
    Ok(Some(Files {
        resolv_conf: resolv::compose(network, &host, &reach),
        hosts,
        hostname: hostname_file(hostname),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(network: &Network) -> Option<Files> {
        let folder = tempfile::tempdir().expect("a folder");
        bridge_files_of(network, folder.path(), &Bridges::default())
    }

    fn bridge_files_of(network: &Network, folder: &Path, bridges: &Bridges<'_>) -> Option<Files> {
        files(network, "0123456789ab", "web", &folder.join("helpers.json"), bridges).expect("files")
    }

    #[test]
    fn a_bridge_network_tells_addresses_and_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let endpoint = Endpoint {
            network: "1".repeat(64),
            network_name: "shop".to_owned(),
            aliases: Vec::new(),
            interface: "eth0".to_owned(),
            host_interface: "v0".to_owned(),
            mac_address: "02:42:0a:59:00:02".parse().expect("a MAC address"),
            addresses: vec![
                "10.89.0.2/24".parse().expect("an address"),
                "fd00::2/64".parse().expect("an address"),
            ],
            gateways: Vec::new(),
            name_servers: vec!["10.89.0.1".parse().expect("an address")],
        };
        let network = Network { mode: Mode::Bridge, ..Network::private_slirp4netns() };
        let links = [("db".to_owned(), "10.89.0.3".parse().expect("an address"))];
        let bridges = Bridges { endpoints: &[endpoint], host_loopback: true, links: &links };
        let files = bridge_files_of(&network, folder.path(), &bridges).expect("files");
        assert!(files.resolv_conf.starts_with("nameserver 10.89.0.1\n"), "{files:?}");
        assert_eq!(files.resolv_conf.matches("nameserver").count(), 1, "{files:?}");
        let hosts = files.hosts.expect("hosts");
        assert!(hosts.starts_with("10.89.0.3\tdb\n"), "{hosts}");
        assert!(hosts.contains("\n10.89.0.2\t0123456789ab web\nfd00::2\t0123456789ab web\n"), "{hosts}");
        assert!(hosts.ends_with("10.0.3.2\thost.containers.internal host.docker.internal\n"), "{hosts}");
        let bridges = Bridges { host_loopback: false, ..bridges };
        let hosts = bridge_files_of(&network, folder.path(), &bridges).and_then(|files| files.hosts);
        assert!(!hosts.expect("hosts").contains("10.0.3.2"));
    }

    #[test]
    fn a_private_network_has_generated_files() {
        let files = files_of(&Network::private_slirp4netns()).expect("files");
        assert!(files.resolv_conf.starts_with("nameserver 10.0.2.3\n"), "{files:?}");
        assert!(files.hosts.expect("hosts").contains("10.0.2.100\t0123456789ab web\n"));
        assert_eq!(files.hostname, "0123456789ab\n");
    }

    #[test]
    fn the_host_network_has_the_hosts_files() {
        let network = Network { mode: Mode::Host, ..Network::private_slirp4netns() };
        let files = files_of(&network).expect("files");
        assert_eq!(files.resolv_conf, resolv::read(Path::new("/etc/resolv.conf")));
        let hosts = files.hosts.expect("hosts");
        assert!(hosts.starts_with(&resolv::read(Path::new("/etc/hosts"))), "{hosts}");
        assert!(hosts.ends_with("127.0.0.1\thost.containers.internal host.docker.internal\n"), "{hosts}");
    }

    #[test]
    fn files_can_be_another_containers_or_the_images() {
        let shared = Network { mode: Mode::Container("web".into()), ..Network::private_slirp4netns() };
        assert_eq!(files_of(&shared), None);
        let without = Network { no_hosts: true, ..Network::private_slirp4netns() };
        assert_eq!(files_of(&without).expect("files").hosts, None);
    }
}
