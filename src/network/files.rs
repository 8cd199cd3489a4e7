//! The three files that every container gets: /etc/resolv.conf, /etc/hosts, /etc/hostname.

use std::path::Path;

use super::hosts::{Hosts, hostname_file};
use super::programs::{self, Program};
use super::resolv::{self, HostFiles};
use super::{Mode, Network, gateway, own_addresses, pasta};
use crate::error::Result;

/// The texts; they are bound over the root, and belong to no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub resolv_conf: String,
    /// None with `--no-hosts`: the image's file stays.
    pub hosts: Option<String>,
    pub hostname: String,
}

/// Makes the files of a container; None with [`Mode::Container`], whose files are those of the other container.
/// `cache` is the file of [`Program::probe`].
pub fn files(network: &Network, hostname: &str, container_name: &str, cache: &Path) -> Result<Option<Files>> {
    if let Mode::Container(_) = network.mode {
        return Ok(None);
    }
    let host = HostFiles::read();
    let forwards = match (&network.mode, programs::find("pasta")) {
        (Mode::Pasta(_), Some(path)) => pasta::forwards_dns(&Program::probe(&path, cache)?, &host),
        _ => false,
    };
    let hosts = if network.no_hosts {
        None
    } else {
        let host_file = (network.mode == Mode::Host).then(|| resolv::read(Path::new("/etc/hosts")));
        let hosts = Hosts {
            base: host_file.as_deref(),
            hostname,
            container_name: Some(container_name),
            own: &own_addresses(&network.mode),
            gateway: gateway(&network.mode, cache)?,
            added: &network.hosts,
        };
        Some(hosts.compose())
    };
    Ok(Some(Files {
        resolv_conf: resolv::compose(network, &host, forwards),
        hosts,
        hostname: hostname_file(hostname),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(network: &Network) -> Option<Files> {
        let folder = tempfile::tempdir().expect("a folder");
        files(network, "0123456789ab", "web", &folder.path().join("helpers.json")).expect("files")
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
