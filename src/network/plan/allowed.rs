//! `--net-allow`: what it goes with, and the list as it is enforced.

use std::net::IpAddr;

use super::Request;
use crate::error::{Error, Result};
use crate::network::bridge::allow::list;
use crate::network::hosts::HOST_NAMES;
use crate::network::mode::Requested;

/// Refuses what would lead past the list.
///
/// # Errors
/// Another network is asked for, or an item of the list is wrong.
pub(super) fn check(request: &Request, requested: &Requested) -> Result<()> {
    let Some(network) = request.networks.first() else { return Ok(()) };
    let reason = match requested {
        Requested::Private => return Ok(()),
        Requested::Named(_) => "its members reach each other, and the list is about one container",
        Requested::Decided(_) => "the list is enforced in a network of the container's own, outside of it",
    };
    Err(Error::new(format!("cannot use `--net-allow` with `--network {network}`"))
        .because(reason)
        .hint("leave out `--network`"))
}

/// The list, with the addresses of the names in the container's hosts file. `host` is where the host is reached.
///
/// # Errors
/// An item is wrong.
pub(super) fn list(
    request: &Request,
    hosts: &[(String, IpAddr)],
    host: impl FnOnce() -> Result<Option<IpAddr>>,
) -> Result<Option<Vec<String>>> {
    if request.allow.is_empty() {
        return Ok(None);
    }
    let own = list::List::parse(&request.allow)?;
    let mut hosts = hosts.to_vec();
    if !request.no_hosts && HOST_NAMES.split(' ').any(|name| own.has_name(name)) {
        let host = host()?;
        hosts.extend(HOST_NAMES.split(' ').filter_map(|name| Some((name.to_owned(), host?))));
    }
    list::with_hosts(&request.allow, &hosts).map(Some)
}

#[cfg(test)]
mod tests {
    use crate::network::Mode;
    use crate::network::named::NamedNetworks;
    use crate::network::plan::{Plan, Request, plan};

    fn plan_of(networks: &[&str], allow: &[&str]) -> crate::Result<Plan> {
        let folder = tempfile::tempdir().unwrap();
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let request = Request {
            networks: strings(networks),
            allow: strings(allow),
            add_hosts: strings(&["db:192.0.2.7"]),
            ..Request::default()
        };
        plan(&request, &folder.path().join("helpers.json"), &NamedNetworks::new(folder.path()))
    }

    #[test]
    fn a_list_makes_a_network_of_the_containers_own() {
        let network = plan_of(&[], &["Example.org:443", "db:5432"]).unwrap().network;
        assert_eq!(network.mode, Mode::Bridge);
        assert_eq!(network.allowed.unwrap(), ["example.org:443", "db:5432", "192.0.2.7/32:5432"]);
        assert!(plan_of(&["private"], &["example.org"]).is_ok());
        assert!(plan_of(&[], &[]).unwrap().network.allowed.is_none());
    }

    #[test]
    fn the_host_is_reached_where_the_list_names_it() {
        let network = plan_of(&[], &["host.containers.internal:80"]).unwrap().network;
        let allowed = network.allowed.unwrap();
        assert!(allowed.len() == 2 && allowed[1].ends_with(":80"), "{allowed:?}");
    }

    #[test]
    fn other_networks_would_lead_past_it() {
        for other in [
            "host",
            "none",
            "bridge",
            "container:web",
            "ns:/proc/self/ns/net",
            "slirp4netns",
            "pasta",
            "mine",
        ] {
            let error = plan_of(&[other], &["example.org"]).unwrap_err();
            assert_eq!(error.message(), format!("cannot use `--net-allow` with `--network {other}`"));
        }
        assert!(plan_of(&[], &["example.org:53"]).is_err());
    }
}
